"""Prints the table: `python -m tests.mistakes`, or `make mistakes` (STORE=postgresql: on a server of its own)."""

import argparse
import asyncio
import contextlib
import logging
import sys
import tempfile
import warnings
from pathlib import Path

from harness.postgres import new_database, postgres_server
from tests.mistakes.ground import Ground, noting
from tests.mistakes.playing import play
from tests.support.app import App
from tests.support.face import Awaiting, Blocking


def main() -> None:
    """Make all mistakes, and print what is said of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.mistakes", description="Prints mistakes and their messages.")
    parser.add_argument("--store", choices=["sqlite", "postgresql"], default="sqlite")
    parser.add_argument("--face", choices=["blocking", "awaiting"], default="blocking")
    told = parser.parse_args()
    face = Blocking() if told.face == "blocking" else Awaiting()
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        url = f"sqlite:///{folder}/mistakes.sqlite"
        if told.store == "postgresql":
            url = stack.enter_context(new_database(stack.enter_context(postgres_server())))
        log = stack.enter_context(noting(logging.getLogger("tidings")))
        rows = asyncio.run(play(Ground(face, App(url), Path(folder), log)))
    print(f"{len(rows)} mistakes, and what is said of them ({told.store}, {told.face} calls)\n")
    print("\n\n".join(row.text for row in rows))
    lacking = [row for row in rows if row.lacks]
    for each in lacking:
        print(f"\nLACKS {each.lacks}: {each.mistake.what}", file=sys.stderr)
    sys.exit(bool(lacking))


main()
