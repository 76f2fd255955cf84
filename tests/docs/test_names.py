"""Whoever follows two pages in one folder, or on one database, does not meet what the other one has left there."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path

import pytest

from tests.docs.pages import README, Block, blocks_of, pages

_PROGRAM = re.compile(r"""DBOS\(config=\{"name": "([^"]+)\"""")
_WORKFLOW = re.compile(r"""SetWorkflowID\("([^"{]+)"\)""")


def _titles(block: Block) -> Iterable[str]:
    return [block.title] if block.title is not None else []


def _programs(block: Block) -> Iterable[str]:
    return _PROGRAM.findall(block.text) if block.title is not None else []


def _workflows(block: Block) -> Iterable[str]:
    return _WORKFLOW.findall(block.text) if block.title is not None else []


@pytest.mark.parametrize("names_in", [_titles, _programs, _workflows])
def test_no_two_pages_use_one_name(names_in: Callable[[Block], Iterable[str]]) -> None:
    """The README apart: it is the first page, in short."""
    used: dict[str, set[Path]] = defaultdict(set)
    for page in pages():
        for block in blocks_of(page):
            if page != README and block.is_run:
                for name in names_in(block):
                    used[name].add(page)
    assert len(used) > 5
    assert {name: sorted(each.name for each in found) for name, found in used.items() if len(found) > 1} == {}


def test_what_runs_in_the_background_reads_no_input() -> None:
    """A shell stops it when it does. So a page may not have it typed at."""
    for page in pages():
        files = {block.title: block.text for block in blocks_of(page) if block.title is not None}
        for block in blocks_of(page):
            for name in re.findall(r"^\$ python (\S+).*&$", block.text, re.MULTILINE) if block.is_run else ():
                assert "input(" not in files.get(name, ""), f"{page.name}: {name}"
