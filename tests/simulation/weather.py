"""What a seed is like: how many programs there are, how they hear of each other, and what goes wrong, how often."""

from __future__ import annotations

from random import Random

from msgspec import Struct
from msgspec.structs import replace

# In s. Three of them are less than a day: beyond that others may forget a process that they took for dead.
_STEPS = (0.5, 2.0, 20.0, 3_600.0, 20_000.0)


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
    clock_steps: tuple[tuple[float, float], ...]  # of the server's clock: when, and by how many seconds

    @property
    def is_heard(self) -> bool:
        """Whether wake-ups are relied on: nobody looks without one."""
        return self.recheck_seconds > 1_000

    @property
    def is_calm(self) -> bool:
        """Whether nothing goes wrong but the clock."""
        return not self.faults and not self.failing

    @property
    def goes_forward(self) -> bool:
        """Whether the clock is ever set forward: then a deadline may come early."""
        return any(seconds > 0 for _, seconds in self.clock_steps)


def draw(dice: Random, clock: Random) -> Weather:
    """Draw the weather of a seed; how its clock steps by dice of its own."""
    weather = _draw(dice)
    count = clock.choice((1, 2, 3)) if weather.is_calm or clock.random() < 0.3 else 0
    steps = sorted((clock.random() * 6, clock.choice((-1, -1, 1)) * clock.choice(_STEPS)) for _ in range(count))
    return replace(weather, clock_steps=tuple(steps))


def _draw(dice: Random) -> Weather:
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
        clock_steps=(),
    )
