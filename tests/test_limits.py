"""The bounds of ids, keys, timeouts and values: what is just legal, and what is just not."""

from __future__ import annotations

import math
from collections.abc import Callable
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


@pytest.mark.parametrize(("given_seconds", "seconds"), [(0, 0.0), (0.5, 0.5), (7, 7.0), (None, None)])
def test_a_timeout_is_seconds_or_none(given_seconds: object, seconds: float | None) -> None:
    assert check_timeout(given_seconds) == seconds


@pytest.mark.parametrize("longer_than_anybody_waits", [MAX_TIMEOUT_SECONDS * 2, math.inf, 1e300])
def test_a_timeout_beyond_all_bounds_is_none(longer_than_anybody_waits: float) -> None:
    assert check_timeout(longer_than_anybody_waits) is None


@pytest.mark.parametrize("value", [-1, -1e-9, math.nan, -math.inf])
def test_a_negative_timeout_is_refused(value: float) -> None:
    with pytest.raises(DBOSLimitError, match="seconds must be 0 or more"):
        check_timeout(value, "seconds")


@pytest.mark.parametrize("value", ["1", True, object()])
def test_a_timeout_that_is_no_number_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match="must be a number of seconds"):
        check_timeout(value)


def test_a_value_has_16_mib_of_utf_8() -> None:
    for character in ("a", "€"):
        longest = character * (MAX_VALUE_BYTES // len(character.encode()))
        assert check_value_size(longest, "it") is longest
        with pytest.raises(DBOSLimitError, match=r"it takes 16,777,21[0-9] bytes"):
            check_value_size(longest + character, "it")
