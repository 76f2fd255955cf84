"""Common slips that give a value of the wrong kind: a forgotten `await`, a missing call.

Error messages name the slip in the words of the user's code (`await fetch(...)`), not by a type and a memory
address. Nothing here runs code of the value.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import inspect
import itertools
import re
import sys
from collections.abc import AsyncIterator, Iterable, Iterator
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any, Final, NamedTuple

_MOST_CHARACTERS: Final = 100

# How alike two names are that differ by a slip of the hand; how long a part is that tells names apart.
_ALIKE: Final = 0.8
_SHORTEST_WORD: Final = 3
_VAGUE: Final = {"", "max", "min", "seconds", "sec", "is", "use", "set"}  # words of many names

_OURS: Final = ("DBOS", "DBOSClient")  # whose coroutines end in _async, and have a form that blocks
_HANDLE: Final = "WorkflowHandleAsync"
_OBJECTS: Final = {"DBOSClient": "client", _HANDLE: "handle"}  # How code calls the objects of our classes.

# Names of other libraries for what tidings calls differently. No part of them leads there.
_SYNONYMS: Final = {
    **dict.fromkeys(("max_retries", "retries", "max_tries", "tries", "attempts", "retry_count"), "max_attempts"),
    **dict.fromkeys(("retry", "retryable", "allow_retries"), "retries_allowed"),
    **dict.fromkeys(("delay", "retry_delay", "retry_interval", "wait", "interval"), "interval_seconds"),
    **dict.fromkeys(("backoff", "backoff_factor", "backoff_coefficient", "multiplier"), "backoff_rate"),
    **dict.fromkeys(("retry_on", "retry_if", "retry_for", "autoretry_for"), "should_retry"),
    **dict.fromkeys(("state", "states", "statuses"), "status"),
    **dict.fromkeys(("workflow_name", "function", "func", "function_name"), "name"),
    **dict.fromkeys(("since", "after", "started_after"), "start_time"),
    **dict.fromkeys(("until", "before", "started_before"), "end_time"),
    **dict.fromkeys(("version", "application_version"), "app_version"),
    **dict.fromkeys(("parent", "parent_id"), "parent_workflow_id"),
}

# The code of functions whose coroutines are workflows. A def cannot await such a coroutine, but may start the workflow.
_CODE_OF_WORKFLOWS: Final[set[CodeType]] = set()

_OF_PYTHON: Final = ("builtins", itertools.__name__)  # Only these modules: files, say, have a `__next__` too.
_SERIES: Final[tuple[type, ...]] = (range, type({}.keys()), type({}.values()), type({}.items()))


@contextlib.contextmanager
def _manager() -> Iterator[None]:
    yield


@contextlib.asynccontextmanager
async def _async_manager() -> AsyncIterator[None]:
    yield


_MANAGERS: Final = (type(_manager()), type(_async_manager()))
_MAKES_MANAGERS: Final = (_manager.__code__, _async_manager.__code__)

# What a value of a configuration looks like that may be shown: a word, a number, a file's name. Not a URL or a login.
_PLAIN: Final = re.compile(r"[\w.+ -]{0,40}")

# A URL of a database, a URL with a login, or a keyword connection string. No other setting looks like one.
_DATABASE: Final = re.compile(
    r"\W*(?:\w+\s*=\W*)?(?:postgres(?:ql)?|sqlite)(?:\+[\w.-]+)?:|.*://.*@|(?:.*\W)?(?:password|passwd|pwd)\s*=",
    re.DOTALL | re.IGNORECASE,
)

# A login and a host: a schema has no such name, but a label of a process may have one.
_LOGIN: Final = re.compile(r"[^@]*[:;,|=\uff1a][^@]*@", re.DOTALL)

# A URL with a login, a login alone, or a setting with "password" in its name. No message shows a value that holds one.
_SECRET: Final = re.compile(
    r"://.*@|pass(?:word|wd)?\w*\W{0,3}[=:]|\w[:;,|=\uff1a][^\s@]+@[\w.\[]", re.DOTALL | re.IGNORECASE
)


class Slip(NamedTuple):
    """What a value is, and what the user probably meant.

    Attributes:
        what: the value in words, as in "the coroutine fetch()".
        remedy: a question or sentence that says what to write instead.
    """

    what: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.what}; {self.remedy}"


def slip_of(value: object) -> Slip | None:
    """Return the slip of a value that cannot be meant as a value; `None` for other values."""
    own = getattr(type(value), "__tidings_slip__", None)
    if own is not None:  # A class of tidings: a handle, an iterator of a stream.
        return Slip(*own(value))
    return slip_of_waiting(value) or _slip_of_callable(value)


def slip_of_waiting(value: object) -> Slip | None:
    """Return the slip of an object whose value is still to come: a coroutine, a task, a generator. Else `None`.

    It recognizes tasks and futures by an attribute, because asyncio may not be imported.
    """
    kind = type(value)
    if inspect.iscoroutine(value):
        name = called_name(value)
        return Slip(f"the coroutine {name}()", _remedy_for_coroutine(name, value.cr_code))
    if inspect.isasyncgen(value):
        name = called_name(value)
        return Slip(f"the async generator {name}()", f"collect its values first: [each async for each in {name}(...)]")
    if inspect.isgenerator(value):
        name = called_name(value)
        if name == "<genexpr>":
            return Slip("a generator expression", "make it a list: write it with square brackets")
        return Slip(f"the generator {name}()", f"collect its values first: list({name}(...))")
    if hasattr(kind, "_asyncio_future_blocking"):  # The same test as `asyncio.isfuture`.
        get_coro = getattr(value, "get_coro", None)
        what = "a future" if get_coro is None else f"the task of {called_name(get_coro())}()"
        return Slip(what, _awaited())
    if any(each.__module__.startswith("concurrent.futures") and each.__name__ == "Future" for each in kind.__mro__):
        return Slip("a future", "pass what its result() returns")
    if hasattr(kind, "__await__"):
        return Slip(f"an awaitable ({kind.__name__})", _awaited())
    return None


def _may_await() -> bool:
    """Tell whether the calling code can be a coroutine's. If not, it is in a `def`, where nothing can be awaited."""
    events = sys.modules.get("asyncio.events")
    return events is not None and events._get_running_loop() is not None


def is_workflow(coroutine_function: FunctionType) -> None:
    """Note that the coroutines of this function, and of all others with its code, are workflows."""
    _CODE_OF_WORKFLOWS.add(coroutine_function.__code__)


def _remedy_for_coroutine(name: str, code: CodeType) -> str:
    owner, _, method = name.rpartition(".")
    written = f"{_OBJECTS.get(owner, owner)}.{method}" if owner else name
    if _may_await():
        return f"await missing? Write: await {written}(...)"
    if owner == _HANDLE:
        blocking = "get_result" if method == "get_result" else "get_workflow_status"
        return f"a def cannot await it. Write: DBOS.{blocking}({_OBJECTS[owner]}.workflow_id)"
    if owner in _OURS and method.endswith("_async"):
        return f"a def cannot await it. Write: {written.removesuffix('_async')}(...)"
    if code in _CODE_OF_WORKFLOWS:
        return (
            f"a def cannot await it. It is a workflow, so write: DBOS.start_workflow({name}, ...).get_result(); or "
            "make the def an async def"
        )
    return f"a def cannot await it. In a workflow write: DBOS.run_step(None, {name}, ...); or make the def an async def"


def _awaited() -> str:
    if _may_await():
        return "await missing? Await it, and pass its result"
    return "a def cannot await it. Make it an async def, await it there, and pass its result"


def slip_of_series(value: object) -> Slip | None:
    """Return the slip of an iterator, a range, a view of a dict or a context manager; else `None`.

    Call it only for values that cannot be stored: elsewhere its remedy would mislead.
    """
    kind = type(value)
    if isinstance(value, _MANAGERS):
        name = called_name(getattr(value, "func", value))
        word = "async with" if isinstance(value, contextlib.AbstractAsyncContextManager) else "with"
        return Slip(f"the context manager {name}()", f"write {word} {name}(...) as value, and pass the value")
    if isinstance(value, _SERIES) or (kind.__module__ in _OF_PYTHON and hasattr(kind, "__next__")):
        return Slip(f"an object of {kind.__name__}", "make it a list: list(...)")
    return None


def given(value: object) -> str:
    """Return how an error message names an argument of the wrong type."""
    if value is None or isinstance(value, bool):
        return repr(value)
    slip = slip_of(value)
    return str(slip) if slip is not None else f"{type(value).__name__} ({_shown(value)})"


def plainly(value: object) -> str:
    """Return how an error message names a wrong value of a simple type: as it is written in code."""
    slip = slip_of(value)
    return str(slip) if slip is not None else _shown(value)


def configured(value: object, *, kind: bool = False) -> str:
    """Return how an error message names a wrong value in a configuration: only if it cannot hold a password.

    A program may have put its database's URL, or its password, under a wrong key.

    Args:
        value: what is configured.
        kind: whether to name its type too.
    """
    slip = slip_of(value)
    if slip is not None:
        return str(slip)
    if value is None or isinstance(value, bool):
        return repr(value)
    of_type = type(value).__name__
    if isinstance(value, (int, float)) or (isinstance(value, str) and _PLAIN.fullmatch(value)):
        return f"{of_type} ({_shown(value)})" if kind else _shown(value)
    return f"{of_type} (not shown, because it may contain a password)"


def is_database_url(value: object, *, or_login: bool = False) -> bool:
    """Tell whether a text is the URL of a database, or a URL with a login; or a login alone, as in `user:password@`."""
    if not isinstance(value, str):
        return False
    return _DATABASE.match(value) is not None or (or_login and _LOGIN.match(value) is not None)


def nearest(name: object, known: Iterable[str]) -> str | None:
    """Return which of the known names somebody may have meant: one like it, within it or around it, or of its words."""
    text, names = str(name).lower().replace("-", "_"), list(known)
    meant = synonym_of(text, names)
    if meant is not None:
        return meant
    near = difflib.get_close_matches(text, names, n=1, cutoff=_ALIKE)
    if near:
        return near[0]
    if len(text) >= _SHORTEST_WORD:
        names.sort(key=len)
        around = [each for each in names if text in each.lower() or (len(each) >= _SHORTEST_WORD and each in text)]
        words = set(text.split("_")) - _VAGUE
        shared = [each for each in names if words & set(each.split("_"))]
        if around or shared:
            return (around or shared)[0]
    return next(iter(difflib.get_close_matches(text, names, n=1)), None)


def synonym_of(name: str, known: Iterable[str]) -> str | None:
    """Return which of the known names other libraries call by this one."""
    meant = _SYNONYMS.get(name)
    names = set(known)
    return meant if meant is not None and meant in names and name not in names else None


def makes_manager(function: object) -> bool:
    """Tell whether a function is decorated with `contextlib.contextmanager`, or its async form."""
    return isinstance(function, FunctionType) and function.__code__ in _MAKES_MANAGERS


def called_name(value: object) -> str:
    """Return the name by which code calls a function, or called the one that made this object."""
    while isinstance(value, functools.partial):
        value = value.func
    name = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    return name.rpartition("<locals>.")[2] if isinstance(name, str) else type(value).__name__


def _slip_of_callable(value: object) -> Slip | None:
    if isinstance(value, type):
        return Slip(f"the class {called_name(value)}", f"an object of it meant? Write: {called_name(value)}(...)")
    if isinstance(value, (FunctionType, BuiltinFunctionType, MethodType, functools.partial)):
        name = called_name(value)
        if name == "<lambda>":
            return Slip("a lambda", "pass what it returns")
        return Slip(f"the function {name}", f"call missing? Write: {name}(...)")
    if isinstance(value, ModuleType):
        return Slip(f"the module {value.__name__}", "pass something from it")
    return None


def _shown(value: Any) -> str:
    try:
        text = repr(value)
    except Exception:
        return "an object whose repr() fails"
    if _SECRET.search(text):
        return "not shown, because it may contain a password"
    text = text if len(text) <= _MOST_CHARACTERS else f"{text[: _MOST_CHARACTERS - 1]}…"
    return text.encode("utf-8", "backslashreplace").decode()
