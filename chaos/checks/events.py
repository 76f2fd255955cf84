"""Events: a value that was read was published, and no reader gets a version older than one read or durable before.

Versions of an event count up from 1; version 0 means "there is none".
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator

from chaos.evidence import Evidence, Seen
from chaos.histories import SUCCESS, EventRead, Published, Setting
from chaos.violations import Kind, Noted, Violation

Event = tuple[str, str]


class _Versions:
    """The versions of one event that were published, and the times from which each was known to exist."""

    def __init__(self) -> None:
        self.settings: dict[int, Seen[Setting]] = {}
        self._known: list[tuple[int, int, Noted]] = []
        self._times: list[int] = []

    def knows(self, version: int, noted: Noted) -> None:
        """Note that this version existed at that time. Called in order of time."""
        if not self._known or version > self._known[-1][1]:
            self._known.append((noted.at, version, noted))
            self._times.append(noted.at)

    def known_before(self, at: int) -> tuple[int, Noted | None]:
        """Return the newest version that was known to exist before, and the record that shows it."""
        index = bisect_left(self._times, at)
        return self._known[index - 1][1:] if index else (0, None)


def check(evidence: Evidence) -> Iterator[Violation]:
    """Check every read, and the final versions."""
    versions = _versions(evidence)
    yield from _read(evidence, versions)
    yield from _read_in_workflows(evidence, versions)
    yield from _at_the_end(evidence, versions)


def _versions(evidence: Evidence) -> dict[Event, _Versions]:
    versions: dict[Event, _Versions] = defaultdict(_Versions)
    for setting in evidence.of(Setting):
        event = (setting.record.workflow_id, setting.record.key)
        versions[event].settings.setdefault(setting.record.version, setting)
    known: list[Seen[Published] | Seen[EventRead]] = [*evidence.of(Published), *evidence.of(EventRead)]
    known.sort(key=lambda each: each.at)
    for each in known:
        if each.record.version is not None:
            versions[each.record.workflow_id, each.record.key].knows(each.record.version, each.noted)
    return versions


def _read(evidence: Evidence, versions: dict[Event, _Versions]) -> Iterator[Violation]:
    last: dict[tuple[str, Event], Seen[EventRead]] = {}
    for read in evidence.of(EventRead):
        record = read.record
        event = (record.workflow_id, record.key)
        version = record.version or 0
        setting = versions[event].settings.get(version)
        if version and (setting is None or setting.at > read.at):
            found = (read.noted,) if setting is None else (setting.noted, read.noted)
            detail = f"{record.reader} read version {version} of {record.key!r}, which was not published by then"
            yield Violation(Kind.EVENT_INVENTED, record.workflow_id, detail, found)
        before = last.get((record.reader, event))
        known, by = versions[event].known_before(record.began)
        if before is not None and version < (before.record.version or 0):
            detail = f"{record.reader} read version {version} of {record.key!r} after version {before.record.version}"
            yield Violation(Kind.EVENT_BACKWARDS, record.workflow_id, detail, (before.noted, read.noted))
        elif version < known and by is not None:
            detail = f"{record.reader} read version {version} of {record.key!r} though version {known} existed already"
            yield Violation(Kind.EVENT_STALE, record.workflow_id, detail, (by, read.noted))
        last[record.reader, event] = read


def _read_in_workflows(evidence: Evidence, versions: dict[Event, _Versions]) -> Iterator[Violation]:
    """Check the versions that workflows read. They are recorded, so the time of reading says nothing."""
    for workflow in evidence.final.workflows:
        last: dict[Event, int] = {}
        for seen in workflow.outcome.told.events if workflow.outcome.told is not None else ():
            event, version = (seen.workflow_id, seen.key), seen.version or 0
            if version and version not in versions[event].settings:
                detail = f"{workflow.workflow_id} read version {version} of {seen.key!r}, which was never published"
                yield Violation(Kind.EVENT_INVENTED, seen.workflow_id, detail)
            if version < last.get(event, 0):
                detail = f"{workflow.workflow_id} read version {version} of {seen.key!r} after {last[event]}"
                yield Violation(Kind.EVENT_BACKWARDS, seen.workflow_id, detail)
            last[event] = version


def _at_the_end(evidence: Evidence, versions: dict[Event, _Versions]) -> Iterator[Violation]:
    for (workflow_id, key), event in versions.items():
        workflow = evidence.workflows.get(workflow_id)
        if workflow is None or not event.settings:
            continue
        final = workflow.events.get(key, 0)
        newest = max(event.settings)
        known, by = event.known_before(1 << 63)
        if final and final not in event.settings:
            detail = f"at the end {key!r} has version {final}, which was never published"
            yield Violation(Kind.EVENT_INVENTED, workflow_id, detail)
        elif final < known and by is not None:
            detail = f"at the end {key!r} has version {final}, but version {known} existed before"
            yield Violation(Kind.EVENT_BACKWARDS, workflow_id, detail, (by,))
        elif final < newest and workflow.outcome.status == SUCCESS:
            detail = f"at the end {key!r} has version {final}, but its workflow had published {newest}"
            yield Violation(Kind.EVENT_LOST, workflow_id, detail, (event.settings[newest].noted,))
