"""Why a value cannot be stored or rebuilt, and the path to the place inside it.

The code that walks a value raises a `Fault` at the place. Each level adds its step as the fault
passes, so a walk that succeeds pays nothing for paths. All text here is printable and without
surrogates, whatever the value is, because the message may itself be stored.
"""

from __future__ import annotations

from tidings.error import DBOSSerializationError
from tidings.serialization.hiding import hide_in_text

_MOST_STEPS = 12
_MOST_SEARCHED = 1_000  # characters


class Fault(Exception):
    """A value cannot be stored or rebuilt. Callers turn this into a `DBOSSerializationError`.

    Attributes:
        reason: the reason.
        type_name: the class that this program lacks, as `module:name`, if that is the reason.
    """

    def __init__(self, reason: str, *, type_name: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.type_name = type_name
        self._steps: list[str] = []

    def passed(self, step: str) -> None:
        """Add the step of an outer level to the path."""
        self._steps.append(step)

    def as_error(self) -> DBOSSerializationError:
        steps = self._steps[::-1]
        if len(steps) > _MOST_STEPS:
            steps[_MOST_STEPS // 2 : -_MOST_STEPS // 2] = ["…"]
        path = "$" + "".join(steps)
        error = DBOSSerializationError(f"{path}: {self.reason}", path)
        if self.type_name is not None:
            error.type_name = self.type_name.replace(":", ".")
        return error


def step_to(key: object) -> str:
    """Return the step of a path to a field, or to the value of a key of a dict."""
    return f".{key}" if type(key) is str and key.isidentifier() else f"[{shown(key)}]"


def shown(value: object) -> str:
    """Return a short `repr` of `value` without secrets, or its type's name if it has none."""
    try:
        text = repr(value)
    except Exception:
        return f"<{type(value).__qualname__} object>"
    text = hide_in_text(text[:_MOST_SEARCHED])
    text = text if len(text) <= 80 else f"{text[:79]}…"
    return text.encode("utf-8", "backslashreplace").decode()
