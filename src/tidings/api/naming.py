"""Errors that name public methods as users write them, with a hint at the parameter that was meant.

For an unknown keyword, Python's own error names `Messages.recv()`, and not the parameter that was meant. The errors of
`limits` name the parameter, but not the method. So each public method gets a wrapper that completes both kinds of
error. Without an error the wrapper costs one call.

The wrapper also drops frames that may hold a database's URL: a traceback may show their variables.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable
from types import FunctionType, TracebackType
from typing import Any, Final, TypeVar

from tidings import limits
from tidings.api import filters
from tidings.error import DBOSException, DBOSLimitError
from tidings.slips import nearest, synonym_of

C = TypeVar("C", bound=type)

_WRONG: Final = (TypeError, ValueError, DBOSLimitError)
_UNKNOWN: Final = re.compile(r"got an unexpected keyword argument '(\w+)'")
_TOO_MANY: Final = re.compile(r"takes .* positional arguments? but .* (?:was|were) given")
_MISSING: Final = re.compile(r"missing \d+ required .*")
_CHECKS: Final = (limits.__file__, filters.__file__)  # Their errors begin with the parameter.

_HOLD_URLS: Final = {"config", "system_database_url"}  # parameters
# What is no parameter anywhere: how it is written instead.
_ELSEWHERE: Final = {
    **dict.fromkeys(
        ("workflow_id", "id", "idempotency_key", "task_id", "workflow_uuid"),
        "to choose the id, write: with SetWorkflowID('...'): DBOS.start_workflow(function, ...)",
    ),
    **dict.fromkeys(
        ("timeout", "timeout_seconds", "workflow_timeout", "workflow_timeout_sec", "time_limit"),
        "to limit the time, write: with SetWorkflowTimeout(seconds): DBOS.start_workflow(function, ...)",
    ),
}
_OF_STEPS: Final = ("max_attempts", "interval_seconds", "backoff_rate", "should_retry", "retries_allowed")
_OF_STEPS_ONLY: Final = (
    "a workflow is not retried when it fails, but its steps are: @DBOS.step(retries_allowed=True, max_attempts=...)"
)

_SAYS_WHERE: Final = ("DBOS", "step '", "workflow '")


def as_users_write_it(public: C) -> C:
    """Let all errors name the methods of a public class as users write them, such as `DBOS.step()`.

    Each class gets copies of its functions: a function has one name, and `DBOS` and `DBOSClient` share mixins.
    """
    for name, method in inspect.getmembers_static(public):
        function = getattr(method, "__func__", method)
        if (name.startswith("_") and name != "__init__") or not isinstance(function, FunctionType):
            continue
        shown = public.__name__ if name == "__init__" else f"{public.__name__}.{name}"
        own = _telling(_named(function, f"{public.__name__}.{name}"), shown)
        type.__setattr__(public, name, own if method is function else type(method)(own))  # `DBOS` is sealed.
    return public


def _named(function: FunctionType, qualname: str) -> FunctionType:
    name = qualname.rpartition(".")[2]
    own = FunctionType(function.__code__, function.__globals__, name, function.__defaults__, function.__closure__)
    functools.update_wrapper(own, function)
    del own.__wrapped__  # type: ignore[attr-defined]
    own.__kwdefaults__ = function.__kwdefaults__
    own.__qualname__ = qualname
    return own


def _telling(function: FunctionType, shown: str) -> Callable[..., Any]:
    """Wrap a function so that its errors name it as `shown`."""
    holds_url = not _HOLD_URLS.isdisjoint(inspect.signature(function).parameters)
    if inspect.iscoroutinefunction(function):

        @functools.wraps(function)
        async def telling_async(*args: Any, **kwargs: Any) -> Any:
            try:
                return await function(*args, **kwargs)
            except BaseException as error:
                del args, kwargs  # A traceback may show them, and one may be a password.
                _tell(error, function, shown)
                if holds_url:
                    forget_frames(error)
                raise

        return telling_async

    @functools.wraps(function)
    def telling(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            del args, kwargs
            _tell(error, function, shown)
            if holds_url:
                forget_frames(error)
            raise

    return telling


def forget_frames(error: BaseException) -> None:
    """Drop the frames that an error came through, and those of its causes.

    Of an error that is not about the arguments or the database, only the frame of the public method is dropped: it
    holds the arguments, and the others tell where the defect is.
    """
    if not isinstance(error, (DBOSException, *_WRONG)):
        own = error.__traceback__ and error.__traceback__.tb_next
        if own is not None:
            error.__traceback__ = own.tb_next
        return
    each: BaseException | None = error
    while each is not None and each.__traceback__ is not None:
        each.__traceback__ = None
        each = each.__cause__ or each.__context__


def _tell(error: BaseException, function: FunctionType, shown: str) -> None:
    """Complete the message of an error that says what is wrong with a call."""
    if not isinstance(error, _WRONG):
        return
    below = None if error.__traceback__ is None else error.__traceback__.tb_next
    if below is None:  # The arguments do not fit, so Python has not begun the call.
        error.args = (said_of_call(str(error), inspect.signature(function), shown),)
    elif _is_of_check(below) and not str(error).startswith(_SAYS_WHERE):
        error.args = (f"{shown}: {error}", *error.args[1:])


def _is_of_check(below: TracebackType) -> bool:
    """Tell whether a check of this call has failed, and not a check of another call inside it."""
    last = below
    while last.tb_next is not None:
        if last.tb_frame.f_code.co_name in ("telling", "telling_async") and last.tb_frame.f_globals is globals():
            return False
        last = last.tb_next
    return last.tb_frame.f_code.co_filename in _CHECKS


def said_of_call(text: str, signature: inspect.Signature, shown: str) -> str:
    """Complete Python's error `text` about a call: add the parameter that may be meant, or all parameters."""
    parameters = [each for each in signature.parameters.values() if each.name not in ("self", "cls", "nothing")]
    by_name = [each.name for each in parameters if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)]
    if found := _UNKNOWN.search(text):
        elsewhere = _of_workflow(found[1]) if shown == "DBOS.workflow" else None
        return f"{shown}() {found[0]}; {elsewhere or _meant(found[1], by_name)}"
    if found := _TOO_MANY.search(text):
        keywords = [f"{each.name}=" for each in parameters if each.kind is each.KEYWORD_ONLY]
        return f"{shown}() {found[0]}" + (f"; by keyword it takes {', '.join(keywords)}" if keywords else "")
    if found := _MISSING.search(text):
        keywords = [
            f"{each.name}=..." for each in parameters if each.kind is each.KEYWORD_ONLY and each.name in found[0]
        ]
        return f"{shown}() {found[0]}" + (f"; write {shown}({', '.join(keywords)})" if keywords else "")
    return text


def meant_in(text: str, signature: inspect.Signature) -> str:
    """Return what may be meant, if a call of the user's own workflow fails with `text`."""
    if "missing a required argument: 'self'" in text:
        return "; it is a method: call it on an object of its class"
    found = _UNKNOWN.search(text)
    if found is None:
        return ""
    near, elsewhere = nearest(found[1], signature.parameters), _ELSEWHERE.get(found[1])
    hints = [] if near is None else [f"did you mean {near}=?"]
    return "".join(f"; {each}" for each in ([elsewhere] if elsewhere else []) + hints)


def _of_workflow(name: str) -> str | None:
    """Return what may be meant by an unknown parameter of `@DBOS.workflow`: something that it does not take."""
    if name in _OF_STEPS or synonym_of(name, _OF_STEPS) is not None:
        return _OF_STEPS_ONLY
    return _ELSEWHERE.get(name)


def meant_retry(name: str, near: str) -> str:
    """Return what to add, if an option of a step that needs retries is meant under another name."""
    return " It needs retries_allowed=True" if near in _OF_STEPS[:4] and name != near else ""


def _meant(name: str, known: list[str]) -> str:
    near = nearest(name, known)
    if near is not None:
        return f"did you mean {near}=?{meant_retry(name, near)}"
    return f"it takes {', '.join(f'{each}=' for each in known)}" if known else "it takes none"
