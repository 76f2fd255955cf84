"""The payment service's books: its sessions, the payments made in them, and the refunds.

Each function writes in one transaction, under the id of the session: if it runs twice, it changes nothing twice.
"""

from pathlib import Path

from msgspec import Struct

from examples.widget_store.database import Database, Transaction
from examples.widget_store.settings import Place
from examples.widget_store.wire import PaymentStatus, SessionRequest


class SessionRecord(Struct, frozen=True):
    """A payment session: the shop's request, and the status."""

    session_id: str
    request: SessionRequest
    status: PaymentStatus


class Books(Struct, frozen=True):
    """The payments and the refunds, in cents, by the shop's references."""

    payments: dict[str, int]
    refunds: dict[str, int]


_database = Database()


def open_books(place: Place) -> None:
    """Create the payment service's tables if they do not exist."""
    _database.open(place, Path(__file__).with_name("tables.sql").read_text("utf-8"))


def enter_session(session_id: str, request: SessionRequest) -> None:
    """Record a new, open session."""
    with _database.transaction() as transaction:
        transaction.change(
            "insert into sessions (session_id, reference, description, amount_cents, webhook_url, success_url,"
            " cancel_url, status) values (?, ?, ?, ?, ?, ?, ?, ?) on conflict do nothing",
            *(session_id, request.reference, request.description, request.amount_cents),
            *(request.webhook_url, request.success_url, request.cancel_url, PaymentStatus.OPEN.value),
        )


def end_session(session_id: str, status: PaymentStatus) -> None:
    """Record how an open session has ended and, if it was paid, the payment."""
    with _database.transaction() as transaction:
        end = "update sessions set status = ? where session_id = ? and status = ?"
        ended = transaction.change(end, status.value, session_id, PaymentStatus.OPEN.value)
        if ended and status is PaymentStatus.PAID:
            _enter_payment(transaction, session_id)


def enter_late_payment(session_id: str) -> None:
    """Record a payment for a session that has ended without one."""
    with _database.transaction() as transaction:
        _enter_payment(transaction, session_id)


def enter_refund(session_id: str) -> bool:
    """Record a refund. Return whether there is a payment to refund."""
    with _database.transaction() as transaction:
        transaction.change(
            "insert into refunds (session_id, amount_cents)"
            " select session_id, amount_cents from payments where session_id = ? on conflict do nothing",
            session_id,
        )
        return bool(transaction.rows("select 1 from refunds where session_id = ?", session_id))


def find_session(session_id: str) -> SessionRecord | None:
    """Return a session, or `None` if there is none with that id."""
    with _database.transaction() as transaction:
        row = transaction.row(
            "select status, reference, description, amount_cents, webhook_url, success_url, cancel_url"
            " from sessions where session_id = ?",
            session_id,
        )
        return None if row is None else SessionRecord(session_id, SessionRequest(*row[1:]), PaymentStatus(row[0]))


def read_books() -> Books:
    """Return all payments and refunds."""
    with _database.transaction() as transaction:
        payments = "select reference, payments.amount_cents from payments join sessions using (session_id)"
        refunds = "select reference, refunds.amount_cents from refunds join sessions using (session_id)"
        return Books(dict(transaction.rows(payments)), dict(transaction.rows(refunds)))


def _enter_payment(transaction: Transaction, session_id: str) -> None:
    transaction.change(
        "insert into payments (session_id, amount_cents)"
        " select session_id, amount_cents from sessions where session_id = ? on conflict do nothing",
        session_id,
    )
