"""What a page of the documentation asks its reader to do: files to write and commands to type, in order.

A fenced block with a title is a file:

    ```python title="hello.py"

A block of the language `console` is what a terminal shows: after `$ ` a command, then what it prints. In the output
`...` stands for anything within a line, and on a line of its own for any number of lines. A command that ends with `&`
runs on in the background, and the next one is typed when it has printed what is shown.

A comment before such a block says what the page cannot show:

    <!-- type at "Your answer: ": with pleasure -->    what is typed when the program asks this
    <!-- kill at: Your answer -->                      the program is killed (SIGKILL) when it has printed this
    <!-- not run: why -->                              the block is only shown
    <!-- cells -->                                     a cell of a notebook, or what one prints (`text`)
"""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"

# Those that maintainers read show code of the house, and commands of the Makefile. So do all pages under `docs/design`.
_OF_MAINTAINERS = {"design.md", "glossary.md", "guarantees.md", "performance.md"}

_FENCE = re.compile(r"^(?P<indent> *)(?P<ticks>```+) *(?P<language>[\w-]*)(?P<rest>[^\n]*)$")
_TITLE = re.compile(r'title="([^"]+)"')
_COMMENT = re.compile(
    r"^ *<!-- (?P<word>type at|kill at|not run|cells)(?: \"(?P<prompt>[^\"]*)\")?(?:: *(?P<text>.*?))? -->$"
)


@dataclass
class Block:
    """A fenced block."""

    page: Path
    line: int
    language: str
    title: str | None
    text: str
    typed: list[tuple[str, str]] = field(default_factory=list)
    kill_at: str | None = None
    is_run: bool = True
    is_cell: bool = False


@dataclass(frozen=True)
class Command:
    """What is typed into a terminal, and the output that the page shows."""

    text: str
    output: list[str]
    block: Block

    @property
    def is_in_background(self) -> bool:
        """Tell whether the next command is typed while this one runs."""
        return self.text.endswith("&")

    @property
    def where(self) -> str:
        """Say where it stands."""
        return f"{self.block.page.name}:{self.block.line}: $ {self.text}"


def pages() -> list[Path]:
    """Return the pages for users, the README among them."""
    found = (page for page in DOCS.rglob("*.md") if page.parent != DOCS / "design")
    return [README, *sorted(page for page in found if page.name not in _OF_MAINTAINERS)]


def blocks_of(page: Path) -> list[Block]:
    """Return the fenced blocks of a page.

    Raises:
        ValueError: a block is not closed.
    """
    blocks: list[Block] = []
    comments: list[re.Match[str]] = []
    lines = enumerate(page.read_text().splitlines(), start=1)
    for number, line in lines:
        comment = _COMMENT.match(line)
        opening = _FENCE.match(line)
        if comment:
            comments.append(comment)
        elif opening:
            title = _TITLE.search(opening["rest"])
            closing = f"{opening['indent']}{opening['ticks']}"
            inside = []
            for _, each in lines:
                if each.rstrip() == closing:
                    break
                inside.append(each)
            else:
                raise ValueError(f"{page}:{number}: the block is not closed")
            text = textwrap.dedent("\n".join(inside)) + "\n"
            block = Block(page, number, opening["language"], title[1] if title else None, text)
            for said in comments:
                _tell(block, said)
            blocks.append(block)
            comments = []
        elif line.strip():
            comments = []
    return blocks


def commands_of(block: Block) -> list[Command]:
    """Return what a block of a console shows.

    Raises:
        ValueError: it begins with something else than a command.
    """
    commands: list[Command] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            commands.append(Command(line[2:].strip(), [], block))
        elif commands:
            commands[-1].output.append(line)
        else:
            raise ValueError(f"{block.page}:{block.line}: a console block begins with a command, '$ ...'")
    return commands


def _tell(block: Block, comment: re.Match[str]) -> None:
    text = comment["text"] or ""
    match comment["word"]:
        case "type at":
            block.typed.append((comment["prompt"], text))
        case "kill at":
            block.kill_at = text
        case "cells":
            block.is_cell = True
        case _:
            block.is_run = False
