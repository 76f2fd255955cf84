"""The progress line during a run, and the table at its end."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from chaos.conductor import Report

# If the same promise is broken many times, only this many violations are printed.
SHOWN = 20

console = Console(width=None if sys.stdout.isatty() else 150)


@contextmanager
def progress_line(title: str, seconds: float) -> Iterator[Callable[[float, str], None]]:
    """Show a progress line during the block; the yielded function updates it."""
    columns = (
        TextColumn("{task.fields[title]}"),
        BarColumn(30),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=seconds, title=title)
        yield lambda passed, what: progress.update(task, completed=passed, description=what)


def show(store: str, report: Report, directory: Path) -> None:
    """Print the counts and the violations."""
    table = Table("", title=store, title_justify="left")
    table.add_column("count", justify="right")
    for name, number in report.counts.items():
        table.add_row(name, f"{number:,}")
    table.add_row("violations", f"{len(report.violations)}", style="red" if report.violations else "green")
    console.print(table)
    for violation in report.violations[:SHOWN]:
        console.print(str(violation), markup=False, highlight=False)
    if len(report.violations) > SHOWN:
        console.print(f"... and {len(report.violations) - SHOWN} more", markup=False)
    console.print(f"Histories, logs, and all violations are in {directory}.", markup=False, soft_wrap=True)
