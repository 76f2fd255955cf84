"""How functions of asyncio are changed: once, and only if they are Python's own."""

from __future__ import annotations

import asyncio
from asyncio import tasks
from typing import Any
from unittest.mock import Mock

import pytest

from tidings.engine.runs import asyncio_functions
from tidings.engine.runs.asyncio_functions import settle_asyncio

FUNCTIONS = {"wait_for": asyncio_functions._WAIT_FOR, "as_completed": asyncio_functions._AS_COMPLETED}


@pytest.fixture(autouse=True)
def _as_on_3_11(monkeypatch: pytest.MonkeyPatch) -> None:
    settle_asyncio()  # What the others become is put back at the end.
    monkeypatch.setattr(asyncio_functions, "_MAKES_A_TASK", True)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_stands_in_its_place_is_left_alone(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    settle_asyncio()
    monkeypatch.delattr(tasks, FUNCTIONS[name])
    another: Any = Mock(spec=["__call__"])
    monkeypatch.setattr(asyncio, name, another)
    settle_asyncio()
    assert getattr(asyncio, name) is another
    assert not hasattr(tasks, FUNCTIONS[name])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_it_is_changed_once_though_two_loops_begin_at_once(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The second one waits for the first, and finds that it is done."""
    settle_asyncio()
    monkeypatch.delattr(tasks, FUNCTIONS[name])
    changes: list[Any] = []

    class First:
        """The lock, with another loop in it just before this one."""

        def __enter__(self) -> None:
            monkeypatch.setattr(tasks, FUNCTIONS[name], "what the other loop made", raising=False)

        def __exit__(self, *_: object) -> None:
            changes.append(getattr(tasks, FUNCTIONS[name]))

    monkeypatch.setattr(asyncio_functions, "_settling", First())
    code = getattr(asyncio, name).__code__
    settle_asyncio()
    assert changes == ["what the other loop made"]
    assert getattr(asyncio, name).__code__ is code


async def test_other_code_gets_what_it_got() -> None:
    settle_asyncio()
    assert await asyncio.wait_for(asyncio.sleep(0, 1), 20) == 1
    assert {await each for each in asyncio.as_completed([asyncio.sleep(0, 1), asyncio.sleep(0, 2)])} == {1, 2}
    with pytest.raises(TypeError, match="an iterable"):
        list(asyncio.as_completed(asyncio.get_running_loop().create_future()))
