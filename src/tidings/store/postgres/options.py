"""The `options` of a connection: settings sent with its start, in the one form that servers and poolers accept.

A server reads `options` as a command line. PgBouncer since 1.20 reads it too, and accepts only a list of
`-c name=value`. It refuses other switches, a space at the end, and before 1.23 also `--name=value`. So the user's
options are parsed as the server parses them, and all are written again in that one form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

# As C's `isspace`: other Unicode white space is part of a word.
_WORD: Final = re.compile(r"(?:\\.|[^\s\\])+", re.ASCII | re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_SPECIAL: Final = re.compile(r"[\s\\]", re.ASCII)


def read(given: str) -> tuple[dict[str, str], list[str]]:
    """Return the settings in a user's `options`, and all other switches, which the server will judge."""
    settings: dict[str, str] = {}
    others: list[str] = []
    for switch in _switches(given):
        name, equals, value = _assignment(switch).partition("=")
        if equals:
            settings[name.replace("-", "_")] = value  # The server accepts both.
        else:
            others.append(switch)
    return settings, others


def write(settings: Mapping[str, str], others: Sequence[str] = ()) -> str:
    """Return the `options` that make these settings, followed by the other switches."""
    return " ".join([*(f"-c {_escaped(f'{name}={value}')}" for name, value in settings.items()), *others])


def _switches(given: str) -> Iterator[str]:
    """Yield the words of a command line unchanged; a bare `-c` is joined with the next word."""
    words = iter(_WORD.findall(given))
    for word in words:
        yield word if word != "-c" else f"-c {next(words, '')}".rstrip()


def _assignment(switch: str) -> str:
    """Return the `name=value` of this switch without its escapes; an empty text if it is no setting."""
    if not switch.startswith(("-c", "--")):
        return ""
    return _ESCAPED.sub(r"\1", switch[2:].lstrip())


def _escaped(word: str) -> str:
    return _SPECIAL.sub(lambda match: f"\\{match[0]}", word)
