"""Two kinds of small SVG pictures: bars of advantages with their spread, and curves on logarithmic axes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from xml.sax.saxutils import escape

from bench.summary import Line, Spread
from bench.words import number

OURS, PEERS, TARGET, GREY = "#1f6f8b", "#c0752d", "#b3261e", "#999"
BAR_HEIGHT = 22
TITLE_WIDTH, BARS_WIDTH, NUMBER_WIDTH = 330, 360, 110
CURVES_WIDTH, CURVES_HEIGHT, MARGIN = 380, 240, 50

Series = Sequence[tuple[float, float]]


def bars(lines: Sequence[Line]) -> str:
    """Draw how many times better each row is: a bar for the median, a line for the spread, a mark for the target."""
    shown = [(line, line.times) for line in lines if line.times]
    most = max([10.0, *(times.most for _, times in shown)])
    least = min([1.0, *(times.least for _, times in shown)])
    x = _scale(least, most, TITLE_WIDTH, TITLE_WIDTH + BARS_WIDTH)
    body = []
    for power in _powers(least, most):
        body += [
            _line(x(power), 18, x(power), 20 + BAR_HEIGHT * len(shown), "#ddd"),
            _text(x(power), 12, f"{power:g} ×"),
        ]
    for index, (line, times) in enumerate(shown):
        body += _bar(line, times, x, 20 + index * BAR_HEIGHT)
    return _svg(TITLE_WIDTH + BARS_WIDTH + NUMBER_WIDTH, 24 + BAR_HEIGHT * len(shown), body)


def _bar(line: Line, times: Spread, x: Callable[[float], float], top: float) -> list[str]:
    middle = top + BAR_HEIGHT / 2
    left, right = sorted((x(1), x(times.median)))
    parts = [
        _text(TITLE_WIDTH - 8, middle + 4, line.row.title, "end"),
        f'<rect x="{left:.1f}" y="{top + 4}" width="{right - left:.1f}" height="{BAR_HEIGHT - 8}" fill="{OURS}"/>',
        _line(x(times.least), middle, x(times.most), middle, "#000"),
        _text(max(right, x(times.most)) + 6, middle + 4, f"{number(times.median)} ×", "start"),
    ]
    if line.target and line.target.times:
        at = x(line.target.times)
        parts.append(_line(at, top + 1, at, top + BAR_HEIGHT - 1, TARGET))
    return parts


def curves(ours: Series, peers: Series, unit: str) -> str:
    """Draw two curves, both axes logarithmic."""
    points = [*ours, *peers]
    horizontal, vertical = [max(1.0, x) for x, _ in points], [max(1e-6, y) for _, y in points]
    x = _scale(min(horizontal), max(horizontal), MARGIN + 10, CURVES_WIDTH - 20)
    y = _scale(min(vertical), max(vertical), CURVES_HEIGHT - MARGIN + 10, 20)
    bottom = CURVES_HEIGHT - MARGIN + 20
    body = [_line(MARGIN, bottom, CURVES_WIDTH - 10, bottom, GREY), _line(MARGIN, 10, MARGIN, bottom, GREY)]
    body += [_text(x(at), bottom + 15, f"{at:,.0f}") for at in sorted(set(horizontal))]
    for power in _powers(min(vertical), max(vertical)):
        body += [
            _text(MARGIN - 5, y(power) + 4, f"{power:,g}", "end"),
            _line(MARGIN, y(power), CURVES_WIDTH - 10, y(power), "#eee"),
        ]
    body.append(_text(MARGIN + 6, 12, unit, "start"))
    for series, colour in ((peers, PEERS), (ours, OURS)):
        places = [(x(max(1.0, at)), y(max(1e-6, value))) for at, value in series]
        path = " ".join(f"{left:.1f},{top:.1f}" for left, top in places)
        body.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        body += [f'<circle cx="{left:.1f}" cy="{top:.1f}" r="3" fill="{colour}"/>' for left, top in places]
    return _svg(CURVES_WIDTH, CURVES_HEIGHT, body)


def _scale(least: float, most: float, start: float, end: float) -> Callable[[float], float]:
    """Return a function from a number to its position on a logarithmic axis."""
    low, high = math.log10(least), math.log10(most)
    span = (high - low) or 1.0
    return lambda value: start + (math.log10(value) - low) / span * (end - start)


def _powers(least: float, most: float) -> list[float]:
    return [10.0**power for power in range(math.ceil(math.log10(least)), math.floor(math.log10(most)) + 1)]


def _line(left: float, top: float, right: float, bottom: float, colour: str) -> str:
    return (
        f'<line x1="{left:.1f}" y1="{top:.1f}" x2="{right:.1f}" y2="{bottom:.1f}" stroke="{colour}" stroke-width="2"/>'
    )


def _text(left: float, top: float, text: str, anchor: str = "middle") -> str:
    return f'<text x="{left:.1f}" y="{top:.1f}" text-anchor="{anchor}">{escape(text)}</text>'


def _svg(width: float, height: float, body: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}"'
    style = 'font-family="sans-serif" font-size="12" style="background:#fff"'
    return "\n".join([f"{head} {style}>", *body, "</svg>", ""])
