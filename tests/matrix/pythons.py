"""Finds a Python of each version: on the PATH, at pyenv, or in a chroot of Debian unstable."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.matrix import unstable
from tests.matrix.platform import Interpreter, Missing, run

_VERSION: Final = """
import sys, sysconfig, venv
print("%d.%d.%d" % sys.version_info[:3] + sys.version_info.releaselevel[0].replace("f", "")
      + ("t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""))
"""


def find_python(version: str) -> Interpreter:
    """Find a Python of this version: `3.13`, or `3.14t` for the free-threaded one.

    Raises:
        Missing: This machine has none, and none can be installed.
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
    """Return the full version of this interpreter if it runs, is a `wanted` one, and can create environments."""
    try:
        found = run([*command, "-c", _VERSION], timeout=60).strip()
    except Missing:
        return None
    short = re.fullmatch(r"(\d+\.\d+)\.\d+[abc]?(t?)", found)
    return found if short and "".join(short.groups()) == wanted else None


def _from_debian_unstable(version: str) -> Interpreter:
    package = f"python{version}"
    try:
        command = unstable.program(f"/usr/bin/{package}", package, f"{package}-venv")
    except Missing as error:
        raise Missing(f"neither on the PATH nor at pyenv, and {error}") from None
    found = _version_of(command, version)
    if found is None:
        raise Missing(f"{package} of Debian unstable does not start")
    return Interpreter(command, found, unstable.SOURCE)
