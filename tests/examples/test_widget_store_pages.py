"""The widget store's pages: what they show when, and that everybody can read them."""

import re
from pathlib import Path

import httpx
import pytest

from examples.widget_store import layout
from examples.widget_store.customer import Customer
from examples.widget_store.payments import pages as payment_pages
from examples.widget_store.payments.books import SessionRecord
from examples.widget_store.processes import Program, free_url
from examples.widget_store.settings import DATABASE_URL, Place, Settings
from examples.widget_store.shop import books, pages
from examples.widget_store.shop.books import NewOrder, OrderRecord, Status
from examples.widget_store.timeline import say
from examples.widget_store.wire import PaymentStatus, SessionRequest

ORDER = "123e4567-e89b-12d3-a456-426614174000"
URL = f"http://payments/pay/session-{ORDER}"

# WCAG 2.2, level AA: of text, and of the edges of what is filled in or pressed.
TEXT, EDGES = 4.5, 3.0


# How a session stands where it is entered.
STANDS = [PaymentStatus.OPEN, PaymentStatus.PAID, PaymentStatus.CANCELLED, PaymentStatus.EXPIRED]


# --- contrast, computed from the style --------------------------------------------------------------------


def _themes() -> dict[str, dict[str, str]]:
    """Return the colours of each kind of page, light and dark, as a browser resolves them."""
    light_style, _, dark_style = layout._STYLE.partition("@media (prefers-color-scheme: dark)")
    light = _colours(light_style, ":root")
    light_payments = light | _colours(light_style, r"\.payments")
    dark = light | _colours(dark_style, ":root")
    # A later rule of the same class wins; in the dark all of them are later.
    dark_payments = light_payments | _colours(dark_style, ":root") | _colours(light_style, r"\.payments")
    dark_payments |= _colours(dark_style, r"\.payments")
    return {"shop": light, "payments": light_payments, "shop, dark": dark, "payments, dark": dark_payments}


def _colours(style: str, selector: str) -> dict[str, str]:
    found = re.search(rf"{selector} {{(.*?)}}", style, re.DOTALL)
    assert found is not None
    return dict(re.findall(r"--([\w-]+): (#\w+)", found[1]))


def _luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * each for each in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    red, green, blue = (each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _contrast(one: str, other: str) -> float:
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("theme", _themes())
def test_every_text_can_be_read(theme: str) -> None:
    colours = _themes()[theme]
    pairs = [(each, "paper") for each in ("ink", "soft", "main", "good", "bad", "wait")]
    pairs += [("ink", "back"), ("soft", "back"), ("on-main", "main")]
    weak = {pair: round(_contrast(colours[pair[0]], colours[pair[1]]), 2) for pair in pairs}
    assert not {pair: contrast for pair, contrast in weak.items() if contrast < TEXT}


@pytest.mark.parametrize("theme", _themes())
def test_the_edges_of_what_is_pressed_are_seen(theme: str) -> None:
    colours = _themes()[theme]
    for edge in ("edge", "main", "ink"):  # of fields and quiet buttons, of buttons, and of what has the focus
        assert _contrast(colours[edge], colours["paper"]) >= EDGES, edge


def test_the_style_uses_no_colour_that_is_not_checked() -> None:
    """Only shadows have one of their own."""
    rules = layout._STYLE.split("* { box-sizing")[1]
    assert re.findall(r"#\w+", rules) == ["#0002", "#0001"]
    assert set(re.findall(r"var\(--([\w-]+)\)", rules)) <= set(_themes()["shop"])


def test_the_contrast_is_that_of_the_standard() -> None:
    assert _contrast("#000", "#ffffff") == pytest.approx(21)
    assert _contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.01)
    assert _contrast("#1d252c", "#2f8a73") < TEXT, "links on dark were too dim once"


def test_who_uses_the_keyboard_sees_where_it_is() -> None:
    assert re.search(r":focus-visible { outline: 3px solid var\(--ink\)", layout._STYLE)
    assert "outline: none" not in layout._STYLE


# --- pages ------------------------------------------------------------------------------------------------


def _order(status: Status, *history: str, bank_pays: bool = False) -> OrderRecord:
    return OrderRecord(ORDER, "The brass widget", 1, 2400, status, list(history), [0] * len(history), bank_pays)


def _session(status: PaymentStatus) -> SessionRecord:
    asked = SessionRequest(ORDER, "1 x widget", 2400, "http://shop/webhook", "http://shop/ok", "http://shop/no")
    return SessionRecord(f"session-{ORDER}", asked, status)


def test_a_cancelled_order_follows_until_it_is_cancelled() -> None:
    """The webhook that cancels it may come later than the customer."""
    for found in (None, _order(Status.CREATED), _order(Status.RESERVED, "ordered", "inventory reserved")):
        page = pages.cancelled(ORDER, found)
        assert "Being cancelled" in page
        assert "Nothing was bought" not in page
        assert "setTimeout(follow" in page
        assert '<meta http-equiv="refresh"' in page
        assert 'id="notice"' in page
    page = pages.cancelled(ORDER, _order(Status.CANCELLED, "ordered", "cancelled: the payment was cancelled"))
    assert '<h1 class="cancelled" data-ended>Nothing was bought</h1>' in page
    assert "Cancelled: the payment was cancelled." in page
    assert "setTimeout(follow" not in page


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("bank_pays", [False, True])
def test_a_payment_is_offered_only_where_one_is_wanted(status: Status, bank_pays: bool) -> None:
    page = pages.order(ORDER, _order(status, "ordered", bank_pays=bank_pays), URL, 0)
    assert ("Go to the payment" in page) == (status is Status.RESERVED and not bank_pays)
    assert ("Your bank is paying" in page) == (status is Status.RESERVED and bank_pays)


@pytest.mark.parametrize("status", STANDS)
@pytest.mark.parametrize("bank_pays", [False, True])
def test_nobody_is_asked_to_pay_twice(status: PaymentStatus, bank_pays: bool) -> None:
    page = payment_pages.payment(_session(status), bank_pays=bank_pays)
    assert ("<button" in page) == (status is PaymentStatus.OPEN and not bank_pays)
    if status is not PaymentStatus.OPEN or bank_pays:
        assert f'href="/pay/session-{ORDER}/return"' in page
    if bank_pays and status in {PaymentStatus.CANCELLED, PaymentStatus.EXPIRED}:
        assert "You were not charged" not in page, "the bank's money is on its way"
        assert "sends it back" in page


@pytest.mark.parametrize("status", STANDS)
def test_who_waits_for_the_shop_is_told_how_it_stands(status: PaymentStatus) -> None:
    page = payment_pages.shop_is_away(_session(status))
    assert "The shop does not answer" in page
    assert '<meta http-equiv="refresh" content="1">' in page
    assert ("Thank you" in page) == (status is PaymentStatus.PAID)


@pytest.mark.parametrize(
    "page",
    [
        pages.cancelled(ORDER, None),
        pages.order(ORDER, _order(Status.RESERVED, "ordered"), URL, 0),
        payment_pages.payment(_session(PaymentStatus.OPEN)),
        payment_pages.shop_is_away(_session(PaymentStatus.PAID)),
        layout.refusal("No.", "http://shop"),
    ],
)
def test_every_page_fits_a_phone_and_has_one_heading(page: str) -> None:
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page
    assert page.count("<h1") == 1
    assert '<html lang="en"' in page
    assert "tabindex" not in page, "the order of the keyboard is that of the page"


@pytest.mark.parametrize(
    "page",
    [
        pages.product(books.Books([], []), ORDER),
        pages.cancelled(ORDER, None),
        pages.order(ORDER, _order(Status.RESERVED, "ordered"), URL, 0),
        pages.order(ORDER, _order(Status.DISPATCHED, "ordered"), URL, 4),
        payment_pages.payment(_session(PaymentStatus.OPEN)),
        payment_pages.payment(_session(PaymentStatus.PAID)),
        payment_pages.shop_is_away(_session(PaymentStatus.PAID)),
        layout.refusal("No.", "http://shop"),
    ],
)
def test_who_presses_while_a_program_is_away_waits_on_the_page(page: str) -> None:
    """The browser's own error page would ask nobody again. What is said is read aloud, too."""
    assert page.count('id="notice"') == 1
    assert '<p class="soft" id="notice" role="status"></p></main>' in page
    for pressed in ('addEventListener("submit"', 'addEventListener("click"', 'fetch(new URL("/books", url)'):
        assert page.count(pressed) == 1


# --- what the customer sees of real programs ------------------------------------------------------------------


def _told(folder: Path) -> Settings:
    return Settings(
        shop_url=free_url(),
        payments_url=free_url(),
        secret="known to two",
        folder=str(folder),
        pay_within_seconds=3600,
        stage_seconds=0,
        webhook_twice=0,
        webhook_late=0,
    )


def _buy(customer: Customer) -> tuple[str, str]:
    form = customer.choose()
    return form["order_id"], customer.buy(form)


def test_who_pays_while_the_shop_is_down_gets_there_when_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(DATABASE_URL, raising=False)
    told = _told(tmp_path)
    with Program("payments", told, say) as payments, Customer(told.shop_url) as customer:
        with Program("shop", told, say) as shop:
            orders = {button: _buy(customer) for button in ("paid", "cancelled", "slow-bank", "open")}
            shop.kill()
        for button in ("paid", "cancelled"):
            order_id, payment_page = orders[button]
            assert customer.press(payment_page, button).headers["location"] == f"/pay/session-{order_id}/return"
            waiting = customer.get(f"{payment_page}/return")
            assert (waiting.status_code, "location" in waiting.headers) == (503, False)
            assert "The shop does not answer" in waiting.text
            assert "Nothing is lost meanwhile." in waiting.text
        with Program("shop", told, say):
            for program in (told.shop_url, told.payments_url):  # What a page asks, before it leaves for that program.
                assert httpx.head(f"{program}/books").status_code == 200
            _come_back(told, customer, *orders["paid"], "")
            _come_back(told, customer, *orders["cancelled"], "/cancelled")
            order_id, _ = orders["paid"]
            assert customer.get(f"/orders/{order_id}/cancelled").headers["location"] == f"/orders/{order_id}"
            _pay_by_slow_bank(customer, payments, *orders["slow-bank"])
            assert "Go to the payment" in customer.get(f"/orders/{orders['open'][0]}").text


def _come_back(told: Settings, customer: Customer, order_id: str, payment_page: str, end: str) -> None:
    there = customer.get(f"{payment_page}/return").headers["location"]
    assert there == f"{told.shop_url}/orders/{order_id}{end}"
    customer.outcome(order_id)
    assert "data-ended" in customer.get(there).text


def _pay_by_slow_bank(customer: Customer, payments: Program, order_id: str, payment_page: str) -> None:
    """Nobody is asked to pay again, neither by the payment service nor by the shop."""
    assert "Go to the payment" in customer.get(f"/orders/{order_id}").text
    assert customer.press(payment_page, "slow-bank").headers["location"] == f"/pay/session-{order_id}"
    page = customer.get(payment_page).text
    assert "Your bank is paying" in page
    assert "<button" not in page
    payments.wait_for(order_id[:8], "webhook 'processing' delivered")
    page = customer.get(f"/orders/{order_id}").text
    assert "Your bank is paying" in page
    assert "Go to the payment" not in page


def test_only_an_order_that_exists_can_be_paid_by_a_bank(tmp_path: Path) -> None:
    for _ in range(2):  # A file that is there gets the table that it lacks.
        books.open_books(Place(str(tmp_path / "shop.sqlite"), "", None))
    books.create_order(NewOrder(ORDER, "widget", 1))
    assert not books.enter_bank_order("another")
    for _ in range(2):
        assert books.enter_bank_order(ORDER)
    found = books.find_order(ORDER)
    assert found is not None
    assert (found.bank_pays, found.history) == (True, ["ordered"])
