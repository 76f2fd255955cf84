"""Injects faults into real processes for a while, on one store or both, and checks that nothing was lost.

python -m chaos --minutes 20 --seed 7 [--store sqlite] [--postgres URL]
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from chaos.conductor import Plan, conduct
from chaos.databases import POSTGRESQL, SQLITE, Database, postgres_database, sqlite_file
from chaos.terminal import console, progress_line, show
from harness.temporary import temporary_directory_of_its_own


class Options(argparse.Namespace):
    """The command line's options."""

    minutes: float
    seed: int | None
    store: str
    postgres: str | None
    lease: float
    output: Path | None


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="chaos", description=__doc__.partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=20, help="how long to inject faults, on each store; 20")
    parser.add_argument("--seed", type=int, help="determines all faults, their times and lengths; a random one")
    parser.add_argument("--store", choices=(SQLITE, POSTGRESQL, "both"), default="both")
    parser.add_argument(
        "--postgres", metavar="URL", help="a server to create a database on, instead of one that can be restarted"
    )
    parser.add_argument("--lease", type=float, default=3, help="lease of the workers, in seconds; 3")
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="where histories go; a new temporary one")
    return parser.parse_args(arguments, Options())


@contextmanager
def open_database(store: str, options: Options, directory: Path) -> Iterator[Database]:
    """Yield an empty database of this kind."""
    if store == SQLITE:
        with sqlite_file(directory) as file:
            yield file
    else:
        with postgres_database(options.postgres) as database:
            yield database


def run(store: str, options: Options, seed: int, output: Path) -> bool:
    """Run on one store. Returns whether all promises were kept."""
    directory = output / store
    directory.mkdir(parents=True, exist_ok=True)
    plan = Plan(options.minutes * 60, seed, directory, round(options.lease * 1_000))
    with open_database(store, options, directory) as database, progress_line(store, plan.seconds) as progress:
        report = asyncio.run(conduct(plan, database, progress))
    show(store, report, directory)
    return not report.violations


def main() -> None:
    """Run as the command line says; the exit code is 1 if a promise was broken."""
    logging.basicConfig(level=logging.ERROR)
    options = parse(sys.argv[1:])
    seed = random.randrange(1_000_000) if options.seed is None else options.seed
    output = options.output or Path(tempfile.mkdtemp(prefix="tidings-chaos-"))
    console.print(f"Seed {seed}, {options.minutes:g} minutes each.", markup=False)
    stores = (SQLITE, POSTGRESQL) if options.store == "both" else (options.store,)
    with temporary_directory_of_its_own():  # For the lock files of killed processes; the histories are kept.
        kept = [run(store, options, seed, output) for store in stores]
    if not all(kept):
        sys.exit(1)


if __name__ == "__main__":
    main()
