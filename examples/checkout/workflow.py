"""The checkout: reserve, ask for the payment, wait for the answer, settle.

The program may be killed on any line of it. Started again, it goes on there: what is done stays done, a
message that was sent meanwhile is received, and a wait lasts only for the time that was left.
"""

from examples.checkout import shop
from examples.checkout.shop import Status
from examples.checkout.timeline import Colour, tell
from tidings import DBOS

# The events it publishes, and the topic of the message it waits for.
ORDER_STATUS = "order_status"
PAYMENT_URL = "payment_url"
PAYMENT_STATUS = "payment_status"


@DBOS.workflow()
def checkout(order_id: str, pay_within_seconds: float) -> Status:
    """Sell one bell to the customer who pays in time. The order's id is the workflow's id."""
    if not reserve_inventory(order_id):
        DBOS.set_event(ORDER_STATUS, Status.SOLD_OUT)
        return Status.SOLD_OUT

    DBOS.set_event(ORDER_STATUS, Status.WAITING)
    DBOS.set_event(PAYMENT_URL, f"/pay/{order_id}")
    tell(f"waiting for the payment ({pay_within_seconds:g} s in all)", order_id, Colour.YELLOW)

    payment = DBOS.recv(PAYMENT_STATUS, timeout_seconds=pay_within_seconds)
    match payment:
        case None:
            tell("no message came in time", order_id)
            status = Status.TIMED_OUT
        case "paid":
            tell("message received: paid", order_id)
            status = Status.PAID
        case _:
            tell(f"message received: {payment}", order_id)
            status = Status.CANCELLED

    settle_order(order_id, status)
    DBOS.set_event(ORDER_STATUS, status)
    return status


@DBOS.step()
def reserve_inventory(order_id: str) -> bool:
    """Take one bell from the shelf for this order; False if there is none."""
    reserved = shop.reserve(order_id)
    tell("inventory reserved" if reserved else "sold out", order_id)
    return reserved


@DBOS.step()
def settle_order(order_id: str, status: Status) -> None:
    """Book the sale, or put the bell back on the shelf."""
    shop.settle(order_id, status)
    if status is Status.PAID:
        tell("paid", order_id, Colour.GREEN)
    else:
        tell(f"{status}, inventory back", order_id, Colour.RED)
