"""SQLite: one file, nothing to install, several processes on one host.

`open_store` is the entry point; `store` implements the contract; `writer` owns the write transaction and the WAL;
`connect` opens connections and interprets errors.
"""

from __future__ import annotations

import os
import re
from typing import Final

from tidings.error import DBOSInitializationError
from tidings.store.sqlite.store import SqliteStore
from tidings.store.urls import Address

__all__ = ["SqliteStore", "open_store"]

_ACCEPTED: Final = "use sqlite:///relative.sqlite or sqlite:////absolute/path.sqlite"


# Looks like the user and password of another kind of database.
_LOGIN: Final = re.compile(r"/*[^/:@]*:[^@]*@")


# What most file systems take, without what is added for the files beside it: `-wal`, `-lock`.
_MOST_BYTES: Final = 255 - len("-journal")

_PARAMETERS: Final = (
    "parameters are not supported, and a '?' begins them: leave out the '?' and what follows it. tidings sets itself "
    "what it needs"
)


def open_store(url: Address, schema: str) -> SqliteStore:
    """Return the store in the file that `url` names. A file has no schemas: `schema` is ignored.

    The path is used as it is, without percent-decoding. A relative path is resolved now, so that a later change of
    directory does not move the database.

    Raises:
        DBOSInitializationError: the URL names no file. The message may repeat a path, but no login or parameter.
    """
    host, _, path = url.partition("://")[2].partition("/")
    file, _, parameters = path.partition("?")
    has_login = _LOGIN.match(file) is not None
    if ":memory:" in path or "mode=memory" in path:
        reason = "a database in memory is lost with its process, so nothing could be recovered"
    elif host:
        reason = "its third slash is missing: after '//' nothing but a '/' may come"
    elif not path:
        reason = "it names no file"
    elif has_login:
        reason = "SQLite has no user and no password"
    elif "?" in path:
        reason = _PARAMETERS
        if re.search(r"\b(?:mode=ro|immutable=)", parameters):
            reason += ". It must write to the file: to look at workflows, use a DBOSClient"
    elif "\0" in path:
        reason = "it contains a NUL character"
    elif path.startswith("file:"):
        reason = "SQLite URIs are not supported; leave out 'file:'"
    elif re.match(r"~[^/]*/", path):
        reason = "'~' is not expanded; write the path in full"
    elif _is_too_long(path):
        reason = "a name in its path is longer than a file's can be"
    else:
        return SqliteStore(os.path.abspath(path))
    named = "the URL" if host or has_login else repr(f"sqlite:///{file}")
    del url, host, path, file, parameters  # A traceback may show local variables.
    raise DBOSInitializationError(f"{named} is not the URL of an SQLite file: {reason}; {_ACCEPTED}")


def _is_too_long(path: str) -> bool:
    """Tell whether some name in a path is too long. Looked at here: each way to open it says so in other words."""
    return any(len(os.fsencode(each)) > _MOST_BYTES for each in path.split("/"))
