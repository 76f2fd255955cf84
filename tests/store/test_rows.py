"""What is known of the columns of each kind of row: all of them, so that a damaged one can be told."""

from __future__ import annotations

import pytest
from msgspec import Struct

from tidings.model import Entry, Executor, PendingGroup, StoredMessage, WorkflowRecord
from tidings.store import rows


@pytest.mark.parametrize(
    ("shape", "record", "others"),
    [
        (rows._WORKFLOW, WorkflowRecord, {"damage"}),
        (rows._ENTRY, Entry, set()),
        (rows._EXECUTOR, Executor, set()),
        (rows._GROUP, PendingGroup, set()),
        (rows._STORED_MESSAGE, StoredMessage, {"damage"}),
    ],
)
def test_every_column_has_a_kind(shape: rows._Shape, record: type[Struct], others: set[str]) -> None:
    assert len(shape._names) == len(set(record.__struct_fields__) - others)
