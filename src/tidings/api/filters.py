"""Checks the filters of `list_workflows`: which workflows to list, and which part of the list."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypedDict

from tidings.model import Status, WorkflowFilter
from tidings.slips import called_name, nearest, plainly

Time = datetime | str


class WorkflowFilters(TypedDict, total=False):
    """The keywords of `list_workflows`. `None` is the same as leaving a filter out.

    Keys:
        workflow_ids: only workflows with one of these ids.
        status: only workflows with this status, or one of several: PENDING, SUCCESS, ERROR, CANCELLED,
            MAX_RECOVERY_ATTEMPTS_EXCEEDED.
        start_time: only workflows started then or later: a `datetime`, or a string in ISO 8601. Without a time zone it
            is local time.
        end_time: only workflows started then or earlier.
        name: only workflows of the function with this name, or of one of several functions.
        app_version: only workflows started by this version of the code.
        parent_workflow_id: only the children of this workflow.
        stuck: True lists only workflows that no process executes because a version of the code could not continue them;
            False leaves these out.
        workflow_id_prefix: only workflows whose id begins with this text; no character is a wildcard.
        executor_id: only workflows that this process runs or ran.
        limit: the greatest number of workflows to list; all by default.
        offset: how many workflows to skip first.
        sort_desc: whether to list the newest first.
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
    stuck: bool | None
    workflow_id_prefix: str | None
    executor_id: str | None
    limit: int | None
    offset: int | None
    sort_desc: bool
    load_input: bool
    load_output: bool


def filter_from(filters: WorkflowFilters) -> WorkflowFilter:
    """Check the filters of a list.

    Raises:
        TypeError, ValueError: a filter is unknown or has a bad value. The error names it, and its valid values.
    """
    for key in filters:
        if key not in WorkflowFilters.__annotations__:
            near = nearest(key, WorkflowFilters.__annotations__)
            known = f"did you mean {near!r}?" if near else "filters: " + ", ".join(WorkflowFilters.__annotations__)
            raise TypeError(f"it has no filter {key!r}; {known}")
    workflow_ids, status = filters.get("workflow_ids"), filters.get("status")
    if isinstance(workflow_ids, str):
        raise TypeError(f"workflow_ids is a list of ids; for one, write [{workflow_ids!r}]")
    return WorkflowFilter(
        workflow_ids=_texts(workflow_ids, "workflow_ids"),
        statuses=None if status is None else tuple(map(_status, _texts(status, "status") or ())),
        names=_texts(filters.get("name"), "name"),
        from_ms=_epoch_ms(filters.get("start_time"), "start_time"),
        until_ms=_epoch_ms(filters.get("end_time"), "end_time"),
        app_version=_text(filters.get("app_version"), "app_version"),
        parent_id=_text(filters.get("parent_workflow_id"), "parent_workflow_id"),
        executor_id=_text(filters.get("executor_id"), "executor_id"),
        is_stuck=None if filters.get("stuck") is None else _flag(filters.get("stuck"), "stuck", default=False),
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
        raise TypeError(
            f"{what} must be {'' if what == 'workflow_ids' else 'a string or '}a list of strings, not "
            f"{_named(value, what)}"
        )
    texts = tuple(value)
    for each in texts:
        if not isinstance(each, str):
            raise TypeError(f"each of {what} must be a string, not {_named(each, what)}")
    return texts


def _named(value: object, what: str) -> str:
    """Name a value that is no string. A function is filtered by its name."""
    workflow = getattr(value, "__tidings_workflow__", None)
    name = workflow.name if workflow is not None else getattr(value, "__qualname__", None)
    if what != "name" or not isinstance(name, str) or not callable(value):
        return plainly(value)
    return f"the function {called_name(value)}; write name={name!r}"


def _text(value: str | None, what: str) -> str | None:
    if value is not None and not isinstance(value, str):
        raise TypeError(f"{what} must be a string, not {plainly(value)}")
    return value


def _status(text: str) -> Status:
    try:
        return Status(text)
    except ValueError:
        near = difflib.get_close_matches(text.upper(), [each.value for each in Status], n=1)
        known = f"did you mean {near[0]!r}?" if near else "statuses: " + ", ".join(Status)
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
        raise TypeError(f"{what} must be a datetime or a string in ISO 8601, not {plainly(time)}")
    try:
        return round(time.timestamp() * 1_000)
    except (ValueError, OverflowError, OSError) as error:
        raise ValueError(f"{what} is outside the range of times: {time} ({error})") from None


def _flag(value: bool | None, what: str, *, default: bool) -> bool:
    return default if value is None else flag(value, what)


def flag(value: object, what: str) -> bool:
    """Check a bool. A text such as "no" is refused, because it would count as true."""
    if not isinstance(value, bool):
        raise TypeError(f"{what} must be True or False, not {plainly(value)}")
    return value


def count(value: int | None, what: str) -> int | None:
    """Check a limit or an offset of a list."""
    if value is None:
        return None
    if type(value) is not int:
        raise TypeError(f"{what} must be a whole number, not {plainly(value)}")
    if not 0 <= value < 2**63:
        raise ValueError(f"{what} must be 0 or more, and fit 64 bits, not {value}")
    return value
