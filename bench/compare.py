"""Compares two results: what became better, and what became worse.

If both contain the peer, the advantages over it are compared, because the machine may have been busier the second time.
Otherwise the figures themselves are compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.catalogue import ROWS, Row
from bench.records import OURS
from bench.summary import STORES, Results, Spread

# A smaller change is noise, whatever the spreads say.
NOISE = 0.15


@dataclass(frozen=True, slots=True)
class Change:
    """The change of one row on one store.

    Attributes:
        times: how many times better it is now, noise included.
        better, worse: whether the change is more than noise: the spreads do not overlap. One repetition has no spread,
            so it shows neither.
    """

    row: Row
    store: str
    before: Spread
    now: Spread
    times: float
    better: bool
    worse: bool


def compare(before: Results, now: Results) -> list[Change]:
    """Compare all rows that are in both."""
    changes = (_change(before, now, row, store) for store in STORES for row in ROWS)
    return [change for change in changes if change is not None]


def _change(before: Results, now: Results, row: Row, store: str) -> Change | None:
    was, is_now = (results.line(row, store) for results in (before, now))
    if was.ours is None or is_now.ours is None:
        return None
    old, new = was.times, is_now.times
    if old is None or new is None:
        old, new = was.ours, is_now.ours
        if not row.unit.more_is_better:
            old, new = _inverted(old), _inverted(new)
    times = new.median / old.median
    told = all(len(results.figures(row, store, OURS)) > 1 for results in (before, now))
    better = told and times > 1 + NOISE and new.least > old.most
    worse = told and times < 1 / (1 + NOISE) and new.most < old.least
    return Change(row, store, was.ours, is_now.ours, times, better, worse)


def _inverted(spread: Spread) -> Spread:
    """Return the spread of the inverse figures."""
    return Spread(1 / max(spread.median, 1e-9), 1 / max(spread.most, 1e-9), 1 / max(spread.least, 1e-9))
