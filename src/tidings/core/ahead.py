"""The unread messages that a run has already seen: those that follow the messages it took.

When several receives in a row found their message already there, the next one also asks the store for the
messages that follow (`Take.ahead`). Later receives of that topic take the seen messages one by one. They hand
their units over without waiting, because the message is known. This saves each receive a commit and two
thread switches.

A seen message is not taken: until its unit is committed, it is unread for everybody. When that unit is
committed, the message is still there and still the next one, because no other take comes in between:

- Only the run takes messages that were sent to it.
- Only one branch of the run takes. A run looks ahead only while the root is its only branch, and forgets
  what it saw when another branch opens.
- Seen messages are taken before the run looks again.
- A snapshot that holds a message holds every message whose send returned before this one's send began. So
  seen messages are in the order of their sends.

A second reader of a workflow's messages, or a take by another branch, would break this.

Forgetting is always safe, because the next receive looks again. A run forgets everything when it waits, since
a wait may take days. It forgets a topic when a message of the topic is put back.

Used by the run's own thread or loop. While the run waits in a receive, the committer forgets for it.
"""

from __future__ import annotations

from typing import Final

from tidings.limits import MAX_AHEAD_ITEMS
from tidings.model import Taken

# A receive looks ahead after this many receives in a row that found a message there. With fewer, two workflows that
# send to each other in turns would pay for looks that see nothing.
_AFTER: Final = 2
# How many messages the first look asks for. If it finds some, the next one asks for the maximum.
_AT_FIRST: Final = 16
# How many topics a run keeps outlooks of.
_MOST_TOPICS: Final = 8


class Outlook:
    """One topic: how many receives in a row found a message there, and the seen messages, the next one last.

    An empty one is tiny, because thousands of waiting runs have one.
    """

    __slots__ = ("found", "seen")

    def __init__(self) -> None:
        self.found = 0
        self.seen: list[Taken] | tuple[()] = ()

    @property
    def wanted(self) -> int:
        """How many messages to ask for in the next look."""
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
        """Return the next message of a topic, if it was seen. It stays the next until `took` or `forget`."""
        outlook = self._topics.get(topic) if self._topics else None
        return outlook.seen[-1] if outlook is not None and outlook.seen else None

    def took(self, topic: str | None) -> None:
        """Note that the next message of a topic is being taken."""
        outlook = self._topics.get(topic) if self._topics else None
        if outlook is not None and outlook.seen:
            outlook.found += 1
            outlook.seen.pop()

    def look(self, topic: str | None) -> Outlook:
        """Begin a look at a topic. Pass the returned outlook to `saw` afterwards."""
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
        """Keep what the look found, unless the topic was forgotten since: the run waited, or a branch opened."""
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
        """Note that another branch may take messages from now on."""
        self._branches += 1
        self._topics = None

    def branch_ends(self, _: object = None) -> None:
        """Note that a branch has ended and takes no more messages."""
        self._branches -= 1
