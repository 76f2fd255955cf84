"""Builds the oldest SQLite that tidings supports, from the source in an npm package."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path
from typing import Final

from tests.matrix import npm
from tests.matrix.platform import WORKSHOP, Interpreter, Missing, run

# As Debian builds it, as far as Python's module and tidings need it: JSON functions became the default with 3.38.
_OPTIONS: Final = (
    *("-DSQLITE_ENABLE_JSON1", "-DSQLITE_ENABLE_COLUMN_METADATA", "-DSQLITE_ENABLE_DESERIALIZE"),
    *("-DSQLITE_ENABLE_LOAD_EXTENSION", "-DSQLITE_ENABLE_FTS5", "-DSQLITE_THREADSAFE=1"),
)


def old_library(interpreter: Interpreter) -> tuple[str, dict[str, str]]:
    """Build SQLite 3.35. Return its source, and the variables that make this interpreter use it.

    Raises:
        Missing: It cannot be built here, or this interpreter has SQLite built in.
    """
    sources = npm.fetch(npm.SQLITE) / "deps"
    with tarfile.open(sources / "sqlite3.tar.gz") as files:
        files.extractall(sources, filter="data")
    library = _build(sources)
    environment = {"LD_LIBRARY_PATH": str(library.parent)}
    print_version = [*interpreter.command, "-c", "import sqlite3; print(sqlite3.sqlite_version)"]
    version = run(print_version, environment={**os.environ, **environment}).strip()
    if not version.startswith("3.35."):
        raise Missing(f"this Python uses SQLite {version}, which was built into it, and no other")
    return f"source in {npm.SQLITE.name} {npm.SQLITE.version}, npm", environment


def _build(sources: Path) -> Path:
    library = WORKSHOP / "sqlite-3.35" / "libsqlite3.so.0"
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        unfinished = library.with_suffix(".unfinished")
        source = str(sources / "sqlite3.c")
        run(["cc", "-O2", "-fPIC", "-shared", "-Wl,-soname,libsqlite3.so.0", *_OPTIONS, source, "-o", unfinished])
        unfinished.rename(library)
    return library
