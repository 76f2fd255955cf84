"""A chroot of Debian unstable, which carries newer programs than this machine.

It is made once, by `debootstrap` from the mirror of this machine's own apt, and needs root. It sees the repository
and the temporary directory of the machine at the same paths, so that nothing else differs.
"""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Final

from tests.matrix.platform import REPOSITORY, WORKSHOP, Missing, run

SOURCE: Final = "Debian unstable, in a chroot"

_CHROOT: Final = WORKSHOP / "debian-unstable"
_SUITE: Final = "sid"

# The mounts are those of this one process and its children: the kernel removes them when the last of them ends.
_ENTER: Final = """
root=$1 repository=$2
shift 2
mkdir -p "$root$repository"
mount --rbind /proc "$root/proc"
mount --rbind /dev "$root/dev"
mount --bind /tmp "$root/tmp"
mount --bind "$repository" "$root$repository"
mount --bind /etc/ssl/certs "$root/etc/ssl/certs"
cp /etc/resolv.conf /etc/hosts "$root/etc/"
exec chroot "$root" env -C "$repository" PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin "$@"
"""


def program(path: str, *packages: str) -> tuple[str, ...]:
    """Return the command that runs a program of Debian unstable, whose packages are installed now unless they were.

    Raises:
        Missing: There can be no chroot here, or a package cannot be installed in it.
    """
    enter = _enter()
    if not (_CHROOT / path.lstrip("/")).exists():
        # A mirror may be older than its own lists' date of expiry.
        apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "Acquire::Check-Valid-Until=no", "--quiet"]
        run([*enter, *apt, "update"])
        run([*enter, *apt, "install", "--yes", "--no-install-recommends", *packages])
    return (*enter, path)


def _enter() -> tuple[str, ...]:
    """Make the chroot if there is none yet. Return the command that runs another command in it."""
    if os.geteuid() != 0:
        raise Missing("a chroot of Debian unstable needs root")
    for each in ("debootstrap", "unshare", "chroot"):
        if shutil.which(each) is None:
            raise Missing(f"a chroot of Debian unstable needs the program {each}")
    finished = _CHROOT / ".finished"
    if not finished.exists():
        shutil.rmtree(_CHROOT, ignore_errors=True)
        WORKSHOP.mkdir(exist_ok=True)
        packages = "--include=ca-certificates,libpq5"
        run(["debootstrap", "--variant=minbase", packages, _SUITE, _CHROOT, mirror()], timeout=1800)
        finished.touch()
    return ("unshare", "--mount", "sh", "-e", "-c", _ENTER, "sh", str(_CHROOT), str(REPOSITORY))


def mirror() -> str:
    """Return the address of the Debian archive from which this machine's own apt installs.

    Raises:
        Missing: There is none.
    """
    sources = Path("/etc/apt")
    files = [sources / "sources.list", *sorted((sources / "sources.list.d").glob("*"))]
    texts = [each.read_text() for each in files if each.suffix in {".list", ".sources"} and each.is_file()]
    found = mirror_of("\n".join(texts))
    if found is None:
        raise Missing("apt names no mirror of Debian")
    return found


def mirror_of(sources: str) -> str | None:
    """Find the address of a Debian archive in the text of apt's lists of sources."""
    found = re.search(r"^(?:deb\s+(?:\[[^\]]*\]\s+)?|URIs:\s*)(\S+/debian/?)(?:\s|$)", sources, re.MULTILINE)
    return found and found.group(1)
