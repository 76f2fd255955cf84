"""A payment session: from the shop's request to its one end.

The customer pays or cancels, the shop gives up: each sends the session a message, and the first one ends it. Nobody
else decides, so the shop and the customer never learn of different ends.

There is one exception, as in life: a slow bank may bring the money when the session has ended without it. The payment
service takes it and tells the shop, which sends it back.
"""

from examples.widget_store.payments import books
from examples.widget_store.payments.delivery import deliver
from examples.widget_store.steps import patient_step
from examples.widget_store.timeline import Colour, tell
from examples.widget_store.wire import PaymentEvent, PaymentStatus, SessionRequest
from tidings import DBOS, SetWorkflowID

# The event a session publishes when it is ready, and the topic of the message that ends it.
READY = "ready"
END = "end"

LONGEST_SESSION_SECONDS = 24 * 3600


def session_id_of(reference: str) -> str:
    """Return the id of the session, and of its workflow, for what the shop calls it: there is one for each."""
    return f"session-{reference}"


def slow_bank_id(session_id: str) -> str:
    """Return the id of the workflow that brings a slow bank's payment for a session: there is one for each."""
    return f"{session_id}-slow-bank"


@DBOS.workflow()
def session(session_id: str, request: SessionRequest) -> PaymentStatus:
    """Wait for the first word on how the session ends, book it, and let the shop know."""
    enter_session(session_id, request)
    DBOS.set_event(READY, True)
    end: PaymentStatus = DBOS.recv(END, timeout_seconds=LONGEST_SESSION_SECONDS, default=PaymentStatus.EXPIRED)
    end_session(session_id, request.reference, end)
    if end is not PaymentStatus.EXPIRED:  # The shop knows of that: it has asked for it, or has long given up.
        _tell_shop(request, PaymentEvent(f"{session_id}-{end}", session_id, request.reference, end))
    return end


@DBOS.workflow()
def slow_bank(session_id: str, request: SessionRequest) -> bool:
    """Bring the money when the session has ended, whatever its end. Return whether it was taken."""
    if DBOS.get_result(session_id) is PaymentStatus.PAID:
        return False  # The customer has paid otherwise.
    enter_late_payment(session_id, request.reference)
    event = PaymentEvent(f"{session_id}-late-payment", session_id, request.reference, PaymentStatus.PAID)
    _tell_shop(request, event)
    return True


def _tell_shop(request: SessionRequest, event: PaymentEvent) -> None:
    """Start the delivery of a webhook. It goes on for as long as it takes, whatever happens here."""
    with SetWorkflowID(event.event_id):
        DBOS.start_workflow(deliver, event, request.webhook_url)


@patient_step()
def enter_session(session_id: str, request: SessionRequest) -> None:
    """Enter the new session."""
    books.enter_session(session_id, request)
    tell("payment session opened", request.reference)


@patient_step()
def end_session(session_id: str, reference: str, end: PaymentStatus) -> None:
    """Enter how the session has ended."""
    books.end_session(session_id, end)
    tell(f"payment session ended: {end}", reference)


@patient_step()
def enter_late_payment(session_id: str, reference: str) -> None:
    """Enter a payment that comes after the session's end."""
    books.enter_late_payment(session_id)
    tell("a slow bank brings the payment now", reference, Colour.YELLOW)
