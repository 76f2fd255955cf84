"""What the migrations of both backends share: numbered files, forward only, and the version check.

A backend's `migrations/` holds `0001_initial.sql`, `0002_….sql` and so on, one for each version up to `SCHEMA_VERSION`.
The backend decides where the version is kept, and how processes that start at once exclude each other. It takes a lock,
reads the version, applies `pending(...)`, notes `SCHEMA_VERSION`, and commits all of it as one change.
"""

from __future__ import annotations

from importlib import resources
from typing import Final, NamedTuple

from tidings.error import DBOSInitializationError

SCHEMA_VERSION: Final = 10


# How to create the tables, for error messages.
REMEDY: Final = "migrate it first: launch the program that runs its workflows, with 'run_migrations' on (the default)"


class Migration(NamedTuple):
    """One step of the schema: the version it leads to, and its statements."""

    version: int
    name: str
    sql: str


def pending(package: str, version: int, database: str) -> list[Migration]:
    """Return the migrations of `package` that a schema at `version` still needs, in order.

    Args:
        package: the backend's package, as in `tidings.store.sqlite`.
        version: the schema's version; 0 if there is none.
        database: how an error names the database; never holds a password.

    Raises:
        DBOSInitializationError: the schema is newer than this library.
    """
    if version > SCHEMA_VERSION:
        raise DBOSInitializationError(
            f"{database}: schema version {version} is newer than this library's {SCHEMA_VERSION}: upgrade tidings"
        )
    if version == SCHEMA_VERSION:
        return []
    return [migration for migration in _all(package) if migration.version > version]


def check_current(version: int, database: str) -> None:
    """Raise `DBOSInitializationError` unless a schema at `version` is the one this library needs."""
    if version == 0:
        raise DBOSInitializationError(f"{database}: it has no tidings schema yet: {REMEDY}")
    if version != SCHEMA_VERSION:
        relation, remedy = ("newer", "upgrade tidings") if version > SCHEMA_VERSION else ("older", REMEDY)
        raise DBOSInitializationError(
            f"{database}: schema version {version} is {relation} than this library's {SCHEMA_VERSION}: {remedy}"
        )


def reset_script(package: str, *, truncate: bool) -> str:
    """Return the statements that remove what the migrations of `package` made, or only the rows."""
    file = "empty.sql" if truncate else "drop.sql"
    return resources.files(package).joinpath("resets", file).read_text(encoding="utf-8")


def _all(package: str) -> list[Migration]:
    files = [file for file in resources.files(package).joinpath("migrations").iterdir() if file.name.endswith(".sql")]
    migrations = sorted(Migration(int(file.name[:4]), file.name, file.read_text(encoding="utf-8")) for file in files)
    if [migration.version for migration in migrations] != list(range(1, SCHEMA_VERSION + 1)):
        raise ValueError(f"{package}: migrations must be numbered 1 to {SCHEMA_VERSION} without gaps")
    return migrations
