"""Reading for people: what cannot be decoded is shown as stored text, and does not hide the rest."""

from __future__ import annotations

import contextlib
from typing import Any

from tidings.error import DBOSRecordedError, DBOSSerializationError
from tidings.serialization import typed_json
from tidings.serialization.errors import load_error, load_outcome
from tidings.serialization.missing import is_missing
from tidings.serialization.serializers import JSONSerializer, Serializer, load
from tidings.serialization.stand_ins import without_base
from tidings.serialization.undecoded import UndecodedValue


def show(serializer: Serializer, text: str, what: str) -> Any:
    """Return the value that `dump` turned into `text`, with an `UndecodedValue` for what cannot be decoded."""
    try:
        return load(serializer, text, what)
    except DBOSSerializationError as error:
        if type(serializer) is JSONSerializer:
            with contextlib.suppress(DBOSSerializationError):
                return typed_json.show_text(text)
        return UndecodedValue(error.type_name, text, str(error))


def show_error(serializer: Serializer, text: str, what: str) -> BaseException:
    """Return the exception that `dump_error` turned into `text`, or a `DBOSRecordedError` that shows the text."""
    try:
        error = load_error(serializer, text, what)
    except DBOSSerializationError as failure:
        return _shown_error(serializer, text, what, with_bases=False) or DBOSRecordedError(
            failure.type_name or "an error of an unknown class", f"{text}, which cannot be rebuilt here: {failure}"
        )
    return (
        (is_missing(error) and _shown_error(serializer, text, what, with_bases=False)) or without_base(error) or error
    )


def load_awaited(serializer: Serializer, text: str, what: str) -> BaseException:
    """Return the exception that another workflow ended with; where its class is missing here, a `DBOSRecordedError`.

    That is an instance of those bases of the missing class too that this program has.

    Raises:
        DBOSSerializationError: it cannot be read at all.
    """
    try:
        error = load_outcome(serializer, text, what)
    except DBOSSerializationError as failure:
        shown = None if failure.type_name is None else _shown_error(serializer, text, what, with_bases=True)
        if not isinstance(shown, Exception):
            raise
        return shown
    shown = _shown_error(serializer, text, what, with_bases=True) if is_missing(error) else without_base(error)
    return shown or error


def _shown_error(serializer: Serializer, text: str, what: str, *, with_bases: bool) -> BaseException | None:
    try:
        if type(serializer) is not JSONSerializer:
            text = load(serializer, text, what)
        shown = typed_json.show_error_text(text, with_bases=with_bases)
    except DBOSSerializationError:
        return None
    return shown if isinstance(shown, BaseException) else None
