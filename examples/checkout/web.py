"""The shop on the web: handlers that start a workflow, wait for its events, and send it messages."""

from dataclasses import asdict
from uuid import uuid4

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.routing import Route

from examples.checkout import pages, shop
from examples.checkout.shop import Status
from examples.checkout.timeline import tell
from examples.checkout.workflow import ORDER_STATUS, PAYMENT_STATUS, PAYMENT_URL, checkout
from tidings import DBOS, SetWorkflowID
from tidings.error import DBOSNonExistentWorkflowError, DBOSShutdownError


def create_app(pay_within_seconds: float) -> Starlette:
    """Make the web application of a shop whose customers pay within so many seconds."""
    order = "{order_id:uuid}"
    app = Starlette(
        routes=[
            Route("/", home),
            Route(f"/buy/{order}", buy, methods=["POST"]),
            Route(f"/pay/{order}", payment_page),
            Route(f"/pay/{order}/paid", pay, methods=["POST"]),
            Route(f"/pay/{order}/cancelled", cancel, methods=["POST"]),
            Route(f"/orders/{order}", order_page),
            Route(f"/orders/{order}/outcome", outcome),
            Route("/books", books),
        ],
        exception_handlers={404: not_found, DBOSNonExistentWorkflowError: not_found, DBOSShutdownError: closing},
    )
    app.state.pay_within_seconds = pay_within_seconds
    return app


def home(request: Request) -> Response:
    """Show what is for sale. The page carries the id of the order it may become."""
    return _page(pages.home(shop.read_books(), new_order_id=str(uuid4())))


async def buy(request: Request) -> Response:
    """Start the checkout, wait for its payment link, and send the customer there.

    A button pressed twice starts nothing twice: the same id is the same workflow. A checkout that ends
    without a link (sold out) is not waited for.
    """
    order_id = _order_id(request)
    tell("order received", order_id)
    with SetWorkflowID(order_id):
        await DBOS.start_workflow_async(checkout, order_id, request.app.state.pay_within_seconds)
    url = await DBOS.get_event_async(order_id, PAYMENT_URL)
    return _redirect(url or f"/orders/{order_id}")


async def payment_page(request: Request) -> Response:
    """Show the page of the payment service, which is part of the shop here, while the order waits for it."""
    order_id = _order_id(request)
    events = await DBOS.get_all_events_async(order_id)
    if events.get(ORDER_STATUS) is not Status.WAITING:
        return _redirect(f"/orders/{order_id}")
    return _page(pages.payment(order_id))


async def pay(request: Request) -> Response:
    """Tell the checkout that its customer has paid."""
    return await _send_payment_status(_order_id(request), "paid")


async def cancel(request: Request) -> Response:
    """Tell the checkout that its customer has cancelled."""
    return await _send_payment_status(_order_id(request), "cancelled")


async def _send_payment_status(order_id: str, status: str) -> Response:
    """Send the message that the checkout waits for. The key makes the first answer the only one."""
    await DBOS.send_async(order_id, status, PAYMENT_STATUS, idempotency_key="answer")
    return _redirect(f"/orders/{order_id}")


async def order_page(request: Request) -> Response:
    """Show what the checkout has published about the order."""
    order_id = _order_id(request)
    events = await DBOS.get_all_events_async(order_id)
    return _page(pages.order(order_id, events.get(ORDER_STATUS), events.get(PAYMENT_URL)))


async def outcome(request: Request) -> Response:
    """Answer as soon as the checkout has ended, or with nothing after a while. The order page waits here."""
    try:
        return PlainTextResponse(await DBOS.get_result_async(_order_id(request), timeout_seconds=10))
    except TimeoutError:
        return Response(status_code=204)


def books(request: Request) -> Response:
    """Show the shop's figures, for programs."""
    return JSONResponse(asdict(shop.read_books()))


def not_found(request: Request, error: Exception) -> Response:
    """Answer for an order, or a page, that does not exist."""
    return _page(pages.not_found(), status_code=404)


def closing(request: Request, error: Exception) -> Response:
    """Answer the pages that wait while the shop closes."""
    return PlainTextResponse("The shop is closing. Its orders go on when it opens again.", status_code=503)


def _order_id(request: Request) -> str:
    return str(request.path_params["order_id"])


def _page(html: str, status_code: int = 200) -> Response:
    return HTMLResponse(html, status_code, headers={"Cache-Control": "no-store"})


def _redirect(url: str) -> Response:
    return RedirectResponse(url, status_code=303)
