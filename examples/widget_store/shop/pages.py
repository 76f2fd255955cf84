"""The shop's pages."""

from datetime import datetime
from html import escape

from examples.widget_store import layout
from examples.widget_store.layout import euros
from examples.widget_store.shop.books import Books, OrderRecord, Product, Status
from examples.widget_store.shop.dispatch import STAGES
from examples.widget_store.timeline import short

_WIDGET = """<svg viewBox="0 0 144 108" aria-hidden="true"><g fill="none" stroke="#8a6414" stroke-width="3">
  <path stroke="#c9962c" stroke-width="13" stroke-dasharray="12.2 12.2" d="M52 18a36 36 0 1 1-.1 0z"/>
  <circle cx="52" cy="54" r="32" fill="#e3b23c"/><circle cx="52" cy="54" r="11" fill="#f4f1ea"/>
  <path stroke="#fff9" d="M30 46a24 24 0 0 1 14-14"/>
  <path stroke="#a9b2b8" stroke-width="9" stroke-dasharray="8.1 8.1" d="M109 53a18 18 0 1 1-.1 0z"/>
  <circle stroke="#6b757c" cx="109" cy="71" r="16" fill="#c6cdd2"/><circle stroke="#6b757c" cx="109" cy="71" r="5"/>
  </g></svg>"""

# Shows the order's status, and refreshes it until the order has ended, even if the shop is killed and restarted. A link
# that has the keyboard focus keeps it.
_FOLLOW = """<noscript><meta http-equiv="refresh" content="2"></noscript>
<script>
  const follow = async () => {
    try {
      const fresh = new DOMParser().parseFromString(await (await fetch(location.pathname)).text(), "text/html");
      const [before, after] = [document.querySelector("main"), fresh.querySelector("main")];
      if (!after) throw "no page";
      if (before.innerHTML !== after.innerHTML) {
        const focused = before.contains(document.activeElement) && document.activeElement.getAttribute("href");
        before.replaceWith(after);
        [...after.querySelectorAll("a")].find(link => focused && link.getAttribute("href") === focused)?.focus();
      }
    } catch {
      document.getElementById("notice").textContent = "The shop does not answer. This page goes on when it is back.";
    }
    if (!document.querySelector("main [data-ended]")) setTimeout(follow, 400);
  };
  setTimeout(follow, 400);
</script>"""

_RESTOCK = '<button class="quiet" formaction="/restock">Fill the shelf again</button>'

_EXPLAINED = {
    Status.CREATED: "Your order is being prepared.",
    Status.RESERVED: "Your widgets are reserved until the payment arrives, or its time is up.",
    Status.PAID: "Thank you! Your widgets are about to leave.",
    Status.DISPATCHED: "Your widgets are on their way to you.",
    Status.CANCELLED: "You have not bought anything.",
}

_BANK_PAYS = "Your bank is paying. Your widgets are reserved until the money arrives, or the time for it is up."


def product(books: Books, new_order_id: str) -> str:
    """Return the page with the products and the last orders."""
    orders = "".join(
        f'<li><a href="/orders/{order.order_id}"><code>{short(order.order_id)}</code></a>'
        f"<span>{order.quantity} for {euros(order.amount_cents)}</span>{_badge(order.status)}</li>"
        for order in books.orders
    )
    offers = "".join(_offer(each, new_order_id) for each in books.products)
    return _page("The widget store", f"{offers}{f'<h2>Last orders</h2><ul>{orders}</ul>' if orders else ''}")


def order(order_id: str, found: OrderRecord | None, payment_url: str | None, stages_done: int) -> str:
    """Return the page of an order. It follows the order until its end.

    Args:
        order_id: its id.
        found: the order, or `None` if it was not recorded yet.
        payment_url: the address of its payment page, if it is known yet.
        stages_done: how many stages of its dispatch are finished.
    """
    status = Status.CREATED if found is None else found.status
    ended = " data-ended" if status in {Status.DISPATCHED, Status.CANCELLED} else ""
    pay = f'<a class="button" href="{escape(payment_url or "")}">Go to the payment</a>'
    bank_pays = found is not None and found.bank_pays and status is Status.RESERVED
    return _page(
        f"Order {short(order_id)}",
        f"""<p class="soft">Order <code>{short(order_id)}</code></p>
        <h1 class="{_style(status)}"{ended}>{status}</h1>
        <p>{_BANK_PAYS if bank_pays else _EXPLAINED[status]}</p>
        {pay if status is Status.RESERVED and payment_url and not bank_pays else ""}
        {_dispatch(stages_done) if status in {Status.PAID, Status.DISPATCHED} else ""}
        {_items(found) if found else ""}""",
        end="" if ended else _FOLLOW,
    )


def cancelled(order_id: str, found: OrderRecord | None) -> str:
    """Return the page for a customer who has cancelled, or who had nothing to pay.

    The payment service reports a cancellation by a webhook, which may come later. Until then the page follows the
    order.
    """
    why = found.history[-1] if found and found.status is Status.CANCELLED else ""
    if why:
        end, title = "", '<h1 class="cancelled" data-ended>Nothing was bought</h1>'
    else:
        end, title = _FOLLOW, '<h1 class="waiting">Being cancelled</h1>'
    return _page(
        f"Order {short(order_id)}",
        f"""<p class="soft">Order <code>{short(order_id)}</code></p>
        {title}
        <p>{escape(why.capitalize()) or "The shop waits for word from the payment service, and shows it here"}.</p>
        <a class="button" href="/">Back to the widgets</a>
        <p><a href="/orders/{order_id}">See the order</a></p>""",
        end=end,
    )


def _offer(product: Product, new_order_id: str) -> str:
    left = f"{product.inventory} left" if product.inventory else "sold out"
    return f"""{_WIDGET}<h1>{escape(product.name)}</h1>
        <p class="soft">{escape(product.description)}</p>
        <p class="row"><span class="price">{euros(product.price_cents)}</span> <span class="soft">{left}</span></p>
        <form method="post" action="/buy">
          <input type="hidden" name="order_id" value="{new_order_id}">
          <input type="hidden" name="product_id" value="{escape(product.product_id)}">
          <label class="row">How many? <input type="number" name="quantity" value="1" min="1" max="99"></label>
          <button{"" if product.inventory else " disabled"}>Buy</button>
          {"" if product.inventory else _RESTOCK}
        </form>"""


def _items(order: OrderRecord) -> str:
    lines = "".join(
        f'<li><span>{escape(what)}</span><span class="soft">{_clock(at_ms)}</span></li>'
        for what, at_ms in zip(order.history, order.moments_ms, strict=True)
    )
    return f"""<h2>What</h2><ul><li><span>{order.quantity} × {escape(order.product_name)}</span>
        <span>{euros(order.amount_cents)}</span></li></ul><h2>What happened</h2><ol>{lines}</ol>"""


def _dispatch(stages_done: int) -> str:
    stage = STAGES[stages_done - 1].capitalize() if stages_done else "Paid"
    return f"""<progress max="{len(STAGES)}" value="{stages_done}">{stages_done} of {len(STAGES)}</progress>
        <p class="soft">{stage}, {stages_done} of {len(STAGES)}</p>"""


def _badge(status: Status) -> str:
    return f'<span class="{_style(status)}">{status}</span>'


def _style(status: Status) -> str:
    return status.split()[0]


def _clock(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000).astimezone().strftime("%H:%M:%S")


def _page(title: str, body: str, end: str = "") -> str:
    return layout.page('<a href="/">The widget store</a>', body, title=title, end=end)
