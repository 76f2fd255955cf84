"""From a public call to an operation: the caller, the operation, its driver.

Each public operation is a function that takes a `Caller` (`engine/caller.py`) and returns an operation. A *face* runs
it in a blocking or an awaiting form, without knowing what the operation does. There are two faces: the class `DBOS`,
which runs workflows, and objects of `DBOSClient`, which do not. Operations that both have are written once, in mixins,
as `shared` methods.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import MethodType
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tidings.core.effects import Operation
from tidings.core.operations.patience import patiently
from tidings.engine.caller import Caller
from tidings.engine.runs import scope as scopes
from tidings.engine.runs.drive import drive, drive_async
from tidings.engine.runs.loops import running_loop
from tidings.engine.runs.scope import Scope
from tidings.engine.runs.thread_calls import Begins, call_here
from tidings.shortage import is_shortage

T = TypeVar("T")


def refuse_running_loop(name: str, awaited: str | None = None, more: str = "", how: str = "await {}") -> None:
    """Refuse to block a running event loop.

    Raises:
        RuntimeError: an event loop runs here. The error names the form to await instead.
    """
    if running_loop() is not None:
        form = how.format(f"{awaited or name + '_async'}(...)")
        raise RuntimeError(f"{name} would block the running event loop; use: {form}{more and ', ' + more}")


def require_loop(name: str, blocking: str) -> None:
    """Refuse a call that is awaited without asyncio, by trio or by hand.

    Raises:
        RuntimeError: no event loop runs here. The error names the blocking form.
    """
    if running_loop() is None:
        raise RuntimeError(
            f"{name} was awaited where no asyncio event loop runs; call it in a coroutine that asyncio.run(...) runs, "
            f"or use {blocking}"
        )


if TYPE_CHECKING:
    shared = classmethod
else:

    class shared(classmethod):  # noqa: N801  (a decorator)
        """A method of a face: called on the class `DBOS`, or on an object of another class.

        To a type checker it is a class method, so it may use only the members of `cls` that both faces have.
        """

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            return MethodType(self.__func__, owner if instance is None or owner.is_one else instance)


class Face:
    """Where operations enter, in a blocking and an awaiting form.

    Attributes:
        is_one: whether the class itself is the face, and not each of its objects.
    """

    is_one = False
    _called: str
    _caller: Callable[[Callable[[], Scope | None], str], Caller]

    @shared
    def _block(cls, name: str, make: Callable[[Caller], Operation[T]], begins: Begins = Begins.AT_REST) -> T:
        """Run an operation for the calling thread."""
        refuse_running_loop(f"{cls._called}.{name}")
        call = call_here()
        if call is not None:
            return cast(T, call.perform(lambda: cls._await(make), begins))
        caller = cls._caller(scopes.of_thread, f"{cls._called}.{name}")
        return drive(_made(make, caller), caller.port)

    @shared
    async def _await(cls, make: Callable[[Caller], Operation[T]], name: str | None = None) -> T:
        """Run an operation for the calling task; by default that of the public coroutine which calls this one."""
        called = f"{cls._called}.{name or sys._getframe(1).f_code.co_name}"
        if running_loop() is None:
            require_loop(called, called.removesuffix("_async"))
        caller = cls._caller(scopes.of_task, called)
        return await drive_async(_made(make, caller), caller.port)


def _made(make: Callable[[Caller], Operation[T]], caller: Caller) -> Operation[T]:
    """Return the operation that `make` returns. In a shortage, making it is retried as part of the operation."""
    try:
        return make(caller)
    except Exception as error:
        if not is_shortage(error):
            raise
    return _made_later(make, caller)


def _made_later(make: Callable[[Caller], Operation[T]], caller: Caller) -> Operation[T]:
    operation = yield from patiently(make, caller)
    return (yield from operation)
