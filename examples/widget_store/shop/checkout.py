"""The checkout: reserve, ask for the payment, wait for word of it, settle.

The program may be killed on any line of it. Started again, it goes on there: what is done stays done, a message that
was sent meanwhile is received, and a wait lasts only for the time that was left.

Was it paid? One party decides, so that nobody is charged for nothing: the payment service, where a session ends once.
Its word reaches the checkout as a message; if none comes in time the checkout asks it to close the session, and the
answer is how the session has ended. A payment that arrives in that very moment is either part of the answer, or was
refused to the customer. Payments that banks bring after that are another story: `refund.py`.
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
        return Status.CANCELLED  # Without an address to pay at: whoever waits for one learns so at once.
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
    """Enter the order, and return what it costs in cents."""
    amount_cents = books.create_order(order)
    tell(f"ordered: {order.quantity} for {amount_cents / 100:.2f} euros", order.order_id)
    return amount_cents


@patient_step()
def reserve_inventory(order_id: str) -> bool:
    """Take the widgets from the shelf for this order; False, and the order is cancelled, if there are too few."""
    reserved = books.reserve_inventory(order_id)
    tell("inventory reserved" if reserved else "cancelled: not enough widgets", order_id)
    return reserved


@patient_step(max_attempts=9)
def open_payment_session(order: NewOrder, amount_cents: int) -> PaymentSession:
    """Open a session at the payment service. The customer waits for it, so this gives up after a while."""
    session = payment_client.open_session(order.order_id, f"{order.quantity} x {order.product_id}", amount_cents)
    tell("waiting for the payment", order.order_id, Colour.YELLOW)
    return session


@patient_step()
def close_payment_session(order_id: str, session: PaymentSession) -> PaymentStatus:
    """Ask the payment service how the session has ended; one that is still open ends now."""
    payment = payment_client.close_session(session.session_id)
    tell(f"no message came in time; the payment service says: {payment}", order_id, Colour.YELLOW)
    return payment


@patient_step()
def enter_payment(order_id: str) -> None:
    """Enter that the order is paid."""
    books.enter_payment(order_id)
    tell("paid", order_id, Colour.GREEN)


@patient_step()
def cancel_order(order_id: str, why: str) -> Status:
    """Cancel the order, and put its widgets back on the shelf."""
    books.cancel_order(order_id, why)
    tell(f"cancelled: {why}; inventory back", order_id, Colour.RED)
    return Status.CANCELLED
