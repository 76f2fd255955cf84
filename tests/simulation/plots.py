"""What workflows do, drawn by the seed. A plot is the code of a workflow: the same however often it is executed.

Whoever waits without a limit waits for something that comes: for the message of a client that sends it until it knows
that it was sent, for a child, or for something of a workflow that was planned earlier. So every plot has an end.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

SURE: Final = "sure"  # the topic of messages that are sent for certain
FROM_STEPS: Final = "step"
TOPICS: Final = (None, "a")


class Step(Struct, frozen=True):
    """Run user code, whose first tries may fail, and which may write, publish and send."""

    failing: int = 0
    is_async: bool = False
    seconds: float = 0.0
    limit: float | None = None
    writes: bool = False
    publishes: bool = False
    sends_to: str | None = None


class Send(Struct, frozen=True):
    """Send some messages to a workflow, in one bulk if there are several."""

    to: str
    topic: str | None
    count: int = 1


class Receive(Struct, frozen=True):
    """Receive a message."""

    topic: str | None
    timeout_seconds: float | None


class Drain(Struct, frozen=True):
    """Receive all messages that are there, or so many; and run a step after each, maybe."""

    topic: str | None
    most: int = 50
    with_steps: bool = False


class GiveUp(Struct, frozen=True):
    """Await a message under `asyncio.timeout`."""

    topic: str | None
    seconds: float


class Publish(Struct, frozen=True):
    """Set the event of this branch."""


class Look(Struct, frozen=True):
    """Get the event of the root branch of a workflow."""

    of: str
    timeout_seconds: float | None


class Write(Struct, frozen=True):
    """Write some values to the stream of this branch."""

    count: int


class Close(Struct, frozen=True):
    """Close the stream of this branch; it is the last to write there."""


class Read(Struct, frozen=True):
    """Read the stream of the root branch of a workflow, to its end or until nothing comes in time."""

    of: str
    timeout_seconds: float | None


class Sleep(Struct, frozen=True):
    """Sleep durably."""

    seconds: float


class Child(Struct, frozen=True):
    """Start a child, and await its result: at once, or at the end."""

    plot: Plot
    is_awaited: bool


class Crew(Struct, frozen=True):
    """Start several children, and loop over them as they end; past the timeout begin another loop, without one."""

    plots: tuple[Plot, ...]
    timeout_seconds: float | None


class Branches(Struct, frozen=True):
    """Do several things at once."""

    branches: tuple[tuple[Act, ...], ...]
    in_threads: tuple[bool, ...]  # which of them functions do that are called in threads


class Limited(Struct, frozen=True):
    """Do several things at once within a time, by a `gather`, a group, or `asyncio.wait`; or one, in a thread."""

    branches: tuple[tuple[Act, ...], ...]
    seconds: float
    by: str
    in_threads: tuple[bool, ...]  # which of them functions do that are called in threads


class CutShort(Struct, frozen=True):
    """Cancel branches that wait for what never comes, and let each clean up by a step."""

    count: int


class Detached(Struct, frozen=True):
    """Cancel a branch that has run a step, and let the tasks that it had made go on."""

    branches: tuple[tuple[Act, ...], ...]


Act = (
    Step
    | Send
    | Receive
    | Drain
    | GiveUp
    | Publish
    | Look
    | Write
    | Close
    | Read
    | Sleep
    | Child
    | Crew
    | Branches
    | Limited
    | CutShort
    | Detached
)


class Plot(Struct, frozen=True):
    """What a workflow does. It is blocking or awaiting."""

    name: str
    is_async: bool
    acts: tuple[Act, ...]
    limit: float | None = None  # seconds, from its start to its end


class Author:
    """Draws plots."""

    def __init__(self, dice: Random, workflow_ids: list[str], crews: Random) -> None:
        """Take the dice, and the ids of all workflows that there will be, in the order of planning.

        Crews have dice of their own, so that what else a seed holds is as it was.
        """
        self._dice = dice
        # Of their own: what is drawn besides is the same as without threads.
        self._dice_of_threads = Random(sum(dice.getstate()[1]))
        self._dice_of_limits = Random(sum(dice.getstate()[1]) + 1)
        self._crews = crews
        self._ids = workflow_ids
        self._children = 0

    def plot(self, index: int) -> Plot:
        """Draw what the workflow of this number does."""
        is_async = self._dice.random() < 0.6
        acts = self._acts(index, is_async, self._dice.randint(2, 8))
        if self._dice.random() < 0.5:
            acts = (*acts, *map(Drain, (*TOPICS, FROM_STEPS)))
        if self._crews.random() < 0.25:
            acts = (*acts, self._crew(index))
        return Plot(self._ids[index], is_async, acts, self._limit())

    def late_plot(self) -> Plot:
        """Draw what a workflow does that is started later, under a random id, by somebody who visits."""
        plot = self._child().plot
        return Plot(f"late {plot.name}", plot.is_async, plot.acts, plot.limit)

    def _acts(self, index: int, is_async: bool, count: int, depth: int = 0) -> tuple[Act, ...]:
        acts: list[Act] = []
        for _ in range(count):
            act = self._act(index, is_async, depth)
            acts.append(act)
        if self._dice.random() < 0.3:
            acts.append(Close())
        return tuple(acts)

    def _act(self, index: int, is_async: bool, depth: int) -> Act:
        dice = self._dice
        choices: list[tuple[int, Callable[[], Act]]] = [
            (5, lambda: self._step(is_async)),
            (4, lambda: Send(self._anybody(), dice.choice(TOPICS), dice.choice((1, 1, 3, 9)))),
            (6, lambda: Receive(dice.choice(TOPICS), self._timeout())),
            (2, lambda: Send(self._ids[index], dice.choice(TOPICS), 9)),
            (3, self._drain),
            (4, Publish),
            (3, lambda: Write(dice.randint(1, 3))),
            (1, lambda: Sleep(round(self._timeout(), 3))),
            (2, lambda: self._look(index)),
            (2, lambda: self._read(index)),
        ]
        if depth == 0:
            choices += [(2, self._child), (1, lambda: Receive(SURE, None))]
        if is_async:
            choices += [(2, lambda: GiveUp(dice.choice(TOPICS), round(self._timeout() / 4, 3)))]
            if depth == 0:
                choices += [(2, lambda: self._branches(index)), (1, self._side_by_side)]
                choices += [(2, self._limited), (1, lambda: CutShort(dice.randint(2, 5))), (1, self._detached)]
        return dice.choices([act for _, act in choices], [weight for weight, _ in choices])[0]()

    def _step(self, is_async: bool) -> Step:
        dice = self._dice
        return Step(
            failing=dice.choice((0, 0, 0, 1, 2)),
            is_async=is_async and dice.random() < 0.6,
            seconds=dice.choice((0.01, 0.5, 3.0)) if dice.random() < 0.5 else 0.0,
            limit=dice.choice((0.2, 2.0)) if dice.random() < 0.2 else None,
            writes=dice.random() < 0.2,
            publishes=dice.random() < 0.2,
            sends_to=self._anybody() if dice.random() < 0.2 else None,
        )

    def _look(self, index: int) -> Act:
        if index and self._dice.random() < 0.5:
            return Look(self._ids[self._dice.randrange(index)], None)
        return Look(self._anybody(), self._timeout())

    def _read(self, index: int) -> Act:
        if index and self._dice.random() < 0.5:
            return Read(self._ids[self._dice.randrange(index)], None)
        return Read(self._anybody(), self._timeout())

    def _child(self) -> Child:
        is_async = self._dice.random() < 0.5
        self._children += 1
        acts = self._acts(0, is_async, self._dice.randint(1, 3), depth=1)
        plot = Plot(f"child {self._children}", is_async, acts, self._limit())
        return Child(plot, self._dice.random() < 0.7)

    def _crew(self, index: int) -> Crew:
        dice = self._crews
        plots = tuple(
            Plot(
                f"crew {index}.{number}",
                dice.random() < 0.5,
                (Sleep(dice.choice((0.0, 0.01, 0.5, 2.0))), Step(is_async=False)),
                dice.choice((None, None, 1.0)),
            )
            for number in range(dice.randint(1, 5))
        )
        return Crew(plots, dice.choice((None, None, 0.0, 0.5)))

    def _branches(self, index: int) -> Branches:
        count = self._dice.randint(2, 3)
        return self._at_once(tuple(self._acts(index, True, self._dice.randint(1, 3), depth=1) for _ in range(count)))

    def _at_once(self, branches: tuple[tuple[Act, ...], ...]) -> Branches:
        """Let functions in threads do some of this, where all of it can be done so."""
        return self._in_threads(branches, self._dice_of_threads, 0.4)

    def _in_threads(self, branches: tuple[tuple[Act, ...], ...], dice: Random, share: float) -> Branches:
        in_threads = tuple(
            dice.random() < share and not any(isinstance(act, GiveUp) for act in acts) for acts in branches
        )
        return Branches(
            tuple(
                tuple(replace(act, is_async=False) if isinstance(act, Step) else act for act in acts) if is_so else acts
                for acts, is_so in zip(branches, in_threads, strict=True)
            ),
            in_threads,
        )

    def _limited(self) -> Limited:
        dice = self._dice
        branches = self._steps_and_receives()
        seconds, by = dice.choice((0.01, 0.05, 0.5, 2.0)), dice.choice(("gather", "group", "wait"))
        if self._dice_of_limits.random() < 0.3:
            branches, by = branches[:1], "thread"
        at_once = self._in_threads(branches, self._dice_of_limits, 1.0 if by == "thread" else 0.4)
        return Limited(at_once.branches, seconds, by, at_once.in_threads)

    def _detached(self) -> Detached:
        return Detached(self._steps_and_receives())

    def _steps_and_receives(self) -> tuple[tuple[Act, ...], ...]:
        """Draw branches of what is durable when it is done."""
        dice = self._dice

        def act() -> Act:
            if dice.random() < 0.3:
                return Receive(dice.choice(TOPICS), self._timeout())
            return Step(is_async=True, seconds=dice.choice((0.0, 0.01, 0.05, 0.5)))

        return tuple(tuple(act() for _ in range(dice.randint(1, 3))) for _ in range(dice.randint(2, 3)))

    def _drain(self) -> Drain:
        dice = self._dice
        return Drain(dice.choice(TOPICS), dice.choice((4, 7, 50)), dice.random() < 0.4)

    def _side_by_side(self) -> Branches:
        """Several drain one topic."""
        drain = self._drain()
        return self._at_once(((drain,),) * self._dice.randint(2, 3))

    def _limit(self) -> float | None:
        return self._dice.choice((1.0, 5.0)) if self._dice.random() < 0.05 else None

    def _anybody(self) -> str:
        return self._dice.choice(self._ids)

    def _timeout(self) -> float:
        return self._dice.choice((0.0, 0.05, 0.5, 2.0, 4.0))


def sure_messages(plot: Plot) -> int:
    """Count the messages that must be sent to a workflow for it to end."""
    return sum(isinstance(act, Receive) and act.topic == SURE for act in plot.acts)


def children(plot: Plot) -> list[Plot]:
    """Return the plots of a workflow's children."""
    own = [act.plot for act in plot.acts if isinstance(act, Child)]
    return own + [each for act in plot.acts if isinstance(act, Crew) for each in act.plots]
