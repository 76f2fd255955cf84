"""What a seed is like: how many programs there are, how they hear of each other, and what goes wrong, how often."""

from __future__ import annotations

from random import Random

from msgspec import Struct


class Weather(Struct, frozen=True):
    """The outline of one simulation."""

    apps: int
    clients: int
    workflows: int
    machines: tuple[int, ...]  # of each app
    mean_steps: int  # made until another thread comes in between
    steps_between_lines: bool
    lease_ms: int
    recheck_seconds: float
    listens: bool
    dropping: float
    delaying: float
    repeating: float
    failing: float
    slow_seconds: float
    faults: int
    fault_seconds: float  # how long faults may begin

    @property
    def is_heard(self) -> bool:
        """Whether wake-ups are relied on: nobody looks without one."""
        return self.recheck_seconds > 1_000


def draw(dice: Random) -> Weather:
    """Draw the weather of a seed."""
    apps = dice.choice((1, 2, 2, 3, 4))
    lossy = dice.random() < 0.4
    between_lines = dice.random() < 0.1
    return Weather(
        apps=apps,
        clients=dice.choice((1, 1, 2)),
        workflows=dice.randint(2, 6),
        machines=tuple(dice.choice((0, 0, 1)) for _ in range(apps)),
        mean_steps=dice.choice((50, 500) if between_lines else (4, 15, 60, 200)),
        steps_between_lines=between_lines,
        lease_ms=dice.choice((2_000, 6_000)),
        recheck_seconds=30.0 if lossy else 3_600.0,
        listens=dice.random() < 0.9,
        dropping=dice.choice((0.1, 0.3, 1.0)) if lossy else 0.0,
        delaying=dice.choice((0.0, 0.0, 0.3)),
        repeating=dice.choice((0.0, 0.0, 0.3)),
        failing=dice.choice((0.0, 0.0, 0.01, 0.05)),
        slow_seconds=dice.choice((0.001, 0.005, 0.05)),
        faults=dice.choice((0, 1, 2, 3, 5, 8)),
        fault_seconds=dice.choice((1.0, 4.0, 10.0)),
    )
