"""Cancelling a tree of workflows that goes on growing: how many rows its looks read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tidings.core.effects import Aside, Commit, FindPendingBelow, Operation, Read
from tidings.core.operations import cancelling
from tidings.core.operations.cancelling import Cancellation, Order, cancel
from tidings.model import APPLIED, NotPending


class Tree:
    """Workflows and what they have started. `grow` is called before each change, and may start more."""

    def __init__(self) -> None:
        self.children: dict[str, list[str]] = {"root": []}
        self.pending = {"root"}
        self.read = 0
        self.looks = 0

    def start(self, parent: str) -> None:
        if parent in self.pending:
            name = f"w{len(self.children)}"
            self.children[parent].append(name)
            self.children[name] = []
            self.pending.add(name)

    def below(self, workflow_ids: tuple[str, ...], limit: int) -> list[str]:
        """Find what is pending below these as the stores do: generation by generation, and each once."""
        self.looks += 1
        found: dict[str, None] = {}
        left = [child for each in workflow_ids for child in self.children[each]]
        for each in left:
            self.read += 1
            if each not in found:
                found[each] = None
                left += self.children[each]
        return [each for each in found if each in self.pending][:limit]

    def perform(self, operation: Operation[Any], grow: Callable[[], None]) -> Any:
        answer: Any = None
        while True:
            try:
                effect: Any = operation.send(answer)
            except StopIteration as stop:
                return stop.value
            effect = effect.effect if isinstance(effect, Aside) else effect
            match effect:
                case Read(FindPendingBelow(workflow_ids, limit)):
                    answer = self.below(workflow_ids, limit)
                case Commit(unit):
                    grow()
                    ended = tuple(each for each in unit.cancels if each not in self.pending)
                    answer = NotPending(ended) if ended else APPLIED
                    self.pending.difference_update(() if ended else unit.cancels)
                case _:
                    raise AssertionError(effect)


def order_for(me: str | None = None) -> Order:
    return Order(("root",), children=True, must_exist=True, me=me)


def test_each_look_goes_over_what_is_new_alone() -> None:
    """As many generations come, each while the one before is being cancelled, as there are looks."""
    tree, generations = Tree(), 200
    for _ in range(30):
        tree.start("root")

    def grow() -> None:
        if tree.looks < generations:
            for each in tuple(tree.pending - {"root"})[:30]:
                tree.start(each)

    report = tree.perform(cancel(order_for()), grow)
    assert set(report.cancelled) == set(tree.children)
    assert not tree.pending
    assert tree.looks > generations
    assert tree.read <= 3 * len(tree.children)


@pytest.mark.parametrize("most", [1, 2, 7, 1_000])
def test_whatever_a_look_finds_at_most_all_are_cancelled(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    monkeypatch.setattr(cancelling, "LOOK", most)
    monkeypatch.setattr(cancelling, "PAGE", 3)
    tree = Tree()
    for _ in range(4):
        for each in tuple(tree.children):
            tree.start(each)

    def grow() -> None:
        if len(tree.children) < 40:
            for each in sorted(tree.pending)[:2]:
                tree.start(each)
        for each in sorted(tree.pending - {"root"})[3:4]:  # One ends by itself.
            tree.pending.discard(each)

    tree.perform(cancel(order_for()), grow)
    assert not tree.pending


def test_one_that_cancels_itself_and_goes_on_starting_more_comes_last() -> None:
    tree = Tree()
    tree.start("root")

    def grow() -> None:
        if tree.looks < 5:
            tree.start("root")

    report = tree.perform(cancel(order_for(me="root")), grow)
    assert isinstance(report, Cancellation)
    assert report.cancelled[-1] == "root"
    assert not tree.pending
