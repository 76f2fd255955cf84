"""The programs of the README and of the documentation run as they are written, and print what the pages show."""

from __future__ import annotations

import ast
from contextlib import closing
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, Block, blocks_of, commands_of, pages
from tests.docs.terminal import Terminal

PAGES = [page for page in pages() if any(block.language == "console" or block.is_cell for block in blocks_of(page))]
# About one of the two stores.
_ONLY = {DOCS / "guides/sqlite.md": "sqlite", DOCS / "guides/postgresql.md": "postgres"}
RUNS = [(page, store) for page in PAGES for store in ("sqlite", "postgres") if _ONLY.get(page, store) == store]


def _name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.direct("behind a pooler the log has lines that the pages do not show")
@pytest.mark.parametrize(("page", "store"), RUNS, ids=[f"{page.relative_to(ROOT)}-{store}" for page, store in RUNS])
def test_the_programs_of_a_page_print_what_it_shows(
    page: Path, store: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    settings = {}
    if store == "postgres":
        settings["DBOS_SYSTEM_DATABASE_URL"] = request.getfixturevalue("postgres_url")
    with closing(Terminal(tmp_path, settings)) as terminal:
        for block in blocks_of(page):
            if not block.is_run:
                continue
            if block.title is not None:
                terminal.write(block.title, block.text)
            elif block.language == "console":
                for command in commands_of(block):
                    terminal.type(command)
        cells = [block for block in blocks_of(page) if block.is_cell]
        if cells:
            shown = "".join(block.text for block in cells if block.language == "text")
            terminal.run_cells([block.text for block in cells if block.language == "python"], shown)


@pytest.mark.parametrize("page", pages(), ids=_name)
def test_what_a_page_shows_of_python_is_python(page: Path) -> None:
    for block in blocks_of(page):
        if block.language == "python":
            compile(block.text, f"{_name(page)}:{block.line}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


def _has_a_program(block: Block) -> bool:
    return block.is_run and (block.is_cell or (block.language == "python" and block.title is not None))


@pytest.mark.parametrize("page", sorted((DOCS / "guides").glob("*.md")), ids=_name)
def test_each_guide_has_a_program_that_is_run(page: Path) -> None:
    assert any(map(_has_a_program, blocks_of(page)))
    assert page in PAGES
