"""Finds a Python of each version: on the PATH, at pyenv, or in a chroot of Debian unstable.

Debian unstable carries the newest versions, also on machines whose own Debian is years older. The chroot is made once,
by `debootstrap` from the mirror that this machine's own apt uses, and needs root. It sees the repository and the
temporary directory of the machine at the same paths, so that nothing else differs.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.matrix.platform import REPOSITORY, WORKSHOP, Interpreter, Missing, run

_CHROOT: Final = WORKSHOP / "debian-unstable"
_SUITE: Final = "sid"

_VERSION: Final = """
import sys, sysconfig, venv
print("%d.%d.%d" % sys.version_info[:3] + sys.version_info.releaselevel[0].replace("f", "")
      + ("t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""))
"""

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


def find_python(version: str) -> Interpreter:
    """Find a Python of this version: `3.13`, or `3.14t` for the free-threaded one.

    Raises:
        Missing: There is none on this machine, and none can be installed on it.
    """
    for command, source in _local(version):
        if found := _version_of(command, version):
            return Interpreter(command, found, source)
    if version.endswith("t"):
        raise Missing(f"no python{version} on the PATH or at pyenv, and Debian packages no free-threaded Python")
    return _from_debian_unstable(version)


def _local(version: str) -> Iterator[tuple[tuple[str, ...], str]]:
    if at := shutil.which(f"python{version}"):
        yield (at,), "pyenv" if "pyenv" in at else "the system"
    root = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
    pattern = re.compile(rf"{re.escape(version.removesuffix('t'))}\.\d+{'t' if version.endswith('t') else ''}")
    installed = (each for each in root.glob("*") if pattern.fullmatch(each.name))
    for each in sorted(installed, key=lambda each: [int(part) for part in re.findall(r"\d+", each.name)], reverse=True):
        yield (str(each / "bin" / "python"),), "pyenv"


def _version_of(command: tuple[str, ...], wanted: str) -> str | None:
    """Return the full version of this interpreter if it runs, is one of `wanted`, and can make environments."""
    try:
        found = run([*command, "-c", _VERSION], timeout=60).strip()
    except Missing:
        return None
    short = re.fullmatch(r"(\d+\.\d+)\.\d+[abc]?(t?)", found)
    return found if short and "".join(short.groups()) == wanted else None


def _from_debian_unstable(version: str) -> Interpreter:
    enter = _enter_chroot()
    package = f"python{version}"
    if not (_CHROOT / "usr" / "bin" / package).exists():
        # The lists were read when the chroot was made; a mirror may be older than its own lists' date of expiry.
        apt = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-o", "Acquire::Check-Valid-Until=no"]
        run([*enter, *apt, "--quiet", "update"])
        run([*enter, *apt, "--quiet", "install", "--yes", "--no-install-recommends", package, f"{package}-venv"])
    command = (*enter, f"/usr/bin/{package}")
    found = _version_of(command, version)
    if found is None:
        raise Missing(f"{package} of Debian unstable does not start")
    return Interpreter(command, found, "Debian unstable, in a chroot")


def _enter_chroot() -> tuple[str, ...]:
    """Make the chroot if there is none yet. Return the command that runs another command in it."""
    if os.geteuid() != 0:
        raise Missing("not on the PATH or at pyenv; a chroot of Debian unstable needs root")
    for program in ("debootstrap", "unshare", "chroot"):
        if shutil.which(program) is None:
            raise Missing(f"not on the PATH or at pyenv; a chroot of Debian unstable needs the program {program}")
    finished = _CHROOT / ".finished"
    if not finished.exists():
        shutil.rmtree(_CHROOT, ignore_errors=True)
        WORKSHOP.mkdir(exist_ok=True)
        packages = "--include=ca-certificates,libpq5"
        run(["debootstrap", "--variant=minbase", packages, _SUITE, _CHROOT, _mirror()], timeout=1800)
        finished.touch()
    return ("unshare", "--mount", "sh", "-e", "-c", _ENTER, "sh", str(_CHROOT), str(REPOSITORY))


def _mirror() -> str:
    """Return the address of the Debian archive from which this machine's own apt installs."""
    sources = Path("/etc/apt")
    files = [sources / "sources.list", *sorted((sources / "sources.list.d").glob("*"))]
    texts = [each.read_text() for each in files if each.suffix in {".list", ".sources"} and each.is_file()]
    found = mirror_of("\n".join(texts))
    if found is None:
        raise Missing("not on the PATH or at pyenv, and apt names no mirror of Debian")
    return found


def mirror_of(sources: str) -> str | None:
    """Find the address of a Debian archive in the text of apt's lists of sources."""
    found = re.search(r"^(?:deb\s+(?:\[[^\]]*\]\s+)?|URIs:\s*)(\S+/debian/?)(?:\s|$)", sources, re.MULTILINE)
    return found and found.group(1)
