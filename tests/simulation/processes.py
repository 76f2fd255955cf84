"""Simulated processes: programs that run workflows, and programs that do not, with what a real one keeps in modules."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import PurePath
from typing import Any, Final, TypeVar

from tests.simulation import programs
from tests.simulation.ledger import Ledger
from tests.simulation.plots import Plot
from tests.simulation.primitives import Event, RLock
from tests.simulation.scheduler import Party, Scheduler, playing
from tests.simulation.store import Line
from tests.simulation.stories import Pause, StartOf, Story, Target, tell, tell_async
from tidings import DBOS, DBOSClient
from tidings.engine.host import Host
from tidings.engine.settings import Connection, Settings
from tidings.error import DBOSException, DBOSInitializationError, DBOSShutdownError
from tidings.serialization import JSONSerializer

T = TypeVar("T")

_AGAIN_SECONDS: Final = 0.5

# What somebody does, and whether it is awaited.
Visit = tuple[Callable[[Target], Story[None]], bool]


class Process(Party):
    """A simulated process on one of some machines."""

    def __init__(self, name: str, machine: int, line: Line, connection: Connection, skew_seconds: float) -> None:
        super().__init__(name)
        self.machine = machine
        self.line = line
        self.skew_seconds = skew_seconds
        self.host: Host | None = None
        self.lock = RLock()
        self.launch_lock = RLock()
        self.launch: object | None = None
        self.settings = Settings("simulation", connection, programs.VERSION, name, True, 8, JSONSerializer())
        self.when_killed.append(self._hang_up)

    def _hang_up(self) -> None:
        for listener in tuple(self.line.listeners):
            listener.close()


class Files:
    """The lock files of all machines, and who has a copy of which open file: the locker, and children it forked."""

    def __init__(self, complain: Callable[[str], None]) -> None:
        self.not_now = _NotNow()
        self._complain = complain
        self._machines: dict[str, int] = {}  # by the file's name
        self._lockers: dict[str, Process] = {}  # by name, of files that somebody has locked at some time
        self._copies: dict[str, dict[int, list[Party]]] = {}  # by name, of what is locked now
        self._names: dict[int, str] = {}  # by number, of what is open
        self._owners: list[tuple[Process, Any, Callable[[Any], int | None]]] = []

    def lock(self, path: PurePath, *, create: bool) -> int:
        """As `lock_files._lock`."""
        process = _process()
        name = path.name
        if create:
            self._machines[name] = process.machine
            self._lockers[name] = process
        elif self._machines.get(name) != process.machine:
            raise FileNotFoundError(name)
        copies = self._copies.setdefault(name, {})
        having = [party for parties in copies.values() for party in parties if not party.is_dead]
        if having:
            self._look(name, having)
            raise BlockingIOError(name)
        number = playing().next_number()
        self._names[number] = name
        copies.clear()
        copies[number] = [process]
        return number

    def close(self, file: int) -> None:
        """As `lock_files.unlock`, which tells the system so: no copy holds it any more."""
        if not playing().current.dying:  # Whoever is killed does nothing more: the system closes what is its own.
            self._copies[self._names.pop(file)].pop(file, None)

    def hold(self, owner: Any, file_of: Callable[[Any], int | None]) -> None:
        """As `held.hold`: no child keeps this file."""
        self._owners.append((_process(), owner, file_of))

    def is_held(self, executor_id: str) -> bool:
        """Tell whether a process lives that is this executor."""
        name = f"tidings-{executor_id}.lock"
        locker = self._lockers.get(name)
        return locker is not None and not locker.is_dead and bool(self._copies[name])

    def fork(self, process: Process, child: Party) -> bool:
        """Copy all that a process has open, and let the child drop what it is not to keep; False if it cannot now."""
        if self.not_now.holds(process):
            return False
        dropped = {file_of(owner) for each, owner, file_of in self._owners if each is process}
        for copies in self._copies.values():
            for number, having in copies.items():
                if process in having and number not in dropped:
                    having.append(child)
        return True

    def _look(self, name: str, having: list[Party]) -> None:
        """Somebody finds a file locked. Who is dead has no child that makes it look alive."""
        if self._lockers[name].is_dead and not any(isinstance(party, Process) for party in having):
            self._complain(f"{name} of a process that is dead is locked by its {having[0].name}")


class _NotNow:
    """Stands for `held.NO_FORK`: a process that is in such a block forks behind it."""

    def __init__(self) -> None:
        self._depths: Counter[Process] = Counter()

    def holds(self, process: Process) -> bool:
        """Tell whether a process is in such a block."""
        return self._depths[process] > 0

    def __enter__(self) -> None:
        self._depths[_process()] += 1

    def __exit__(self, *_: object) -> None:
        self._depths[_process()] -= 1


def _process() -> Process:
    party = playing().current.party
    assert isinstance(party, Process)
    return party


class App:
    """A program that runs workflows: it starts those that are its own, and runs until it is told to stop."""

    def __init__(
        self,
        process: Process,
        plots: list[Plot],
        visits: list[Visit],
        ledger: Ledger,
        *,
        on_loop: bool,
        blocks_seconds: float | None,
        has_client: bool,
        comes_back: bool,
        rest_seconds: float,
    ) -> None:
        """Take what it is to do.

        Args:
            process: what it runs in.
            plots: the workflows that it starts.
            visits: what else its threads do.
            ledger: where it is written down.
            on_loop: whether it starts its workflows on an event loop, which it closes while they run.
            blocks_seconds: how long that loop is blocked, while the starts of all of them are under way; `None`
                starts them one after the other.
            has_client: whether it has a client besides, which shares the engine and keeps it open.
            comes_back: whether it launches again, in the same process, after it was stopped for the first time.
            rest_seconds: how long what it executes may take to come to rest when it is stopped.
        """
        self.process = process
        self.is_up = False
        self._visits = visits
        self.has_stopped = False
        self._plots = plots
        self._ledger = ledger
        self._on_loop = on_loop
        self._blocks_seconds = blocks_seconds
        self._has_client = has_client
        self._comes_back = comes_back
        self._rest_seconds = rest_seconds
        self._stop = Event()

    def begin(self, scheduler: Scheduler) -> None:
        """Start the process."""
        scheduler.start(self._run, "main", self.process)

    def stop(self) -> None:
        """Ask it to stop, as SIGTERM does."""
        self._stop.set()

    @property
    def is_ending(self) -> bool:
        """Whether it will not be up again, or not for long."""
        return self.has_stopped or self._stop.is_set()

    def start_all(self, scheduler: Scheduler, plots: list[Plot]) -> None:
        """Let it start these workflows too, from a thread of its own."""
        scheduler.start(partial(self._start, plots), "starter", self.process)

    def _run(self) -> None:
        client = None
        while True:
            _persist(DBOS.launch)
            self.is_up = True
            self._ledger.note("up")
            if self._has_client and client is None:
                client = _persist(self._make_client)
            self._begin_work(client)
            self._stop.wait()
            self.is_up = False
            self._ledger.note("stops")
            DBOS.destroy(workflow_completion_timeout_sec=self._rest_seconds)
            self._ledger.note("stopped")
            self.process.line.starting.clear()  # Whatever still waits belongs to nobody here.
            if not self._comes_back:
                break
            self._comes_back = False
            self._stop.clear()
        self.has_stopped = True

    def _make_client(self) -> DBOSClient:
        return DBOSClient(system_database_url=self.process.settings.connection.database_url)

    def _begin_work(self, client: DBOSClient | None) -> None:
        scheduler = playing()
        if self._plots:
            target = self._start_on_loop if self._on_loop else partial(self._start, self._plots)
            scheduler.start(target, "starter", self.process)
        visits, self._visits = self._visits, []  # None is paid again when it comes back.
        for number, visit in enumerate(visits):
            face = DBOS if client is None or number % 2 else client
            scheduler.start(partial(self._visit, visit, face), f"visitor {number}", self.process)

    def _visit(self, visit: Visit, face: Target) -> None:
        try:
            _pay(visit, face)
        except DBOSShutdownError:
            self._ledger.note("a visit ended with the program")

    def _start(self, plots: list[Plot]) -> None:
        for plot in plots:
            self._ledger.starts(plot.name, on_loop=False)
            try:
                StartOf(plot, programs.workflow_of(plot), plot.name).make()
            except DBOSException as error:
                self._ledger.note("a start failed", plot.name, repr(error))

    def _start_on_loop(self) -> None:
        """Start them on an event loop that is closed while they run."""
        asyncio.run(self._start_async())

    async def _start_async(self) -> None:
        if self._blocks_seconds is None:
            for plot in self._plots:
                await self._start_one(plot)
        else:
            starts = [asyncio.create_task(self._start_one(plot)) for plot in self._plots]
            await asyncio.sleep(0)
            await asyncio.sleep(0)  # All are handed over.
            self._ledger.note("blocks its loop", self._blocks_seconds)
            playing().sleep(self._blocks_seconds)
            await asyncio.gather(*starts)
        await tell_async(_some_pause())

    async def _start_one(self, plot: Plot) -> None:
        """Start a workflow in a context and on a thread that its first execution must have too."""
        programs.STARTER.set(plot.name)
        starting = self.process.line.starting
        starting.add(plot.name)
        self._ledger.starts(plot.name, on_loop=True)
        try:
            await StartOf(plot, programs.workflow_of(plot), plot.name).make_async()
        except DBOSException as error:
            self._ledger.note("a start failed", plot.name, repr(error))
        finally:
            starting.discard(plot.name)


def _some_pause() -> Story[None]:
    yield Pause(playing().dice.random() * 5)


class Client:
    """A program that runs no workflows: visitors, each in a thread or on a loop of its own."""

    def __init__(self, process: Process, visits: list[Visit]) -> None:
        self.process = process
        self.left = len(visits)
        self._visits = visits

    def begin(self, scheduler: Scheduler) -> None:
        """Start the process."""
        scheduler.start(self._run, "main", self.process)

    def _run(self) -> None:
        scheduler = playing()
        url = self.process.settings.connection.database_url
        client = _persist(lambda: DBOSClient(system_database_url=url))
        for number, visit in enumerate(self._visits):
            scheduler.start(partial(self._visit, visit, client), f"visitor {number}", self.process)

    def _visit(self, visit: Visit, client: DBOSClient) -> None:
        _pay(visit, client)
        self.left -= 1
        if not self.left:
            client.destroy()


class Script(Client):
    """A program that registers workflows and executes none: it starts some, for others to execute."""

    def _run(self) -> None:
        scheduler = playing()
        _persist(lambda: DBOS.launch(execute=False))
        for number, visit in enumerate(self._visits):
            scheduler.start(partial(self._pay_as, visit), f"visitor {number}", self.process)

    def _pay_as(self, visit: Visit) -> None:
        _pay(visit, DBOS)
        self.left -= 1
        if not self.left:
            DBOS.destroy()


def _pay(visit: Visit, face: Target) -> None:
    story, is_async = visit
    if is_async:
        asyncio.run(tell_async(story(face)))
    else:
        tell(story(face))


def _persist(make: Callable[[], T]) -> T:
    """Try until the database answers, as whatever starts programs would."""
    while True:
        try:
            return make()
        except DBOSInitializationError:
            playing().sleep(_AGAIN_SECONDS)
