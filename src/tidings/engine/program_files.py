"""The hash of a program's own source files.

A version is the hash of the registered functions, or chosen by the user. Code that could not continue a workflow does
not try again (`model.Stuck`). But an edit elsewhere, for example of a constant with a topic's name, may be what the
workflow needs. So such code is told apart by all source files of the program that are imported at the launch.

Of installed packages only those count that define a workflow or a step. The others are thousands of files, and rarely
matter here.
"""

from __future__ import annotations

import hashlib
import os
import re
import sys
import sysconfig
from collections.abc import Collection
from typing import Final

_OF_PYTHON: Final = tuple(os.path.join(sysconfig.get_path(name), "") for name in ("stdlib", "platstdlib"))
_OF_PACKAGES: Final = re.compile(r"[\\/](site|dist)-packages[\\/]")
_TIDINGS: Final = __name__.partition(".")[0]
_digests: dict[str, tuple[tuple[int, int], bytes]] = {}  # By path: the state of the file that was hashed, and its hash.


def hash_with_files(functions: str, packages: Collection[str]) -> str:
    """Return the hash of a program's code. Files that cannot be read are left out.

    Args:
        functions: the hash of the registered functions.
        packages: the packages, or modules outside of packages, that define these functions.
    """
    whole = hashlib.sha256(functions.encode())
    for name, path in sorted(_own_files(packages).items()):
        digest = _digest_of(path)
        if digest is not None:
            whole.update(name.encode("utf-8", "surrogatepass") + b"\0" + digest)
    return whole.hexdigest()[:32]


def _own_files(packages: Collection[str]) -> dict[str, str]:
    found = {}
    for name, module in list(sys.modules.items()):
        path, package = _path_of(module), name.partition(".")[0]
        if not isinstance(path, str) or not path.endswith(".py") or package == _TIDINGS:
            continue
        if package in packages or not (path.startswith(_OF_PYTHON) or _OF_PACKAGES.search(path)):
            found[name] = path
    return found


def _path_of(module: object) -> object:
    """Return the file of a module. A module may import others, or fail, when it is asked for an attribute."""
    try:
        return object.__getattribute__(module, "__dict__").get("__file__")
    except AttributeError:  # Anything may be put in `sys.modules`.
        return None


def _digest_of(path: str) -> bytes | None:
    try:
        status = os.stat(path)
        state = status.st_mtime_ns, status.st_size
        known = _digests.get(path)
        if known is None or known[0] != state:
            with open(path, "rb") as file:
                known = _digests[path] = state, hashlib.sha256(file.read()).digest()
    except OSError:
        return None
    return known[1]
