"""Code that calls the library, written once for both of its colours.

A story is a generator that yields calls and is resumed with what they gave or raised. `tell` makes them in this thread,
`tell_async` awaits them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, TypeVar

from tests.simulation.plots import Plot
from tests.simulation.scheduler import playing
from tidings import DBOS, DBOSClient, SetWorkflowID, SetWorkflowTimeout

T = TypeVar("T")
Target = type[DBOS] | DBOSClient


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


class Together(Call):
    """Tell several stories at once: one after the other where nothing can be awaited."""

    def __init__(self, *stories: Story[Any]) -> None:
        self.stories = stories

    def make(self) -> Any:
        return [tell(each) for each in self.stories]

    async def make_async(self) -> Any:
        return await asyncio.gather(*map(tell_async, self.stories))


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


def tell(story: Story[T]) -> T:
    """Make the calls of a story, blocking."""
    resume: Callable[[Any], Call] = story.send
    argument: Any = None
    while True:
        try:
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
