"""Sets that keep the order in which they were filled."""

from __future__ import annotations

from tidings.engine.runs.tasks import InOrder


def test_a_set_keeps_its_order_and_nothing_that_left_it() -> None:
    found = InOrder(["c", "a", "b"])
    found.add("d")
    found.remove("a")
    found.discard("nobody")
    found.add("a")
    assert list(found) == ["c", "b", "d", "a"]
    assert found.pop() == "c"
    assert list(found.copy()) == ["b", "d", "a"]
    found.discard("b")
    assert found._order.keys() == {"d", "a"}
    found.clear()
    assert not found._order
    assert not found
