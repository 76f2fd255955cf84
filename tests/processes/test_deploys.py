"""Deploys: the source of a program is edited, and its processes are replaced: real processes, on both stores.

The version is the hash of the code. The lease is an hour, and re-checks are an hour apart: a process that does not
continue a workflow at once waits longer than the watchdog allows.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.processes.beside import Beside
from tests.support import programs
from tests.support.engines import wait_until
from tidings import DBOSClient, StuckInfo, WorkflowStatus
from tidings.error import DBOSUnexpectedStepError

pytestmark = pytest.mark.direct("must hear at once", only="transaction")

ENDINGS = [signal.SIGTERM, signal.SIGKILL]

TOPICS = '''
"""The names of topics."""

CONFIRM = "confirm"
'''

SHOP = '''
"""A shop."""

import sys

from tests.processes.deployed import executes, serve
from tidings import DBOS
from topics import CONFIRM

LIMIT = 3_600.0


def greet(name: str) -> str:
    return f"Dear {name}"


@DBOS.step()
async def reserve() -> int:
    return executes("reserve")


@DBOS.step()
async def ship() -> int:
    return executes("ship")


@DBOS.workflow(name="order")
async def order() -> list[int]:
    # An order is shipped when it is confirmed.
    reserved = await reserve()
    await DBOS.recv_async(CONFIRM, LIMIT)
    return [reserved, await ship()]


@DBOS.workflow(name="offer")
async def offer() -> list[int]:
    reserved = await reserve()
    await DBOS.recv_async("accept", LIMIT)
    return [reserved, await ship()]


if __name__ == "__main__":
    serve({"order": order, "offer": offer}, *sys.argv[1:])
'''

# What may be edited while orders wait, in one deploy each: an old text, and a new one.
HARMLESS = (
    {
        "a comment": ("# An order is shipped when it is confirmed.", "# Ship what is confirmed."),
        "a recorded step": ('executes("reserve")', 'executes("reserve") or 7'),
        "a step to come": ('executes("ship")', 'executes("ship with care")'),
    },
    {
        "an unrelated function": ('f"Dear {name}"', 'f"Hello {name}!"'),
        "a time limit": ("LIMIT = 3_600.0", "LIMIT = 7_200.0"),
    },
    {"code after the wait": ("(CONFIRM, LIMIT)\n", "(CONFIRM, LIMIT)\n    await reserve()\n")},
)
LATER = HARMLESS[2]["code after the wait"]

# What an order that waits cannot continue with: the file, an old text, a new one, what is recorded, what is called.
BREAKING = {
    "another topic": ("topics.py", '"confirm"', '"pay"', "DBOS.recv on 'confirm'", "DBOS.recv on 'pay'"),
    "a step before": ("shop.py", "confirmed.\n", "confirmed.\n    await ship()\n", "reserve", "ship"),
}

# Asks at the beginning of an order.
PATCH = ("# An order", 'if await DBOS.patch_async("greeting"):\n        greet("you")\n    # An order')


class Shop:
    """The files of a program, and its processes on one database."""

    def __init__(self, folder: Path, url: str, face: str, stack: ExitStack) -> None:
        self._folder, self._url, self._stack = folder, url, stack
        self.client = stack.enter_context(DBOSClient(system_database_url=url))
        text = SHOP if face == "async" else _blocking(SHOP)
        self._is_async = face == "async"
        self._texts = {"shop.py": text, "topics.py": TOPICS}
        self._former = [dict(self._texts)]
        self._write()

    def edit(self, old: str, new: str, file: str = "shop.py") -> None:
        """Edit a file in place."""
        text = self._texts[file]
        if not self._is_async:
            old, new = _blocking(old), _blocking(new)
        assert text.count(old) == 1, f"{file} has {old!r} {text.count(old)} times"
        self._former.append(dict(self._texts))
        self._texts[file] = text.replace(old, new)
        self._write()

    def undo(self) -> None:
        """Take the last edit back."""
        self._texts = self._former.pop()
        self._write()

    def deploy(self, config: str = "{}") -> Beside:
        """Start a process of the code as it is now."""
        # No bytecode: Python takes it for that of an edited file, if the time in seconds and the size are the same.
        environment = programs.environment() | {"PYTHONDONTWRITEBYTECODE": "1"}
        process = Beside(*programs.python(self._folder / "shop.py", self._url, config), env=environment)
        self._stack.callback(process.end)
        process.hears("launched")
        return process

    def confirm(self, workflow_id: str) -> list[int]:
        """Let an order go on, and return what it returns: which processes executed its steps."""
        self.client.send(workflow_id, None, "confirm")
        executed: list[int] = self.client.get_result(workflow_id)
        return executed

    def found(self, workflow_id: str) -> WorkflowStatus:
        [found] = self.client.list_workflows(workflow_ids=[workflow_id])
        return found

    def stuck(self) -> dict[str, StuckInfo | None]:
        return {each.workflow_id: each.stuck for each in self.client.list_workflows(stuck=True)}

    def _write(self) -> None:
        for name, text in self._texts.items():
            (self._folder / name).write_text(text)


def _blocking(text: str) -> str:
    """Return the blocking twin of async code."""
    return re.sub(r"async (?=def )|await |_async(?=\()", "", text)


both_faces = pytest.mark.parametrize("face", ["blocking", "async"])


@pytest.fixture
def face(database_url: str) -> str:
    """How the program is written: where nothing depends on it, in one way for each store."""
    return "blocking" if database_url.startswith("sqlite") else "async"


@pytest.fixture
def shop(tmp_path: Path, database_url: str, face: str) -> Iterator[Shop]:
    """A shop; its processes end with the test."""
    with ExitStack() as stack:
        yield Shop(tmp_path, database_url, face, stack)


def names(kind: str, count: int) -> list[str]:
    return [f"{kind}{number}" for number in range(count)]


def await_orders(process: Beside, *workflow_ids: str) -> None:
    """Wait until these orders wait in this process for their confirmations."""
    for workflow_id in workflow_ids:
        process.waits(["message", workflow_id, "confirm"])


def lines_about(process: Beside, workflow_id: str) -> list[str]:
    return [line for line in process.errors.splitlines() if f"'{workflow_id}'" in line]


@both_faces
def test_v1_edited_code_continues_what_waits(shop: Shop) -> None:
    """Three deploys, and the order waits for all of them."""
    process = shop.deploy()
    process.begin("start", "order", "w")
    await_orders(process, "w")
    first, versions = process.pid, [shop.found("w").app_version]
    for ending, edits in zip([signal.SIGTERM, signal.SIGKILL, signal.SIGTERM], HARMLESS, strict=True):
        process.kill(ending)
        process.end()
        for old, new in edits.values():
            shop.edit(old, new)
        process = shop.deploy()
        await_orders(process, "w")
        versions.append(shop.found("w").app_version)
    assert shop.confirm("w") == [first, process.pid]
    assert process.hears("executes", "w") == "reserve", "the step after the wait, not the recorded one"
    assert process.hears("executes", "w", "ship with care")
    assert [each["function_name"] for each in shop.client.list_workflow_steps("w")] == [
        "reserve",
        "DBOS.recv",
        "reserve",
        "ship",
    ]
    assert len(set(versions)) == len(versions) - 1, "the unrelated function and the constant are in no workflow"
    assert "was recorded with" not in process.errors


@pytest.mark.parametrize("ending", ENDINGS)
def test_v3_in_a_rolling_deploy_orders_stay_with_old_processes_and_go_to_the_new_one_with_the_last(
    shop: Shop, ending: signal.Signals
) -> None:
    orders = names("w", 20)
    one, other = shop.deploy(), shop.deploy()
    shop.edit(*LATER)
    new = shop.deploy()
    one.begin("start", "order", *orders)
    await_orders(one, *orders)
    one.kill(ending)
    await_orders(other, *orders)  # The new process has looked for them too.
    assert shop.confirm("w0") == [one.pid, other.pid]
    other.kill(ending)
    await_orders(new, *orders[1:])
    assert shop.confirm("w1") == [one.pid, new.pid]
    assert [each.end() for each in (one, other)] == [-ending] * 2


@pytest.mark.parametrize("ending", ENDINGS)
def test_v3_all_old_processes_end_at_once(shop: Shop, ending: signal.Signals) -> None:
    orders, others = names("w", 20), names("v", 20)
    old = shop.deploy(), shop.deploy()
    shop.edit(*LATER)
    new = shop.deploy()
    for process, ids in zip(old, (orders, others), strict=True):
        process.begin("start", "order", *ids)
        await_orders(process, *ids)
    for process in old:
        process.kill(ending)
    await_orders(new, *orders, *others)
    for process, workflow_id in zip(old, ("w7", "v7"), strict=True):
        assert shop.confirm(workflow_id) == [process.pid, new.pid]


@both_faces
@pytest.mark.parametrize("change", BREAKING)
def test_v2_code_that_calls_something_else_leaves_an_order_stuck_until_the_old_code_is_back(
    shop: Shop, change: str
) -> None:
    file, was, now, recorded, called = BREAKING[change]
    old = shop.deploy()
    old.begin("start", "order", "w")
    await_orders(old, "w")
    former = shop.found("w").app_version
    old.kill(signal.SIGKILL)
    shop.edit(was, now, file)
    new = shop.deploy()
    with pytest.raises(DBOSUnexpectedStepError) as raised:
        shop.client.get_result("w")
    assert (raised.value.recorded, raised.value.called) == (recorded, called)
    assert new.raises("get_result", "w") == new.raises("start", "order", "w") == "DBOSUnexpectedStepError"
    found = shop.found("w")
    assert (found.status, found.executor_id, found.stuck) == ("PENDING", None, shop.stuck()["w"])
    assert found.stuck is not None
    assert (found.stuck.version == former) == (file == "topics.py"), "a constant is in no function"
    new.begin("start", "offer", "other")
    new.waits(["message", "other", "accept"])
    new.kill(signal.SIGTERM)
    new.end()
    again = shop.deploy()
    again.waits(["message", "other", "accept"])  # It has looked for what it may continue.
    assert shop.found("w") == found, "the same code does not try again"
    [line] = lines_about(new, "w")
    assert f"was recorded with {recorded}" in line
    assert f"the code now calls {called}" in line
    assert lines_about(again, "w") == []
    shop.undo()
    back = shop.deploy()
    await_orders(back, "w")
    assert shop.stuck() == {}
    back.kill(signal.SIGKILL)
    wait_until(lambda: list(shop.stuck()) == ["w"])
    with pytest.raises(DBOSUnexpectedStepError):
        shop.client.get_result("w")
    forth = shop.deploy()
    await_orders(forth, "w")
    assert shop.confirm("w") == [old.pid, forth.pid]
    assert shop.stuck() == {}


@pytest.mark.parametrize("ending", ENDINGS)
def test_v2_in_a_rolling_deploy_a_living_old_process_continues_what_is_stuck_in_the_new_one(
    shop: Shop, ending: signal.Signals
) -> None:
    """Only a constant is edited. So all have one version, and share what a process leaves."""
    orders = names("w", 20)
    one, other = shop.deploy(), shop.deploy()
    shop.edit(*BREAKING["another topic"][1:3], "topics.py")
    new = shop.deploy()
    one.begin("start", "order", *orders)
    await_orders(one, *orders)
    one.kill(ending)
    await_orders(other, *orders)
    assert shop.confirm("w7") == [one.pid, other.pid]
    assert new.errors.count("was recorded with") <= len(orders)


@both_faces
def test_v3_what_patched_code_started_is_stuck_after_a_rollback_until_it_is_back(shop: Shop) -> None:
    old = shop.deploy()
    old.begin("start", "order", "before")
    await_orders(old, "before")
    shop.edit(*PATCH)
    new = shop.deploy()
    new.begin("start", "order", "after")
    new.begin("start", "offer", "other")
    await_orders(new, "after")
    new.waits(["message", "other", "accept"])
    assert shop.client.list_workflow_steps("after")[0]["function_name"] == "DBOS.patch"
    old.kill(signal.SIGTERM)
    await_orders(new, "before")
    shop.undo()
    new.kill(signal.SIGTERM)
    back = shop.deploy()
    with pytest.raises(DBOSUnexpectedStepError, match=r"DBOS\.patch 'greeting' at operation 1"):
        shop.client.get_result("after")
    await_orders(back, "before")
    back.waits(["message", "other", "accept"])
    assert list(shop.stuck()) == ["after"]
    assert shop.confirm("before") == [old.pid, back.pid]
    shop.edit(*PATCH)
    forth = shop.deploy()
    await_orders(forth, "after")
    assert shop.confirm("after") == [new.pid, forth.pid]
    assert shop.stuck() == {}


def test_v3_blue_and_green_take_over_from_each_other(shop: Shop) -> None:
    blue = shop.deploy()
    shop.edit(*LATER)
    green = shop.deploy()
    blue.begin("start", "order", "b0", "b1")
    green.begin("start", "order", "g0", "g1")
    await_orders(blue, "b0", "b1")
    await_orders(green, "g0", "g1")
    blue.kill(signal.SIGTERM)
    await_orders(green, "b0", "b1")
    assert [shop.confirm(each) for each in ("b0", "g0")] == [[blue.pid, green.pid], [green.pid, green.pid]]
    shop.undo()
    again = shop.deploy()
    again.begin("start", "order", "b2")
    await_orders(again, "b2")
    green.kill(signal.SIGKILL)
    await_orders(again, "b1", "g1")
    assert [shop.confirm(each) for each in ("b1", "g1", "b2")] == [
        [blue.pid, again.pid],
        [green.pid, again.pid],
        [again.pid, again.pid],
    ]
    assert shop.stuck() == {}


def test_v4_a_process_that_keeps_to_its_version_leaves_the_order_and_says_so_once(shop: Shop) -> None:
    old = shop.deploy()
    old.begin("start", "order", "w")
    await_orders(old, "w")
    old.kill(signal.SIGTERM)
    old.end()
    before = shop.found("w")
    shop.edit(*LATER)
    new = shop.deploy('{"recover_versions": "same"}')
    new.logs("not recovered here")
    new.begin("start", "order", "another")
    await_orders(new, "another")
    new.kill(signal.SIGKILL)
    new.end()
    again = shop.deploy('{"recover_versions": "same"}')
    await_orders(again, "another")  # It has looked for what it may continue.
    assert shop.found("w") == before
    [line] = lines_about(new, "w")
    assert f"started by version '{before.app_version}'" in line
    shop.undo()
    back = shop.deploy()
    await_orders(back, "w")
    assert shop.confirm("w") == [old.pid, back.pid]
