"""A replay: what is recorded and has not begun again, and the order in which its results come.

A replay gives the recorded results to the code in the order of their numbers (`turns`), each only after as many
operations have begun as had begun the first time. Time limits that the code reached are results among these. New
operations wait for the recorded ones.

The code may cancel a branch a little earlier or later than the first time. So a replay does not insist on the rest of a
cancelled branch (`excuse`).

Decides, and waits for nothing: `engine.runs.turns` waits.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf
from typing import Final

from tidings.core.order import Order
from tidings.core.places import LIMITS, ROOT, Branch, title, where
from tidings.model import Entry, EntryState, Place, RecordedEntry

TIME_LIMIT: Final = "a time limit"
# What is recorded of a limit besides: that the one before was reached with it, which calls in threads were under way.
_TOGETHER: Final = "together"
_DURING: Final = "during"


class Replay(Order):
    """The recorded entries of one run that are left, and their order. Empty if nothing is recorded."""

    __slots__ = (
        "_begun_at",
        "_calls",
        "_excused",
        "_gaps",
        "_limits_reached",
        "_limits_set",
        "_ordinal",
        "_places",
        "_recorded",
        "begun",
        "branches_left",
        "turns",
    )

    def __init__(self, entries: Sequence[RecordedEntry]) -> None:
        super().__init__()
        self._excused: set[str] = set()  # Cancelled branches: a replay may skip the rest of their entries.
        self._places: dict[str, list[Place]] | None = None  # The recorded places by branch, once one was cancelled.
        self._recorded: dict[Place, RecordedEntry] = {}
        self._ordinal = 0
        # The ordinals of operations that had begun and were not recorded, the next one last. In a replay, an operation
        # that begins before the last recorded result takes one of them. So an ordinal tells after which results an
        # operation began.
        self._gaps: list[int] = []
        self._calls = 0
        self.begun = 0  # Operations that this execution has begun, and time limits that its code has reached.
        self.branches_left = 0  # How many entries of branches are recorded and have not begun again.
        # Results still to replay, the next one last. Their order matters only between branches.
        self.turns: list[int] = []
        # Of each recorded result: the highest ordinal that had begun, and how many operations had begun. An operation
        # that a replay begins for the first time may get an ordinal above that count.
        self._begun_at: dict[int, tuple[int, int]] = {}
        self._limits_set = 0
        # Time limits that the code reached the first time and not yet again: result number to limit number.
        self._limits_reached: dict[int, int] = {}
        if entries:
            self._take_from(entries)

    def _take_from(self, entries: Sequence[RecordedEntry]) -> None:
        finished = []
        for each in entries:
            entry = each.entry
            self._recorded[Place(entry.branch, entry.position)] = each
            self._ordinal = max(self._ordinal, entry.ordinal, entry.begun or 0)
            if entry.finished is not None:
                finished.append(entry.finished)
                if entry.branch == LIMITS:
                    self._limits_reached[entry.finished] = entry.position
        if self._ordinal > len(self._recorded):
            taken = {each.entry.ordinal for each in self._recorded.values()}
            self._gaps = [number for number in range(self._ordinal, 0, -1) if number not in taken]
        self._finished = max(finished, default=0)
        self.expect_branches()
        if self.branches_left:
            self._order_results()
            self.coming = {} if finished else None

    @property
    def has_turns(self) -> bool:
        """Whether recorded results or branch operations are still to replay. New operations wait for them."""
        return bool(self.turns or self.branches_left)

    def _next_ordinal(self) -> int:
        if self._gaps and (self._recorded or self.turns):
            return self._gaps.pop()
        self._ordinal += 1
        return self._ordinal

    def _order_results(self) -> None:
        """Put the recorded results that are left in the order of their numbers, and note what had begun before each."""
        self._begun_at = {}
        for place, each in self._recorded.items():
            entry = each.entry
            if entry.finished is not None and place.branch not in self._excused:
                count = entry.begun or 0
                self._begun_at[entry.finished] = max(count, entry.ordinal - (place.branch == LIMITS)), count
        self.turns = sorted(self._begun_at, reverse=True)

    def expect_branches(self) -> None:
        """Count the entries of branches that have not begun again."""
        if self._recorded:
            self.branches_left = sum(self._is_left(place) for place in self._recorded if place.branch)
        else:
            self.branches_left = 0

    def excuse(self, branch: str) -> None:
        """Stop expecting a cancelled branch to replay the rest of its entries.

        A cancellation may reach a branch a little earlier or later in another execution. The entries stay: an
        operation that begins after all finds its result. Branches below this one may continue, and keep their turns.
        """
        if not self._recorded:
            return  # Everything recorded has begun again.
        self._excused.add(branch)
        if self._places is None:  # Thousands may be cancelled at once: group the places once.
            self._places = {}
            for place in self._recorded:
                self._places.setdefault(place.branch, []).append(place)
        left = [self._recorded[place] for place in self._places.get(branch, ()) if place in self._recorded]
        if left:
            excused = {each.entry.finished for each in left}
            self.turns = [number for number in self.turns if number not in excused]
            self.expect_branches()

    def missing(self, begun: int | None) -> str:
        """Describe what the replay waits for.

        Args:
            begun: how many operations must begin before the next result; `None` if that waits for none.
        """
        place = self._next_left(begun)
        return f"{begun} operations to begin" if place is None else f"{title(self._recorded[place])} at {where(place)}"

    def _next_left(self, begun: int | None) -> Place | None:
        """Return the earliest operation that has not begun again: one of a branch, if there is any."""
        ordinals = {place: each.entry.ordinal for place, each in self._recorded.items()}
        if begun is not None:
            ordinals = {place: ordinal for place, ordinal in ordinals.items() if ordinal <= begun}
        left = [place for place in ordinals if self._is_left(place)] or list(ordinals)
        return min(left, key=ordinals.__getitem__) if left else None

    def _is_left(self, place: Place) -> bool:
        return place.branch != ROOT and place.branch not in self._excused

    # --- functions in threads -----------------------------------------------------------------------

    def next_call(self, branch: Branch) -> str:
        """Number a call of a function in a thread. From now on the order of results counts, as between branches.

        Without branches, a replay has returned all earlier results by now, and none is under way.
        """
        self._calls += 1
        if self._recorded and not self.turns:
            self.takes_turns()
            self._order_results()
        return branch.next_call()

    def may_begin(self, branch: Branch) -> bool:
        """Tell whether the next operation of this branch may begin, because it first began before the next result.

        A thread may call the operation sooner than in the recorded run. There, another result may have come first and
        ended the thread's call. Then the task itself called the operation that is recorded at this place.
        """
        recorded = self.next_recorded(branch)
        if not self.turns:
            return recorded is not None or not self.branches_left
        begun, _ = self._begun_at.get(self.turns[-1], (0, 0))
        if recorded is not None:
            if recorded.entry.ordinal <= begun or recorded.entry.finished == self.turns[-1]:
                return True
            # The result waits for more operations to begin. The next one in the order of ordinals is one of them.
            return self.lacks_begun(self.turns[-1]) and recorded.entry.ordinal == self._lowest_ordinal_left()
        return bool(self._gaps) and self._gaps[-1] <= begun

    def next_recorded(self, branch: Branch) -> RecordedEntry | None:
        """Return what is recorded at the next place of this branch; `None` if the next operation is new."""
        return self._recorded.get(Place(branch.path, branch.count + 1)) if self._recorded else None

    def ordinal_of_next(self, branch: Branch) -> float:
        """Return the recorded ordinal of this branch's next operation; infinity if it is new."""
        recorded = self.next_recorded(branch)
        return inf if recorded is None else recorded.entry.ordinal

    def _lowest_ordinal_left(self) -> int:
        return min(
            each.entry.ordinal
            for place, each in self._recorded.items()
            if place.branch != LIMITS and place.branch not in self._excused
        )

    def lacks_begun(self, finished: int) -> bool:
        """Tell whether operations are still to begin again that had begun at this result."""
        _, count = self._begun_at.get(finished, (0, 0))
        return self.begun < count

    # --- time limits --------------------------------------------------------------------------------

    def next_limit(self) -> int:
        """Number a time limit that the code sets."""
        self._limits_set += 1
        return self._limits_set

    def is_to_reach(self, limit: int) -> bool:
        """Tell whether the code reached this time limit the first time, and not yet in this replay."""
        return Place(LIMITS, limit) in self._recorded

    def limit_at(self, finished: int) -> int | None:
        """Return the time limit whose entry has this number; `None` if the number is another result's."""
        return self._limits_reached.get(finished)

    def limits_at(self, finished: int) -> list[int]:
        """Return the time limits that the code reached when this number was drawn, in one round of its event loop."""
        found: list[int] = []
        for number in reversed(self.turns):
            limit = self.limit_at(number) if number >= finished else None
            recorded = None if limit is None else self._recorded.get(Place(LIMITS, limit))
            if limit is None or recorded is None or (found and _TOGETHER not in (recorded.entry.output or "")):
                break
            found.append(limit)
        return found

    def ran_at(self, limit: int) -> frozenset[str] | None:
        """Return the calls in threads that were under way when the code reached this time limit; `None`: not known."""
        recorded = self._recorded.get(Place(LIMITS, limit))
        words = [] if recorded is None else (recorded.entry.output or "").split()
        return frozenset(each for each in words if "/" in each) if _DURING in words else None

    def outlasts_limit(self, call: str) -> bool:
        """Tell whether a call in a thread was still under way at a time limit that is to be reached again."""
        return any(call in (self.ran_at(limit) or ()) for limit in self._limits_reached.values())

    def reaches_again(self, limit: int) -> None:
        """Note that a replay has reached a recorded time limit."""
        self.begun += 1
        recorded = self._recorded.pop(Place(LIMITS, limit))
        self._limits_reached.pop(recorded.entry.finished or 0, None)
        self.branches_left -= 1

    def reaches(self, limit: int, finished: int, calls: Iterable[str], *, is_next: bool = False) -> Entry:
        """Return the entry of a time limit that the code reached, with its number among the results.

        Args:
            limit: the number of the limit, from `next_limit`.
            finished: its number among the results.
            calls: the calls in threads that are under way.
            is_next: the limit before it was reached in the same round of the event loop.
        """
        begun = self.begun
        self.begun += 1
        self._ordinal += 1
        words = [_TOGETHER] if is_next else []
        words += [_DURING, *sorted(calls)] if self._calls else []
        output = " ".join(words) or None
        return Entry(
            LIMITS, limit, self._ordinal, TIME_LIMIT, EntryState.ABANDONED, output, finished=finished, begun=begun
        )
