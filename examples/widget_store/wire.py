"""The messages between the shop and the payment service, as JSON over HTTP."""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

# The ids in a webhook: safe in any URL and in ids made from them. The ids of orders are the shop's UUIDs.
Id = Annotated[str, Meta(pattern=r"\A[0-9A-Za-z_-]{1,100}\Z")]
OrderId = Annotated[str, Meta(pattern=r"\A[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\Z")]


class PaymentStatus(StrEnum):
    """The status of a payment session. All but the first two mean that it has ended.

    While a bank is paying, the session stays `OPEN` and may still end differently; the shop is sent `PROCESSING`.
    """

    OPEN = "open"
    PROCESSING = "processing"
    PAID = "paid"
    CANCELLED = "cancelled"
    EXPIRED = "expired"


class SessionRequest(Struct, frozen=True):
    """The shop asks for a payment session.

    Attributes:
        reference: the shop's name for it: the id of the order. Two requests with one reference open one session.
        description: the goods.
        amount_cents: the amount, in hundredths of a euro.
        webhook_url: the address for the payment service's webhooks.
        success_url, cancel_url: the pages to which the customer returns.
    """

    reference: str
    description: str
    amount_cents: int
    webhook_url: str
    success_url: str
    cancel_url: str


class PaymentSession(Struct, frozen=True):
    """The payment service's answer: the session, its status, and the page where the customer pays."""

    session_id: str
    status: PaymentStatus
    url: str


class PaymentEvent(Struct, frozen=True):
    """A webhook: the payment service reports a payment, once or several times under the same id.

    Attributes:
        event_id: the same in every delivery of the same event.
        session_id: the payment session.
        reference: the shop's name for it.
        status: how the session has ended, or `PROCESSING` while a bank is paying.
    """

    event_id: Id
    session_id: Id
    reference: OrderId
    status: PaymentStatus
