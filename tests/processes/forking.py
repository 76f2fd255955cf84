"""A process that launches, makes a child in one of several ways, and stands still in the middle of a commit.

    python -m tests.processes.forking URL HOW

It says the child's process id.
"""

from __future__ import annotations

import multiprocessing
import os
import pty
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from contextlib import nullcontext
from typing import Any

from tests.processes.neighbour import engine
from tests.processes.telling import say
from tidings import DBOS

_kept: list[Any] = []
# A child says here that it runs code of its own: what is done in it before that is done then.
_ready, _say_ready = os.pipe()


def hang() -> None:
    """Do nothing until killed. The child's part."""
    os.write(_say_ready, b".")
    while True:
        signal.pause()


def _is_ready(pid: int) -> int:
    os.read(_ready, 1)
    return pid


def _by_fork() -> int:
    pid = os.fork()
    if not pid:
        hang()
    return _is_ready(pid)


def _by_fork_in_a_thread() -> int:
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(_by_fork()))
    thread.start()
    thread.join()
    return found[0]


def _by_pty() -> int:
    pid, _ = pty.fork()
    if not pid:
        hang()
    return _is_ready(pid)


def _by_multiprocessing(method: str) -> int:
    process = multiprocessing.get_context(method).Process(target=hang)  # type: ignore[attr-defined]
    process.start()
    _kept.append(process)
    return _is_ready(int(process.pid)) if method == "fork" else int(process.pid)


def _by_pool() -> int:
    pool = ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork"))
    _kept.append(pool)
    return pool.submit(os.getpid).result()


def _by_subprocess(**settings: Any) -> int:
    # What is under test; the test that started this process ends the child.
    process = subprocess.Popen(["sleep", "1000"], close_fds=False, **settings)  # noqa: TID251
    _kept.append(process)
    return process.pid


WAYS: dict[str, Callable[[], int]] = {
    "fork": _by_fork,
    "fork in a thread": _by_fork_in_a_thread,
    "pty": _by_pty,
    "multiprocessing": lambda: _by_multiprocessing("fork"),
    "forkserver": lambda: _by_multiprocessing("forkserver"),
    "pool": _by_pool,
    "subprocess": _by_subprocess,
    "subprocess with Python in between": lambda: _by_subprocess(preexec_fn=os.getpid),
}


def main(url: str, how: str) -> None:
    """Launch, make the child in the middle of a change, and stand still."""
    DBOS(config={"name": "forking", "system_database_url": url, "application_version": "1"})
    DBOS.launch()
    inside = threading.Event()

    def change(store: Any) -> None:
        with store._writing() if url.startswith("sqlite") else nullcontext():
            inside.set()
            threading.Event().wait()

    _ = engine().committer.call(change)
    inside.wait()
    say("child", WAYS[how]())
    hang()


if __name__ == "__main__":
    main(*sys.argv[1:])
