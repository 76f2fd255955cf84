"""The pair itself: its methods, which other tests use, do what their names say."""

from __future__ import annotations

import signal
from pathlib import Path

import psycopg
import pytest

from tests.support import programs
from tests.support.engines import aside
from tests.support.replication import ReplicatedPair, ask

_DIES_WITH_A_PAIR = """
import os, signal
from tests.support.replication import ReplicatedPair
pair = ReplicatedPair(synchronous=False).__enter__()
for server in (pair.primary, pair.standby):
    print(server.port, server.directory, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_what_is_held_back_is_on_the_primary_alone() -> None:
    with ReplicatedPair(synchronous=False) as pair:
        ask(pair.primary, "create table kept (value int)")
        pair.await_streaming()
        pair.hold()
        ask(pair.primary, "insert into kept values (1)")
        pair.resume()
        pair.await_streaming()
        assert ask(pair.standby, "select value from kept") == [(1,)]
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            ask(pair.standby, "insert into kept values (2)")
        pair.hold()
        ask(pair.primary, "insert into kept values (3)")
        pair.fail_over()
        ask(pair.standby, "insert into kept values (4)")
        assert ask(pair.standby, "select value from kept order by value") == [(1,), (4,)]


def test_a_commit_of_a_synchronous_pair_waits_for_the_standby() -> None:
    with ReplicatedPair(synchronous=True) as pair:
        pair.hold()
        committing = aside(lambda: ask(pair.primary, "create table kept (value int)"))
        pair.await_held_commit()
        assert not committing.done()
        pair.resume()
        committing.result(timeout=60)
        pair.fail_over()
        assert ask(pair.standby, "select * from kept") == []


def test_nothing_of_a_pair_outlives_a_process_that_was_killed() -> None:
    # The guards share the output of that process, so `run` returns only after they have ended.
    died = programs.run(*programs.python("-c", _DIES_WITH_A_PAIR), stderr=None)
    assert died.returncode == -signal.SIGKILL
    for line in died.stdout.splitlines():
        port, directory = line.split()
        assert not Path(directory).exists()
        with pytest.raises(psycopg.OperationalError):
            psycopg.connect(host="127.0.0.1", port=port, user="postgres")
