"""A chroot of Debian unstable, which has newer programs than this machine.

`debootstrap` creates it once, as root, from the mirror of this machine's apt. The repository and the temporary
directory have the same paths inside, so nothing else differs.
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

# The mounts belong to this process and its children: the kernel removes them when the last of these ends.
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
    """Return the command that runs a program of Debian unstable. Its packages are installed if they are missing.

    Raises:
        Missing: A chroot is not possible here, or a package cannot be installed in it.
    """
    enter = _enter()
    if not (_CHROOT / path.lstrip("/")).exists():
        # A mirror may not have updated its lists before they expired.
        apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "Acquire::Check-Valid-Until=no", "--quiet"]
        run([*enter, *apt, "update"])
        run([*enter, *apt, "install", "--yes", "--no-install-recommends", *packages])
    return (*enter, path)


def _enter() -> tuple[str, ...]:
    """Create the chroot if it does not exist. Return the command that runs another command in it."""
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
