"""Context managers that do not change the errors raised in their block.

`contextlib.contextmanager` sets the traceback of an error that passes through. If the error forbids that (a frozen
dataclass, for example), another error is raised in its place. So this module replaces it for blocks that run the
program's code.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def contextmanager(function: Callable[P, Iterator[T]]) -> Callable[P, AbstractContextManager[T]]:
    """Do the same as `contextlib.contextmanager`, but only for `with`, not as a decorator."""

    @functools.wraps(function)
    def make(*args: P.args, **kwargs: P.kwargs) -> AbstractContextManager[T]:
        return _Block(function(*args, **kwargs))

    return make


class _Block(AbstractContextManager[T]):
    """The context manager of one `with` statement."""

    __slots__ = ("_generator",)

    def __init__(self, generator: Any) -> None:
        self._generator = generator

    def __enter__(self) -> T:
        value: T = next(self._generator)
        return value

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        if error is None:
            if next(self._generator, _END) is not _END:
                raise RuntimeError("the generator yields more than once")
            return False
        try:
            self._generator.throw(error)
        except StopIteration as stop:
            return stop is not error
        except BaseException as raised:
            # Python turns a StopIteration that leaves a generator into a RuntimeError.
            if raised is error or (isinstance(error, StopIteration) and raised.__cause__ is error):
                return False
            raise
        raise RuntimeError("the generator yields again after an error")


_END = object()
