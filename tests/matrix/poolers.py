"""Finds PgBouncer: this system's, and the newest, from Debian unstable.

If the system has none, root installs it with apt; no service is started. The PgBouncer of Debian unstable is not
installed: its packages and the libraries that they need are unpacked in the workshop and run from there. So the machine
does not change.
"""

from __future__ import annotations

import os
import platform
import shutil
from pathlib import Path
from typing import Final

from tests.matrix import unstable
from tests.matrix.platform import WORKSHOP, Missing, run
from tests.support.pgbouncer import PgBouncerError, find_program

_PACKAGE: Final = "pgbouncer"
_NEWEST: Final = WORKSHOP / "pgbouncer-unstable"
_KEYS: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")

# Dependencies of PgBouncer's package that are not unpacked: a system has them anyway, or only a service needs them.
_NOT_NEEDED: Final = ("debconf", "perl", "postgresql", "systemd_", "python3", "ssl-cert", "ucf", "adduser", "passwd")

# Use the unpacked loader and libraries: the machine's own may be years older.
_START: Final = """#!/bin/sh
root=$(dirname "$(readlink -f "$0")")
loader=$(echo "$root"/root/usr/lib/*/ld-linux-*.so.*)
exec "$loader" --library-path "$(dirname "$loader")" "$root/root/usr/sbin/pgbouncer" "$@"
"""


def find_or_install_pgbouncer() -> tuple[Path, str]:
    """Return this system's PgBouncer and its origin. It is installed if it is missing and that is possible.

    Raises:
        Missing: It is missing and cannot be installed. The error says what to do.
    """
    try:
        return find_program(), "the system"
    except PgBouncerError as error:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise Missing(f"{error} Only root can install it here, and only with apt-get") from None
    run(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "update"])
    # Debian starts the service of an installed package, unless this program forbids it.
    policy = Path("/usr/sbin/policy-rc.d")
    is_ours = not policy.exists()
    if is_ours:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        install = ["apt-get", "--quiet", "install", "--yes", "--no-install-recommends", _PACKAGE]
        run(["env", "DEBIAN_FRONTEND=noninteractive", *install])
    finally:
        if is_ours:
            policy.unlink()
    try:
        return find_program(), "Debian, installed by apt"
    except PgBouncerError as error:
        raise Missing(str(error)) from None


def newest_pgbouncer() -> tuple[Path, str]:
    """Return the program of Debian unstable and its origin. It is unpacked if it is not there yet.

    Raises:
        Missing: This is no Debian with a mirror, or the packages are not available.
    """
    program = _NEWEST / _PACKAGE
    if not program.exists():
        for tool in ("apt-get", "dpkg-deb"):
            if shutil.which(tool) is None:
                raise Missing(f"PgBouncer of Debian unstable needs the program {tool}")
        if not _KEYS.exists():
            raise Missing(f"PgBouncer of Debian unstable needs Debian's keys, {_KEYS}")
        _unpack(unstable.mirror())
        program.write_text(_START)
        program.chmod(0o755)
    return program, "Debian unstable, unpacked"


def _unpack(mirror: str) -> None:
    """Fetch and unpack all that PgBouncer needs, with a separate apt that knows of no installed package."""
    shutil.rmtree(_NEWEST, ignore_errors=True)
    for directory in ("state/lists/partial", "cache/archives/partial", "root"):
        (_NEWEST / directory).mkdir(parents=True)
    sources, status = _NEWEST / "sources.list", _NEWEST / "status"
    sources.write_text(f"deb [signed-by={_KEYS}] {mirror} sid main\n")
    status.touch()
    settings = {
        "Dir::State": _NEWEST / "state",
        "Dir::State::Status": status,
        "Dir::Cache": _NEWEST / "cache",
        "Dir::Etc::SourceList": sources,
        **{f"Dir::Etc::{each}": "/dev/null" for each in ("SourceParts", "Preferences", "PreferencesParts")},
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
        "Debug::NoLocking": "1",
        "Acquire::Check-Valid-Until": "no",
    }
    apt = ["apt-get", "--quiet", *(part for name, value in settings.items() for part in ("-o", f"{name}={value}"))]
    run([*apt, "update"])
    run([*apt, "install", "--yes", "--download-only", _PACKAGE])
    packages = sorted((_NEWEST / "cache" / "archives").glob("*.deb"))
    for package in packages:
        if not package.name.startswith(_NOT_NEEDED):
            run(["dpkg-deb", "--extract", package, _NEWEST / "root"])
    if not any((_NEWEST / "root" / "usr" / "lib").glob("*/ld-linux-*.so.*")):
        raise Missing(f"PgBouncer of Debian unstable brings no loader for {platform.machine()}")
    for each in ("state", "cache"):
        shutil.rmtree(_NEWEST / each)
