"""The checkout: reserve the widgets, request the payment, wait for its result, settle the order.

The program may be killed on any line. Started again, it continues there: finished steps stay finished, a message sent
meanwhile is received, and a wait lasts only for the remaining time.

Was the order paid? Only the payment service decides, so that nobody is charged for nothing: a session ends once. Its
decision reaches the checkout as a message. If no message comes in time, the checkout asks the payment service to close
the session, and the answer says how the session has ended. A payment at that very moment is either in the answer, or is
refused to the customer. For payments that banks send later, see `refund.py`.
"""

from examples.widget_store.shop import books, payment_client
from examples.widget_store.shop.books import NewOrder, Status
from examples.widget_store.shop.dispatch import dispatch, dispatch_id
from examples.widget_store.steps import patient_step
from examples.widget_store.timeline import Colour, tell
from examples.widget_store.wire import PaymentSession, PaymentStatus
from tidings import DBOS, SetWorkflowID
from tidings.error import DBOSMaxStepRetriesExceeded

# The event it publishes, and the topic of the message it waits for.
PAYMENT_URL = "payment_url"
PAYMENT_STATUS = "payment_status"


@DBOS.workflow()
def checkout(order: NewOrder, pay_within_seconds: float) -> Status:
    """Sell widgets to a customer who pays in time. The order's id is the workflow's id."""
    amount_cents = create_order(order)
    if not reserve_inventory(order.order_id):
        return Status.CANCELLED  # No payment address is published: a page that waits for it learns so at once.
    try:
        session = open_payment_session(order, amount_cents)
    except DBOSMaxStepRetriesExceeded:
        return cancel_order(order.order_id, "the payment service could not be reached")

    DBOS.set_event(PAYMENT_URL, session.url)
    payment = DBOS.recv(PAYMENT_STATUS, timeout_seconds=pay_within_seconds)
    if payment is None:
        payment = close_payment_session(order.order_id, session)

    match payment:
        case PaymentStatus.PAID:
            enter_payment(order.order_id)
            with SetWorkflowID(dispatch_id(order.order_id)):
                DBOS.start_workflow(dispatch, order.order_id)
            return Status.PAID
        case PaymentStatus.CANCELLED:
            return cancel_order(order.order_id, "the payment was cancelled")
        case _:
            return cancel_order(order.order_id, "no payment came in time")


@patient_step()
def create_order(order: NewOrder) -> int:
    """Record the order, and return its price in cents."""
    amount_cents = books.create_order(order)
    tell(f"ordered: {order.quantity} for {amount_cents / 100:.2f} euros", order.order_id)
    return amount_cents


@patient_step()
def reserve_inventory(order_id: str) -> bool:
    """Take the widgets from the shelf. If there are too few, cancel the order and return False."""
    reserved = books.reserve_inventory(order_id)
    tell("inventory reserved" if reserved else "cancelled: not enough widgets", order_id)
    return reserved


@patient_step(max_attempts=9)
def open_payment_session(order: NewOrder, amount_cents: int) -> PaymentSession:
    """Open a session at the payment service. The customer waits for it, so the step gives up after a while."""
    session = payment_client.open_session(order.order_id, f"{order.quantity} x {order.product_id}", amount_cents)
    tell("waiting for the payment", order.order_id, Colour.YELLOW)
    return session


@patient_step()
def close_payment_session(order_id: str, session: PaymentSession) -> PaymentStatus:
    """Close the session if it is still open, and return how it has ended."""
    payment = payment_client.close_session(session.session_id)
    tell(f"no message came in time; the payment service says: {payment}", order_id, Colour.YELLOW)
    return payment


@patient_step()
def enter_payment(order_id: str) -> None:
    """Record that the order is paid."""
    books.enter_payment(order_id)
    tell("paid", order_id, Colour.GREEN)


@patient_step()
def cancel_order(order_id: str, why: str) -> Status:
    """Cancel the order, and put its widgets back on the shelf."""
    books.cancel_order(order_id, why)
    tell(f"cancelled: {why}; inventory back", order_id, Colour.RED)
    return Status.CANCELLED
