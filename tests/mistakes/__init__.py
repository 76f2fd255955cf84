"""Mistakes that newcomers make, each with the message that they get: `make mistakes` prints them as a table."""

from tests.mistakes import running, starting, starts, values
from tests.mistakes.ground import ALL, Mistake

_ORDER = [module.__name__ for module in (starting, values, starts, running)]


def everything() -> list[Mistake]:
    """Return all mistakes, in the order in which a newcomer comes to them."""
    return sorted(ALL, key=lambda each: _ORDER.index(each.make.__module__))
