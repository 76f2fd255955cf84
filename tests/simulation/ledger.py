"""What was done and seen in a simulation, and what may not be: noted, checked where it happens, and kept for the end.

The ledger is outside of all simulated processes: it forgets nothing when one dies. What a thread does that is being
killed is not noted, for it never happened.
"""

from __future__ import annotations

import json
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

from tests.simulation.scheduler import Killed, Party, Scheduler, SimThread
from tests.simulation.weather import Weather
from tests.store.model_store import ModelStore, Records
from tidings.core.history import Run
from tidings.engine.runs import scope as scopes
from tidings.engine.runs.scope import Scope
from tidings.engine.runs.thread_calls import call_here
from tidings.model import Answer, Applied, EntryState, InUse, NoSuchWorkflow, NotPending, Place, Stale, Status, Unit
from tidings.store.protocol import Batch

GAVE_UP: Final = "gave up"

_MOST_LINES: Final = 200_000

# How late a wait may be, whatever goes wrong meanwhile: what is wrong never takes so long.
_LATEST_SECONDS: Final = 300.0

# Within so long a thread that went on after a pause or a stall has done what it was about to do.
_SHORTLY_SECONDS: Final = 0.001


def position(path: str) -> list[int]:
    """Return the place of an operation, to be compared with those of its branch."""
    return [int(part) for part in path.replace("+", ".").split(".") if part.isdigit()]


class Violation(Exception):
    """Something happened that never may."""


class Ledger:
    """All that is known of one simulation."""

    def __init__(self, scheduler: Scheduler, weather: Weather) -> None:
        self._scheduler = scheduler
        self._weather = weather
        self.is_alive: Callable[[str], bool] = lambda executor_id: False
        self.lines: list[tuple[float, str, str, str, tuple[Any, ...]]] = []
        self.violations: list[str] = []
        self.counts: Counter[str] = Counter()
        self.server: ModelStore | None = None
        self.results: dict[str, dict[str, Any]] = defaultdict(dict)  # of each workflow's operations, by path
        self._given_up: dict[str, list[str]] = defaultdict(list)
        self._final: set[tuple[str, str]] = set()
        self.acknowledged: set[str] = set()  # messages whose send returned
        self._given: dict[tuple[str, int], set[str]] = defaultdict(set)  # messages that each execution was given
        self.attempted: set[str] = set()  # messages that were to be sent
        self.published: dict[tuple[str, str], set[Any]] = defaultdict(set)
        self.streams_read: list[tuple[str, str, int, list[Any], bool]] = []
        self.outcomes: dict[str, tuple[Status, str | None, str | None]] = {}
        self.results_read: list[tuple[str, Any]] = []
        self.started: list[str] = []  # workflows whose start returned
        self.cancelled: set[str] = set()  # by somebody outside, perhaps in vain
        self.cancelled_trees: set[str] = set()  # of these, with all that they have started
        self._writing: dict[str, int] = defaultdict(int)  # the epoch under which each workflow is written
        self._loops: dict[str, dict[Party, SimThread | None]] = defaultdict(dict)
        self._tries: dict[tuple[str, str], float] = {}  # when the last try of each step began
        self._event_last: dict[tuple[str, str, str], int] = {}
        self._orders: dict[Run, list[tuple[str, bool]]] = {}
        self._seen: dict[tuple[str, str, str], tuple[str, ...]] = {}  # what had come before
        self._number = 0

    @property
    def records(self) -> Records:
        """What the server holds now."""
        assert self.server is not None
        return self.server.records

    # --- notes --------------------------------------------------------------------------------------

    def note(self, what: str, *details: Any) -> None:
        """Write a line of the trace."""
        thread = self._scheduler.current
        if thread.dying:
            raise Killed
        if len(self.lines) < _MOST_LINES:
            self.lines.append((self._scheduler.now, thread.party.name, thread.name, what, details))

    def violate(self, what: str) -> None:
        """Note a violation, and stop the simulation."""
        thread = self._scheduler.current
        self.violations.append(what)
        self.lines.append((self._scheduler.now, thread.party.name, thread.name, "VIOLATION", (what,)))
        self._scheduler.stop_main(Violation(what))

    def complain(self, what: str) -> None:
        """Note what a simulated thread did that it may not, unless it is being killed."""
        if not self._scheduler.current.dying:
            self.violate(what)

    def number(self) -> int:
        """Return a number that no other call returned."""
        if self._scheduler.current.dying:
            raise Killed
        self._number += 1
        return self._number

    # --- workflows ------------------------------------------------------------------------------------

    def starts(self, workflow_id: str, *, on_loop: bool) -> None:
        """A workflow is about to be started by this thread, perhaps on its loop."""
        self.note("starts", workflow_id, on_loop)
        thread = self._scheduler.current
        # Which of several starts in a process counts, is not known here.
        is_first = thread.party not in self._loops[workflow_id]
        self._loops[workflow_id][thread.party] = thread if on_loop and is_first else None

    def execution_begins(self, scope: Scope, is_async: bool, starter: str | None) -> None:
        """A workflow function begins: the first time on the loop and in the context of its starter, if that had one."""
        workflow_id, thread = scope.run.workflow_id, self._scheduler.current
        self.note("execution begins", workflow_id, scope.run.epoch)
        self.counts["executions"] += 1
        expected = self._loops[workflow_id].get(thread.party)
        if scope.run.epoch == 1 and expected is not None:
            if starter != workflow_id:
                self.violate(f"{workflow_id} begins in the context of {starter!r}, not of its starter")
            if is_async and expected is not thread:
                self.violate(f"{workflow_id} begins on {thread.name!r}, not on the loop of its starter")

    def comes(self, run: Run, path: str, *, is_durable: bool) -> None:
        """The code of an execution gets a result. If that is durable, so is what came before it."""
        if is_durable:
            self._sees(run.workflow_id, path, self.order(run), "comes")
        self._orders.setdefault(run, []).append((path, is_durable))

    def order(self, run: Run) -> tuple[str, ...]:
        """Return the operations whose results the code of an execution has got, in that order.

        What a function in a thread does first is at the same time as what other branches do until they wait. So there
        only results that are waited for count.
        """
        is_in_thread = call_here() is not None
        return tuple(path for path, is_durable in self._orders.get(run, ()) if is_durable or not is_in_thread)

    def step_sees(self, scope: Scope, path: str, seen: tuple[str, ...]) -> None:
        """A try of a step begins, and was called after these results had come: the same, and so, at each execution."""
        self._sees(scope.run.workflow_id, path, seen, "is called")

    def _sees(self, workflow_id: str, path: str, seen: tuple[str, ...], what: str) -> None:
        first = self._seen.setdefault((workflow_id, path, what), seen)
        if seen != first and not self._was_taken_over(workflow_id):
            self.violate(f"{path} of {workflow_id} {what} after {seen}, and did so after {first}")

    def step_begins(self, scope: Scope, path: str, events: tuple[str, list[int]], items: tuple[str, list[int]]) -> None:
        """A try of a step begins: the step is not recorded yet, and what came before it is."""
        run, attempt = scope.run, scope.attempt
        assert attempt is not None
        self.note("step begins", run.workflow_id, path, attempt.number)
        # Its limit counts since shortly before. If its thread was held up in between, any time is enough.
        was_held_up = self._scheduler.now - self._scheduler.current.went_on_at < _SHORTLY_SECONDS
        self._tries[run.workflow_id, path] = -math.inf if was_held_up else self._scheduler.now
        self.counts["tries of steps"] += 1
        if run.workflow_id not in self.records.workflows:
            self.violate(f"a step of {run.workflow_id} begins, and the workflow is not recorded")
        if self._was_taken_over(run.workflow_id):
            return  # It does not know yet.
        place = Place(attempt.slot.branch, attempt.slot.number)
        found = self.records.entries.get((run.workflow_id, *place))
        if found is not None and found.entry.state is EntryState.DONE:
            self.violate(f"step {path} of {run.workflow_id} runs again, though its result is recorded")
        self._check_durable(run.workflow_id, path, *events, self.records.events)
        self._check_durable(run.workflow_id, path, *items, self.records.items)
        sent = [each for each in self.records.messages.values() if each.message.destination_id == run.workflow_id]
        unread = {str(json.loads(each.message.body)) for each in sent if each.read_by is None}
        if early := unread & self._given[run.workflow_id, run.epoch]:
            self.violate(f"step {path} of {run.workflow_id} begins before it is durable that {early} was received")

    def _check_durable(
        self, workflow_id: str, path: str, key: str, values: list[int], stored: dict[tuple[str, str, int], Any]
    ) -> None:
        if values:
            durable = {each.value for place, each in stored.items() if place[:2] == (workflow_id, key)}
            missing = [value for value in values if str(value) not in durable]
            if missing:
                self.violate(f"step {path} of {workflow_id} begins before {missing} of {key!r} are durable")

    def sends(self, body: list[Any], to: str, topic: str | None) -> None:
        """A message is about to be sent; perhaps not for the first time."""
        self.note("sends", body, to, topic)
        self.attempted.add(str(body))

    def sent(self, body: list[Any]) -> None:
        """The send of a message returned."""
        self.note("sent", body)
        self.acknowledged.add(str(body))

    def received(self, body: list[Any] | None) -> None:
        """The workflow that is being executed was given a message, or nothing."""
        scope = scopes.current()
        if body is not None and scope is not None:
            self._given[scope.run.workflow_id, scope.run.epoch].add(str(body))

    def publishes(self, workflow_id: str, key: str, value: int) -> None:
        """An event is about to be published."""
        self.note("publishes", workflow_id, key, value)
        self.published[workflow_id, key].add(value)

    def result(self, workflow_id: str, path: str, value: Any) -> None:
        """An operation of a workflow gave its result to the code. It gives the same again, whoever executes it."""
        self.note("result", workflow_id, path, value)
        self.counts["operations"] += 1
        if value == GAVE_UP and self._was_taken_over(workflow_id):
            return  # That an operation was given up is recorded later, and this execution records nothing more.
        results = self.results[workflow_id]
        branch = path.rpartition(".")[0]
        was_open = results.get(path) == GAVE_UP and (workflow_id, path) not in self._final
        if path in results and results[path] != value and not was_open:
            self.violate(f"{workflow_id} {path} gave {results[path]!r} once, and now {value!r}")
        results[path] = value
        if value == GAVE_UP:
            self._given_up[f"{workflow_id} {branch}"].append(path)
        elif value is not None:  # What is given has been committed, and all before it in this branch.
            given_up = self._given_up[f"{workflow_id} {branch}"]
            self._final.update((workflow_id, each) for each in given_up if position(each) < position(path))

    def _was_taken_over(self, workflow_id: str) -> bool:
        """Tell whether the execution that the running thread is in counts no more."""
        scope, workflow = scopes.current(), self.records.workflows.get(workflow_id)
        return scope is not None and workflow is not None and scope.run.epoch != workflow.epoch

    # --- time ---------------------------------------------------------------------------------------

    def clock_steps(self, seconds: float) -> None:
        """The server's clock was set. No thread did it."""
        self.counts["clock steps"] += 1
        self.lines.append((self._scheduler.now, "", "", "the clock steps", (seconds,)))

    def now(self) -> float:
        """Return the time that no clock of the simulated world shows."""
        return self._scheduler.now

    def waited(self, workflow_id: str, path: str, began: float, seconds: float) -> None:
        """A wait of a workflow was over when its time was up."""
        passed = self._scheduler.now - began
        if passed > seconds + _LATEST_SECONDS:
            self.complain(f"{workflow_id} {path} waited {passed:.1f} s where it was to wait {seconds} s")

    def limit_passed(self, workflow_id: str, path: str, limit: float) -> None:
        """A step was told that its time is up."""
        passed = self._scheduler.now - self._tries.get((workflow_id, path), 0.0)
        if passed < limit - 0.01:  # It counts in ms.
            self.complain(f"step {path} of {workflow_id} was given up after {passed:.2f} s, its limit is {limit} s")

    def claimed_from(self, executor_ids: Collection[str]) -> None:
        """A process claims what these own, for they are dead: where nothing goes wrong none is that lives."""
        rows = self.records.executors
        # A client that polls renews nothing, and owns nothing.
        hosts = [each for each in executor_ids if each in rows and rows[each].app_version is not None]
        alive = [each for each in hosts if self.is_alive(each)]
        if alive and self._weather.is_calm:
            self.violate(f"{alive} are taken for dead, and live")

    # --- what is seen from outside ----------------------------------------------------------------------

    def event_read(self, reader: str, workflow_id: str, key: str, value: Any) -> None:
        """A reader got the value of an event: one that was published, and no older one than before."""
        self.note("event", workflow_id, key, value)
        self.counts["events read"] += 1
        last = self._event_last.get((reader, workflow_id, key))
        if value is None:
            if last is not None:
                self.violate(f"{reader} read {last} of {key!r} of {workflow_id}, and later nothing")
            return
        if value not in self.published[workflow_id, key]:
            self.violate(f"{reader} read {value!r} of {key!r} of {workflow_id}, which was never published")
        if last is not None and value < last:
            self.violate(f"{reader} read {last} of {key!r} of {workflow_id}, and later {value}")
        self._event_last[reader, workflow_id, key] = value

    def stream_read(self, workflow_id: str, key: str, offset: int, values: list[Any], is_whole: bool) -> None:
        """A reader got these values from an offset on; all there are if `is_whole`."""
        self.note("stream", workflow_id, key, offset, values, is_whole)
        self.counts["streams read"] += 1
        self.streams_read.append((workflow_id, key, offset, values, is_whole))

    def result_read(self, workflow_id: str, result: Any) -> None:
        """Somebody got the result of a workflow; `None` if it was cancelled."""
        self.note("result of", workflow_id, result)
        self.results_read.append((workflow_id, result))

    def came(self, workflow_id: str) -> None:
        """A loop over workflows gave this one: it has ended."""
        self.note("came", workflow_id)
        self.counts["came in a loop"] += 1
        if workflow_id not in self.outcomes:
            self.violate(f"a loop gave {workflow_id}, which has not ended")

    def cancels(self, workflow_id: str, *, children: bool = False) -> None:
        """A workflow is about to be cancelled, and all that it has started, maybe."""
        self.note("cancels", workflow_id, children)
        self.cancelled.add(workflow_id)
        if children:
            self.cancelled_trees.add(workflow_id)

    def tree_was_cancelled(self, workflow_id: str) -> None:
        """The cancellation of a workflow and all that it has started returned: none of that is pending."""
        pending = [
            each for each in self.records.workflows if each not in self.outcomes and workflow_id in self.above(each)
        ]
        if pending:
            self.violate(f"{workflow_id} was cancelled with its children, and {pending} have not ended")

    def above(self, workflow_id: str) -> list[str]:
        """Return what has started a workflow, what has started that, and so on."""
        found: list[str] = []
        while (workflow := self.records.workflows.get(workflow_id)) is not None and workflow.parent_id is not None:
            workflow_id = workflow.parent_id
            found.append(workflow_id)
        return found

    def was_cancelled(self, workflow_id: str) -> None:
        """The cancellation returned: the workflow has ended, so or otherwise."""
        self.note("cancelled", workflow_id)
        if workflow_id not in self.outcomes:
            self.violate(f"{workflow_id} was cancelled, and has not ended")

    # --- the server's side ----------------------------------------------------------------------------

    def landed(self, batch: Batch, answers: Sequence[Answer]) -> None:
        """Look at a batch that was just committed."""
        self.counts["batches"] += 1
        for unit, answer in zip(batch.units, answers, strict=True):  # Before the ends that this batch brings.
            if isinstance(answer, Applied) and unit.publishes and unit.workflow_id in self.outcomes:
                self.violate(f"{unit.workflow_id} has ended, and readers may know; it published more: {unit!r}")
        for unit, answer in zip(batch.units, answers, strict=True):
            self.counts["units"] += 1
            if not isinstance(answer, (NoSuchWorkflow, InUse, Stale, NotPending)):
                self._applied(batch, unit)
            if isinstance(answer, Applied):
                for workflow_id in unit.cancels:
                    self._ended(workflow_id)

    def _applied(self, batch: Batch, unit: Unit) -> None:
        self.counts["messages"] += len(unit.messages)
        self.counts["stream items"] += unit.item is not None
        self.counts["events"] += unit.event is not None
        if unit.workflow_id is None:
            return
        workflow = self.records.workflows[unit.workflow_id]
        if unit.start is not None and unit.start.workflow_id == unit.workflow_id:
            return
        if unit.recovery is not None:
            return  # It comes from no run, and the store looks at its epoch.
        # The epoch may be higher than that of its only run: a claim whose answer was lost may land late, once more.
        latest = self._writing[unit.workflow_id] = max(unit.epoch, self._writing[unit.workflow_id])
        if unit.epoch < latest or workflow.executor_id != batch.executor_id:
            self.violate(
                f"{batch.executor_id} wrote for {unit.workflow_id} under epoch {unit.epoch}, which "
                f"{workflow.executor_id} has under epoch {workflow.epoch}: {unit!r}"
            )
        if unit.outcome is not None:
            self._ended(unit.workflow_id)
        elif self.outcomes.get(unit.workflow_id, (None,))[0] in (Status.SUCCESS, Status.ERROR):
            self.violate(f"{unit.workflow_id} has ended, and wrote more: {unit!r}")

    def _ended(self, workflow_id: str) -> None:
        workflow = self.records.workflows[workflow_id]
        if workflow_id in self.outcomes:
            self.violate(f"{workflow_id} has ended twice: {self.outcomes[workflow_id]!r}, {workflow.status}")
        self.outcomes[workflow_id] = workflow.status, workflow.output, workflow.error
