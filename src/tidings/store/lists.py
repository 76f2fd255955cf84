"""How to find the workflows that a filter describes, for both stores.

A condition that may be absent cannot use an index. So each useful index has a statement of its own, the same in both
stores, and the most selective one that the filter allows is chosen. That statement still checks the whole filter.
"""

from __future__ import annotations

from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from tidings.model import Status, WorkflowFilter

Value = str | int | tuple[str, ...] | None

_LAST_CHARACTER: Final = 0x10FFFF
_BEFORE_SURROGATES: Final = 0xD7FF
_AFTER_SURROGATES: Final = 0xE000


class Search(Struct, frozen=True):
    """A query's name and its parameters; a tuple holds all texts of one parameter."""

    query: str
    values: dict[str, Value]


def search_for(wanted: WorkflowFilter) -> Search | None:
    """Return how to find what a filter describes, or `None` if nothing can match it."""
    narrowed = _storable(wanted)
    if narrowed is None:
        return None
    id_from, id_before = bounds_of(narrowed.id_prefix or "")
    values: dict[str, Value] = {
        "workflow_ids": narrowed.workflow_ids,
        "statuses": narrowed.statuses,
        "names": narrowed.names,
        "from_ms": narrowed.from_ms,
        "until_ms": narrowed.until_ms,
        "app_version": narrowed.app_version,
        "parent_id": narrowed.parent_id,
        "executor_id": narrowed.executor_id,
        "id_from": id_from,
        "id_before": id_before,
        "limit": narrowed.limit,
        "offset": narrowed.offset,
        # An integer, because the program may have registered its own adapter for `bool` in Python's `sqlite3`.
        "is_stuck": None if narrowed.is_stuck is None else int(narrowed.is_stuck),
        "newest_first": int(narrowed.newest_first),
        "with_inputs": int(narrowed.with_inputs),
        "with_outputs": int(narrowed.with_outputs),
    }
    return Search(_way_in(narrowed, id_before), values)


def bounds_of(prefix: str) -> tuple[str, str | None]:
    """Return the first text that begins with `prefix`, and the first text after all of those, if there is one.

    The order is by UTF-8 bytes, which both stores use for ids; it equals the order by code points.
    """
    for index in range(len(prefix) - 1, -1, -1):
        last = ord(prefix[index])
        if last < _LAST_CHARACTER:
            following = _AFTER_SURROGATES if last == _BEFORE_SURROGATES else last + 1
            return prefix, prefix[:index] + chr(following)
    return prefix, None


def _way_in(wanted: WorkflowFilter, id_before: str | None) -> str:
    if wanted.workflow_ids is not None:
        return "list_by_ids"
    if wanted.parent_id is not None:
        return "list_by_parent"
    if id_before is not None:
        return "list_by_prefix"
    if wanted.is_stuck:
        return "list_stuck"
    if wanted.statuses is not None and set(wanted.statuses) == {Status.PENDING}:
        return "list_pending"
    return "list_newest" if wanted.newest_first else "list_oldest"


def _storable(wanted: WorkflowFilter) -> WorkflowFilter | None:
    """Drop alternatives that no store can hold. Return `None` if a required one is dropped, or none is left."""
    needed = (wanted.app_version, wanted.parent_id, wanted.executor_id, wanted.id_prefix)
    if not all(_is_storable(text) for text in needed if text is not None):
        return None
    ids, names = (
        None if texts is None else tuple(text for text in texts if _is_storable(text))
        for texts in (wanted.workflow_ids, wanted.names)
    )
    if () in (ids, names, wanted.statuses):
        return None
    return replace(wanted, workflow_ids=ids, names=names)


def _is_storable(text: str) -> bool:
    """Tell whether a store can hold this text: no NUL, and no lone surrogate."""
    return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)
