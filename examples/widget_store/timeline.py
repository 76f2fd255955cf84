"""The timeline in the terminal: one line for each event."""

import logging
import os
import re
import sys
from contextlib import suppress
from datetime import datetime
from enum import StrEnum

_UUID = re.compile("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


class Colour(StrEnum):
    """Colours, as terminal codes."""

    PLAIN = "0"
    BOLD = "1"
    FAINT = "2"
    RED = "31"
    GREEN = "32"
    YELLOW = "33"


class TimelineHandler(logging.Handler):
    """Writes the log of a program's libraries into the timeline: recoveries, an unavailable database."""

    def emit(self, record: logging.LogRecord) -> None:
        """Add a line for a log record."""
        tell(_UUID.sub(lambda found: short(found[0]), record.getMessage()), colour=Colour.FAINT)


class _Speaker:
    """The name of the program that this process runs."""

    name = ""


def speak_as(name: str) -> None:
    """Set the program's name, which is shown in each of its lines."""
    _Speaker.name = name


def tell(what: str, order_id: str = "", colour: Colour = Colour.PLAIN) -> None:
    """Add a line: the time, the program, the order and the event."""
    time = datetime.now().astimezone().strftime("%H:%M:%S")
    say(f"{paint(f'{time}  {_Speaker.name:8}', Colour.FAINT)}  {short(order_id):8}  {paint(what, colour)}")


def short(order_id: str) -> str:
    """Return the short form of an order's id, for people."""
    return order_id[:8]


def say(text: str = "") -> None:
    """Print text at once. If the output is closed (`make demo | head`, a closed terminal), no order fails."""
    with suppress(OSError):
        print(f"{text}\n", end="", flush=True)


def paint(text: str, colour: Colour) -> str:
    """Colour the text if a terminal shows it."""
    return f"\033[{colour}m{text}\033[0m" if has_colours() and colour is not Colour.PLAIN else text


def has_colours() -> bool:
    """Tell whether the output is a terminal, or the parent process shows it on one."""
    return "NO_COLOR" not in os.environ and (sys.stdout.isatty() or "FORCE_COLOR" in os.environ)
