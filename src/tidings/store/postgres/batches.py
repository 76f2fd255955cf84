"""Commits batches: the two ways to do that, and what a batch whose answer was lost has done.

A batch is sent in one round trip, on the assumption that all its units apply. If one does not, the statement that
notices it ends the transaction. Only then the batch is sent again in two round trips: lock and read, decide
(`refusals`), and write the units that apply. So a normal commit never waits for an extra read, and decisions are made
in one place.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Final

from msgspec.structs import replace

from tidings.model import APPLIED, NOTHING, Answer, Taken
from tidings.store import refusals
from tidings.store.postgres import changes
from tidings.store.postgres.arrays import texts
from tidings.store.postgres.connect import Database
from tidings.store.postgres.line import BEGIN, COMMIT, Answers, LeftoversFound, NumberTaken, UnitRefused, only
from tidings.store.postgres.reading import read_workflows, workflow_states
from tidings.store.postgres.statements import StatementCall, Value
from tidings.store.postgres.writer import Writer, again_if_mixed_up
from tidings.store.protocol import Batch, DataError, Fenced, Severed, Unavailable
from tidings.store.refusals import BatchDecision, States
from tidings.store.rows import Row, taken_of, workflows_by_id

logger = logging.getLogger("tidings")

_TRIES: Final = 5  # to commit, each after removing an obstacle

_LEFTOVERS: Final = ("messages", "entries", "events", "items", "closings")


class Batches:
    """Writes batches on a store's writing line."""

    def __init__(self, database: Database, writer: Writer) -> None:
        self._database = database
        self._writer = writer
        self._in_doubt: int | None = None  # The number of the last batch that may have landed without an answer.

    def commit(self, batch: Batch) -> list[Answer]:
        """See `Store.commit`."""
        try:
            for _ in range(_TRIES):
                try:
                    return self._commit_once(batch)
                except NumberTaken:
                    self._writer.put_numbers_right()
                except LeftoversFound:
                    self._remove_leftovers(batch)
            raise self._database.unavailable(
                "rows in its table of messages have the numbers that messages_seq gives, or rows of deleted workflows "
                "come back; find out which program writes them"
            )
        except Unavailable as error:
            # A pooler says that the session ended before it read this. It may have sent the batch on nevertheless.
            if error.ambiguous or isinstance(error, Severed):
                self._in_doubt = batch.number
            raise
        except Fenced:
            # A batch in doubt may land after `recall` said that it had not: see `renew_executor`.
            answers = self.recall(batch) if batch.number == self._in_doubt else None
            if answers is None:
                raise
            return answers
        except (UnicodeEncodeError, OverflowError) as error:
            raise DataError(str(error)) from error

    def recall(self, batch: Batch) -> list[Answer] | None:
        """See `Store.recall`."""
        last_batch = StatementCall("last_batch", {"executor_id": batch.executor_id})
        row = only(self._writer.write(last_batch)["last_batch"])
        if row is None or row[0] != batch.number:
            return None
        refused = refusals.decode(row[1])
        applied = [unit for index, unit in enumerate(batch.units) if index not in refused]
        answers = self._writer.write(
            workflow_states(refusals.destinations(batch.units)),
            StatementCall("messages_taken_at", changes.places_of_takes(applied)),
            read_workflows(refusals.ids_in_use(refused)),
        )
        decision = BatchDecision(refused, _states(answers["workflow_states"]))
        taken = {"take_messages": answers["messages_taken_at"]}
        return _answers(batch, decision, taken, answers["read_workflows"])

    def _commit_once(self, batch: Batch) -> list[Answer]:
        try:
            return self._commit_if_all_apply(batch)
        except UnitRefused:
            return self._commit_what_applies(batch)

    def _commit_if_all_apply(self, batch: Batch) -> list[Answer]:
        calls = (
            BEGIN,
            _renew(batch),
            *changes.start(batch.units, batch.executor_id),
            *changes.lock(batch.units),
            *changes.write(batch.units, batch),
            *changes.wake(batch.executor_id, batch.wakes, self._database.channel),
            COMMIT,
        )
        try:
            answers = self._writer.run(calls)
        except Severed:
            self._in_doubt = batch.number  # As in `commit`.
            self._writer.reopen()
            answers = self._writer.run(calls)
        decision = BatchDecision({}, _states(answers.get("check_destinations", ())))
        return _answers(batch, decision, answers, ())

    @again_if_mixed_up
    def _commit_what_applies(self, batch: Batch) -> list[Answer]:
        """Decide under locks which units apply, and write those.

        The starts come first, because only an insert shows whether an id is free. Then the states are read by a later
        statement, so it sees the changes that the starts and the locks waited for.
        """
        with self._writer.transaction():
            answers = self._writer.write(
                _renew(batch),
                *changes.start(batch.units, batch.executor_id, all_or_nothing=False),
                *changes.lock(batch.units, all_or_nothing=False),
                workflow_states(refusals.workflows_in_question(batch.units)),
            )
            started = {workflow_id for (workflow_id,) in answers.get("start_workflows", ())}
            before = _states(row for row in answers["workflow_states"] if row[0] not in started)
            decision = refusals.decide(batch.units, before)
            applied = [unit for index, unit in enumerate(batch.units) if index not in decision.refusals]
            noted: dict[str, Value] = {"refusals": refusals.encode(decision.refusals), "executor_id": batch.executor_id}
            answers = self._writer.write(
                # Withdrawn and started again, because a unit that started a workflow may be refused after all.
                StatementCall("withdraw_workflows", {"workflow_ids": texts(started)}),
                *changes.start(applied, batch.executor_id),
                *changes.write(applied, batch),
                *changes.wake(batch.executor_id, batch.wakes, self._database.channel),
                StatementCall("note_refusals", noted),
                read_workflows(refusals.ids_in_use(decision.refusals)),
                COMMIT,
            )
        return _answers(batch, decision, answers, answers["read_workflows"])

    def _remove_leftovers(self, batch: Batch) -> None:
        """Remove the leftovers of deleted workflows under the ids that this batch is about to start."""
        chosen = [unit.start.workflow_id for unit in batch.units if unit.start is not None and unit.start.is_id_chosen]
        ids: dict[str, Value] = {"workflow_ids": texts(chosen)}
        self._writer.write(*(StatementCall(f"remove_left_{what}", ids) for what in _LEFTOVERS))
        logger.warning(
            "%s: removed rows of deleted workflows whose ids are used again. The first of these ids may be %r",
            self._database.name,
            chosen[0],
        )


def _renew(batch: Batch) -> StatementCall:
    return StatementCall(
        "renew_executor",
        {
            "number": batch.number,
            "lease_until_ms": batch.now_ms + batch.lease_ms,
            "executor_id": batch.executor_id,
            "fence": batch.fence,
            "landed": batch.landed,
        },
    )


def _states(found: Iterable[Row]) -> States:
    return {workflow_id: (status, epoch) for workflow_id, status, epoch in found}


def _answers(batch: Batch, decision: BatchDecision, found: Answers, in_use: Sequence[Row]) -> list[Answer]:
    """Build the answers. Takes are numbered from 1: which message each got, and which messages wait after it."""
    refused, states = decision
    ahead: defaultdict[int, list[Taken]] = defaultdict(list)
    for number, *message in found.get("see_messages", ()):
        ahead[number].append(taken_of(tuple(message)))
    answers: list[Answer] = [
        refusals.applied(unit, states) if unit.messages and index not in refused else APPLIED
        for index, unit in enumerate(batch.units)
    ]
    takes = [index for index, unit in enumerate(batch.units) if unit.take is not None and index not in refused]
    for index in takes:
        answers[index] = NOTHING
    for number, *message in found.get("take_messages", ()):
        taken = taken_of(tuple(message))
        answers[takes[number - 1]] = replace(taken, ahead=tuple(ahead[number])) if number in ahead else taken
    if refused:
        records = workflows_by_id(in_use)
        for index, refusal in refused.items():
            answers[index] = refusals.refused(refusal, records)
    return answers
