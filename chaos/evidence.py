"""All histories of a run together: the records of each kind in order of time, each with its process."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Generic, TypeVar

from chaos.histories import Final, FinalWorkflow, History, Record
from chaos.violations import Noted

R = TypeVar("R", bound=Record)


class Seen(Generic[R]):
    """A record of a known kind, and the process that wrote it."""

    __slots__ = ("noted", "process", "record")

    def __init__(self, process: str, record: R) -> None:
        self.process = process
        self.record = record
        self.noted = Noted(process, record)

    @property
    def at(self) -> int:
        """When it was written."""
        return self.record.at


class Evidence:
    """All that the checker may use."""

    def __init__(self, histories: Iterable[History], final: Final) -> None:
        self.final = final
        self.workflows: dict[str, FinalWorkflow] = {each.workflow_id: each for each in final.workflows}
        self._kinds: dict[type[Record], list[Seen[Any]]] = defaultdict(list)
        for history in histories:
            for record in history.records:
                self._kinds[type(record)].append(Seen(history.process, record))
        for seen in self._kinds.values():
            seen.sort(key=lambda each: each.record.at)

    def of(self, kind: type[R]) -> Sequence[Seen[R]]:
        """Return all records of a kind, the oldest first."""
        return self._kinds[kind]
