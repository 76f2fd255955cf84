"""From measurements to what is shown: medians, advantages over the peer and their spread, shares of the limits."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from bench.catalogue import POSTGRESQL, ROWS, SQLITE, Row, Target, Unit
from bench.records import BARE, OURS, PEER, Failed, Measured, Record, Run

STORES = (POSTGRESQL, SQLITE)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some figures, the smallest and the largest."""

    median: float
    least: float
    most: float

    @classmethod
    def of(cls, figures: Sequence[float]) -> Spread | None:
        """Return the spread of these figures, or `None` if there are none."""
        return cls(statistics.median(figures), min(figures), max(figures)) if figures else None


@dataclass(frozen=True, slots=True)
class Line:
    """One row on one store.

    Attributes:
        ours, peers: the figures in the row's unit.
        times: how many times better ours is. The median is the ratio of the medians; the spread is that of the pairs
            measured one right after the other.
        met: whether the target was reached, or `None` if there is no target or no measurement for it.
        share: ours as a share of the bare drivers' figure; 1 is all of it.
    """

    row: Row
    store: str
    ours: Spread | None
    peers: Spread | None
    times: Spread | None
    met: bool | None
    share: float | None

    @property
    def target(self) -> Target | None:
        """The row's target on this store."""
        return self.row.target(self.store)


class Results:
    """All records of a run, grouped."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.run: Run | None = None
        self.failures: list[Failed] = []
        self._measured: defaultdict[tuple[str, str, str], list[Measured]] = defaultdict(list)
        for record in records:
            match record:
                case Run():
                    self.run = record
                case Failed():
                    self.failures.append(record)
                case Measured():
                    self._measured[record.window.row, record.store, record.library].append(record)

    def of(self, row: Row, store: str, library: str) -> list[Measured]:
        """Return the measurements of a row, in the order of the repetitions."""
        return self._measured.get((row.name, store, library), [])

    def figures(self, row: Row, store: str, library: str) -> list[float]:
        """Return the figures of a row."""
        return [row.unit.of(measured) for measured in self.of(row, store, library)]

    def series(self, row: Row, store: str, library: str) -> list[tuple[float, float]]:
        """Return the median at each number of the row's series."""
        return _series((one.window.at, row.unit.of(one)) for one in self.of(row, store, library))

    def delays(self, row: Row, store: str, library: str) -> list[tuple[float, float]]:
        """Return the median delay in ms at each number of the series, if delays were measured."""
        return _series((one.window.at, one.window.p50_ms) for one in self.of(row, store, library))

    def lines(self) -> list[Line]:
        """Return all rows that were measured, store by store."""
        pairs = ((row, store) for store in STORES for row in ROWS)
        return [self.line(row, store) for row, store in pairs if self.of(row, store, OURS) or self.of(row, store, PEER)]

    def line(self, row: Row, store: str) -> Line:
        """Return one row on one store."""
        ours, peers = self.figures(row, store, OURS), self.figures(row, store, PEER)
        times = _times(row.unit, ours, peers)
        met = _met(row.target(store), Spread.of(ours), times)
        return Line(row, store, Spread.of(ours), Spread.of(peers), times, met, self._share(row, store, ours))

    def median(self, measured: Sequence[Measured], name: str) -> float | None:
        """Return the median of another figure: a field of `Measured` or of its window."""
        figures = [getattr(one if hasattr(one, name) else one.window, name) for one in measured]
        return statistics.median(figures) if figures and None not in figures else None

    def _share(self, row: Row, store: str, ours: list[float]) -> float | None:
        if row.limit is None or not ours:
            return None
        name, at = row.limit
        bare = [one for one in self._measured.get((name, store, BARE), ()) if one.window.at == at]
        if not bare:
            return None
        limit = statistics.median(row.unit.of(one) for one in bare)
        ratio = statistics.median(ours) / limit
        return ratio if row.unit.more_is_better else 1 / ratio


def _series(points: Iterable[tuple[float | None, float | None]]) -> list[tuple[float, float]]:
    figures: defaultdict[float, list[float]] = defaultdict(list)
    for at, value in points:
        if value is not None:
            figures[at or 0].append(value)
    return sorted((at, statistics.median(some)) for at, some in figures.items())


def _times(unit: Unit, ours: list[float], peers: list[float]) -> Spread | None:
    def better(our: float, peer: float) -> float:
        # Memory that does not grow measurably counts as a tiny amount.
        our, peer = max(our, 1e-6), max(peer, 1e-6)
        return our / peer if unit.more_is_better else peer / our

    if not ours or not peers:
        return None
    pairs = [better(our, peer) for our, peer in zip(ours, peers, strict=False)]
    return Spread(better(statistics.median(ours), statistics.median(peers)), min(pairs), max(pairs))


def _met(target: Target | None, ours: Spread | None, times: Spread | None) -> bool | None:
    match target:
        case Target(times=float() | int() as least) if times:
            return times.median >= least
        case Target(at_most=float() | int() as most) if ours:
            return ours.median <= most
        case Target(at_least=float() | int() as least) if ours:
            return ours.median >= least
        case _:
            return None
