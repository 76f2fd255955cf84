"""An application in this process: launched on a database, crashed on purpose, and launched again.

A crash ends the one thread that writes, as the end of the process would: committed units stay, and nothing more is
written. The next launch finds a dead executor and recovers its workflows.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
import uuid
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, TypeVar
from unittest.mock import patch

from tests.support.face import off_loop
from tests.support.rows import Rows
from tidings import DBOS, DBOSConfig, SetWorkflowID
from tidings.engine.engine import Engine
from tidings.engine.hooks import Hooks, Point
from tidings.engine.host import Host
from tidings.engine.process import Process
from tidings.error import DBOSShutdownError
from tidings.model import Unit

T = TypeVar("T")
WaitKey = tuple[str | None, ...]

_FOREVER = 3_600.0  # seconds: longer than the watchdog lets a test run
_PATIENCE = 30.0


class Crash(BaseException):
    """The simulated end of a process."""


class Sightings:
    """A record of what passed a point of the engine. A test waits until it has seen enough."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self.seen: list[Any] = []

    def note(self, what: Any) -> None:
        with self._changed:
            self.seen.append(what)
            self._changed.notify_all()

    async def until(self, enough: Callable[[list[Any]], bool]) -> None:
        def wait() -> None:
            with self._changed:
                self._changed.wait_for(lambda: enough(self.seen))

        await off_loop(wait)


class App:
    """The application of one test."""

    def __init__(self, database_url: str) -> None:
        self.database_url = database_url
        self.rows = Rows(database_url)
        # Pinned, because a test registers code after the first launch, which would change the version.
        self.config: DBOSConfig = {
            "name": "test",
            "system_database_url": database_url,
            "application_version": "1",
        }
        self.waits = Sightings()
        self.ends = Sightings()
        self.crashes = 0
        self.is_off_loop = False
        self.executes = True  # from the next launch on
        # The hash of the program's files at the next launches. By default each launch has another one: what the code of
        # a test does may depend on its variables.
        self.code_hash: str | None = None

    @property
    def host(self) -> Host:
        assert Process.host is not None
        return Process.host

    @property
    def engine(self) -> Engine:
        return self.host.engine

    # --- life -------------------------------------------------------------------------------------

    async def launch(self, **config: Any) -> None:
        """Configure and launch. The arguments change the configuration of this launch and of later ones."""
        self.config = {**self.config, **config}  # type: ignore[typeddict-item]
        DBOS(config=self.config)
        self.waits, self.ends = Sightings(), Sightings()
        hooks = Hooks()
        hooks.set(Point.WAITING, self._note_wait)
        hooks.set(Point.RUN_ENDED, self.ends.note)
        # Set before the launch: recovery begins in it.
        code_hash = self.code_hash or uuid.uuid4().hex
        with (
            patch("tidings.engine.engine.Hooks", return_value=hooks),
            patch("tidings.engine.host.hash_with_files", return_value=code_hash),
        ):
            if self.is_off_loop:
                await off_loop(DBOS.launch, execute=self.executes)
            else:
                await DBOS.launch_async(execute=self.executes)

    async def relaunch_off_loop(self) -> None:
        """Launch again in a thread without an event loop, so that the workflows have no loop of the program."""
        self.is_off_loop = True
        await self.relaunch()

    async def relaunch(self, **config: Any) -> None:
        """Shut down in order, and launch again."""
        await DBOS.destroy_async()
        await self.launch(**config)

    async def crash(self) -> None:
        """Crash now, in the middle of all work."""

        def die(_: object) -> None:
            raise Crash

        with contextlib.suppress(Exception):
            await self.engine.committer.call(die)
        await self._bury()

    def crash_at(self, count: int, point: Point = Point.BATCH_TAKEN) -> Sightings:
        """Crash at the `count`th commit from now on: before it, or with `Point.BATCH_COMMITTED` right after it.

        Returns:
            Sightings that note the crash.
        """
        numbers = itertools.count(1)
        seen = Sightings()

        def pass_by(jobs: list[Any]) -> None:
            if any(job.unit != Unit() for job in jobs) and next(numbers) == count:
                seen.note(count)
                raise Crash

        self.engine.hooks.set(point, pass_by)
        return seen

    async def crash_and_restart(self, **config: Any) -> None:
        """Crash now, and launch again."""
        await self.crash()
        await self.launch(**config)

    async def restart_after(self, crash: Sightings) -> None:
        """Wait for the crash that `crash_at` has set, and launch again."""
        await crash.until(bool)
        await self._bury()
        await self.launch()

    async def play_twice(self, code: Callable[[], Coroutine[Any, Any, Any]], colour: str) -> None:
        """Run `code` as a workflow, and once more after a crash at its end.

        Args:
            code: what the workflow does.
            colour: "async", or "blocking" for a blocking workflow that runs `code` on a loop in its thread.
        """

        @DBOS.workflow(name="order")
        async def order() -> None:
            await code()
            await DBOS.recv_async("go", _FOREVER)

        @DBOS.workflow(name="blocking order")
        def blocking_order() -> None:
            asyncio.run(code())
            DBOS.recv("go", _FOREVER)

        with SetWorkflowID("order"):
            await DBOS.start_workflow_async(order if colour == "async" else blocking_order)
        await self.waiting("message", "order", "go")
        await self.crash_and_restart()
        await DBOS.send_async("order", None, "go")
        await DBOS.get_result_async("order", timeout_seconds=_PATIENCE)

    async def crash_at_every_commit(self, point: Point, program: Callable[[str], Awaitable[None]]) -> int:
        """Run `program` repeatedly, crashing at the first commit, then at the second, and so on, until it runs through.

        After each crash the same program runs again on the recovered workflows. It is called with a name for its
        workflows. The name is the same after the crash, so the program's starts find the existing workflows.

        Returns:
            The number of commits at which it crashed.
        """
        for count in itertools.count(1):
            crash = self.crash_at(count, point)
            try:
                await program(f"{count}")
                # The program may have read the end of a workflow while the crash at that commit is still to come.
                await self.engine.committer.call(lambda _: None)
            except DBOSShutdownError:
                await self.restart_after(crash)
                await program(f"{count}")
            else:
                self.engine.hooks.set(point, None)
                return count - 1
        raise AssertionError

    def in_turn(self, ways: Mapping[str, T], point: Point, name: str) -> T:
        """Choose one of `ways` for the program that `crash_at_every_commit` runs under this name: each in turn.

        Each point on each store begins with another way, so that four ways crash at each commit.
        """
        first = 2 * self.rows.is_sqlite + (point is Point.BATCH_TAKEN)
        return list(ways.values())[(first + int(name)) % len(ways)]

    async def close(self) -> None:
        """End the application of this test, and forget its workflows."""
        died = Process.host.engine.committer.died if Process.host is not None else None
        await DBOS.destroy_async(destroy_registry=True)
        assert died is None, f"the committer died of {died!r}"

    async def _bury(self) -> None:
        self.crashes += 1
        await DBOS.destroy_async()

    # --- what a test waits for ----------------------------------------------------------------------

    async def waiting(self, kind: str, workflow_id: str, *rest: str | None, times: int = 1) -> None:
        """Wait until a wait for this message, event or end of a workflow begins, for the `times`th time.

        `waiting("message", id, topic)`, `waiting("event", id, key)`, `waiting("end", id)`.
        """
        key = (kind, workflow_id, *rest)
        await self.waits.until(lambda seen: sum(key in keys for keys in seen) >= times)

    async def waiting_for_time(self, times: int = 1) -> None:
        """Wait until `times` pauses have begun: a sleep, or a step's before its next try."""
        await self.waits.until(lambda seen: sum(not keys for keys in seen) >= times)

    async def ended(self, workflow_id: str) -> None:
        """Wait until a run of the workflow has ended in this process, in any way."""
        await self.ends.until(lambda seen: workflow_id in seen)

    def _note_wait(self, arrival: Any) -> None:
        self.waits.note(arrival.keys if arrival is not None else ())
