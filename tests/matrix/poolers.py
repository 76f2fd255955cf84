"""Finds PgBouncer: the one that is installed here, and the newest one, of Debian unstable."""

from __future__ import annotations

import os
import pwd
import re
import shlex
import shutil
from pathlib import Path
from typing import Final

from tests.matrix import unstable
from tests.matrix.platform import WORKSHOP, Missing, run

_PLACES: Final = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/bin")
_UNSTABLE: Final = "/usr/sbin/pgbouncer"


def find_pgbouncer() -> tuple[Path, str, str]:
    """Find PgBouncer's program on this machine, its version, and where it comes from.

    Raises:
        Missing: It is not installed.
    """
    found = shutil.which("pgbouncer", path=os.pathsep.join([os.environ.get("PATH", os.defpath), *_PLACES]))
    if found is None:
        raise Missing("pgbouncer is not installed here (Debian's package has the same name)")
    return Path(found), _version_of(Path(found)), "the system"


def newest_pgbouncer() -> tuple[Path, str, str]:
    """Make a program that starts the PgBouncer of Debian unstable; its version, and where it comes from.

    Raises:
        Missing: There can be no chroot of Debian unstable here.
    """
    program = unstable.program(_UNSTABLE, "pgbouncer")
    _same_user(program[:-1])
    script = WORKSHOP / "pgbouncer-unstable"
    script.write_text(f'#!/bin/sh\nexec {shlex.join(program)} "$@"\n')
    script.chmod(0o755)
    return script, _version_of(script), unstable.SOURCE


def _same_user(enter: tuple[str, ...]) -> None:
    """Let the user as which PgBouncer runs have the same number inside: its files are made outside."""
    try:
        outside = pwd.getpwnam("postgres")
    except KeyError:
        return  # Then it is `nobody`, whose number is the same everywhere.
    if run([*enter, "id", "-u", "postgres"]).strip() != str(outside.pw_uid):
        run([*enter, "usermod", "--non-unique", "--uid", str(outside.pw_uid), "postgres"])


def _version_of(program: Path) -> str:
    found = re.search(r"PgBouncer (\S+)", run([program, "--version"], timeout=60))
    if found is None:
        raise Missing(f"{program} does not tell its version")
    return found.group(1)
