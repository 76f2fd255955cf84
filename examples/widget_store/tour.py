"""The tour: an automatic run with customers, a slow bank and power cuts, and a check of the results.

`make tour`, or `make tour DATABASE=postgresql://user@host/database`. The programs run as separate processes, and the
tour uses them over HTTP like a browser. It never waits for time to pass, only for facts: pages, ends of orders, lines
of the timeline. All webhooks are delivered twice. It exits with 0 only if every order has ended right.
"""

import argparse
import os
import secrets
import signal
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import httpx
import psycopg

from examples.widget_store.customer import Customer
from examples.widget_store.database import drop_schema
from examples.widget_store.layout import euros
from examples.widget_store.processes import Program, ProgramError, free_url
from examples.widget_store.settings import DATABASE_URL, Settings, SettingsError, place_of
from examples.widget_store.shop.books import FULL_SHELF, OrderRecord, Status
from examples.widget_store.timeline import Colour, paint, say, short

PAID = ("ordered", "inventory reserved", "paid", "dispatched")
SOLD_OUT = ("ordered", "cancelled: not enough widgets on the shelf")
CANCELLED = ("ordered", "inventory reserved", "cancelled: the payment was cancelled; inventory back")
TIMED_OUT = ("ordered", "inventory reserved", "cancelled: no payment came in time; inventory back")
REFUNDED = (*TIMED_OUT, "payment came too late: refunded")


@dataclass(frozen=True, slots=True)
class Ending:
    """The expected and the actual end of a customer's order."""

    who: str
    order_id: str
    expected: tuple[str, ...]
    seen: str


class Tour:
    """The tour's chapters. Each leaves the shop open."""

    def __init__(self, told: Settings, customer: Customer) -> None:
        self._told = told
        self._customer = customer
        self._endings: list[Ending] = []
        self._programs: list[Program] = []
        self._is_right = True

    def play(self) -> bool:
        """Run all chapters, and return whether everything has ended right."""
        try:
            self._payments = self._open("payments", self._told)
            self._shop = self._open("shop", self._told)
            self._pay()
            self._buy_too_many()
            self._cancel()
            self._shop.close()
            self._shop = self._open("shop", replace(self._told, pay_within_seconds=1))
            self._forget()
            self._pay_late()
            self._shop.close()
            self._shop = self._open("shop", replace(self._told, die_after="reserve_inventory"))
            self._live_through_power_cuts()
            self._check_books()
            return self._is_right
        finally:
            for program in self._programs:
                program.kill()

    def _pay(self) -> None:
        _chapter("Ann buys two widgets and pays. She presses both buttons twice.")
        form = self._customer.choose(quantity=2)
        payment_page = self._customer.buy(form, presses=2)
        self._customer.press(payment_page, "paid", presses=2)
        self._end("Ann", form, PAID)
        self._payments.wait_for(short(form["order_id"]), "delivered once more")

    def _buy_too_many(self) -> None:
        _chapter("Ben wants 99 widgets. There are not so many.")
        form = self._customer.choose(quantity=99)
        cancel_page = self._customer.buy(form)
        self._check("Ben is sent to", cancel_page, f"/orders/{form['order_id']}/cancelled")
        self._customer.get(cancel_page).raise_for_status()
        self._end("Ben", form, SOLD_OUT)

    def _cancel(self) -> None:
        _chapter("Cleo buys a widget, and cancels at the payment.")
        form = self._customer.choose()
        self._customer.press(self._customer.buy(form), "cancelled")
        self._end("Cleo", form, CANCELLED)
        self._payments.wait_for(short(form["order_id"]), "delivered once more")

    def _forget(self) -> None:
        _chapter("Dan buys a widget and forgets to pay. The shop now waits for one second. Then he remembers.")
        form = self._customer.choose()
        payment_page = self._customer.buy(form)
        self._end("Dan", form, TIMED_OUT)
        answer = self._customer.post(f"{payment_page}/paid")
        self._check("the payment service refuses his money", answer.status_code, httpx.codes.CONFLICT)

    def _pay_late(self) -> None:
        _chapter("Eve pays in time, but her bank is slow: the money arrives when the order is given up.")
        form = self._customer.choose(quantity=3)
        self._customer.press(self._customer.buy(form), "slow-bank")
        self._shop.wait_for(short(form["order_id"]), "was refunded")
        self._payments.wait_for(short(form["order_id"]), "webhook 'paid' delivered once more")
        self._end("Eve", form, REFUNDED)

    def _live_through_power_cuts(self) -> None:
        _chapter("Fay buys four widgets. The power fails when they are reserved, but that is not recorded yet.")
        form = self._customer.choose(quantity=4)
        try:
            self._customer.buy(form)
            self._check("the shop answers", "yes", "no")
        except httpx.TransportError:
            say("  Fay gets no answer.")
        self._shop.wait_until_killed()

        _chapter("The shop opens again. Fay presses Buy once more, and comes to the payment.")
        self._shop = self._open("shop", self._told)
        payment_page = self._customer.buy(form)

        _chapter("The power fails again, while the shop waits for the payment. Fay pays; the shop cannot be told.")
        self._shop.kill()
        self._customer.press(payment_page, "paid")
        self._payments.wait_for(short(form["order_id"]), "the shop does not answer")

        _chapter("The shop opens again, hears of the payment, and loses power when it is entered, but not recorded.")
        self._shop = self._open("shop", replace(self._told, die_after="enter_payment"))
        self._shop.wait_until_killed()

        _chapter("The shop opens for the last time.")
        self._shop = self._open("shop", self._told)
        self._end("Fay", form, PAID)
        self._payments.wait_for(short(form["order_id"]), "delivered once more")

    def _check_books(self) -> None:
        _chapter("What has come of it")
        shop = self._customer.read_shop_books()
        orders = {order.order_id: order for order in shop.orders}
        for ending in self._endings:
            order = orders[ending.order_id]
            self._check(f"{ending.who}'s order", " - ".join(order.history), " - ".join(ending.expected))
            self._check(f"{ending.who} has seen", ending.seen, order.status)
        self._check("orders", len(orders), len(self._endings))
        sold = [order for order in shop.orders if order.status is Status.DISPATCHED]
        inventory = sum(product.inventory for product in shop.products)
        self._check(
            "inventory, without what was dispatched", inventory, FULL_SHELF - sum(order.quantity for order in sold)
        )
        self._check_money(sold)

    def _check_money(self, sold: list[OrderRecord]) -> None:
        books = self._customer.read_payment_books(self._told.payments_url)
        payments, refunds = sum(books.payments.values()), sum(books.refunds.values())
        price = sum(order.amount_cents for order in sold)
        self._check("payments less refunds, for what was dispatched", euros(payments - refunds), euros(price))
        self._check("payments", self._names(books.payments), "Ann, Eve, Fay")
        self._check("refunds", self._names(books.refunds), "Eve")

    def _names(self, references: Collection[str]) -> str:
        return ", ".join(sorted(ending.who for ending in self._endings if ending.order_id in references))

    def _open(self, name: str, told: Settings) -> Program:
        program = Program(name, told, say)
        self._programs.append(program)
        return program

    def _end(self, who: str, form: dict[str, str], expected: tuple[str, ...]) -> None:
        order_id = form["order_id"]
        self._endings.append(Ending(who, order_id, expected, self._customer.outcome(order_id)))

    def _check(self, what: str, found: str | int, expected: str | int) -> None:
        right = found == expected
        self._is_right &= right
        verdict = paint("right", Colour.GREEN) if right else paint("WRONG", Colour.RED)
        say(f"  {verdict}  {what}: {found}" + ("" if right else f", but it should be {expected}"))


def play(database_url: str | None) -> bool:
    """Run the tour, and return whether everything has ended right.

    Args:
        database_url: a PostgreSQL database, in which it creates schemas and drops them at the end; `None` for SQLite
            files.
    """
    if database_url:
        os.environ[DATABASE_URL] = database_url
    with tempfile.TemporaryDirectory() as folder:
        told = Settings(
            shop_url=free_url(),
            payments_url=free_url(),
            secret=secrets.token_hex(),
            folder=folder,
            schema=f"tour_{secrets.token_hex(4)}",
            pay_within_seconds=3600,
            stage_seconds=0.1,
            webhook_twice=1,
            webhook_late=0,
        )
        with _places(told), Customer(told.shop_url) as customer:
            return Tour(told, customer).play()


def main() -> None:
    """Run the tour."""
    parser = argparse.ArgumentParser(prog="python -m examples.widget_store.tour", description="Plays the widget store.")
    parser.add_argument("--database", metavar="URL", default=os.environ.get(DATABASE_URL), help="a PostgreSQL database")
    # Exit in order, so that the programs of the tour end too.
    for ending in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(ending, lambda *_: sys.exit("The tour was ended."))
    try:
        ended_right = play(parser.parse_args().database)
    except (SettingsError, ProgramError, httpx.HTTPError, psycopg.OperationalError) as error:
        sys.exit(f"The tour failed: {error}")
    except KeyboardInterrupt:
        sys.exit("The tour was ended.")
    if not ended_right:
        sys.exit("An order has ended wrong; the lines above say which.")
    say(paint("\nEvery order has ended right.", Colour.GREEN))


@contextmanager
def _places(told: Settings) -> Iterator[None]:
    """Drop all schemas of the tour at the end."""
    places = [place_of(program, told) for program in ("shop", "payments")]
    try:
        yield
    finally:
        for place in places:
            if place.postgres_url is not None:
                drop_schema(place.postgres_url, place.books)
                drop_schema(place.postgres_url, place.workflows)


def _chapter(title: str) -> None:
    say(f"\n{paint(title, Colour.BOLD)}")


if __name__ == "__main__":
    main()
