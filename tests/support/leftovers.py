"""Finds what a test has left behind: threads, processes, files, event loops, open engines, changed globals.

Whatever a test leaves behind may disturb another test later. So each test is checked at its end, and fails if it left
something.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping
from itertools import compress
from operator import ne
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import patch
from weakref import WeakSet

from tests.support import programs
from tidings import DBOS
from tidings.engine import clients, lock_files, sharing
from tidings.engine.process import Process

MEMORY = Path("/dev/shm")  # A file system in memory, on machines that have one.
# An environment variable with a mark for the names of files in memory. It separates them from those of another run.
MEMORY_MARK = "TIDINGS_TESTS"
MEMORY_PREFIX = f"tidings-{os.environ.get(MEMORY_MARK, 'tests')}-{os.getpid()}-"
PROCESSES = Path("/proc")
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)  # Their handlers are checked.

# The event loops that were created in this process; see `watched_loops`.
_loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
# Processes and files that stay until the end of the run: the server of all tests, and its files.
_lasting: set[object] = set()
# What a test may change: the configuration of `DBOS`, which the next test sets again.
_MAY_CHANGE = {(Process, "settings"), (Process, "has_run")}

# The names of modules and classes, with their values.
Names = dict[ModuleType | type, dict[str, Any]]


class Leftovers:
    """Finds what was created since this object was made."""

    def __init__(self) -> None:
        self._threads = set(threading.enumerate())
        self._known = _processes()
        self._guard = programs.guard()
        self._files = _files()
        self._loops = {id(loop) for loop in _loops}
        self._signals = [signal.getsignal(number) for number in _SIGNALS]
        self._environment = dict(os.environ)
        self._directory = os.getcwd()
        self._handlers = list(logging.getLogger("tidings").handlers)
        self._globals = _GLOBALS.now()

    def find(self) -> list[str]:
        """Describe what is left."""
        return [*self._running(), *self._lying_about(), *self._changed()]

    def await_none(self, patience_seconds: float) -> list[str]:
        """Wait until nothing is left; at the end of the patience, describe what is.

        Some things need a moment to disappear: a thread that has done its work, a file that is being removed.
        """
        deadline = time.monotonic() + patience_seconds
        pause = threading.Event()
        while (left := self.find()) and time.monotonic() < deadline:
            pause.wait(0.002)
        return left

    def remove(self) -> None:
        """Remove what can be removed, so that only the test that left it fails."""
        DBOS.destroy()
        for each in list(clients._open):
            each.close()
        for pid in self._new_processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)

    def _running(self) -> Iterator[str]:
        for thread in threading.enumerate():
            if thread not in self._threads and not isinstance(thread, threading._DummyThread):
                yield f"the thread {thread.name}{_place(thread)}"
        for pid in self._new_processes():
            yield f"the process {pid}: {command(pid)}"
        for loop in list(_loops):
            if id(loop) not in self._loops and not loop.is_closed():
                yield f"an open event loop: {loop}"
        if Process.host is not None:
            yield "a launched DBOS"
        if sharing._users:
            yield f"{len(sharing._users)} open engines"
        if clients._open:
            yield f"{len(clients._open)} open clients"

    def _lying_about(self) -> Iterator[str]:
        for path in sorted(_files() - self._files - _lasting):
            if not _remove_if_of_a_dead_process(path):
                yield f"the file {path}"

    def _changed(self) -> Iterator[str]:
        for number, handler in zip(_SIGNALS, self._signals, strict=True):
            if signal.getsignal(number) != handler:
                yield f"another handler of {number.name}: {signal.getsignal(number)}"
        environment = dict(os.environ)
        for name in self._environment.keys() | environment.keys():
            if self._environment.get(name) != environment.get(name) and name != "PYTEST_CURRENT_TEST":
                yield f"another value of the environment's {name}"
        if os.getcwd() != self._directory:
            yield f"another working directory: {os.getcwd()}"
        if logging.getLogger("tidings").handlers != self._handlers:
            yield "another handler of the log"
        for owner, names in _GLOBALS.now().items():
            former = self._globals.get(owner, names)
            if names is former or names == former:
                continue
            for name in sorted(names.keys() | former.keys()):
                # A package gets an attribute for each of its modules at the first import.
                is_same = names.get(name) is former.get(name) or (
                    name not in former and isinstance(names[name], ModuleType)
                )
                if not is_same and not name.startswith("__") and (owner, name) not in _MAY_CHANGE:
                    yield f"something else in the place of {owner.__name__}.{name}"

    def _new_processes(self) -> list[int]:
        """Return the new children, and the processes left in the group of our programs."""
        guard, new = programs.guard(), []
        for pid in _processes() - self._known - _lasting:
            parent, group = _parent_and_group(pid)
            is_stray = group is not None and group == guard and parent != guard
            if pid != guard and (parent == os.getpid() or is_stray):
                new.append(pid)
        return new


@contextlib.contextmanager
def lasting() -> Iterator[None]:
    """Exempt the processes and files that are created in this block from the check after each test."""
    children, files = _processes(), _files()
    yield
    _lasting.update(pid for pid in _processes() - children if _parent_and_group(pid)[0] == os.getpid())
    _lasting.update(_files() - files)


@contextlib.contextmanager
def watched_loops() -> Iterator[None]:
    """Track all event loops that are created in this block, except those of simulated threads."""
    make = asyncio.BaseEventLoop.__init__

    def make_known(loop: asyncio.BaseEventLoop) -> None:
        make(loop)
        if not type(loop).__module__.startswith("tests.simulation"):
            _loops.add(loop)

    with patch.object(asyncio.BaseEventLoop, "__init__", make_known):
        yield


def _files() -> set[Path]:
    """Return the contents of the temporary directories, without pytest's own, which it keeps for a while."""
    own = (path for path in Path(tempfile.gettempdir()).iterdir() if not path.name.startswith("pytest-of-"))
    in_memory = MEMORY.glob(f"{MEMORY_PREFIX}*") if MEMORY.is_dir() else ()
    return {*own, *in_memory}


def _remove_if_of_a_dead_process(path: Path) -> bool:
    """Remove the lock file of a killed process. That file stays on purpose: it shows other processes the death."""
    if path.match("tidings-*.lock") and lock_files._is_free(path):
        path.unlink()
        return True
    return False


def _processes() -> set[int]:
    """Return the ids of all processes of this machine, if the system lists them."""
    return {int(name) for name in os.listdir(PROCESSES) if name.isdecimal()} if PROCESSES.is_dir() else set()


def _parent_and_group(pid: int) -> tuple[int | None, int | None]:
    try:
        _, _, rest = (PROCESSES / str(pid) / "stat").read_text().rpartition(")")
    except OSError:
        return None, None  # The process has ended.
    _, parent, group, *_ = rest.split()
    return int(parent), int(group)


def command(pid: int) -> str:
    """Return the command of a process, or that it has ended."""
    try:
        found = (PROCESSES / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:
        found = ""
    return found[:200] or "it has ended, and nobody has asked how"


def _place(thread: threading.Thread) -> str:
    """Return the stack of a thread as text, the innermost frame last."""
    frame = sys._current_frames().get(thread.ident or 0)
    calls = traceback.extract_stack(frame)[-4:] if frame is not None else []
    return "".join(f"\n        {each.filename}:{each.lineno} {each.name}" for each in calls)


def _is_class_of(value: object, module: str) -> bool:
    return isinstance(value, type) and value.__module__ == module


class _Globals:
    """The names of all modules of ours, and of the classes that are defined there.

    There are ten thousand of them, checked before and after each test. So a dictionary is copied only if it has changed
    since the last check: comparing two dictionaries that hold the same objects runs no Python code.
    """

    def __init__(self) -> None:
        self._modules: dict[str, ModuleType] = {}
        self._names: Names = {}
        self._views: list[Mapping[str, Any]] = []

    def now(self) -> Names:
        """Return the current names. The result never changes: a later call returns another object if there are
        changes."""
        if sys.modules != self._modules:
            self._modules = dict(sys.modules)
            self._set(self._all())
        changed = list(compress(self._names, map(ne, self._views, self._names.values())))
        if any(isinstance(owner, ModuleType) for owner in changed):
            self._set(self._all())  # A new name may be a class.
        elif changed:
            self._set(self._names | {owner: dict(vars(owner)) for owner in changed})
        return self._names

    def _set(self, names: Names) -> None:
        self._names = names
        self._views = [vars(owner) for owner in names]

    def _all(self) -> Names:
        found: Names = {}
        for name, module in self._modules.items():
            if name.partition(".")[0] == "tidings":
                found[module] = names = dict(vars(module))
                found.update({each: dict(vars(each)) for each in names.values() if _is_class_of(each, name)})
        return found


_GLOBALS = _Globals()
