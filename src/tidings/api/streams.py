"""Streams: `write_stream`, `close_stream`, `read_stream`, `read_stream_offset`, each with its `_async` twin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

from tidings.api.caller import Caller, Face, refuse_running_loop, shared
from tidings.core.effects import Operation, ReadStream
from tidings.core.operations import streams
from tidings.engine.scope import Scope
from tidings.engine.ticket import Ticket
from tidings.error import DBOSContextError
from tidings.limits import check_id, check_key, check_offset, check_timeout
from tidings.model import WRITE_STREAM
from tidings.serialization import dump


class Streams(Face):
    """Values that a workflow appends to a stream, read in order, live, by anybody, any number of times."""

    @shared
    def read_stream(
        cls, workflow_id: str, key: str, *, offset: int = 0, timeout_seconds: float | None = None
    ) -> Iterator[Any]:
        """Read the values of a stream, live, until it is closed or its workflow has ended.

        Args:
            workflow_id: whose stream.
            key: which stream; one that nothing was written to is waited for too.
            offset: where to begin; the first value has offset 0.
            timeout_seconds: how long to wait for each value; `None` waits without limit.

        Returns:
            An iterator of values, in the order in which they were written. To stop early leaves nothing behind, and
            after an error it can be asked again: it goes on with the value that did not come. Reading a stream of one's
            own workflow waits for its closing, and so for ever if nothing else closes it.

        Raises (from the iterator):
            DBOSNonExistentWorkflowError: no workflow has that id.
            DBOSStreamTimeoutError: no further value came in time.
            DBOSSerializationError: a value cannot be rebuilt here; those before it have been read.

        Durable: in a workflow the values are recorded, in pages, and a replay reads them again.
        """
        refuse_running_loop(f"{cls._called}.read_stream")
        reading = _Reading(workflow_id, key, offset, timeout_seconds)
        return _Values(reading, lambda: cls._block("read_stream", reading.next_values))

    @shared
    def read_stream_async(
        cls, workflow_id: str, key: str, *, offset: int = 0, timeout_seconds: float | None = None
    ) -> AsyncIterator[Any]:
        """Read the values of a stream with `async for`; as `read_stream`."""
        reading = _Reading(workflow_id, key, offset, timeout_seconds)
        return _AsyncValues(reading, lambda: cls._await(reading.next_values))

    @shared
    def read_stream_offset(
        cls, workflow_id: str, key: str, offset: int, *, timeout_seconds: float | None = None
    ) -> Any:
        """Return the value at an offset of a stream, waiting until it is there.

        Raises:
            DBOSStreamClosedError: the stream has ended before that offset.
            DBOSNonExistentWorkflowError, DBOSStreamTimeoutError, DBOSSerializationError: as `read_stream`.

        Durable: in a workflow the value is recorded, and a replay returns it.
        """
        reading = _Reading(workflow_id, key, offset, timeout_seconds)
        return cls._block("read_stream_offset", reading.one_value)

    @shared
    async def read_stream_offset_async(
        cls, workflow_id: str, key: str, offset: int, *, timeout_seconds: float | None = None
    ) -> Any:
        """Await `read_stream_offset`."""
        return await cls._await(_Reading(workflow_id, key, offset, timeout_seconds).one_value)


class OwnStreams(Streams):
    """The streams that a workflow writes."""

    @classmethod
    def write_stream(cls, key: str, value: Any) -> None:
        """Append a value to a stream of this workflow.

        Args:
            key: which stream; a workflow may have any number.
            value: any value that can be stored.

        Raises:
            DBOSContextError: called outside of a workflow and its steps.
            DBOSStreamClosedError: the stream is closed; nothing was written.
            DBOSSerializationError: the value cannot be stored; names the path inside it.
            DBOSLimitError: the key or the value is outside its limits.

        Durable: before the workflow's next step, its next operation that waits for an answer, and
        its end; values are written in order. From a workflow exactly once: a replay writes nothing.
        From a step once per try, all before the step's result is recorded; readers see those of every try.
        """
        cls._block("write_stream", lambda caller: _write(caller, key, value))

    @classmethod
    async def write_stream_async(cls, key: str, value: Any) -> None:
        """Await `write_stream`."""
        await cls._await(lambda caller: _write(caller, key, value))

    @classmethod
    def close_stream(cls, key: str) -> None:
        """Close a stream of this workflow: readers end when they have read it all. Harmless when repeated.

        A stream that is not closed ends with its workflow, however that ends.

        Raises:
            DBOSContextError: called outside of a workflow and its steps.
            DBOSLimitError: the key is outside its limits.

        Durable: as a value that is written, and behind all that were. In a step it takes effect when
        the step has succeeded, with the record of its result, so that a step that is tried again can write again.
        """
        cls._block("close_stream", lambda caller: _close(caller, key))

    @classmethod
    async def close_stream_async(cls, key: str) -> None:
        """Await `close_stream`."""
        await cls._await(lambda caller: _close(caller, key))


class _Values(Iterator[Any]):
    """Values of a stream, for a thread. Not a generator: that would be over after a timeout."""

    def __init__(self, reading: _Reading, read: Callable[[], list[Any]]) -> None:
        self._reading = reading
        self._read = read
        self._page: Iterator[Any] = iter(())

    def __next__(self) -> Any:
        for value in self._page:
            return value
        while not self._reading.is_over:
            self._page = iter(self._read())
            for value in self._page:
                return value
        raise StopIteration

    def close(self) -> None:
        """Give no more values, as a generator that is closed."""
        self._reading.is_over, self._page = True, iter(())


class _AsyncValues(AsyncIterator[Any]):
    """Values of a stream, for a task."""

    def __init__(self, reading: _Reading, read: Callable[[], Awaitable[list[Any]]]) -> None:
        self._reading = reading
        self._read = read
        self._page: Iterator[Any] = iter(())

    async def __anext__(self) -> Any:
        for value in self._page:
            return value
        while not self._reading.is_over:
            self._page = iter(await self._read())
            for value in self._page:
                return value
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """Give no more values, as a generator that is closed."""
        self._reading.is_over, self._page = True, iter(())


class _Reading:
    """A reader's way through a stream: a page at a time, and the next one asked for ahead."""

    def __init__(self, workflow_id: str, key: str, offset: int, timeout_seconds: float | None) -> None:
        self._workflow_id = check_id(workflow_id, "workflow_id")
        self._key = check_key(key, "stream key")
        self._offset = check_offset(offset)
        self._timeout = check_timeout(timeout_seconds)
        self._asked: Ticket | None = None
        self.is_over = False

    def next_values(self, caller: Caller) -> Operation[Any]:
        """Read the next page."""
        query = streams.next_page(self._workflow_id, self._key, self._offset)
        if caller.workflow is not None:
            slot = caller.workflow.begin(streams.READ_STREAM)
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
            return streams.read_offset_recorded(caller.workflow.begin(streams.READ_OFFSET), query, self._timeout)
        return streams.read_offset(caller.serializer, query, self._timeout)


def _write(caller: Caller, key: str, value: Any) -> Operation[Any]:
    scope = _scope(caller, "DBOS.write_stream", key)
    text = dump(caller.serializer, value, f"the value for the stream {key!r}")
    if scope.attempt is not None:
        attempt = scope.attempt
        return streams.write_in_step(attempt.slot, attempt.number, attempt.check_running, key, text)
    return streams.write(scope.begin(WRITE_STREAM, key=key), key, text)


def _close(caller: Caller, key: str) -> Operation[Any]:
    scope = _scope(caller, "DBOS.close_stream", key)
    if scope.attempt is not None:
        return streams.close_in_step(scope.attempt.slot, key)
    return streams.close(scope.begin(streams.CLOSE_STREAM), key)


def _scope(caller: Caller, name: str, key: str) -> Scope:
    check_key(key, "stream key")
    if caller.scope is None:
        raise DBOSContextError(f"{name}({key!r}) was called outside of any workflow; a stream belongs to one")
    return caller.scope
