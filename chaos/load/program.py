"""A process of the load, as the conductor starts it.

    python -m chaos.load.program OPTIONS

A worker runs workflows and plays rounds; a client runs none and makes visits. The process says "ready" when it has
connected. Told to "drain", it begins nothing new, and says "drained" when it has finished what it had begun. A worker
continues to run workflows until a SIGTERM, which ends both kinds cleanly.
"""

from __future__ import annotations

import asyncio
import dataclasses
import faulthandler
import logging
import random
import signal
import sys
import threading
from pathlib import Path

import msgspec

from chaos.journal import journal
from chaos.load.rounds import play_rounds
from chaos.load.visits import visit_all
from tidings import DBOS, DBOSClient
from tidings.engine.process import Process
from tidings.error import DBOSInitializationError

WORKER, CLIENT = "worker", "client"
READY, DRAIN, DRAINED = "ready", "drain", "drained"
RETRY_SECONDS = 0.2
VERSION = "1"
COMPLETION_SECONDS = (0, 0, 1, 3)
CANCEL_SECONDS = 0.5


class Options(msgspec.Struct, frozen=True):
    """The options of a process.

    Attributes:
        role: worker or client.
        slot: its slot; a process that replaces an ended one has the same slot.
        process: its name, which is unique.
        url: the database.
        directory: where its journal goes.
        lease_ms: its lease; others take over its workflows if it is silent for longer.
    """

    role: str
    slot: str
    process: str
    url: str
    directory: str
    lease_ms: int


class Orders:
    """The conductor's orders to this process."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.is_over = asyncio.Event()
        self.is_told_to_end = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, self.is_told_to_end.set)
        threading.Thread(target=self._listen, args=(loop,), daemon=True).start()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        for line in sys.stdin:
            if line.strip() == DRAIN:
                loop.call_soon_threadsafe(self.is_over.set)


async def work(options: Options, orders: Orders) -> None:
    """Run workflows and play rounds."""
    DBOS(
        config={
            "name": "chaos",
            "system_database_url": options.url,
            "application_version": VERSION,
            "executor_id": options.process,
        }
    )
    settings = Process.settings
    assert settings is not None
    connection = dataclasses.replace(settings.connection, lease_ms=options.lease_ms)  # No public setting exists.
    Process.settings = dataclasses.replace(settings, connection=connection)
    while not await _launched():
        if orders.is_told_to_end.is_set():
            return
    try:
        say(READY)
        await _until_the_end(play_rounds(Path(options.directory), options.slot, orders.is_over), orders)
    finally:
        # At random, running workflows may finish or are cut short; other processes continue those that are left.
        await DBOS.destroy_async(workflow_completion_timeout_sec=random.choice(COMPLETION_SECONDS))


async def visit(options: Options, orders: Orders) -> None:
    """Talk with workflows."""
    while (client := await asyncio.to_thread(_connected, options.url)) is None:
        if orders.is_told_to_end.is_set():
            return
        await asyncio.sleep(RETRY_SECONDS)
    async with client:
        say(READY)
        await _until_the_end(visit_all(client, orders.is_over), orders)


async def _launched() -> bool:
    """Launch. Returns False if the database cannot be reached now; the caller tries again."""
    try:
        await DBOS.launch_async()
    except DBOSInitializationError as error:
        logging.getLogger("chaos").warning("not launched yet: %s", error)
        await asyncio.sleep(RETRY_SECONDS)
        return False
    return True


def _connected(url: str) -> DBOSClient | None:
    try:
        return DBOSClient(system_database_url=url)
    except DBOSInitializationError as error:
        logging.getLogger("chaos").warning("not connected yet: %s", error)
        return None


async def _until_the_end(activity: object, orders: Orders) -> None:
    """Run `activity` until it is done or the process is told to end; then wait until it is told to end."""
    assert asyncio.iscoroutine(activity)
    doing = asyncio.create_task(activity)
    ending = asyncio.create_task(orders.is_told_to_end.wait())
    await asyncio.wait((doing, ending), return_when=asyncio.FIRST_COMPLETED)
    if doing.done():
        doing.result()
        say(DRAINED)
    else:
        doing.add_done_callback(lambda done: done.cancelled() or done.exception())
        doing.cancel()
        # It may wait for a commit while the database cannot be reached. `destroy` does not wait for that.
        await asyncio.wait((doing,), timeout=CANCEL_SECONDS)
    await ending


def say(line: str) -> None:
    """Send a line to the conductor."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


async def main() -> None:
    """Run as the options say."""
    options = msgspec.json.decode(sys.argv[1], type=Options)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    faulthandler.register(signal.SIGUSR1)  # Writes the stacks of all threads to the log.
    journal.open(Path(options.directory), options.process)
    orders = Orders()
    await (work if options.role == WORKER else visit)(options, orders)


if __name__ == "__main__":
    asyncio.run(main())
