"""The two forms of `DBOS` and of a client, blocking and awaiting, behind one face: a scenario runs with either.

    @face.workflow()
    async def order(count: int) -> list[str]:
        return [await face.recv() for _ in range(count)]

    handle = await face.start(order, 2)
    await face.send(handle.workflow_id, "a")

With the awaiting face this is what it looks like: an `async def` workflow, `await DBOS.recv_async()`, a task. With the
blocking face the same body is run as a `def` workflow, in a thread without an event loop: whatever it awaits of the
face has happened when the call returns, so the body never pauses and one `send(None)` runs it to its end. The test
itself is on a loop, and there the blocking face makes its calls in a thread of their own, as an application would.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import itertools
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, ClassVar, ParamSpec, Protocol, Self, TypeVar
from weakref import WeakSet

from tidings import DBOS, DBOSClient, SetWorkflowID, WorkflowHandle, WorkflowStatus

P = ParamSpec("P")
R = TypeVar("R")
Body = Callable[P, Coroutine[Any, Any, R]]


class Handle(Protocol):
    """A handle of either face."""

    workflow_id: str

    async def get_result(self, *, timeout_seconds: float | None = None) -> Any: ...

    async def get_status(self) -> WorkflowStatus: ...


class Face:
    """How a test, and the workflows in it, call `DBOS`. Any other attribute is the operation of that name."""

    def __init__(self, target: type[DBOS] | DBOSClient = DBOS) -> None:
        self.target = target

    def on(self, client: DBOSClient) -> Self:
        """Return a face that calls this client, in the same form."""
        return type(self)(client)

    def workflow(self, **options: Any) -> Callable[[Body[P, R]], Body[P, R]]:
        """`@DBOS.workflow`."""
        raise NotImplementedError

    def step(self, **options: Any) -> Callable[[Body[P, R]], Body[P, R]]:
        """`@DBOS.step`."""
        raise NotImplementedError

    async def run(self, body: Body[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Run application code of several calls: with the blocking face all of it in one thread."""
        raise NotImplementedError

    async def read(self, workflow_id: str, key: str, count: int | None = None, *, of: Any = DBOS, **more: Any) -> Any:
        """Read a stream to its end, or so many values of it and no more; `of` a client, maybe."""
        raise NotImplementedError

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        raise NotImplementedError

    async def start(self, workflow: Body[P, Any], *args: Any, workflow_id: str | None = None) -> Handle:
        """Start a workflow, under this id if one is given."""
        with SetWorkflowID(workflow_id) if workflow_id is not None else contextlib.nullcontext():
            handle: Handle = await self.start_workflow(workflow, *args)
            return handle


class Awaiting(Face):
    """The `_async` forms."""

    def workflow(self, **options: Any) -> Callable[[Body[P, R]], Body[P, R]]:
        return DBOS.workflow(**options)

    def step(self, **options: Any) -> Callable[[Body[P, R]], Body[P, R]]:
        return DBOS.step(**options)

    async def run(self, body: Body[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await body(*args, **kwargs)

    async def read(self, workflow_id: str, key: str, count: int | None = None, *, of: Any = DBOS, **more: Any) -> Any:
        values: list[Any] = []
        reading = of.read_stream_async(workflow_id, key, **more)
        while count is None or len(values) < count:
            try:
                values.append(await anext(reading))
            except StopAsyncIteration:
                break
        await reading.aclose()
        return values

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        form: Callable[..., Awaitable[Any]] = getattr(self.target, f"{operation}_async")
        return form


class Blocking(Face):
    """The blocking forms."""

    def workflow(self, **options: Any) -> Callable[[Body[P, R]], Body[P, R]]:
        return lambda body: _off_loop_form(DBOS.workflow(**options)(_plain(body)))

    def step(self, **options: Any) -> Callable[[Body[P, R]], Body[P, R]]:
        return lambda body: _off_loop_form(DBOS.step(**options)(_plain(body)))

    async def run(self, body: Body[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await off_loop(_plain(body), *args, **kwargs)

    async def read(self, workflow_id: str, key: str, count: int | None = None, *, of: Any = DBOS, **more: Any) -> Any:
        def read() -> list[Any]:
            with contextlib.closing(of.read_stream(workflow_id, key, **more)) as reading:
                return list(itertools.islice(reading, count))

        return await off_loop(read)

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        form: Callable[..., Any] = getattr(self.target, operation)

        async def call(*args: Any, **kwargs: Any) -> Any:
            value = await off_loop(form, *args, **kwargs)
            return _BlockingHandle(value) if isinstance(value, WorkflowHandle) else value

        return call


class _BlockingHandle:
    def __init__(self, handle: WorkflowHandle[Any]) -> None:
        self.workflow_id = handle.workflow_id
        self._handle = handle

    async def get_result(self, *, timeout_seconds: float | None = None) -> Any:
        return await off_loop(self._handle.get_result, timeout_seconds=timeout_seconds)

    async def get_status(self) -> WorkflowStatus:
        return await off_loop(self._handle.get_status)


async def off_loop(function: Callable[..., R], *args: Any, **kwargs: Any) -> R:
    """Call a blocking function: in a thread of its own where an event loop runs, else at once."""
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        return function(*args, **kwargs)
    future: asyncio.Future[R] = loop.create_future()

    def settle(value: Any, error: BaseException | None) -> None:
        if not future.done():
            future.set_result(value) if error is None else future.set_exception(error)

    def run() -> None:
        value, failure = None, None
        try:
            value = function(*args, **kwargs)
        except BaseException as error:
            failure = error
        with contextlib.suppress(RuntimeError):  # The loop is closed: nobody asks any more.
            loop.call_soon_threadsafe(settle, value, failure)

    threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True).start()
    return await future


def _plain(body: Body[P, R]) -> Callable[P, R]:
    """Return the body as a `def` function."""

    @functools.wraps(body)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        coroutine = body(*args, **kwargs)
        try:
            coroutine.send(None)
        except StopIteration as stop:
            value: R = stop.value
            return value
        coroutine.close()
        raise AssertionError("a body that is run by the blocking face may await nothing but the face")

    return run


def _off_loop_form(function: Callable[P, R]) -> Body[P, R]:
    """Return a blocking function as one to await. It keeps what makes it a workflow or a step."""

    @functools.wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return await off_loop(function, *args, **kwargs)

    return call


class Gate:
    """Something to wait for, in a body of either face. One that a test never opens is opened when the test is over."""

    _all: ClassVar[WeakSet[Gate]] = WeakSet()

    def __init__(self) -> None:
        self._event = threading.Event()
        Gate._all.add(self)

    @classmethod
    def open_all(cls) -> None:
        """Let everybody go on who still waits, in threads of their own: they would wait for ever."""
        for gate in list(cls._all):
            gate.open()

    def open(self) -> None:
        self._event.set()

    def wait(self) -> None:
        """Wait in a thread."""
        self._event.wait()

    async def opened(self) -> None:
        await off_loop(self._event.wait)
