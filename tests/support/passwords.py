"""Checks every test for passwords: none may be shown.

The URLs of the tests' servers contain `PASSWORD` (`harness/password.py`), and so does each password that a test makes
up. So any output of a secret part of a URL contains it too. A test fails if `PASSWORD` is in its captured output or log
(with tracebacks), in the output of a program, or in an error that it caught or in one of the causes of that error.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Final

from harness.password import PASSWORD

_AROUND: Final = 150  # characters

_shown: list[str] = []


def look(where: str, text: str) -> None:
    """Note where a password is shown. The note does not contain the password."""
    at = text.find(PASSWORD)
    if at >= 0:
        _shown.append(f"{where}: ...{text[max(0, at - _AROUND) : at + _AROUND].replace(PASSWORD, '<the password>')}...")


def taken() -> list[str]:
    """Return the notes since the last call."""
    shown = _shown.copy()
    _shown.clear()
    return shown


def look_at_error(error: BaseException) -> None:
    """Check an error, and all its causes."""
    for each in _led_to(error):
        for say in (str, repr):
            with contextlib.suppress(Exception):  # A test's own error may not be printable.
                look(f"an error {type(each).__name__}", say(each))
        look(f"a note of an error {type(each).__name__}", "\n".join(getattr(each, "__notes__", ())))


def _led_to(error: BaseException) -> Iterator[BaseException]:
    found, waiting = set[int](), [error]
    while waiting:
        each = waiting.pop()
        if id(each) in found:
            continue
        found.add(id(each))
        yield each
        waiting += [other for other in (each.__cause__, each.__context__) if other is not None]
        waiting += each.exceptions if isinstance(each, BaseExceptionGroup) else ()
