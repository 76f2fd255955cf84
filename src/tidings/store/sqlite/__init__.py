"""SQLite: one file, nothing to install, several processes on one host.

`open_store` is the door; `store` implements the contract, `writer` owns the write transaction and
the WAL, `connect` the connections and what their errors mean.
"""

from __future__ import annotations

import os
from typing import Final

from tidings.error import DBOSInitializationError
from tidings.store import redact
from tidings.store.sqlite.store import SqliteStore

__all__ = ["SqliteStore", "open_store"]

_ACCEPTED: Final = "use sqlite:///relative.sqlite or sqlite:////absolute/path.sqlite"


def open_store(url: str, schema: str) -> SqliteStore:
    """Return the store in the file that `url` names. A file has no schemas: `schema` is ignored.

    The path is taken as it stands, without percent-decoding. A relative one is resolved now, so
    that a later change of directory does not move the database.

    Raises:
        DBOSInitializationError: the URL names no file.
    """
    host, _, path = url.partition("://")[2].partition("/")
    if ":memory:" in path or "mode=memory" in path:
        reason = "a database in memory is lost with its process, and nothing could be recovered from it"
    elif host:
        reason = "something stands where the third slash belongs"
    elif not path:
        reason = "it names no file"
    elif "?" in path or "\0" in path:
        reason = "parameters are not supported"
    else:
        return SqliteStore(os.path.abspath(path))
    raise DBOSInitializationError(f"{redact(url)!r} is not the URL of an SQLite file: {reason}; {_ACCEPTED}")
