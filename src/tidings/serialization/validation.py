"""pydantic's `ValidationError`: only pydantic can make one, and it allows no subclass.

It is stored as what `errors()` returns for each fault, and rebuilt by `from_exception_data`. This module does not
import pydantic: a program that has not imported it has no such errors.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from itertools import product
from typing import Any, Final

from tidings.serialization.exceptions import ARGS, CAUSE, SUPPRESS, bases_of, text_of
from tidings.serialization.fault import Fault
from tidings.serialization.hiding import HIDDEN, names_secret
from tidings.serialization.names import member_of, name_of

_CORE: Final = "pydantic_core"
_INPUT_TYPES: Final = ("python", "json")


def is_validation_error(cls: type) -> bool:
    """Tell whether a class is pydantic's, if the program has imported pydantic."""
    return cls.__module__.startswith(_CORE) and cls is member_of(_CORE, "ValidationError")


class ValidationErrorShape:
    """Takes apart and puts together a `ValidationError`."""

    tag = "exception"

    def __init__(self, cls: Any) -> None:
        self.stored_as = cls

    def label(self, instance: Any) -> dict[str, Any]:
        return {"cls": name_of(self.stored_as), "bases": bases_of(self.stored_as), "text": text_of(instance)}

    def take_apart(self, instance: Any) -> dict[str, Any]:
        if ARGS.__get__(instance):
            raise Fault("this ValidationError cannot be stored: it was made from args, unlike pydantic's own")
        for fields in self._variants(instance):
            again = self._make(fields)
            if str(again) == str(instance) and self._told(again) == self._told(instance):
                return fields
        raise Fault("this ValidationError cannot be stored: pydantic cannot make it again from its errors")

    def unset(self, _: dict[str, Any]) -> list[str]:
        return []

    def put_together(self, fields: dict[str, Any], _: Collection[str] = ()) -> Any:
        error = self._make(fields)
        vars(error).update(fields["attributes"])
        CAUSE.__set__(error, fields["cause"])
        SUPPRESS.__set__(error, fields["is_context_suppressed"] is True)
        return error

    def approximate(self, instance: Any, keep: Callable[[Any], Any]) -> Any:
        """Return a copy in which `keep` has replaced each input and every other value of the program."""
        fields = next(self._variants(instance))
        for line in fields["errors"]:
            is_secret = any(type(each) is str and names_secret(each) for each in line["loc"])
            line["input"] = HIDDEN if is_secret and isinstance(line["input"], (str, bytes)) else keep(line["input"])
            line["ctx"] = {name: keep(value) for name, value in line["ctx"].items()}
        fields["attributes"] = {name: keep(value) for name, value in fields["attributes"].items()}
        fields["cause"] = None if fields["cause"] is None else keep(fields["cause"])
        return self.put_together(fields)

    def _variants(self, instance: Any) -> Iterator[dict[str, Any]]:
        """Yield the fields that may rebuild the error. It does not tell its input type, nor if it hides its input."""
        lines = [
            {
                "type": line["type"],
                "loc": line["loc"],
                "msg": line["msg"],
                "input": line["input"],
                "ctx": dict(line.get("ctx") or {}),
                "is_custom": not self._is_known(line),
            }
            for line in instance.errors(include_url=False)
        ]
        for input_type, hides in product(_INPUT_TYPES, (False, True)):
            yield {
                "title": instance.title,
                "errors": lines,
                "input_type": input_type,
                "hides_input": hides,
                "attributes": dict(vars(instance)),
                "cause": CAUSE.__get__(instance),
                "is_context_suppressed": SUPPRESS.__get__(instance),
            }

    def _is_known(self, line: dict[str, Any]) -> bool:
        """Tell whether pydantic derives the message of this fault from its type."""
        known = {"type": line["type"], "loc": line["loc"], "input": line["input"], "ctx": line.get("ctx") or {}}
        try:
            made = [self.stored_as.from_exception_data("", [known], input_type) for input_type in _INPUT_TYPES]
        except (KeyError, TypeError, ValueError):
            return False
        return line["msg"] in [each.errors(include_url=False)[0]["msg"] for each in made]

    def _make(self, fields: dict[str, Any]) -> Any:
        custom = member_of(_CORE, "PydanticCustomError")
        lines = [
            {
                "type": custom(line["type"], line["msg"], line["ctx"]) if line["is_custom"] else line["type"],
                "loc": tuple(line["loc"]),
                "input": line["input"],
            }
            | ({"ctx": line["ctx"]} if line["ctx"] and not line["is_custom"] else {})
            for line in fields["errors"]
        ]
        error = self.stored_as.from_exception_data(
            fields["title"], lines, fields["input_type"], fields["hides_input"] is True
        )
        ARGS.__set__(error, ())  # As of one that a model has raised.
        return error

    @staticmethod
    def _told(error: Any) -> Any:
        """Return the facts of each fault that can be compared: not its values, which may define no equality."""
        return [
            (line["type"], line["loc"], line["msg"], sorted(line), sorted(line.get("ctx") or {}))
            for line in error.errors(include_url=False)
        ]
