"""What happens to the processes of a simulation: each fault in a thread of its own, at a moment that is drawn.

The moment is a time, or a number of hand-overs of the baton, so that faults fall between any two steps of any thread.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random
from typing import Protocol

from tests.simulation.ledger import Ledger
from tests.simulation.processes import App, Client, Process
from tests.simulation.scheduler import Scheduler, playing
from tests.simulation.server import Server


class World(Protocol):
    """What faults befall."""

    scheduler: Scheduler
    server: Server
    ledger: Ledger
    apps: list[App]
    clients: list[Client]
    is_healed: bool

    def restart(self, app: App) -> None:
        """Start an app anew, in the place of one that is dead or has stopped."""


class Nemesis:
    """Draws faults, and lets them happen."""

    def __init__(self, world: World, dice: Random) -> None:
        self._world = world
        self._dice = dice
        self.under_way = 0

    def plan(self, count: int, seconds: float) -> None:
        """Draw so many faults, and let them happen within that time."""
        weights, faults = zip(
            (4, self._kill),
            (3, self._pause),
            (2, self._outage),
            (2, self._hang),
            (2, self._cut),
            (2, self._stop),
            (2, self._stall),
            (1, self._all_away),
            strict=True,
        )
        for number in range(count):
            fault = self._dice.choices(faults, weights)[0]
            at_switch = self._dice.random() < 0.5
            moment = self._dice.random()
            self.under_way += 1
            befall = partial(self._befall, fault, at_switch, moment * seconds)
            playing().start(befall, f"fault {number}", playing().current.party)

    def _befall(self, fault: Callable[[], None], at_switch: bool, moment: float) -> None:
        scheduler = self._world.scheduler
        if at_switch:
            scheduler.wait_for_switch(scheduler.switches + 20 + int(moment * 200))
        else:
            scheduler.sleep(moment)
        if not self._world.is_healed:
            fault()
        self.under_way -= 1

    def _sleep(self, *longest: float) -> None:
        self._world.scheduler.sleep(self._dice.random() * self._dice.choice(longest))

    def _note(self, what: str, process: Process | None = None) -> None:
        self._world.ledger.note(what, process.name if process else "")
        self._world.ledger.counts[what] += 1

    def _app(self) -> App:
        return self._dice.choice(self._world.apps)

    def _process(self) -> Process:
        programs: list[App | Client] = [*self._world.apps, *self._world.clients]
        return self._dice.choice(programs).process

    # --- faults ---------------------------------------------------------------------------------------

    def _kill(self) -> None:
        """SIGKILL; something starts an app anew a while later."""
        if self._world.clients and self._dice.random() < 0.15:
            client = self._dice.choice(self._world.clients).process
            if not client.is_dead:
                self._note("kill", client)
                self._world.scheduler.kill(client)
            return
        self._kill_app(self._app().process)

    def _kill_app(self, process: Process) -> None:
        app = next((each for each in self._world.apps if each.process is process), None)
        if app is not None and not process.is_dead:
            self._note("kill", process)
            self._world.scheduler.kill(process)
            if self._dice.random() < 0.6:  # Else the others have to do without it.
                self._sleep(0.1, 1, 6)
                self._world.restart(app)

    def _pause(self) -> None:
        """SIGSTOP, and SIGCONT a while later: perhaps beyond the lease."""
        process = self._process()
        if not process.is_dead and not process.is_paused:
            self._note("pause", process)
            self._world.scheduler.pause(process)
            self._sleep(0.5, 5, 12)
            if not process.is_dead:
                self._note("resume", process)
                self._world.scheduler.resume(process)
                if self._dice.random() < 0.3:
                    self._sleep(1, 5)
                    self._kill_app(process)

    def _stall(self) -> None:
        """One thread of a process does not run for a while, with whatever it holds."""
        process = self._process()
        threads = [each for each in process.threads if not each.is_over]
        if threads and not process.is_dead:
            thread = self._dice.choice(threads)
            self._note("stall", process)
            self._world.ledger.note("stalls", thread.name)
            self._world.scheduler.stall(thread, self._dice.random() * self._dice.choice((0.1, 3, 10)))

    def _stop(self) -> None:
        """SIGTERM, and a new start once it has stopped."""
        app = self._app()
        if app.is_up and not app.process.is_dead and not app.has_stopped:
            self._note("stop", app.process)
            app.stop()
            self._sleep(0.1, 6)
            if self._is_waited_for(app):
                self._world.scheduler.kill(app.process)  # Also where it took too long.
                self._world.restart(app)

    def _is_waited_for(self, app: App) -> bool:
        return app.is_ending and not app.process.is_dead and app in self._world.apps

    def _outage(self) -> None:
        """One process cannot reach the database."""
        process = self._process()
        if not process.is_dead:
            self._note("outage", process)
            process.line.is_down = True
            process.line.cut()
            self._sleep(0.3, 3, 12)
            process.line.is_down = False
            self._note("outage over", process)

    def _all_away(self) -> None:
        """The database is away for all."""
        server = self._world.server
        self._note("database down")
        server.is_down = True
        programs: list[App | Client] = [*self._world.apps, *self._world.clients]
        for program in programs:
            program.process.line.cut()
        self._sleep(0.5, 4)
        server.is_down = False
        self._note("database up")

    def _hang(self) -> None:
        """What one process sends arrives nowhere, and it is not told."""
        process = self._process()
        if not process.is_dead:
            self._note("hang", process)
            process.line.hangs = True
            self._sleep(0.3, 3, 12)
            process.line.release()
            self._note("hang over", process)

    def _cut(self) -> None:
        """One process loses its connections."""
        process = self._process()
        self._note("cut", process)
        process.line.cut()
