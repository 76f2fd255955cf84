"""How the whole suite runs behind a real PgBouncer: `TEST_POSTGRES_POOLER=transaction` (or `session`) before `pytest`.

The URLs that tests are given then lead through PgBouncer; databases are made, emptied and dropped past it. A test that
makes no sense there is marked with the reason, and gets the server's own URL:

    @pytest.mark.direct("counts the server's processes")
    @pytest.mark.direct("must hear at once", only="transaction")

At its end the run says how many those were, and why. `pytestmark = pytest.mark.direct(...)` marks a whole file.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, cast, get_args

import pytest
from psycopg.conninfo import conninfo_to_dict

from tests.support.pgbouncer import Mode, PgBouncer, PgBouncerError
from tidings.store.postgres import store

_VARIABLE: Final = "TEST_POSTGRES_POOLER"
_REASON: Final = "past the pooler"

_deaf: set[str] = set()  # the URLs that lead through a pooler in transaction mode


@contextmanager
def pooler_before(server_url: str) -> Iterator[PgBouncer | None]:
    """Give the PgBouncer that this run goes through, before that server; `None` where it goes through none."""
    mode = os.environ.get(_VARIABLE)
    if not mode:
        yield None
        return
    if mode not in get_args(Mode):
        raise PgBouncerError(f"{_VARIABLE} is {mode!r}; it may be {' or '.join(get_args(Mode))}")
    with PgBouncer(server_url, cast(Mode, mode)) as pooler:
        yield pooler


def url_for(test: pytest.Item, pooler: PgBouncer | None, database_url: str) -> str:
    """Return the URL that this test is given: through the pooler, unless it is marked `direct` for this mode."""
    if pooler is None:
        return database_url
    store._unprepared.clear()  # Let each test find out what the pooler mixes up.
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
    """Tell whether what other processes do can be heard over this URL of a test."""
    return database_url not in _deaf


def say_what_went_past(reporter: pytest.TerminalReporter) -> None:
    """Say how many tests of this run went past the pooler, and why."""
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
