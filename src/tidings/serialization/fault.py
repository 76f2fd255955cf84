"""Why a value cannot be stored or rebuilt, and where inside it.

The walks raise a `Fault` where they stand; every level adds its step while the fault passes, so
that a walk that succeeds pays nothing for paths. Everything here is printable text without
surrogates whatever the value is, for the message may itself be stored.
"""

from __future__ import annotations

from tidings.error import DBOSSerializationError

_MOST_STEPS = 12


class Fault(Exception):
    """A value that cannot be stored or rebuilt; becomes a `DBOSSerializationError`."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self._steps: list[str] = []

    def passed(self, step: str) -> None:
        """Add the step that leads to where the fault has come from."""
        self._steps.append(step)

    def as_error(self) -> DBOSSerializationError:
        steps = self._steps[::-1]
        if len(steps) > _MOST_STEPS:
            steps[_MOST_STEPS // 2 : -_MOST_STEPS // 2] = ["…"]
        path = "$" + "".join(steps)
        return DBOSSerializationError(f"{path}: {self.reason}", path)


def step_to(key: object) -> str:
    """Return the path step to a field or to the value of a dict's key."""
    return f".{key}" if type(key) is str and key.isidentifier() else f"[{shown(key)}]"


def shown(value: object) -> str:
    """Return a short `repr` of `value`, or its type's name if it has none."""
    try:
        text = repr(value)
    except Exception:
        return f"<{type(value).__qualname__} object>"
    text = text if len(text) <= 80 else f"{text[:79]}…"
    return text.encode("utf-8", "backslashreplace").decode()
