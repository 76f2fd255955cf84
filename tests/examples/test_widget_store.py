"""The widget store: its tour on both stores, its books, its refusals, and how its programs start, end and go on."""

import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urljoin
from uuid import uuid4

import httpx
import msgspec
import pytest

from examples.widget_store import signature
from examples.widget_store.customer import Customer
from examples.widget_store.payments import books as payment_books
from examples.widget_store.processes import Program, free_url
from examples.widget_store.settings import DATABASE_URL, Place, Settings, place_of
from examples.widget_store.shop import books
from examples.widget_store.shop.books import FULL_SHELF, NewOrder, Status
from examples.widget_store.timeline import say, short, tell
from examples.widget_store.wire import PaymentEvent, PaymentSession, PaymentStatus, SessionRequest
from tests.support import programs
from tidings import DBOSClient

ROOT = Path(__file__).parents[2]
SECRET = "known to two"
Forge = Callable[[bytes, int], str | None]
NOBODY = "123e4567-e89b-12d3-a456-426614174000"


class Store(NamedTuple):
    """Both programs, open on SQLite, and somebody who buys there."""

    told: Settings
    customer: Customer

    def order(self) -> tuple[str, str]:
        """Order a widget. Return the order's id and its payment page."""
        form = self.customer.choose()
        return form["order_id"], self.customer.buy(form)

    def ask(self, path: str, request: SessionRequest | None = None, secret: str = SECRET) -> httpx.Response:
        """Call the payment service as the shop does."""
        headers = {"Authorization": f"Bearer {secret}", "Accept": "*/*"}
        content = b"" if request is None else msgspec.json.encode(request)
        return self.customer.browser.post(self.told.payments_url + path, content=content, headers=headers)

    def call_webhook(self, body: bytes, header: str | None) -> httpx.Response:
        """Call the shop as the payment service does."""
        headers = {"Accept": "*/*"} | ({} if header is None else {signature.HEADER: header})
        url = f"{self.told.shop_url}/webhooks/payments"
        return self.customer.browser.post(url, content=body, headers=headers)

    def come_back(self, pressed: httpx.Response) -> str:
        """Follow the payment service's answer to a button, and return where it sends the customer."""
        place = urljoin(self.told.payments_url, pressed.headers["location"])
        location: str = self.customer.get(place).headers["location"]
        return location

    def status(self, order_id: str) -> Status:
        """Look how an order stands."""
        (found,) = [order for order in self.customer.read_shop_books().orders if order.order_id == order_id]
        return found.status


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("store")
    told = _told(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv(DATABASE_URL, raising=False)
        with Program("payments", told, say), Program("shop", told, say), Customer(told.shop_url) as customer:
            with closing(sqlite3.connect(folder / "shop.sqlite")) as database, database:
                database.execute("update products set inventory = 1000")
            yield Store(told, customer)


@pytest.fixture
def programs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for programs of the test's own, which are on SQLite."""
    monkeypatch.delenv(DATABASE_URL, raising=False)
    return tmp_path


@pytest.mark.unmigrated
@pytest.mark.long
def test_the_tour_ends_well(database_url: str) -> None:
    """Everybody's order ends right, whoever is killed when, and money, inventory and orders add up."""
    on_postgres = database_url.startswith("postgresql")
    ended = _run("tour", *(["--database", database_url] if on_postgres else []))
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Every order has ended right." in ended.stdout
    assert "WRONG" not in ended.stdout
    assert ended.stderr == ""


class TestWebhooks:
    """What the shop believes, and what it does not."""

    @pytest.mark.parametrize(
        ("forge", "sentence"),
        [
            (lambda body, now: None, "has no signature"),
            (lambda body, now: "t=soon,v1=me", "has no signature"),
            (lambda body, now: signature.sign("another secret", body, now), "signature is wrong"),
            (lambda body, now: signature.sign(SECRET, body + b" ", now), "signature is wrong"),
            (lambda body, now: signature.sign(SECRET, body, now).replace("t=", "t=1"), "signature is wrong"),
            (lambda body, now: signature.sign(SECRET, body, now - 301), "signature is stale"),
            (lambda body, now: signature.sign(SECRET, body, now + 901), "signature is stale"),
        ],
        ids=["none", "nonsense", "another secret", "another body", "another time", "stale", "early"],
    )
    def test_a_forged_one_is_refused(self, store: Store, forge: Forge, sentence: str) -> None:
        order_id, _ = store.order()
        body = msgspec.json.encode(_event(order_id))
        answer = store.call_webhook(body, forge(body, int(time.time())))
        assert (answer.status_code, store.status(order_id)) == (401, Status.RESERVED)
        assert sentence in answer.text
        assert "sign" in answer.text.partition(":")[2] or "header" in answer.text, "it says what to do"

    def test_a_repeated_one_changes_nothing(self, store: Store) -> None:
        order_id, payment_page = store.order()
        store.customer.press(payment_page, "paid")
        assert store.customer.outcome(order_id) == Status.DISPATCHED
        event = _event(order_id)
        for _ in range(3):
            assert store.call_webhook(*_signed(event)).status_code == 200
        (found,) = [order for order in store.customer.read_shop_books().orders if order.order_id == order_id]
        assert found.history == ["ordered", "inventory reserved", "paid", "dispatched"]
        assert order_id not in store.customer.read_payment_books(store.told.payments_url).refunds

    def test_many_at_once_are_one(self, store: Store) -> None:
        order_id, _ = store.order()
        with ThreadPoolExecutor(4) as threads:
            answers = list(threads.map(lambda _: store.call_webhook(*_signed(_event(order_id))), range(8)))
        assert {answer.status_code for answer in answers} == {200}
        assert store.customer.outcome(order_id) == Status.DISPATCHED

    def test_one_for_an_unknown_order_is_refused(self, store: Store) -> None:
        answer = store.call_webhook(*_signed(_event(NOBODY)))
        assert answer.status_code == 404
        assert answer.text.startswith("There is no such order. Check")

    @pytest.mark.parametrize(
        "body",
        [
            *(b"", b"{", b"[]", b'{"event_id": "1"}', b'{"status": "free"}'),
            *(b"\xff", b'{"event_id": "\xff"}', b'{"more": ' + b"[" * 100_000),
        ],
        ids=range(8),
    )
    def test_one_that_is_no_event_is_refused(self, store: Store, body: bytes) -> None:
        answer = store.call_webhook(body, signature.sign(SECRET, body, int(time.time())))
        assert answer.status_code == 400
        assert answer.text.startswith("The webhook is no payment event: ")

    @pytest.mark.parametrize("field", ["event_id", "session_id", "reference"])
    @pytest.mark.parametrize("value", ["", "\0", "a\0b", "../books", "x" * 2000, "ü", NOBODY + "\n"])
    def test_one_with_an_impossible_id_is_refused(self, store: Store, field: str, value: str) -> None:
        body = msgspec.json.encode(msgspec.structs.asdict(_event(NOBODY)) | {field: value})
        answer = store.call_webhook(body, signature.sign(SECRET, body, int(time.time())))
        assert answer.status_code == 400
        assert answer.text.startswith("The webhook is no payment event: ")
        assert field in answer.text

    def test_one_of_an_open_session_is_refused(self, store: Store) -> None:
        order_id, payment_page = store.order()
        answer = store.call_webhook(*_signed(_event(order_id, PaymentStatus.OPEN)))
        assert answer.status_code == 400
        assert answer.text.startswith("The webhook tells of no end")
        store.customer.press(payment_page, "paid")
        assert store.customer.outcome(order_id) == Status.DISPATCHED


class TestShop:
    """What a customer meets besides the tour."""

    def test_a_button_pressed_twice_is_one_order(self, store: Store) -> None:
        form = store.customer.choose()
        assert store.customer.buy(form, presses=2) == f"{store.told.payments_url}/pay/session-{form['order_id']}"
        orders = [order.order_id for order in store.customer.read_shop_books().orders]
        assert orders.count(form["order_id"]) == 1

    def test_the_order_page_follows_the_order(self, store: Store) -> None:
        order_id, payment_page = store.order()
        page = store.customer.get(f"/orders/{order_id}").text
        assert f'<h1 class="waiting">{Status.RESERVED}</h1>' in page
        assert payment_page in page
        store.customer.press(payment_page, "paid")
        store.customer.outcome(order_id)
        page = store.customer.get(f"/orders/{order_id}").text
        assert f'<h1 class="dispatched" data-ended>{Status.DISPATCHED}</h1>' in page
        assert "Handed to the carrier, 4 of 4" in page
        assert "setTimeout(follow" not in page

    def test_who_cancels_is_sent_to_the_cancel_page(self, store: Store) -> None:
        order_id, payment_page = store.order()
        place = store.come_back(store.customer.press(payment_page, "cancelled"))
        assert place == f"{store.told.shop_url}/orders/{order_id}/cancelled"
        assert store.customer.outcome(order_id) == Status.CANCELLED
        assert "Cancelled: the payment was cancelled; inventory back." in store.customer.get(place).text

    @pytest.mark.parametrize("path", ["/orders/{}", "/orders/{}/cancelled", "/orders/{}/outcome"])
    def test_an_unknown_order_is_not_found(self, store: Store, path: str) -> None:
        answer = store.customer.get(path.format(NOBODY))
        assert answer.status_code == 404
        assert "There is no such order. Check its number" in answer.text

    @pytest.mark.parametrize("path", ["/nothing", "/orders", "/orders/1", "/orders/%00", f"/orders/{NOBODY}/refund"])
    def test_an_unknown_page_is_not_found(self, store: Store, path: str) -> None:
        answer = store.customer.get(path)
        assert answer.status_code == 404
        assert "There is no such page. Check the address" in answer.text

    def test_a_page_is_not_pressed_like_a_button(self, store: Store) -> None:
        answer = store.customer.get("/buy")
        assert answer.status_code == 405
        assert "Use the pages&#x27; own links and buttons." in answer.text

    @pytest.mark.parametrize("quantity", ["", "0", "-1", "1.5", "100", "one", "٣", "9" * 5000])
    def test_an_impossible_quantity_is_refused(self, store: Store, quantity: str) -> None:
        answer = store.customer.post("/buy", store.customer.choose() | {"quantity": quantity})
        assert answer.status_code == 400
        assert "The quantity must be a whole number from 1 to 99." in answer.text

    @pytest.mark.parametrize("order_id", ["", "1", "../../books", "\0"])
    def test_a_form_without_an_order_is_refused(self, store: Store, order_id: str) -> None:
        answer = store.customer.post("/buy", store.customer.choose() | {"order_id": order_id})
        assert answer.status_code == 400
        assert "Open the product page and press Buy there." in answer.text

    def test_an_unknown_product_is_refused(self, store: Store) -> None:
        answer = store.customer.post("/buy", store.customer.choose() | {"product_id": "gadget"})
        assert answer.status_code == 400
        assert "There is no such product. Choose one" in answer.text

    @pytest.mark.long
    def test_without_the_payment_service_nothing_is_bought(self, programs_folder: Path) -> None:
        told = _told(programs_folder)
        with Program("shop", told, say), Customer(told.shop_url) as customer:
            form = customer.choose()
            cancel_page = customer.buy(form)
            assert cancel_page == f"/orders/{form['order_id']}/cancelled"
            why = "Cancelled: the payment service could not be reached; inventory back."
            assert why in customer.get(cancel_page).text
            assert f"{FULL_SHELF} left" in customer.get("/").text

    def test_the_last_widgets_are_sold_once(self, programs_folder: Path) -> None:
        told = _told(programs_folder)
        with Program("payments", told, say), Program("shop", told, say), Customer(told.shop_url) as customer:
            forms = [customer.choose(FULL_SHELF) for _ in range(4)]
            with ThreadPoolExecutor(4) as threads:
                places = list(threads.map(customer.buy, forms))
            assert sum("/pay/" in place for place in places) == 1
            assert sum(place.endswith("/cancelled") for place in places) == 3
            assert "<button disabled>Buy</button>" in customer.get("/").text
            for _ in range(2):
                assert customer.post("/restock").headers["location"] == "/"
            assert f"{FULL_SHELF} left" in customer.get("/").text


class TestPaymentService:
    """What the payment service refuses, and that it outlives its death."""

    @pytest.mark.parametrize("path", ["/sessions", "/sessions/session-{}/expire", "/sessions/session-{}/refund"])
    def test_only_the_shop_may_call_it(self, store: Store, path: str) -> None:
        order_id, _ = store.order()
        answer = store.ask(path.format(order_id), _request(order_id), secret="guessed")
        assert answer.status_code == 401
        assert answer.text.startswith("Only the shop may ask for this. Send its secret")
        assert store.status(order_id) is Status.RESERVED

    @pytest.mark.parametrize("path", ["/sessions/session-{}/expire", "/sessions/session-{}/refund"])
    def test_an_unknown_session_is_not_found(self, store: Store, path: str) -> None:
        answer = store.ask(path.format(NOBODY))
        assert answer.status_code == 404
        assert answer.text.startswith("There is no such payment session. Go back to the shop")

    @pytest.mark.parametrize("path", ["/paid", "/cancelled", "/slow-bank"])
    def test_an_unknown_session_cannot_be_paid(self, store: Store, path: str) -> None:
        answer = store.customer.post(f"{store.told.payments_url}/pay/session-{NOBODY}{path}")
        assert answer.status_code == 404

    def test_what_was_not_paid_is_not_given_back(self, store: Store) -> None:
        order_id, _ = store.order()
        answer = store.ask(f"/sessions/session-{order_id}/refund")
        assert answer.status_code == 409
        assert answer.text.startswith("Nothing was paid in this session")

    def test_a_reference_has_one_session(self, store: Store) -> None:
        request = _request(str(uuid4()))
        first, second = (store.ask("/sessions", request) for _ in range(2))
        assert msgspec.json.decode(first.content, type=PaymentSession).status is PaymentStatus.OPEN
        assert first.content == second.content
        answer = store.ask("/sessions", msgspec.structs.replace(request, amount_cents=1))
        assert answer.status_code == 409
        assert answer.text.startswith("This reference has a session for another amount.")

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"reference": "my order"}, "The reference must be a UUID"),
            ({"amount_cents": 0}, "The amount must be more than nothing."),
            ({"amount_cents": "much"}, "This is no session request: "),
        ],
    )
    def test_a_bad_request_is_refused(self, store: Store, change: dict[str, str | int], sentence: str) -> None:
        answer = store.ask("/sessions", msgspec.structs.replace(_request(str(uuid4())), **change))
        assert answer.status_code == 400
        assert answer.text.startswith(sentence)

    def test_what_is_no_text_is_refused(self, store: Store) -> None:
        headers = {"Authorization": f"Bearer {SECRET}"}
        body = b'{"reference": "\xff"}'
        answer = store.customer.browser.post(f"{store.told.payments_url}/sessions", content=body, headers=headers)
        assert answer.status_code == 400
        assert "This is no session request: " in answer.text

    def test_the_first_answer_counts(self, store: Store) -> None:
        order_id, payment_page = store.order()
        store.customer.press(payment_page, "cancelled")
        assert store.come_back(store.customer.post(f"{payment_page}/paid")).endswith("/cancelled")
        assert store.customer.outcome(order_id) == Status.CANCELLED
        assert "You have cancelled this payment." in store.customer.get(payment_page).text

    def test_a_payment_whose_webhook_is_late_counts(self, programs_folder: Path) -> None:
        """The time limit passes, but the payment service says: paid. What its webhook says later changes nothing."""
        told = replace(_told(programs_folder), pay_within_seconds=0, webhook_late=1, webhook_late_seconds=3600)
        with Program("payments", told, say), Customer(told.shop_url) as customer:
            with Program("shop", replace(told, die_after="open_payment_session"), say) as shop:
                form = customer.choose()
                with pytest.raises(httpx.TransportError):
                    customer.buy(form)
                shop.wait_until_killed()
            order_id = form["order_id"]
            customer.press(f"{told.payments_url}/pay/session-{order_id}", "paid")
            with Program("shop", told, say) as shop:
                assert customer.outcome(order_id) == Status.DISPATCHED
                shop.wait_for(short(order_id), "no message came in time; the payment service says: paid")
                assert Store(told, customer).call_webhook(*_signed(_event(order_id))).status_code == 200
                shop.wait_for(short(order_id), "nothing to refund")
                assert Store(told, customer).status(order_id) is Status.DISPATCHED
                assert customer.read_payment_books(told.payments_url).refunds == {}

    def test_a_refused_webhook_is_not_delivered_again(self, programs_folder: Path) -> None:
        """The page that is called here refuses it: it expects another form. The time limit would be days."""
        told = replace(_told(programs_folder), webhook_twice=1)
        with (
            Program("payments", told, say) as payments,
            Program("shop", told, say),
            Customer(told.shop_url) as customer,
        ):
            request = msgspec.structs.replace(_request(NOBODY), webhook_url=f"{told.shop_url}/buy")
            url = msgspec.json.decode(Store(told, customer).ask("/sessions", request).content, type=PaymentSession).url
            customer.press(url, "paid")
            payments.wait_for(short(NOBODY), "webhook 'paid' refused, and not sent again: The form has no order_id.")
            with DBOSClient(system_database_url=place_of("payments", told).workflows_url) as client:
                assert client.retrieve_workflow(_event(NOBODY).event_id).get_result() is False

    def test_it_goes_on_where_it_was_killed(self, programs_folder: Path) -> None:
        told = _told(programs_folder)
        with Program("shop", told, say), Customer(told.shop_url) as customer:
            form = customer.choose()
            with Program("payments", told, say):
                payment_page = customer.buy(form)
            with Program("payments", told, say):
                customer.press(payment_page, "paid")
                assert customer.outcome(form["order_id"]) == Status.DISPATCHED


class TestBooks:
    """A step may run twice; what it writes counts once. In both databases."""

    @pytest.fixture(autouse=True)
    def _empty_books(self, database_url: str, tmp_path: Path) -> None:
        on_postgres = database_url.startswith("postgresql")
        for program in (books, payment_books):
            name = program.__name__.split(".")[-2]
            place = name if on_postgres else str(tmp_path / f"{name}.sqlite")
            for _ in range(2):
                program.open_books(Place(place, "", database_url if on_postgres else None))

    def test_creating_and_reserving(self) -> None:
        for _ in range(2):
            assert books.create_order(NewOrder("a", "widget", 5)) == 5 * 2400
        for _ in range(2):
            assert books.reserve_inventory("a")
        assert self._left() == FULL_SHELF - 5

    def test_paying_and_dispatching(self) -> None:
        self._reserve("a")
        for _ in range(2):
            books.enter_payment("a")
        for _ in range(2):
            books.enter_dispatch("a")
        assert self._history("a") == ["ordered", "inventory reserved", "paid", "dispatched"]

    def test_cancelling_and_refunding(self) -> None:
        self._reserve("a")
        for _ in range(2):
            books.cancel_order("a", "no")
        for _ in range(2):
            books.enter_refund("a")
        assert self._left() == FULL_SHELF
        happened = ["ordered", "inventory reserved", "cancelled: no; inventory back"]
        assert self._history("a") == [*happened, "payment came too late: refunded"]

    def test_what_was_sold_out_once_stays_cancelled(self) -> None:
        self._reserve("a", FULL_SHELF)
        books.create_order(NewOrder("b", "widget", 1))
        assert not books.reserve_inventory("b")
        books.cancel_order("a", "no")
        assert not books.reserve_inventory("b")
        assert self._left() == FULL_SHELF

    def test_an_end_is_not_changed(self) -> None:
        self._reserve("a")
        books.enter_payment("a")
        books.cancel_order("a", "no")
        assert self._left() == FULL_SHELF - 1
        self._reserve("b")
        books.cancel_order("b", "no")
        books.enter_payment("b")
        books.enter_dispatch("b")
        assert {order.order_id: order.status for order in books.read_books(2).orders} == {
            "a": Status.PAID,
            "b": Status.CANCELLED,
        }

    def test_a_payment_and_its_refund(self) -> None:
        payment_books.enter_session("s", _request("a"))
        assert not payment_books.enter_refund("s")
        for _ in range(2):
            payment_books.enter_session("s", _request("a"))
            payment_books.end_session("s", PaymentStatus.PAID)
            payment_books.enter_late_payment("s")
            assert payment_books.enter_refund("s")
        payment_books.end_session("s", PaymentStatus.CANCELLED)
        found = payment_books.find_session("s")
        assert found is not None
        assert (found.request, found.status) == (_request("a"), PaymentStatus.PAID)
        assert payment_books.read_books() == payment_books.Books({"a": 2400}, {"a": 2400})

    def _reserve(self, order_id: str, quantity: int = 1) -> None:
        books.create_order(NewOrder(order_id, "widget", quantity))
        assert books.reserve_inventory(order_id)

    def _left(self) -> int:
        (product,) = books.read_products()
        return product.inventory

    def _history(self, order_id: str) -> list[str]:
        found = books.find_order(order_id)
        assert found is not None
        return found.history


class TestPrograms:
    """How the programs start and end."""

    def test_ctrl_c_ends_a_program_that_waits(self, programs_folder: Path) -> None:
        told = _told(programs_folder)
        lines: list[str] = []
        with Program("payments", told, say), Program("shop", told, lines.append) as shop:
            with Customer(told.shop_url) as customer:
                customer.buy(customer.choose())
            shop.close()
        assert shop.process.returncode == 0
        assert lines[-1] == "The shop program is closed. Open it again, and everything continues."

    def test_a_busy_port_is_said(self, programs_folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as busy:
            port = busy.getsockname()[1]
            told = replace(_told(programs_folder), shop_url=f"http://127.0.0.1:{port}")
            ended = _run("shop", **told.environment())
        assert ended.returncode == 1
        assert ended.stderr.startswith(f"Port {port} is busy.")

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            ({"WIDGET_STORE_SECRET": ""}, "WIDGET_STORE_SECRET is not set."),
            ({"WIDGET_STORE_PAY_WITHIN_SECONDS": "soon"}, "has a wrong value: Expected `float`"),
            ({"WIDGET_STORE_FOLDER": "/nowhere/at/all"}, "There is no folder /nowhere/at/all."),
            ({DATABASE_URL: "sqlite:///shop.sqlite"}, "must be the URL of a PostgreSQL database here"),
            ({DATABASE_URL: "postgresql://127.0.0.1:1/shop"}, "connection failed"),
        ],
    )
    def test_a_bad_setting_is_said(self, programs_folder: Path, change: dict[str, str], sentence: str) -> None:
        ended = _run("shop", **(_told(programs_folder).environment() | change))
        assert ended.returncode == 1
        assert ended.stderr.startswith("The shop program cannot open: ")
        assert sentence in ended.stderr
        assert "Traceback" not in ended.stderr

    @pytest.mark.long
    def test_the_demo_starts_what_is_killed_again(self, programs_folder: Path) -> None:
        told = _told(programs_folder)
        command = programs.python("-m", "examples.widget_store")
        environment = _environment() | told.environment()
        with programs.start(*command, env=environment, stdout=subprocess.PIPE) as demo:
            assert demo.stdout is not None
            try:
                open_at = r"The (shop|payments) program is open at http://[\d.:]+, as process (\d+)\."
                said = (re.search(open_at, line) for line in demo.stdout)
                opened = (found for found in said if found)
                processes = {found[1]: found[2] for found in (next(opened), next(opened))}
                with Customer(told.shop_url) as customer:
                    form = customer.choose()
                    payment_page = customer.buy(form)
                    os.kill(int(processes["shop"]), signal.SIGKILL)
                    assert next(opened)[1] == "shop"
                    customer.press(payment_page, "paid")
                    assert customer.outcome(form["order_id"]) == Status.DISPATCHED
            finally:
                demo.send_signal(signal.SIGINT)
                rest = demo.stdout.read()
        assert demo.returncode == 0
        assert "The shop program is closed." in rest
        assert "The payments program is closed." in rest

    @pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
    def test_the_programs_end_with_the_demo(self, programs_folder: Path, ending: signal.Signals) -> None:
        """Its output, which they share, ends only when all three have ended."""
        command = programs.python("-c", _AS_FROM_A_TERMINAL)
        environment = _environment() | _told(programs_folder).environment()
        with programs.start(*command, env=environment, stdout=subprocess.PIPE) as demo:
            assert demo.stdout is not None
            opened = (line for line in demo.stdout if "program is open at" in line)
            assert next(opened) != next(opened)
            demo.send_signal(ending)
            rest = demo.stdout.read()
        assert demo.returncode == (-ending if ending is signal.SIGKILL else 0)
        assert "The shop program is closed." in rest
        assert "The payments program is closed." in rest

    def test_a_program_ends_with_the_process_that_holds_it(self, programs_folder: Path) -> None:
        lines: list[str] = []
        with Program("payments", _told(programs_folder), lines.append) as payments:
            assert payments.process.stdin is not None
            payments.process.stdin.close()
            payments.process.wait()
        assert lines[-1].startswith("The payments program is closed.")

    def test_a_terminal_that_is_closed_fails_nothing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        terminal, end = os.openpty()
        os.close(terminal)
        closed = os.fdopen(end, "w")
        monkeypatch.setattr(sys, "stdout", closed)
        try:
            tell("nobody reads this")
        finally:
            with suppress(OSError):
                closed.close()

    def test_the_demo_ends_with_a_program_that_cannot_open(self, programs_folder: Path) -> None:
        told = replace(_told(programs_folder), folder=str(programs_folder / "missing"))
        ended = _run(None, **told.environment())
        assert ended.returncode == 1
        assert ended.stderr.startswith("The widget store cannot open: There is no folder")


# `nohup make test` ignores SIGHUP, and whatever the tests start would inherit that.
_AS_FROM_A_TERMINAL = """
import runpy, signal
signal.signal(signal.SIGHUP, signal.SIG_DFL)
runpy.run_module("examples.widget_store", run_name="__main__", alter_sys=True)
"""


def _told(folder: Path) -> Settings:
    return Settings(
        shop_url=free_url(),
        payments_url=free_url(),
        secret=SECRET,
        folder=str(folder),
        pay_within_seconds=3600,
        stage_seconds=0,
        webhook_late=0,
    )


def _environment() -> dict[str, str]:
    """What a program of the test's own gets, with the packages that the tests use."""
    return {name: value for name, value in programs.environment().items() if name != DATABASE_URL}


def _run(module: str | None, *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    name = "examples.widget_store" if module is None else f"examples.widget_store.{module}"
    return programs.run(*programs.python("-m", name, *options), env=_environment() | environment)


def _event(order_id: str, status: PaymentStatus = PaymentStatus.PAID) -> PaymentEvent:
    return PaymentEvent(f"session-{order_id}-{status}", f"session-{order_id}", order_id, status)


def _signed(event: PaymentEvent) -> tuple[bytes, str]:
    body = msgspec.json.encode(event)
    return body, signature.sign(SECRET, body, int(time.time()))


def _request(reference: str) -> SessionRequest:
    return SessionRequest(reference, "1 x widget", 2400, "http://shop/webhook", "http://shop/", "http://shop/no")
