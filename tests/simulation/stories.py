"""Code that calls the library, written once for both of its colours.

A story is a generator that yields calls and is resumed with what they gave or raised. `tell` makes them in this thread,
`tell_async` awaits them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Generator, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from tests.simulation.plots import Plot
from tests.simulation.scheduler import playing
from tidings import DBOS, DBOSClient, SetWorkflowID, SetWorkflowTimeout

T = TypeVar("T")
Target = type[DBOS] | DBOSClient
# Whether code is in a thread that may be left behind at any moment. A context is copied for each.
IS_UNORDERED: Final[ContextVar[bool]] = ContextVar("is_unordered", default=False)
_PAUSES: Final = (0.0, 0.0, 0.005, 0.03)  # seconds


class Call:
    """A call of a face, which has an `_async` twin."""

    def __init__(self, face: Target, name: str, *args: Any, **kwargs: Any) -> None:
        self.face, self.name, self.args, self.kwargs = face, name, args, kwargs

    def make(self) -> Any:
        return getattr(self.face, self.name)(*self.args, **self.kwargs)

    async def make_async(self) -> Any:
        return await getattr(self.face, self.name + "_async")(*self.args, **self.kwargs)


class StartOf(Call):
    """Start the workflow of a plot."""

    def __init__(self, plot: Plot, workflow: Callable[..., Any], workflow_id: str | None = None) -> None:
        super().__init__(DBOS, "start_workflow", workflow, plot.name)
        self.plot = plot
        self.workflow_id = workflow_id

    def make(self) -> Any:
        with self._under_its_id(), self._in_its_time():
            return super().make()

    async def make_async(self) -> Any:
        with self._under_its_id(), self._in_its_time():
            return await super().make_async()

    def _under_its_id(self) -> AbstractContextManager[None]:
        return nullcontext() if self.workflow_id is None else SetWorkflowID(self.workflow_id)

    def _in_its_time(self) -> AbstractContextManager[None]:
        return nullcontext() if self.plot.limit is None else SetWorkflowTimeout(self.plot.limit)


class Result(Call):
    """Await the result of a handle."""

    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def make(self) -> Any:
        return self.handle.get_result()

    async def make_async(self) -> Any:
        return await self.handle.get_result()


class Values(Call):
    """Read a stream to its end; `note` is told each value."""

    def __init__(self, note: Callable[[Any], None], face: Target, *args: Any, **kwargs: Any) -> None:
        super().__init__(face, "read_stream", *args, **kwargs)
        self.note = note

    def make(self) -> Any:
        for value in super().make():
            self.note(value)

    async def make_async(self) -> Any:
        async for value in self.face.read_stream_async(*self.args, **self.kwargs):
            self.note(value)


class LoopOver(Call):
    """Begin a loop over workflows, in the order in which they end."""

    def __init__(self, face: Target, handles: list[Any], timeout_seconds: float | None = None) -> None:
        self.face = face
        self.handles = handles
        self.timeout_seconds = timeout_seconds

    def make(self) -> Any:
        return self.face.as_completed(self.handles, timeout_seconds=self.timeout_seconds)

    async def make_async(self) -> Any:
        return self.face.as_completed_async(self.handles, timeout_seconds=self.timeout_seconds)


class NextOf(Call):
    """Go on with a loop: the next handle, or `None` after the last one."""

    def __init__(self, loop: Any) -> None:
        self.loop = loop

    def make(self) -> Any:
        return next(self.loop, None)

    async def make_async(self) -> Any:
        return await anext(self.loop, None)


class Together(Call):
    """Tell several stories at once, some of them in threads: one after the other where nothing can be awaited."""

    def __init__(self, stories: Sequence[Story[Any]], in_threads: Sequence[bool]) -> None:
        self.stories = stories
        self.in_threads = in_threads

    def make(self) -> Any:
        return [tell(each) for each in self.stories]

    async def make_async(self) -> Any:
        return await asyncio.gather(
            *(
                asyncio.to_thread(tell, story) if is_in_thread else tell_async(story)
                for story, is_in_thread in zip(self.stories, self.in_threads, strict=True)
            )
        )


class Limited(Call):
    """Tell several stories at once within a time, by "gather", by "group", or by "wait", which cancels none of them.

    By "thread" the first one is told in a thread, and the task that awaits it opens no branch.
    """

    def __init__(self, seconds: float, by: str, stories: Sequence[Story[Any]], in_threads: Sequence[bool]) -> None:
        self.seconds = seconds
        self.by = by
        self.stories = stories
        self.in_threads = in_threads

    async def make_async(self) -> Any:
        if self.by == "wait":
            await self._wait()
            return
        async with asyncio.timeout(self.seconds):
            if self.by == "thread":
                await asyncio.to_thread(_tell_slowly, self.stories[0])
                return
            if self.by == "gather":
                await asyncio.gather(*self._told())
                return
            async with asyncio.TaskGroup() as group:
                for each in self._told():
                    group.create_task(each)

    def _told(self) -> list[Coroutine[Any, Any, Any]]:
        return [
            asyncio.to_thread(_tell_slowly, story) if is_in_thread else tell_async(story)
            for story, is_in_thread in zip(self.stories, self.in_threads, strict=True)
        ]

    async def _wait(self) -> None:
        tasks = [asyncio.create_task(each) for each in self._told()]
        for task in tasks:
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        _, pending = await asyncio.wait(tasks, timeout=self.seconds)
        await asyncio.gather(*tasks)
        if pending:
            raise TimeoutError


class _Stop(Exception):
    """What ends a group."""


class CutShort(Call):
    """Let a group cancel tasks that wait for what never comes; each then tells its story."""

    def __init__(self, *stories: Story[Any]) -> None:
        self.stories = stories

    async def make_async(self) -> Any:
        async def wait(story: Story[Any]) -> None:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await tell_async(story)
                raise

        try:
            async with asyncio.TaskGroup() as group:
                for story in self.stories:
                    group.create_task(wait(story))
                await asyncio.sleep(0)
                raise _Stop
        except* _Stop:
            pass


class Detached(Call):
    """Let a task tell the first story, and others the rest; cancel the one that has made them, and await the others."""

    def __init__(self, first: Story[Any], *stories: Story[Any]) -> None:
        self.first = first
        self.stories = stories

    async def make_async(self) -> Any:
        tasks: list[asyncio.Task[Any]] = []
        are_made = asyncio.Event()

        async def make() -> None:
            try:
                await tell_async(self.first)
                tasks.extend(asyncio.create_task(tell_async(story)) for story in self.stories)
            finally:
                are_made.set()
            await asyncio.wait(tasks)

        making = asyncio.create_task(make())
        try:
            await are_made.wait()
            making.cancel()
            if tasks:
                await asyncio.wait(tasks)
            await asyncio.wait([making])
        finally:  # Where this is cut short, nobody asks what became of them.
            for task in (making, *tasks):
                task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
        for task in tasks:
            task.result()


class Within(Call):
    """Tell a story under `asyncio.timeout`."""

    def __init__(self, seconds: float, story: Story[Any]) -> None:
        self.seconds = seconds
        self.story = story

    async def make_async(self) -> Any:
        async with asyncio.timeout(self.seconds):
            return await tell_async(self.story)


class Pause(Call):
    """Let time pass. Not durably: for code outside of workflows, and for steps."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def make(self) -> Any:
        playing().sleep(self.seconds)

    async def make_async(self) -> Any:
        await asyncio.sleep(self.seconds)


Story = Generator[Call, Any, T]


def _tell_slowly(story: Story[T]) -> T:
    """Make the calls of a story, blocking, with pauses before each and at the end: others in each execution.

    A time limit comes meanwhile. So of what the thread has done, besides its calls, no order is promised.
    """
    IS_UNORDERED.set(True)
    return tell(story, lambda: playing().sleep(playing().dice.choice(_PAUSES)))


def tell(story: Story[T], before_each: Callable[[], None] = lambda: None) -> T:
    """Make the calls of a story, blocking."""
    resume: Callable[[Any], Call] = story.send
    argument: Any = None
    while True:
        try:
            before_each()
            call = resume(argument)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        try:
            resume, argument = story.send, call.make()
        except BaseException as error:
            resume, argument = story.throw, error


async def tell_async(story: Story[T]) -> T:
    """Make the calls of a story, awaiting."""
    resume: Callable[[Any], Call] = story.send
    argument: Any = None
    while True:
        try:
            call = resume(argument)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        try:
            resume, argument = story.send, await call.make_async()
        except BaseException as error:
            resume, argument = story.throw, error
