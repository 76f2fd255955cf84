"""Tests that show a password. Only `test_passwords` runs them."""

from __future__ import annotations

import base64
import contextlib
import logging
import sys
from typing import NoReturn

import pytest

from harness.password import PASSWORD
from tests.support import programs
from tests.support.rows import Rows

URL = f"postgresql://me:{PASSWORD}@host/db"


def fail_to_connect(*, says_why: bool) -> NoReturn:
    try:
        raise ValueError(URL)
    except ValueError as error:
        raise KeyError("it went wrong") from (error if says_why else None)


def test_in_output() -> None:
    sys.stdout.write(f"connecting to {URL}")


def test_in_errors() -> None:
    sys.stderr.write(f"connecting to {URL}")


def test_in_the_log() -> None:
    logging.getLogger("tidings").warning("connecting to %s", URL)


def test_in_a_traceback_in_the_log() -> None:
    try:
        raise ValueError(URL)
    except ValueError:
        logging.getLogger("tidings").exception("it went wrong")


def test_in_a_caught_error() -> None:
    with pytest.raises(ValueError, match="cannot connect"):
        raise ValueError(f"cannot connect to {URL}")


def test_in_the_cause_of_a_caught_error() -> None:
    with pytest.raises(KeyError):
        fail_to_connect(says_why=True)


def test_in_the_context_of_a_caught_error() -> None:
    with pytest.raises(KeyError):
        fail_to_connect(says_why=False)


def test_in_a_note_of_a_caught_error() -> None:
    error = ValueError("it went wrong")
    error.add_note(URL)
    with pytest.raises(ValueError, match="it went wrong"):
        raise error


def test_in_one_of_several_errors() -> None:
    with pytest.raises(ExceptionGroup):
        raise ExceptionGroup("they went wrong", [ValueError("a"), ValueError(URL)])


def test_in_the_output_of_a_program() -> None:
    programs.run(*programs.python("-c", f"print({URL!r})"))


def test_in_the_errors_of_a_program() -> None:
    programs.run(*programs.python("-c", f"raise SystemExit({URL!r})"))


def test_in_a_table(database_url: str) -> None:
    leave(database_url, f'["connected to", "{URL}"]')


def test_in_a_table_in_base64(database_url: str) -> None:
    for before in ("", "a", "bcde"):
        leave(database_url, base64.b64encode(f"{before}{PASSWORD} and more".encode()).decode())


def leave(database_url: str, text: str) -> None:
    rows = Rows(database_url)
    columns = "workflow_id, status, name, inputs, serialization, epoch, app_version, created_at_ms, updated_at_ms, seq"
    seq = len(text) if rows.is_sqlite else "nextval('tidings.workflows_seq')"
    values = f"?, 'SUCCESS', 'f', ?, '', 1, '1', 1, 1, {seq}"
    rows.run(f"insert into {{workflows}} ({columns}) values ({values})", text[:4], text)


def test_no_password() -> None:
    sys.stdout.write("connecting")
    with contextlib.suppress(ValueError):
        raise ValueError(URL)
    with pytest.raises(ValueError, match="it went wrong"):
        raise ValueError("it went wrong")
    programs.run(*programs.python("-c", "print('connecting')"))
