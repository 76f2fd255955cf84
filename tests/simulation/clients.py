"""What programs do that run no workflows: they send, read, await and cancel, from outside."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from random import Random
from typing import Any, Final

from tests.simulation.ledger import Ledger
from tests.simulation.plots import SURE, TOPICS, Plot, sure_messages
from tests.simulation.programs import event_key, stream_key, workflow_of
from tests.simulation.stories import Call, LoopOver, NextOf, Pause, Result, StartOf, Story, Target, Values
from tidings.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSNonExistentWorkflowError,
    DBOSStreamTimeoutError,
)

_AGAIN_SECONDS: Final = 0.3


class Visitor:
    """One program, or thread of one, that does one thing after the other."""

    def __init__(
        self,
        name: str,
        dice: Random,
        plots: list[Plot],
        ledger: Ledger,
        also: Random,
        starting: Sequence[Plot] = (),
    ) -> None:
        """Take what there is to visit, and what may be started besides by one who can.

        What the other dice, `also`, decide came later: what else a seed holds is as it was.
        """
        self.name = name
        self._dice = dice
        self._also = also
        self._plots = plots
        self._ledger = ledger
        self._starting = starting
        self._number = 0

    def story(self, face: Target) -> Story[None]:
        """Do some things of each kind, in an order that is drawn."""
        kinds = [self._sends, self._reads_events, self._reads_stream, self._awaits, self._repeats]
        if self._dice.random() < 0.2:
            kinds.append(self._cancels)
        if self._starting:
            kinds += [self._starts] * 3
        for _ in range(self._dice.randint(2, 7)):
            kind = self._dice.choice(kinds)
            yield Pause(self._dice.random() * self._dice.choice((0.01, 0.5, 2.0)))
            yield from kind(face, self._dice.choice(self._plots).name)
        if self._also.random() < 0.3:
            yield from self._loops(face)

    def only_starts(self, face: Target) -> Story[None]:
        """Start some workflows, and await some of them."""
        for _ in range(self._dice.randint(1, 3)):
            yield Pause(self._dice.random() * self._dice.choice((0.01, 0.5, 2.0)))
            yield from self._starts(face, "")

    def sends_surely(self, face: Target, only: str | None = None) -> Story[None]:
        """Send what workflows wait for without a limit. Sent by others too: the key makes it one."""
        for plot in self._plots:
            if only in (None, plot.name):
                for number in range(sure_messages(plot)):
                    yield from self._send(face, plot.name, [f"sure {plot.name}", number], SURE, f"sure {number}")

    def _sends(self, face: Target, to: str) -> Story[None]:
        topic = self._dice.choice(TOPICS)
        for _ in range(self._dice.choice((1, 2, 3, 9))):
            self._number += 1
            yield from self._send(face, to, [self.name, self._number], topic, None)

    def _repeats(self, face: Target, to: str) -> Story[None]:
        """Send with a key, perhaps twice."""
        yield from self.sends_surely(face, to)
        self._number += 1
        body = [self.name, self._number]
        for _ in range(self._dice.randint(1, 2)):
            yield from self._send(face, to, body, "a", f"{self.name} {self._number}")

    def _send(self, face: Target, to: str, body: list[Any], topic: str | None, key: str | None) -> Story[None]:
        self._ledger.sends(body, to, topic)
        for _ in range(100):
            try:
                yield Call(face, "send", to, body, topic, key)
            except DBOSNonExistentWorkflowError:
                yield Pause(_AGAIN_SECONDS)
            else:
                self._ledger.sent(body)
                return

    def _reads_events(self, face: Target, of: str) -> Story[None]:
        for _ in range(self._dice.randint(1, 4)):
            value = yield Call(face, "get_event", of, event_key(""), self._dice.choice((0, 0.5, 3)))
            self._ledger.event_read(self.name, of, event_key(""), value)
            yield Pause(self._dice.random())

    def _reads_stream(self, face: Target, of: str) -> Story[None]:
        offset = self._dice.choice((0, 0, 0, 2))
        values: list[Any] = []
        try:
            timeout = self._dice.choice((0.5, 3.0, None))
            yield Values(values.append, face, of, stream_key(""), offset=offset, timeout_seconds=timeout)
            is_whole = True
        except (DBOSStreamTimeoutError, DBOSNonExistentWorkflowError):
            is_whole = False
        self._ledger.stream_read(of, stream_key(""), offset, values, is_whole)

    def _awaits(self, face: Target, of: str) -> Story[None]:
        try:
            handle = yield Call(face, "retrieve_workflow", of)
            result = yield Result(handle)
        except DBOSNonExistentWorkflowError:
            return
        except DBOSAwaitedWorkflowCancelledError:
            result = None
        self._ledger.result_read(of, result)

    def _starts(self, face: Target, _: str) -> Story[None]:
        plot = self._dice.choice(self._starting)
        handle = yield StartOf(plot, workflow_of(plot))
        self._ledger.note("started", handle.workflow_id)
        self._ledger.started.append(handle.workflow_id)
        if self._dice.random() < 0.5:
            with contextlib.suppress(DBOSAwaitedWorkflowCancelledError):
                yield Result(handle)

    def _loops(self, face: Target) -> Story[None]:
        """Loop over some workflows, to the end, or until the time is up."""
        which = self._also.sample(self._plots, min(len(self._plots), 3))
        timeout = self._also.choice((None, 0.5, 3.0))
        handles = []
        try:
            for plot in which:
                handle = yield Call(face, "retrieve_workflow", plot.name)
                handles.append(handle)
            loop = yield LoopOver(face, handles, timeout)
            found = set()
            while (handle := (yield NextOf(loop))) is not None:
                self._ledger.came(handle.workflow_id)
                found.add(handle.workflow_id)
        except (DBOSNonExistentWorkflowError, TimeoutError):
            return
        if found != {plot.name for plot in which}:
            self._ledger.violate(f"a loop over {[plot.name for plot in which]} is over after {sorted(found)}")

    def _cancels(self, face: Target, which: str) -> Story[None]:
        children = self._also.random() < 0.5
        self._ledger.cancels(which, children=children)
        try:
            yield Call(face, "cancel_workflow", which, cancel_children=children)
        except DBOSNonExistentWorkflowError:
            return
        self._ledger.was_cancelled(which)
        if children:
            self._ledger.tree_was_cancelled(which)
