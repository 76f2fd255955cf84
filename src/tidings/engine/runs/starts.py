"""The starts of this process that were handed over, or will be, and whose runs have not begun.

Each belongs to its *starter*: the task or thread that called `start_workflow`. The starter begins the run once it knows
that the start is durable. On a busy event loop that may be much later. The start remains the starter's all that time:
nothing depends on how long it takes, or on how many starts there are. A start is given up only if its starter has
ended: it was cancelled, it raised an exception, or its loop was closed.

Not thread-safe, except for `give_up`. The runner holds its lock around all other calls.
"""

from __future__ import annotations

from collections import deque

from tidings.engine.runs.live import LiveRun


class Starts:
    """Planned runs by workflow. Several callers may be starting the same workflow at once."""

    def __init__(self) -> None:
        self._planned: dict[str, list[LiveRun]] = {}
        self._given_up: deque[LiveRun] = deque()  # Appending is atomic.

    def add(self, live: LiveRun) -> None:
        """Add a run that its starter will begin."""
        self._planned.setdefault(live.run.workflow_id, []).append(live)

    def of(self, workflow_id: str) -> list[LiveRun]:
        """Return the planned runs of a workflow."""
        return list(self._planned.get(workflow_id, ()))

    def begun(self, live: LiveRun) -> None:
        """Note that a run has begun."""
        live.has_begun = True
        self.forget(live)

    def forget(self, live: LiveRun) -> None:
        """Remove a run: it has begun, was refused, or was given up."""
        workflow_id = live.run.workflow_id
        planned = self._planned.get(workflow_id)
        if planned is not None and live in planned:
            planned.remove(live)
            if not planned:
                del self._planned[workflow_id]

    def give_up(self, live: LiveRun) -> None:
        """Note that the starter of this run has ended, unless the run has begun. Takes no lock."""
        self._given_up.append(live)

    def take_given_up(self) -> list[LiveRun]:
        """Return the runs whose starters have ended.

        If the answer to a start is not known yet, call `give_up` again for its run when the answer is there.
        """
        given_up = [live for each in self._planned.values() for live in each if live.has_lost_its_loop]
        while self._given_up:
            given_up.append(self._given_up.popleft())
        for live in given_up:
            if not live.has_begun:
                live.is_given_up = True
                self.forget(live)
        return given_up
