"""Wake-ups from other processes: one thread that listens, and makes waiters poll while nothing can be heard.

A name is a hint: it makes a waiter look, and the query decides. Names may be missed: the listener was lost, or names
were pruned. Then all waiters look as soon as the listener is back. Any single name may be lost too, so all waiters also
look now and then.

A listener may hear nothing although it seems to work: a pooler may drop notifications, a connection may be dead without
a sign. So this process now and then sends itself a *probe* through the committer, and the listener must hear it. Until
it does, the process is *deaf*: waiters poll at a short interval. The log says once that this began, and once that it
ended.

The thread waits only for the listener, never for the committer or the reader: both may be blocked by an outage.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Collection
from typing import Final, Protocol

from msgspec import Struct

from tidings.engine.database.chain import Chain
from tidings.engine.database.committer import Committer
from tidings.engine.hooks import Hooks, Point
from tidings.engine.settings import Connection
from tidings.engine.waiting.jobs import Job
from tidings.engine.waiting.ticket import settle_all
from tidings.engine.waiting.waiters import ORPHANS, Waiters, cancelled_workflow
from tidings.model import Unit
from tidings.store.protocol import PROBE, WAKE_ALL, Listener, Severed, Store, Unavailable

logger = logging.getLogger("tidings")

# The pause before each try to replace a lost listener.
_PAUSE_SECONDS: Final = 0.1
# The same if the listener connects but hears no probe: the first pause, and the longest.
_DEAF_PAUSE_SECONDS: Final = 1.0
_LONGEST_DEAF_PAUSE_SECONDS: Final = 60.0

# For this long after its last waiter a process counts as waiting, because waits often follow each other.
_LINGER_SECONDS: Final = 1.0

# A look costs the database up to half a millisecond. So the more waiters poll, the longer the interval.
_POLL_SECONDS_PER_KEY: Final = 0.0005

_STOP_SECONDS: Final = 2.0


class Upkeep(Protocol):
    """The engine, as far as the listener's thread calls it: what needs a look now and then, or when a name is heard."""

    def has_runs(self) -> bool:
        """Tell whether this process executes any workflow."""

    def stop_cancelled(self, among: Collection[str] | None = None) -> None:
        """Find which of these workflows, or of all, were cancelled, and stop their runs. Does not block."""

    def look_for_orphans(self) -> None:
        """Look for workflows that nobody owns: other processes may have left some. Does not block."""

    def tell_waiting(self) -> None:
        """Check now and then whether a caller here waits for a workflow that nobody executes. Does not block."""

    def tend_outages(self) -> None:
        """If the database does not answer, log for how long, and wake the callers that wait on a dead chain."""


class _Sent(Struct):
    """A probe on its way. Once it `was_durable`, it must be heard within `probe_patience_seconds`."""

    name: str
    job: Job
    was_durable: bool = False


class Hearing:
    """The listener of this process."""

    def __init__(
        self, store: Store, waiters: Waiters, committer: Committer, upkeep: Upkeep, hooks: Hooks, settings: Connection
    ) -> None:
        self._store = store
        self._waiters = waiters
        self._committer = committer
        self._upkeep = upkeep
        self._hooks = hooks
        self._listens = settings.use_listen_notify
        self._poll_seconds = settings.polling_interval_seconds
        self._recheck_seconds = settings.recheck_seconds
        self._probe_seconds = settings.lease_ms / 3_000
        self._patience_seconds = settings.probe_patience_seconds

        self._lock = threading.Lock()  # Guards `_listener` for threads that interrupt it.
        self._listener: Listener | None = None
        self._interrupted = threading.Event()  # Interrupts the thread while there is no listener.
        self._stopped = False
        self._stood_still = False
        self._is_idle = False
        self._executor_id = ""
        self._listening_as = ""
        self._thread = threading.Thread(target=self._run, name="tidings-listener", daemon=True)

        # Used only by the thread. All times are on the monotonic clock.
        self.is_proven = False  # This listener has heard a probe. Tests read it.
        self._was_said = False
        self._sent: _Sent | None = None
        self._probe_number = 0
        self._deaf_pause = _DEAF_PAUSE_SECONDS
        self._listen_at = self._probe_at = self._recheck_at = self._linger_until = 0.0

    # --- from other threads -----------------------------------------------------------------------

    def listen(self, executor_id: str) -> None:
        """Connect the listener, before any waiter registers. Raises `Unavailable` if that fails."""
        self._executor_id = self._listening_as = executor_id
        if self._listens:
            self._listener = self._store.listen(executor_id)
        else:
            logger.info(
                "listening is switched off (use_listen_notify): calls that wait for other processes poll every %g s",
                self._poll_seconds,
            )

    def start(self) -> None:
        """Start the thread: it wakes waiters from now on."""
        self._waiters.on_first = self._nudge
        self._recheck_at = time.monotonic() + self._poll_seconds
        self._thread.start()

    def go_on_as(self, executor_id: str) -> None:
        """Listen as this executor from now on."""
        self._executor_id = executor_id
        self._interrupt()

    def look_at_once(self) -> None:
        """Make all waiters look, and send a probe: this process was suspended, and may have missed any name."""
        self._stood_still = True
        self._interrupt()

    def stop(self) -> None:
        """Stop listening. Does not wait for a listener that is still connecting; its thread closes it later."""
        self._stopped = True
        self._interrupt()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)
        else:
            self._close()  # It never started.

    def _nudge(self) -> None:
        """Interrupt an idle listener, because a first waiter came: it polls seldom while nothing waits."""
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
            except Severed:  # It was idle; this is logged already. Replace it: names may be missed, so all look.
                self._forget_listener()
                self._listen_at = time.monotonic() + _PAUSE_SECONDS
            except Unavailable as error:
                self._lose(str(error), _PAUSE_SECONDS)
            except Exception as error:  # This thread must not end: waiters would not be woken.
                logger.exception("listening for wake-ups from other processes failed; trying again")
                self._lose(repr(error), _DEAF_PAUSE_SECONDS)
        self._close()

    def _turn(self) -> None:
        """Do all that is due, then listen until more is due."""
        now = time.monotonic()
        if self._stood_still:
            self._stood_still = False
            self._probe_at = self._recheck_at = now
        self._upkeep.tend_outages()
        self._upkeep.tell_waiting()
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
        # Set `_is_idle` before reading the waiters. Then a waiter that comes in between interrupts, perhaps needlessly.
        # In the other order it could be missed.
        self._is_idle = True
        now = time.monotonic()
        if not self._waiters.is_empty or self._upkeep.has_runs():
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
            self._upkeep.stop_cancelled(cancelled)
        if ORPHANS in names:
            self._upkeep.look_for_orphans()
        settle_all((arrival, True, None) for arrival in self._waiters.take_named(names))

    def _recheck(self) -> None:
        """Make all waiters look, and check all runs for a cancellation."""
        self._recheck_at = time.monotonic() + (self._recheck_seconds if self.is_proven else self._poll_pause())
        self._hooks.passes(Point.RECHECK, self.is_proven)
        settle_all((arrival, True, None) for arrival in self._waiters.take_all())
        self._upkeep.stop_cancelled()

    def _poll_pause(self) -> float:
        return max(self._poll_seconds, self._waiters.key_count * _POLL_SECONDS_PER_KEY)

    # --- probes and the listener --------------------------------------------------------------------

    def _tend_probe(self, listener: Listener, now: float) -> None:
        """Send a probe, or check whether the last one is overdue."""
        self._probe_at = now + self._patience_seconds
        if self._committer.died is not None:
            return  # Nothing more is written, so no probe would come.
        if self._sent is None:
            self._probe_number += 1
            name = f"{PROBE}{self._probe_number}"
            self._sent = _Sent(name, self._committer.submit(Unit(), Chain(self._committer), wakes=(name,)))
        elif not self._sent.was_durable:
            self._sent.was_durable = self._sent.job.settled  # The patience begins once the probe is durable.
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
            logger.warning("wake-ups from other processes arrive again; waiting calls no longer poll")
        self._deaf_pause = _DEAF_PAUSE_SECONDS
        self._recheck_at = now + self._recheck_seconds
        self.is_proven = True  # After logging, because tests wait for this.
        self._hooks.passes(Point.HEARS, True)

    def _listen_anew(self) -> None:
        """Connect again. Names may have been missed: make all waiters look, and send a probe."""
        executor_id = self._executor_id
        listener = self._store.listen(executor_id)
        with self._lock:
            self._listener = listener
        if self._stopped or self._executor_id != executor_id:
            listener.interrupt()  # The thread that changed this found no listener to interrupt.
        self._listening_as = executor_id
        self._probe_at = self._recheck_at = 0.0

    def _lose(self, reason: str, pause_seconds: float) -> None:
        """Close the listener, and poll until another one has heard a probe."""
        if not self._was_said:
            self._was_said = True
            logger.warning(
                "wake-ups from other processes do not arrive (%s); until they do, waiting calls poll every %g s",
                reason,
                self._poll_seconds,
            )
        self._forget_listener()
        self._listen_at = time.monotonic() + pause_seconds
        self._hooks.passes(Point.HEARS, False)

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
