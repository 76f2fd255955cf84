"""What the mistakes are made on, and how they are told: a decorator, a place to make them, and the table."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import textwrap
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from unittest.mock import patch

from tests.support.app import App, Sightings
from tests.support.face import Face
from tidings.engine.process import Process

_WIDTH: Final = 116

# Of one that hangs, which is a mistake of ours, the table says so; a machine may be busy.
_PATIENCE_SECONDS: Final = 60


class Noting(logging.Handler):
    """Notes what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines = Sightings()

    def emit(self, record: logging.LogRecord) -> None:
        """Note a line."""
        self.lines.note(f"{record.levelname}: {record.getMessage()}")


@dataclass
class Ground:
    """Where a mistake is made.

    Attributes:
        face: in which form `DBOS` is called.
        app: tidings, launched on an empty database; or about to be.
        folder: an empty directory.
        log: what was logged.
    """

    face: Face
    app: App
    folder: Path
    log: Noting

    async def logged(self, words: str) -> str:
        """Wait until a line with these words is logged, and return it."""
        await self.log.lines.until(lambda seen: any(words in line for line in seen))
        line: str = next(line for line in self.log.lines.seen if words in line)
        return line


Make = Callable[[Ground], Awaitable[Any]]


@dataclass(frozen=True)
class Mistake:
    """One mistake.

    Attributes:
        what: what somebody did, in a few words.
        code: the line that is wrong, as it is written.
        make: makes it; what it raises is the message, or what it returns, where the message is logged.
        says: what the message must say.
        launched: whether tidings runs.
        only: the store on which it can be made; on both by default.
    """

    what: str
    code: str
    make: Make
    says: tuple[str, ...]
    launched: bool
    only: str | None


ALL: list[Mistake] = []


def mistake(what: str, code: str, *says: str, launched: bool = True, only: str | None = None) -> Callable[[Make], Make]:
    """Add a mistake to the table."""

    def add(make: Make) -> Make:
        ALL.append(Mistake(what, code, make, says, launched, only))
        return make

    return add


async def message_of(mistake: Mistake, ground: Ground) -> str:
    """Make a mistake, and return what it says: the last line of a traceback, or a line of the log."""
    with _never_launched() if not mistake.launched else contextlib.nullcontext():
        try:
            said = await asyncio.wait_for(mistake.make(ground), _PATIENCE_SECONDS)
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return str(said)


@contextlib.contextmanager
def noting(logger: logging.Logger) -> Iterator[Noting]:
    """Note what is logged, and let nobody else hear it."""
    handler = Noting()
    propagates = logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield handler
    finally:
        logger.propagate = propagates
        logger.removeHandler(handler)


def row(number: int, mistake: Mistake, message: str) -> str:
    """Return one row of the table: the mistake, its code, and what is said of it."""
    code = textwrap.indent(mistake.code, "      ")
    said = textwrap.fill(message, _WIDTH, initial_indent="   -> ", subsequent_indent="      ", break_long_words=False)
    return f"{number:2}. {mistake.what}\n{code}\n{said}"


@contextlib.contextmanager
def _never_launched() -> Iterator[None]:
    """Be a process in which tidings never ran, whatever ran in it before."""
    with patch.object(Process, "settings", new=None), patch.object(Process, "has_run", new=False):
        yield
