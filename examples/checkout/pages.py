"""The pages: plain HTML, made on the server."""

from examples.checkout.shop import PRICE, Books, Status

_STYLE = """
  :root { color-scheme: light dark; --ink: #23303b; --soft: #6b7a86; --line: #dfe4e8; --paper: #fff; --back: #f3f1ec;
          --main: #1f6f5c; --good: #1f7a4d; --bad: #a8432f; --wait: #96690a }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #e6e9ec; --soft: #98a4ae; --line: #36414a; --paper: #1d252c; --back: #12181d;
            --main: #2f8a73; --good: #5fc28f; --bad: #e58c78; --wait: #e0b04c } }
  * { box-sizing: border-box }
  body { margin: 0; padding: 2rem 1rem; background: var(--back); color: var(--ink);
         font: 1.0625rem/1.55 system-ui, sans-serif }
  main { max-width: 30rem; margin: auto; padding: 2rem; background: var(--paper); border-radius: 1rem;
         box-shadow: 0 1px 2px #0002, 0 8px 32px #0001 }
  main > :first-child { margin-top: 0 }
  h1 { margin: 0 0 .5rem; font-size: 1.6rem; line-height: 1.2 }
  h2 { margin: 2.5rem 0 .5rem; font-size: 1rem; color: var(--soft); font-weight: 600 }
  p { margin: .75rem 0 } a { color: var(--main) } svg { display: block; width: 6rem; margin: .5rem auto 1.5rem }
  .row, li { display: flex; justify-content: space-between; align-items: baseline; gap: 1rem }
  .price { font-size: 1.6rem; font-weight: 600 } .soft { color: var(--soft) } footer { margin-top: 2rem }
  button, .button { display: block; width: 100%; margin-top: .75rem; padding: .8rem; border: 1px solid var(--main);
    border-radius: .6rem; background: var(--main); color: #fff; font: inherit; font-weight: 600; text-align: center;
    text-decoration: none; cursor: pointer }
  button.quiet { background: none; border-color: var(--line); color: var(--ink) }
  button:disabled { opacity: .45; cursor: default }
  ul { margin: 0; padding: 0; list-style: none } li { padding: .45rem 0; border-top: 1px solid var(--line) }
  .paid { color: var(--good) } .waiting { color: var(--wait) } .cancelled, .timed, .sold { color: var(--bad) }
  h1::first-letter { text-transform: uppercase } code { font-size: .95em }
"""

_BELL = """<svg viewBox="0 0 96 72" aria-hidden="true"><g fill="none" stroke="#8a6414" stroke-width="3">
  <path fill="#e3b23c" d="M14 54a34 34 0 0 1 68 0z"/><path stroke="#fff8" d="M26 44a24 24 0 0 1 12-13"/>
  <rect fill="#7a4f2b" stroke="#5d3a1d" x="6" y="54" width="84" height="11" rx="5"/>
  <path d="M48 20v-7"/><circle fill="#e3b23c" cx="48" cy="9" r="5"/></g></svg>"""

# Waits for the end of the checkout. A shop that was killed is asked again until somebody has started it.
_FOLLOW = """<noscript><meta http-equiv="refresh" content="2"></noscript>
<script>
  const follow = (url) => fetch(url).then((answer) => answer.ok ? location.reload() : away(), away);
  const away = () => {
    document.getElementById("notice").textContent = "The shop does not answer. This page goes on when it is back.";
    setTimeout(follow, 1000, location.pathname);
  };
  addEventListener("load", () => follow(location.pathname + "/outcome"));
</script>"""

_EXPLAINED = {
    None: "Your order is being prepared.",
    Status.WAITING: "One bell is reserved for you until the payment arrives, or its time is up.",
    Status.PAID: "Thank you! Your bell is on its way.",
    Status.CANCELLED: "The payment was cancelled, and nothing was charged. The bell is back on the shelf.",
    Status.TIMED_OUT: "The payment did not arrive in time. The bell is back on the shelf.",
    Status.SOLD_OUT: "Somebody else took the last bell. Nothing was charged.",
}


def home(books: Books, new_order_id: str) -> str:
    """Return the page with the thing for sale, and the last orders."""
    left = f"{books.stock} left" if books.stock else "sold out"
    disabled = "" if books.stock else " disabled"
    orders = "".join(
        f'<li><a href="/orders/{order_id}"><code>{order_id[:8]}</code></a>{_badge(status)}</li>'
        for order_id, status in list(books.orders.items())[:8]
    )
    return _page(
        "The bell shop",
        f"""{_BELL}<h1>A brass bell</h1>
        <p class="soft">For counters and desks. One clear note when news arrives.</p>
        <p class="row"><span class="price">€{PRICE}</span> <span class="soft">{left}</span></p>
        <form method="post" action="/buy/{new_order_id}"><button{disabled}>Buy</button></form>
        {f"<h2>Last orders</h2><ul>{orders}</ul>" if orders else ""}""",
    )


def payment(order_id: str) -> str:
    """Return the page of the payment service, with its two buttons."""
    return _page(
        "Payment",
        f"""<p class="soft">Payment service (simulated)</p><h1>Pay €{PRICE}</h1>
        <p class="row"><span>A brass bell</span> <span class="soft">order <code>{order_id[:8]}</code></span></p>
        <form method="post"><button formaction="/pay/{order_id}/paid">Pay €{PRICE}</button>
        <button class="quiet" formaction="/pay/{order_id}/cancelled">Cancel</button></form>""",
    )


def order(order_id: str, status: Status | None, payment_url: str | None) -> str:
    """Return the page of an order. It follows the order until its end."""
    is_open = status in {None, Status.WAITING}
    pay = f'<a class="button" href="{payment_url}">Pay €{PRICE}</a>' if status is Status.WAITING else ""
    return _page(
        f"Order {order_id[:8]}",
        f"""<p class="soft">Order <code>{order_id[:8]}</code></p>
        <h1 class="{_style(status)}">{status or "one moment"}</h1>
        <p>{_EXPLAINED[status]}</p>{pay}<p class="soft" id="notice" role="status"></p>
        <footer><a href="/">Back to the shop</a></footer>""",
        head=_FOLLOW if is_open else "",
    )


def not_found() -> str:
    """Return the page for what does not exist."""
    return _page(
        "Not found", '<h1>There is nothing here</h1><p>No such page, no such order.</p><a href="/">To the shop</a>'
    )


def _badge(status: Status) -> str:
    return f'<span class="{_style(status)}">{status}</span>'


def _style(status: Status | None) -> str:
    return status.split()[0] if status else ""


def _page(title: str, body: str, head: str = "") -> str:
    return f"""<!doctype html>
<html lang="en">
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
{head}
<main>{body}</main>
"""
