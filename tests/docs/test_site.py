"""The check of the built site finds links that lead nowhere, and removes those to files of the repository."""

from __future__ import annotations

from pathlib import Path

from tests.docs.pages import DOCS
from tests.docs.site import broken_links, without_links_to_the_repository


def _site(folder: Path, **pages: str) -> Path:
    for name, text in pages.items():
        page = folder / ("" if name == "index" else name) / "index.html"
        page.parent.mkdir(exist_ok=True)
        page.write_text(text)
    return folder


def test_links_to_pages_files_and_headings_are_found(tmp_path: Path) -> None:
    _site(tmp_path, index='<a href="other/#there">x</a><img src="picture.svg">', other='<h2 id="there">y</h2>')
    (tmp_path / "picture.svg").write_text("<svg/>")
    assert broken_links(tmp_path) == []


def test_a_link_to_no_page_no_file_or_no_heading_is_named(tmp_path: Path) -> None:
    _site(tmp_path, index='<a href="gone/">x</a><a href="other/#gone">x</a><img src="gone.svg">', other="<a href='#'>")
    assert broken_links(tmp_path) == ["index.html: gone/", "index.html: other/#gone", "index.html: gone.svg"]


def test_links_elsewhere_are_left_alone(tmp_path: Path) -> None:
    _site(tmp_path, index='<a href="https://example.org/gone">x</a><a href="mailto:a@example.org">y</a>')
    assert broken_links(tmp_path) == []


def test_a_link_to_a_file_of_the_repository_becomes_text() -> None:
    folder = DOCS / "guarantees"
    link = '<a href="../../tests/docs/test_site.py">this test</a>'
    assert without_links_to_the_repository(f"<td>{link}</td>", folder) == "<td>this test</td>"


def test_other_links_stay() -> None:
    folder = DOCS / "guides" / "messages"
    for url in ("../events/", "#a-heading", "https://example.org/tests/conftest.py", "../../../tests/nothing.py"):
        link = f'<a class="x" href="{url}">text</a>'
        assert without_links_to_the_repository(link, folder) == link
