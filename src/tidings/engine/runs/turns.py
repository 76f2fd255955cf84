"""Parallel branches: the order in which they get results, the first time and in a replay.

Branches that share something (a list they append to) depend on the order of their results. So each result gets a number
when it is handed over to be recorded. The code gets results one at a time, in the order of these numbers, and each only
when the run is at rest (`rest`). A given-up operation has a number too, because one of the program's timers may have
caused it.

A replay gives the recorded results back in the same order. It gives each one only after as many operations have begun
as had begun the first time. A new operation, and the end of the workflow, wait until all recorded results were given:
the first time, those came earlier. Some operations are recorded as begun but have no result. New operations also wait
for these to begin again, unless their branch waits for something else.

Deterministic code begins every recorded operation, so no wait lasts forever. Changed code may not begin them. If no
task can run, and all of them wait only for turns (`stuck`), the run has left its recorded path. If a task waits for
something else, it may only be slow: the log then says what is missing.

Used only on the event loop of the run. A run with one branch has no turns. A blocking workflow may run several loops in
its thread, one after another; each has its own turns. An operation that blocks the thread waits for no turn, because no
other code of the run could get a result before it.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import logging
from collections.abc import Callable, Iterable, Sequence
from contextvars import Context
from functools import partial
from typing import Any, NamedTuple, TypeVar

from tidings.core.effects import Turn
from tidings.core.history import Run
from tidings.core.places import Branch
from tidings.engine.database.chain import Chain
from tidings.engine.runs.code_limits import Limit
from tidings.engine.runs.loops import running_loop
from tidings.engine.runs.rest import CodeOf, rest_of
from tidings.engine.runs.stuck import Motion, RunOf, any_moves, motion_of, tasks_of
from tidings.engine.waiting.ticket import Ticket
from tidings.model import Unit

logger = logging.getLogger("tidings")

T = TypeVar("T")

# A run that looks stuck is checked again: first after this pause, then after longer and longer ones.
_FIRST_LOOK_SECONDS = 1.0
_LAST_LOOK_SECONDS = 60.0
_SAY_AFTER_SECONDS = 10.0
# After this many rounds of the event loop, a branch counts as slow, and others no longer wait for it.
_MOST_ROUNDS = 100
# After this many results, a thread's operation begins even if branches still have new results all the time.
_MOST_RESULTS = 100


class Beginning(NamedTuple):
    """An operation that a thread has called and that may not begin yet."""

    branch: Branch
    given: int  # How many results were given when it was called.
    alone: bool  # Whether it waits until no thread runs.


class Turns:
    """The turns of one run: which task gets the next result."""

    __slots__ = (
        "_beginning",
        "_chain",
        "_code_of",
        "_death",
        "_due",
        "_ending",
        "_given",
        "_has_rested",
        "_has_said",
        "_held",
        "_inside",
        "_is_stuck",
        "_limits",
        "_look_at",
        "_loop",
        "_new",
        "_on_the_way",
        "_round",
        "_rounds",
        "_run_of",
        "_seen",
        "_set_limits",
        "_since",
        "_waited_for",
        "_waiting",
        "calls",
        "run",
    )

    def __init__(
        self, run: Run, chain: Chain, run_of: RunOf, code_of: CodeOf, set_limits: Sequence[Limit] = ()
    ) -> None:
        self.run = run
        self._chain = chain
        self._round: object = None  # Identifies this round of the event loop, once limits are due in it.
        self._set_limits = set_limits  # Includes limits that are due or cancelled.
        self._run_of = run_of
        self._code_of = code_of
        self._loop = running_loop()  # `None` until the thread of a blocking workflow runs an event loop.
        self._inside: set[asyncio.Task[Any]] = set()  # Tasks inside an operation.
        self._held = 0  # Operations that have their result, and wait until they may hand over more.
        self._waiting: dict[int, tuple[int, asyncio.Future[None], asyncio.Task[Any] | None]] = {}
        self._new: list[asyncio.Future[None]] = []
        self._due: list[Limit] = []  # Limits that are due and have no result number yet.
        self._limits: dict[int, Limit] = {}  # Limits that are due, by their new result numbers.
        self.calls: set[str] = set()  # Calls in threads that tasks of the run await.
        self._on_the_way: set[str] = set()  # Calls that will soon call an operation, or end.
        self._waited_for: set[str] = set()  # Calls that keep all others from getting a turn.
        # Operations that threads have called and that may not begin yet.
        self._beginning: dict[asyncio.Future[None], Beginning] = {}
        # Calls that have ended and whose tasks may not continue yet.
        self._ending: dict[asyncio.Future[None], str] = {}
        self._given = 0  # How many results were given.
        self._rounds = 0
        self._death: Ticket | None = None  # Settled when the run is killed. Set while anything waits.
        self._look_at: asyncio.TimerHandle | None = None
        self._seen: object = None  # The progress of the run at the last check,
        self._since = 0.0  # and since when it is unchanged.
        self._has_rested = False  # Whether the run was at rest since the last check, and no result could be given.
        self._has_said = self._is_stuck = False
        run.when_broken = self.look
        if self._loop is not None:
            run.when_nothing_came = partial(_call_on, self._loop, self._comes_not)

    async def wait(self, turn: Turn) -> None:
        """Wait for the turn of a result, or of a new operation."""
        run, number = self.run, turn.finished
        if number is not None and not self._comes(number):
            return  # A cancellation came after the result, which the code has already.
        if run.broken is not None:
            raise run.broken
        loop = asyncio.get_running_loop()
        if self._loop is not loop:  # A blocking workflow runs an earlier loop of its own again.
            self._loop, self._look_at = loop, None
            run.when_nothing_came = partial(_call_on, loop, self._comes_not)
        if run.has_turns:
            self._watch()
        elif number is not None and self._may_come_at_once(number) and rest_of(loop, self._code_of).all_rest():
            return
        future: asyncio.Future[None] = loop.create_future()
        if number is None:
            self._new.append(future)
        else:
            self._waiting[number] = (turn.begun, future, asyncio.current_task())
        self.look()
        try:
            await future
        except asyncio.CancelledError:
            if future in self._new:
                self._new.remove(future)
            raise

    def pass_by(self, finished: int | None) -> None:
        """Let a blocking operation continue without waiting for a turn: give this result, or let a new operation begin.

        Raises:
            DBOSUnexpectedStepError: the blocking workflow continues, but the event loop that opened its branches has
                not run.
        """
        turns = self.run.turns
        if finished is None and self.run.branches_left and running_loop() is None:
            raise self.run.lacks_branch(None)
        if turns and turns[-1] == finished:
            turns.pop()
        elif finished in turns:
            turns.remove(finished)
        self.look()

    def _may_come_at_once(self, number: int) -> bool:
        return self.run.is_next(number) and not (self._held or self._waited_for or self._beginning or self._ending)

    def _comes(self, number: int) -> bool:
        coming = self.run.coming
        return number in self.run.turns or (coming is not None and number in coming)

    def branch_ends(self, path: str, task: asyncio.Task[Any]) -> None:
        """Note that a branch has ended. If it was cancelled, the rest of its entries may be missing in a replay."""
        if task.cancelled() or task.cancelling():
            self.run.excuse(path)
            self.look()

    def enters(self, task: asyncio.Task[Any]) -> bool:
        """Note that the task is inside an operation. Until its result comes, the task runs no code of the workflow.

        Returns false if the task is inside an operation already: a step.
        """
        if task in self._inside:
            return False
        self._inside.add(task)
        return True

    def leaves(self, task: asyncio.Task[Any]) -> None:
        """Note that the operation is over. The next result may have waited only for that."""
        self._inside.discard(task)
        if self._is_waited_for or self._limits:
            self.look()

    def is_inside(self, task: asyncio.Task[Any]) -> bool:
        """Tell whether the task is inside an operation."""
        return task in self._inside

    def hold(self, by: int) -> None:
        """Give no turns while an operation waits that needs none: its result has a lower number than theirs."""
        self._held += by
        if not self._held:
            self.look()

    # --- functions in threads -----------------------------------------------------------------------

    def waits_for(self, call: str) -> None:
        """Give no turns while this call runs: it will soon call its next operation, or end."""
        self._on_the_way.add(call)
        self._waited_for.add(call)

    def waits_no_more_for(self, call: str, *, is_slow: bool = False) -> None:
        """Give turns again: the call has called an operation, waits for something itself, or is slow."""
        if not is_slow:
            self._on_the_way.discard(call)
        if call in self._waited_for:
            self._waited_for.remove(call)
            self.look()

    def is_over(self, call: str) -> None:
        """Note that no task still awaits this call."""
        self.calls.discard(call)
        self.waits_no_more_for(call)
        if self._is_waited_for:
            self.look()

    async def begins(self, branch: Branch, *, alone: bool) -> None:
        """Wait until an operation that a thread has called may begin, at the next place of this branch.

        The first time, it begins after all results that have a number by then. So the entries of those results tell
        whether it had begun. In a replay it begins after the same results. A time limit, for example, may have come
        first and ended the call.

        An operation without a numbered result begins while no other thread runs (`alone`), except a slow one. Otherwise
        its thread would continue beside that thread, and the order in which they act would differ in a replay.
        """
        run = self.run
        is_next = not (run.has_turns or run.coming or self._held or self._ending or (alone and self._waited_for))
        if not is_next or not rest_of(asyncio.get_running_loop(), self._code_of).all_rest():
            await self._at_rest(self._beginning, Beginning(branch, self._given, alone))

    def may_end(self, call: str) -> asyncio.Future[None] | None:
        """Return what the task of an ended call must wait for; `None` if the task may continue.

        In a replay, that is a time limit that the call outlasted the first time. In a run that is dead, it is nothing.
        """
        if self._chain.dead is not None or call not in self.calls or not self.run.outlasts_limit(call):
            return None
        self.waits_no_more_for(call)
        return self._at_rest(self._ending, call)

    def _at_rest(self, waiting: dict[asyncio.Future[None], T], what: T) -> asyncio.Future[None]:
        if self.run.has_turns:
            self._watch()
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting[future] = what
        future.add_done_callback(lambda _: waiting.pop(future, None))
        self.look()
        return future

    def _let_threads_go_on(self) -> bool:
        """Let operations of threads begin, and tasks of ended calls continue, if nothing must come before them.

        Tells whether any did. Operations begin one by one: each may have a result at once, and be the last that may
        begin now.
        """
        run = self.run
        ended = [
            future for future, call in self._ending.items() if call not in self.calls or not run.outlasts_limit(call)
        ]
        if run.has_turns:
            begun = [future for future, each in self._beginning.items() if run.may_begin(each.branch)]
            begun.sort(key=lambda future: run.ordinal_of_next(self._beginning[future].branch))
        else:
            if self._beginning:
                run.end_waiting_receive()  # The message may take days. The receive then takes it under a new number.
            begun = [
                future
                for future, each in self._beginning.items()
                if not run.coming or self._given - each.given >= _MOST_RESULTS
            ]
        begun = [future for future in begun if not (self._beginning[future].alone and self._waited_for)][:1]
        for future in (*ended, *begun):
            _release(future)
            self._ending.pop(future, None)
            self._beginning.pop(future, None)
        self._has_rested = self._has_rested and not (ended or begun)
        return bool(ended or begun)

    # --- the next turn ------------------------------------------------------------------------------

    def look(self) -> None:
        """Give the next turn as soon as the run is at rest. May be called in any thread."""
        if self._loop is not None and self._loop is running_loop():
            rest_of(self._loop, self._code_of).ask(self)
        elif self._loop is not None:
            _call_on(self._loop, self.look)

    def leave_loop(self) -> None:
        """Stop ordering the results of this loop: the program runs another one now, and may never run this again."""
        for _, future, _ in self._waiting.values():
            _release(future)
        self._waiting.clear()
        if self.run.coming:
            self.run.coming.clear()

    def is_on(self, loop: asyncio.AbstractEventLoop) -> bool:
        """Tell whether these turns belong to tasks on this loop."""
        return self._loop is loop

    def moves(self, tasks: list[asyncio.Task[Any]]) -> bool:
        """Tell whether one of these tasks of the run is about to run code of the workflow."""
        return any_moves((task for task in tasks if task not in self._inside), self._futures())

    def motion(self) -> Motion:
        """Tell what the tasks of the run wait for."""
        return Motion.WAITS if self._is_before_limit() else motion_of(self.run, self._futures(), self._run_of)

    def comes_to_rest(self) -> None:
        """Give the next turn."""
        run = self.run
        if run.broken is not None or self._chain.dead is not None:
            self._refuse()
        elif self._held:
            return  # `hold` calls `look` again.
        elif self._let_threads_go_on():
            self.look()
        elif run.turns:
            self._give_again(run.turns[-1])
        else:
            self._give_new(next(iter(run.coming or ()), None))
        if not self._is_waited_for:
            self._unwatch()

    def _give_again(self, number: int) -> None:
        """Give this recorded result in a replay, unless a thread must continue first."""
        if self._waited_for and self.run.limit_at(number) is None:
            return  # The thread calls `look` again.
        self._has_rested = True
        if not self._give(number) and not self._waited_for:
            self._let_time_pass(number)

    def _give_new(self, number: int | None) -> None:
        """Give this new result, if there is one, unless a thread must continue first. Limits do not wait for threads.

        Then begin what waited until all recorded results were given.
        """
        run = self.run
        if self._waited_for and (number is None or not self._limits or number > max(self._limits)):
            return  # The thread calls `look` again.
        self._has_rested = True
        if number is not None:
            self._give(number)
        is_any_new = self._new or self._due or self._beginning
        if is_any_new and not (run.branches_left and self._may_still_come()):
            may_begin_now = self._beginning and run.branches_left
            run.branches_left = 0
            self._has_rested = False
            new, self._new = self._new, []
            due, self._due = self._due, []
            for future in new:
                _release(future)
            for limit in sorted(due, key=lambda each: each.when):
                self.reaches(limit)
            if may_begin_now:
                self.look()

    @property
    def _is_waited_for(self) -> bool:
        return bool(self._waiting or self._new or self._due or self._beginning or self._ending)

    def _comes_not(self, number: int) -> None:
        self.run.comes_no_more(number)
        self.look()

    def _give(self, number: int) -> bool:
        """Give this result, if its operation waits for it, or reach this time limit, if it is due.

        Tells whether it did.
        """
        run = self.run
        if number in self._limits or run.limit_at(number) is not None:
            return self._let_reach(number)
        begun, future, task = self._waiting.get(number, (0, None, None))
        if future is None or run.begun < begun:
            return False
        del self._waiting[number]
        self._has_rested = False
        self._given += 1
        if run.turns:
            run.turns.pop()
        else:
            run.comes_no_more(number)
        self._rounds = 0
        if task is not None:
            self._inside.discard(task)
        _release(future)
        self.look()
        return True

    # --- time limits --------------------------------------------------------------------------------

    def reaches(self, limit: Limit) -> None:
        """Reach a limit that is due, in its turn. A new limit comes after all results that have a number by now."""
        run = self.run
        if limit.is_cancelled:
            return
        if run.has_turns:
            self._due.append(limit)
            self._watch()
        elif limit.number is None:
            limit.comes()
        else:
            if self._round is None:
                self._round = object()
                asyncio.get_running_loop().call_soon(self._round_ends, context=Context())
            limit.round = self._round
            limit.finished = run.next_finished(None)
            self._limits[limit.finished] = limit
        self.look()

    def _round_ends(self) -> None:
        self._round = None

    def _let_reach(self, finished: int) -> bool:
        """Reach this limit, if it is due, and all limits due with it.

        Any event loop would call all of their callbacks before it runs the code.
        """
        come = self._limits_again(finished) if self.run.limit_at(finished) is not None else self._new_limits(finished)
        if not come:
            return False
        self._has_rested = False
        self._rounds = 0
        for limit in come:
            limit.comes()
        self.look()
        return True

    def _limits_again(self, finished: int) -> list[Limit]:
        run = self.run
        number = run.limit_at(finished)
        ran = None if number is None else run.ran_at(number)
        if run.lacks_begun(finished) or (ran is not None and not self.calls <= ran):
            # The first time, something came before this limit: an operation that has not begun again, or the end of a
            # call that still runs.
            return []
        due = {each.number: each for each in self._due if not each.is_cancelled}
        numbers = run.limits_at(finished)
        if not all(each in due for each in numbers):
            return []
        for each in numbers:
            self._due.remove(due[each])
            run.turns.pop()
            run.reaches_again(each)
        return [due[each] for each in numbers]

    def _new_limits(self, finished: int) -> list[Limit]:
        run, come = self.run, [self._limits[finished]]
        come += [each for number, each in self._limits.items() if number > finished and each.round is come[0].round]
        is_next = False
        for limit in come:
            number = limit.finished
            assert number is not None
            del self._limits[number]
            run.comes_no_more(number)
            if not limit.is_cancelled and limit.number is not None:
                self._chain.defer(partial(_reached, run, limit.number, number, self.calls, is_next=is_next))
                is_next = True
        return come

    def _let_time_pass(self, number: int) -> None:
        """Let limits that are due be reached when nothing else can be given in a replay.

        The first time, they were reached no later than this. Excluded are limits that are recorded as reached later,
        and any limit while a recorded one is next.
        """
        run = self.run
        self._due = [each for each in self._due if not each.is_cancelled]
        due = [
            each
            for each in self._due
            if each.number is None
            or not (self._on_the_way or run.is_to_reach(each.number) or run.limit_at(number) is not None)
        ]
        if due and self._is_any_on_its_way():
            self.look()
        elif due:
            first = min(due, key=lambda each: each.when)
            self._due.remove(first)
            self._has_rested = False
            first.comes()
            self.look()

    def _is_any_on_its_way(self) -> bool:
        """Tell whether a task is about to run, even inside an operation. It may then need its turn."""
        assert self._loop is not None
        if self._rounds >= _MOST_ROUNDS:
            return False
        self._rounds += 1
        return any_moves(tasks_of(self._loop, self._code_of).get(self.run, ()), self._futures())

    def _is_before_limit(self) -> bool:
        """Tell whether the next recorded result is a limit that the code has set and that is not due yet."""
        number = self.run.limit_at(self.run.turns[-1]) if self.run.turns else None
        return number is not None and any(each.number == number and each.is_set for each in self._set_limits)

    # --- operations that never begin ----------------------------------------------------------------

    def _may_still_come(self) -> bool:
        """Tell whether to wait for recorded open operations of branches: they begin soon, or never."""
        motion = self.motion()
        if motion is Motion.MOVES and self._rounds < _MOST_ROUNDS:
            self._rounds += 1
            self.look()
            return True
        return motion is Motion.STUCK  # `_check` confirms that the run is stuck.

    def _refuse(self) -> None:
        """End all waits of a run that is dead, or has left its recorded path."""
        error = copy.copy(self._chain.dead) or self.run.broken
        assert error is not None
        for future in self._futures():
            if not future.done():
                future.set_exception(error)
                # The waiting task raises the error. Marked as retrieved: the loop or the task may have ended already.
                future.exception()
        self._waiting.clear()
        self._new.clear()
        self._beginning.clear()
        self._ending.clear()
        for limit in (*self._due, *self._limits.values()):
            limit.comes()
        self._due.clear()
        self._limits.clear()

    def _futures(self) -> set[asyncio.Future[None]]:
        return {
            *self._new,
            *self._beginning,
            *self._ending,
            *(future for _, future, _ in self._waiting.values()),
        }

    def _watch(self) -> None:
        """Wake when the run is killed, and check after a while whether it is stuck."""
        loop = asyncio.get_running_loop()
        if self._death is None:
            death = Ticket()
            self._chain.wait(death)
            death.when_settled(self.look)
            self._death = death
        if self._look_at is None:
            self._seen = None
            self._look_at = loop.call_later(_FIRST_LOOK_SECONDS, self._check, _FIRST_LOOK_SECONDS)

    def _unwatch(self) -> None:
        if self._death is not None:
            self._chain.done_waiting(self._death)
            self._death = None
        if self._look_at is not None and not self.run.has_turns:
            self._look_at.cancel()
            self._look_at = None

    def _check(self, seconds: float) -> None:
        """Give the run up if it was stuck at the last check and has not moved since. Otherwise check again later.

        On a busy loop, two checks may follow each other directly. So a check counts only if the run was at rest since
        the one before it, and the next result could not be given. Only then is `motion` called, because it is slow.
        """
        run, loop = self.run, asyncio.get_running_loop()
        self._look_at = None
        if not self._is_waited_for:
            return
        # New operations do not count as progress: they may begin, be given up, and begin again.
        seen, self._seen = self._seen, (len(run.turns), run.branches_left)
        has_rested, self._has_rested = self._has_rested, False
        was_stuck = self._is_stuck
        self._is_stuck = seen == self._seen and has_rested and self.motion() is Motion.STUCK
        if seen != self._seen:
            self._since, self._has_said, seconds = loop.time(), False, _FIRST_LOOK_SECONDS
        elif self._is_stuck and was_stuck:  # Two checks: one misses what becomes due in the same round of the loop.
            run.lacks_branch(self._next_begun())
        elif not self._has_said and loop.time() - self._since >= _SAY_AFTER_SECONDS:
            self._say()
            self._has_said = True
        if seen == self._seen and has_rested and self._beginning and not (self._on_the_way or self._is_before_limit()):
            # An operation that fails before it takes a place (its value cannot be stored) is in no record to wait for.
            _release(next(iter(self._beginning)))
        seconds = _FIRST_LOOK_SECONDS if self._is_stuck else seconds
        self._look_at = loop.call_later(seconds, self._check, min(2 * seconds, _LAST_LOOK_SECONDS))
        self.look()

    def _next_begun(self) -> int | None:
        """Return how many operations must have begun before the next result, if it waits only for that."""
        turns = self.run.turns
        return self._waiting[turns[-1]][0] if turns and turns[-1] in self._waiting else None

    def _say(self) -> None:
        logger.warning(
            "the replay of workflow %r waits for %s, as recorded, and continues then. Its code may be slow. If it has "
            "changed, or is not deterministic, execute the workflow with the code that recorded it",
            self.run.workflow_id,
            self.run.missing(self._next_begun()),
            extra={"workflow_id": self.run.workflow_id},
        )


def _call_on(loop: asyncio.AbstractEventLoop, callback: Callable[..., None], *args: int) -> None:
    with contextlib.suppress(RuntimeError):  # The loop is closed.
        loop.call_soon_threadsafe(callback, *args)


def _reached(run: Run, number: int, finished: int, calls: Iterable[str], *, is_next: bool) -> Unit:
    return run.unit(run.reaches(number, finished, calls, is_next=is_next))


def _release(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
