"""Where an SQLite file may be, and what to do about a path that cannot hold one.

`refused` judges the text of a URL, without I/O. `check` looks at the disk before anything is made there. `advice` says
what an error means that came all the same.
"""

from __future__ import annotations

import errno
import logging
import os
import re
import sqlite3
import stat
import urllib.parse
from pathlib import Path
from typing import Final

from tidings.error import DBOSInitializationError
from tidings.shortage import reason_of
from tidings.store.migrate import REMEDY

_log = logging.getLogger("tidings.store")

# Looks like the user and password of another kind of database, however they are separated.
_LOGIN: Final = re.compile(
    r"[^@]*(?:[:;,|=\uff1a]|%3a)[^@]*@|(?:.*\W)?(?:password|passwd|pwd)\s*=", re.IGNORECASE | re.DOTALL
)

_PLAIN: Final = re.compile(r"[\w./ +~()#%-]+")
_FILE: Final = re.compile(r"[\w./ -]+\.\w{1,10}")
_OF_WINDOWS: Final = re.compile(r"/*[A-Za-z]:[\\/]|\\\\", re.ASCII)
_ENCODED: Final = re.compile(r"%[0-9A-Fa-f]{2}")
_VARIABLE: Final = re.compile(r"\$\{?\w|%\w+%", re.ASCII)

# What most file systems take, without what is added for the files beside it: `-wal`, `-lock`.
_MOST_BYTES: Final = 255 - len("-journal")

_PARAMETERS: Final = (
    "parameters are not supported, and a '?' begins them: leave out the '?' and what follows it. tidings sets itself "
    "what it needs"
)

_SMALLEST: Final = 512  # bytes of an SQLite file: one page

_NOT_SQLITE: Final = "this file is not an SQLite database: name another file, or a new one"
_NOT_DECODED: Final = "in the URL of an SQLite file nothing is percent-encoded, so write each character as it is"
_SLASHES: Final = "In a URL three slashes begin a path in the current folder, and four an absolute one"


def database_name(path: str) -> str:
    """Return how errors and log messages call the database."""
    return f"SQLite database {shown(path)}"


def shown(path: str) -> str:
    """Return a path as it can be printed: a file's name may have bytes that are not UTF-8."""
    return path.encode("utf-8", "backslashreplace").decode()


# --- the text of a URL --------------------------------------------------------------------------------


def refused(url: str) -> str | None:
    """Return why `url` names no file that can be used, if it names none. The text repeats nothing but a plain path."""
    rest = url.partition("://")[2]
    host, _, path = rest.partition("/")
    file, _, parameters = path.partition("?")
    if ":memory:" in rest.lower() or "mode=memory" in rest.lower():
        return "a database in memory is lost with its process, so nothing could be recovered"
    if host:
        spelled = f": write sqlite:///{rest}" if _FILE.fullmatch(rest) else ""
        return f"its third slash is missing{spelled}; after '//' nothing but a '/' may come"
    if not path:
        return "it names no file"
    if _LOGIN.match(file) or _is_of_server(file):
        return "SQLite has no user and no password"
    if "?" in path:
        ending = ". It must write to the file: to look at workflows, use a DBOSClient"
        return _PARAMETERS + (ending if re.search(r"\b(?:mode=ro|immutable=)", parameters) else "")
    return _fault_of_path(path)


def _fault_of_path(path: str) -> str | None:
    if "\0" in path:
        return "it contains a NUL character"
    if re.match(r"/*file:", path, re.IGNORECASE):
        return "SQLite URIs are not supported; leave out 'file:'"
    if re.match(r"~[^/]*/", path):
        return "'~' is not expanded; write the path in full"
    if os.name != "nt" and _OF_WINDOWS.match(path):
        return "it has a path of Windows, and this system is none: write the path as this system has it, with '/'"
    if path.endswith("/") and path.strip("/"):
        return "it ends with a '/', so it names a directory: name a file in it"
    try:
        is_too_long = any(len(os.fsencode(each)) > _MOST_BYTES for each in path.split("/"))
    except UnicodeEncodeError:
        return "it contains a lone surrogate, which no file's name has"
    # Looked at here: each way to open it says so in other words.
    return "a name in its path is longer than a file's can be" if is_too_long else None


def _is_of_server(file: str) -> bool:
    """Tell whether a path is rather the rest of a server's URL, as in `user.password@host/database`."""
    first, slash, _ = file.lstrip("/").partition("/")
    start = "/" * (len(file) - len(file.lstrip("/")))
    return "@" in first and bool(slash) and not os.path.lexists(start + first)


def named(url: str) -> str:
    """Return the URL for an error message, in parentheses, if it is plain; else nothing."""
    _, slashes, rest = url.partition(":///")
    path = rest.partition("?")[0]
    if not slashes or _LOGIN.match(path):
        return ""
    return f" ('sqlite:///{path}')" if _PLAIN.fullmatch(path) or path.lower() in (":memory:", "") else ""


# --- the disk -----------------------------------------------------------------------------------------


def check(path: str, *, makes: bool) -> None:
    """Refuse a path that cannot hold a database, before anything is made beside it.

    Args:
        path: the path of the file.
        makes: whether a file that is missing will be made.

    Raises:
        DBOSInitializationError: something else than a file of SQLite is there.
    """
    fault = _fault_of_place(path)
    if fault is not None:
        raise DBOSInitializationError(f"{database_name(path)}: {fault}")
    if _ENCODED.search(os.path.basename(path)) and not os.path.lexists(path):
        meant = urllib.parse.unquote(path)
        if os.path.isfile(meant):
            raise DBOSInitializationError(
                f"{database_name(path)}: there is no such file, but there is {shown(meant)}: {_NOT_DECODED}"
            )
        if makes:
            _log.warning("%s: this file is made now, and its name has a '%%': %s", database_name(path), _NOT_DECODED)


def _fault_of_place(path: str) -> str | None:
    try:
        found = os.stat(path)
    except OSError:
        return _fault_of_folder(path)
    if stat.S_ISDIR(found.st_mode):
        return "this is a directory: name a file in it"
    if not stat.S_ISREG(found.st_mode):
        return "this is not a file, but a device, a socket or a pipe: name another file"
    # SQLite would take such a file for an empty one, and overwrite it. It is not read here: closing it would release
    # the locks that SQLite has on it in this process.
    return _NOT_SQLITE if 0 < found.st_size < _SMALLEST else None


def _fault_of_folder(path: str) -> str | None:
    """Return why there can be no file of that path; `None` if its folder is there, or cannot be looked at."""
    if os.path.islink(path) and not os.path.exists(path):
        target = os.path.realpath(path)
        if not os.path.isdir(os.path.dirname(target)) or os.path.islink(target):
            return f"this is a link that leads nowhere, to {shown(target)}: correct or remove it"
    folder = os.path.dirname(path)
    try:
        is_folder = stat.S_ISDIR(os.stat(folder).st_mode)
    except (FileNotFoundError, NotADirectoryError):
        pass
    except OSError:
        return None
    else:
        return None if is_folder else f"{shown(folder)} is a file, and not a directory: name another path"
    for each in map(str, reversed(Path(folder).parents)):
        if os.path.exists(each) and not os.path.isdir(each):
            return f"{shown(each)} is a file, and not a directory: name another path"
    hint = _SLASHES
    if _ENCODED.search(path):
        hint = _NOT_DECODED[0].upper() + _NOT_DECODED[1:]
    elif _VARIABLE.search(path):
        hint = "Variables of the environment are not filled in: write the path in full"
    return f"there is no directory {shown(folder)}: create it first. ({hint})"


def advice(error: Exception, path: str) -> str:
    """Return what an error at the start means, and what to do about it."""
    primary = getattr(error, "sqlite_errorcode", 0) & 0xFF
    fault = _fault_of_place(path)
    if fault is not None:
        return fault
    if primary == sqlite3.SQLITE_NOTADB:
        return _NOT_SQLITE
    if primary == sqlite3.SQLITE_CANTOPEN and not os.path.lexists(path):
        return (
            f"there is no such file ({error}): {REMEDY}. If that program runs in another folder, give the path of the "
            "file in full"
        )
    if str(error).startswith("malformed database schema"):
        return (
            f"this Python's SQLite cannot read the tables in it ({error}): the file was made by a newer SQLite than "
            f"{sqlite3.sqlite_version}, so use a Python with a newer one; or the file is damaged"
        )
    if (
        primary in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN)
        or isinstance(error, (PermissionError, FileNotFoundError))
        or getattr(error, "errno", None) == errno.EROFS
    ):
        return (
            f"this program cannot write to it ({shown(str(error))}): the file and its directory "
            f"{shown(os.path.dirname(path))} must be writable; change their rights, or name a file somewhere else"
        )
    return shown(reason_of(error))
