"""What a replay compares beside the name of an operation."""

from tidings.core import targets


def test_the_order_of_ids_makes_no_difference_and_the_ids_do() -> None:
    ids = [f"w{number}" for number in range(20)]
    assert targets.of_workflows(ids) == targets.of_workflows(ids[::-1])
    assert targets.of_workflows(ids) != targets.of_workflows(ids[1:])
    assert targets.of_workflows(ids) != targets.of_workflows([*ids[:-1], "other"])
    assert targets.of_workflows(["b", "a"]) == "of 'a', 'b'"
    assert targets.of_workflows([]) == "of nothing"
    assert len(targets.of_workflows([each * 200 for each in ids])) < 1_000


def test_an_address_is_its_destination_and_topic() -> None:
    addresses = [("a", None), ("a", "t"), ("b", None), ("a", "")]
    assert len({targets.of_messages([each]) for each in addresses}) == len(addresses)
    assert targets.of_messages([("b", "t"), ("a", "t")]) == targets.of_messages([("a", "t"), ("b", "t")])
    assert targets.of_messages([("a", None)] * 2) != targets.of_messages([("a", None)] * 3)


def test_a_time_limit_counts_only_as_there_or_not_there() -> None:
    assert targets.of_topic("t", 1) == targets.of_topic("t", 60) != targets.of_topic("t", None)
    recorded, called = targets.of_topic("t", 1), targets.of_topic("u", 2)
    assert targets.shown(recorded, called) == ("on 't'", "on 'u'")
    assert targets.shown(recorded, targets.of_topic("t", None)) == ("on 't' with a time limit", "on 't'")
    assert targets.shown(recorded, None) == ("on 't' with a time limit", "")
