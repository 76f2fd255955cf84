"""Many processes that do the same at the same moment.

    python -m tests.support.crowd WHAT COUNT URL

They are forked from a process that has imported everything, because only their number matters, not how each starts. The
program exits with 0 if all of them do. They share its error output.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from collections.abc import Callable
from threading import Barrier

from tests.support import programs
from tidings import DBOS, store

Together = Callable[[], object]


def start_crowd(what: str, count: int, url: str) -> programs.Program:
    """Start `count` processes that do `what`, a key of `WHATS`, with this database."""
    command = programs.python("-m", "tests.support.crowd", what, str(count), url)
    return programs.start(*command, stderr=subprocess.PIPE)


def await_crowd(crowd: programs.Program) -> None:
    """Wait until all have ended, and check that none has failed."""
    _, errors = crowd.communicate()
    assert crowd.returncode == 0, errors
    assert "Traceback" not in errors, errors


def migrate(url: str, together: Together) -> None:
    """Migrate the database, and use it."""
    opened = store.open(url)
    together()
    opened.migrate()
    opened.connect()
    opened.close()


def launch(url: str, together: Together) -> None:
    """Launch, and end when all have launched."""
    DBOS(config={"name": "crowd", "system_database_url": url, "application_version": "1"})
    together()
    with DBOS.launch():
        together()


WHATS: dict[str, Callable[[str, Together], None]] = {"migrate": migrate, "launch": launch}


def _do(what: str, url: str, barrier: Barrier) -> None:
    try:
        WHATS[what](url, barrier.wait)
    except BaseException:
        barrier.abort()  # Otherwise the others would wait for this process.
        raise


def main(what: str, count: int, url: str) -> int:
    """Run `count` processes, and return how many failed."""
    forking = multiprocessing.get_context("fork")
    barrier = forking.Barrier(count)
    crowd = [forking.Process(target=_do, args=(what, url, barrier)) for _ in range(count)]
    for each in crowd:
        each.start()
    for each in crowd:
        each.join()
    return sum(each.exitcode != 0 for each in crowd)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), sys.argv[3]))
