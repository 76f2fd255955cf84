"""The progress bar during a run, and the table at its end."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from bench import words
from bench.compare import Change
from bench.runner import Job
from bench.summary import STORES, Results

# A pipe has no width; then the rows are as wide as they need to be.
console = Console(width=None if sys.stdout.isatty() else 150)


class Bar:
    """The progress bar of the jobs."""

    def __init__(self, progress: Progress, task: TaskID) -> None:
        self._progress = progress
        self._task = task

    def began(self, job: Job) -> None:
        """Show the job that runs now."""
        self._progress.update(self._task, description=f"{job.program.name}, {job.library}, {job.store.name}")

    def ended(self) -> None:
        """Count one more finished job."""
        self._progress.advance(self._task)


@contextmanager
def progress_bar(total: int) -> Iterator[Bar]:
    """Show a bar in the block; nothing if the output is not a terminal."""
    columns = (BarColumn(30), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        yield Bar(progress, progress.add_task("", total=total))


def show_results(results: Results) -> None:
    """Print the table and the failures."""
    for store in STORES:
        lines = [line for line in results.lines() if line.store == store]
        if not lines:
            continue
        table = Table("row", title=store, title_justify="left")
        for column in ("tidings", "dbos", "better", "target", "met", "of the limit"):
            table.add_column(column, justify="right")
        for line in lines:
            style = "red" if line.met is False else None
            ours, peers = (words.figure(spread, line.row.unit) for spread in (line.ours, line.peers))
            better, target, met = words.times(line.times), words.target(line), words.verdict(line)
            table.add_row(line.row.title, ours, peers, better, target, met, words.share(line.share), style=style)
        console.print(table)
    for failed in results.failures:
        console.print(f"failed: {failed.program}, {failed.library}, {failed.store}: {failed.error}", markup=False)


def show_changes(changes: Sequence[Change]) -> None:
    """Print the table of a comparison."""
    table = Table("row", "store")
    for column in ("before", "now", "change", ""):
        table.add_column(column, justify="right")
    for change in changes:
        before, now = (words.figure(spread, change.row.unit) for spread in (change.before, change.now))
        verdict = "better" if change.better else "worse" if change.worse else ""
        table.add_row(
            change.row.title,
            change.store,
            before,
            now,
            f"{change.times:.2f} ×",
            verdict,
            style="red" if change.worse else None,
        )
    console.print(table)
