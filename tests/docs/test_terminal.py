"""What runs the pages: it reads them as a person does, and finds each line that a page shows and no program prints."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.docs.pages import blocks_of, commands_of
from tests.docs.terminal import Terminal

FILE = '```python title="a.py"\n%s\n```\n'
Play = Callable[[str], None]


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Play a page."""

    def played(text: str) -> None:
        page = tmp_path / "page.md"
        page.write_text(text)
        with closing(Terminal(tmp_path, {})) as terminal:
            for block in blocks_of(page):
                if block.title is not None:
                    terminal.write(block.title, block.text)
                elif block.language == "console":
                    for command in commands_of(block):
                        terminal.type(command)

    return played


@pytest.mark.parametrize("shown", ["one\ntwo", "o...\ntwo", "...\ntwo", "one\n..."])
def test_a_page_that_shows_what_is_printed_passes(play: Play, shown: str) -> None:
    play(FILE % "print('one'); print('two')" + f"```console\n$ python a.py\n{shown}\n```\n")


@pytest.mark.parametrize("shown", ["one", "two\none", "one\ntwo\nthree", "", "o...x\ntwo"])
def test_a_page_that_shows_something_else_fails(play: Play, shown: str) -> None:
    with pytest.raises(AssertionError, match="the page shows"):
        play(FILE % "print('one'); print('two')" + f"```console\n$ python a.py\n{shown}\n```\n")


def test_a_program_that_fails_fails_its_page(play: Play) -> None:
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        play(FILE % "print(1 / 0)" + "```console\n$ python a.py\n```\n")


def test_what_is_typed_is_shown_and_read(play: Play) -> None:
    play(
        FILE % "print(input('Name: ').upper())"
        + '<!-- type at "Name: ": Ada -->\n```console\n$ python a.py\nName: Ada\nADA\n```\n'
    )


def test_a_program_is_killed_where_the_page_says(play: Play) -> None:
    waiting = "import time; print('waiting'); time.sleep(3600)"
    play(FILE % waiting + "<!-- kill at: waiting -->\n```console\n$ python a.py\nwaiting\nKilled\n```\n")


def test_a_program_in_the_background_is_waited_for_and_killed(play: Play) -> None:
    waiting = "import time; print('waiting'); time.sleep(3600)"
    play(FILE % waiting + "```console\n$ python a.py &\nwaiting\n$ kill -9 %1\n```\n")


def test_lines_of_the_log_may_come_between_others_but_none_is_left_out(play: Play) -> None:
    logs = "import sys; print('a'); print('10:20:30 INFO here', file=sys.stderr); print('b')"
    play(FILE % logs + "```console\n$ python a.py\n01:02:03 INFO here\na\nb\n```\n")
    with pytest.raises(AssertionError):
        play(FILE % logs + "```console\n$ python a.py\na\nb\n```\n")
    with pytest.raises(AssertionError):
        play(FILE % logs + "```console\n$ python a.py\n01:02:03 INFO there\na\nb\n```\n")


def test_a_block_in_a_tab_is_read_without_its_indent(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text('=== "Tab"\n\n    ```python title="a.py"\n    if True:\n        print(1)\n    ```\n')
    assert [block.text for block in blocks_of(page)] == ["if True:\n    print(1)\n"]


def test_a_block_that_is_not_closed_is_an_error(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(1)\n")
    with pytest.raises(ValueError, match="not closed"):
        blocks_of(page)


def test_a_line_of_the_log_may_come_within_another_line(play: Play) -> None:
    """As two threads write it: between a text and its newline."""
    write = "import os; os.write(1, b'one'); os.write(2, b'12:00:00 INFO two\\n'); os.write(1, b'\\nthree\\n')"
    play(FILE % write + "```console\n$ python a.py\n01:02:03 INFO two\none\nthree\n```\n")
