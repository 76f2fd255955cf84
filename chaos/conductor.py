"""The conductor: starts all processes, injects faults, waits for the end, and lets the checker judge.

The seed determines which faults come, when, and for how long. It does not determine their effects: the processes are
real.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from chaos.checker import check
from chaos.counts import count
from chaos.databases import Database
from chaos.ending import await_ends, read_final
from chaos.evidence import Evidence
from chaos.faults import Faults
from chaos.journal import journal, read_journals
from chaos.load.program import CLIENT, WORKER
from chaos.processes import Guard, Slot
from chaos.violations import Violation
from tidings import DBOSClient
from tidings.error import DBOSInitializationError

WORKERS = 3
CLIENTS = 2

CONDUCTOR = "conductor"

CONNECT_SECONDS = 60.0
LOOK_SECONDS = 0.5


class Plan(msgspec.Struct, frozen=True):
    """The plan of a run.

    Attributes:
        seconds: how long to inject faults.
        seed: determines all faults.
        directory: where the histories go.
        lease_ms: the workers' lease; others take over the workflows of a process that is silent for longer.
        pauses: the shortest and the longest time between two faults, in seconds.
        first: faults that come first, in this order.
        patience_seconds: after the last fault, how long to wait until rounds are finished, and then until no workflow
            is pending.
    """

    seconds: float
    seed: int
    directory: Path
    lease_ms: int = 3_000
    pauses: tuple[float, float] = (0.3, 4.0)
    first: tuple[str, ...] = ()
    patience_seconds: float = 120.0


class Report(msgspec.Struct, frozen=True):
    """The result of a run."""

    counts: dict[str, int]
    violations: list[Violation]


async def conduct(plan: Plan, database: Database, progress: Callable[[float, str], None]) -> Report:
    """Run the whole plan. Calls `progress` with the seconds that have passed and the current activity."""
    journal.open(plan.directory, CONDUCTOR)
    with Guard() as guard:
        slots = _slots(plan, database, guard)
        await asyncio.gather(*(slot.start() for slot in slots))
        await asyncio.gather(*(slot.await_ready() for slot in slots if slot.role == WORKER))
        await _let_things_fail(plan, database, slots, progress)
        progress(plan.seconds, "waiting for everything to end")
        await _drain(slots, plan.patience_seconds)
        async with await _connect(database.url) as client:
            await await_ends(client, plan.patience_seconds / 2)
            progress(plan.seconds, "reading the database")
            await asyncio.gather(*(slot.terminate() for slot in slots))
            final = await read_final(client, read_journals(plan.directory))
    journal.close()
    progress(plan.seconds, "checking")
    (plan.directory / "final.json").write_bytes(msgspec.json.encode(final))
    evidence = Evidence(histories := read_journals(plan.directory), final)
    violations = check(histories, final)
    (plan.directory / "violations.txt").write_text("".join(f"{each}\n" for each in violations))
    return Report(count(evidence), violations)


async def _connect(url: str) -> DBOSClient:
    """Connect; retry for a while, because the machine may be busy."""
    deadline = time.monotonic() + CONNECT_SECONDS
    while True:
        try:
            return await asyncio.to_thread(lambda: DBOSClient(system_database_url=url))
        except DBOSInitializationError:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(LOOK_SECONDS)


def _slots(plan: Plan, database: Database, guard: Guard) -> list[Slot]:
    names = [(WORKER, f"{WORKER}-{number}") for number in range(WORKERS)]
    names += [(CLIENT, f"{CLIENT}-{number}") for number in range(CLIENTS)]
    return [Slot(role, name, database.url_for(name), plan.directory, plan.lease_ms, guard) for role, name in names]


async def _let_things_fail(
    plan: Plan, database: Database, slots: Sequence[Slot], progress: Callable[[float, str], None]
) -> None:
    """Inject one fault after the other, without waiting for the end of the one before."""
    dice = random.Random(plan.seed)
    faults = Faults(database, slots, plan.lease_ms / 1_000, dice)
    began = time.monotonic()
    under_way: list[asyncio.Task[None]] = []
    for kind in _kinds(plan, faults):
        pause = dice.uniform(*plan.pauses)
        if time.monotonic() - began + pause > plan.seconds:
            break
        await asyncio.sleep(pause)
        progress(time.monotonic() - began, kind)
        under_way.append(asyncio.create_task(faults.let(kind)))
    await asyncio.sleep(max(0.0, began + plan.seconds - time.monotonic()))
    await asyncio.gather(*under_way)


def _kinds(plan: Plan, faults: Faults) -> Iterator[str]:
    yield from plan.first
    while True:
        yield from faults.deck()


async def _drain(slots: Sequence[Slot], seconds: float) -> None:
    """Wait until all processes have finished what they had begun; the checker reports those that have not."""
    for slot in slots:
        slot.drain()
    waiting = [asyncio.create_task(slot.is_drained.wait()) for slot in slots]
    _, late = await asyncio.wait(waiting, timeout=seconds)
    for each in late:
        each.cancel()
