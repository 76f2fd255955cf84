"""The dispatch of a paid order: a child workflow that takes a while, and publishes its progress."""

from examples.widget_store.settings import settings
from examples.widget_store.shop import books
from examples.widget_store.shop.books import Status
from examples.widget_store.steps import patient_step
from examples.widget_store.timeline import Colour, tell
from tidings import DBOS

# The event it publishes: the number of finished stages.
STAGES_DONE = "stages_done"
STAGES = ("taken from the shelf", "polished", "packed in straw", "handed to the carrier")


def dispatch_id(order_id: str) -> str:
    """Return the id of the workflow that dispatches an order: each order has one."""
    return f"{order_id}-dispatch"


@DBOS.workflow()
def dispatch(order_id: str) -> Status:
    """Send the widgets to the customer, stage by stage. A pause survives a crash: only the rest of it is waited for."""
    for done, stage in enumerate(STAGES, 1):
        DBOS.sleep(settings().stage_seconds)
        DBOS.set_event(STAGES_DONE, done)
        tell(f"  {stage}", order_id, Colour.FAINT)
    return enter_dispatch(order_id)


@patient_step()
def enter_dispatch(order_id: str) -> Status:
    """Record that the order was dispatched."""
    books.enter_dispatch(order_id)
    tell("dispatched", order_id, Colour.GREEN)
    return Status.DISPATCHED
