"""Awaiting many workflows: `as_completed`, in the order in which they end, and `wait_first`."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from tidings.api.caller import Face, refuse_running_loop, shared
from tidings.api.handle import WorkflowHandle, WorkflowHandleAsync, refuse_own_end
from tidings.core import targets
from tidings.core.effects import Operation
from tidings.core.operations import completion as operations
from tidings.core.operations.completion import AS_COMPLETED, WAIT_FIRST, Completion
from tidings.engine.caller import Caller
from tidings.engine.runs import scope as scopes
from tidings.engine.runs.scope import Scope
from tidings.error import DBOSContextError
from tidings.limits import Seconds, check_timeout
from tidings.slips import given

H = TypeVar("H", bound=WorkflowHandle[Any] | WorkflowHandleAsync[Any])


class Completing(Face):
    """Many workflows, awaited together."""

    @shared
    def as_completed(cls, handles: Iterable[H], *, timeout_seconds: Seconds | None = None) -> Iterator[H]:
        """Iterate over workflows in the order in which they end, however they end.

            for handle in DBOS.as_completed(handles):
                print(handle.workflow_id, handle.get_result())

        The whole loop costs as much as awaiting each workflow once. Prefer it to `wait_first` in a loop.

        Args:
            handles: handles on the workflows, in any iterable; it is read at once. Of several handles on one workflow,
                only the first counts.
            timeout_seconds: how long the whole loop may take, from the request for the first handle; `None` means no
                limit.

        Returns:
            An iterator of these handles. Workflows that have already ended come first, in the order of their ends. The
            loop may be left early; nothing needs to be closed. After an error the iterator can be used again. One loop
            belongs to one place: the code of one workflow, one try of a step, or code outside of both.

        Raises:
            TypeError: one of `handles` is not a handle.
            TimeoutError: from the iterator: some workflows did not end in time. They keep running.
            DBOSNonExistentWorkflowError: from the iterator: some workflows do not exist. The error names their ids.
            DBOSContextError: from the iterator: it is used in a second place, or by two threads or tasks at once.

        Durable: in a workflow the order is recorded, and a replay gives the same order. The deadline is recorded too,
        so a crash does not extend it.
        """
        refuse_running_loop(f"{cls._called}.as_completed", how="async for handle in {}")
        loop = _Loop(_by_id(handles, "as_completed"), timeout_seconds)
        return _Handles(loop, lambda: cls._block("as_completed", loop.next_ended), _where(cls))

    @shared
    def as_completed_async(
        cls, handles: Iterable[H] | AsyncIterable[H], *, timeout_seconds: Seconds | None = None
    ) -> AsyncIterator[H]:
        """Iterate over workflows with `async for`, as `as_completed` does with `for`.

        `handles` may also be an async iterable, such as `(await DBOS.start_workflow_async(f, each) for each in work)`.
        It is read when the first handle is requested.
        """
        source = aiter(handles) if isinstance(handles, AsyncIterable) else None
        by_id: dict[str, H] = {} if isinstance(handles, AsyncIterable) else _by_id(handles, "as_completed_async")
        loop = _Loop(by_id, timeout_seconds)
        return _AsyncHandles(loop, lambda: cls._await(loop.next_ended, "as_completed_async"), _where(cls), source)

    @shared
    def wait_first(cls, handles: Iterable[H]) -> H:
        """Wait until one of these workflows has ended, in any way, and return its handle.

        If several have ended, it returns the one that comes first in `handles`. To await many workflows one after
        another, use `as_completed`: each call of `wait_first` queries all of them.

        Args:
            handles: one or more handles on workflows.

        Returns:
            The handle of a workflow that has ended.

        Raises:
            ValueError: there are no handles.
            DBOSNonExistentWorkflowError: some workflows do not exist. The error names their ids.

        Durable: in a workflow the choice is recorded, and a replay returns the same handle.
        """
        by_id = _some_by_id(handles)
        return by_id[cls._block("wait_first", lambda caller: _wait_first(caller, tuple(by_id)))]

    @shared
    async def wait_first_async(cls, handles: Iterable[H]) -> H:
        """Await `wait_first`."""
        by_id = _some_by_id(handles)
        return by_id[await cls._await(lambda caller: _wait_first(caller, tuple(by_id)))]


def _where(face: type[Face] | Face) -> Callable[[], Scope | None]:
    """Return a function that finds the scope of the code that asks for a handle. A client's operations have none."""
    return scopes.current if face.is_one else _nowhere


def _nowhere() -> None:
    """Return the scope of a client's operations: none."""


def _wait_first(caller: Caller, workflow_ids: tuple[str, ...]) -> Operation[Any]:
    refuse_own_end(workflow_ids)
    if caller.workflow is None:
        return operations.wait_first(workflow_ids)
    return operations.wait_first_recorded(
        caller.workflow.begin(WAIT_FIRST, target=targets.of_workflows(workflow_ids)), workflow_ids
    )


def _some_by_id(handles: Iterable[H]) -> dict[str, H]:
    by_id = _by_id(handles, "wait_first")
    if not by_id:
        raise ValueError("wait_first was given no handles, so it would never return; give it one or more")
    return by_id


def _by_id(handles: Iterable[H], called: str) -> dict[str, H]:
    several: object = handles
    if not isinstance(several, Iterable):
        hint = f"; one handle goes into a list: {called}([handle])" if isinstance(several, _HANDLES) else ""
        raise TypeError(f"{called} takes a list of handles, not {given(handles)}{hint}")
    by_id: dict[str, H] = {}
    for each in handles:
        by_id.setdefault(_checked(each, called).workflow_id, each)
    return by_id


_HANDLES = (WorkflowHandle, WorkflowHandleAsync)


def _checked(handle: H, called: str) -> H:
    one: object = handle
    if not isinstance(one, _HANDLES):
        raise TypeError(f"{called} takes a list of handles; this list contains {given(handle)}")
    return handle


class _Loop(Generic[H]):
    """A loop over workflows: the workflows that are left, and the place that the loop belongs to."""

    def __init__(self, by_id: dict[str, H], timeout_seconds: Seconds | None) -> None:
        self._timeout = check_timeout(timeout_seconds)
        self._by_id = by_id
        self._completion = Completion(by_id)
        self._began_ms: int | None = None  # on the process's own clock; unused if the deadline is recorded
        self._place: tuple[object, object] | None = None
        self._is_asking = False
        self._ended: Iterator[str] = iter(())

    def add(self, handle: H) -> None:
        """Add a workflow, before the first handle is requested."""
        self._by_id.setdefault(handle.workflow_id, handle)
        self._completion.add(handle.workflow_id)

    def next_handle(self, scope: Scope | None) -> H | None:
        """Return the next handle that is already known, without a query."""
        if self._place is not None:
            self._check_place(scope)
        for workflow_id in self._ended:
            return self._by_id[workflow_id]
        return None

    @property
    def is_over(self) -> bool:
        """Whether all handles have been returned."""
        return not self._completion.left

    def close(self) -> None:
        """Return no more handles, like a closed generator."""
        self._ended = iter(())
        self._completion.close()
        self._completion.left.clear()

    def next_ended(self, caller: Caller) -> Operation[Any]:
        """Query which workflows have ended next, and wait if none has."""
        self._check_place(caller.scope)
        refuse_own_end(self._completion.left)
        if self._is_asking:
            raise DBOSContextError(
                "as_completed is being used by another thread or task already; let one of them loop, and pass the "
                "handles on to the others"
            )
        self._is_asking = True
        try:
            ended = yield from self._next_ended(caller)
        finally:
            self._is_asking = False
        if isinstance(ended, list):
            self._ended = iter(ended)
        return ended

    def _next_ended(self, caller: Caller) -> Operation[Any]:
        if caller.workflow is not None:
            slot = caller.workflow.begin(AS_COMPLETED)
            return (yield from operations.next_ended_recorded(slot, self._completion, self._timeout))
        now_ms = caller.engine.clock.own_ms()
        if self._began_ms is None:
            self._began_ms = now_ms
        left = None if self._timeout is None else max(self._timeout - (now_ms - self._began_ms) / 1_000, 0.0)
        return (yield from operations.next_ended(self._completion, self._timeout, left))

    def _check_place(self, scope: Scope | None) -> None:
        """Refuse to continue the loop in another place. A replay would not repeat what a step has asked for."""
        place = (None, None) if scope is None else (scope.run, scope.attempt)
        if self._place is None:
            self._place = place
        elif self._place != place:
            raise DBOSContextError(
                "as_completed was begun elsewhere: one loop belongs to the code of one workflow, to one try of a step, "
                "or to code outside of both. Call as_completed again here, with the handles that are left"
            )


class _Handles(Iterator[H]):
    """Handles on workflows as they end, for a thread. Not a generator: a generator ends with its first error."""

    def __init__(self, loop: _Loop[H], ask: Callable[[], object], where: Callable[[], Scope | None]) -> None:
        self._loop = loop
        self._ask = ask
        self._where = where

    def __next__(self) -> H:
        while (handle := self._loop.next_handle(self._where())) is None:
            if self._loop.is_over:
                raise StopIteration
            self._ask()
        return handle

    def __tidings_slip__(self) -> tuple[str, str]:
        return "a loop over workflows", "loop over it: for handle in DBOS.as_completed(...)"

    def close(self) -> None:
        """Return no more handles, like a closed generator."""
        self._loop.close()


class _AsyncHandles(AsyncIterator[H]):
    """Handles on workflows as they end, for a task."""

    def __init__(
        self,
        loop: _Loop[H],
        ask: Callable[[], Awaitable[object]],
        where: Callable[[], Scope | None],
        source: AsyncIterator[H] | None,
    ) -> None:
        self._loop = loop
        self._ask = ask
        self._where = where
        self._source = source

    async def __anext__(self) -> H:
        while self._source is not None:
            try:
                handle = _checked(await anext(self._source), "as_completed_async")
            except StopAsyncIteration:
                self._source = None
            else:
                self._loop.add(handle)
        while (found := self._loop.next_handle(self._where())) is None:
            if self._loop.is_over:
                raise StopAsyncIteration
            await self._ask()
        return found

    def __tidings_slip__(self) -> tuple[str, str]:
        return "a loop over workflows", "loop over it: async for handle in DBOS.as_completed_async(...)"

    async def aclose(self) -> None:
        """Return no more handles, like a closed generator."""
        self._source = None
        self._loop.close()
