"""The serializers, and the two functions through which all values pass.

`dump` and `load` hold whatever serializer is configured to the same terms: text that both stores
can keep, within the limits, and `DBOSSerializationError` for whatever goes wrong.
"""

from __future__ import annotations

import base64
import pickle
from typing import Any, Protocol

from tidings import limits
from tidings.error import DBOSSerializationError
from tidings.serialization import typed_json
from tidings.serialization.fault import shown
from tidings.shortage import is_shortage


class Serializer(Protocol):
    """Turns values into text and back; give one as `serializer=` to encrypt values, say.

    It may refuse values by raising. It must at least take `str`: errors reach it as one. It is
    called from several threads at once.
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
    """The default: typed JSON, which round-trips exactly what it takes and runs no code."""

    def serialize(self, value: Any) -> str:
        return typed_json.to_text(value)

    def deserialize(self, text: str) -> Any:
        return typed_json.from_text(text)

    def name(self) -> str:
        return "tidings_json"


class PickleSerializer:
    """Pickle, as base64: takes nearly any value. Never the default.

    Reading a pickle can run any code: use it only if everyone who may write to the database may
    also run code in every process that reads it.
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
        serializer: the one that is configured.
        value: any value of the user's.
        what: what the value is, for messages: "the message", "the result of step 'pay'".

    Raises:
        DBOSSerializationError: it cannot be stored; the message names the path inside it.
        MemoryError, OSError, RuntimeError: this process lacks something for it now (`shortage`).
        DBOSLimitError: it takes more than 16 MiB.
    """
    try:
        text = serializer.serialize(value)
    except DBOSSerializationError as error:
        raise DBOSSerializationError(f"{what}: {error}", error.path) from error.__cause__
    except Exception as error:
        if is_shortage(error):
            raise
        raise DBOSSerializationError(f"{what} cannot be stored: {_failed(serializer, error)}") from error
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
        raise DBOSSerializationError(f"{what}: {error}", error.path) from error.__cause__
    except Exception as error:
        if is_shortage(error):
            raise
        raise DBOSSerializationError(f"{what} cannot be read: {_failed(serializer, error)}") from error


def _check_text(text: object, serializer: Serializer, what: str) -> None:
    # One text that a store refuses would fail the whole batch it is in.
    if not isinstance(text, str):
        problem = f"returned {type(text).__name__}; serialize() must return a str"
    elif "\0" in text:
        problem = "returned text with a NUL character, which no store can keep; encode it as base64, say"
    elif not text.isascii() and text.encode("utf-8", "replace").decode() != text:
        problem = "returned text with a lone surrogate, which no store can keep; encode it as base64, say"
    else:
        return
    raise DBOSSerializationError(f"{what} cannot be stored: {type(serializer).__qualname__} {problem}")


def _failed(serializer: Serializer, error: Exception) -> str:
    return f"{type(serializer).__qualname__} failed with {shown(error)}"
