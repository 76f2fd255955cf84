"""Finishes the site that `make docs` has built: `python -m tests.docs.site .site`.

A few pages are read in the repository too, and link to its files: tests, reports, examples. The site does not have
those, so there a link to one becomes plain text. Every other link must lead to a page, a file or a heading of the site;
zensical has checked those of Markdown, but not those of HTML and of what the theme adds.

Ends with 1 if a link leads nowhere, and names it.
"""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tests.docs.pages import DOCS, ROOT

_LINK = re.compile(r'<a\b[^>]*?\bhref="(?P<url>[^"]*)"[^>]*>(?P<text>.*?)</a>', re.DOTALL)


class _Names(HTMLParser):
    """The links of a page, and the places in it that links lead to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.names: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for key, value in attrs:
            if key in ("id", "name") and value:
                self.names.add(value)
            elif key in ("href", "src") and value:
                self.links.append(value)


def without_links_to_the_repository(text: str, folder: Path) -> str:
    """Return a page of the site in which links to files beside the documentation are plain text.

    Args:
        text: the HTML of the page.
        folder: where its links start: as a page of the site, but in `docs`. A page `x.md` is the file `x/index.html`.
    """

    def replaced(link: re.Match[str]) -> str:
        return link["text"] if _is_of_the_repository(link["url"], folder) else link[0]

    return _LINK.sub(replaced, text)


def broken_links(site: Path) -> list[str]:
    """Return the links of a site that lead nowhere, each with its page."""
    pages = {path: _Names(path.read_text()) for path in sorted(site.rglob("*.html"))}
    broken = []
    for path, page in pages.items():
        for link in page.links:
            url = urlsplit(link)
            if url.scheme or url.netloc or path.name == "404.html":
                continue
            target = (path.parent / unquote(url.path)).resolve() if url.path else path
            if target.is_dir():
                target /= "index.html"
            names = pages[target].names if target in pages else set()
            if not target.is_file() or (url.fragment and target in pages and unquote(url.fragment) not in names):
                broken.append(f"{path.relative_to(site)}: {link}")
    return broken


def _is_of_the_repository(link: str, folder: Path) -> bool:
    """Tell whether a link leads out of the site, to a file of the repository."""
    url = urlsplit(link)
    if url.scheme or url.netloc or not url.path:
        return False
    target = (folder / unquote(url.path)).resolve()
    return target.exists() and ROOT in target.parents and DOCS not in (target, *target.parents)


def main(arguments: list[str]) -> int:
    """Finish a site, and check it."""
    site = Path(arguments[0]).resolve()
    for page in sorted(site.rglob("*.html")):
        text = page.read_text()
        finished = without_links_to_the_repository(text, DOCS / page.parent.relative_to(site))
        if finished != text:
            page.write_text(finished)
    broken = broken_links(site)
    for each in broken:
        sys.stderr.write(f"leads nowhere: {each}\n")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
