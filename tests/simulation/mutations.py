"""Defects, put into the engine or its store on purpose: a simulation that does not find them is worth nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest.mock import patch

from msgspec.structs import replace

from tests.simulation.primitives import Lock
from tests.simulation.processes import Files
from tests.simulation.scheduler import playing
from tests.simulation.server import Server
from tests.store.model_store import ModelStore
from tidings.core.ahead import Ahead
from tidings.core.effects import Due
from tidings.core.history import Run, Slot
from tidings.core.operations import recorded
from tidings.core.places import Branch
from tidings.engine.database.chain import Chain
from tidings.engine.database.committer import Committer
from tidings.engine.database.hearing import Hearing
from tidings.engine.ownership.supervisor import Supervisor
from tidings.engine.runs import code_timers, turns
from tidings.engine.runs.live import LiveRun
from tidings.engine.runs.runner import Runner
from tidings.engine.runs.stuck import Motion
from tidings.engine.runs.thread_calls import ThreadCall
from tidings.engine.waiting import clock
from tidings.engine.waiting.clock import OffsetClock
from tidings.engine.waiting.jobs import Job
from tidings.engine.waiting.ticket import Ticket
from tidings.engine.waiting.timers import Timers
from tidings.model import APPLIED, Answer, Executor, History, OutgoingMessage, Taken, Unit

Mutation = Callable[[], AbstractContextManager[object]]


def a_store_that_delivers_a_message_twice() -> AbstractContextManager[object]:
    """Every third message that is taken stays unread."""
    real = ModelStore._take

    def take(self: ModelStore, unit: Unit) -> Answer:
        answer = real(self, unit)
        if isinstance(answer, Taken) and answer.seq % 3 == 0:
            self.records.messages[answer.seq] = replace(self.records.messages[answer.seq], read_by=None)
        return answer

    return patch.object(ModelStore, "_take", take)


def a_store_that_loses_a_message() -> AbstractContextManager[object]:
    """Each seventh message is acknowledged, and not kept."""
    real, count = ModelStore._send, iter(range(1_000_000))

    def send(self: ModelStore, message: OutgoingMessage) -> None:
        if next(count) % 7 != 6:
            real(self, message)

    return patch.object(ModelStore, "_send", send)


def a_store_whose_events_run_backwards() -> AbstractContextManager[object]:
    """The first version of an event is given again, now and then."""
    real = ModelStore._values
    count = iter(range(1_000_000))

    def values(self: ModelStore, workflow_id: str) -> dict[str, str]:
        found = real(self, workflow_id)
        if next(count) % 5 == 0:
            first = {event.key: event.value for event in self._events(workflow_id) if event.version == 1}
            found.update(first)
        return found

    return patch.object(ModelStore, "_values", values)


def a_store_that_forgets_the_last_entry() -> AbstractContextManager[object]:
    """A history that is read lacks its last entry."""
    real = ModelStore._history

    def history(self: ModelStore, workflow_id: str) -> History:
        found = real(self, workflow_id)
        return replace(found, entries=found.entries[:-1]) if len(found.entries) > 2 else found

    return patch.object(ModelStore, "_history", history)


def a_store_that_lets_what_has_ended_publish() -> AbstractContextManager[object]:
    """What a run writes behind the end of its workflow is kept."""
    return patch.object(ModelStore, "_may_publish", lambda self, unit: APPLIED)


def a_fence_that_is_not_checked() -> AbstractContextManager[object]:
    """Every executor may write."""

    def own(self: ModelStore, executor_id: str, fence: int) -> Executor:
        return self.records.executors.get(executor_id) or Executor(executor_id, "", 0, fence)

    return patch.object(ModelStore, "_own", own)


def a_claim_that_raises_no_fence() -> AbstractContextManager[object]:
    """Who was taken over learns nothing of it."""
    real = Server.claim

    def claim(self: Server, *args: Any, **kwargs: Any) -> list[Any]:
        fences = {each.executor_id: each.fence for each in self.records.executors.values()}
        claimed = real(self, *args, **kwargs)
        del fences[args[0].executor_id]  # Its own.
        for executor_id, fence in fences.items():
            if executor_id in self.records.executors:
                row = self.records.executors[executor_id]
                self.records.executors[executor_id] = replace(row, fence=fence)
        return claimed

    return patch.object(Server, "claim", claim)


def a_committer_that_tells_before_the_commit() -> AbstractContextManager[object]:
    """Whoever waits for a unit goes on when it is about to be written."""
    real = Committer._write

    def write(self: Committer, jobs: list[Job]) -> Any:
        for job in jobs:
            if job.unit.take is None and job.unit.start is None:
                job.settle(APPLIED)
        return real(self, jobs)

    return patch.object(Committer, "_write", write)


def a_committer_that_asks_not_whether_a_batch_landed() -> AbstractContextManager[object]:
    """A batch that may have landed is written again."""
    real = Committer._retrying
    return patch.object(Committer, "_retrying", lambda self, ask, recall=None, **given: real(self, ask, None, **given))


def a_committer_that_names_nobody_to_wake() -> AbstractContextManager[object]:
    """Other processes hear of nothing."""
    return patch.object(Committer, "_names_for_others", lambda self, jobs: [name for job in jobs for name in job.wakes])


def a_lost_wake_up_without_a_look() -> AbstractContextManager[object]:
    """Nobody looks, whatever may have been missed."""

    def recheck(self: Hearing) -> None:
        self._recheck_at = playing().now + 30

    return patch.object(Hearing, "_recheck", recheck)


def a_barrier_that_does_not_wait() -> AbstractContextManager[object]:
    """A step begins before what came earlier is durable."""
    return patch.object(Chain, "barrier", lambda self: None)


def runs_that_keep_what_they_saw_when_branches_open() -> AbstractContextManager[object]:
    """Branches take what another one has seen already."""
    return patch.multiple(Ahead, branch_opens=lambda self: None, branch_ends=lambda self, _=None: None)


def replays_that_take_what_is_slow_for_stuck() -> AbstractContextManager[object]:
    """Whatever the branches of a replay wait for, it is soon given up."""
    stack = ExitStack()
    stack.enter_context(patch.object(turns.Turns, "motion", lambda self: Motion.STUCK))
    stack.enter_context(patch.object(turns, "_FIRST_LOOK_SECONDS", 0.01))
    return stack


def runs_that_outlive_a_takeover() -> AbstractContextManager[object]:
    """A process goes on with what another one took over."""
    stack = ExitStack()
    stack.enter_context(patch.object(Runner, "kill_lost", lambda self, owned: None))
    stack.enter_context(patch.object(Runner, "kill_all", lambda self, reason, **_: None))
    return stack


def a_supervisor_that_does_not_look_for_what_is_unattended() -> AbstractContextManager[object]:
    """What a process owns and does not execute stays so."""
    return patch.object(Supervisor, "_resume_unattended", lambda self: None)


def a_start_that_is_known_only_when_its_caller_goes_on() -> AbstractContextManager[object]:
    """While a loop is blocked, what was started on it looks as if nobody executed it."""
    begin = Runner.begin

    def recorded(self: Runner, live: LiveRun) -> None:
        live.is_recorded = True

    def begin_late(self: Runner, live: LiveRun) -> None:
        if not self.runs(live.run.workflow_id):
            self._add(live)
        begin(self, live)

    return patch.multiple(Runner, recorded=recorded, begin=begin_late)


def a_ticket_that_looks_before_it_is_watched() -> AbstractContextManager[object]:
    """Between the look and the wait it may be settled, and nobody is woken."""

    def result(self: Ticket) -> Any:
        if not self.settled:
            door = Lock()
            door.acquire()
            self._publish(door.release)
            door.acquire()
        return self._unwrap()

    return patch.object(Ticket, "result", result)


def children_that_keep_the_lock_of_their_parent() -> AbstractContextManager[object]:
    """A child that was forked keeps what its parent had open, also where that is no longer there."""
    return patch.object(Files, "hold", lambda self, owner, file_of: None)


def waits_on_the_stores_clock_alone() -> AbstractContextManager[object]:
    """A clock that is set back makes waits longer."""

    def due_ms(self: OffsetClock, due: Due) -> int:
        left = due.longest_ms if due.deadline_ms is None else due.deadline_ms - self.now_ms()
        return self.own_ms() + left

    return patch.object(OffsetClock, "due_ms", due_ms)


def limits_on_the_stores_clock() -> AbstractContextManager[object]:
    """A clock that is set forward ends steps early."""
    plainly_at, plainly_begin = Timers.at, Timers.begin

    def move(timers: Timers, due: Due) -> None:
        if due.own_ms is None and due.deadline_ms is None:
            due.deadline_ms = timers._clock.now_ms() + due.longest_ms

    def at(self: Timers, due: Due, ticket: Ticket) -> None:
        move(self, due)
        plainly_at(self, due, ticket)

    def begin(self: Timers, due: Due) -> None:
        move(self, due)
        plainly_begin(self, due)

    stack = ExitStack()
    stack.enter_context(patch.object(Timers, "at", at))
    stack.enter_context(patch.object(Timers, "begin", begin))
    stack.enter_context(patch.object(clock, "GRACE_MS", 0))
    return stack


def leases_on_the_stores_clock() -> AbstractContextManager[object]:
    """After a clock was set back, idle processes renew nothing."""

    def renew(self: Supervisor) -> None:
        committer, now_ms = self._parts.committer, self._parts.clock.now_ms()
        if now_ms - (committer.renewed_until_ms - self._lease_ms) >= self._lease_ms // 3:
            Chain(committer).commit(Unit()).result()

    return patch.multiple(Supervisor, _renew=renew)


def results_that_come_as_soon_as_they_are_there() -> AbstractContextManager[object]:
    """At first, branches get their results in whatever order their tasks are woken; a replay gives them by number."""

    def comes(_: Slot) -> Iterator[None]:
        return iter(())

    return patch.object(recorded, "_comes", comes)


def results_that_do_not_wait_for_threads() -> AbstractContextManager[object]:
    """A branch gets its result while a function in a thread is still on its way with the one before."""

    def goes_on(_: ThreadCall) -> None:
        """Let others have their turns."""

    return patch.object(ThreadCall, "goes_on", goes_on)


def threads_that_begin_operations_as_they_come() -> AbstractContextManager[object]:
    """In a replay a thread takes the place of what its task called when a time limit had ended the call."""

    async def begins(_: turns.Turns, __: Branch) -> None:
        """Let it begin."""

    return patch.object(turns.Turns, "begins", begins)


def time_limits_that_come_when_they_are_due() -> AbstractContextManager[object]:
    """Nothing records them, and a replay knows nothing of them."""
    return patch.object(code_timers, "_limit", lambda *_: None)


def cancelled_branches_that_take_the_turns_of_what_they_made() -> AbstractContextManager[object]:
    """Their tasks go on, out of turn."""
    real = Run.excuse

    def excuse(self: Run, branch: str) -> None:
        for each in {place.branch for place in self._recorded if place.branch.startswith(f"{branch}.")}:
            real(self, each)
        real(self, branch)

    return patch.object(Run, "excuse", excuse)


MUTATIONS: tuple[Mutation, ...] = (
    a_store_that_delivers_a_message_twice,
    a_store_that_loses_a_message,
    a_store_whose_events_run_backwards,
    a_store_that_forgets_the_last_entry,
    a_store_that_lets_what_has_ended_publish,
    a_fence_that_is_not_checked,
    a_claim_that_raises_no_fence,
    a_committer_that_tells_before_the_commit,
    a_committer_that_asks_not_whether_a_batch_landed,
    a_committer_that_names_nobody_to_wake,
    a_lost_wake_up_without_a_look,
    a_barrier_that_does_not_wait,
    runs_that_keep_what_they_saw_when_branches_open,
    replays_that_take_what_is_slow_for_stuck,
    runs_that_outlive_a_takeover,
    a_supervisor_that_does_not_look_for_what_is_unattended,
    a_start_that_is_known_only_when_its_caller_goes_on,
    a_ticket_that_looks_before_it_is_watched,
    children_that_keep_the_lock_of_their_parent,
    waits_on_the_stores_clock_alone,
    limits_on_the_stores_clock,
    leases_on_the_stores_clock,
    results_that_come_as_soon_as_they_are_there,
    results_that_do_not_wait_for_threads,
    threads_that_begin_operations_as_they_come,
    time_limits_that_come_when_they_are_due,
    cancelled_branches_that_take_the_turns_of_what_they_made,
)
