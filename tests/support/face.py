"""The blocking and the awaiting form of `DBOS` and of a client behind one face: a scenario runs with either form.

    @face.workflow()
    async def order(count: int) -> list[str]:
        return [await face.recv() for _ in range(count)]

    handle = await face.start(order, 2)
    await face.send(handle.workflow_id, "a")

With the awaiting face the body is what it looks like: an `async def` workflow that awaits `DBOS.recv_async()` in a
task.

With the blocking face the same body runs as a `def` workflow, in a thread without an event loop. Each operation of the
face is complete when its call returns, so the body never pauses, and one `send(None)` runs it to its end. The test
itself runs on an event loop. There the blocking face makes its calls in a thread of their own, as an application would.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import itertools
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, ClassVar, ParamSpec, Protocol, Self, TypeVar
from weakref import WeakSet

from tidings import DBOS, DBOSClient, SetWorkflowID, WorkflowHandle, WorkflowStatus
from tidings.engine.runs.loops import running_loop
from tidings.limits import Seconds

P = ParamSpec("P")
R = TypeVar("R")
Body = Callable[P, Coroutine[Any, Any, R]]


class Handle(Protocol):
    """A handle of either face."""

    workflow_id: str

    async def get_result(self, *, timeout_seconds: Seconds | None = None) -> Any: ...

    async def get_status(self) -> WorkflowStatus: ...


class Loop(Protocol):
    """A loop over workflows that a test advances."""

    async def next(self) -> Handle | None:
        """Return the next handle; `None` after the last one."""

    async def close(self) -> None:
        """Leave the loop."""


class Face:
    """The way in which a test and its workflows call `DBOS`. Any other attribute is the operation of that name."""

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
        """Run application code that makes several calls. The blocking face runs all of it in one thread."""
        raise NotImplementedError

    async def read(self, workflow_id: str, key: str, count: int | None = None, *, of: Any = DBOS, **more: Any) -> Any:
        """Read a stream to its end, or only `count` values of it; through the client `of`, if given."""
        raise NotImplementedError

    async def looping(self, handles: Iterable[Any], *, of: Any = None, **more: Any) -> Loop:
        """Begin a loop over workflows as they end; through the client `of`, if given."""
        raise NotImplementedError

    async def completed(self, handles: Iterable[Any], *, of: Any = None, **more: Any) -> list[str]:
        """Return the ids of workflows in the order in which they end."""
        loop = await self.looping(handles, of=of, **more)
        found: list[str] = []
        while (handle := await loop.next()) is not None:
            found.append(handle.workflow_id)
        return found

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

    async def looping(self, handles: Iterable[Any], *, of: Any = None, **more: Any) -> Loop:
        return _AwaitingLoop((of or self.target).as_completed_async(handles, **more))

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        form: Callable[..., Awaitable[Any]] = getattr(self.target, f"{operation}_async")
        return form


class _AwaitingLoop:
    def __init__(self, handles: Any) -> None:
        self._handles = handles

    async def next(self) -> Handle | None:
        handle: Handle | None = await anext(self._handles, None)
        return handle

    async def close(self) -> None:
        await self._handles.aclose()


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

    async def looping(self, handles: Iterable[Any], *, of: Any = None, **more: Any) -> Loop:
        plain = [each._handle if isinstance(each, _BlockingHandle) else each for each in handles]
        return _BlockingLoop(await off_loop((of or self.target).as_completed, plain, **more))

    def __getattr__(self, operation: str) -> Callable[..., Awaitable[Any]]:
        form: Callable[..., Any] = getattr(self.target, operation)

        async def call(*args: Any, **kwargs: Any) -> Any:
            value = await off_loop(form, *args, **kwargs)
            return _BlockingHandle(value) if isinstance(value, WorkflowHandle) else value

        return call


class _BlockingLoop:
    def __init__(self, handles: Any) -> None:
        self._handles = handles

    async def next(self) -> Handle | None:
        handle = await off_loop(next, self._handles, None)
        return None if handle is None else _BlockingHandle(handle)

    async def close(self) -> None:
        await off_loop(self._handles.close)


class _BlockingHandle:
    def __init__(self, handle: WorkflowHandle[Any]) -> None:
        self.workflow_id = handle.workflow_id
        self._handle = handle

    async def get_result(self, *, timeout_seconds: Seconds | None = None) -> Any:
        return await off_loop(self._handle.get_result, timeout_seconds=timeout_seconds)

    async def get_status(self) -> WorkflowStatus:
        return await off_loop(self._handle.get_status)


async def off_loop(function: Callable[..., R], /, *args: Any, **kwargs: Any) -> R:
    """Call a blocking function: in a thread of its own if an event loop runs here, else directly."""
    loop = running_loop()
    if loop is None:
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
        with contextlib.suppress(RuntimeError):  # The loop is closed, so no caller waits any more.
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
    """Return an awaitable form of a blocking function. It stays a workflow or a step."""

    @functools.wraps(function)
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return await off_loop(function, *args, **kwargs)

    return call


class Gate:
    """A gate to wait for, in a body of either face. A gate that is still closed is opened at the end of the test."""

    _all: ClassVar[WeakSet[Gate]] = WeakSet()

    def __init__(self) -> None:
        self._event = threading.Event()
        Gate._all.add(self)

    @classmethod
    def open_all(cls) -> None:
        """Open all gates. Otherwise threads that wait at one would never end."""
        for gate in list(cls._all):
            gate.open()

    def open(self) -> None:
        self._event.set()

    def wait(self) -> None:
        """Wait in a thread."""
        self._event.wait()

    async def opened(self) -> None:
        await off_loop(self._event.wait)
