"""Exceptions to text, and back, so that code meets the same error the first time and on replay.

An error is always written as typed JSON. Where another serializer is configured, that text is
given to it as a `str` to wrap (to encrypt, say): serializers need to know nothing of exceptions.
"""

from __future__ import annotations

import traceback

from tidings import limits
from tidings.error import DBOSBaseException, DBOSLimitError, DBOSRecordedError, DBOSSerializationError
from tidings.serialization.serializers import JSONSerializer, Serializer, dump, load
from tidings.shortage import is_shortage

_WHAT = "the error"
_JSON = JSONSerializer()
_MOST_CHARACTERS = 64 * 1024  # of a message or traceback that stands for an error


def dump_error(serializer: Serializer, error: BaseException) -> tuple[str, BaseException]:
    """Return `error` as text, and the exception to raise now, which is alike the one `load_error` returns.

    That is `error` itself if it can be rebuilt, which is tried; otherwise a `DBOSRecordedError`
    with its type's name, message and traceback. If only its `__cause__` cannot be rebuilt, that
    alone is replaced, in `error` too.

    Raises:
        DBOSSerializationError: a configured serializer failed.
    """
    if (text := _dump_exactly(serializer, error)) is not None:
        return text, error
    if (cause := error.__cause__) is not None:
        _set_cause(error, recorded_error(cause))
        if (text := _dump_exactly(serializer, error)) is not None:
            return text, error
        _set_cause(error, cause)
    recorded = recorded_error(error)
    return _wrap(serializer, _JSON.serialize(recorded)), recorded


def load_error(serializer: Serializer, text: str, what: str = _WHAT) -> BaseException:
    """Return the exception that `dump_error` turned into `text`.

    Raises:
        DBOSSerializationError: it cannot be rebuilt; the message says why and what to do.
    """
    if type(serializer) is not JSONSerializer:
        text = load(serializer, text, what)
    error = load(_JSON, text, what)
    if not isinstance(error, BaseException):
        raise DBOSSerializationError(f"{what} cannot be read: a {type(error).__name__} was stored, no exception")
    return error


def load_outcome(serializer: Serializer, text: str, what: str) -> BaseException:
    """Return the exception that an operation or a workflow ended with: one that may be raised anywhere.

    Raises:
        DBOSSerializationError: it cannot be rebuilt. So does one that no outcome is: a KeyboardInterrupt, say, would
            end the event loop of all others.
    """
    error = load_error(serializer, text, what)
    if not isinstance(error, (Exception, DBOSBaseException)):
        raise DBOSSerializationError(f"{what} cannot be read: a {type(error).__name__} was stored, which ends nothing")
    return error


def _dump_exactly(serializer: Serializer, error: BaseException) -> str | None:
    """Return `error` as text if that brings it back as it is; None if not, or if it is too large."""
    try:
        text = _JSON.serialize(error)
        rebuilt = _JSON.deserialize(text)
        # Equal texts are equal types, args, attributes and causes, whether or not these define ==.
        if _JSON.serialize(rebuilt) != text or str(rebuilt) != str(error):
            return None
    except Exception as failure:
        if is_shortage(failure):
            raise
        return None
    try:
        return _wrap(serializer, text)
    except DBOSLimitError:
        return None


def _wrap(serializer: Serializer, text: str) -> str:
    if type(serializer) is JSONSerializer:
        return limits.check_value_size(text, _WHAT)
    return dump(serializer, text, _WHAT)


def _set_cause(error: BaseException, cause: BaseException) -> None:
    # The root's own __setattr__, because a frozen dataclass has another.
    suppressed = error.__suppress_context__
    BaseException.__setattr__(error, "__cause__", cause)
    BaseException.__setattr__(error, "__suppress_context__", suppressed)


def recorded_error(error: BaseException) -> DBOSRecordedError:
    """Return what stands for an error that cannot be kept as it is: its type's name, message and traceback."""
    cls = type(error)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    try:
        message = str(error)
    except Exception:
        message = "<its message cannot be printed>"
    try:
        printed = "".join(traceback.format_exception(error))
    except Exception:
        printed = ""
    return DBOSRecordedError(name, _storable(message), _storable(printed))


def _storable(text: str) -> str:
    if len(text) > _MOST_CHARACTERS:
        text = f"{text[: _MOST_CHARACTERS // 2]}\n…\n{text[-_MOST_CHARACTERS // 2 :]}"
    return text.encode("utf-8", "backslashreplace").decode()
