"""Check whether the database answers: over new connections, and then over those that the engine uses.

New connections fail at once, and with the reason. The engine's connections prove that its writes arrive where the URL
leads: one host name may lead to two databases.
"""

from __future__ import annotations

import threading
from typing import Final

from tidings import store as stores
from tidings.core.effects import Due, Operation, Wait
from tidings.engine.database.chain import Chain
from tidings.engine.engine import Engine
from tidings.engine.waiting.arrivals import Arrival
from tidings.error import DBOSInitializationError
from tidings.model import Unit
from tidings.shortage import reason_of
from tidings.store.protocol import Store, Unavailable

PATIENCE_SECONDS: Final = 10


def check(engine: Engine) -> Operation[None]:
    """Check whether the database answers now.

    Raises:
        DBOSInitializationError: the database does not answer in time, is unfit, or has been replaced by another.
    """
    answer = Arrival((), may_fail=False)
    # In a thread of its own: a connection that hangs blocks only this thread.
    try:
        threading.Thread(target=_answer, args=(engine, answer), name="tidings-check", daemon=True).start()
    except Exception as error:
        raise DBOSInitializationError(f"this process cannot check the database: {reason_of(error)}") from error
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
    store = stores.open(engine.connection.database_url, engine.connection.schema)
    try:
        store.connect()
        # Twice: this process may have become another executor a moment ago.
        if not (_arrives(engine, store) or _arrives(engine, store)):
            raise DBOSInitializationError(
                f"{store.name} answers, but writes of this process do not arrive there. The database was "
                "replaced or removed while this program ran, or two of its servers accept writes. Correct that, or "
                "restart this program"
            )
    except Unavailable as error:
        raise DBOSInitializationError(f"the database did not answer: {error}") from error
    finally:
        store.close()


def _arrives(engine: Engine, store: Store) -> bool:
    """Commit an empty batch, and tell whether the row that it renewed is in `store`."""
    renewed_ms = engine.clock.now_ms() + engine.connection.lease_ms
    Chain(engine.committer).commit(Unit()).result()
    executor_id = engine.committer.executor.executor_id
    rows = store.executors()
    return any(each.executor_id == executor_id and each.lease_until_ms >= renewed_ms for each in rows)
