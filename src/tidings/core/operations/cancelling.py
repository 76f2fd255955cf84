"""Cancelling workflows, and all workflows below them.

A tree of workflows is cancelled in pages, so no batch gets large. A page applies whole or not at all. If some of its
workflows have ended meanwhile, the page is retried without them. In a workflow, each page is one unit with the entry
that lists what was cancelled so far. So a recovered run continues where the earlier one stopped, and returns the same.

A search goes once over everything below its starting points. After a search that saw everything, the next one starts
below the workflows that it found: all others have ended, and so has everything that they started. So a tree that keeps
growing is not searched again and again. The exception is what is below the calling workflow, which may start more.

The cancellation is complete when no pending workflow is found below the named ones. None can appear afterwards. A
start in code or in a step applies only while the parent is pending. A workflow that has ended never becomes pending
again. This would break if a start were recorded without a check of its parent.

A workflow may cancel a tree that contains itself. It is cancelled last, since it must live to cancel the others.
Another branch of it may have started children up to that moment. One more search finds them, outside of the run, whose
chain accepts no more units.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from tidings.core.effects import BARRIER, NOW, Aside, Commit, Failed, FindPendingBelow, Operation, Read
from tidings.core.history import Slot
from tidings.core.operations.patience import patiently
from tidings.core.operations.recorded import recorded, refuse, unexpected
from tidings.error import DBOSException, DBOSNonExistentWorkflowError
from tidings.model import APPLIED, Answer, Applied, NoSuchWorkflow, NotPending, Unit
from tidings.serialization import dump, load

CANCEL: Final = "DBOS.cancel_workflow"
CANCEL_SEVERAL: Final = "DBOS.cancel_workflows"

# How many workflows one unit cancels: few enough not to delay other units of its batch much.
PAGE: Final = 500
# How many pending workflows one look finds at most. One that finds fewer has seen all, and the next begins below these.
LOOK: Final = 20_000


@dataclass(frozen=True, slots=True)
class Cancellation:
    """What a cancellation did.

    Attributes:
        cancelled: the ids of all workflows that it cancelled: the named ones first, then the workflows below them, the
            nearer generations first.
        already_ended: the named ids whose workflows had ended before.
        not_found: the named ids that no workflow has.
    """

    cancelled: tuple[str, ...] = ()
    already_ended: tuple[str, ...] = ()
    not_found: tuple[str, ...] = ()


class Order:
    """Which workflows to cancel."""

    __slots__ = ("children", "me", "must_exist", "named")

    def __init__(self, named: Sequence[str], *, children: bool, must_exist: bool, me: str | None) -> None:
        """Make an order.

        Args:
            named: the ids of workflows.
            children: whether to cancel the workflows below them too.
            must_exist: whether an id that no workflow has is an error.
            me: the workflow that calls this, in its code or in a step.
        """
        self.named = tuple(dict.fromkeys(named))
        self.children = children
        self.must_exist = must_exist
        self.me = me


# Cancels these workflows and records this report in the same unit; the flag says whether it is the last unit.
_Write = Callable[[tuple[str, ...], Cancellation, bool], Operation[Answer]]


def cancel(order: Order) -> Operation[Any]:
    """Cancel from a step or from outside any workflow."""
    try:
        return (yield from _cancel(order, Cancellation(), _write_unrecorded))
    except DBOSNonExistentWorkflowError as error:
        return Failed(error)


def _write_unrecorded(workflow_ids: tuple[str, ...], _: Cancellation, __: bool) -> Operation[Answer]:
    answer: Answer = (yield Commit(Unit(cancels=workflow_ids))) if workflow_ids else APPLIED
    return answer


def cancel_recorded(slot: Slot, order: Order) -> Operation[Any]:
    """Cancel in a workflow, and record what was cancelled."""
    found = yield from recorded(slot, _cancel_recorded(slot, order))
    if isinstance(found, (Failed, Cancellation)):
        return found
    return _rebuilt(found, order)


def _cancel_recorded(slot: Slot, order: Order) -> Operation[Any]:
    run = slot.run
    yield BARRIER
    started, report = yield from _begun(slot, order)

    def write(workflow_ids: tuple[str, ...], report: Cancellation, is_last: bool) -> Operation[Answer]:
        output = yield from patiently(dump, run.serializer, _plain(report), "what was cancelled")
        now: int = yield NOW
        entry = slot.done(started, now, output=output) if is_last else slot.open(started, None, output=output)
        answer: Answer = yield Commit(run.unit(entry, cancels=workflow_ids))
        return answer

    try:
        return (yield from _cancel(order, report, write))
    except DBOSException as error:
        return (yield from refuse(slot, error, started))


def _begun(slot: Slot, order: Order) -> Operation[tuple[int, Cancellation]]:
    """Return when the operation began, and what it has cancelled so far."""
    now: int = yield NOW
    if slot.recorded is None or not slot.is_open:
        return now, Cancellation()
    entry = slot.recorded.entry
    started = now if entry.started_at_ms is None else entry.started_at_ms
    if entry.output is None:
        return started, Cancellation()
    found = yield from patiently(load, slot.run.serializer, entry.output, "what was cancelled")
    return started, _rebuilt(found, order)


def _plain(report: Cancellation) -> dict[str, list[str]]:
    """Return a report in its stored form, which every serializer takes and SQL can read."""
    return {
        "cancelled": list(report.cancelled),
        "already_ended": list(report.already_ended),
        "not_found": list(report.not_found),
    }


def _rebuilt(found: Any, order: Order) -> Cancellation:
    if isinstance(found, bool):  # An earlier version recorded only whether the workflow was pending.
        return Cancellation(order.named) if found else Cancellation(already_ended=order.named)
    return Cancellation(*(tuple(found[name]) for name in ("cancelled", "already_ended", "not_found")))


def _cancel(order: Order, report: Cancellation, write: _Write) -> Operation[Cancellation]:
    known = {*report.cancelled, *report.already_ended, *report.not_found}
    is_mine = order.me in order.named
    pages = list(_pages([each for each in order.named if each not in known and each != order.me]))
    while pages:
        is_last = len(pages) == 1 and not order.children and not is_mine
        report = yield from _cancel_page(order, pages.pop(0), report, write, is_last=is_last)
        if is_last:
            return report
    above = order.named
    while order.children:
        found: list[str] = yield Read(FindPendingBelow(above, LOOK))
        is_mine = is_mine or order.me in found
        pending = [each for each in found if each != order.me]
        if not pending:
            break
        for page in _pages(pending):
            report = yield from _cancel_page(order, page, report, write, is_last=False)
        if len(found) < LOOK:  # It saw everything: only the found workflows and the caller may have started more.
            above = (*pending, order.me) if is_mine and order.me is not None else tuple(pending)
    me = (order.me,) if is_mine and order.me is not None and order.me not in known else ()
    report = yield from _cancel_page(order, me, report, write, is_last=True)
    if me and order.children:
        yield from _sweep(order)
    return report


def _cancel_page(
    order: Order, workflow_ids: tuple[str, ...], report: Cancellation, write: _Write, *, is_last: bool
) -> Operation[Cancellation]:
    """Cancel the pending workflows of a page, and record that in the same unit."""
    left = workflow_ids
    while left or is_last:
        done = replace(report, cancelled=report.cancelled + left)
        answer = yield from write(left, done, is_last)
        match answer:
            case Applied():
                return done
            case NotPending(ended):
                left = tuple(each for each in left if each not in ended)
                named = tuple(each for each in ended if each in order.named)
                report = replace(report, already_ended=report.already_ended + named)
            case NoSuchWorkflow(missing):
                if order.must_exist:
                    raise DBOSNonExistentWorkflowError(*missing, nothing="nothing was cancelled")
                left = tuple(each for each in left if each not in missing)
                named = tuple(each for each in missing if each in order.named)
                report = replace(report, not_found=report.not_found + named)
            case _:
                raise unexpected(answer)
    return report


def _sweep(order: Order) -> Operation[None]:
    """Cancel children that the calling workflow started before it was cancelled. It can start no more."""
    above = () if order.me is None else (order.me,)
    while found := (yield Aside(Read(FindPendingBelow(above, PAGE)))):
        yield Aside(Commit(Unit(cancels=tuple(found))))  # If one has ended meanwhile, the next search omits it.


def _pages(workflow_ids: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for start in range(0, len(workflow_ids), PAGE):
        yield tuple(workflow_ids[start : start + PAGE])
