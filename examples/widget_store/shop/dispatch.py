"""The dispatch of a paid order: a child workflow that takes its time, and publishes how far it is."""

from examples.widget_store.settings import settings
from examples.widget_store.shop import books
from examples.widget_store.shop.books import Status
from examples.widget_store.steps import patient_step
from examples.widget_store.timeline import Colour, tell
from tidings import DBOS

# The event it publishes: how many of the stages are done.
STAGES_DONE = "stages_done"
STAGES = ("taken from the shelf", "polished", "packed in straw", "handed to the carrier")


def dispatch_id(order_id: str) -> str:
    """Return the id of the workflow that dispatches an order: there is one for each."""
    return f"{order_id}-dispatch"


@DBOS.workflow()
def dispatch(order_id: str) -> Status:
    """Send the widgets to the customer, stage by stage. A pause survives a crash: only what is left is waited for."""
    for done, stage in enumerate(STAGES, 1):
        DBOS.sleep(settings().stage_seconds)
        DBOS.set_event(STAGES_DONE, done)
        tell(f"  {stage}", order_id, Colour.FAINT)
    return enter_dispatch(order_id)


@patient_step()
def enter_dispatch(order_id: str) -> Status:
    """Enter that the order has left the house."""
    books.enter_dispatch(order_id)
    tell("dispatched", order_id, Colour.GREEN)
    return Status.DISPATCHED
