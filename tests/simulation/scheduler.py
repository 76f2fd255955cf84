"""Who runs, and what time it is. Everything random in a simulation is drawn here or by who it lends its dice to.

Simulated threads are real ones of which exactly one runs at any time: whoever holds the *baton*. It is handed on where
a thread blocks, and now and then where it takes or gives back a lock (`step`), to one that is drawn among all that can
run. When none can, time jumps to the next timer; each hand-over takes some microseconds of virtual time too, so that
threads which only look again and again do not stop the clock.

Threads belong to a *party*, a simulated process, as who started them does. A party that is paused keeps its threads
where they are, however much time passes. One that is killed is unwound: in each of its threads `Killed` is raised where
it stands, and from then on nothing that thread does blocks, switches or counts.
"""

from __future__ import annotations

import _thread
import asyncio
import contextvars
import heapq
import os
import sys
import traceback
from collections.abc import Callable
from random import Random
from types import FrameType
from typing import Any, Final

from tests.simulation.carriers import CARRIERS, Carrier, allocate_lock

_SWITCH_SECONDS: Final = 0.000_01
_MOST_LAST_STEPS: Final = 20_000
_MOST_SWITCHES: Final = 400_000
_ENGINE: Final = os.path.join("tidings", "engine", "")


class Killed(BaseException):
    """The simulated process is dead, and this thread with it."""


class Stuck(Exception):
    """Nobody can run, and no timer is set: whoever is waited for will never come."""


class Party:
    """A simulated process: what its threads have in common."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.threads: list[SimThread] = []
        self.held: list[SimThread] = []  # could run, were they not paused
        self.is_paused = False
        self.is_dead = False
        self.when_killed: list[Callable[[], None]] = []  # called before its threads are unwound


class SimThread:
    """A simulated thread. It runs in a context of its own, as a real one does."""

    __slots__ = (
        "_carrier",
        "_last_steps",
        "_scheduler",
        "_target",
        "block",
        "dying",
        "error",
        "is_blocked",
        "is_over",
        "is_stalled",
        "joiners",
        "locals",
        "name",
        "number",
        "party",
        "reaper",
        "was_woken",
        "went_on_at",
    )

    def __init__(self, scheduler: Scheduler, target: Callable[[], object], name: str, party: Party) -> None:
        self._scheduler = scheduler
        self._target = target
        self._last_steps = 0
        self.name = name
        self.party = party
        self.number = scheduler.next_number()
        self.block = 0  # counts the times it blocked: a timer of an earlier time wakes nobody
        self.is_blocked = False
        self.was_woken = False
        self.is_over = False
        self.is_stalled = False
        self.went_on_at = 0.0  # when a pause or a stall of it was over
        self.dying = False
        self.reaper: SimThread | None = None
        self.joiners: list[SimThread] = []
        self.locals: dict[int, dict[str, Any]] = {}
        self.error: BaseException | None = None
        self._carrier: Carrier | None = None

    def begin(self) -> None:
        """Be ready to run."""
        self._carrier = CARRIERS.take(self._run)
        self.party.threads.append(self)
        self._scheduler.make_ready(self)

    def drop(self) -> bool:
        """Never begin; False if it has begun already."""
        carrier = self.carrier
        if carrier.job is None:
            return False
        CARRIERS.give_back(carrier)
        self.is_over = True
        return True

    @property
    def carrier(self) -> Carrier:
        """What carries it."""
        assert self._carrier is not None
        return self._carrier

    def last_step(self) -> None:
        """Count what it does after it was killed. It may not go on for ever."""
        self._last_steps += 1
        if self._last_steps > _MOST_LAST_STEPS:
            raise Killed

    def _run(self) -> _thread.LockType:
        try:
            if self.dying:
                raise Killed
            if self._scheduler.steps_between_lines:
                sys.settrace(_trace_engine)
            contextvars.Context().run(self._target)
        except BaseException as error:
            if not self.dying:
                self.error = error
                self._scheduler.on_error(self, error)
            # What a frame of it holds goes now, and in this thread: nothing of it may run later, in another's.
            error.__traceback__ = None
        sys.settrace(None)
        asyncio.set_event_loop(None)  # What carries it next has none, and this one holds the whole simulation.
        return self._scheduler.finish(self)

    def stack(self) -> list[str]:
        """Say where it stands, the innermost last."""
        frame = sys._current_frames().get(self.carrier.ident)
        if frame is None:
            return []
        calls = traceback.extract_stack(frame)
        return [f"{each.filename.rpartition('/')[2]}:{each.lineno} {each.name}" for each in calls]


class Scheduler:
    """The baton, the clock, and the dice."""

    def __init__(self, dice: Random, mean_steps: int, *, steps_between_lines: bool = False) -> None:
        """Take the dice.

        Args:
            dice: decides who runs, and when the baton is handed on.
            mean_steps: how many steps are made, on average, until it is handed on unforced.
            steps_between_lines: whether each line of the engine's code is a step, and not only each lock that is
                taken or given back. Slow; it finds what no lock guards.
        """
        self.dice = dice
        self.steps_between_lines = steps_between_lines
        self.now = 1_000.0  # s
        self.switches = 0
        self.fingerprint = 0  # of all that was decided: the same for the same seed
        self.on_error: Callable[[SimThread, BaseException], None] = lambda thread, error: None
        self._mean_steps = mean_steps
        self.fuel = 1  # steps until the baton is handed on unforced
        self._numbers = 0
        self._ready: list[SimThread] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._at_switches: list[tuple[int, int, SimThread]] = []
        self._over = allocate_lock()
        self._over.acquire()
        self._main = SimThread(self, self._be_main, "main", Party("world"))
        self._main_function: Callable[[], object] = lambda: None
        self._main_error: BaseException | None = None
        self.current = self._main
        self._parties: dict[Party, None] = {}

    # --- life -------------------------------------------------------------------------------------

    def play(self, main: Callable[[], object]) -> None:
        """Run `main` as the first simulated thread, and all that it starts, until it returns or raises."""
        global _playing  # noqa: PLW0603  (one at a time: that is the point)
        assert _playing is None, "a simulation within a simulation"
        _playing = self
        try:
            self._main_function = main
            self._main.begin()
            self._draw()
            self._main.carrier.baton.release()
            self._over.acquire()
        finally:
            _playing = None
        if self._main.error is not None:
            raise self._main.error

    def _be_main(self) -> None:
        try:
            self._main_function()
        finally:
            self._end_all()

    def stop_main(self, error: BaseException) -> None:
        """Raise `error` in the first thread, at once."""
        if self._main_error is None and not self._main.is_over:
            self._main_error = error
            self.wake(self._main)

    def next_number(self) -> int:
        """Number a thread, or anything that needs a number which a seed repeats."""
        self._numbers += 1
        return self._numbers

    # --- what threads do --------------------------------------------------------------------------

    def step(self) -> None:
        """Pass a point where another thread may come in between."""
        self.fuel -= 1
        if self.fuel <= 0:
            self.pass_by()

    def pass_by(self) -> None:
        """Let another thread come in between: the steps are used up."""
        self._refuel()
        me = self.current
        if me.dying:
            me.last_step()
        elif self._ready or self._at_switches or self._timers:
            self.make_ready(me)
            self._hand_on(me)

    def wait(self, until: float | None = None) -> bool:
        """Block this thread until somebody wakes it, or the time has come. Tells whether it was woken."""
        me = self.current
        if me.dying:
            raise Killed
        me.is_blocked, me.was_woken = True, False
        me.block += 1
        if until is not None:
            block = me.block
            self.at(until, lambda: self._time_out(me, block))
        if me is self._main and self._main_error is not None:
            self.wake(me)
        self._hand_on(me)
        return me.was_woken

    def sleep(self, seconds: float) -> None:
        """Block this thread for so long."""
        self.wait(self.now + seconds)

    def wake(self, thread: SimThread) -> None:
        """Let a thread that is blocked go on."""
        if thread.is_blocked:
            thread.is_blocked, thread.was_woken = False, True
            self.make_ready(thread)

    def at(self, when: float, act: Callable[[], None]) -> None:
        """Call `act` when the time has come, in no thread: it may wake, and not wait."""
        self._numbers += 1
        heapq.heappush(self._timers, (when, self._numbers, act))

    def wait_for_switch(self, count: int) -> None:
        """Block this thread, which nobody may kill, until the baton was handed on so often; it is then its turn."""
        me = self.current
        self._numbers += 1
        heapq.heappush(self._at_switches, (count, self._numbers, me))
        self._hand_on(me)

    def join(self, thread: SimThread, until: float | None) -> None:
        """Wait until a thread is over, or the time has come."""
        while not thread.is_over and (until is None or self.now < until):
            thread.joiners.append(self.current)
            self.wait(until)

    # --- parties ----------------------------------------------------------------------------------

    def start(self, target: Callable[[], object], name: str, party: Party) -> SimThread:
        """Start a thread of a party."""
        thread = SimThread(self, target, name, party)
        self._parties[party] = None
        thread.begin()
        return thread

    def pause(self, party: Party) -> None:
        """Let no thread of it run."""
        party.is_paused = True
        party.held += [each for each in self._ready if each.party is party]
        self._ready = [each for each in self._ready if each.party is not party]

    def resume(self, party: Party) -> None:
        """Let its threads go on."""
        party.is_paused = False
        held, party.held = party.held, []
        for thread in held:
            thread.went_on_at = self.now
            self.make_ready(thread)

    def stall(self, thread: SimThread, seconds: float) -> None:
        """Let this thread not run for so long, and go on then; what it holds it keeps."""
        thread.is_stalled = True
        if thread in self._ready:
            self._ready.remove(thread)
            thread.party.held.append(thread)

        def go_on() -> None:
            thread.is_stalled = False
            if thread in thread.party.held and not thread.party.is_paused:
                thread.party.held.remove(thread)
                thread.went_on_at = self.now
                self.make_ready(thread)

        self.at(self.now + seconds, go_on)

    def kill(self, party: Party) -> None:
        """End all threads of it, here and now. Not from one of its own."""
        assert self.current.party is not party
        self._end(party)

    def _end_all(self) -> None:
        """End all threads but this one, which is the first."""
        for party in list(self._parties):
            if not party.is_dead:
                self._end(party)

    def _end(self, party: Party) -> None:
        me = self.current
        party.is_dead = True
        self._ready = [each for each in self._ready if each.party is not party]
        party.held = []
        for act in party.when_killed:
            act()
        for thread in party.threads:  # It may grow meanwhile.
            if thread is not me and not thread.is_over and not thread.drop():
                thread.dying, thread.reaper = True, me
                self.current = thread
                thread.carrier.baton.release()
                me.carrier.baton.acquire()
                self.current = me
        party.threads.clear()

    # --- the baton --------------------------------------------------------------------------------

    def make_ready(self, thread: SimThread) -> None:
        """Let a thread be drawn, unless it is dead."""
        if thread.party.is_dead:
            return
        if thread.party.is_paused or thread.is_stalled:
            thread.party.held.append(thread)
        else:
            self._ready.append(thread)

    def _time_out(self, thread: SimThread, block: int) -> None:
        if thread.is_blocked and thread.block == block:
            thread.is_blocked = False
            self.make_ready(thread)

    def _hand_on(self, me: SimThread) -> None:
        """Let another thread run; return when it is this one's turn again."""
        following = self._draw()
        if following is not me:
            following.carrier.baton.release()
            me.carrier.baton.acquire()
        if me.dying:
            raise Killed
        if me is self._main and self._main_error is not None:
            error, self._main_error = self._main_error, None
            raise error

    def finish(self, thread: SimThread) -> _thread.LockType:
        """Give the baton of whoever is next, to be handed on for the last time."""
        thread.is_over = True
        for each in thread.joiners:
            self.wake(each)
        CARRIERS.give_back(thread.carrier)
        if thread.reaper is not None:
            return thread.reaper.carrier.baton
        if thread is self._main:
            return self._over
        thread.party.threads.remove(thread)
        return self._draw().carrier.baton

    def _draw(self) -> SimThread:
        """Decide who runs next."""
        self.switches += 1
        self.now += _SWITCH_SECONDS
        if self.switches == _MOST_SWITCHES:
            self.stop_main(Stuck(f"it goes on and on: {_MOST_SWITCHES} hand-overs of the baton"))
        if self._at_switches and self._at_switches[0][0] <= self.switches:
            return self._chosen(heapq.heappop(self._at_switches)[2])
        timers = self._timers
        while True:
            while timers and timers[0][0] <= self.now:
                heapq.heappop(timers)[2]()
            if self._ready:
                break
            if timers:
                self.now = timers[0][0]
            elif self._at_switches:
                return self._chosen(heapq.heappop(self._at_switches)[2])
            else:
                return self._stuck("nobody can run, and nothing will ever happen")
        ready = self._ready
        index = int(self.dice.random() * len(ready)) if len(ready) > 1 else 0
        chosen, ready[index] = ready[index], ready[-1]
        ready.pop()
        return self._chosen(chosen)

    def _stuck(self, why: str) -> SimThread:
        self._main_error = Stuck(why)
        self._main.is_blocked = False
        return self._chosen(self._main)

    def _chosen(self, thread: SimThread) -> SimThread:
        self.current = thread
        self.fingerprint = (self.fingerprint * 1_000_003 + thread.number) & 0xFFFF_FFFF_FFFF
        return thread

    def _refuel(self) -> None:
        self.fuel = 1 + int(self.dice.expovariate(1 / self._mean_steps))


def _trace_engine(frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
    """Trace the functions of the engine, and no others."""
    return _step_at_line if _ENGINE in frame.f_code.co_filename else None


def _step_at_line(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
    if event == "line" and _playing is not None:
        _playing.step()
    return _step_at_line


_playing: Scheduler | None = None


def playing() -> Scheduler:
    """Return the scheduler of the simulation that is being played.

    Raises:
        RuntimeError: none is; something of a simulation has outlived it.
    """
    if _playing is None:
        raise RuntimeError("no simulation is being played")
    return _playing


def is_played(scheduler: Scheduler) -> bool:
    """Tell whether this is the one: what is left of another one may be collected at any time."""
    return _playing is scheduler
