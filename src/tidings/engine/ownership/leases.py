"""Which executors live: this process's own row, and how it finds that another executor has died.

Each launch of a process is a new executor, with a lease that every batch renews.

On one machine a death is seen at once. Each executor locks a file, and the system frees the lock when the process dies,
however it dies. A file without a lock means that its executor is dead. If the file is locked or missing (another
machine), only the lease tells. Process ids tell nothing, because they are reused.

A lease counts as ended when the watching process has seen the same row for a whole lease. It measures this on its own
clock, and only while it looks regularly. So the clocks of the hosts need not agree. In an outage of the database no
process can renew its lease. The process that returns first still waits for a whole lease before it takes anything over,
so the others have that time to return too.
"""

from __future__ import annotations

import functools
import logging
import os
import socket
import uuid
from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from tidings.engine import lock_files
from tidings.engine.waiting.clock import Clock
from tidings.model import Code, Executor
from tidings.store.held import NO_FORK, hold
from tidings.store.protocol import Store

logger = logging.getLogger("tidings")


class Lease:
    """The row and the lock file of this process's executor."""

    def __init__(self, lease_ms: int, clock: Clock) -> None:
        self._lease_ms = lease_ms
        self._clock = clock
        self._file: int | None = None
        hold(self, lambda lease: lease._file)

    def enlist(self, store: Store, label: str, code: Code | None = None) -> Executor:
        """Become a new executor. Its file is locked before its row exists, so no process sees the row without the lock.

        Args:
            store: the store that gets the row.
            label: the name of this process, for people.
            code: the code that it executes workflows with; `None` if it executes none.
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
        ).with_code(code)
        try:
            return replace(executor, fence=store.enlist(executor))
        except BaseException:
            self.release()
            lock_files.forget(executor_id)
            raise

    def _lock_own_file(self) -> str:
        """Return the id of a new executor, and lock its file. If that fails, only its lease counts."""
        executor_id = uuid.uuid4().hex
        try:
            with NO_FORK:  # Until the lease has the file.
                self._file = lock_files.lock(executor_id)
        except OSError as error:
            _say_no_file_once(error.strerror or str(error))
            # Return another id: a file that exists and is not locked tells other processes that its executor is dead.
            lock_files.forget(executor_id)
            return uuid.uuid4().hex
        return executor_id

    def describe_anew(self, store: Store, executor: Executor, label: str, code: Code) -> Executor:
        """Change the label and the code in an executor's row. It stays the same executor."""
        until = self._clock.now_ms() + self._lease_ms
        executor = replace(executor, label=label, lease_until_ms=until).with_code(code)
        store.enlist(executor)
        return executor

    def retire(self, store: Store, executor: Executor, wakes: Sequence[str] = ()) -> None:
        """Give back the workflows of an executor, and remove its row and file. Other processes hear `wakes`."""
        found = store.refence(executor.executor_id)
        if found is not None:  # The present fence: it may have moved. What the executor still owns is given back.
            store.retire(executor.executor_id, found.fence, wakes)
        self.release()
        lock_files.forget(executor.executor_id)

    def release(self) -> None:
        """Unlock the file. To other processes this executor is then dead, even if its row has a lease."""
        file, self._file = self._file, None
        if file is not None:
            lock_files.unlock(file)


class LeaseObserver:
    """What this process has seen of the other executors, from one look to the next."""

    def __init__(self, lease_ms: int) -> None:
        """Prepare. After a pause of half of `lease_ms` between two looks, nothing seen before counts."""
        self._longest_pause_ms = lease_ms // 2
        self._looked_at_ms: int | None = None
        self._still_since: dict[str, tuple[int, int]] = {}  # The lease in each row, and when it was first seen.

    def find_dead(self, executors: Iterable[Executor], now_ms: int) -> list[Executor]:
        """Return the executors that are dead, or so slow that other processes may take over their workflows."""
        last, self._looked_at_ms = self._looked_at_ms, now_ms
        was_disturbed = last is None or not last <= now_ms <= last + self._longest_pause_ms
        before, self._still_since = self._still_since, {}
        dead = []
        for each in executors:
            lease_until_ms, since_ms = before.get(each.executor_id, (None, now_ms))
            if was_disturbed or lease_until_ms != each.lease_until_ms:
                since_ms = now_ms
            self._still_since[each.executor_id] = each.lease_until_ms, since_ms
            if now_ms - since_ms >= each.lease_ms or lock_files.has_died_here(each):
                dead.append(each)
        return dead


@functools.cache
def _say_no_file_once(reason: str) -> None:
    logger.warning(
        "this process has no lock file in the directory for temporary files (%s): if it dies, other processes on this "
        "machine notice only when its lease ends. Set TMPDIR to a writable directory",
        reason,
    )
