"""The checkout example: its story on both stores, its books, its pages, and how it ends."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from examples.checkout import shop
from examples.checkout.shop import PRICE, STOCK, Books, Status
from examples.checkout.story import ShopProcess, play

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def open_shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ShopProcess]:
    """A shop that is open, on SQLite."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.delenv("DBOS_SYSTEM_DATABASE_URL", raising=False)
        with ShopProcess(tmp_path_factory.mktemp("shop")) as process:
            yield process


def test_the_story_ends_well_on_both_stores(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paid, cancelled, timed out, and paid exactly once although SIGKILL came before the payment."""
    monkeypatch.setenv("DBOS_SYSTEM_DATABASE_URL", database_url)
    assert play()


class TestBooks:
    """A step may run twice; what it writes counts once."""

    @pytest.fixture(autouse=True)
    def _empty_books(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        shop.open_books()

    def test_reserving_twice_takes_one(self) -> None:
        assert shop.reserve("a")
        assert shop.reserve("a")
        assert shop.read_books() == Books(STOCK - 1, 0, {"a": Status.WAITING})

    def test_paying_twice_is_booked_once(self) -> None:
        shop.reserve("a")
        shop.settle("a", Status.PAID)
        shop.settle("a", Status.PAID)
        assert shop.read_books() == Books(STOCK - 1, PRICE, {"a": Status.PAID})

    @pytest.mark.parametrize("status", [Status.CANCELLED, Status.TIMED_OUT])
    def test_giving_back_twice_gives_back_one(self, status: Status) -> None:
        shop.reserve("a")
        shop.settle("a", status)
        shop.settle("a", status)
        assert shop.read_books() == Books(STOCK, 0, {"a": status})

    def test_an_order_that_finds_nothing_stays_sold_out(self) -> None:
        for number in range(STOCK):
            assert shop.reserve(str(number))
        assert not shop.reserve("late")
        shop.settle("0", Status.CANCELLED)
        assert not shop.reserve("late")
        assert shop.read_books().orders["late"] == Status.SOLD_OUT

    def test_opening_again_keeps_the_books(self) -> None:
        shop.reserve("a")
        shop.open_books()
        assert shop.read_books().stock == STOCK - 1


class TestPages:
    """What a customer meets besides the story."""

    def test_buying_leads_to_the_payment_and_the_answer_to_the_order(self, open_shop: ShopProcess) -> None:
        order_id = str(uuid4())
        assert open_shop.post(f"/buy/{order_id}").url.path == f"/pay/{order_id}"
        assert open_shop.post(f"/pay/{order_id}/paid").url.path == f"/orders/{order_id}"
        assert open_shop.outcome(order_id) == Status.PAID
        assert f'<h1 class="paid">{Status.PAID}</h1>' in open_shop.get(f"/orders/{order_id}").text

    def test_the_first_answer_counts(self, open_shop: ShopProcess) -> None:
        order_id = open_shop.buy()
        open_shop.answer(order_id, "cancelled")
        open_shop.answer(order_id, "paid")
        assert open_shop.outcome(order_id) == Status.CANCELLED

    @pytest.mark.parametrize("path", ["/nothing", "/pay/{}", "/orders/{}", "/orders/{}/outcome", "/orders/1"])
    def test_what_does_not_exist_is_not_found(self, open_shop: ShopProcess, path: str) -> None:
        assert open_shop.get(path.format(uuid4())).status_code == 404

    def test_nobody_pays_for_an_order_that_does_not_exist(self, open_shop: ShopProcess) -> None:
        assert open_shop.post(f"/pay/{uuid4()}/paid").status_code == 404

    def test_the_last_bell_is_sold_once(self, open_shop: ShopProcess) -> None:
        while open_shop.books().stock:
            open_shop.answer(open_shop.buy(), "paid")
        order_id = str(uuid4())
        assert open_shop.post(f"/buy/{order_id}").url.path == f"/orders/{order_id}"
        assert open_shop.outcome(order_id) == Status.SOLD_OUT
        assert "<button disabled>" in open_shop.get("/").text


class TestProgram:
    """How the program starts and ends."""

    def test_ctrl_c_ends_it_with_a_friendly_line(self, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
        with ShopProcess(tmp_path) as process:
            process.buy()
            process.process.send_signal(signal.SIGINT)
            assert process.process.wait() == 0
        written = capfd.readouterr()
        assert "The shop is closed." in written.out
        assert written.err == ""

    def test_a_busy_port_is_said(self, tmp_path: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as busy:
            port = busy.getsockname()[1]
            ended = _run("--port", str(port), "--folder", str(tmp_path))
        assert ended.returncode == 1
        assert ended.stderr.startswith(f"Port {port} is busy.")

    def test_a_bad_database_url_is_said(self, tmp_path: Path) -> None:
        ended = _run("--port", "0", "--folder", str(tmp_path), DBOS_SYSTEM_DATABASE_URL="mysql://localhost/shop")
        assert ended.returncode == 1
        assert ended.stderr.startswith("The shop cannot open:")
        assert "Traceback" not in ended.stderr


def _run(*options: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "examples.checkout", *options]
    return subprocess.run(command, cwd=ROOT, env=os.environ | environment, capture_output=True, text=True, check=False)
