"""The bounds of ids, keys, timeouts and values: what is just legal, and what is just not."""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.error import DBOSLimitError
from tidings.limits import (
    MAX_ID_BYTES,
    MAX_KEY_BYTES,
    MAX_TIMEOUT_SECONDS,
    MAX_VALUE_BYTES,
    check_id,
    check_key,
    check_seconds,
    check_time_limit,
    check_timeout,
    check_topic,
    check_value_size,
)

Check = Callable[[Any, str], str]


@pytest.mark.parametrize(("check", "most"), [(check_id, MAX_ID_BYTES), (check_key, MAX_KEY_BYTES)])
@pytest.mark.parametrize("character", ["a", "é", "€", "🙂"])
def test_text_is_measured_in_bytes_of_utf_8(check: Check, most: int, character: str) -> None:
    size = len(character.encode())
    longest = character * (most // size)
    assert check(longest, "it") == longest
    with pytest.raises(DBOSLimitError, match=rf"it takes [\d,]+ bytes of UTF-8, more than the {most:,} allowed"):
        check(longest + character, "it")


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=100))
def test_any_text_within_the_limits_is_legal(text: str) -> None:
    assert check_id(text, "it") == text
    assert check_key(text, "it") == text
    assert check_topic(text) == text


@pytest.mark.parametrize("check", [check_id, check_key])
@pytest.mark.parametrize(("text", "reason"), [("a\0b", "NUL"), ("\ud800", "lone surrogate")])
def test_what_no_store_can_keep_is_refused(check: Check, text: str, reason: str) -> None:
    with pytest.raises(DBOSLimitError, match=reason):
        check(text, "it")


def test_an_id_is_not_empty_and_a_key_may_be() -> None:
    with pytest.raises(DBOSLimitError, match="workflow_id must not be empty"):
        check_id("", "workflow_id")
    assert check_key("", "key") == ""
    assert check_topic("") == ""
    assert check_topic(None) is None


@pytest.mark.parametrize("value", [1, b"bytes", None, object()])
def test_what_is_no_text_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match="it must be a string"):
        check_id(value, "it")


CHECKS: list[Callable[[Any, str], float | None]] = [check_timeout, check_time_limit, check_seconds]


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    ("given_seconds", "seconds"),
    [
        (0.5, 0.5),
        (7, 7.0),
        (timedelta(minutes=2), 120.0),
        (timedelta(microseconds=1), 1e-6),
        (MAX_TIMEOUT_SECONDS, MAX_TIMEOUT_SECONDS),
        (timedelta(days=366 * 100), MAX_TIMEOUT_SECONDS),
    ],
)
def test_seconds_are_a_number_or_a_timedelta(
    check: Callable[[Any, str], float | None], given_seconds: object, seconds: float
) -> None:
    found = check(given_seconds, "it")
    assert found == seconds
    assert type(found) is float


def test_no_limit_is_none() -> None:
    assert check_timeout(None) is None
    assert check_time_limit(None, "it") is None
    with pytest.raises(TypeError, match="it must be a number of seconds or a timedelta, not None"):
        check_seconds(None, "it")


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "value",
    [MAX_TIMEOUT_SECONDS * 2, math.inf, 1e300, 10**400, 10**5_000, timedelta.max],
    ids=["200 years", "inf", "1e300", "10**400", "10**5000", "longest timedelta"],
)
def test_more_than_a_hundred_years_is_refused(check: Callable[[Any, str], float | None], value: Any) -> None:
    with pytest.raises(DBOSLimitError, match=r"^it must be at most 3,162,240,000 seconds, a hundred years") as raised:
        check(value, "it")
    assert len(str(raised.value)) < 200


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize(
    "value", [-1, -1e-9, math.nan, -math.inf, -(10**400), timedelta(seconds=-1), timedelta.min], ids=str
)
def test_negative_seconds_are_refused(check: Callable[[Any, str], float | None], value: Any) -> None:
    with pytest.raises(DBOSLimitError, match=r"^it must be (0 or more|more than 0) seconds.*; got ") as raised:
        check(value, "it")
    assert len(str(raised.value)) < 200


def test_a_negative_timedelta_is_shown_in_seconds() -> None:
    """Python's own form of it is not what anybody wrote: -1 day and 86,399 seconds."""
    for wrong, shown in (
        (timedelta(seconds=-1), "-1"),
        (timedelta(minutes=-2), "-120"),
        (timedelta(days=-1), "-86400"),
    ):
        with pytest.raises(DBOSLimitError, match=rf"it must be 0 or more seconds; got timedelta\(seconds={shown}\)"):
            check_seconds(wrong, "it")


@pytest.mark.parametrize("value", [0, 0.0, timedelta(0)])
def test_only_a_time_limit_must_be_more_than_0(value: Any) -> None:
    assert check_timeout(value) == check_seconds(value, "it") == 0.0
    with pytest.raises(DBOSLimitError, match="it must be more than 0 seconds, or None for no limit; got"):
        check_time_limit(value, "it")


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("value", ["1", True, object(), b"1", [1], 1j, Decimal(1)])
def test_what_is_no_number_is_a_type_error(check: Callable[[Any, str], float | None], value: object) -> None:
    with pytest.raises(TypeError, match=r"^it must be a number of seconds or a timedelta.*, not "):
        check(value, "it")


def test_a_value_has_16_mib_of_utf_8() -> None:
    for character in ("a", "€"):
        longest = character * (MAX_VALUE_BYTES // len(character.encode()))
        assert check_value_size(longest, "it") is longest
        with pytest.raises(DBOSLimitError, match=r"it would take 16,777,21[0-9] bytes"):
            check_value_size(longest + character, "it")
