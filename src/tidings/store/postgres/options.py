"""The `options` of a connection: the settings that go with its start, written so that every reader takes them.

A server reads `options` as a command line. PgBouncer since 1.20 reads it too, and refuses what is not a row of
`-c name=value`: other switches, space at the end, and before 1.23 also `--name=value`. So what a user gives is read as
the server reads it, and all is written anew in that one form.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final

# As `isspace` in C: other white space of Unicode is part of a word.
_WORD: Final = re.compile(r"(?:\\.|[^\s\\])+", re.ASCII | re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_SPECIAL: Final = re.compile(r"[\s\\]", re.ASCII)


def options(settings: Mapping[str, str], given: str = "") -> str:
    """Return the `options` that make these settings; what a user has given, in the same form, takes precedence.

    Args:
        settings: what to set, and to what.
        given: the user's `options`. What is no setting in it is kept as it is, for the server to judge.
    """
    chosen = {name.lower(): (name, value) for name, value in settings.items()}
    others: list[str] = []
    for switch in _switches(given):
        name, equals, value = _assignment(switch).partition("=")
        if equals:
            name = name.replace("-", "_")  # The server takes either.
            chosen[name.lower()] = name, value
        else:
            others.append(switch)
    return " ".join([*(f"-c {_escaped(f'{name}={value}')}" for name, value in chosen.values()), *others])


def _switches(given: str) -> Iterator[str]:
    """Yield the words of a command line as they stand; one that is just `-c` together with the next."""
    words = iter(_WORD.findall(given))
    for word in words:
        yield word if word != "-c" else f"-c {next(words, '')}".rstrip()


def _assignment(switch: str) -> str:
    """Return the `name=value` of this switch, without its escapes. One that makes no setting gives nothing."""
    if not switch.startswith(("-c", "--")):
        return ""
    return _ESCAPED.sub(r"\1", switch[2:].lstrip())


def _escaped(word: str) -> str:
    return _SPECIAL.sub(lambda match: f"\\{match[0]}", word)
