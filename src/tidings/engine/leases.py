"""Who is alive: this process's row among the executors, and how the death of another is seen.

Each incarnation of a process is an executor of its own, with a lease that every batch renews. On
one machine death is seen at once, by a lock on a file that the system frees when the process dies,
however it dies: free means dead; locked, or no file (another machine), means that only silence tells.
Never by process id, which is used again.

Silence is measured by who watches, on a clock of its own: a row that stood still for a whole lease,
while we looked at it again and again. So nothing depends on the hosts' clocks agreeing, and whoever
comes back first after an outage of the database, in which nobody could renew anything, takes over
from nobody before the others have had a lease's time to come back too.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import logging
import os
import socket
import sys
import tempfile
import time
import uuid
from collections.abc import Iterable, Sequence
from pathlib import Path

from msgspec.structs import replace

from tidings.engine.clock import Clock
from tidings.model import Executor
from tidings.store.held import NO_FORK, hold
from tidings.store.protocol import KEEP_EXECUTORS_MS, Store

if sys.platform != "win32":
    import fcntl


logger = logging.getLogger("tidings")

_MOST_SWEPT = 1_000  # files at each launch: it must not take long


class Lease:
    """This process's executors' row and lock file."""

    def __init__(self, lease_ms: int, clock: Clock) -> None:
        self._lease_ms = lease_ms
        self._clock = clock
        self._file: int | None = None
        hold(self, lambda lease: lease._file)

    def enlist(self, store: Store, label: str, app_version: str | None = None, program: str | None = None) -> Executor:
        """Become a new executor: lock its file first, so that no one sees it without.

        Args:
            store: where.
            label: how people call this process.
            app_version: of the code that it executes workflows with; `None` if it executes none.
            program: whose workflows those are.
        """
        self.release()
        executor_id = self._lock_own_file()
        now = self._clock.now_ms()
        executor = Executor(
            executor_id,
            label,
            now + self._lease_ms,
            0,
            self._lease_ms,
            socket.gethostname(),
            os.getpid(),
            now,
            app_version,
            program,
        )
        try:
            return replace(executor, fence=store.enlist(executor))
        except BaseException:
            self.release()
            forget(executor_id)
            raise

    def _lock_own_file(self) -> str:
        """Return the id of a new executor, whose file is locked; or there is none, and its death is noticed later."""
        executor_id = uuid.uuid4().hex
        try:
            with NO_FORK:
                self._file = _lock(_path(executor_id), create=True)
        except OSError as error:
            _say_no_file_once(error.strerror or str(error))
            # Another id: a file that was made and could not be locked tells others that its executor is dead.
            forget(executor_id)
            return uuid.uuid4().hex
        return executor_id

    def describe_anew(
        self, store: Store, executor: Executor, label: str, app_version: str | None, program: str | None
    ) -> Executor:
        """Let an executor's row say that, from now on; it stays the same executor."""
        until = self._clock.now_ms() + self._lease_ms
        executor = replace(executor, label=label, app_version=app_version, program=program, lease_until_ms=until)
        store.enlist(executor)
        return executor

    def retire(self, store: Store, executor: Executor, wakes: Sequence[str] = ()) -> None:
        """Give everything back: the row, its workflows, the file. Other processes hear `wakes`."""
        found = store.refence(executor.executor_id)
        if found is not None:  # Its fence may have moved unnoticed; what it still owns is given back all the same.
            store.retire(executor.executor_id, found.fence, wakes)
        self.release()
        forget(executor.executor_id)

    def release(self) -> None:
        """Unlock the file: whatever the row still says, this executor is dead."""
        file, self._file = self._file, None
        if file is not None:
            _unlock(file)


class Watch:
    """What this process has seen of the others, from look to look."""

    def __init__(self, lease_ms: int) -> None:
        """Take this process's own lease: half of it without a look, and nothing seen before counts."""
        self._longest_pause_ms = lease_ms // 2
        self._looked_at_ms: int | None = None
        self._still_since: dict[str, tuple[int, int]] = {}  # the lease in the row, and since when it says so

    def find_dead(self, executors: Iterable[Executor], now_ms: int) -> list[Executor]:
        """Look at all executors, and return those whose process is gone, or so slow that others may go on."""
        last, self._looked_at_ms = self._looked_at_ms, now_ms
        was_disturbed = last is None or not last <= now_ms <= last + self._longest_pause_ms
        before, self._still_since = self._still_since, {}
        dead = []
        for each in executors:
            lease_until_ms, since_ms = before.get(each.executor_id, (None, now_ms))
            if was_disturbed or lease_until_ms != each.lease_until_ms:
                since_ms = now_ms
            self._still_since[each.executor_id] = each.lease_until_ms, since_ms
            if now_ms - since_ms >= each.lease_ms or has_died_here(each):
                dead.append(each)
        return dead


@functools.cache
def _say_no_file_once(reason: str) -> None:
    logger.warning(
        "there is no lock file for this process in the directory for temporary files (%s): if it dies, other processes "
        "of this machine notice that after its lease, and not at once; let TMPDIR name one that can be written to",
        reason,
    )


def has_died_here(executor: Executor) -> bool:
    """Tell whether that executor was a process of this host, and is gone."""
    try:
        return _is_free(_path(executor.executor_id))
    except OSError:  # There is no directory for temporary files.
        return False


def _is_free(path: Path) -> bool:
    """Tell whether there is a lock file that nobody holds."""
    with NO_FORK:  # A child's copy would look like a process that lives.
        try:
            file = _lock(path, create=False)
        except OSError:  # Held, or not there, or another user's; or no file can be opened: only the lease tells.
            return False
        if file is None:
            return False
        _unlock(file)
    return True


def forget(executor_id: str) -> None:
    """Remove the file of an executor that is gone."""
    with contextlib.suppress(OSError):
        _path(executor_id).unlink()


def sweep() -> None:
    """Remove the files of processes that ended long ago. None that somebody holds, however old."""
    long_ago = time.time() - KEEP_EXECUTORS_MS / 1_000
    with contextlib.suppress(OSError), os.scandir(tempfile.gettempdir()) as files:
        ours = (each for each in files if each.name.startswith("tidings-") and each.name.endswith(".lock"))
        for file in itertools.islice(ours, _MOST_SWEPT):
            with contextlib.suppress(OSError):
                if file.stat().st_mtime < long_ago and _is_free(Path(file.path)):
                    os.unlink(file.path)


def _path(executor_id: str) -> Path:
    return Path(tempfile.gettempdir()) / f"tidings-{executor_id}.lock"


def _lock(path: Path, *, create: bool) -> int | None:
    """Lock the file without waiting; the lock lives as long as the descriptor, and its copies in forked children."""
    if sys.platform == "win32":
        return None  # Only the lease tells.
    file = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o666)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(file)
        raise
    return file


def _unlock(file: int) -> None:
    if sys.platform != "win32":
        fcntl.flock(file, fcntl.LOCK_UN)  # A child that was forked just now may have a copy still.
    os.close(file)
