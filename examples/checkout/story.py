"""The whole story, played by itself: customers who pay, cancel and forget, and a power cut in between.

The shop runs as a process of its own, in a new folder, and is talked to over HTTP, as a browser would.
"""

import os
import re
import subprocess
import sys
import tempfile
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx

from examples.checkout.shop import PRICE, STOCK, Books, Status
from examples.checkout.timeline import Colour, has_colours, paint, say

_ROOT = Path(__file__).parents[2]


def play() -> bool:
    """Play the story, and return whether every order ended right and the books add up."""
    with tempfile.TemporaryDirectory() as folder:
        with ShopProcess(Path(folder)) as shop:
            _chapter("Ann buys a bell and pays. She presses both buttons twice.")
            ann = shop.buy(presses=2)
            shop.answer(ann, "paid", presses=2)
            ann_saw = shop.outcome(ann)

            _chapter("Ben buys a bell and cancels.")
            ben = shop.buy()
            shop.answer(ben, "cancelled")
            ben_saw = shop.outcome(ben)

            _chapter("Cleo buys a bell. While the shop waits for her payment, its power fails: SIGKILL.")
            cleo = shop.buy()
            shop.kill()

        _chapter("The shop opens again, and Cleo's order still waits. She pays, twice to be sure.")
        with ShopProcess(Path(folder), "--pay-within", "1") as shop:
            shop.answer(cleo, "paid", presses=2)
            cleo_saw = shop.outcome(cleo)

            _chapter("Dan buys a bell and forgets to pay. Customers now have one second.")
            dan = shop.buy()
            dan_saw = shop.outcome(dan)
            books = shop.books()

    _chapter("The books")
    right = [
        _check("Ann saw", ann_saw, Status.PAID),
        _check("Ben saw", ben_saw, Status.CANCELLED),
        _check("Cleo saw", cleo_saw, Status.PAID),
        _check("Dan saw", dan_saw, Status.TIMED_OUT),
        _check("orders, the newest first", ", ".join(books.orders.values()), "timed out, paid, cancelled, paid"),
        _check("takings, for two bells", books.takings, 2 * PRICE),
        _check("stock, without two bells", books.stock, STOCK - 2),
    ]
    return all(right)


class ShopProcess:
    """The shop as a process that can be killed, and what a customer does with it."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "examples.checkout", "--port", "0", "--folder", str(folder), *options]
        colours = {"FORCE_COLOR": "1"} if has_colours() else {}
        self.process = subprocess.Popen(command, cwd=_ROOT, env=os.environ | colours, stdout=subprocess.PIPE, text=True)
        self._browser = httpx.Client(base_url=self._wait_until_open(), follow_redirects=True, timeout=60)
        self._echo = threading.Thread(target=self._show_timeline, daemon=True)
        self._echo.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._browser.close()
        self.kill()

    def kill(self) -> None:
        """End the shop as a power cut does."""
        self.process.kill()
        self.process.wait()
        self._echo.join()

    def get(self, path: str) -> httpx.Response:
        """Look at a page."""
        return self._browser.get(path)

    def post(self, path: str) -> httpx.Response:
        """Press a button, and follow where it leads."""
        return self._browser.post(path)

    def buy(self, presses: int = 1) -> str:
        """Press Buy on the shop's page, and return the id of the order."""
        button = re.search(r'action="(/buy/(.+?))"', self.get("/").text)
        assert button is not None
        for _ in range(presses):
            self.post(button[1]).raise_for_status()
        return button[2]

    def answer(self, order_id: str, status: str, presses: int = 1) -> None:
        """Press a button on the payment page: "paid" or "cancelled"."""
        for _ in range(presses):
            self.post(f"/pay/{order_id}/{status}").raise_for_status()

    def outcome(self, order_id: str) -> str:
        """Wait until the order has come to its end."""
        while True:
            answer = self.get(f"/orders/{order_id}/outcome").raise_for_status()
            if answer.status_code == httpx.codes.OK:
                return answer.text

    def books(self) -> Books:
        """Read the shop's figures."""
        return Books(**self.get("/books").raise_for_status().json())

    def _wait_until_open(self) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if address := re.search(r"http://[\d.:]+", line):
                return address[0]
        raise RuntimeError("the shop did not open; it says above why")

    def _show_timeline(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as lines:
            for line in lines:
                say(line.rstrip())


def _chapter(title: str) -> None:
    say(f"\n{paint(title, Colour.BOLD)}")


def _check(what: str, found: str | int, expected: str | int) -> bool:
    if found == expected:
        say(f"  {paint('right', Colour.GREEN)}  {what}: {found}")
    else:
        say(f"  {paint('WRONG', Colour.RED)}  {what}: {found}, but it should be {expected}")
    return found == expected
