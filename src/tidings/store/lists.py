"""How the workflows that a filter describes are found, for both stores.

A condition that may be absent is no way into a table, so there is a statement for each way in, the same
in both stores, and the narrowest way that the filter offers is taken. The statement then keeps to all of
the filter, whichever way it came.
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
    """A query by its name, and its parameters; a tuple stands for all its texts."""

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
        "newest_first": narrowed.newest_first,
        "with_inputs": narrowed.with_inputs,
        "with_outputs": narrowed.with_outputs,
    }
    return Search(_way_in(narrowed, id_before), values)


def bounds_of(prefix: str) -> tuple[str, str | None]:
    """Return the first text that begins with `prefix`, and the first one behind all of those, if there is one.

    In the order of bytes of UTF-8, which both stores keep ids in, and which is that of code points.
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
    if wanted.statuses is not None and set(wanted.statuses) == {Status.PENDING}:
        return "list_pending"
    return "list_newest" if wanted.newest_first else "list_oldest"


def _storable(wanted: WorkflowFilter) -> WorkflowFilter | None:
    """Leave out alternatives that no store can hold; `None` if one that is needed is such, or none is left."""
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
    """Tell whether it is text that a store can hold: no NUL, and no half of a surrogate pair."""
    return not any(character == "\0" or "\ud800" <= character <= "\udfff" for character in text)
