"""Exceptions to text, and back, so that code gets the same error the first time and on replay.

An error is always written as typed JSON. If another serializer is configured, it gets that text as a
`str` to wrap (to encrypt, say), so serializers need not support exceptions.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from pathlib import PurePath
from typing import Any, Final

import msgspec

from tidings import limits
from tidings.error import DBOSBaseException, DBOSLimitError, DBOSRecordedError, DBOSSerializationError
from tidings.serialization.attributes import attributes_of
from tidings.serialization.confidential import hidden
from tidings.serialization.exceptions import CAUSE, ROOT, SUPPRESS, members_of
from tidings.serialization.fault import shown
from tidings.serialization.hiding import hide_in_text, names_secret
from tidings.serialization.missing import RECORD, is_missing, record_of
from tidings.serialization.serializers import JSONSerializer, Serializer, dump, load
from tidings.serialization.stand_ins import RESERVED, StandIn, args_of, group_of, lineage_of, stand_in
from tidings.serialization.validation import ValidationErrorShape, is_validation_error
from tidings.shortage import is_shortage

_WHAT: Final = "the error"
_JSON: Final = JSONSerializer()
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode
_MOST_CHARACTERS: Final = 64 * 1024  # of a message, a traceback, or all kept attributes of an error
_MOST_LOST: Final = 20  # names of attributes that could not be kept
_MOST_NESTED: Final = 8  # errors in errors
_MOST_ITEMS: Final = 100  # of a list of which only some items can be stored as they are
_TRACEBACK: Final = vars(BaseException)["__traceback__"]


def dump_error(serializer: Serializer, error: BaseException) -> tuple[str, BaseException]:
    """Return `error` as text, and the exception to raise now. It equals the exception that `load_error` returns.

    The exception is `error` itself if a trial shows that it can be rebuilt. Otherwise it is a stand-in: a
    `DBOSRecordedError` with the name of the class, the message and the traceback, which is an instance of
    that class too (`stand_ins`). If only the `__cause__` cannot be rebuilt, only that is replaced, in `error` too.

    Raises:
        DBOSSerializationError: a configured serializer failed.
    """
    if (text := _dump_exactly(serializer, error)) is not None:
        return text, error
    # Here and below, use the attributes of `BaseException`: a subclass may replace them, or be frozen.
    if (cause := CAUSE.__get__(error)) is not None:
        _set_cause(error, recorded_error(cause))
        if (text := _dump_exactly(serializer, error)) is not None:
            return text, error
        _set_cause(error, cause)
    for make in (_approximate, recorded_error, _plain):
        alike = make(error)
        if alike is not None and (text := _dump_exactly(serializer, alike)) is not None:
            # Return the error as it will be read, so that it is the same the first time and on replay.
            return text, BaseException.with_traceback(load_error(serializer, text), _TRACEBACK.__get__(error))
    plain = _plain(error)
    return _wrap(serializer, _JSON.serialize(plain)), plain


def load_error(serializer: Serializer, text: str, what: str = _WHAT) -> BaseException:
    """Return the exception that `dump_error` turned into `text`.

    Raises:
        DBOSSerializationError: it cannot be rebuilt; the message says why and what to do.
    """
    if type(serializer) is not JSONSerializer:
        text = load(serializer, text, what)
    error = load(_JSON, text, what)
    if not isinstance(error, BaseException):
        raise DBOSSerializationError(
            f"{what} cannot be read: a {type(error).__name__} is stored there, not an exception"
        )
    return error


def load_outcome(serializer: Serializer, text: str, what: str) -> BaseException:
    """Return the exception that an operation or a workflow ended with. It is safe to raise anywhere.

    Raises:
        DBOSSerializationError: it cannot be rebuilt, or it is not an `Exception`. A KeyboardInterrupt, say, would stop
            the whole event loop.
    """
    error = load_error(serializer, text, what)
    if not isinstance(error, (Exception, DBOSBaseException)):
        raise DBOSSerializationError(
            f"{what} cannot be read: a {type(error).__name__} is stored there, which no workflow ends with"
        )
    return error


def _dump_exactly(serializer: Serializer, error: BaseException) -> str | None:
    """Return `error` as text if it can be rebuilt exactly; `None` if not, or if the text is too large."""
    try:
        text = _JSON.serialize(error)
        rebuilt = _JSON.deserialize(text)
        # Equal texts mean equal types, args, attributes and causes, even if their classes define no ==.
        if _JSON.serialize(rebuilt) != text or str(rebuilt) != str(error) or _without_secrets(text) is not None:
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
    suppressed = SUPPRESS.__get__(error)
    CAUSE.__set__(error, cause)
    SUPPRESS.__set__(error, suppressed)


# --- stand-ins for errors -------------------------------------------------------------------------


def recorded_error(error: BaseException) -> DBOSRecordedError:
    """Return the stand-in for an error that cannot be stored as it is.

    It has the error's message and traceback, and the args and attributes that can be stored. It is an instance of the
    error's class too, if that is an `Exception`; others (SystemExit, say) would end a program that awaits the result.
    """
    return _recorded(error, _Room())


def _plain(error: BaseException) -> DBOSRecordedError:
    return DBOSRecordedError(*_described(error))


def _described(error: BaseException) -> tuple[str, str, str]:
    """Return the name of an error's class, its message and its traceback."""
    cls = type(error)
    if cls is DBOSRecordedError or StandIn in cls.__mro__:
        recorded: Any = error
        message = str(error) if StandIn in cls.__mro__ else recorded.message
        return recorded.type_name, _storable(message), _storable(recorded.traceback_text)
    name = cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    try:
        message = str(error)
    except Exception:
        message = "<its message cannot be printed>"
    try:
        printed = "".join(traceback.format_exception(error))
    except Exception:  # The error's own code may fail here, in its notes for example.
        printed = "".join([*traceback.format_tb(_TRACEBACK.__get__(error)), f"{name}: {message}\n"])
    return _storable(name), _storable(message), _storable(printed)


def _recorded(error: BaseException, room: _Room) -> DBOSRecordedError:
    described = _described(error)
    try:
        lineage = _lineage_of(error)
        if not lineage:
            return DBOSRecordedError(*described)
        return _stand_in(error, described, lineage, room)
    except Exception as failure:
        if is_shortage(failure):
            raise
        return DBOSRecordedError(*described)


def _lineage_of(error: BaseException) -> list[str]:
    if not is_missing(error):
        return lineage_of(type(error))
    record = record_of(error)
    bases = record.bases or ()
    return [] if ROOT in bases else [record.name, *bases]


def _stand_in(error: BaseException, described: Sequence[str], lineage: Sequence[str], room: _Room) -> DBOSRecordedError:
    args, group, cause = args_of(error), group_of(error), CAUSE.__get__(error)
    members = {name: member.__get__(error) for name, member in members_of(type(error)).items()}
    attributes, lost = _kept_attributes(error, room)
    return stand_in(
        described,
        lineage,
        args=None if args is None else [room.keep(each) for each in args],
        group=None if group is None else (_storable(group[0]), [room.keep_error(each) for each in group[1]]),
        members={
            name: room.keep(value)
            for name, value in members.items()
            if value is not None and name != "__suppress_context__"
        },
        attributes=attributes,
        cause=None if cause is None else room.keep_error(cause),
        is_context_suppressed=members["__suppress_context__"],
        lost=lost,
    )


def _kept_attributes(error: BaseException, room: _Room) -> tuple[dict[str, Any], list[str]]:
    kept: dict[str, Any] = {}
    lost: list[str] = []
    for name, value in attributes_of(error).items():
        if name == RECORD:
            continue
        if name != _storable(name) or name in RESERVED or (isinstance(value, (str, bytes)) and names_secret(name)):
            lost.append(_storable(name))
        elif room.takes(value):
            kept[name] = value
        elif name == "__notes__" or _holds_errors(value):
            kept[name] = room.keep(value)
        elif type(without := room.without_secrets(value)) is type(value):
            kept[name] = without
        else:
            lost.append(_storable(name))
    return kept, lost[:_MOST_LOST]


def _holds_errors(value: Any) -> bool:
    if type(value) in (list, tuple):
        return 0 < len(value) <= _MOST_ITEMS and all(isinstance(each, BaseException) for each in value)
    return isinstance(value, BaseException)


class _Room:
    """The space left for what is kept of one error and the errors in it. Large errors are kept in part."""

    def __init__(self) -> None:
        self._left = _MOST_CHARACTERS
        self._nested = 0

    def takes(self, value: Any) -> bool:
        """Tell whether a value can be stored exactly and fits; if so, reserve its space."""
        if self._left <= 0:
            return False
        try:
            text = _JSON.serialize(value)
            is_exact = len(text) <= self._left and _JSON.serialize(_JSON.deserialize(text)) == text
            is_exact = is_exact and _without_secrets(text) is None
        except Exception as failure:
            if is_shortage(failure):
                raise
            return False
        if is_exact:
            self._left -= len(text)
        return is_exact

    def without_secrets(self, value: Any) -> Any:
        """Return a copy of a value without the secrets in it; `None` if it has none, or cannot be stored at all."""
        try:
            text = _without_secrets(_JSON.serialize(value))
            without = None if text is None else _JSON.deserialize(text)
        except Exception as failure:
            if is_shortage(failure):
                raise
            return None
        return without if self.takes(without) else None

    def keep(self, value: Any) -> Any:
        """Return the value if it can be stored, else a replacement: an error, a list of replacements, or text."""
        if self.takes(value):
            return value
        if isinstance(value, BaseException):
            return self.keep_error(value)
        if (without := self.without_secrets(value)) is not None:
            return without
        if type(value) in (list, tuple) and len(value) <= _MOST_ITEMS and self._nested < _MOST_NESTED:
            self._nested += 1
            try:
                return type(value)([self.keep(each) for each in value])
            finally:
                self._nested -= 1
        if isinstance(value, str):
            return _storable(value)
        return _storable(str(value)) if isinstance(value, PurePath) else shown(value)

    def keep_error(self, error: BaseException) -> BaseException:
        """Return the error if it can be stored, else its stand-in."""
        if self.takes(error):
            return error
        if (alike := _approximate(error)) is not None and self.takes(alike):
            return alike
        if self._nested >= _MOST_NESTED or self._left <= 0:
            return DBOSRecordedError(*_described(error)[:2])  # The traceback of the outer error shows it too.
        self._nested += 1
        try:
            recorded = _recorded(error, self)
        finally:
            self._nested -= 1
        self._left -= len(recorded.message) + len(recorded.traceback_text)
        return recorded


def _approximate(error: BaseException) -> BaseException | None:
    """Return a copy of an error of a class that allows no stand-in, with text for parts that cannot be stored."""
    if not is_validation_error(type(error)):
        return None
    try:
        approximate: BaseException = ValidationErrorShape(type(error)).approximate(error, _Room().keep)
    except Exception as failure:
        if is_shortage(failure):
            raise
        return None
    return approximate


def _without_secrets(text: str) -> str | None:
    """Return typed JSON with its secrets hidden; `None` if it has none."""
    node = _decode(text)
    without = hidden(node)
    return None if without == node else _encode(without).decode()


def _storable(text: str) -> str:
    """Return text that can be stored, without secrets; shortened if it is long. Runs no code of a subclass of `str`."""
    text = str.encode(text, "utf-8", "backslashreplace").decode()
    if len(text) > _MOST_CHARACTERS:
        text = f"{text[: _MOST_CHARACTERS // 2]}\n…\n{text[-_MOST_CHARACTERS // 2 :]}"
    return hide_in_text(text)
