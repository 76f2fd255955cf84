"""Streams: `write_stream`, `close_stream`, `read_stream`, `read_stream_offset`, each with its `_async` twin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from tidings.api.caller import Face, refuse_running_loop, shared
from tidings.core import targets
from tidings.core.effects import Operation, ReadStream
from tidings.core.operations import streams
from tidings.engine.caller import Caller, outside_of_workflows
from tidings.engine.runs.scope import Scope
from tidings.engine.runs.thread_calls import Begins
from tidings.engine.waiting.ticket import Ticket
from tidings.limits import Seconds, check_id, check_key, check_offset, check_timeout
from tidings.model import WRITE_STREAM
from tidings.serialization import dump


class Streams(Face):
    """Values that a workflow appends to a stream. Anybody can read them in order, live, any number of times."""

    @shared
    def read_stream(
        cls, workflow_id: str, key: str, *, offset: int = 0, timeout_seconds: Seconds | None = None
    ) -> Iterator[Any]:
        """Read the values of a stream, live, until it is closed or its workflow has ended.

        Args:
            workflow_id: the workflow that writes the stream.
            key: the name of the stream; if nothing was written to it yet, the reader waits.
            offset: where to begin; the first value has offset 0.
            timeout_seconds: how long to wait for each value; `None` waits without limit.

        Returns:
            An iterator of values, in the order in which they were written. The loop may be left early; nothing needs to
            be closed. After an error the iterator can be used again, and continues with the missing value. In a loop
            over a stream of its own, a workflow waits until the stream is closed, and without end if no other code
            closes it.

        Raises:
            DBOSLimitError: an id, key, offset or timeout is outside its limits. The errors below come from the
                iterator.
            DBOSNonExistentWorkflowError: no workflow has that id.
            DBOSStreamTimeoutError: the next value did not come in time.
            DBOSSerializationError: this program cannot rebuild a value. The values before it have been returned.

        Durable: in a workflow the values are recorded, in pages, and a replay returns the same values.
        """
        refuse_running_loop(f"{cls._called}.read_stream", how="async for value in {}")
        reading = _Reading(workflow_id, key, offset, timeout_seconds)
        return StreamIterator(reading, lambda: cls._block("read_stream", reading.next_values))

    @shared
    def read_stream_async(
        cls, workflow_id: str, key: str, *, offset: int = 0, timeout_seconds: Seconds | None = None
    ) -> AsyncIterator[Any]:
        """Read the values of a stream with `async for`, as `read_stream` does with `for`."""
        reading = _Reading(workflow_id, key, offset, timeout_seconds)
        return AsyncStreamIterator(reading, lambda: cls._await(reading.next_values, "read_stream_async"))

    @shared
    def read_stream_offset(
        cls, workflow_id: str, key: str, offset: int, *, timeout_seconds: Seconds | None = None
    ) -> Any:
        """Return the value at an offset of a stream, waiting until it is there.

        Args:
            workflow_id: the workflow that writes the stream.
            key: the name of the stream.
            offset: the offset of the value; the first value has offset 0.
            timeout_seconds: how long to wait; `None` waits without limit.

        Returns:
            The value.

        Raises:
            DBOSStreamClosedError: the stream has ended before that offset.
            DBOSNonExistentWorkflowError, DBOSStreamTimeoutError, DBOSSerializationError: as `read_stream`.

        Durable: in a workflow the value is recorded, and a replay returns it.
        """
        reading = _Reading(workflow_id, key, offset, timeout_seconds)
        return cls._block("read_stream_offset", reading.one_value)

    @shared
    async def read_stream_offset_async(
        cls, workflow_id: str, key: str, offset: int, *, timeout_seconds: Seconds | None = None
    ) -> Any:
        """Await `read_stream_offset`."""
        return await cls._await(_Reading(workflow_id, key, offset, timeout_seconds).one_value)


class OwnStreams(Streams):
    """The streams that a workflow writes."""

    @classmethod
    def write_stream(cls, key: str, value: Any) -> None:
        """Append a value to a stream of this workflow.

        Args:
            key: the name of the stream; a workflow may write any number of streams.
            value: any value that can be stored.

        Raises:
            DBOSContextError: called outside of a workflow and its steps.
            DBOSStreamClosedError: the stream is closed; nothing was written.
            DBOSSerializationError: the value cannot be stored. The error names the path inside it.
            DBOSLimitError: the key or the value is outside its limits.

        Durable: before the workflow's next step, before its next operation that waits for an answer, and before its
        end. Values are written in order. Workflow code writes exactly once: a replay writes nothing. A step writes once
        per try, before its result is recorded; readers see the values of every try.
        """
        cls._block("write_stream", lambda caller: _write(caller, "DBOS.write_stream", key, value), Begins.ALONE)

    @classmethod
    async def write_stream_async(cls, key: str, value: Any) -> None:
        """Await `write_stream`."""
        await cls._await(lambda caller: _write(caller, "DBOS.write_stream_async", key, value))

    @classmethod
    def close_stream(cls, key: str) -> None:
        """Close a stream of this workflow: a reader ends after the last value. Closing it again does nothing.

        A stream that is not closed ends with its workflow, however that ends.

        Args:
            key: the name of the stream.

        Raises:
            DBOSContextError: called outside of a workflow and its steps.
            DBOSLimitError: the key is outside its limits.

        Durable: as a written value, and after all values written before. In a step it takes effect together with the
        record of the step's success, so that a retried step can write again.
        """
        cls._block("close_stream", lambda caller: _close(caller, "DBOS.close_stream", key))

    @classmethod
    async def close_stream_async(cls, key: str) -> None:
        """Await `close_stream`."""
        await cls._await(lambda caller: _close(caller, "DBOS.close_stream_async", key))


class StreamIterator(Iterator[Any]):
    """Values of a stream, for a thread. Not a generator: a generator ends with its first error."""

    def __init__(self, reading: _Reading, read: Callable[[], list[Any]]) -> None:
        self._reading = reading
        self._read = read
        self._page: Iterator[Any] = iter(())

    def __tidings_slip__(self) -> tuple[str, str]:
        return f"the values of {self._reading}", "collect them first: list(...)"

    def __next__(self) -> Any:
        for value in self._page:
            return value
        while not self._reading.is_over:
            self._page = iter(self._read())
            for value in self._page:
                return value
        raise StopIteration

    def close(self) -> None:
        """Return no more values, like a closed generator."""
        self._reading.is_over, self._page = True, iter(())


class AsyncStreamIterator(AsyncIterator[Any]):
    """Values of a stream, for a task."""

    def __init__(self, reading: _Reading, read: Callable[[], Awaitable[list[Any]]]) -> None:
        self._reading = reading
        self._read = read
        self._page: Iterator[Any] = iter(())

    def __tidings_slip__(self) -> tuple[str, str]:
        return f"the values of {self._reading}", "collect them first: [each async for each in ...]"

    async def __anext__(self) -> Any:
        for value in self._page:
            return value
        while not self._reading.is_over:
            self._page = iter(await self._read())
            for value in self._page:
                return value
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Return no more values, like a closed generator."""
        self._reading.is_over, self._page = True, iter(())


class _Reading:
    """A reader's progress through a stream: one page at a time, with the next page requested in advance."""

    def __init__(self, workflow_id: str, key: str, offset: int, timeout_seconds: Seconds | None) -> None:
        self._workflow_id = check_id(workflow_id, "workflow_id")
        self._key = check_key(key, "stream key")
        self._offset = check_offset(offset)
        self._timeout = check_timeout(timeout_seconds)
        self._target = targets.of_key(key, workflow_id, self._timeout)
        self._asked: Ticket | None = None
        self.is_over = False

    def __str__(self) -> str:
        return f"the stream {self._key!r} of workflow {self._workflow_id!r}"

    def next_values(self, caller: Caller) -> Operation[Any]:
        """Read the next page."""
        query = streams.next_page(self._workflow_id, self._key, self._offset)
        if caller.workflow is not None:
            slot = caller.workflow.begin(streams.READ_STREAM, target=self._target)
            page = yield from streams.read_recorded(slot, query, self._timeout)
        else:
            page = yield from streams.read(caller.serializer, query, self._timeout, self._asked)
        if not isinstance(page, streams.Page):
            return page
        self._offset, self.is_over, self._asked = page.following, page.is_last, None
        if page.has_more and caller.workflow is None:
            self._asked = caller.port.ask(streams.next_page(self._workflow_id, self._key, self._offset))
        return page.values

    def one_value(self, caller: Caller) -> Operation[Any]:
        """Read one value."""
        query = ReadStream(self._workflow_id, self._key, self._offset, 1)
        if caller.workflow is not None:
            slot = caller.workflow.begin(streams.READ_OFFSET, target=self._target)
            return streams.read_offset_recorded(slot, query, self._timeout)
        return streams.read_offset(caller.serializer, query, self._timeout)


def _write(caller: Caller, called: str, key: str, value: Any) -> Operation[Any]:
    scope = _scope(caller, called, key)
    text = dump(caller.serializer, value, f"the value for the stream {key!r}")
    if scope.attempt is not None:
        attempt = scope.attempt
        return streams.write_in_step(attempt.slot, attempt.number, attempt.check_running, key, text)
    return streams.write(scope.begin(WRITE_STREAM, key=key), key, text)


def _close(caller: Caller, called: str, key: str) -> Operation[Any]:
    scope = _scope(caller, called, key)
    if scope.attempt is not None:
        return streams.close_in_step(scope.attempt.slot, key)
    return streams.close(scope.begin(streams.CLOSE_STREAM, target=targets.of_stream(key)), key)


def _scope(caller: Caller, called: str, key: str) -> Scope:
    check_key(key, "stream key")
    if caller.scope is None:
        raise outside_of_workflows(f"{called}({key!r})", "a stream belongs to one")
    return caller.scope
