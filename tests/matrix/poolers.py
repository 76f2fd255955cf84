"""Finds PgBouncer: the one of this system, and the newest, which Debian unstable has.

That of the system is installed where it is missing, as root and by apt; nothing of it is started but what the tests
start. That of Debian unstable is not installed: its packages are unpacked in the workshop with the libraries that they
need, and it runs on those, so that nothing of the machine changes.
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

# What PgBouncer's package depends on and a system has anyway, or needs for a service: not unpacked.
_NOT_NEEDED: Final = ("debconf", "perl", "postgresql", "systemd_", "python3", "ssl-cert", "ucf", "adduser", "passwd")

# Its own loader and libraries: those of the machine may be years older.
_START: Final = """#!/bin/sh
root=$(dirname "$(readlink -f "$0")")
loader=$(echo "$root"/root/usr/lib/*/ld-linux-*.so.*)
exec "$loader" --library-path "$(dirname "$loader")" "$root/root/usr/sbin/pgbouncer" "$@"
"""


def find_or_install_pgbouncer() -> tuple[Path, str]:
    """Return PgBouncer's program of this system, installed now if need be and possible, and where it comes from.

    Raises:
        Missing: It is not there and cannot be installed; says what to do.
    """
    try:
        return find_program(), "the system"
    except PgBouncerError as error:
        if os.geteuid() != 0 or shutil.which("apt-get") is None:
            raise Missing(f"{error} Only root can install it here, and only with apt-get") from None
    run(["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--quiet", "update"])
    # Debian starts the service of what is installed, unless this program says that it must not.
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
    """Return the program of Debian unstable, unpacked now unless it was before, and where it comes from.

    Raises:
        Missing: This is no Debian with a mirror of it, or the packages cannot be had.
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
    """Let an apt of its own, which knows of no installed package, fetch all that PgBouncer needs; and unpack it."""
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
