"""The table of results, as Markdown between two markers of a document."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from tests.matrix.running import Result

BEGIN: Final = "<!-- make matrix writes from here -->"
END: Final = "<!-- to here -->"

_HEAD: Final = ("| repeat it | what it is | where it comes from | result | time |", "|---|---|---|---|---|")


def lines_of(results: Iterable[Result]) -> dict[str, str]:
    """Return the line of each row's result, by the row's name."""
    return {result.row.name: _line(result) for result in results}


def update(document: Path, results: Iterable[Result], order: Sequence[str]) -> None:
    """Write the results into the document's table. Rows that did not run keep their lines.

    Raises:
        ValueError: The document has no place for the table.
    """
    text = document.read_text()
    before, begin, rest = text.partition(BEGIN)
    inside, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{document} has no lines '{BEGIN}' and '{END}'")
    lines = {_name(line): line for line in inside.splitlines() if line.startswith("| `make matrix ROW=")}
    lines |= lines_of(results)
    table = [*_HEAD, *(lines[name] for name in order if name in lines)]
    document.write_text("\n".join([before + begin, *table, end + after]))


def _line(result: Result) -> str:
    seconds = "" if result.seconds is None else f"{result.seconds:,.0f} s"
    cells = (f"`make matrix ROW={result.row.name}`", result.versions, result.source, _with_failures(result), seconds)
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


def _with_failures(result: Result) -> str:
    return "<br>".join([result.outcome, *(f"`{each}`" for each in result.failed)])


def _name(line: str) -> str:
    return line.partition("ROW=")[2].partition("`")[0]
