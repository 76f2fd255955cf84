"""The settings of each session, whatever the server, the database, the role, the environment and the URL say.

`docs/design/sessions.md` explains why the other parameters of PostgreSQL are not set here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Final, NamedTuple

from tidings.store.postgres import options

# The settings that our guarantees depend on. Nothing overrides them, not even the URL's `options`. Each value is
# written as the server shows it.
PINNED: Final = {
    # Encoding and quoting: an id must be the same text for every process, and no text may be lost.
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    # No user's function or operator may hide the server's own.
    "search_path": "pg_catalog, pg_temp",
    # See `transactions.sql`.
    "default_transaction_isolation": "read committed",
    "default_transaction_read_only": "off",
    "default_transaction_deferrable": "off",
    # A confirmed commit is on disk; and `wire` hears the warning that no standby confirmed it.
    "synchronous_commit": "on",
    "client_min_messages": "notice",
    # A row that a policy would hide causes an error, instead of seeming absent.
    "row_security": "off",
    # No wait is endless. A process stopped in the middle of a batch must not hold its row for long, because that blocks
    # the takeover of its runs. But an idle session stays open: a listener waits for days.
    "lock_timeout": "10s",
    "idle_in_transaction_session_timeout": "10s",
    "idle_session_timeout": "0",
    # An error ends the statement, not the session.
    "exit_on_error": "off",
    # How values are written as text and read.
    "array_nulls": "on",
    "transform_null_equals": "off",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "DateStyle": "ISO, MDY",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    # The tables that migrations create need updates in place.
    "default_table_access_method": "heap",
}

# Performance. An operator may know better: the URL's `options` override these.
PREFERRED: Final = {
    # A caller that lists very much may allow more, but not less. It does not affect waits for locks, and for clients
    # while rows are held.
    "statement_timeout": "30s",
    # The server too must notice when the other end is dead.
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "2",
    # Every statement is a few index lookups, for arrays whose length the planner cannot know. One plan, made once, must
    # stay right while the tables grow from nothing and statistics are old. So the planner gets no choice. It also
    # spends no time on compiling plans or starting parallel workers.
    "plan_cache_mode": "force_generic_plan",
    "enable_seqscan": "off",
    "enable_indexscan": "on",
    "enable_indexonlyscan": "on",
    "enable_bitmapscan": "on",
    "enable_nestloop": "on",
    "enable_hashjoin": "on",
    "enable_hashagg": "on",
    "enable_sort": "on",
    "enable_material": "on",
    "enable_mergejoin": "off",
    "random_page_cost": "0.1",
    "seq_page_cost": "0.1",
    "cpu_tuple_cost": "0.1",
    "cpu_index_tuple_cost": "0.05",
    "cpu_operator_cost": "0.0001",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",
    # Sorting a full batch (8 MB) stays in memory.
    "work_mem": "32MB",
}

# Migrations wait for each other, and each may take long.
MIGRATION_LOCK_SECONDS: Final = 120
MIGRATING: Final = {"statement_timeout": "0", "lock_timeout": f"{MIGRATION_LOCK_SECONDS // 60}min"}

# Set only on servers that have them: a connection that starts with an unknown setting fails.
NEWER: Final = {"transaction_timeout": "0"}  # since 17

# Set only if the value differs, because not every user may set them. With `replica` no trigger fires, so the rows that
# belong to a deleted workflow would stay.
RESERVED: Final = {"session_replication_role": "origin"}

# The environment (PGTZ, PGDATESTYLE) overrides these in `options`, because libpq sends it after them.
BEATEN: Final = ("DateStyle", "TimeZone")

# Other values that the URL may choose for a pinned setting: they promise at least as much.
_ALSO: Final = {"synchronous_commit": ("remote_apply",)}

# A meaningless setting. It marks a session that was started with our `options`.
MARK: Final = "tidings.session"

_TIME: Final = re.compile(r"\s*([0-9]{1,12}(?:\.[0-9]*)?)\s*(us|ms|s|min|h|d)?\s*", re.ASCII)
_SECONDS: Final = {"us": 1e-6, None: 1e-3, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3_600.0, "d": 86_400.0}

# Settings of a whole session: useless in one transaction, and a pooler's next client would inherit them.
OF_SESSION: Final = (
    "default_transaction_isolation",
    "default_transaction_read_only",
    "default_transaction_deferrable",
    "idle_session_timeout",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "tcp_keepalives_count",
)


class Wanted(NamedTuple):
    """The settings of a session, given a user's `options`.

    Attributes:
        settings: by name.
        others: the user's switches that are no settings.
        overruled: the settings that the user asked for and does not get.
    """

    settings: Mapping[str, str]
    others: list[str]
    overruled: list[str]

    @property
    def options(self) -> str:
        """Return the `options` that a session is started with."""
        return options.write({**self.settings, MARK: "ours"}, self.others)

    def __repr__(self) -> str:
        return "<settings>"  # The URL's options may contain a part of its password.

    @property
    def longer_by_seconds(self) -> float:
        """How much longer than by default a statement may take. `inf` if it may take any time."""
        limit, default = _limit(self.settings), _limit(PREFERRED)
        return max(0.0, limit - default) if limit is not None and default is not None else 0.0

    def migrating(self) -> Wanted:
        """Return the same with the settings for a migration."""
        return self._replace(settings={**self.settings, **MIGRATING})

    def pinned(self) -> dict[str, str]:
        """Return the settings that users cannot change."""
        return {name: self.settings[name] for name in PINNED}


def wanted(given: str) -> Wanted:
    """Return the settings of a session, given the URL's `options`."""
    asked, others = options.read(given)
    fixed = {name.lower(): name for name in (*PINNED, *NEWER, *RESERVED)}
    open_to_choice = {name.lower(): name for name in PREFERRED}
    settings, overruled = PINNED | PREFERRED, []
    for name, value in asked.items():
        pinned = fixed.get(name.lower())
        if name.lower() == "statement_timeout" and _is_too_short(value):
            overruled.append("statement_timeout")  # Commits would fail now and then, under load.
        elif pinned is None:
            settings[open_to_choice.get(name.lower(), name)] = value
        elif value in _ALSO.get(pinned, ()):
            settings[pinned] = value
        elif value.lower() != PINNED.get(pinned, "").lower():
            overruled.append(pinned)
    return Wanted(settings, others, overruled)


def _is_too_short(statement_timeout: str) -> bool:
    limit, default = _limit({"statement_timeout": statement_timeout}), _limit(PREFERRED)
    return limit is not None and default is not None and limit < default


def _limit(settings: Mapping[str, str]) -> float | None:
    """Return the time limit of statements in seconds; `None` if the server will refuse it."""
    found = _TIME.fullmatch(settings["statement_timeout"])
    return None if found is None else float(found[1]) * _SECONDS[found[2]] or math.inf
