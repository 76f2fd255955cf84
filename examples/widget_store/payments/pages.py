"""The payment service's page."""

from html import escape

from examples.widget_store import layout
from examples.widget_store.layout import euros
from examples.widget_store.payments.books import SessionRecord
from examples.widget_store.timeline import short
from examples.widget_store.wire import PaymentStatus

_ENDED = {
    PaymentStatus.OPEN: "",
    PaymentStatus.PROCESSING: "",
    PaymentStatus.PAID: "This was paid. Thank you!",
    PaymentStatus.CANCELLED: "You have cancelled this payment. You were not charged.",
    PaymentStatus.EXPIRED: "The shop has waited for as long as it could, and has closed this payment. "
    "You were not charged.",
}

_BANK_WAS_LATE = "This payment was closed before the money came from your bank. The shop sends it back to you."


def payment(session: SessionRecord, *, bank_pays: bool = False) -> str:
    """Return the page where a customer pays or cancels, or reads that the session has ended, or that a bank is
    paying."""
    asked = session.request
    amount = euros(asked.amount_cents)
    about = f"""<p class="row"><span>{escape(asked.description)}</span>
        <span class="soft">order <code>{escape(short(asked.reference))}</code></span></p>"""
    back = f"/pay/{escape(session.session_id)}/return"
    if session.status is not PaymentStatus.OPEN:
        was_late = bank_pays and session.status is not PaymentStatus.PAID
        body = f"""<h1>Nothing to pay</h1>{about}<p>{_BANK_WAS_LATE if was_late else _ENDED[session.status]}</p>
            <a class="button" href="{back}">Back to the shop</a>"""
    elif bank_pays:
        body = f"""<h1>Your bank is paying</h1>{about}<p>There is nothing more to do. The bank is slow: it brings the
            money later than the shop waits, and the shop will send it back.</p>
            <a class="button" href="{back}">Back to the shop</a>"""
    else:
        here = f"/pay/{escape(session.session_id)}"
        body = f"""<h1>Pay {amount}</h1>{about}
            <form method="post"><button formaction="{here}/paid">Pay {amount}</button>
            <button class="quiet" formaction="{here}/slow-bank">Pay by a slow bank: later than the shop waits</button>
            <button class="quiet" formaction="{here}/cancelled">Cancel</button></form>"""
    return layout.page("<strong>Pennywise Payments</strong>", body, title="Payment", kind="payments", aside="simulated")


def shop_is_away(session: SessionRecord) -> str:
    """Return the page for a customer who returns to a shop that does not answer. The page retries by itself."""
    sentence = _ENDED[session.status] or "Your payment is as you left it."
    body = f"""<h1>The shop does not answer</h1><p>{sentence}</p>
        <p role="status">This page takes you to the shop as soon as it answers. Nothing is lost meanwhile.</p>
        <a class="button" href="/pay/{escape(session.session_id)}/return">Try again now</a>"""
    again = '<meta http-equiv="refresh" content="1">'
    return layout.page(
        "<strong>Pennywise Payments</strong>", body, title="Payment", kind="payments", aside="simulated", end=again
    )
