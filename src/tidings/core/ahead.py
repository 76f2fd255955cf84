"""What a run has seen of the messages that wait for it, behind those that it took.

A receive that found its message waiting, as those before it did, lets the store tell what waits behind it
(`Take.ahead`). The next receives of that topic take these one by one, by units that are handed over and not
waited for: each would cost a commit and two hand-overs between threads, and its message is known already.

Seen is not taken: until its unit commits a message is unread for everybody. Why it is still there then, and
still the next one: only the run takes what is sent to it, and no other take of it comes in between. For
it looks ahead only while its root branch is the only one, and forgets what it saw when another one opens; and
what is seen comes before a later look, which is taken behind it. A snapshot that holds a message
holds each one whose send returned before its own send began; so the order is that of the sends.

To forget is always right, because the next receive looks again. All is forgotten when the run waits for
something, which may take days; and a topic whose message was put back begins anew.

Used by the run's own thread or loop; while it waits in a receive, by the committer, which forgets for it.
"""

from __future__ import annotations

from typing import Final

from tidings.limits import MAX_AHEAD_ITEMS
from tidings.model import Taken

# After so many receives in a row that found a message waiting, the next one looks ahead. A ping-pong may find one
# now and then, and would pay for looks that see nothing.
_AFTER: Final = 2
# How far it looks at first; if that was right, as far as it may.
_AT_FIRST: Final = 16
# Topics at once of which something is kept.
_MOST_TOPICS: Final = 8


class Outlook:
    """What is known of one topic: how many receives in a row found a message waiting, and what was seen, the next last.

    Thousands of runs wait with an empty one, which takes next to nothing.
    """

    __slots__ = ("found", "seen")

    def __init__(self) -> None:
        self.found = 0
        self.seen: list[Taken] | tuple[()] = ()

    @property
    def wanted(self) -> int:
        """How far to look ahead now."""
        if self.found < _AFTER:
            return 0
        return _AT_FIRST if self.found == _AFTER else MAX_AHEAD_ITEMS


class Ahead:
    """The outlooks of one run."""

    __slots__ = ("_branches", "_topics")

    def __init__(self) -> None:
        self._topics: dict[str | None, Outlook] | None = None
        self._branches = 0  # besides the root

    def next(self, topic: str | None) -> Taken | None:
        """Give the next message of a topic, if it was seen. It stays so until it `took` it, or forgets the topic."""
        outlook = self._topics.get(topic) if self._topics else None
        return outlook.seen[-1] if outlook is not None and outlook.seen else None

    def took(self, topic: str | None) -> None:
        """Note that the next message of a topic is being taken."""
        outlook = self._topics.get(topic) if self._topics else None
        if outlook is not None and outlook.seen:
            outlook.found += 1
            outlook.seen.pop()

    def look(self, topic: str | None) -> Outlook:
        """Begin a look; what it `saw` is told with what this gives."""
        if self._branches:
            return Outlook()
        topics = self._topics
        if topics is None:
            topics = self._topics = {}
        outlook = topics.get(topic)
        if outlook is None:
            if len(topics) == _MOST_TOPICS:
                del topics[next(iter(topics))]
            outlook = topics[topic] = Outlook()
        return outlook

    def saw(self, topic: str | None, outlook: Outlook, taken: Taken | None) -> None:
        """Keep what the look found, unless the run waited meanwhile or another branch opened; then it was forgotten."""
        if self._topics is None or self._topics.get(topic) is not outlook:
            return
        if taken is None or (outlook.wanted and not taken.ahead):
            del self._topics[topic]
        else:
            outlook.found += 1
            outlook.seen = list(reversed(taken.ahead)) if taken.ahead else ()

    def forget(self, topic: str | None) -> None:
        """Forget one topic."""
        if self._topics is not None:
            self._topics.pop(topic, None)

    def forget_all(self) -> None:
        """Forget all topics."""
        self._topics = None

    def branch_opens(self) -> None:
        """From now on another branch may take messages too."""
        self._branches += 1
        self._topics = None

    def branch_ends(self, _: object = None) -> None:
        """It takes no more."""
        self._branches -= 1
