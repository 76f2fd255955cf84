"""The shop's calls to the payment service. Each call may be repeated: it changes nothing twice."""

import httpx
import msgspec

from examples.widget_store.settings import settings
from examples.widget_store.wire import PaymentSession, PaymentStatus, SessionRequest


class PaymentServiceError(Exception):
    """A call has failed. A step can record this error, unlike an error of httpx, which contains the request."""


def open_session(order_id: str, description: str, amount_cents: int) -> PaymentSession:
    """Open a payment session for an order. A repeated request returns the same session.

    Raises:
        PaymentServiceError: The payment service cannot be reached, or refuses the request.
    """
    shop = settings().shop_url
    request = SessionRequest(
        reference=order_id,
        description=description,
        amount_cents=amount_cents,
        webhook_url=f"{shop}/webhooks/payments",
        success_url=f"{shop}/orders/{order_id}",
        cancel_url=f"{shop}/orders/{order_id}/cancelled",
    )
    return _post("/sessions", msgspec.json.encode(request))


def close_session(session_id: str) -> PaymentStatus:
    """Close a session to payments, and return how it has ended: paid after all, cancelled, or expired.

    Raises:
        PaymentServiceError: As above.
    """
    return _post(f"/sessions/{session_id}/expire").status


def refund(session_id: str) -> None:
    """Refund a payment.

    Raises:
        PaymentServiceError: As above.
    """
    _post(f"/sessions/{session_id}/refund")


def _post(path: str, body: bytes = b"") -> PaymentSession:
    told = settings()
    headers = {"Authorization": f"Bearer {told.secret}"}
    try:
        answer = httpx.post(told.payments_url + path, content=body, headers=headers, timeout=10).raise_for_status()
    except httpx.HTTPError as error:
        raise PaymentServiceError(str(error)) from None
    return msgspec.json.decode(answer.content, type=PaymentSession)
