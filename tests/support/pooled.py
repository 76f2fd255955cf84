"""Runs the whole suite through a real PgBouncer: `TEST_POSTGRES_POOLER=transaction` (or `session`) before `pytest`.

The URLs of tests then lead through PgBouncer; databases are created, emptied and dropped directly. A test that makes no
sense with a pooler is marked with the reason, and gets the server's own URL:

    @pytest.mark.direct("counts the server's processes")
    @pytest.mark.direct("must hear at once", only="transaction")

At its end the run reports how many tests were marked, and why. `pytestmark = pytest.mark.direct(...)` marks a whole
file.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, cast, get_args

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.support.pgbouncer import Mode, PgBouncer, PgBouncerError
from tidings.store.postgres import line

_VARIABLE: Final = "TEST_POSTGRES_POOLER"
_REASON: Final = "past the pooler"

_deaf: set[str] = set()  # the URLs that lead through a pooler in transaction mode


@contextmanager
def pooler_before(server_url: str) -> Iterator[PgBouncer | None]:
    """Yield the PgBouncer that this run uses before that server; `None` if it uses none."""
    mode = os.environ.get(_VARIABLE)
    if not mode:
        yield None
        return
    if mode not in get_args(Mode):
        raise PgBouncerError(f"{_VARIABLE} is {mode!r}; it may be {' or '.join(get_args(Mode))}")
    with PgBouncer(server_url, cast(Mode, mode)) as pooler:
        yield pooler


def url_for(test: pytest.Item, pooler: PgBouncer | None, database_url: str) -> str:
    """Return the URL for this test: through the pooler, unless the test is marked `direct` for this mode."""
    if pooler is None:
        return database_url
    line._unprepared.clear()  # Each test must find out by itself that the pooler mixes statements up.
    pooler.disconnect(str(conninfo_to_dict(database_url)["dbname"]))
    for mark in test.iter_markers("direct"):
        if mark.kwargs.get("only", pooler.mode) != pooler.mode:
            continue
        test.user_properties.append((_REASON, mark.args[0]))
        return database_url
    url = pooler.url(database_url)
    if pooler.mode == "transaction":
        _deaf.add(url)
    return url


def hears(database_url: str) -> bool:
    """Tell whether a listener on this URL hears other processes."""
    return database_url not in _deaf


def say_what_went_past(reporter: pytest.TerminalReporter) -> None:
    """Print how many tests of this run bypassed the pooler, and why."""
    reasons = Counter(
        value
        for outcome in ("passed", "failed")
        for report in reporter.getreports(outcome)
        if report.when == "call"
        for name, value in report.user_properties
        if name == _REASON
    )
    if reasons:
        reporter.section(f"{reasons.total()} tests went past the pooler")
        for reason, count in reasons.most_common():
            reporter.write_line(f"{count:5} {reason}")
