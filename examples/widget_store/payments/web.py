"""The payment service on the web: an API for the shop, and the page where customers pay."""

import hmac
from uuid import UUID

import httpx
import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from examples.widget_store.answers import EXCEPTION_HANDLERS, page, redirect, refuse
from examples.widget_store.payments import books, pages
from examples.widget_store.payments.books import SessionRecord
from examples.widget_store.payments.session import END, READY, session, session_id_of, slow_bank, slow_bank_id
from examples.widget_store.settings import settings
from examples.widget_store.timeline import tell
from examples.widget_store.wire import PaymentSession, PaymentStatus, SessionRequest
from tidings import DBOS, SetWorkflowID
from tidings.error import DBOSNonExistentWorkflowError

# A killed shop refuses connections at once; a shop that is opening lets its callers wait.
_SHOP_ANSWERS_WITHIN_SECONDS = 2


def create_app() -> Starlette:
    """Create the payment service's web application."""
    one = "session-{reference:uuid}"
    return Starlette(
        routes=[
            Route("/sessions", open_session, methods=["POST"]),
            Route(f"/sessions/{one}/expire", expire, methods=["POST"]),
            Route(f"/sessions/{one}/refund", refund, methods=["POST"]),
            Route(f"/pay/{one}", payment_page),
            Route(f"/pay/{one}/paid", pay, methods=["POST"]),
            Route(f"/pay/{one}/cancelled", cancel, methods=["POST"]),
            Route(f"/pay/{one}/slow-bank", pay_by_slow_bank, methods=["POST"]),
            Route(f"/pay/{one}/return", back_to_shop),
            Route("/books", read_books),
        ],
        exception_handlers=EXCEPTION_HANDLERS | {DBOSNonExistentWorkflowError: no_such_session},
    )


# --- for the shop -----------------------------------------------------------------------------------


async def open_session(request: Request) -> Response:
    """Open a session, or find the existing one with the same reference."""
    _check_is_shop(request)
    wanted = _read_request(await request.body())
    session_id = session_id_of(wanted.reference)
    with SetWorkflowID(session_id):
        await DBOS.start_workflow_async(session, session_id, wanted)
    await DBOS.get_event_async(session_id, READY, timeout_seconds=None)
    found = await run_in_threadpool(_session, session_id)
    if found.request.amount_cents != wanted.amount_cents:
        raise HTTPException(409, "This reference has a session for another amount. Use a new reference.")
    return _answer(session_id, found.status)


async def expire(request: Request) -> Response:
    """Expire a session if it is still open, and answer how it has ended."""
    _check_is_shop(request)
    session_id = _session_id(request)
    return _answer(session_id, await _end(session_id, PaymentStatus.EXPIRED))


def refund(request: Request) -> Response:
    """Refund a payment, once."""
    _check_is_shop(request)
    found = _session(_session_id(request))
    if not books.enter_refund(found.session_id):
        raise HTTPException(409, "Nothing was paid in this session, so nothing can be given back. Check which it was.")
    tell("refunded", found.request.reference)
    return _answer(found.session_id, found.status)


def read_books(request: Request) -> Response:
    """Show the payments and refunds, for programs."""
    return Response(msgspec.json.encode(books.read_books()), media_type="application/json")


# --- for customers ----------------------------------------------------------------------------------


def payment_page(request: Request) -> Response:
    """Show the amount to pay, with the buttons, or that the session has ended."""
    found = _session(_session_id(request))
    bank_pays = DBOS.get_workflow_status(slow_bank_id(found.session_id)) is not None
    return page(pages.payment(found, bank_pays=bank_pays))


async def pay(request: Request) -> Response:
    """Take the customer's money, unless the session has already ended differently."""
    return await _end_for_customer(_session_id(request), PaymentStatus.PAID)


async def cancel(request: Request) -> Response:
    """End the session without a payment."""
    return await _end_for_customer(_session_id(request), PaymentStatus.CANCELLED)


async def pay_by_slow_bank(request: Request) -> Response:
    """Take a payment that will arrive after the session has ended."""
    found = await run_in_threadpool(_session, _session_id(request))
    with SetWorkflowID(slow_bank_id(found.session_id)):
        await DBOS.start_workflow_async(slow_bank, found.session_id, found.request)
    tell("the customer pays by a slow bank", found.request.reference)
    return redirect(f"/pay/{found.session_id}")


async def back_to_shop(request: Request) -> Response:
    """Send the customer to the shop. While the shop does not answer, show a page that retries by itself.

    A redirection to a shop that was just killed would end on the browser's own error page, which does not retry.
    """
    found = await run_in_threadpool(_session, _session_id(request))
    is_cancelled = found.status is PaymentStatus.CANCELLED
    url = found.request.cancel_url if is_cancelled else found.request.success_url
    return redirect(url) if await _answers(url) else page(pages.shop_is_away(found), status_code=503)


async def _answers(url: str) -> bool:
    """Check whether the shop answers."""
    try:
        async with httpx.AsyncClient(timeout=_SHOP_ANSWERS_WITHIN_SECONDS) as client:
            await client.get(url)
    except httpx.HTTPError:
        return False
    return True


async def _end_for_customer(session_id: str, wanted: PaymentStatus) -> Response:
    end = await _end(session_id, wanted)
    found = await run_in_threadpool(_session, session_id)
    if end is PaymentStatus.EXPIRED:
        tell("the customer comes too late, and is not charged", found.request.reference)
        return page(pages.payment(found), status_code=409)
    return redirect(f"/pay/{session_id}/return")


async def _end(session_id: str, wanted: PaymentStatus) -> PaymentStatus:
    """Send the session its end, and return how it has ended: only the first message counts."""
    found = await run_in_threadpool(_session, session_id)
    if found.status is not PaymentStatus.OPEN:
        return found.status
    await DBOS.send_async(session_id, wanted, END, idempotency_key="the first one counts")
    return PaymentStatus(await DBOS.get_result_async(session_id))


def no_such_session(request: Request, error: Exception) -> Response:
    """Answer for a session that does not exist."""
    sentence = "There is no such payment session. Go back to the shop and order anew."
    return refuse(request, HTTPException(404, sentence))


def _session_id(request: Request) -> str:
    return session_id_of(str(request.path_params["reference"]))


def _session(session_id: str) -> SessionRecord:
    found = books.find_session(session_id)
    if found is None:
        raise DBOSNonExistentWorkflowError(session_id)
    return found


def _check_is_shop(request: Request) -> None:
    """Refuse a caller that does not know the secret."""
    shown = request.headers.get("authorization", "").encode()
    if not hmac.compare_digest(shown, f"Bearer {settings().secret}".encode()):
        raise HTTPException(401, "Only the shop may ask for this. Send its secret: Authorization: Bearer <secret>.")


def _read_request(body: bytes) -> SessionRequest:
    try:
        wanted = msgspec.json.decode(body, type=SessionRequest)
    except (ValueError, RecursionError) as error:  # The body is not JSON, not UTF-8, or not a session request.
        raise HTTPException(400, f"This is no session request: {error}. Send one as wire.py describes it.") from None
    if wanted.reference != str(_uuid(wanted.reference)):
        raise HTTPException(400, "The reference must be a UUID, as in 123e4567-e89b-12d3-a456-426614174000.")
    if wanted.amount_cents <= 0:
        raise HTTPException(400, "The amount must be more than nothing. Say it in cents.")
    return wanted


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def _answer(session_id: str, status: PaymentStatus) -> Response:
    answer = PaymentSession(session_id, status, f"{settings().payments_url}/pay/{session_id}")
    return Response(msgspec.json.encode(answer), media_type="application/json")
