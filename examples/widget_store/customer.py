"""A customer: reads pages and presses their buttons over HTTP, like a browser."""

import re
from types import TracebackType
from typing import Self
from urllib.parse import urljoin

import httpx
import msgspec

from examples.widget_store.payments.books import Books as PaymentBooks
from examples.widget_store.shop.books import Books as ShopBooks


class Customer:
    """Somebody with a browser.

    Args:
        shop_url: the shop's address.
    """

    def __init__(self, shop_url: str) -> None:
        self.shop_url = shop_url
        # A connection of its own for each request: the shop may have been killed since the last one.
        limits = httpx.Limits(max_keepalive_connections=0)
        self.browser = httpx.Client(timeout=100, headers={"Accept": "text/html"}, limits=limits)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.browser.close()

    def get(self, url: str) -> httpx.Response:
        """Look at a page."""
        return self.browser.get(urljoin(self.shop_url, url))

    def post(self, url: str, form: dict[str, str] | None = None) -> httpx.Response:
        """Press a button. A redirection is not followed, because it may lead to a shop that is closed."""
        return self.browser.post(urljoin(self.shop_url, url), data=form)

    def choose(self, quantity: int = 1) -> dict[str, str]:
        """Open the product page and fill in its form."""
        page = self.get("/").raise_for_status().text
        return dict(re.findall(r'name="(\w+)" value="(.+?)"', page)) | {"quantity": str(quantity)}

    def buy(self, form: dict[str, str], presses: int = 1) -> str:
        """Press Buy, and return the address of the redirection."""
        places = {self._redirected(self.post("/buy", form)) for _ in range(presses)}
        (place,) = places
        return place

    def press(self, payment_page: str, button: str, presses: int = 1) -> httpx.Response:
        """Press a button on the payment page: "paid", "cancelled" or "slow-bank". Return the last answer."""
        actions = re.findall(r'formaction="(.+?)"', self.get(payment_page).raise_for_status().text)
        (action,) = [action for action in actions if action.endswith(f"/{button}")]
        answers = [self.post(urljoin(payment_page, action)) for _ in range(presses)]
        return answers[-1]

    def outcome(self, order_id: str) -> str:
        """Wait until an order has ended, and return its end."""
        while True:
            answer = self.get(f"/orders/{order_id}/outcome").raise_for_status()
            if answer.status_code == httpx.codes.OK:
                return answer.text

    def read_shop_books(self) -> ShopBooks:
        """Read the shop's books."""
        return msgspec.json.decode(self.get("/books").raise_for_status().content, type=ShopBooks)

    def read_payment_books(self, payments_url: str) -> PaymentBooks:
        """Read the payment service's books."""
        return msgspec.json.decode(self.get(f"{payments_url}/books").raise_for_status().content, type=PaymentBooks)

    def _redirected(self, answer: httpx.Response) -> str:
        if answer.status_code != httpx.codes.SEE_OTHER:
            answer.raise_for_status()
            raise RuntimeError(f"the shop should have sent the customer on, but answered: {answer.text}")
        return answer.headers["location"]
