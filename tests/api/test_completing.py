"""Awaiting many workflows, in the order in which they end: `as_completed`."""

import asyncio
import gc
import itertools
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from typing import Any

import pytest

from tests.support.app import App, Sightings
from tests.support.clock import ManualClock
from tests.support.engines import wait_until
from tests.support.face import Awaiting, Face, off_loop
from tests.support.visitor import Visitor
from tidings import DBOS, SetWorkflowID, WorkflowHandle, WorkflowHandleAsync
from tidings.core.operations import completion
from tidings.engine.hooks import Point
from tidings.engine.waiting.waiters import Waiters
from tidings.error import (
    DBOSAwaitedWorkflowCancelledError,
    DBOSContextError,
    DBOSLimitError,
    DBOSNonExistentWorkflowError,
    DBOSUnexpectedStepError,
)

FOREVER = 3_600  # seconds: longer than the watchdog lets a test run


def watched(app: App) -> int:
    """How many ends are watched for: the crew themselves wait for messages."""
    return sum(key[0] == "end" for key in list(app.engine.waiters._arrivals)) if not app.engine.waiters.is_empty else 0


class Crew:
    """Workflows that end when they are told to."""

    def __init__(self, face: Face) -> None:
        self.face = face

        @face.workflow(name="member")
        async def member() -> Any:
            word = await face.recv("go", FOREVER)
            if word == "fail":
                raise ValueError(word)
            return word

        self.member = member

    async def start(self, names: str) -> list[Any]:
        """Start one for each letter; return their handles."""
        return [await self.face.start(self.member, workflow_id=name) for name in names]

    async def end(self, name: str, word: str = "end") -> None:
        """Let one end, and wait until it has."""
        await self.face.send(name, word, "go")
        while (await self.face.get_workflow_status(name)).status == "PENDING":
            await self.face.sleep(0.001)

    async def end_each(self, names: str) -> None:
        for name in names:
            await self.end(name)


def of(face: Face, name: str, target: Any = DBOS) -> Any:
    return (WorkflowHandleAsync if isinstance(face, Awaiting) else WorkflowHandle)(name, target)


# --- the order ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["app", "client", "step"])
async def test_workflows_come_in_the_order_in_which_they_end(app: App, face: Face, client: Visitor, by: str) -> None:
    """However they end; also for another program, which hears of it, and in a step, where nothing is recorded."""
    crew = Crew(face)
    await crew.start("abcd")
    found = Sightings()
    target = client.client if by == "client" else DBOS

    async def loop() -> list[str]:
        loop = await face.looping([of(face, name, target) for name in "abcda"], of=target)
        while (handle := await loop.next()) is not None:
            found.note(handle.workflow_id)
        return found.seen

    @face.step()
    async def step() -> list[str]:
        return await loop()

    @face.workflow(name="looper")
    async def looper() -> list[str]:
        return await step()

    waits = client if by == "client" else app
    looping = asyncio.ensure_future(looper() if by == "step" else face.run(loop))
    await waits.waiting("end", "a")
    await crew.end("c")
    await found.until(lambda seen: seen == ["c"])
    await crew.end("a", "fail")
    await found.until(lambda seen: seen == ["c", "a"])
    await face.cancel_workflow("d")
    await found.until(lambda seen: seen == ["c", "a", "d"])
    await crew.end("b")
    assert await looping == ["c", "a", "d", "b"]


async def test_what_had_ended_before_comes_first_in_the_order_of_its_ends(
    app: App, face: Face, clock: ManualClock
) -> None:
    crew = Crew(face)
    await crew.start("abcdef")
    for name in "dbfa":
        await face.send(name, "end", "go")
        await face.get_result(name)
        clock.advance(1)
    loop = await face.looping([of(face, name) for name in "abcdef"])
    first = [(await loop.next()).workflow_id for _ in range(4)]  # type: ignore[union-attr]
    assert first == ["d", "b", "f", "a"]
    await face.send("e", "end", "go")
    assert [(await loop.next()).workflow_id] == ["e"]  # type: ignore[union-attr]
    await face.cancel_workflow("c")
    assert [(await loop.next()).workflow_id, await loop.next(), await loop.next()] == ["c", None, None]  # type: ignore[union-attr]


async def test_a_handle_is_the_one_that_was_given_and_gives_the_result(app: App, awaiting: Awaiting) -> None:
    crew = Crew(awaiting)
    handles = [*(await crew.start("ab")), WorkflowHandleAsync("a", DBOS)]
    await crew.end_each("ab")
    found = [handle async for handle in DBOS.as_completed_async(handles)]
    assert {id(each) for each in found} == {id(each) for each in handles[:2]}
    assert [await each.get_result() for each in found] == ["end", "end"]


@pytest.mark.parametrize("page", [1, 2, 1_000])
@pytest.mark.parametrize("in_workflow", [False, True], ids=["outside", "in a workflow"])
async def test_more_than_a_page(
    app: App, face: Face, clock: ManualClock, monkeypatch: pytest.MonkeyPatch, page: int, in_workflow: bool
) -> None:
    monkeypatch.setattr(completion, "PAGE", page)
    crew = Crew(face)
    await crew.start("abcde")
    for name in "cebda":
        await face.send(name, "end", "go")
        await face.get_result(name)
        clock.advance(1)

    @face.workflow(name="looper")
    async def looper() -> list[str]:
        return await face.completed([of(face, name) for name in "abcde"])

    found = await (looper() if in_workflow else face.completed([of(face, name) for name in "abcde"]))
    assert found == list("cebda")
    if in_workflow:
        [[entries]] = app.rows.run("select count(*) from {entries} where name = 'DBOS.as_completed'")
        assert entries == -(-5 // page)


# --- what it is given -----------------------------------------------------------------------------------------


async def test_none_generators_and_duplicates(app: App, face: Face) -> None:
    crew = Crew(face)
    await crew.start("ab")
    await crew.end_each("ba")
    assert await face.completed([]) == []
    assert sorted(await face.completed(of(face, name) for name in "abab")) == ["a", "b"]
    assert sorted(await face.completed({"x": of(face, "a"), "y": of(face, "b")}.values())) == ["a", "b"]
    assert app.rows.run("select count(*) from {entries} where name = 'DBOS.as_completed'") == [(0,)]


async def test_handles_may_come_from_an_async_generator(app: App, awaiting: Awaiting) -> None:
    """Also one that starts them, in a workflow; one that is cancelled in the middle is read on."""

    @DBOS.workflow(name="double")
    async def double(number: int) -> int:
        return 2 * number

    @DBOS.workflow(name="looper")
    async def looper() -> list[int]:
        started = (await DBOS.start_workflow_async(double, number) for number in range(5))
        return sorted([await handle.get_result() async for handle in DBOS.as_completed_async(started)])

    assert await looper() == [0, 2, 4, 6, 8]
    gate = asyncio.Event()

    async def slow() -> AsyncIterator[Any]:
        yield await DBOS.start_workflow_async(double, 1)
        await gate.wait()
        yield await DBOS.start_workflow_async(double, 2)

    class Slow:
        def __init__(self) -> None:
            self.left = [1, 2]
            self.is_held_up = asyncio.Event()

        def __aiter__(self) -> AsyncIterator[Any]:
            return self

        async def __anext__(self) -> Any:
            if not self.left:
                raise StopAsyncIteration
            if len(self.left) == 1:
                self.is_held_up.set()
                await gate.wait()
            return await DBOS.start_workflow_async(double, self.left.pop(0))

    source = Slow()
    found = DBOS.as_completed_async(source)
    waiting = asyncio.ensure_future(anext(found))
    await source.is_held_up.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    assert sorted([await handle.get_result() async for handle in found]) == [2, 4]
    assert sorted([await handle.get_result() async for handle in DBOS.as_completed_async(slow())]) == [2, 4]


async def test_what_is_no_handle_is_refused_at_the_call(app: App, face: Face, client: Visitor) -> None:
    for bad, why in [
        (["a"], "takes a list of handles; this list contains str"),
        ([None], "takes a list of handles; this list contains None"),
        (of(face, "a"), r"takes a list of handles, not .*handle.*; one handle goes into a list: as_completed"),
        (7, "takes a list of handles, not int"),
    ]:
        for target in (DBOS, client.client):
            with pytest.raises(TypeError, match=why):
                await (face.looping(bad, of=target) if isinstance(bad, list) else _raw(face, target, bad))
    with pytest.raises(
        TypeError, match=r"as_completed_async takes a list of handles; this list contains the coroutine .*await missing"
    ):
        DBOS.as_completed_async([coroutine := DBOS.get_result_async("a")])  # type: ignore[type-var]
    coroutine.close()
    for bad_timeout in (-1, "5", True, float("nan"), float("inf")):
        with pytest.raises((TypeError, DBOSLimitError), match=r"^DBOS\.as_completed(_async)?: timeout_seconds must be"):
            await face.looping([of(face, "a")], timeout_seconds=bad_timeout)
    with pytest.raises(
        RuntimeError, match=r"DBOS.as_completed would block the running event loop; use: async for handle in DBOS.as_co"
    ):
        DBOS.as_completed([])


async def _raw(face: Face, target: Any, bad: Any) -> Any:
    if isinstance(face, Awaiting):
        return target.as_completed_async(bad)
    return await off_loop(target.as_completed, bad)


@pytest.mark.parametrize("in_workflow", [False, True], ids=["outside", "in a workflow"])
async def test_ids_that_no_workflow_has_are_named(app: App, face: Face, in_workflow: bool) -> None:
    crew = Crew(face)
    await crew.start("a")

    async def loop() -> tuple[str, ...]:
        try:
            await face.completed([of(face, name) for name in ("x", "a", "y")])
        except DBOSNonExistentWorkflowError as error:
            return error.workflow_ids
        return ()

    @face.workflow(name="looper")
    async def looper() -> tuple[str, ...]:
        found = await loop()
        await face.recv("go", FOREVER)
        return found

    if not in_workflow:
        assert sorted(await loop()) == ["x", "y"]
        return
    await face.start(looper, workflow_id="looper")
    await app.waiting("message", "looper", "go")
    await crew.start("xy")
    await app.crash_and_restart()
    await face.send("looper", None, "go")
    assert sorted(await face.get_result("looper")) == ["x", "y"]


# --- in a workflow --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", [Point.BATCH_TAKEN, Point.BATCH_COMMITTED], ids=["before", "after"])
@pytest.mark.long
async def test_the_order_is_recorded_whatever_crashes(app: App, face: Face, point: Point) -> None:
    """Dying at each commit in turn: what the code saw before a crash it sees after it, in that order."""
    seen: dict[str, list[str]] = {}

    @face.workflow(name="child")
    async def child(pause: float) -> None:
        await face.sleep(pause)

    @face.step(name="note")
    async def note(name: str, workflow_id: str) -> None:
        if workflow_id not in seen.setdefault(name, []):
            seen[name].append(workflow_id)

    @face.workflow(name="looper")
    async def looper(name: str) -> list[str]:
        handles = []
        for number, pause in enumerate((0.004, 0.0, 0.002, 0.001)):
            with SetWorkflowID(f"{name} {number}"):
                handles.append(await face.start_workflow(child, pause))
        loop, found = await face.looping(handles), []
        while (handle := await loop.next()) is not None:
            await note(name, handle.workflow_id)
            found.append(handle.workflow_id)
        return found

    async def program(name: str) -> None:
        with SetWorkflowID(f"looper {name}"):
            handle = await face.start_workflow(looper, name)
        found = await handle.get_result()
        assert found == seen[name]
        assert sorted(found) == [f"{name} {number}" for number in range(4)]

    assert await app.crash_at_every_commit(point, program) >= 8


async def test_a_replay_sees_the_recorded_order_and_goes_on(app: App, face: Face) -> None:
    crew = Crew(face)
    await crew.start("abcd")

    @face.workflow(name="looper")
    async def looper() -> list[Any]:
        loop, found = await face.looping([of(face, name) for name in "abcd"]), []
        while (handle := await loop.next()) is not None:
            found.append(handle.workflow_id)
            await face.set_event("found", found)
        return found

    async def until(*names: str) -> None:
        await off_loop(wait_until, lambda: app.rows.run("select count(*) from {events}") == [(len(names),)])
        assert await face.get_event("looper", "found") == list(names)

    await face.start(looper, workflow_id="looper")
    await app.waiting("end", "a")
    await crew.end("c")
    await until("c")
    await app.crash_and_restart()
    await app.waiting("end", "a")
    await crew.end("a")
    await until("c", "a")
    await app.crash()
    app.rows.run("update {workflows} set status = 'SUCCESS', updated_at_ms = 1 where workflow_id = 'd'")  # Before all.
    await app.launch()
    await until("c", "a", "d")
    await crew.end("b")
    assert await face.get_result("looper") == ["c", "a", "d", "b"]


async def test_wait_first_in_a_loop_gives_each_once(app: App, face: Face) -> None:
    """It costs more than `as_completed`, and is as right, before and after a crash."""
    crew = Crew(face)
    await crew.start("abcd")

    @face.workflow(name="looper")
    async def looper() -> list[str]:
        left, found = {name: of(face, name) for name in "abcd"}, []
        while left:
            first = await face.wait_first(list(left.values()))
            del left[first.workflow_id]
            found.append(first.workflow_id)
            await face.set_event("found", found)
        return found

    await face.start(looper, workflow_id="looper")
    await app.waiting("end", "a")
    for times, name in enumerate("cadb", 1):
        await crew.end(name)
        await off_loop(wait_until, lambda times=times: app.rows.run("select count(*) from {events}") == [(times,)])
        if name == "a":
            await app.crash_and_restart()
    assert await face.get_result("looper") == ["c", "a", "d", "b"]


async def test_other_handles_than_the_recorded_ones_are_noticed(app: App, face: Face) -> None:
    crew = Crew(face)
    await crew.start("abcd")
    await crew.end("a")
    names = "ab"

    @face.workflow(name="looper")
    async def looper() -> Any:
        loop = await face.looping([of(face, name) for name in names])
        await loop.next()
        return await face.recv("go", FOREVER)

    await face.start(looper, workflow_id="looper")
    await app.waiting("message", "looper", "go")
    await app.crash()
    names = "cd"
    await app.launch()
    with pytest.raises(
        DBOSUnexpectedStepError, match=r"as_completed, which gave 'a', at .* DBOS.as_completed of 'c', 'd'"
    ):
        await face.get_result("looper")
    await app.crash()
    names = "ab"
    await app.launch()
    await face.send("looper", "right again", "go")
    assert await face.get_result("looper") == "right again"


async def test_cancelling_wakes_a_workflow_that_loops(app: App, face: Face) -> None:
    crew = Crew(face)
    await crew.start("ab")

    @face.workflow(name="looper")
    async def looper() -> list[str]:
        return await face.completed([of(face, name) for name in "ab"])

    handle = await face.start(looper, workflow_id="looper")
    await app.waiting("end", "a")
    await face.cancel_workflow("looper")
    with pytest.raises(DBOSAwaitedWorkflowCancelledError):
        await handle.get_result()
    await app.ended("looper")
    await off_loop(wait_until, lambda: watched(app) == 0)


async def test_an_operation_that_the_program_gives_up_takes_nothing(app: App, awaiting: Awaiting) -> None:
    """Outside and in a workflow, where a replay gives it up too; the loop goes on after that."""
    crew = Crew(awaiting)
    await crew.start("abc")

    @DBOS.workflow(name="looper")
    async def looper() -> list[str]:
        loop = DBOS.as_completed_async([of(awaiting, name) for name in "abc"])
        found = []
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(loop), 0.001)
        await DBOS.recv_async("go", FOREVER)
        async for handle in loop:
            found.append(handle.workflow_id)
            if len(found) == 1:
                with pytest.raises(TimeoutError):
                    await asyncio.wait_for(anext(loop), 0.001)
                await DBOS.recv_async("go", FOREVER)
        return found

    await awaiting.start(looper, workflow_id="looper")
    for last, name in enumerate("bc", 1):
        await app.waiting("message", "looper", "go")
        await app.crash_and_restart()
        await app.waiting("message", "looper", "go")
        await crew.end(name)
        await DBOS.send_async("looper", None, "go")
        if last == 1:
            await app.waiting("message", "looper", "go", times=2)
            await app.crash_and_restart()
    await crew.end("a")
    assert await DBOS.get_result_async("looper") == ["b", "c", "a"]


async def test_a_loop_belongs_to_where_it_was_begun(app: App, face: Face) -> None:
    """A replay would not repeat what a step asked it for."""
    crew = Crew(face)
    await crew.start("ab")
    await crew.end_each("ab")
    outside = await face.looping([of(face, "a")])

    @face.step()
    async def step(loop: Any) -> str:
        with pytest.raises(DBOSContextError, match="as_completed was begun elsewhere: one loop belongs to the code of"):
            await loop.next()
        return "refused"

    @face.workflow(name="looper")
    async def looper() -> list[Any]:
        own = await face.looping([of(face, name) for name in "ab"])
        found = [(await own.next()).workflow_id]  # type: ignore[union-attr]
        in_step = await step(own)
        rest = await own.next()
        return [sorted([*found, rest.workflow_id]), in_step, await own.next()]  # type: ignore[union-attr]

    assert (await outside.next()).workflow_id == "a"  # type: ignore[union-attr]
    assert await looper() == [["a", "b"], "refused", None]


async def test_a_workflow_does_not_wait_for_its_own_end(app: App, face: Face) -> None:
    """It gets the others first."""
    crew = Crew(face)
    await crew.start("a")
    await crew.end("a")

    @face.workflow(name="looper")
    async def looper() -> Any:
        loop = await face.looping([of(face, "looper"), of(face, "a")])
        first = await loop.next()
        with pytest.raises(DBOSContextError, match="'looper' would wait for its own end, which can never come"):
            await loop.next()
        return first.workflow_id  # type: ignore[union-attr]

    assert await (await face.start(looper, workflow_id="looper")).get_result() == "a"


async def test_two_do_not_ask_one_loop_at_once(app: App, awaiting: Awaiting) -> None:
    crew = Crew(awaiting)
    await crew.start("ab")
    loop = DBOS.as_completed_async([of(awaiting, name) for name in "ab"])
    first = asyncio.ensure_future(anext(loop))
    await app.waiting("end", "a")
    with pytest.raises(DBOSContextError, match="is being used by another thread or task already"):
        await anext(loop)
    await crew.end("b")
    assert (await first).workflow_id == "b"
    await crew.end("a")
    assert (await anext(loop)).workflow_id == "a"


# --- the time --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("timeout", [5, timedelta(seconds=5)])
async def test_the_timeout_is_for_all_of_it(app: App, face: Face, clock: ManualClock, timeout: Any) -> None:
    """After it, what has ended is still to be had."""
    crew = Crew(face)
    await crew.start("abc")
    loop = await face.looping([of(face, name) for name in "abc"], timeout_seconds=timeout)
    for name in "ab":
        asked = asyncio.ensure_future(loop.next())
        await app.waiting("end", name)
        clock.advance(2)
        await face.send(name, "end", "go")
        assert (await asked).workflow_id == name  # type: ignore[union-attr]
    asked = asyncio.ensure_future(loop.next())
    await clock.awaited(clock.now_ms() + 1_000)
    clock.advance(1)
    late = r"1 of 3 workflows had not ended within 5 s, for example 'c'. DBOS.get_workflow_status"
    with pytest.raises(TimeoutError, match=late):
        await asked
    with pytest.raises(TimeoutError, match=late):
        await loop.next()
    await crew_end(face, "c")
    assert (await loop.next()).workflow_id == "c"  # type: ignore[union-attr]
    assert await loop.next() is None


async def crew_end(face: Face, name: str) -> None:
    await face.send(name, "end", "go")
    await face.get_result(name)


async def test_a_timeout_of_0_looks_once(app: App, face: Face) -> None:
    crew = Crew(face)
    await crew.start("ab")
    await crew_end(face, "b")
    loop = await face.looping([of(face, name) for name in "ab"], timeout_seconds=0)
    assert (await loop.next()).workflow_id == "b"  # type: ignore[union-attr]
    with pytest.raises(TimeoutError, match="1 of 2 workflows had not ended within 0 s"):
        await loop.next()


async def test_the_time_of_a_loop_goes_on_through_a_crash(app: App, face: Face, clock: ManualClock) -> None:
    crew = Crew(face)
    await crew.start("ab")

    @face.workflow(name="looper")
    async def looper() -> list[str]:
        loop, found = await face.looping([of(face, name) for name in "ab"], timeout_seconds=8), []
        try:
            while (handle := await loop.next()) is not None:
                found.append(handle.workflow_id)
        except TimeoutError as error:
            found.append(str(error)[:48])
        await face.recv("go", FOREVER)
        return found

    await face.start(looper, workflow_id="looper")
    await app.waiting("end", "a")
    clock.advance(3)
    await crew_end(face, "b")
    await app.waiting("end", "a", times=2)
    await app.crash()
    clock.advance(2)
    await app.launch()
    await clock.awaited(clock.now_ms() + 3_000)
    clock.advance(3)
    await app.waiting("message", "looper", "go")
    await app.crash_and_restart()
    await crew_end(face, "a")
    await face.send("looper", None, "go")
    assert await face.get_result("looper") == ["b", "1 of 2 workflows had not ended within 8 s, for e"]


# --- what it costs, and what it leaves ---------------------------------------------------------------------------


@pytest.mark.parametrize("in_workflow", [False, True], ids=["outside", "in a workflow"])
async def test_a_loop_over_n_is_linear(
    app: App, face: Face, monkeypatch: pytest.MonkeyPatch, in_workflow: bool
) -> None:
    """In questions, in registrations and in records, with each of them ending by itself."""
    count = 40
    names = [f"w{number}" for number in range(count)]
    crew = Crew(face)
    for name in names:
        await face.start(crew.member, workflow_id=name)
    asked, registered = [], itertools.count()
    ends, register = app.engine.store.ends, Waiters.register

    def counted_ends(workflow_ids: Any) -> Any:
        asked.append(len(workflow_ids))
        return ends(workflow_ids)

    def counted_register(waiters: Any, arrival: Any) -> None:
        if arrival.keys[0][0] == "end" and arrival.keys[0][1] in names:
            next(registered)
        register(waiters, arrival)

    monkeypatch.setattr(app.engine.store, "ends", counted_ends)
    monkeypatch.setattr(Waiters, "register", counted_register)
    found = Sightings()

    async def loop() -> list[str]:
        loop = await face.looping([of(face, name) for name in names])
        while (handle := await loop.next()) is not None:
            found.note(handle.workflow_id)
        return list(found.seen)

    @face.workflow(name="looper")
    async def looper() -> list[str]:
        return await loop()

    looping = asyncio.ensure_future(looper() if in_workflow else face.run(loop))
    await app.waiting("end", names[0])
    for number, name in enumerate(reversed(names), 1):
        await face.send(name, "end", "go")
        await found.until(lambda seen, number=number: len(seen) == number)  # type: ignore[misc]
    assert await looping == names[::-1]
    assert sum(asked) <= 4 * count
    assert next(registered) <= count + 2
    if in_workflow:
        [[entries]] = app.rows.run("select count(*) from {entries} where name = 'DBOS.as_completed'")
        assert entries == count
    assert len(app.engine.waiters) == 0


@pytest.mark.parametrize("how", ["closed", "forgotten"])
async def test_who_leaves_a_loop_leaves_nothing_behind(app: App, face: Face, how: str) -> None:
    crew = Crew(face)
    await crew.start("abc")
    loop = await face.looping([of(face, name) for name in "abc"])
    asked = asyncio.ensure_future(loop.next())
    await app.waiting("end", "a")
    await crew.end("b")
    assert (await asked).workflow_id == "b"  # type: ignore[union-attr]
    assert watched(app) == 2
    if how == "closed":
        await loop.close()
        assert await loop.next() is None
    else:
        del loop, asked
        await off_loop(wait_until, lambda: (gc.collect(), watched(app) == 0)[1])
    assert watched(app) == 0


async def test_a_workflow_may_leave_a_loop_early(app: App, face: Face) -> None:
    crew = Crew(face)
    await crew.start("abc")

    @face.workflow(name="looper")
    async def looper() -> list[Any]:
        loop = await face.looping([of(face, name) for name in "abc"])
        first = await loop.next()
        await loop.close()
        return [first.workflow_id, await face.recv("go", FOREVER)]  # type: ignore[union-attr]

    await face.start(looper, workflow_id="looper")
    await app.waiting("end", "a")
    await crew.end("b")
    await app.waiting("message", "looper", "go")
    await app.crash_and_restart()
    await face.send("looper", "done", "go")
    assert await face.get_result("looper") == ["b", "done"]


async def test_a_workflow_that_cannot_go_on_here_is_no_silent_wait(app: App, face: Face) -> None:
    """Who loops outside learns why, when no other has ended; the others are still to be had."""
    crew = Crew(face)
    await crew.start("ab")
    step = "first"

    @face.workflow(name="changed")
    async def changed() -> None:
        await face.run_step({"name": step}, len, "")
        await face.recv("go", FOREVER)

    await face.start(changed, workflow_id="changed")
    await app.waiting("message", "changed", "go")
    await app.crash()
    step = "second"
    await app.launch()
    loop = await face.looping([of(face, name) for name in ("a", "changed", "b")])
    with pytest.raises(DBOSUnexpectedStepError, match="'changed' was recorded with first"):
        await loop.next()
    await crew.end("b")
    assert (await loop.next()).workflow_id == "b"  # type: ignore[union-attr]
    with pytest.raises(DBOSUnexpectedStepError, match="'changed' was recorded with first"):
        await loop.next()


def test_a_generator_over_handles_is_read_at_the_call() -> None:
    """So what it starts is started in the order of the code, and not while the loop waits."""
    read: list[str] = []

    def handles() -> Iterator[WorkflowHandle[Any]]:
        for name in "ab":
            read.append(name)
            yield WorkflowHandle(name, DBOS)

    loop = DBOS.as_completed(handles())
    assert read == ["a", "b"]
    loop.close()  # type: ignore[attr-defined]
