"""The report in Markdown, with its pictures in the same directory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import words
from bench.catalogue import GROWTH, LIMITS, Row
from bench.records import BARE, OURS, PEER
from bench.summary import STORES, Line, Results
from bench.svg import bars, curves

_ABOUT = """\
Both libraries ran the same programs with the same public calls, each in its own process on an empty database, in turns.
*better* is the ratio of the medians; in parentheses are the smallest and the largest ratio of two runs that followed
each other. *of the limit* compares tidings with bare drivers on the same machine in the same run (the last table).
Every figure is for durable work: fsync is on, and all settings are the defaults. **Only figures of one run can be
compared.** If the load of the machine was more than its cores, something else ran at the same time: then the ratios are
rough, and the figures themselves mean little.
"""


def write_report(results: Results, directory: Path, name: str) -> None:
    """Write `NAME.md` and its pictures."""
    directory.mkdir(parents=True, exist_ok=True)
    report = "\n".join(_parts(results, directory, name))
    (directory / f"{name}.md").write_text(report.rstrip() + "\n")


def _parts(results: Results, directory: Path, name: str) -> Iterator[str]:
    yield "# tidings beside dbos\n"
    yield from _about_the_run(results)
    yield _ABOUT
    for store in STORES:
        lines = [line for line in results.lines() if line.store == store]
        if lines:
            yield f"## {store}\n"
            yield from _main_table(lines)
            picture = f"{name}-{store.lower()}.svg"
            (directory / picture).write_text(bars(lines))
            yield f"\n![How many times better; the spread in black, the target in red]({picture})\n"
            yield from _details(results, lines)
    yield from _growth(results, directory, name)
    yield from _limits(results)
    yield from _failures(results)


def _about_the_run(results: Results) -> Iterator[str]:
    run = results.run
    if run is None:
        return
    yield f"{run.started}, {run.form} form, repetitions: {run.repetitions}, values of {run.payload} characters.\n"
    yield from _table(("the machine", ""), [(name, value) for name, value in run.machine.items() if value])
    yield ""


def _main_table(lines: Sequence[Line]) -> Iterator[str]:
    rows = []
    for line in lines:
        ours, peers = (words.figure(spread, line.row.unit) for spread in (line.ours, line.peers))
        met = "**no**" if line.met is False else words.verdict(line)
        rows.append(
            (line.row.title, ours, peers, words.times(line.times), words.target(line), met, words.share(line.share))
        )
    yield from _table(("", "tidings", "dbos", "better", "target", "met", "of the limit"), rows)


def _details(results: Results, lines: Sequence[Line]) -> Iterator[str]:
    """The cost and the delays of each operation."""
    yield "p50 and p99 in ms; processor time of the program and of the server, in µs for each operation; transactions"
    yield "that write, for each operation; load of the machine, the highest average of a minute before or after.\n"
    rows = []
    for line in lines:
        for library in (OURS, PEER):
            measured = results.of(line.row, line.store, library)
            if measured:
                names = ("operations", "p50_ms", "p99_ms", "cpu_us", "server_cpu_us", "transactions", "threads")
                figures = [words.number(results.median(measured, name)) for name in names]
                load = max(max(one.load_before, one.load_after) for one in measured)
                rows.append((line.row.title, library, *figures, f"{load:.1f}"))
    head = ("", "", "operations", "p50", "p99", "CPU", "server's CPU", "transactions", "threads", "load")
    yield from _table(head, rows)
    yield ""


def _growth(results: Results, directory: Path, name: str) -> Iterator[str]:
    for row in GROWTH:
        for store in STORES:
            ours, peers = (results.series(row, store, library) for library in (OURS, PEER))
            if not ours and not peers:
                continue
            picture = f"{name}-{row.name.replace('_', '-')}-{store.lower()}.svg"
            (directory / picture).write_text(curves(ours, peers, row.unit.value))
            yield f"### {row.title}, {store}\n"
            places = sorted({at for at, _ in [*ours, *peers]})
            rows = [
                (f"{library}, {row.unit.value}", *_at(places, some)) for library, some in ((OURS, ours), (PEER, peers))
            ]
            delays = [(library, results.delays(row, store, library)) for library in (OURS, PEER)]
            rows += [(f"{library}, p50 in ms", *_at(places, some)) for library, some in delays if some]
            yield from _table(("", *(f"{at:,.0f}" for at in places)), rows)
            yield f"\n![{row.title}: tidings blue, dbos orange; {row.unit.value}]({picture})\n"


def _at(places: Sequence[float], series: Sequence[tuple[float, float]]) -> Iterator[str]:
    values = dict(series)
    return (words.number(values.get(place)) for place in places)


def _limits(results: Results) -> Iterator[str]:
    rows = [row for limit in LIMITS for row in _limit(results, limit)]
    if rows:
        yield "## What the machine does with bare drivers\n"
        yield from _table(("", "", *STORES), rows)
        yield ""


def _limit(results: Results, limit: Row) -> Iterator[tuple[str, ...]]:
    series = [dict(results.series(limit, store, BARE)) for store in STORES]
    for at in sorted({at for one in series for at in one}):
        figures = [f"{words.number(one.get(at))} {limit.unit.value}" if at in one else words.NOTHING for one in series]
        yield limit.title, f"{at:,.0f}" if at else "", *figures


def _failures(results: Results) -> Iterator[str]:
    if results.failures:
        yield "## What failed\n"
        rows = [(one.program, one.library, one.store, str(one.repetition + 1), one.error) for one in results.failures]
        yield from _table(("program", "library", "store", "repetition", "error"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> Iterator[str]:
    yield _cells(head)
    yield _cells(["---", *["---:"] * (len(head) - 1)])
    yield from (_cells(row) for row in rows)


def _cells(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
