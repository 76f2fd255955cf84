"""Warns if a receive timed out while unread messages wait on other topics: the name of a topic may be wrong."""

from __future__ import annotations

import logging
from typing import Final

from tidings.core.effects import ListMessages, Missed
from tidings.engine.database.reader import Reader
from tidings.engine.waiting.ticket import Ticket
from tidings.model import StoredMessage

logger = logging.getLogger("tidings")

# A workflow with a shorter timeout probably polls.
_LOOKED_INTO_SECONDS: Final = 1.0
_MOST_LOOKED_INTO: Final = 1_000
_MOST_LISTED: Final = 20


class OtherTopics:
    """Looks at the other topics, once for each workflow function and topic: many receives may time out."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._looked_into: set[tuple[str, str | None]] = set()

    def look(self, missed: Missed) -> None:
        """Look for unread messages on other topics, and log them. No caller waits for this."""
        kind = missed.name, missed.topic
        if missed.timeout_seconds < _LOOKED_INTO_SECONDS or kind in self._looked_into:
            return
        if len(self._looked_into) < _MOST_LOOKED_INTO:
            self._looked_into.add(kind)
            asked = self._reader.ask(ListMessages(missed.workflow_id, _MOST_LISTED, 0))
            asked.when_settled(lambda: _say(asked, missed))


def _say(asked: Ticket, missed: Missed) -> None:
    try:
        listed: list[StoredMessage] = asked.result() or []
    except BaseException:  # The engine has stopped, or the database is unavailable: log nothing.
        return
    others = sorted({_topic(each.topic) for each in listed if each.read_by is None and each.topic != missed.topic})
    if others:
        logger.warning(
            "workflow %r received nothing on %s within %g s, and has unread messages on %s. Check the names of the "
            "topics. This is logged once for each workflow function and topic",
            missed.workflow_id,
            _topic(missed.topic),
            missed.timeout_seconds,
            ", ".join(others),
            extra={"workflow_id": missed.workflow_id},
        )


def _topic(topic: str | None) -> str:
    return "no topic" if topic is None else f"topic {topic!r}"
