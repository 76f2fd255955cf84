"""Makes sure that a session has the settings that tidings needs, or raises an error that says why it cannot.

The settings are sent as `options` with the start of the connection. They may not take effect for two reasons:

* The environment overrides a few of them (PGTZ), and some settings do not exist on every server. If the session is our
  own, they are SET, once.
* A pooler drops or refuses `options`. It lends us a session; in transaction mode for one transaction at a time. Other
  clients have left their settings in it, and would find ours. So each transaction begins by setting all of them, and
  its end undoes that (`pin_settings`).

A pooler is recognised in two ways. The server process is not the one that the connection was told at its start; or
`options` had no effect, which a missing mark among them shows. One query checks all of this, because connections are
opened often and the server may be far away.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import psycopg

from tidings.store.postgres.arrays import texts
from tidings.store.postgres.patience import NothingLeft, impatient
from tidings.store.postgres.settings import BEATEN, MARK, NEWER, OF_SESSION, RESERVED, Wanted
from tidings.store.postgres.statements import StatementCall, Value

_SET: Final = (
    b"select pg_catalog.set_config(name, value, %s) from rows from "
    b"(pg_catalog.unnest(%s::pg_catalog.text[]), pg_catalog.unnest(%s::pg_catalog.text[])) as s (name, value)"
)


class Session(psycopg.Connection[tuple[Any, ...]]):
    """A connection in autocommit mode.

    Attributes:
        pins: the settings that each transaction must begin with, if a pooler lends us the session; otherwise empty.
    """

    pins: Mapping[str, str] = {}

    @property
    def pin(self) -> StatementCall | None:
        """Return the statement that each transaction must begin with, if there is one."""
        values: dict[str, Value] = {"names": texts(self.pins), "values": texts(self.pins.values())}
        return StatementCall("pin_settings", values) if self.pins else None

    def begin(self, statement: bytes = b"begin isolation level read committed") -> None:
        """Begin a transaction that has the settings we need."""
        self.execute(statement)
        self.adjust(self.pins, is_local=True)

    @contextmanager
    def pinned(self) -> Iterator[None]:
        """Run reads with the settings we need: in a transaction if a pooler lends us the session."""
        if not self.pins:
            yield
            return
        self.begin()
        yield
        self.execute(b"rollback")

    def adjust(self, settings: Mapping[str, str], *, is_local: bool = False) -> dict[str, str | None]:
        """Change settings of this session, or only of its transaction. Returns the values as the server shows them."""
        if not settings:
            return {}
        rows = self.execute(_SET, (is_local, list(settings), list(settings.values()))).fetchall()
        return {name: _text(value) for name, (value,) in zip(settings, rows, strict=True)}


class _OutOfStep(Exception):
    """The session answered another question."""


def settle(session: Session, wanted: Wanted) -> bool:
    """Give a new session the wanted settings. Returns False, and closes it, if it answers another question.

    PgBouncer in session mode may give us a session that still has an answer pending: it takes a notification for the
    end of its own clean-up query. From then on each query would get the answer to the one before it.

    Raises:
        psycopg.OperationalError: the session does not answer, or a setting cannot be made; the message says what to
            change. The session is closed.
    """
    try:
        with impatient(session):
            _settle(session, wanted)
    except _OutOfStep:
        session.close()
        return False
    except BaseException:
        session.close()
        raise
    return True


def _settle(session: Session, wanted: Wanted) -> None:
    needed = wanted.pinned() | NEWER | RESERVED
    process, is_marked, wrong = _ask(session, needed)
    is_own = is_marked and process == session.pgconn.backend_pid
    is_lent = not is_own or bool(wrong.keys() - {*BEATEN, *NEWER, *RESERVED})
    if is_lent:
        kept = {name: value for name, value in wanted.settings.items() if name not in OF_SESSION}
        session.pins = kept | {
            name: value for name, value in needed.items() if name in wrong and name not in OF_SESSION
        }
    elif not wrong:
        return
    ended_if_idle = {name: needed[name] for name in wrong if name == "idle_session_timeout"}
    try:
        if is_lent:
            # Only for this statement: it shows whether the settings can be made at all.
            wrong = _other_than(needed, session.adjust(session.pins, is_local=True))
            # If a pooler lends the session for good, it must stay open while idle. If it lends it for one transaction,
            # it is the pooler that keeps the session, and its clients do not notice when it ends.
            session.adjust(ended_if_idle)
        else:
            wrong = _other_than(needed, session.adjust({name: needed[name] for name in wrong}))
    except psycopg.Error as error:
        if session.closed:
            raise
        raise psycopg.OperationalError(
            f"its sessions cannot have the settings that tidings needs ({error}){_say(wrong)}"
        ) from error
    if wrong:
        raise psycopg.OperationalError(f"its sessions cannot have the settings that tidings needs{_say(wrong)}")


def _say(wrong: Mapping[str, str]) -> str:
    """Say which values are wrong, and where they may come from."""
    if not wrong:
        return ""
    what = ", ".join(f"{name} is {value!r}" for name, value in sorted(wrong.items()))
    return (
        f": {what}. Remove it where it is set: by `alter role ... set`, by `alter database ... set`, or in the "
        "configuration of the server or of a pooler before it"
    )


def _ask(session: Session, needed: Mapping[str, str]) -> tuple[int, bool, dict[str, str]]:
    """Return the server's process, whether our mark is there, and the settings with wrong values.

    Raises:
        _OutOfStep: the answer, or the error, belongs to another question.
        psycopg.OperationalError: no answer came.
    """
    number = secrets.randbelow(2**31)
    asked = "".join(f", pg_catalog.current_setting('{name}', true)" for name in (MARK, *needed))
    try:
        found = session.execute(f"select {number}, pg_catalog.pg_backend_pid(){asked}".encode())
        row = found.fetchone() if found.description is not None else None
    except NothingLeft:
        raise
    except psycopg.Error as error:
        if session.closed:
            raise
        raise _OutOfStep from error
    if row is None or len(row) != len(needed) + 3 or row[0] != number:
        raise _OutOfStep
    shown = dict(zip(needed, map(_text, row[3:]), strict=True))
    return row[1], bool(row[2]), _other_than(needed, shown)


def _other_than(needed: Mapping[str, str], found: Mapping[str, str | None]) -> dict[str, str]:
    """Return the settings with wrong values. A setting that the server does not know is left out."""
    return {name: value for name, value in found.items() if value is not None and needed.get(name, value) != value}


def _text(value: str | bytes | None) -> str | None:
    """Return a setting as text. Psycopg gives bytes if it does not know the session's encoding."""
    return value.decode(errors="replace") if isinstance(value, bytes) else value
