"""Whether the database answers: asked anew over connections of its own, and then through those in use.

The first tells at once, and why not. The second tells that what this process writes arrives where the
URL leads: behind one name there may be two databases.
"""

from __future__ import annotations

import threading
from typing import Final

from tidings import store as stores
from tidings.core.effects import Due, Operation, Wait
from tidings.engine.arrivals import Arrival
from tidings.engine.chain import Chain
from tidings.engine.engine import Engine
from tidings.error import DBOSInitializationError
from tidings.model import Unit
from tidings.shortage import reason_of
from tidings.store.protocol import Store, Unavailable

PATIENCE_SECONDS: Final = 10


def check(engine: Engine) -> Operation[None]:
    """See whether the database answers now.

    Raises:
        DBOSInitializationError: it does not, or not in time; is unfit; or another one stands in its place.
    """
    answer = Arrival((), may_fail=False)
    # A thread of its own: a connection that hangs holds up nobody but this thread.
    try:
        threading.Thread(target=_answer, args=(engine, answer), name="tidings-check", daemon=True).start()
    except Exception as error:
        raise DBOSInitializationError(f"whether the database answers cannot be asked: {reason_of(error)}") from error
    if not (yield Wait(answer, Due(PATIENCE_SECONDS * 1_000))):
        raise DBOSInitializationError(f"the database did not answer within {PATIENCE_SECONDS} s")


def _answer(engine: Engine, answer: Arrival) -> None:
    try:
        _ask(engine)
    except BaseException as error:
        answer.settle(error=error)
    else:
        answer.settle(True)


def _ask(engine: Engine) -> None:
    url, schema = engine.connection.database_url, engine.connection.schema
    store = stores.open(url, schema)
    try:
        store.connect()
        # Twice: this process may just have become another executor.
        if not (_arrives(engine, store) or _arrives(engine, store)):
            raise DBOSInitializationError(
                f"{stores.redact(url)!r} answers, but what this process writes does not arrive there: the database was "
                "replaced or removed meanwhile, or two of its servers take writes; put that right, or start this "
                "program anew"
            )
    except Unavailable as error:
        raise DBOSInitializationError(f"the database did not answer: {error}") from error
    finally:
        store.close()


def _arrives(engine: Engine, store: Store) -> bool:
    """Tell whether this process's row is there, as a batch of now has renewed it."""
    renewed_ms = engine.clock.now_ms() + engine.connection.lease_ms
    Chain(engine.committer).commit(Unit()).result()
    executor_id = engine.committer.executor.executor_id
    rows = store.executors()
    return any(each.executor_id == executor_id and each.lease_until_ms >= renewed_ms for each in rows)
