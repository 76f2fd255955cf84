"""The shop on the web: handlers that start a workflow, wait for its events, and send it messages."""

import re
import time
from uuid import UUID, uuid4

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from examples.widget_store import signature
from examples.widget_store.answers import EXCEPTION_HANDLERS, page, read_form, redirect, refuse
from examples.widget_store.settings import settings
from examples.widget_store.shop import books, pages
from examples.widget_store.shop.books import NewOrder, Status
from examples.widget_store.shop.checkout import PAYMENT_STATUS, PAYMENT_URL, checkout
from examples.widget_store.shop.dispatch import STAGES_DONE, dispatch_id
from examples.widget_store.shop.refund import refund_id, refund_if_late
from examples.widget_store.timeline import Colour, tell
from examples.widget_store.wire import PaymentEvent, PaymentStatus
from tidings import DBOS, SetWorkflowID
from tidings.error import DBOSNonExistentWorkflowError


def create_app() -> Starlette:
    """Create the shop's web application."""
    order = "/orders/{order_id:uuid}"
    return Starlette(
        routes=[
            Route("/", product_page),
            Route("/buy", buy, methods=["POST"]),
            Route("/restock", restock, methods=["POST"]),
            Route(order, order_page),
            Route(f"{order}/cancelled", cancel_page),
            Route(f"{order}/outcome", outcome),
            Route("/webhooks/payments", payment_webhook, methods=["POST"]),
            Route("/books", read_books),
        ],
        exception_handlers=EXCEPTION_HANDLERS | {DBOSNonExistentWorkflowError: no_such_order},
    )


def product_page(request: Request) -> Response:
    """Show the products. The form contains the id of a new order."""
    return page(pages.product(books.read_books(most_orders=8), new_order_id=str(uuid4())))


async def buy(request: Request) -> Response:
    """Start the checkout, wait for the address of the payment page, and send the customer there.

    Pressing the button twice starts one checkout: the same id means the same workflow. If the checkout ends without an
    address, the wait ends at once.
    """
    order = await run_in_threadpool(_read_order, await read_form(request))
    with SetWorkflowID(order.order_id):
        await DBOS.start_workflow_async(checkout, order, settings().pay_within_seconds)
    url = await DBOS.get_event_async(order.order_id, PAYMENT_URL)
    return redirect(url or f"/orders/{order.order_id}/cancelled")


def restock(request: Request) -> Response:
    """Fill an empty shelf."""
    books.restock()
    return redirect("/")


async def payment_webhook(request: Request) -> Response:
    """Turn the payment service's call into a message to the checkout.

    The event's id is the idempotency key, so repeated calls send one message. If this program dies before it has
    answered, the payment service calls again.
    """
    event = _read_event(request, await request.body())
    if event.status is PaymentStatus.PROCESSING:  # The session has not ended: this is only shown with the order.
        if not await run_in_threadpool(books.enter_bank_order, event.reference):
            raise DBOSNonExistentWorkflowError(event.reference)
        return PlainTextResponse("Received.")
    await DBOS.send_async(event.reference, event.status, PAYMENT_STATUS, idempotency_key=event.event_id)
    if event.status is PaymentStatus.PAID:
        with SetWorkflowID(refund_id(event)):
            await DBOS.start_workflow_async(refund_if_late, event)
    return PlainTextResponse("Received.")


def order_page(request: Request) -> Response:
    """Show the order's status, from the shop's books and the events of its workflows."""
    order_id = _order_id(request)
    url = DBOS.get_all_events(order_id).get(PAYMENT_URL)
    stages_done = DBOS.get_event(dispatch_id(order_id), STAGES_DONE, timeout_seconds=0, default=0)
    return page(pages.order(order_id, books.find_order(order_id), url, stages_done))


def cancel_page(request: Request) -> Response:
    """Show that nothing was bought: the payment was cancelled, or there was none."""
    order_id = _order_id(request)
    DBOS.get_all_events(order_id)  # Raises if the order does not exist.
    found = books.find_order(order_id)
    if found is not None and found.status in {Status.PAID, Status.DISPATCHED}:
        return redirect(f"/orders/{order_id}")  # It was paid before it was cancelled.
    return page(pages.cancelled(order_id, found))


async def outcome(request: Request) -> Response:
    """Answer when the order has ended, or with an empty answer after 10 s. The tour waits here."""
    order_id = _order_id(request)
    try:
        status = await DBOS.get_result_async(order_id, timeout_seconds=10)
        if status is Status.PAID:
            status = await DBOS.get_result_async(dispatch_id(order_id), timeout_seconds=10)
    except TimeoutError:
        return Response(status_code=204)
    return PlainTextResponse(status)


def read_books(request: Request) -> Response:
    """Show the shop's books, for programs."""
    return Response(msgspec.json.encode(books.read_books(most_orders=1000)), media_type="application/json")


def no_such_order(request: Request, error: Exception) -> Response:
    """Answer for an order that does not exist."""
    sentence = "There is no such order. Check its number, or order anew from the shop's first page."
    return refuse(request, HTTPException(404, sentence))


def _order_id(request: Request) -> str:
    return str(request.path_params["order_id"])


def _read_order(form: dict[str, str]) -> NewOrder:
    """Read the form of the product page."""
    try:
        order_id = str(UUID(form.get("order_id", "")))
    except ValueError:
        raise HTTPException(400, "The form has no order_id. Open the product page and press Buy there.") from None
    quantity = form.get("quantity", "")
    if not re.fullmatch("[1-9][0-9]?", quantity):
        raise HTTPException(400, "The quantity must be a whole number from 1 to 99. Go back and change it.")
    product_id = form.get("product_id", "")
    if product_id not in {product.product_id for product in books.read_products()}:
        raise HTTPException(400, "There is no such product. Choose one from the shop's first page.")
    return NewOrder(order_id, product_id, int(quantity))


def _read_event(request: Request, body: bytes) -> PaymentEvent:
    """Read a webhook, and check that the payment service has sent it."""
    try:
        signature.check(settings().secret, request.headers.get(signature.HEADER), body, int(time.time()))
        event = msgspec.json.decode(body, type=PaymentEvent)
    except signature.SignatureError as error:
        tell(f"a webhook was refused: {error}", colour=Colour.RED)
        raise HTTPException(401, str(error)) from None
    except (ValueError, RecursionError) as error:  # The body is not JSON, not UTF-8, or not a payment event.
        raise HTTPException(
            400, f"The webhook is no payment event: {error}. Send one as wire.py describes it."
        ) from None
    if event.status is PaymentStatus.OPEN:
        raise HTTPException(
            400, "The webhook tells of no end: its payment session is open. Send one when it has ended."
        )
    return event
