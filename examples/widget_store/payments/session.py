"""A payment session: from the shop's request to its single end.

The customer may pay or cancel, and the shop may give up: each sends the session a message, and the first message ends
it. Nothing else decides, so the shop and the customer never see different ends.

There is one exception, as in reality: a slow bank may send the money after the session has ended without it. The
payment service takes it and notifies the shop, which refunds it.
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
    """Return the id of the session, and of its workflow, for the shop's reference: each reference has one session."""
    return f"session-{reference}"


def slow_bank_id(session_id: str) -> str:
    """Return the id of the workflow for a slow bank's payment: each session has at most one."""
    return f"{session_id}-slow-bank"


@DBOS.workflow()
def session(session_id: str, request: SessionRequest) -> PaymentStatus:
    """Wait for the first message on how the session ends, record it, and notify the shop."""
    enter_session(session_id, request)
    DBOS.set_event(READY, True)
    end: PaymentStatus = DBOS.recv(END, timeout_seconds=LONGEST_SESSION_SECONDS, default=PaymentStatus.EXPIRED)
    end_session(session_id, request.reference, end)
    if end is not PaymentStatus.EXPIRED:  # The shop knows of an expiry: it has asked for it, or gave up long ago.
        _tell_shop(request, PaymentEvent(f"{session_id}-{end}", session_id, request.reference, end))
    return end


@DBOS.workflow()
def slow_bank(session_id: str, request: SessionRequest) -> bool:
    """Bring the money after the session has ended, in any way. Return whether it was taken."""
    promised = PaymentEvent(f"{session_id}-processing", session_id, request.reference, PaymentStatus.PROCESSING)
    _tell_shop(request, promised)
    if DBOS.get_result(session_id) is PaymentStatus.PAID:
        return False  # The customer has paid in another way.
    enter_late_payment(session_id, request.reference)
    event = PaymentEvent(f"{session_id}-late-payment", session_id, request.reference, PaymentStatus.PAID)
    _tell_shop(request, event)
    return True


def _tell_shop(request: SessionRequest, event: PaymentEvent) -> None:
    """Start the delivery of a webhook. It continues until it succeeds, independently of this workflow."""
    with SetWorkflowID(event.event_id):
        DBOS.start_workflow(deliver, event, request.webhook_url)


@patient_step()
def enter_session(session_id: str, request: SessionRequest) -> None:
    """Record the new session."""
    books.enter_session(session_id, request)
    tell("payment session opened", request.reference)


@patient_step()
def end_session(session_id: str, reference: str, end: PaymentStatus) -> None:
    """Record how the session has ended."""
    books.end_session(session_id, end)
    tell(f"payment session ended: {end}", reference)


@patient_step()
def enter_late_payment(session_id: str, reference: str) -> None:
    """Record a payment that comes after the session's end."""
    books.enter_late_payment(session_id)
    tell("a slow bank brings the payment now", reference, Colour.YELLOW)
