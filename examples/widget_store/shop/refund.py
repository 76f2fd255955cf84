"""Refunds: a payment that arrives after its order was cancelled is sent back.

The checkout has ended when such a payment arrives, so another workflow handles it. One is started for each payment
event, under an id made from the event's id, so a repeated webhook starts nothing twice. It waits for the end of the
checkout instead of reading the order's status, because the checkout may be about to cancel the order.

So payments less refunds always equal the price of the paid orders, whatever the order of events.
"""

from examples.widget_store.shop import books, payment_client
from examples.widget_store.shop.books import Status
from examples.widget_store.steps import patient_step
from examples.widget_store.timeline import Colour, tell
from examples.widget_store.wire import PaymentEvent
from tidings import DBOS


def refund_id(event: PaymentEvent) -> str:
    """Return the id of the workflow that handles a payment event."""
    return f"{event.event_id}-refund"


@DBOS.workflow()
def refund_if_late(event: PaymentEvent) -> bool:
    """Refund the payment if its order was cancelled. Return whether it was."""
    if DBOS.get_result(event.reference) is not Status.CANCELLED:
        tell("the order was paid in time: nothing to refund", event.reference, Colour.FAINT)
        return False
    refund(event.reference, event.session_id)
    return True


@patient_step()
def refund(order_id: str, session_id: str) -> None:
    """Ask the payment service for the refund, and record it."""
    payment_client.refund(session_id)
    books.enter_refund(order_id)
    tell("the payment came too late, and was refunded", order_id, Colour.RED)
