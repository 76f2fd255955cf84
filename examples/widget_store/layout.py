"""The frame and the style of every page: plain HTML from the server, and a script that waits for a program that is
down."""

from html import escape

_STYLE = """
  :root { color-scheme: light dark; --ink: #26313a; --soft: #55616b; --line: #e2e4e2; --edge: #7d8992; --paper: #fff;
          --back: #f4f1ea; --main: #1f6f5c; --on-main: #fff; --good: #1f7a4d; --bad: #a8432f; --wait: #8a6009 }
  .payments { --main: #2f5aa8; --back: #e9eef6 }
  @media (prefers-color-scheme: dark) {
    :root { --ink: #e6e9ec; --soft: #a3aeb7; --line: #36414a; --edge: #84919c; --paper: #1d252c; --back: #12181d;
            --main: #63c3aa; --on-main: #0f1f1a; --good: #5fc28f; --bad: #e58c78; --wait: #e0b04c }
    .payments { --main: #8fb4f2; --on-main: #0d1a33; --back: #11161f } }
  * { box-sizing: border-box }
  body { margin: 0; min-height: 100vh; padding: 2rem 1rem; background: var(--back); color: var(--ink);
         font: 1.0625rem/1.55 system-ui, sans-serif }
  header { max-width: 32rem; margin: 0 auto 1rem; display: flex; justify-content: space-between; align-items: baseline }
  header a, header strong { color: var(--ink); text-decoration: none; font-weight: 650; letter-spacing: .01em }
  main { max-width: 32rem; margin: auto; padding: clamp(1.25rem, 6vw, 2rem); background: var(--paper);
         border-radius: 1rem; box-shadow: 0 1px 2px #0002, 0 8px 32px #0001 }
  main > :first-child { margin-top: 0 }
  h1 { margin: 0 0 .5rem; font-size: 1.7rem; line-height: 1.2; text-wrap: balance }
  h1::first-letter { text-transform: uppercase }
  h2 { margin: 2.25rem 0 .5rem; font-size: .95rem; color: var(--soft); font-weight: 600 }
  p { margin: .75rem 0 } a { color: var(--main) } svg { display: block; width: 9rem; margin: .25rem auto 1.25rem }
  .row, li { display: flex; justify-content: space-between; align-items: baseline; gap: 1rem }
  .price { font-size: 1.7rem; font-weight: 600 } .soft { color: var(--soft) }
  button, .button { display: block; width: 100%; margin-top: .75rem; padding: .8rem; border: 1px solid var(--main);
    border-radius: .6rem; background: var(--main); color: var(--on-main); font: inherit; font-weight: 600;
    text-align: center; text-decoration: none; cursor: pointer }
  button:hover, .button:hover { filter: brightness(1.08) }
  button.quiet { background: none; border-color: var(--edge); color: var(--ink) }
  :focus-visible { outline: 3px solid var(--ink); outline-offset: 3px }
  button:disabled { opacity: .45; cursor: default }
  input { width: 4.5rem; padding: .4rem .6rem; border: 1px solid var(--edge); border-radius: .5rem; font: inherit;
    background: none; color: inherit }
  ul, ol { margin: 0; padding: 0; list-style: none } li { padding: .45rem 0; border-top: 1px solid var(--line) }
  ul li { flex-wrap: wrap; row-gap: 0 } li > :nth-child(2):not(:last-child) { flex: 1; white-space: nowrap }
  li > :nth-child(3) { margin-left: auto }
  li .soft, code { font-size: .92em; font-variant-numeric: tabular-nums }
  progress { width: 100%; height: .6rem; margin: .5rem 0 0; accent-color: var(--good) }
  [role=status]:empty { margin: 0 }
  main > [role=status]:last-child:not(:empty) { position: sticky; bottom: 0; margin-bottom: 0; padding: .5rem 0;
    background: var(--paper) }
  .paid, .dispatched { color: var(--good) } .created, .waiting { color: var(--wait) } .cancelled { color: var(--bad) }
"""

# A program that was killed restarts in a second or two. If a customer presses a button or a link meanwhile, the
# customer waits on this page, because the browser's own error page does not retry. Without scripts the pages work, but
# do not wait.
_PATIENCE = """<script>
  let waits = false;
  const answers = url =>
    fetch(new URL("/books", url), { method: "HEAD", mode: "no-cors" }).then(() => true, () => false);
  const whenThere = async (url, go) => {
    if (waits) return;
    waits = true;
    while (!await answers(url)) {
      document.getElementById("notice").textContent = "No answer yet. This goes on as soon as there is one.";
      await new Promise(done => setTimeout(done, 400));
    }
    waits = false;
    go();
  };
  addEventListener("submit", event => {
    const [form, button] = [event.target, event.submitter];
    const [own, wanted] = [form.action, button?.hasAttribute("formaction") ? button.formAction : form.action];
    event.preventDefault();
    whenThere(wanted, () => {
      form.action = wanted;
      form.submit();
      form.action = own;
    });
  });
  addEventListener("click", event => {
    const link = event.target.closest("a");
    if (!link || event.button || event.altKey || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    whenThere(link.href, () => location.assign(link.href));
  });
</script>"""


def page(owner: str, body: str, *, title: str, kind: str = "shop", aside: str = "", end: str = "") -> str:
    """Return a whole page.

    Args:
        owner: the HTML above the page that names its owner.
        body: the HTML of the content.
        title: its title.
        kind: the page's style: "shop" or "payments".
        aside: HTML beside the owner's name.
        end: HTML after the content.
    """
    return f"""<!doctype html>
<html lang="en" class="{kind}">
<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<style>{_STYLE}</style>
<body>
<header>{owner} <span class="soft">{aside}</span></header>
<main>{body}<p class="soft" id="notice" role="status"></p></main>
{_PATIENCE}
{end}
"""


def refusal(sentence: str, shop_url: str) -> str:
    """Return the page that says what is wrong and what to do."""
    body = f'<h1>That did not work</h1><p>{escape(sentence)}</p><a href="{escape(shop_url)}">To the widgets</a>'
    return page("<strong>The widget store</strong>", body, title="That did not work")


def euros(cents: int) -> str:
    """Return an amount in the usual form."""
    return f"€{cents // 100}" if cents % 100 == 0 else f"€{cents / 100:.2f}"
