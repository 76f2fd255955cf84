"""SQLite: one file, nothing to install, several processes on one host.

`open_store` is the entry point; `store` implements the contract; `writer` owns the write transaction and the WAL;
`connect` opens connections and interprets errors; `place` judges paths.
"""

from __future__ import annotations

import os
from typing import Final

from tidings.error import DBOSInitializationError
from tidings.store.sqlite import place
from tidings.store.sqlite.store import SqliteStore
from tidings.store.urls import Address

__all__ = ["SqliteStore", "open_store"]

_ACCEPTED: Final = "use sqlite:///relative.sqlite or sqlite:////absolute/path.sqlite"


def open_store(url: Address, schema: str) -> SqliteStore:
    """Return the store in the file that `url` names. A file has no schemas: `schema` is ignored.

    The path is used as it is, without percent-decoding. A relative path is resolved now, so that a later change of
    directory does not move the database.

    Raises:
        DBOSInitializationError: the URL names no file. The message may repeat a plain path, but no login or parameter.
    """
    reason = place.refused(url)
    if reason is not None:
        raise DBOSInitializationError(
            f"{url.called}{place.named(url)} is not the URL of an SQLite file: {reason}; {_ACCEPTED}"
        )
    return SqliteStore(os.path.abspath(url.partition(":///")[2]))
