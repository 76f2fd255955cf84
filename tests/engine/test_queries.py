"""The table of queries."""

from __future__ import annotations

from typing import get_args

from tidings.core.effects import Query
from tidings.engine.database.queries import ANSWERS


def test_each_kind_of_query_has_an_answer() -> None:
    assert set(ANSWERS) == set(get_args(Query))
