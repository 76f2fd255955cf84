"""Formats figures for readers."""

from __future__ import annotations

from bench.catalogue import Target, Unit
from bench.summary import Line, Spread

NOTHING = "–"


def number(value: float | None) -> str:
    """Three digits, or more if the integer part has more."""
    if value is None:
        return NOTHING
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def figure(spread: Spread | None, unit: Unit) -> str:
    """The median, with its unit."""
    return NOTHING if spread is None else f"{number(spread.median)} {unit.value}".replace(" /s", "/s")


def times(spread: Spread | None) -> str:
    """How many times better, with the spread if there were several repetitions."""
    if spread is None:
        return NOTHING
    around = f" ({number(spread.least)} … {number(spread.most)})" if spread.least != spread.most else ""
    return f"{number(spread.median)} ×{around}"


def target(line: Line) -> str:
    """The row's target."""
    match line.target:
        case Target(times=float() | int() as least):
            return f"≥ {least:g} ×"
        case Target(at_most=float() | int() as most):
            return f"≤ {most:,g} {line.row.unit.value}"
        case Target(at_least=float() | int() as least):
            return f"≥ {least:,g}{line.row.unit.value}"
        case _:
            return ""


def verdict(line: Line) -> str:
    """Whether the target was reached."""
    return "" if line.met is None else "yes" if line.met else "no"


def share(value: float | None) -> str:
    """A share, in percent."""
    return NOTHING if value is None else f"{value:.0%}"
