"""Warns in the log if this process waits for a workflow that no process executes, and says why none does.

A pending workflow may have a name, program or version that no process may execute: its row was changed by hand, or
comes from an old deploy. No process owns it, so it is reported only at a launch, and a waiter would wait in silence.

Some seconds after a wait began, its workflow is looked up once. Usually the wait is over by then, or this process
executes the workflow; then there is no query. A workflow that no process executes is looked up a few times more,
because it may be about to be taken over. After that it is logged once. At each re-check (`Hearing`) a wait begins
again, and so does this. Workflows without a waiter are not looked up.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Collection, Sequence
from functools import partial
from itertools import islice
from typing import Final

from tidings.core.effects import WakeKey
from tidings.engine.database.reader import Reader
from tidings.engine.ownership.progress import Neglected, alive_of, neglected
from tidings.engine.waiting.clock import Clock
from tidings.engine.waiting.ticket import Ticket
from tidings.engine.waiting.waiters import Waiters
from tidings.model import Executor, Status, WorkflowFilter, WorkflowRecord
from tidings.store.protocol import Store

logger = logging.getLogger("tidings")

LOOK_MS: Final = 5_000
# A workflow that a living process may take over, and does not, is logged after two leases of the default length.
_PATIENCE_MS: Final = 20_000
_MOST_TOGETHER: Final = 1_000

_Found = tuple[Sequence[WorkflowRecord], Sequence[Executor]]


class Neglect:
    """The workflows that this process waits for, although perhaps no process executes them.

    Args:
        runs_here: tells whether this process executes a workflow.
        names_here: the names of the workflows that it can execute; `None` if it executes none.
    """

    def __init__(
        self,
        waiters: Waiters,
        reader: Reader,
        clock: Clock,
        runs_here: Callable[[str], bool],
        names_here: Callable[[], Collection[str] | None],
    ) -> None:
        self._waiters = waiters
        self._reader = reader
        self._clock = clock
        self._runs_here = runs_here
        self._names_here = names_here
        self._lock = threading.Lock()
        self._due_ms = clock.own_ms() + LOOK_MS
        self._ripening: dict[WakeKey, None] = {}  # Waits that began in the period before the last look.
        self._suspects: dict[WakeKey, int] = {}  # Workflows that nobody executes: since when this is known.
        self._said: dict[str, tuple[WakeKey, str]] = {}  # By workflow: the key that is waited for, and what was logged.

    def look(self, me: str) -> None:
        """Look, if it is time. Does not block.

        Args:
            me: the id of this process's executor.
        """
        with self._lock:
            now = self._clock.own_ms()
            if now < self._due_ms:
                return
            self._due_ms = now + LOOK_MS
            ripe = dict.fromkeys((*self._suspects, *self._ripening))
            self._ripening = dict.fromkeys(self._waiters.take_begun())
            wanted = list(islice((key for key in ripe if self._is_wanted(key)), _MOST_TOGETHER))
            left = set(wanted)
            self._suspects = {key: since for key, since in self._suspects.items() if key in left}
            self._said = {each: said for each, said in self._said.items() if self._waiters.has(said[0])}
        if wanted:
            asked = self._reader.ask(partial(_read, {key[1] or "" for key in wanted}))
            asked.when_settled(partial(self._hear, asked, wanted, me))

    def _is_wanted(self, key: WakeKey) -> bool:
        return self._waiters.has(key) and not self._runs_here(key[1] or "")

    def _hear(self, asked: Ticket, wanted: Collection[WakeKey], me: str) -> None:
        with contextlib.suppress(Exception):  # The database is away, say. A wait that lasts is looked up again later.
            pending, executors = asked.result()
            with self._lock:
                self._note({each.workflow_id: each for each in pending}, executors, wanted, me)

    def _note(
        self,
        pending: dict[str, WorkflowRecord],
        executors: Sequence[Executor],
        wanted: Collection[WakeKey],
        me: str,
    ) -> None:
        now, names = self._clock.own_ms(), self._names_here()
        alive = alive_of(executors, self._clock.now_ms(), me) if pending else []
        for key in wanted:
            found = pending.get(key[1] or "")
            state = None if found is None else neglected(found, alive, me, names)
            if found is None or state is None:
                self._suspects.pop(key, None)
                continue
            since = self._suspects.setdefault(key, now)
            if state.is_certain or now - since >= _PATIENCE_MS:
                self._say(found, key, state)
                self._suspects.pop(key, None)

    def _say(self, found: WorkflowRecord, key: WakeKey, state: Neglected) -> None:
        workflow_id = found.workflow_id
        _, said = self._said.get(workflow_id, (key, ""))
        self._said[workflow_id] = key, state.why
        if said != state.why:
            logger.warning(
                "a call in this process waits for workflow %r, and %s",
                workflow_id,
                state.why,
                extra={"workflow_id": workflow_id, "workflow_name": found.name},
            )


def _read(workflow_ids: Collection[str], store: Store) -> _Found:
    wanted = WorkflowFilter(
        workflow_ids=tuple(workflow_ids), statuses=(Status.PENDING,), with_inputs=False, with_outputs=False
    )
    return store.list_workflows(wanted), store.executors()
