"""The answers that both programs share: pages, redirections, and refusals that say what to do."""

from urllib.parse import parse_qsl

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response

from examples.widget_store import layout
from examples.widget_store.settings import settings
from tidings.error import DBOSShutdownError

_SENTENCES = {
    "Not Found": "There is no such page. Check the address, or go back to where you came from.",
    "Method Not Allowed": "This address does not answer to that method. Use the pages' own links and buttons.",
}


def page(html: str, status_code: int = 200) -> Response:
    """Answer with a page that must not be cached: the next request may get another one."""
    return HTMLResponse(html, status_code, headers={"Cache-Control": "no-store"})


def redirect(url: str) -> Response:
    """Send the customer to another page."""
    return RedirectResponse(url, status_code=303)


async def read_form(request: Request) -> dict[str, str]:
    """Read the fields of a page's form."""
    body = await request.body()
    return dict(parse_qsl(body.decode("utf-8", "replace")))


def refuse(request: Request, error: Exception) -> Response:
    """Answer with the sentence that says what is wrong and what to do: a page for browsers, else plain text."""
    assert isinstance(error, HTTPException)
    sentence = _SENTENCES.get(error.detail, error.detail)
    if "text/html" in request.headers.get("accept", ""):
        return page(layout.refusal(sentence, settings().shop_url), error.status_code)
    return PlainTextResponse(sentence, error.status_code, headers=error.headers)


def closing(request: Request, error: Exception) -> Response:
    """Answer the requests that still wait while the program closes."""
    return PlainTextResponse("This program is closing. Everything goes on when it opens again.", status_code=503)


EXCEPTION_HANDLERS = {HTTPException: refuse, DBOSShutdownError: closing}
