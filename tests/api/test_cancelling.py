"""Cancelling workflows with what they have started, and what a cancellation says that it did: L1."""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.app import App, Sightings
from tests.support.face import Awaiting, Face, Gate
from tests.support.visitor import Visitor
from tidings import DBOS, Cancellation, SetWorkflowID
from tidings.core.operations import cancelling
from tidings.engine.hooks import Point
from tidings.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSLimitError,
    DBOSNonExistentWorkflowError,
    DBOSWorkflowCancelledError,
)

FOREVER = 3_600  # seconds: longer than the watchdog lets a test run

# A workflow by its id, and what it starts.
Tree = dict[str, list[str]]

FAMILY: Tree = {"root": ["a", "b", "c"], "a": ["a1", "a2"], "a1": ["a11"], "b": ["b1"]}
BELOW = {"a", "b", "c", "a1", "a2", "a11", "b1"}


class Family:
    """Workflows that start others, in their code or in a step, tell that they have, and wait."""

    def __init__(self, face: Face, tree: Tree, *, in_steps: bool = False) -> None:
        self._face = face

        @face.workflow(name="member")
        async def member(workflow_id: str) -> None:
            for child in tree.get(workflow_id, []):
                await (start(child) if in_steps else face.start(member, child, workflow_id=child))
            await face.set_event("ready", True)
            if await face.recv("go", FOREVER) == "end":
                return

        @face.step(name="start")
        async def start(child: str) -> None:
            await face.start(member, child, workflow_id=child)

        self._member = member
        self._tree = tree

    async def start(self, root: str = "root") -> None:
        """Start the tree, and wait until all of it waits."""
        await self._face.start(self._member, root, workflow_id=root)
        for each in (root, *self._tree, *(child for children in self._tree.values() for child in children)):
            assert await self._face.get_event(each, "ready", FOREVER)

    async def end(self, *workflow_ids: str) -> None:
        """Let these end."""
        for each in workflow_ids:
            await self._face.send(each, "end", "go")
            await self._face.get_result(each)


async def statuses(face: Face) -> dict[str, str]:
    return {each.workflow_id: each.status for each in await face.list_workflows()}


async def eventually(is_so: Callable[[dict[str, str]], bool], face: Face) -> None:
    """Wait for something in the statuses that nothing announces."""
    while not is_so(await statuses(face)):  # noqa: ASYNC110
        await asyncio.sleep(0.001)


async def cancelled(face: Face) -> set[str]:
    return {each for each, status in (await statuses(face)).items() if status == "CANCELLED"}


# --- what it did ------------------------------------------------------------------------------------------


async def test_l1_a_cancellation_says_what_it_did(
    app: App, face: Face, client: Visitor, log: Sightings, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "tidings")
    family = Family(face, FAMILY)
    await family.start()
    assert await face.cancel_workflow("a") == Cancellation(cancelled=("a",))
    assert await client.cancel_workflow("a") == Cancellation(already_ended=("a",))
    await family.end("b")
    assert await client.cancel_workflow("b", cancel_children=False) == Cancellation(already_ended=("b",))
    assert await cancelled(face) == {"a"}, "without cancel_children it is one workflow alone"
    report = await face.cancel_workflows(["c", "nobody", "b", "c", "a", "else"])
    assert report == Cancellation(("c",), ("b", "a"), ("nobody", "else"))
    assert await client.cancel_workflows([]) == Cancellation()
    assert await cancelled(face) == {"a", "c"}
    said = [text for text in log.seen if text.startswith("cancelling")]
    assert "cancelling 1 workflow: 1 cancelled ('a')" in said
    assert "cancelling 1 workflow: 0 cancelled; 1 had already ended ('a')" in said
    assert (
        "cancelling 5 workflows: 1 cancelled ('c'); 2 had already ended ('b', 'a'); 2 do not exist ('nobody', 'else')"
        in said
    )
    with pytest.raises(DBOSNonExistentWorkflowError, match="'nobody'"):
        await face.cancel_workflow("nobody", cancel_children=True)


@pytest.mark.parametrize("in_steps", [False, True], ids=["in code", "in steps"])
@pytest.mark.parametrize("by", ["app", "client"])
async def test_l1_children_and_theirs_are_cancelled_too(
    app: App, face: Face, client: Visitor, log: Sightings, caplog: pytest.LogCaptureFixture, in_steps: bool, by: str
) -> None:
    """Also below workflows that have ended, and of a root that has."""
    caplog.set_level(logging.INFO, "tidings")
    family = Family(face, FAMILY, in_steps=in_steps)
    await family.start()
    parents = {each.workflow_id: each.parent_workflow_id for each in await face.list_workflows()}
    assert parents == {"root": None} | {child: parent for parent, children in FAMILY.items() for child in children}
    assert [each.workflow_id for each in await face.list_workflows(parent_workflow_id="a")] == ["a1", "a2"]
    await family.end("b", "a1")
    cancel = (client if by == "client" else face).cancel_workflow
    report = await cancel("root", cancel_children=True)
    assert report.cancelled[0] == "root"
    assert set(report.cancelled) == {"root", *BELOW} - {"b", "a1"}
    assert list(report.cancelled).index("a") < list(report.cancelled).index("a11"), "the nearer generations first"
    assert (report.already_ended, report.not_found) == ((), ())
    assert await cancelled(face) == set(report.cancelled)
    for each in report.cancelled:
        await app.ended(each)  # It was woken from its wait.
    assert await cancel("root", cancel_children=True) == Cancellation(already_ended=("root",))
    if by == "app":
        assert any(
            "6 cancelled ('root', " in text and "5 of them were started by the named workflows" in text
            for text in log.seen
        )


@pytest.mark.parametrize("how", ["cancelled", "ended", "ended in the middle"])
async def test_l1_what_is_left_below_a_workflow_that_has_ended_is_cancelled(app: App, face: Face, how: str) -> None:
    """It was cancelled alone, say, and its children were forgotten."""
    family = Family(face, FAMILY)
    await family.start()
    if how == "cancelled":
        await face.cancel_workflow("root")
    else:
        await family.end(*(["root"] if how == "ended" else ["a", "a1", "b"]))
    report = await face.cancel_workflows(["root", "c"], cancel_children=True)
    assert set(report.cancelled) | {"root", "a", "a1", "b"} >= BELOW
    assert {each for each, status in (await statuses(face)).items() if status == "PENDING"} == set()
    assert ("root" in report.already_ended) == (how != "ended in the middle")


async def test_l1_a_large_tree_is_cancelled_in_pages(app: App, face: Face, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cancelling, "PAGE", 4)
    tree = {"root": [f"c{n}" for n in range(9)], "c3": [f"d{n}" for n in range(6)], "d2": ["e"]}
    family = Family(face, tree)
    await family.start()
    at_once: list[int] = []
    app.engine.hooks.set(Point.BATCH_TAKEN, lambda jobs: at_once.append(sum(len(job.unit.cancels) for job in jobs)))
    report = await face.cancel_workflows(["root", *tree["root"][:5]], cancel_children=True)
    assert len(report.cancelled) == len(set(report.cancelled)) == 17
    assert set((await statuses(face)).values()) == {"CANCELLED"}
    assert max(at_once) == 4, "no batch has more to do"


async def test_l1_what_a_cancellation_is_asked_for_is_checked(app: App, face: Face) -> None:
    for bad in ("a", 7, None):
        with pytest.raises(TypeError, match="workflow_ids must be a list of ids, not"):
            await face.cancel_workflows(bad)
    with pytest.raises(TypeError, match="workflow_id must be a string, not None"):
        await face.cancel_workflows(["a", None])
    with pytest.raises(DBOSLimitError, match="workflow_id"):
        await face.cancel_workflows(["a\0b"])
    for flag in ("yes", None, 1):
        with pytest.raises(TypeError, match="cancel_children must be True or False, not"):
            await face.cancel_workflow("a", cancel_children=flag)
    assert await face.cancel_workflows(iter(["nobody"])) == Cancellation(not_found=("nobody",))


# --- what starts meanwhile --------------------------------------------------------------------------------


async def test_l1_a_cancelled_parent_that_has_not_heard_of_it_starts_nothing(
    app: App, face: Face, client: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another process cancels it, and the wake-up is lost. What it starts then is refused by the database."""

    @face.workflow(name="child")
    async def child() -> None:
        await face.recv("never", FOREVER)

    @face.workflow(name="parent")
    async def parent(how: str) -> None:
        await face.recv("go", FOREVER)
        await (start(how) if how.startswith("step") else started(how))

    async def started(how: str) -> None:
        await face.start(child, workflow_id=f"of {how}" if how.endswith("under an id") else None)

    @face.step(name="start")
    async def start(how: str) -> None:
        await started(how)

    ways = ["code", "code under an id", "step", "step under an id"]
    for how in ways:
        await face.start(parent, how, workflow_id=how)
        await app.waiting("message", how, "go")
    monkeypatch.setattr(type(app.engine), "stop_cancelled", lambda *_: None)
    report = await client.cancel_workflows(ways, cancel_children=True)
    assert report == Cancellation(tuple(ways))
    for how in ways:
        await face.send(how, None, "go")
        await app.ended(how)
    assert await statuses(face) == dict.fromkeys(ways, "CANCELLED")


async def test_l1_what_a_step_of_a_cancelled_workflow_tries_to_start_is_not_started(app: App, face: Face) -> None:
    begun, go_on, seen = Gate(), Gate(), Sightings()

    @face.workflow(name="child")
    async def child() -> None:
        """Never started."""

    @face.step(name="step")
    async def step() -> None:
        begun.open()
        await go_on.opened() if isinstance(face, Awaiting) else go_on.wait()
        try:
            with SetWorkflowID("child"):
                await face.start_workflow(child)
        except BaseException as error:
            seen.note(error)
            raise

    @face.workflow(name="parent")
    async def parent() -> None:
        await step()

    handle = await face.start(parent, workflow_id="parent")
    await begun.opened()
    assert await face.cancel_workflow("parent", cancel_children=True) == Cancellation(("parent",))
    go_on.open()
    await seen.until(bool)
    assert isinstance(seen.seen[0], DBOSWorkflowCancelledError)
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        await handle.get_result()
    assert await statuses(face) == {"parent": "CANCELLED"}


async def test_l1_children_that_start_while_the_tree_is_cancelled_are_cancelled(app: App, awaiting: Awaiting) -> None:
    """Workflows that start one child after the other, and these too, are cancelled by another process."""

    @DBOS.workflow(name="fertile")
    async def fertile(depth: int) -> None:
        while True:
            await DBOS.start_workflow_async(fertile if depth else waiting, *([depth - 1] if depth else []))
            await DBOS.sleep_async(0)

    @DBOS.workflow(name="waiting")
    async def waiting() -> None:
        await DBOS.recv_async("never", FOREVER)

    handle = await awaiting.start(fertile, 2, workflow_id="root")
    await eventually(lambda found: len(found) >= 30, awaiting)
    report = await DBOS.cancel_workflow_async("root", cancel_children=True)
    after = await statuses(awaiting)
    assert set(after.values()) == {"CANCELLED"}
    assert after.keys() == set(report.cancelled)
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        await handle.get_result()
    assert (await statuses(awaiting)).keys() == after.keys(), "and none is started after that"


# --- in a workflow ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", [Point.BATCH_TAKEN, Point.BATCH_COMMITTED], ids=["before", "after"])
@pytest.mark.long
async def test_l1_a_workflow_that_cancels_a_tree_says_what_it_did_whatever_crashes(
    app: App, face: Face, point: Point, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Dying at each commit in turn: what was cancelled before the crash is not told as ended before."""
    monkeypatch.setattr(cancelling, "PAGE", 2)
    trees: dict[str, Tree] = {}

    @face.workflow(name="canceller")
    async def canceller(root: str) -> list[Any]:
        await face.recv("go", FOREVER)
        report = await face.cancel_workflows([root, "nobody"], cancel_children=True)
        return [sorted(report.cancelled), report.already_ended, report.not_found, await face.cancel_workflow(root)]

    async def program(name: str) -> None:
        tree = trees.setdefault(name, {name: [f"{name} a", f"{name} b", f"{name} c"], f"{name} b": [f"{name} b1"]})
        await Family(face, tree).start(name)
        with SetWorkflowID(f"{name} canceller"):
            handle = await face.start_workflow(canceller, name)
        await face.send(handle.workflow_id, None, "go", idempotency_key="go")
        every = sorted({name, *(child for children in tree.values() for child in children)})
        assert await handle.get_result() == [every, (), ("nobody",), Cancellation(already_ended=(name,))]
        assert [each.status for each in await face.list_workflows(workflow_ids=every)] == ["CANCELLED"] * 5

    # The family is registered anew by each program; it is the same.
    monkeypatch.setattr(Family, "__init__", _same_for_each(face))
    assert await app.crash_at_every_commit(point, program) >= 8


def _same_for_each(face: Face) -> Callable[[Family, Face, Tree], None]:
    """Make families of workflows that have one definition."""
    trees: Tree = {}

    @face.workflow(name="member")
    async def member(workflow_id: str) -> None:
        for child in trees.get(workflow_id, []):
            await face.start(member, child, workflow_id=child)
        await face.set_event("ready", True)
        await face.recv("go", FOREVER)

    def make(family: Family, face: Face, tree: Tree) -> None:
        trees.update(tree)
        family._face, family._member, family._tree = face, member, tree

    return make


async def test_l1_a_cancellation_in_a_workflow_is_one_recorded_operation(app: App, face: Face) -> None:
    family = Family(face, FAMILY)

    @face.workflow(name="canceller")
    async def canceller() -> list[Any]:
        reports = [
            await face.cancel_workflow("root", cancel_children=True),
            await face.cancel_workflow("a"),
            await face.cancel_workflows(["a", "nobody"]),
            await face.cancel_workflows([]),
        ]
        try:
            await face.cancel_workflow("nobody")
        except DBOSNonExistentWorkflowError as error:
            reports.append(error.workflow_ids)
        await face.recv("go", FOREVER)
        return reports

    await family.start()
    await face.start(canceller, workflow_id="canceller")
    await app.waiting("message", "canceller", "go")
    steps = await face.list_workflow_steps("canceller")
    names = ["DBOS.cancel_workflow"] * 2 + ["DBOS.cancel_workflows"] * 2 + ["DBOS.cancel_workflow", "DBOS.recv"]
    assert [each["function_name"] for each in steps] == names
    assert set(steps[0]["output"]["cancelled"]) == {"root", *BELOW}
    assert isinstance(steps[4]["error"], DBOSNonExistentWorkflowError)
    await app.crash_and_restart()
    await face.send("canceller", None, "go")
    first, *rest = await face.get_result("canceller")
    assert set(first.cancelled) == {"root", *BELOW}
    assert rest == [
        Cancellation(already_ended=("a",)),
        Cancellation(already_ended=("a",), not_found=("nobody",)),
        Cancellation(),
        ("nobody",),
    ]


@pytest.mark.parametrize(("stored", "report"), [("true", Cancellation(("a",))), ("false", Cancellation((), ("a",)))])
async def test_l1_what_an_earlier_version_recorded_is_replayed(
    app: App, face: Face, stored: str, report: Cancellation
) -> None:
    """It recorded whether the workflow was pending."""

    @face.workflow(name="canceller")
    async def canceller() -> Any:
        found = await face.cancel_workflow("a")
        await face.recv("go", FOREVER)
        return found

    await Family(face, {}).start("a")
    await face.start(canceller, workflow_id="canceller")
    await app.waiting("message", "canceller", "go")
    await app.crash()
    app.rows.run("update {entries} set output = ? where name = 'DBOS.cancel_workflow'", stored)
    await app.launch()
    await face.send("canceller", None, "go")
    assert await face.get_result("canceller") == report


@pytest.mark.parametrize("in_step", [False, True], ids=["its code", "a step"])
@pytest.mark.parametrize("who", ["itself", "its parent", "its grandparent"])
async def test_l1_a_workflow_may_be_in_the_tree_that_it_cancels(
    app: App, face: Face, in_step: bool, who: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes last: nothing is left over because the one that cancels is cancelled."""
    monkeypatch.setattr(cancelling, "PAGE", 2)
    named = {"itself": "me", "its parent": "parent", "its grandparent": "grandparent"}[who]
    family = Family(face, {"under me": ["deep under me"]})

    @face.workflow(name="relative")
    async def relative(generation: int) -> None:
        name = ["me", "parent", "grandparent"][generation]
        await face.start(family._member, f"beside {name}", workflow_id=f"beside {name}")
        if generation:
            await face.start(relative, generation - 1, workflow_id=["me", "parent"][generation - 1])
        else:
            await face.start(family._member, "under me", workflow_id="under me")
            await face.recv("go", FOREVER)
            await (step() if in_step else cancel())
        await face.recv("never", FOREVER)

    async def cancel() -> None:
        await face.cancel_workflow(named, cancel_children=True)

    @face.step(name="step")
    async def step() -> None:
        await cancel()

    await face.start(relative, 2, workflow_id="grandparent")
    await app.waiting("message", "me", "go")
    for each in ("beside grandparent", "beside parent", "beside me", "under me", "deep under me"):
        assert await face.get_event(each, "ready", FOREVER)
    await face.send("me", None, "go")
    await app.ended("me")
    below_me = {"me", "beside me", "under me", "deep under me"}
    expected = {
        "itself": below_me,
        "its parent": below_me | {"parent", "beside parent"},
        "its grandparent": below_me | {"parent", "beside parent", "grandparent", "beside grandparent"},
    }[who]
    # The last look comes after its own end, in the thread or task that cancels.
    await eventually(lambda found: all(found.get(each) == "CANCELLED" for each in expected), face)
    assert await cancelled(face) == expected


async def test_l1_what_another_branch_starts_while_its_workflow_cancels_itself_is_cancelled(
    app: App, awaiting: Awaiting
) -> None:
    @DBOS.workflow(name="child")
    async def child() -> None:
        await DBOS.recv_async("never", FOREVER)

    @DBOS.workflow(name="me")
    async def me() -> None:
        async def starts() -> None:
            for _ in range(300):  # More than the cancellation lets it, and no more than a busy machine can end.
                await DBOS.start_workflow_async(child)
            await DBOS.recv_async("never", FOREVER)

        async def cancels() -> None:
            await DBOS.sleep_async(0.01)
            await DBOS.cancel_workflow_async("me", cancel_children=True)

        await asyncio.gather(starts(), cancels())

    handle = await awaiting.start(me, workflow_id="me")
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        await handle.get_result()
    await app.ended("me")
    assert len(await statuses(awaiting)) > 1
    await eventually(lambda found: set(found.values()) == {"CANCELLED"}, awaiting)


async def test_l1_a_cancellation_that_the_program_gives_up_replays_as_given_up(app: App, awaiting: Awaiting) -> None:
    family = Family(awaiting, FAMILY)

    @DBOS.workflow(name="canceller")
    async def canceller() -> str:
        try:
            async with asyncio.timeout(0):
                await DBOS.cancel_workflow_async("root", cancel_children=True)
        except TimeoutError:
            return str(await DBOS.recv_async("go", FOREVER))
        return "not given up"

    await family.start()
    await awaiting.start(canceller, workflow_id="canceller")
    await app.waiting("message", "canceller", "go")
    await app.crash_and_restart()
    await DBOS.send_async("canceller", "given up", "go")
    assert await DBOS.get_result_async("canceller") == "given up"
