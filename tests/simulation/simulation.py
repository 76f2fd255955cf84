"""One seed, from its beginning to its end.

Faults have their time; then all is healed, and whatever happened before, every workflow must come to its end, and every
client to its own. Then the ledger and the records are judged.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from random import Random
from typing import Any, Final

from tests.simulation import programs
from tests.simulation.clients import Visitor
from tests.simulation.ledger import Ledger, Violation
from tests.simulation.nemesis import Nemesis
from tests.simulation.plots import Author, Plot, children
from tests.simulation.processes import App, Client, Files, Process, Script, Visit
from tests.simulation.scheduler import Party, Scheduler, SimThread, Stuck, playing
from tests.simulation.server import Server
from tests.simulation.stage import staged
from tests.simulation.store import Line, SimStore
from tests.simulation.verdict import judge
from tests.simulation.weather import draw
from tidings.engine.settings import Connection
from tidings.model import Status
from tidings.store.protocol import Store

_PATIENCE_SECONDS: Final = 1_500.0
_LOOK_SECONDS: Final = 1.0
_MOMENT_SECONDS: Final = 0.01


class Outcome:
    """What came of a seed."""

    def __init__(self, seed: int, ledger: Ledger, fingerprint: int, began: float) -> None:
        self.seed = seed
        self.violations = ledger.violations
        self.counts: Counter[str] = ledger.counts
        self.lines = ledger.lines
        self.fingerprint = fingerprint
        self.seconds = time.perf_counter() - began


class Simulation:
    """One seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.dice = Random(seed)
        self.starts = Random(f"starts of {seed}")  # Apart, so that what else a seed holds is as it was.
        self.forks = Random(f"forks of {seed}")
        self.scripts = Random(f"scripts of {seed}")
        self.weather = draw(self.dice, Random(f"clock of {seed}"))
        self.scheduler = Scheduler(
            Random(self.dice.getrandbits(64)),
            self.weather.mean_steps,
            steps_between_lines=self.weather.steps_between_lines,
        )
        self.ledger = Ledger(self.scheduler, self.weather)
        self.server = Server(self.scheduler, self.ledger)
        self.ledger.server = self.server
        self.scheduler.on_error = self._on_error
        self.files = Files(self.ledger.complain)
        self.ledger.is_alive = self.files.is_held
        self.apps: list[App] = []
        self.clients: list[Client] = []
        self.is_healed = False
        self.plots: list[Plot] = []
        self.late: list[Plot] = []
        self._processes: dict[str, Process] = {}
        self._starts = 0
        self._began = self.scheduler.now

    # --- playing ----------------------------------------------------------------------------------

    def play(self) -> None:
        """Play it in the first simulated thread."""
        weather = self.weather
        ids = [f"w{number}" for number in range(weather.workflows)]
        author = Author(self.dice, ids, Random(f"crews of {self.seed}"))
        self.plots = [author.plot(index) for index in range(weather.workflows)]
        self.late = [author.late_plot() for _ in range(4)]
        every = (each for plot in (*self.plots, *self.late) for each in (plot, *children(plot)))
        programs.Stage.set({each.name: each for each in every}, self.ledger)
        self.ledger.note("weather", weather)
        for plot in (*self.plots, *self.late):
            self.ledger.note("plot", plot)
        for number in range(weather.apps):
            self.apps.append(self._app(f"app{number}", number))
        for number in range(weather.clients):
            self.clients.append(self._client(f"client{number}", self.dice.randint(1, 3)))
        if self.scripts.random() < 0.3:
            self.clients.append(self._script("script"))
        try:
            self._play()
        except (Violation, Stuck) as error:
            if not self.ledger.violations:
                self.ledger.violations.append(str(error))
                self._show_threads()
        except Exception as error:
            self.ledger.violations.append("".join(traceback.format_exception(error)))
        finally:
            for process in self._processes.values():
                self.scheduler.kill(process)

    def _play(self) -> None:
        everybody: list[App | Client] = [*self.apps, *self.clients]
        for program in everybody:
            program.begin(self.scheduler)
        nemesis = Nemesis(self, Random(self.dice.getrandbits(64)))
        nemesis.plan(self.weather.faults, self.weather.fault_seconds)
        for moment, seconds in self.weather.clock_steps:
            self.scheduler.at(self.scheduler.now + moment, partial(self._set_clock, seconds))
        for _ in range(self.forks.choice((0, 0, 1, 4))):
            self.scheduler.at(self.scheduler.now + self.forks.random() * 6, self._fork)
        while nemesis.under_way:
            self.scheduler.sleep(_LOOK_SECONDS)
        self._heal()
        until = self.scheduler.now + _PATIENCE_SECONDS
        while not self._is_over():
            if self.scheduler.now > until:
                self._give_up()
            self.scheduler.sleep(_LOOK_SECONDS)
        judge(self.ledger, self.server)
        self.ledger.counts["virtual seconds"] = round(self.scheduler.now - self._began)
        self.ledger.counts["switches"] = self.scheduler.switches

    def _fork(self) -> None:
        """Some app forks a child, a pool's say, which does nothing and lives longer than anybody."""
        process = self.forks.choice(self.apps).process
        if process.is_dead or process.is_paused:
            return
        if self.files.fork(process, Party(f"child of {process.name}")):
            self.ledger.counts["fork"] += 1
        else:
            self.scheduler.at(self.scheduler.now + _MOMENT_SECONDS, self._fork)

    def _set_clock(self, seconds: float) -> None:
        self.server.ahead_seconds += seconds
        self.ledger.clock_steps(seconds)

    def _heal(self) -> None:
        """From now on nothing goes wrong any more, and somebody starts and sends what nobody did."""
        self.is_healed = True
        self.ledger.note("healed")
        self.server.is_down = False
        for process in self._processes.values():
            process.line.is_down = False
            process.line.failing = 0.0
            if process.is_paused:
                self.scheduler.resume(process)
        closer = self._process("closer", 0)
        visitor = self._visitor("closer", self.dice)
        client = Client(closer, [(visitor.sends_surely, False)])
        self.clients.append(client)
        client.begin(self.scheduler)
        self._steady_app().start_all(self.scheduler, self.plots)

    def _steady_app(self) -> App:
        """Return an app that is up and stays so; start one if there is none."""
        while True:
            lasting = [each for each in self.apps if not each.process.is_dead and not each.is_ending]
            if not lasting:
                self.restart(self.apps[0])
            for app in lasting:
                if app.is_up:
                    return app
            self.scheduler.sleep(_LOOK_SECONDS)

    def restart(self, app: App) -> None:
        """Start an app anew."""
        if app in self.apps:
            number = self.apps.index(app)
            self._starts += 1
            self.apps[number] = self._app(f"app{number}.{self._starts}", number)
            self.apps[number].begin(self.scheduler)

    def _is_over(self) -> bool:
        workflows = self.server.records.workflows
        return (
            all(plot.name in workflows for plot in self.plots)
            and all(workflow.status is not Status.PENDING for workflow in workflows.values())
            and all(client.process.is_dead or not client.left for client in self.clients)
            and not self._executed()
        )

    def _executed(self) -> list[str]:
        """Return what some process still executes. A run of a workflow that has ended ends too."""
        hosts = [process.host for process in self._processes.values() if not process.is_dead]
        return [workflow_id for host in hosts if host is not None for workflow_id in host.runner.ids()]

    def _give_up(self) -> None:
        workflows = self.server.records.workflows.values()
        pending = [each.workflow_id for each in workflows if each.status is Status.PENDING]
        missing = [plot.name for plot in self.plots if plot.name not in self.server.records.workflows]
        left = [each.process.name for each in self.clients if not each.process.is_dead and each.left]
        self._show_threads()
        self.ledger.violate(
            f"after {_PATIENCE_SECONDS:.0f} s without faults: "
            f"{pending} go on, {missing} were never started, {left} wait, {self._executed()} are executed"
        )

    # --- making -----------------------------------------------------------------------------------

    def _process(self, name: str, machine: int) -> Process:
        weather = self.weather
        line = Line(self.server, Random(self.dice.getrandbits(64)), self.ledger.complain)
        if not self.is_healed:
            line.failing = weather.failing
        line.dropping, line.delaying, line.repeating = weather.dropping, weather.delaying, weather.repeating
        line.slow_seconds = weather.slow_seconds
        connection = Connection(
            f"sqlite:///{name}",
            "tidings",
            lease_ms=weather.lease_ms,
            use_listen_notify=weather.listens,
            recheck_seconds=weather.recheck_seconds,
        )
        process = Process(name, machine, line, connection, self.dice.uniform(-3_600, 3_600))
        self._processes[str(connection.database_url)] = process
        return process

    def _app(self, name: str, number: int) -> App:
        process = self._process(name, self.weather.machines[number])
        plots = self.plots[number :: self.weather.apps]
        visits: list[Visit] = []
        while self.dice.random() < 0.4:
            own = f"{name} itself {len(visits)}"
            visitor = self._visitor(own, Random(self.dice.getrandbits(64)), self.late)
            visits.append((visitor.story, self.dice.random() < 0.5))
        return App(
            process,
            plots,
            visits,
            self.ledger,
            on_loop=self.dice.random() < 0.3,
            blocks_seconds=self.starts.choice((None, 0.0, 3.0, 15.0)),
            has_client=self.dice.random() < 0.3,
            comes_back=self.dice.random() < 0.3,
            rest_seconds=self.dice.choice((0, 0, 0.5, 3)),
        )

    def _client(self, name: str, count: int) -> Client:
        visits: list[Visit] = []
        for number in range(count):
            visitor = self._visitor(f"{name} {number}", Random(self.dice.getrandbits(64)))
            visits.append((visitor.story, self.dice.random() < 0.5))
        return Client(self._process(name, 2), visits)

    def _script(self, name: str) -> Script:
        visitor = self._visitor(name, self.scripts, self.late)
        return Script(self._process(name, 2), [(visitor.only_starts, self.scripts.random() < 0.5)])

    def _visitor(self, name: str, dice: Random, starting: Sequence[Plot] = ()) -> Visitor:
        return Visitor(name, dice, self.plots, self.ledger, Random(f"{name} also of {self.seed}"), starting)

    def open_store(self, url: str) -> Store:
        """Open the store of the process that the URL names."""
        store: Any = SimStore(self._processes[url].line, url)
        return store  # type: ignore[no-any-return]

    # --- looking ----------------------------------------------------------------------------------

    def _on_error(self, thread: SimThread, error: BaseException) -> None:
        text = "".join(traceback.format_exception(error))
        self.ledger.violate(f"thread {thread.name!r} of {thread.party.name} died of {error!r}\n{text}")

    def _show_threads(self) -> None:
        for process in self._processes.values():
            for thread in process.threads:
                self.ledger.note("stands", process.name, thread.name, thread.stack()[-9:])


class Ear(logging.Handler):
    """Hears what the library says, and knows what it must never say."""

    def __init__(self, ledger: Ledger) -> None:
        super().__init__()
        self._ledger = ledger

    def emit(self, record: logging.LogRecord) -> None:
        if playing().current.dying:
            return
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + "".join(traceback.format_exception(*record.exc_info))
        self._ledger.note(record.levelname, text)
        self._ledger.counts[f"log {record.levelname}"] += 1
        if record.levelno >= logging.ERROR and "was taken for dead" not in text:
            self._ledger.violate(f"the log says: {text}")


def play(seed: int) -> Outcome:
    """Play one seed: as it goes behind any other, also where it is the first."""
    with _undisturbed():
        _prepare()
        return _play(seed)


@functools.cache
def _prepare() -> None:
    """Let all be remembered that a process looks up once, so that no seed has more steps for it."""
    _play(0)


def _play(seed: int) -> Outcome:
    began = time.perf_counter()
    simulation = Simulation(seed)
    try:
        with _heard(simulation.ledger), staged(simulation.open_store, simulation.files):
            simulation.scheduler.play(simulation.play)
    finally:
        programs.Stage.clear()
    return Outcome(seed, simulation.ledger, simulation.scheduler.fingerprint, began)


@contextlib.contextmanager
def _undisturbed() -> Iterator[None]:
    """Collect no garbage in the block: what that ends would end at a moment that is not the seed's."""
    gc.disable()
    gc.freeze()  # So that the collection behind it is quick: it looks at nothing but the block's.
    try:
        with warnings.catch_warnings():
            # One that was killed between the call of an async function and its await.
            warnings.filterwarnings("ignore", "coroutine .* was never awaited", RuntimeWarning)
            yield
            gc.collect()
    finally:
        gc.unfreeze()
        gc.enable()


@contextlib.contextmanager
def _heard(ledger: Ledger) -> Iterator[None]:
    """Let the ledger, and nobody else, hear what is logged."""
    ear = Ear(ledger)
    loggers = [logging.getLogger("tidings"), logging.getLogger("asyncio")]
    former = [(logger, logger.propagate, logger.level) for logger in loggers]
    try:
        for logger in loggers:
            logger.addHandler(ear)
            logger.propagate = False
            logger.setLevel(logging.INFO)
        yield
    finally:
        for logger, propagate, level in former:
            logger.removeHandler(ear)
            logger.propagate = propagate
            logger.setLevel(level)
