"""Measures tidings, the peer and bare drivers, or compares two results.

python -m bench [--quick] [--cases GLOB ...] [--store sqlite] ...
python -m bench --compare BEFORE.jsonl NOW.jsonl
"""

from __future__ import annotations

import argparse
import fnmatch
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench.catalogue import PROGRAMS, Program
from bench.compare import compare
from bench.machine import describe_machine
from bench.records import BARE, OURS, PEER, Record, Run, read_records, write_records
from bench.report import write_report
from bench.runner import PEER_PYTHON, Job, run, size_of
from bench.stores import PostgresStore, SQLiteStore, Store
from bench.summary import Results
from bench.terminal import console, progress_bar, show_changes, show_results
from harness.temporary import temporary_directory_of_its_own


class Options(argparse.Namespace):
    """The command line's options."""

    quick: bool
    store: str | None
    postgres: str | None
    cases: list[str]
    repetitions: int | None
    payload: int
    seconds: float | None
    alone: bool
    output: Path | None
    name: str
    compare: list[Path] | None


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="only the rows that have targets, smaller, once")
    parser.add_argument("--store", choices=("sqlite", "postgresql"), help="only this store")
    parser.add_argument("--postgres", metavar="URL", help="a server to create databases on, instead of a temporary one")
    parser.add_argument("--cases", nargs="+", default=["*"], metavar="GLOB", help="programs, as in bench/catalogue.py")
    parser.add_argument("--repetitions", type=_positive, help="3; with --quick 1")
    parser.add_argument("--payload", type=_positive, default=16, help="length of each value, in characters; 16")
    parser.add_argument("--seconds", type=float, help="how long each program measures, instead of its own time")
    parser.add_argument("--alone", action="store_true", help="without the peer")
    parser.add_argument("--output", type=Path, metavar="DIRECTORY", help="where the report and the records go")
    parser.add_argument("--name", default="latest", help="the name of the report and the records; 'latest'")
    parser.add_argument("--compare", nargs=2, type=Path, metavar="FILE", help="compare two results; measure nothing")
    return parser.parse_args(arguments, Options())


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return number


def jobs(options: Options, stores: Sequence[Store]) -> Iterator[Job]:
    """Yield all runs in order: one repetition after the other, and in each the libraries in turn."""
    for repetition in range(options.repetitions or (1 if options.quick else 3)):
        for program in selected(options):
            if repetition < program.repetitions:
                for store in stores:
                    for library in libraries(options, program):
                        size = size_of(program, library, options.quick, options.payload, options.seconds)
                        if size is not None:
                            yield Job(program, library, store, size, repetition)


def selected(options: Options) -> list[Program]:
    """Return the programs that the options select."""
    return [one for one in PROGRAMS if any(fnmatch.fnmatch(one.name, f"*{glob}") for glob in options.cases)]


def libraries(options: Options, program: Program) -> tuple[str, ...]:
    """Return the libraries that run this program."""
    return (BARE,) if program.bare else (OURS,) if options.alone or program.peerless else (OURS, PEER)


def measure(options: Options) -> Results:
    """Run all selected programs; show and write the results."""
    with ExitStack() as resources:
        # Killed programs leave their lock files there.
        resources.enter_context(temporary_directory_of_its_own())
        stores: list[Store] = []
        if options.store != "sqlite":
            stores.append(resources.enter_context(PostgresStore(options.postgres)))
        if options.store != "postgresql":
            stores.append(SQLiteStore())
        records: list[Record] = [_about_the_run(options, stores)]
        plan = list(jobs(options, stores))
        with progress_bar(len(plan)) as bar:
            for job in plan:
                bar.began(job)
                records += run(job)
                bar.ended()
    results = Results(records)
    show_results(results)
    if options.output is not None:
        write_records(options.output / f"{options.name}.jsonl", records)
        write_report(results, options.output, options.name)
        console.print(f"The report is {options.output / options.name}.md.", markup=False)
    return results


def _about_the_run(options: Options, stores: Sequence[Store]) -> Run:
    machine = describe_machine() | {store.name: store.version for store in stores if store.version}
    machine |= {OURS: version(OURS)} | ({} if options.alone else {PEER: _peer_version()})
    repetitions = options.repetitions or (1 if options.quick else 3)
    form = "quick" if options.quick else "whole"
    return Run(f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", form, repetitions, options.payload, machine)


def _peer_version() -> str:
    """Return the peer's version in its environment."""
    found = next(PEER_PYTHON.parents[1].glob(f"lib/python*/site-packages/{PEER}-*.dist-info"), None)
    if found is None:
        sys.exit("The peer is not installed: `make bench` installs it, and --alone measures without it.")
    return found.name.removeprefix(f"{PEER}-").removesuffix(".dist-info")


def main() -> None:
    """Run as the command line says. It fails if a program of tidings fails, but not for noise or missed targets."""
    options = parse(sys.argv[1:])
    if options.compare:
        before, now = (Results(read_records(path)) for path in options.compare)
        show_changes(compare(before, now))
        return
    if any(failed.library != PEER for failed in measure(options).failures):
        sys.exit(1)


if __name__ == "__main__":
    main()
