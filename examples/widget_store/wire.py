"""What the shop and the payment service say to one another, as JSON over HTTP."""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

# What a webhook may hold: ids that fit any URL and any id made from them, and orders as the shop numbers them.
Id = Annotated[str, Meta(pattern=r"\A[0-9A-Za-z_-]{1,100}\Z")]
OrderId = Annotated[str, Meta(pattern=r"\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")]


class PaymentStatus(StrEnum):
    """How a payment session stands. All but the first are its end."""

    OPEN = "open"
    PAID = "paid"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class SessionRequest(Struct, frozen=True):
    """The shop asks for a payment session.

    Attributes:
        reference: what the shop calls it: the id of the order. Asking twice under one reference opens one session.
        description: what is paid for.
        amount_cents: how much, in hundredths of a euro.
        webhook_url: where the payment service tells how it ended.
        success_url, cancel_url: where the customer goes afterwards.
    """

    reference: str
    description: str
    amount_cents: int
    webhook_url: str
    success_url: str
    cancel_url: str


class PaymentSession(Struct, frozen=True):
    """The payment service answers: the session, how it stands, and the page where the customer pays."""

    session_id: str
    status: PaymentStatus
    url: str


class PaymentEvent(Struct, frozen=True):
    """A webhook: the payment service tells of a payment, once or several times under the same id.

    Attributes:
        event_id: the same in every delivery of the same event.
        session_id: the payment session.
        reference: what the shop calls it.
        status: how it has ended.
    """

    event_id: Id
    session_id: Id
    reference: OrderId
    status: PaymentStatus
