"""Every message says what, where and what to do: fifty mistakes and more, each made and its message read."""

import logging
from pathlib import Path

import pytest

from tests.mistakes import everything
from tests.mistakes.ground import Ground, noting
from tests.mistakes.playing import play
from tests.support.app import App
from tests.support.face import Awaiting, Blocking, Face


@pytest.mark.parametrize("face", [Blocking(), Awaiting()], ids=["blocking", "awaiting"])
async def test_each_mistake_gets_a_message_that_says_what_where_and_what_to_do(
    database_url: str, face: Face, tmp_path: Path
) -> None:
    with noting(logging.getLogger("tidings")) as log:
        rows = await play(Ground(face, App(database_url), tmp_path, log))
    print("\n".join(row.text for row in rows))
    assert len(rows) >= 50
    silent = [f"{row.mistake.what}: {each!r} is not in {row.message!r}" for row in rows for each in row.lacks]
    assert not silent, "\n".join(silent)


def test_no_mistake_is_told_twice() -> None:
    titles = [each.what for each in everything()]
    assert len(titles) == len(set(titles))


def test_every_message_must_say_something() -> None:
    assert all(each.says and each.code for each in everything())
