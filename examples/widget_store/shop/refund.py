"""Refunds: money that comes for an order which was given up meanwhile goes back.

The checkout has ended when such a payment arrives, so another workflow sees to it. One is started for each payment
event, under an id made from the event's: a webhook that is repeated starts nothing twice. It waits for the end of the
checkout rather than look how the order stands, because the checkout may be just about to give it up.

So whatever overtakes what, payments less refunds are the price of the paid orders.
"""

from examples.widget_store.shop import books, payment_client
from examples.widget_store.shop.books import Status
from examples.widget_store.steps import patient_step
from examples.widget_store.timeline import Colour, tell
from examples.widget_store.wire import PaymentEvent
from tidings import DBOS


def refund_id(event: PaymentEvent) -> str:
    """Return the id of the workflow that sees to a payment event."""
    return f"{event.event_id}-refund"


@DBOS.workflow()
def refund_if_late(event: PaymentEvent) -> bool:
    """Give the payment back if its order ends cancelled. Return whether it did."""
    if DBOS.get_result(event.reference) is not Status.CANCELLED:
        tell("the payment has its order: nothing to give back", event.reference, Colour.FAINT)
        return False
    refund(event.reference, event.session_id)
    return True


@patient_step()
def refund(order_id: str, session_id: str) -> None:
    """Ask the payment service to give the money back, and note it."""
    payment_client.refund(session_id)
    books.enter_refund(order_id)
    tell("the payment came too late, and was refunded", order_id, Colour.RED)
