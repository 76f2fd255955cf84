"""What `list_workflows` may be asked for, checked: which workflows, and which part of the list."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypedDict

from tidings.model import Status, WorkflowFilter

Time = datetime | str


class WorkflowFilters(TypedDict, total=False):
    """What `list_workflows` takes, by keyword; `None` is the same as nothing.

    Keys:
        workflow_ids: only these.
        status: only of this status, or of one of these: PENDING, SUCCESS, ERROR, CANCELLED.
        start_time: only those started then or later: a `datetime`, or a string in ISO 8601. Without
            a time zone it is local time.
        end_time: only those started then or earlier.
        name: only of the function, or of one of the functions, of this name.
        app_version: only those started by this version of the code.
        parent_workflow_id: only the children of this workflow.
        workflow_id_prefix: only those whose id begins so; no character is a wildcard.
        executor_id: only those that this process runs or ran.
        limit: how many at most; all by default.
        offset: how many to leave out first.
        sort_desc: list the newest first.
        load_input: whether to read the arguments, which may be large; True by default.
        load_output: whether to read results and errors; True by default.
    """

    workflow_ids: Sequence[str] | None
    status: str | Sequence[str] | None
    start_time: Time | None
    end_time: Time | None
    name: str | Sequence[str] | None
    app_version: str | None
    parent_workflow_id: str | None
    workflow_id_prefix: str | None
    executor_id: str | None
    limit: int | None
    offset: int | None
    sort_desc: bool
    load_input: bool
    load_output: bool


def filter_from(filters: WorkflowFilters) -> WorkflowFilter:
    """Check what a list is to hold.

    Raises:
        TypeError, ValueError: naming the filter, and what it may be.
    """
    for key in filters:
        if key not in WorkflowFilters.__annotations__:
            near = difflib.get_close_matches(key, WorkflowFilters.__annotations__, n=1)
            known = f"did you mean {near[0]!r}?" if near else "known are " + ", ".join(WorkflowFilters.__annotations__)
            raise TypeError(f"list_workflows has no filter {key!r}; {known}")
    workflow_ids, status = filters.get("workflow_ids"), filters.get("status")
    if isinstance(workflow_ids, str):
        raise TypeError(f"workflow_ids is a list of ids; for one, say [{workflow_ids!r}]")
    return WorkflowFilter(
        workflow_ids=_texts(workflow_ids, "workflow_ids"),
        statuses=None if status is None else tuple(map(_status, _texts(status, "status") or ())),
        names=_texts(filters.get("name"), "name"),
        from_ms=_epoch_ms(filters.get("start_time"), "start_time"),
        until_ms=_epoch_ms(filters.get("end_time"), "end_time"),
        app_version=_text(filters.get("app_version"), "app_version"),
        parent_id=_text(filters.get("parent_workflow_id"), "parent_workflow_id"),
        executor_id=_text(filters.get("executor_id"), "executor_id"),
        id_prefix=_text(filters.get("workflow_id_prefix"), "workflow_id_prefix"),
        limit=count(filters.get("limit"), "limit"),
        offset=count(filters.get("offset"), "offset") or 0,
        newest_first=_flag(filters.get("sort_desc"), "sort_desc", default=False),
        with_inputs=_flag(filters.get("load_input"), "load_input", default=True),
        with_outputs=_flag(filters.get("load_output"), "load_output", default=True),
    )


def _texts(value: str | Sequence[str] | None, what: str) -> tuple[str, ...] | None:
    if value is None:
        return None
    if isinstance(value, str):
        return (value,)
    if not isinstance(value, Iterable):
        raise TypeError(f"{what} must be strings, not {value!r:.100}")
    texts = tuple(value)
    for each in texts:
        if not isinstance(each, str):
            raise TypeError(f"each of {what} must be a string, not {each!r:.100}")
    return texts


def _text(value: str | None, what: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{what} must be a string, not {value!r:.100}")
    return value


def _status(text: str) -> Status:
    try:
        return Status(text)
    except ValueError:
        near = difflib.get_close_matches(text.upper(), [each.value for each in Status], n=1)
        known = f"did you mean {near[0]!r}?" if near else "known are " + ", ".join(Status)
        raise ValueError(f"no workflow has the status {text!r}; {known}") from None


def _epoch_ms(time: Time | None, what: str) -> int | None:
    if time is None:
        return None
    if isinstance(time, str):
        try:
            time = datetime.fromisoformat(time)
        except ValueError:
            raise ValueError(f"{what} must be a time in ISO 8601, as 2026-01-31T12:00:00Z, not {time!r}") from None
    if not isinstance(time, datetime):
        raise TypeError(f"{what} must be a datetime or a string in ISO 8601, not {time!r:.100}")
    try:
        return round(time.timestamp() * 1_000)
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{what} is no time that a clock can show: {time} ({error})") from None


def _flag(value: bool | None, what: str, *, default: bool) -> bool:
    if value is not None and not isinstance(value, bool):
        raise TypeError(f"{what} must be True or False, not {value!r:.100}")
    return default if value is None else value


def count(value: int | None, what: str) -> int | None:
    """Check a number of things to list, or to leave out."""
    if value is None:
        return None
    if type(value) is not int:
        raise TypeError(f"{what} must be a whole number, not {value!r:.100}")
    if not 0 <= value < 2**63:
        raise ValueError(f"{what} must be 0 or more, and fit 64 bits, not {value}")
    return value
