"""The command: run the suite on each platform in turn, and record the results.

python -m tests.matrix
python -m tests.matrix --list
python -m tests.matrix --row python-3.14 --row postgresql-14 -- --numprocesses=2 -k send
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.matrix import table
from tests.matrix.rows import Row, rows
from tests.matrix.running import LOGS, Result, run_row


def main(arguments: list[str]) -> int:
    """Execute the command line. Return 1 if a row failed, or if a named row could not run."""
    given = _parser().parse_args(arguments)
    every = {row.name: row for row in rows()}
    if given.list:
        width = max(map(len, every))
        _say("\n".join(f"{row.name:{width}} {row.title}" for row in every.values()))
        return 0
    unknown = [name for name in given.row or () if name not in every]
    if unknown:
        _say(f"There is no row {', '.join(unknown)}. There are: {', '.join(every)}.")
        return 2
    failed = False
    for name in given.row or every:
        result = _run(every[name], given)
        failed = failed or bool(result.failed) or (given.row is not None and result.seconds is None)
        if given.output is not None:
            table.update(given.output, [result], list(every))  # after each row, because the whole takes hours
    return int(failed)


def _run(row: Row, given: argparse.Namespace) -> Result:
    _say(f"{row.name}: preparing it, then the suite; see {LOGS / row.name}.log")
    result = run_row(row, given.pytest, given.minutes * 60)
    _say(f"{row.name}: {result.versions}: {result.outcome}" + (f" in {result.seconds:.0f} s" if result.seconds else ""))
    for each in result.failed:
        _say(f"    {each}")
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.matrix", description="Run the suite on every platform.")
    parser.add_argument("--row", action="append", metavar="NAME", help="only this row (may be repeated)")
    parser.add_argument("--list", action="store_true", help="show the rows and run nothing")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the results into the table of this document")
    parser.add_argument("--minutes", type=float, default=90, help="how long the suite may take on one platform (90)")
    parser.add_argument("pytest", nargs="*", metavar="ARGUMENT", help="after `--`: arguments of pytest")
    return parser


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()
