"""The rows of a tidings database, read and written without the library, on either store."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from typing import Any

import psycopg

TABLES = ("workflows", "entries", "messages", "events", "stream_items", "closed_streams")


class Rows:
    """Runs statements in which `{messages}` means the table's name, and `?` a parameter."""

    def __init__(self, url: str) -> None:
        self._url = url

    @property
    def is_sqlite(self) -> bool:
        return self._url.startswith("sqlite")

    def run(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run one statement and commit it; return its rows."""
        prefix = "tidings_" if self.is_sqlite else "tidings."
        text = re.sub(r"\{(\w+)\}", rf"{prefix}\1", statement)
        if self.is_sqlite:
            with closing(sqlite3.connect(self._url.removeprefix("sqlite:///"))) as file, file:
                # Only the library checkpoints: see its notes on SQLite's WAL-reset bug.
                file.execute("pragma wal_autocheckpoint = 0")
                return file.execute(text, parameters).fetchall()
        with psycopg.connect(self._url) as connection:
            cursor = connection.execute(text.replace("%", "%%").replace("?", "%s").encode(), parameters)
            return cursor.fetchall() if cursor.description else []

    def counts(self) -> dict[str, int]:
        """Count the rows of every table that user code can add to."""
        return {table: self.run(f"select count(*) from {{{table}}}")[0][0] for table in TABLES}
