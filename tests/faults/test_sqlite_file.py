"""An SQLite file that is locked, full, read-only, removed or replaced while workflows run."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import subprocess
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from tests.faults.load import HOUR, Load
from tests.support import programs
from tests.support.app import App, Sightings
from tests.support.face import Face, off_loop
from tidings import store as stores
from tidings.engine.database import outage
from tidings.error import DBOSNonExistentWorkflowError
from tidings.store.sqlite import connect, writer
from tidings.store.sqlite.lock import SideLock

_HOLD = """
import sqlite3, sys
file = sqlite3.connect(sys.argv[1], isolation_level=None)
file.execute("begin immediate")
print("locked", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def path(sqlite_url: str) -> Path:
    """Where the database is."""
    return Path(sqlite_url.removeprefix("sqlite:///"))


class Pragmas:
    """What the writing connection is told when it is opened, and opened it is whenever it failed."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def connect(self, path: str, mode: Literal["rw", "rwc"] = "rw") -> sqlite3.Connection:
        connection = connect.connect(path, mode)
        for pragma in self.told:
            connection.execute(pragma)
        return connection


@pytest.fixture
def pragmas(monkeypatch: pytest.MonkeyPatch) -> Pragmas:
    """Pragmas that make a connection fail."""
    pragmas = Pragmas()
    monkeypatch.setattr(writer, "connect", pragmas.connect)
    monkeypatch.setattr(writer, "BUSY_TIMEOUT_MS", 50)
    monkeypatch.setattr(connect, "BUSY_TIMEOUT_MS", 50)
    monkeypatch.setattr(outage, "SAY_HELD_UP_SECONDS", 0.1)
    monkeypatch.setattr(outage, "HELD_UP_SECONDS", 0.1)
    return pragmas


@pytest.fixture
async def app(sqlite_url: str, path: Path, pragmas: Pragmas) -> AsyncIterator[App]:
    """tidings, launched on an SQLite file."""
    app = App(sqlite_url)
    await app.launch()
    yield app
    await app.close()
    path.parent.mkdir(exist_ok=True)  # For who tidies up.


@contextmanager
def locked_by_another_program(path: Path) -> Iterator[None]:
    """Hold the file's lock, in another process, as long as the block takes."""
    command = programs.python("-c", _HOLD, path)
    with programs.start(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "locked\n"
        yield
        program.communicate("\n")


@pytest.mark.parametrize("trouble", ["locked", "full", "read-only", "removed", "held up"])
async def test_work_goes_on_when_the_trouble_is_over(
    app: App, path: Path, pragmas: Pragmas, face: Face, log: Sightings, trouble: str
) -> None:
    load = Load(face)
    failed = "writing to the database has failed"  # Reading may fail earlier, and be over before anybody writes.
    said = {
        "locked": "another program has been writing to it",
        "full": "its disk is full",
        "read-only": "is not writable",
        "removed": "the file was removed while it was in use; put it back",
        "held up": "it does not answer",
    }[trouble]

    @contextmanager
    def in_trouble() -> Iterator[None]:
        match trouble:
            case "locked":
                with locked_by_another_program(path):
                    yield
            case "held up":  # As by a process of ours that was stopped in the middle of a batch.
                app.engine.hearing._probe_seconds = app.engine.hearing._patience_seconds = 0.05
                with closing(SideLock(str(path))) as lock, lock:
                    yield
            case "removed":
                away = path.with_suffix(".away")
                path.rename(away)
                yield
                away.rename(path)
            case _:
                pragmas.told = ["pragma query_only = on" if trouble == "read-only" else "pragma max_page_count = 1"]
                _ = app.engine.committer.call(lambda store: store.reconnect())
                yield
                pragmas.told = ["pragma max_page_count = 1000000"]  # It is the file's, as far as this process goes.

    async def get_into_trouble() -> None:
        before = len(log.seen)
        trouble = in_trouble()
        await off_loop(trouble.__enter__)
        late = asyncio.ensure_future(face.send("w0", "x" * 100_000, "nobody reads it"))
        await log.until(lambda seen: any(failed in each and said in each for each in seen[before:]))
        assert not late.done()
        await off_loop(trouble.__exit__, None, None, None)
        await late
        await log.until(lambda seen: any("writing to the database works again" in each for each in seen[before:]))

    await load.run(get_into_trouble)
    assert app.rows.run("select count(*) from {messages} where topic = 'nobody reads it'") == [(3,)]
    app.rows.run("delete from {messages} where topic = 'nobody reads it'")
    await load.check(app.rows)
    failures = [each for each in log.seen if "has failed" in each]
    assert all(str(path) in each and "nothing is lost" in each for each in failures)
    assert not [each for each in log.seen if each.startswith(("ERROR", "CRITICAL"))]


async def test_what_the_file_says_that_stands_there_now_counts(
    app: App, path: Path, face: Face, log: Sightings
) -> None:
    """A backup is put in the place of the file. What came after it never was."""
    steps: Counter[tuple[str, int]] = Counter()

    @face.step(name="faults.note")
    async def note(workflow_id: str, number: int) -> int:
        steps[workflow_id, number] += 1
        return number

    @face.workflow(name="faults.count")
    async def count(workflow_id: str) -> list[Any]:
        seen: list[Any] = []
        for number in range(3):
            seen.append(await note(workflow_id, number))
            seen.append(await face.recv("topic", HOUR))
        return seen

    await face.start(count, "both", workflow_id="both")
    await app.waiting("message", "both", "topic")
    backup = path.with_suffix(".backup")
    _copy(path, backup)
    former = app.engine.committer.executor.executor_id
    lost = await face.start(count, "lost", workflow_id="lost")
    await app.waiting("message", "lost", "topic")
    await face.send("both", "forgotten", "topic")
    await app.waiting("message", "both", "topic", times=2)
    assert steps == {("both", 0): 1, ("both", 1): 1, ("lost", 0): 1}

    _replace(path, backup)

    # It stands in the copy as it stood at the first message, and goes on from there.
    for body in ("one", "two", "three"):
        await face.send("both", body, "topic")
    assert await face.get_result("both") == [0, "one", 1, "two", 2, "three"]
    assert steps == {("both", 0): 1, ("both", 1): 2, ("both", 2): 1, ("lost", 0): 1}
    assert app.engine.committer.executor.executor_id != former
    await app.ended("lost")
    assert app.rows.run("select workflow_id, status from {workflows}") == [("both", "SUCCESS")]
    assert any("the file was replaced by another while it was in use" in each for each in log.seen)
    assert any("continues under a new executor id" in each for each in log.seen)
    assert lost.workflow_id == "lost"


async def test_a_file_that_was_lost_can_begin_anew(
    app: App, sqlite_url: str, path: Path, face: Face, log: Sightings
) -> None:
    """Somebody removed it, and the next program that was launched made a new one."""

    @face.workflow(name="faults.receive")
    async def receive() -> Any:
        return await face.recv("topic", HOUR)

    await face.start(receive, workflow_id="w")
    await app.waiting("message", "w", "topic")
    _remove(path)
    sending = asyncio.ensure_future(face.send("w", "hello", "topic"))
    await log.until(lambda seen: any("was removed while it was in use" in each for each in seen))
    await off_loop(stores.open(sqlite_url).migrate)
    with pytest.raises(DBOSNonExistentWorkflowError, match="no workflow has the id 'w'"):
        await sending
    await app.ended("w")
    handle = await face.start(receive, workflow_id="w")
    await face.send("w", "again", "topic")
    assert await handle.get_result() == "again"


def _replace(path: Path, backup: Path) -> None:
    for side in ("", "-wal", "-shm"):  # As SQLite asks of whoever does so.
        Path(f"{path}{side}").rename(f"{path}.former{side}")
    backup.rename(path)


def _remove(path: Path) -> None:
    for side in ("", "-wal", "-shm", "-lock"):
        Path(f"{path}{side}").unlink()


def _copy(path: Path, target: Path) -> None:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(target)) as copied:
        source.backup(copied)


async def test_a_directory_that_is_gone_holds_up_no_end(app: App, path: Path) -> None:
    shutil.rmtree(path.parent)
    assert app.engine.committer.died is None
