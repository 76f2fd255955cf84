"""The faults, by name. A fault's coroutine injects it, waits while it lasts, and returns when it is over.

A slot whose process suffers a fault is in use meanwhile. All times come from the conductor's random numbers.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence

from chaos.databases import Database, PostgresDatabase, SQLiteFile
from chaos.histories import Fault
from chaos.journal import journal
from chaos.load.program import CLIENT, WORKER
from chaos.processes import Slot

KILL = "kill -9 of a worker"
KILL_CLIENT = "kill -9 of a client"
TERMINATE = "graceful stop of a worker"
PAUSE = "pause of a worker beyond its lease"
LOCK = "write lock held by another program"
CRASH = "crash of the server"
RESTART = "restart of the server"
CUT = "connections of a process cut"
CUT_ALL = "all connections cut"
HOLE = "black hole before a process"

# How often each fault is in one shuffled deck.
OF_PROCESSES = {KILL: 4, KILL_CLIENT: 1, TERMINATE: 2, PAUSE: 2}
OF_SQLITE = {LOCK: 3}
OF_POSTGRESQL = {CUT: 2, CUT_ALL: 1, HOLE: 1}
OF_OWN_SERVER = {CRASH: 1, RESTART: 1}


class Faults:
    """Injects faults."""

    def __init__(self, database: Database, slots: Sequence[Slot], lease_seconds: float, dice: random.Random) -> None:
        self._database = database
        self._slots = slots
        self._lease = lease_seconds
        self._dice = dice
        self._server = asyncio.Lock()
        self._faults: dict[str, Callable[[], Awaitable[None]]] = {
            KILL: self._kill_worker,
            KILL_CLIENT: self._kill_client,
            TERMINATE: self._terminate,
            PAUSE: self._pause,
            LOCK: self._lock,
            CRASH: self._crash,
            RESTART: self._restart,
            CUT: self._cut,
            CUT_ALL: self._cut_all,
            HOLE: self._hole,
        }

    def deck(self) -> list[str]:
        """Return the faults that are possible here, shuffled."""
        counts = dict(OF_PROCESSES)
        if isinstance(self._database, PostgresDatabase):
            counts |= OF_POSTGRESQL | (OF_OWN_SERVER if self._database.server is not None else {})
        else:
            counts |= OF_SQLITE
        cards = [kind for kind, count in counts.items() for _ in range(count)]
        self._dice.shuffle(cards)
        return cards

    async def let(self, kind: str) -> None:
        """Inject this fault, and return when it is over."""
        await self._faults[kind]()

    # --- processes ------------------------------------------------------------------------------------

    async def _kill_worker(self) -> None:
        await self._kill(KILL, WORKER)

    async def _kill_client(self) -> None:
        await self._kill(KILL_CLIENT, CLIENT)

    async def _kill(self, kind: str, role: str) -> None:
        slot, pause = self._pick(role), self._dice.uniform(0.1, 1.5 * self._lease)
        async with slot.in_use:
            journal.note(Fault(kind, slot.process_name, pause))
            await slot.kill()
            await asyncio.sleep(pause)
            await slot.start()

    async def _terminate(self) -> None:
        slot, pause = self._pick(WORKER), self._dice.uniform(0.0, self._lease)
        async with slot.in_use:
            await slot.await_ready()  # Before that, the process may have no handler for the signal.
            journal.note(Fault(TERMINATE, slot.process_name, pause))
            await slot.terminate()
            await asyncio.sleep(pause)
            await slot.start()

    async def _pause(self) -> None:
        slot, pause = self._pick(WORKER), self._lease * self._dice.uniform(1.2, 2.2)
        async with slot.in_use:
            await slot.await_ready()
            journal.note(Fault(PAUSE, slot.process_name, pause))
            slot.pause()
            await asyncio.sleep(pause)
            slot.resume()

    def _pick(self, role: str) -> Slot:
        """Pick a slot that suffers no fault now, if there is one."""
        slots = [each for each in self._slots if each.role == role]
        return self._dice.choice([each for each in slots if not each.in_use.locked()] or slots)

    # --- the database ---------------------------------------------------------------------------------

    async def _lock(self) -> None:
        assert isinstance(self._database, SQLiteFile)
        seconds = self._dice.uniform(0.3, 1.5 * self._lease)
        async with self._server:
            journal.note(Fault(LOCK, "database", seconds))
            await self._database.hold(seconds)

    async def _crash(self) -> None:
        await self._away(CRASH, PostgresDatabase.crash)

    async def _restart(self) -> None:
        await self._away(RESTART, PostgresDatabase.restart)

    async def _away(self, kind: str, how: Callable[[PostgresDatabase, float], Awaitable[None]]) -> None:
        assert isinstance(self._database, PostgresDatabase)
        seconds = self._dice.uniform(0.0, self._lease)
        async with self._server:
            journal.note(Fault(kind, "server", seconds))
            await how(self._database, seconds)

    async def _cut(self) -> None:
        assert isinstance(self._database, PostgresDatabase)
        name = self._dice.choice(sorted(self._database.proxies))
        journal.note(Fault(CUT, name))
        await asyncio.to_thread(self._database.proxies[name].cut)

    async def _cut_all(self) -> None:
        assert isinstance(self._database, PostgresDatabase)
        journal.note(Fault(CUT_ALL, "all"))
        await asyncio.gather(*(asyncio.to_thread(proxy.cut) for proxy in self._database.proxies.values()))

    async def _hole(self) -> None:
        assert isinstance(self._database, PostgresDatabase)
        name = self._dice.choice(sorted(self._database.proxies))
        seconds, is_cut = self._dice.uniform(0.5, 2 * self._lease), self._dice.random() < 0.5
        proxy = self._database.proxies[name]
        journal.note(Fault(HOLE, name, seconds))
        await asyncio.to_thread(proxy.hold)
        await asyncio.sleep(seconds)
        if is_cut:
            await asyncio.to_thread(proxy.cut)
        await asyncio.to_thread(proxy.release)
