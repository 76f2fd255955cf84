"""The rows: each prepares one platform, and selects the tests that run there."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, get_args

from tests.matrix import environments, poolers, pythons, servers, sqlite
from tests.matrix.platform import REPOSITORY, Missing, Platform
from tests.support.pgbouncer import Mode, version_of

PYTHONS: Final = ("3.11", "3.12", "3.13", "3.14", "3.14t", "3.15")
POSTGRES: Final = ("14", "15", "16", "17", "18")
MODES: Final = ("transaction", "session")

# Its tests create their own pair; to the other tests it makes no difference.
_REPLICATION: Final = "tests/faults/test_replication.py"


@dataclass(frozen=True, slots=True)
class Row:
    """One platform.

    Attributes:
        name: Its name for `--row`.
        title: Its description, for the table if it is not available.
        prepare: Finds or installs it, or raises `Missing`.
        selected: The tests that run there; empty for all.
    """

    name: str
    title: str
    prepare: Callable[[], Platform]
    selected: tuple[str, ...] = ()


def rows() -> Iterator[Row]:
    """Return every row, in the order of the table."""
    for version in PYTHONS:
        yield Row(f"python-{version}", f"Python {version}", partial(_on_python, version))
    for major in POSTGRES:
        yield Row(f"postgresql-{major}", f"PostgreSQL {major}", partial(_on_postgres, major))
    yield Row("sqlite-3.35", "SQLite 3.35", _on_old_sqlite)
    for mode in get_args(Mode):
        title = f"PgBouncer in {mode} mode"
        yield Row(f"pgbouncer-{mode}", title, partial(_behind_pgbouncer, mode, poolers.find_or_install_pgbouncer))
        yield Row(
            f"newest-pgbouncer-{mode}",
            f"the newest {title}",
            partial(_behind_pgbouncer, mode, poolers.newest_pgbouncer),
        )
    yield Row("replicated-pair", "a primary and its standby", _on_a_replicated_pair, (_REPLICATION,))


def _on_python(version: str) -> Platform:
    interpreter = environments.environment_of(pythons.find_python(version))
    return Platform(interpreter, interpreter.source)


def _on_postgres(major: str) -> Platform:
    programs, source = servers.find_postgres(major)
    return Platform(environments.own(), source, {"TEST_POSTGRES_BIN": str(programs)})


def _behind_pgbouncer(mode: str, find: Callable[[], tuple[Path, str]]) -> Platform:
    program, source = find()
    environment = {"TEST_PGBOUNCER_BIN": str(program), "TEST_POSTGRES_POOLER": mode}
    return Platform(environments.own(), source, environment, f"PgBouncer {version_of(program)} in {mode} mode")


def _on_old_sqlite() -> Platform:
    interpreter = environments.own()
    source, environment = sqlite.old_library(interpreter)
    return Platform(interpreter, source, environment)


def _on_a_replicated_pair() -> Platform:
    if not (REPOSITORY / _REPLICATION).exists():
        raise Missing(f"there is no {_REPLICATION}")
    return Platform(environments.own(), "as `make test`", besides="a primary and its standby")
