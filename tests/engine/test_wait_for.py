"""How `asyncio.wait_for` is changed on Python 3.11: once, and only if it is Python's own."""

from __future__ import annotations

import asyncio
from asyncio import tasks
from typing import Any
from unittest.mock import Mock

import pytest

from tidings.engine import wait_for


@pytest.fixture(autouse=True)
def _as_on_3_11(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wait_for, "_MAKES_A_TASK", True)
    monkeypatch.delattr(tasks, wait_for._NAME, raising=False)


def test_what_stands_in_the_place_of_wait_for_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    another: Any = Mock(spec=["__call__"])
    monkeypatch.setattr(asyncio, "wait_for", another)
    wait_for.settle_wait_for()
    assert asyncio.wait_for is another
    assert not hasattr(tasks, wait_for._NAME)


def test_it_is_changed_once_though_two_loops_begin_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second one waits for the first, and finds that it is done."""
    changes: list[Any] = []

    class First:
        """The lock, with another loop in it just before this one."""

        def __enter__(self) -> None:
            monkeypatch.setattr(tasks, wait_for._NAME, "what the other loop made", raising=False)

        def __exit__(self, *_: object) -> None:
            changes.append(getattr(tasks, wait_for._NAME))

    monkeypatch.setattr(wait_for, "_settling", First())
    code = asyncio.wait_for.__code__
    wait_for.settle_wait_for()
    assert changes == ["what the other loop made"]
    assert asyncio.wait_for.__code__ is code
