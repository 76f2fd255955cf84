"""Streams between processes: what is written just before the end is read, in whatever process."""

import asyncio
import subprocess

import pytest

from tests.support import programs
from tests.support.face import off_loop
from tidings import DBOS, SendMessage, SetWorkflowID

COUNT = 3_000


@DBOS.workflow(name="streams.short")
async def short(number: int) -> None:
    """Write, wait, write again, and be gone."""
    await DBOS.write_stream_async("log", number)
    await DBOS.recv_async("go", None)
    await DBOS.write_stream_async("log", -number)


@pytest.mark.timeout(600)  # On a machine that may have other things to do.
@pytest.mark.long
async def test_s5_workflows_that_write_just_before_they_end_are_read_whole_elsewhere(database_url: str) -> None:
    DBOS(config={"name": "streams", "system_database_url": database_url, "application_version": "1"})
    command = programs.python("-m", "tests.processes.follower", database_url, f"{COUNT}")
    async with await DBOS.launch_async():
        await asyncio.gather(*map(_start, range(COUNT)))
        with await off_loop(programs.start, *command, stdout=subprocess.PIPE) as follower:
            assert follower.stdout is not None
            assert await off_loop(follower.stdout.readline) == "live\n"
            await DBOS.send_bulk_async([SendMessage(f"w{number}", None, "go") for number in range(COUNT)])
            assert await off_loop(follower.stdout.readline) == "wrong: []\n"


async def _start(number: int) -> None:
    with SetWorkflowID(f"w{number}"):
        await DBOS.start_workflow_async(short, number)
