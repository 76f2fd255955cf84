"""The parts of chaos around its checker: journals, what may fail on which store, and what is counted."""

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path

import pytest

from chaos import faults, processes
from chaos.__main__ import parse
from chaos.counts import count
from chaos.databases import PostgresDatabase, SQLiteFile
from chaos.evidence import Evidence
from chaos.faults import Faults
from chaos.histories import Execution, Final, History, ProcessEnded, Sending, Sent
from chaos.journal import Journal, journal, read_journals
from chaos.load.program import WORKER
from chaos.processes import Guard, Slot
from tests.chaos.tale import good_tale

ON_ANY = {faults.KILL, faults.KILL_CLIENT, faults.TERMINATE, faults.PAUSE}


def test_a_journal_keeps_what_was_noted_and_nothing_of_a_torn_line(tmp_path: Path) -> None:
    journal = Journal()
    journal.open(tmp_path, "worker-0.0")
    records = (Sending("é 🙂", 0, "inbox", None, at=1), Sent("é 🙂", 0, at=2), Execution("w", 1, at=3))
    for record in records:
        journal.note(record)
    journal.close()
    with (tmp_path / "worker-0.0.jsonl").open("ab") as torn:
        torn.write(b'{"type":"Sent","sen')
    assert read_journals(tmp_path) == [History("worker-0.0", records)]


def test_names_are_given_once() -> None:
    journal = Journal()
    journal.process = "worker-0.0"
    assert [journal.new_name() for _ in range(2)] == ["worker-0.0#0", "worker-0.0#1"]


def test_a_deck_holds_what_may_fail_on_its_store_in_an_order_that_follows_from_the_seed(tmp_path: Path) -> None:
    async def deck(database: SQLiteFile | PostgresDatabase, seed: int) -> list[str]:
        return Faults(database, [], 1.0, random.Random(seed)).deck()

    file, given = SQLiteFile(tmp_path), PostgresDatabase("postgresql://somewhere/else", None)
    assert set(asyncio.run(deck(file, 1))) == ON_ANY | {faults.LOCK}
    # A server that was given is not ours to stop.
    assert set(asyncio.run(deck(given, 1))) == ON_ANY | {faults.CUT, faults.CUT_ALL, faults.HOLE}
    assert asyncio.run(deck(file, 1)) == asyncio.run(deck(file, 1)) != asyncio.run(deck(file, 2))


def test_the_table_counts_what_happened() -> None:
    tale = good_tale()
    histories = [History(process, tuple(records)) for process, records in tale.records.items()]
    counts = count(Evidence(histories, Final(tuple(tale.workflows.values()))))
    shown = {
        "kill": 1,
        "workflows": 6,
        "... ended with a result": 4,
        "... with an error of their own": 1,
        "... cancelled": 1,
        "takeovers by another process": 1,
        "sends": 8,
        "messages acknowledged": 5,
        "messages received": 4,
        "... begun by an overtaken execution, not recorded": 1,
        "stream items": 6,
        "stream items read live": 5,
        "slowest takeover after an end, ms": 0,
    }
    assert {name: counts[name] for name in shown} == shown


def test_a_process_that_does_not_end_when_it_is_told_to_leaves_word_of_what_it_is_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that hears nothing of it: it is stopped."""
    monkeypatch.setattr(processes, "END_SECONDS", 0.05)
    monkeypatch.setattr(processes, "STACKS_SECONDS", 0.0)

    async def terminate() -> bool:
        with Guard() as guard:
            slot = Slot(WORKER, "worker-0", f"sqlite:///{tmp_path}/chaos.sqlite", tmp_path, 1_000, guard)
            await slot.start()
            await slot.await_ready()  # Before that the signal would end it, stopped or not.
            slot.pause()
            return await slot.terminate()

    journal.open(tmp_path, "conductor")
    try:
        assert not asyncio.run(terminate())
    finally:
        journal.close()
    assert re.search(r"thread \d+: T", (tmp_path / "worker-0.0.log").read_text())
    [history] = [each for each in read_journals(tmp_path) if each.process == "conductor"]
    assert ("worker-0.0", "terminate", None) in [
        (each.process, each.wanted, each.code) for each in history.records if isinstance(each, ProcessEnded)
    ]


def test_the_command_line() -> None:
    options = parse(["--minutes", "0.5", "--seed", "7", "--store", "sqlite"])
    assert (options.minutes, options.seed, options.store, options.postgres) == (0.5, 7, "sqlite", None)
