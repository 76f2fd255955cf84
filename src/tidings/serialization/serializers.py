"""The serializers, and the two functions through which all values pass.

`dump` and `load` hold every serializer to the same rules: text that both stores can keep, within the
limits, and a `DBOSSerializationError` for every failure.
"""

from __future__ import annotations

import base64
import dataclasses
import pickle
from collections.abc import Iterable
from typing import Any, Final, Protocol

from tidings import limits
from tidings.error import DBOSSerializationError
from tidings.serialization import typed_json
from tidings.serialization.fault import shown, step_to
from tidings.shortage import is_shortage
from tidings.slips import Slip, slip_of_waiting

# How many parts of a refused value to search for the reason: the search must not take long, nor use up the stack.
_MOST_LOOKED_AT: Final = 500


class Serializer(Protocol):
    """Turns values into text and back. Configure your own with `serializer=`, to encrypt values, say.

    It may raise an error for values that it does not take. It must take `str`, because errors reach it
    as text. It is called from several threads at once.
    """

    def serialize(self, value: Any) -> str:
        """Return `value` as text, without NUL characters."""
        ...

    def deserialize(self, text: str) -> Any:
        """Return the value that `serialize` turned into `text`."""
        ...

    def name(self) -> str:
        """Return the name that is recorded with what this serializer wrote."""
        ...


class JSONSerializer:
    """The default: typed JSON. It returns exactly the value that it took, and runs no code."""

    def serialize(self, value: Any) -> str:
        return typed_json.to_text(value)

    def deserialize(self, text: str) -> Any:
        return typed_json.from_text(text)

    def name(self) -> str:
        return "tidings_json"


class PickleSerializer:
    """Pickle, as base64. It takes nearly any value. It is never the default.

    Reading a pickle can run any code. Use it only if everyone who may write to the database may also
    run code in every process that reads it.
    """

    def serialize(self, value: Any) -> str:
        return base64.b64encode(pickle.dumps(value, protocol=5)).decode()

    def deserialize(self, text: str) -> Any:
        return pickle.loads(base64.b64decode(text, validate=True))  # noqa: S301  # as the docstring warns

    def name(self) -> str:
        return "tidings_pickle"


def dump(serializer: Serializer, value: Any, what: str) -> str:
    """Return `value` as text that both stores can keep.

    Args:
        serializer: the configured serializer.
        value: the user's value.
        what: names the value in error messages: "the message", "the result of step 'pay'".

    Raises:
        DBOSSerializationError: it cannot be stored; the message names the path inside it.
        MemoryError, OSError, RuntimeError: this process lacks something for it now (`shortage`).
        DBOSLimitError: it takes more than 16 MiB.
    """
    try:
        text = serializer.serialize(value)
    except DBOSSerializationError as error:
        raise _told_of(what, error) from error.__cause__
    except Exception as error:
        if is_shortage(error):
            raise
        raise _refused(serializer, value, what, error) from error
    if type(serializer) is not JSONSerializer:
        _check_text(text, serializer, what)
    return limits.check_value_size(text, what)


def load(serializer: Serializer, text: str, what: str) -> Any:
    """Return the value that `dump` turned into `text`.

    Raises:
        DBOSSerializationError: it cannot be rebuilt; the message says why and what to do.
        MemoryError, OSError, RuntimeError: this process lacks something for it now (`shortage`).
    """
    try:
        return serializer.deserialize(text)
    except DBOSSerializationError as error:
        raise _told_of(what, error) from error.__cause__
    except Exception as error:
        if is_shortage(error):
            raise
        raise DBOSSerializationError(f"{what} cannot be read: {_failed(serializer, error)}") from error


def _told_of(what: str, error: DBOSSerializationError) -> DBOSSerializationError:
    told = DBOSSerializationError(f"{what}: {error}", error.path)
    if error.type_name is not None:
        told.type_name = error.type_name
    return told


def _check_text(text: object, serializer: Serializer, what: str) -> None:
    # A text that the store refuses would fail its whole batch.
    if not isinstance(text, str):
        problem = f"returned {type(text).__name__}; serialize() must return a str"
    elif "\0" in text:
        problem = "returned text with a NUL character, which no store can keep; encode it as base64, say"
    elif not text.isascii() and text.encode("utf-8", "replace").decode() != text:
        problem = "returned text with a lone surrogate, which no store can keep; encode it as base64, say"
    else:
        return
    raise DBOSSerializationError(f"{what} cannot be stored: {type(serializer).__qualname__} {problem}")


def _refused(serializer: Serializer, value: Any, what: str, error: Exception) -> DBOSSerializationError:
    """Return the error for a value that a configured serializer refused. It names a forgotten `await` in the value."""
    try:
        found = _waiting_in(value, "$", set())
    except RecursionError:
        found = None
    if found is None:
        return DBOSSerializationError(f"{what} cannot be stored: {_failed(serializer, error)}")
    path, slip = found
    return DBOSSerializationError(f"{what}: {path}: {slip.what} cannot be stored; {slip.remedy}", path)


def _waiting_in(value: Any, path: str, seen: set[int]) -> tuple[str, Slip] | None:
    """Find a coroutine, a task or the like in plain containers and dataclasses."""
    slip = slip_of_waiting(value)
    if slip is not None:
        return path, slip
    if id(value) in seen or len(seen) == _MOST_LOOKED_AT:
        return None
    seen.add(id(value))
    for step, item in _parts_of(value):
        found = _waiting_in(item, path + step, seen)
        if found is not None:
            return found
    return None


def _parts_of(value: Any) -> Iterable[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(step_to(key), item) for key, item in value.items()]
    if isinstance(value, (list, tuple)):
        return [(f"[{index}]", item) for index, item in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return [("[*]", item) for item in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if hasattr(value, field.name)]
        return [(f".{name}", getattr(value, name)) for name in names]
    return ()


def _failed(serializer: Serializer, error: Exception) -> str:
    return f"{type(serializer).__qualname__} failed with {shown(error)}"
