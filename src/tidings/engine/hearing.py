"""Wake-ups from other processes: one thread that listens, and what it does where nothing can be heard.

Hints again: what is heard only says who should look; what the look finds decides. Where hints may
have been missed (the listener was lost, names were pruned) everybody looks at once when it is back,
and because any hint may be lost everybody looks now and then anyway.

Nor is it taken on trust that there is something to hear: a pooler may swallow notifications, a
connection may be dead without a sign. So a *probe* goes through the committer now and then, and the
listener must hear it. Until it has, this process is *deaf*: who waits looks again and again, at a
short interval, and the log says so once, and once when it is over.

The thread waits for nothing but the listener: not for the committer, nor for the reader, which may
both be busy with an outage.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection
from typing import Final, Protocol

from msgspec import Struct

from tidings.engine.chain import Chain
from tidings.engine.committer import Committer, Job
from tidings.engine.probes import Point, Probes
from tidings.engine.settings import Connection
from tidings.engine.ticket import settle_all
from tidings.engine.waiters import ORPHANS, Waiters, cancelled_workflow
from tidings.model import Unit
from tidings.store.protocol import PROBE, WAKE_ALL, Listener, Store, Unavailable

logger = logging.getLogger("tidings")

# How long a lost listener is left alone before each try to listen anew.
_PAUSE_SECONDS: Final = 0.1
# The same for one that listens and hears nothing: at first, and at most.
_DEAF_PAUSE_SECONDS: Final = 1.0
_LONGEST_DEAF_PAUSE_SECONDS: Final = 60.0

# A process that was awaited a moment ago is still taken for awaited: waits come in rows.
_LINGER_SECONDS: Final = 1.0

# A look costs the database up to half a millisecond. So while we poll, many waiters look less often.
_POLL_SECONDS_PER_KEY: Final = 0.0005

_STOP_SECONDS: Final = 2.0


class Runs(Protocol):
    """What is executed in this process."""

    def are_there(self) -> bool:
        """Tell whether any run is."""

    def stop_cancelled(self, among: Collection[str] | None = None) -> None:
        """Look which of these workflows (or of all) were cancelled, and stop their runs. Waits for nothing."""

    def look_for_orphans(self) -> None:
        """Others may have left workflows that nobody owns. Waits for nothing."""

    def tend_outages(self) -> None:
        """Say of a database that does not answer how long it has not, and let nobody wait for it who is dead."""


class _Sent(Struct):
    """A probe on its way. `was_durable` once it was found so: from then on it may take a while, and no longer."""

    name: str
    job: Job
    was_durable: bool = False


class Hearing:
    """The listener of this process."""

    def __init__(
        self, store: Store, waiters: Waiters, committer: Committer, runs: Runs, probes: Probes, settings: Connection
    ) -> None:
        self._store = store
        self._waiters = waiters
        self._committer = committer
        self._runs = runs
        self._probes = probes
        self._listens = settings.use_listen_notify
        self._poll_seconds = settings.polling_interval_seconds
        self._recheck_seconds = settings.recheck_seconds
        self._probe_seconds = settings.lease_ms / 3_000
        self._patience_seconds = settings.probe_patience_seconds

        self._lock = threading.Lock()  # around `_listener`, for those who interrupt it
        self._listener: Listener | None = None
        self._interrupted = threading.Event()  # in its place while there is none
        self._stopped = False
        self._stood_still = False
        self._is_idle = False
        self._executor_id = ""
        self._listening_as = ""
        self._thread = threading.Thread(target=self._run, name="tidings-listener", daemon=True)

        # Of the thread alone. All times are of the monotonic clock.
        self.is_proven = False  # A probe was heard since the listener is there. Tests look at it.
        self._was_said = False
        self._sent: _Sent | None = None
        self._probe_number = 0
        self._deaf_pause = _DEAF_PAUSE_SECONDS
        self._listen_at = self._probe_at = self._recheck_at = self._linger_until = 0.0

    # --- from other threads -----------------------------------------------------------------------

    def listen(self, executor_id: str) -> None:
        """Listen, before anybody waits. Raises `Unavailable` if that fails."""
        self._executor_id = self._listening_as = executor_id
        if self._listens:
            self._listener = self._store.listen(executor_id)
        else:
            logger.info(
                "listening is switched off (use_listen_notify): who waits for other processes looks every %g s",
                self._poll_seconds,
            )

    def start(self) -> None:
        """Wake who waits here, from now on."""
        self._waiters.on_first = self._nudge
        self._recheck_at = time.monotonic() + self._poll_seconds
        self._thread.start()

    def go_on_as(self, executor_id: str) -> None:
        """Take that executor's names for this process's own."""
        self._executor_id = executor_id
        self._interrupt()

    def look_at_once(self) -> None:
        """Let everybody look, and prove again what is heard: this process stood still, and may have missed anything."""
        self._stood_still = True
        self._interrupt()

    def stop(self) -> None:
        """Hear no more. A listener that is just connecting is left behind; it closes what it opened."""
        self._stopped = True
        self._interrupt()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)
        else:
            self._close()  # It never started.

    def _nudge(self) -> None:
        """Somebody begins to wait. A listener that looks seldom has to know."""
        if self._is_idle:
            self._interrupt()

    def _interrupt(self) -> None:
        with self._lock:
            self._interrupted.set()
            if self._listener is not None:
                self._listener.interrupt()

    # --- the thread -------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopped:
            try:
                self._turn()
            except Unavailable as error:
                self._lose(str(error), _PAUSE_SECONDS)
            except Exception as error:  # This thread must not end: nobody would look any more.
                logger.exception("the listener for wake-ups failed")
                self._lose(repr(error), _DEAF_PAUSE_SECONDS)
        self._close()

    def _turn(self) -> None:
        """Do what is due, then hear until something is."""
        now = time.monotonic()
        if self._stood_still:
            self._stood_still = False
            self._probe_at = self._recheck_at = now
        self._runs.tend_outages()
        if self._listening_as != self._executor_id:
            self._forget_listener()
        if self._listens and self._listener is None and now >= self._listen_at:
            self._listen_anew()
        if self._listener is not None and now >= self._probe_at:
            self._tend_probe(self._listener, now)
        if now >= self._recheck_at:
            self._recheck()
        self._wake(self._hear())

    def _hear(self) -> list[str]:
        until = self._recheck_at
        if self._listens:
            until = min(until, self._listen_at if self._listener is None else self._probe_at)
        timeout_seconds = max(until - time.monotonic(), 0)
        if self._listener is not None:
            return self._listener.hear(timeout_seconds, self._is_awaited)
        if self._interrupted.wait(min(timeout_seconds, threading.TIMEOUT_MAX)):
            self._interrupted.clear()
        return []

    def _is_awaited(self) -> bool:
        # Idle first: whoever begins to wait between the two looks interrupts for nothing, but is never overlooked.
        self._is_idle = True
        now = time.monotonic()
        if not self._waiters.is_empty or self._runs.are_there():
            self._linger_until = now + _LINGER_SECONDS
        self._is_idle = now >= self._linger_until
        return not self._is_idle

    def _wake(self, names: list[str]) -> None:
        if self._sent is not None and self._sent.name in names:
            self._was_heard()
        if WAKE_ALL in names:
            self._recheck()
            return
        cancelled = [each for name in names if (each := cancelled_workflow(name)) is not None]
        if cancelled:
            self._runs.stop_cancelled(cancelled)
        if ORPHANS in names:
            self._runs.look_for_orphans()
        settle_all((arrival, True, None) for arrival in self._waiters.take_named(names))

    def _recheck(self) -> None:
        """Let everybody look."""
        self._recheck_at = time.monotonic() + (self._recheck_seconds if self.is_proven else self._poll_pause())
        self._probes.passes(Point.RECHECK, self.is_proven)
        settle_all((arrival, True, None) for arrival in self._waiters.take_all())
        self._runs.stop_cancelled()

    def _poll_pause(self) -> float:
        return max(self._poll_seconds, self._waiters.key_count * _POLL_SECONDS_PER_KEY)

    # --- a listener that hears ----------------------------------------------------------------------

    def _tend_probe(self, listener: Listener, now: float) -> None:
        """Send a probe; or see whether the one sent has been on its way for too long."""
        self._probe_at = now + self._patience_seconds
        if self._committer.died is not None:
            return  # Nothing is written any more, so nothing can be heard of it.
        if self._sent is None:
            self._probe_number += 1
            name = f"{PROBE}{self._probe_number}"
            self._sent = _Sent(name, self._committer.submit(Unit(), Chain(self._committer), wakes=(name,)))
        elif not self._sent.was_durable:
            self._sent.was_durable = self._sent.job.settled  # Time counts from here, whatever the database is up to.
        else:
            pause, self._deaf_pause = self._deaf_pause, min(2 * self._deaf_pause, _LONGEST_DEAF_PAUSE_SECONDS)
            self._lose(f"a probe did not arrive; {listener.obstacle}", pause)

    def _was_heard(self) -> None:
        self._sent = None
        now = time.monotonic()
        self._probe_at = now + self._probe_seconds
        if self.is_proven:
            return
        if self._was_said:
            self._was_said = False
            logger.warning("wake-ups from other processes are heard again")
        self._deaf_pause = _DEAF_PAUSE_SECONDS
        self._recheck_at = now + self._recheck_seconds
        self.is_proven = True  # After it was said: tests look at this first.
        self._probes.passes(Point.HEARS, True)

    def _listen_anew(self) -> None:
        """Connect again. Names may have been missed: let all look, and prove what is heard."""
        executor_id = self._executor_id
        listener = self._store.listen(executor_id)
        with self._lock:
            self._listener = listener
        if self._stopped or self._executor_id != executor_id:
            listener.interrupt()  # Who changed that meanwhile found no listener to interrupt.
        self._listening_as = executor_id
        self._probe_at = self._recheck_at = 0.0

    def _lose(self, reason: str, pause_seconds: float) -> None:
        """Poll, until a listener has proven itself."""
        if not self._was_said:
            self._was_said = True
            logger.warning(
                "wake-ups from other processes are not heard (%s); who waits looks every %g s instead",
                reason,
                self._poll_seconds,
            )
        self._forget_listener()
        self._listen_at = time.monotonic() + pause_seconds
        self._probes.passes(Point.HEARS, False)

    def _forget_listener(self) -> None:
        self._close()
        self._sent = None
        self._listening_as = self._executor_id
        if self.is_proven:
            self.is_proven = False
            self._recheck_at = min(self._recheck_at, time.monotonic() + self._poll_pause())

    def _close(self) -> None:
        with self._lock:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()
