"""Whether what a simulation left behind is right: the records, and what was seen of them from outside and inside."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from harness.promises import misread, miswritten
from tests.simulation.ledger import GAVE_UP, Ledger, position
from tests.simulation.server import Server
from tidings.model import Status


def judge(ledger: Ledger, server: Server) -> None:
    """Look at everything, and report what may not be."""
    _judge_ends(ledger, server)
    _judge_messages(ledger, server)
    _judge_streams(ledger, server)
    _judge_events(ledger, server)
    ledger.counts["workflows"] += len(server.records.workflows)


def _judge_ends(ledger: Ledger, server: Server) -> None:
    """Each workflow has one end, which all agree on, and its output is what its code saw."""
    for workflow_id, workflow in server.records.workflows.items():
        if ledger.outcomes.get(workflow_id) != (workflow.status, workflow.output, workflow.error):
            ledger.violate(f"the end of {workflow_id} has changed: {ledger.outcomes.get(workflow_id)}, {workflow}")
        if workflow.status is Status.ERROR:
            ledger.violate(f"{workflow_id} failed: {workflow.error}")
        if workflow.status is Status.CANCELLED:
            ledger.counts["cancelled"] += 1
            by_tree = not ledger.cancelled_trees.isdisjoint(ledger.above(workflow_id))
            if workflow_id not in ledger.cancelled and not by_tree and workflow.deadline_ms is None:
                ledger.violate(f"{workflow_id} was cancelled by nobody")
        if workflow.output is not None:
            seen = ledger.results[workflow_id]
            for path, value in json.loads(workflow.output):
                if path not in seen or seen[path] != value:
                    ledger.violate(
                        f"{workflow_id} ended with {value!r} of {path}, where its code saw {seen.get(path)!r}"
                    )
    for workflow_id in ledger.started:
        if workflow_id not in server.records.workflows:
            ledger.violate(f"{workflow_id} was started, and is not there")
    for workflow_id, result in ledger.results_read:
        output = server.records.workflows[workflow_id].output
        if result != (None if output is None else json.loads(output)):
            ledger.violate(f"somebody read {result!r} as the result of {workflow_id}, which is {output}")


def _judge_messages(ledger: Ledger, server: Server) -> None:
    """Each acknowledged message is there once; each is received once at most, and in the order of its sender."""
    stored: dict[str, int] = defaultdict(int)
    read_of: dict[str, set[str]] = defaultdict(set)
    for sent in server.records.messages.values():
        body = str(json.loads(sent.message.body))
        stored[body] += 1
        if sent.read_by is not None:
            read_of[sent.message.destination_id].add(body)
    for body in sorted(ledger.acknowledged):
        if stored[body] != 1:
            ledger.violate(f"the message {body} was sent, and is there {stored[body]} times")
    for body, times in stored.items():
        if body not in ledger.attempted or times > 1:
            ledger.violate(f"the message {body} is there {times} times")
    received: dict[str, str] = {}
    for workflow_id, results in ledger.results.items():
        if workflow_id in server.records.workflows:
            _judge_receiver(ledger, server, workflow_id, results, read_of[workflow_id], received)
        elif any(value not in (None, GAVE_UP) for value in results.values()):
            ledger.violate(f"{workflow_id} has results, and its start was never recorded")


def _judge_receiver(
    ledger: Ledger, server: Server, workflow_id: str, results: dict[str, Any], read: set[str], received: dict[str, str]
) -> None:
    seen = set()
    for path, value in _receipts(results):
        body, where = str(value), f"{workflow_id} {path}"
        seen.add(body)
        ledger.counts["messages received"] += 1
        if received.setdefault(body, where) != where:
            ledger.violate(f"the message {body} was received at {received[body]} and at {where}")
        # The code of one that is being cancelled may be given what it has seen, and it is recorded no more.
        if body not in read and server.records.workflows[workflow_id].status is not Status.CANCELLED:
            ledger.violate(f"{where} received {body}, which is recorded as unread")
    _judge_order(ledger, server, workflow_id, results)
    if server.records.workflows[workflow_id].status is Status.SUCCESS and seen != read:
        ledger.violate(f"{workflow_id} has read {sorted(read - seen)}, and its code saw nothing of it")


def _judge_order(ledger: Ledger, server: Server, workflow_id: str, results: dict[str, Any]) -> None:
    last: dict[tuple[str, str, Any], int] = {}
    topics = {
        str(json.loads(sent.message.body)): sent.message.topic
        for sent in server.records.messages.values()
        if sent.message.destination_id == workflow_id
    }
    for path, (sender, number) in sorted(_receipts(results), key=lambda each: position(each[0])):
        key = path.rpartition(".")[0], sender, topics[str([sender, number])]
        if number <= last.get(key, -1):
            ledger.violate(f"{workflow_id} {path} received {number} of {sender!r} after {last[key]}")
        last[key] = number


def _receipts(results: dict[str, Any]) -> list[tuple[str, Any]]:
    """Return what was received: it looks like a message."""
    return [
        (path, value)
        for path, value in results.items()
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)
    ]


def _judge_streams(ledger: Ledger, server: Server) -> None:
    """Each stream is gap-free, and each reader read a part of it; the whole, if it came to the end."""
    streams: dict[tuple[str, str], dict[int, Any]] = defaultdict(dict)
    for (workflow_id, key, offset), item in server.records.items.items():
        streams[workflow_id, key][offset] = json.loads(item.value)
    for place, items in streams.items():
        if sorted(items) != list(range(len(items))):
            ledger.violate(f"the stream {place} has gaps: {sorted(items)}")
        values = [items[offset] for offset in sorted(items)]
        if place[1].startswith("t") and miswritten(values):
            ledger.violate(f"the stream {place} was written twice, or out of order: {values}")
    for workflow_id, key, offset, values, came_to_end in ledger.streams_read:
        items = streams[workflow_id, key]
        final = [items[each] for each in sorted(items)]
        if any(misread(final, offset, values, to_the_end=came_to_end)):
            rest = final[offset:]
            ledger.violate(f"{values} was read of {key!r} of {workflow_id} from {offset} on, where {rest} is")


def _judge_events(ledger: Ledger, server: Server) -> None:
    """What a workflow publishes is there once, and in order."""
    versions: dict[tuple[str, str], list[tuple[int, Any]]] = defaultdict(list)
    for (workflow_id, key, version), event in server.records.events.items():
        versions[workflow_id, key].append((version, json.loads(event.value)))
    for place, found in versions.items():
        values = [value for _, value in sorted(found)]
        if [version for version, _ in sorted(found)] != list(range(1, len(found) + 1)):
            ledger.violate(f"the event {place} has versions {sorted(found)}")
        if miswritten(values):
            ledger.violate(f"the event {place} was published twice, or out of order: {values}")
        if not set(values) <= ledger.published[place]:
            ledger.violate(f"the event {place} has values that nobody published: {values}")
