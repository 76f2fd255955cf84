"""The payment service's page."""

from html import escape

from examples.widget_store import layout
from examples.widget_store.layout import euros
from examples.widget_store.payments.books import SessionRecord
from examples.widget_store.timeline import short
from examples.widget_store.wire import PaymentStatus

_ENDED = {
    PaymentStatus.OPEN: "",
    PaymentStatus.PAID: "This was paid. Thank you!",
    PaymentStatus.CANCELLED: "You have cancelled this payment. You were not charged.",
    PaymentStatus.EXPIRED: "The shop has waited for as long as it could, and has closed this payment. "
    "You were not charged.",
}


def payment(session: SessionRecord) -> str:
    """Return the page where a customer pays or cancels, or reads that this is over."""
    asked = session.request
    amount = euros(asked.amount_cents)
    about = f"""<p class="row"><span>{escape(asked.description)}</span>
        <span class="soft">order <code>{escape(short(asked.reference))}</code></span></p>"""
    if session.status is not PaymentStatus.OPEN:
        body = f"""<h1>Nothing to pay</h1>{about}<p>{_ENDED[session.status]}</p>
            <a class="button" href="{escape(asked.success_url)}">Back to the shop</a>"""
    else:
        here = f"/pay/{escape(session.session_id)}"
        body = f"""<h1>Pay {amount}</h1>{about}
            <form method="post"><button formaction="{here}/paid">Pay {amount}</button>
            <button class="quiet" formaction="{here}/slow-bank">Pay by a slow bank: later than the shop waits</button>
            <button class="quiet" formaction="{here}/cancelled">Cancel</button></form>"""
    return layout.page("<strong>Pennywise Payments</strong>", body, title="Payment", kind="payments", aside="simulated")
