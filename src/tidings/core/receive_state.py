"""All states of a receive, and all transitions between them. Everything that changes a receive asks here.

A receive hands over a take with its arrival. If there is no message, the take waits, and the committer commits it again
in a batch that brings one. Two rules:

1. While a batch has the take, only that batch's answer settles the receive (`IN_BATCH`). Another result is noted, and
   counts only if the batch brought no message. So a message that was taken is always the answer, and no run takes a
   second message at one place.
2. After the run has gone on (`STOP`), the take joins no further batch. Its number is lower than those of later results,
   so a later commit would change their order.

Events come from several threads. The arrival makes each transition under its lock (`engine.waiting.arrivals`).
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Final


class State(IntEnum):
    """The state of a receive. An int, because that is looked up faster."""

    WATCHING = 1  # It would be woken. Its take has not been handed over. Other waits know this state and SETTLED only.
    LOOKING = 2  # The first batch has the take, or the inbox has it.
    LOOKING_LAST = 3  # The same, but no other batch will have the take.
    WAITING = 4  # There was no message. The next batch that brings one may have the take.
    BOARDED = 5  # A batch that brings a message has the take.
    BOARDED_LAST = 6  # The same, but no other batch will have the take.
    STOPPED = 7  # No batch has the take or will have it. A message only wakes the receive, which looks again.
    WITHDRAWN = 8  # The take was withdrawn before its first batch: the receive was given up.
    SETTLED = 9  # It has its result.


class Event(IntEnum):
    """What changes the state of a receive."""

    LOOK = 1  # The driver hands over the take.
    BOARD = 2  # The committer has a batch with a message for the receive. This changes only a receive that is WAITING.
    NOTHING = 3  # The batch is durable, and there was no message.
    ANSWER = 4  # The take has its answer, or has failed.
    RESULT = 5  # A wake-up, the deadline, a cancellation, or the end of the run.
    STOP = 6  # The run numbers another result, or begins another operation.
    WITHDRAW = 7  # The driver has withdrawn the take, because the receive was given up.


TRANSITIONS: Final[Mapping[State, Mapping[Event, State]]] = {
    State.WATCHING: {
        Event.LOOK: State.LOOKING,
        Event.BOARD: State.WATCHING,
        Event.RESULT: State.SETTLED,
        Event.STOP: State.STOPPED,
    },
    State.LOOKING: {
        Event.BOARD: State.LOOKING,
        Event.NOTHING: State.WAITING,
        Event.ANSWER: State.SETTLED,
        Event.RESULT: State.LOOKING,
        Event.STOP: State.LOOKING_LAST,
        Event.WITHDRAW: State.WITHDRAWN,
    },
    State.LOOKING_LAST: {
        Event.BOARD: State.LOOKING_LAST,
        Event.NOTHING: State.STOPPED,
        Event.ANSWER: State.SETTLED,
        Event.RESULT: State.LOOKING_LAST,
        Event.STOP: State.LOOKING_LAST,
        Event.WITHDRAW: State.WITHDRAWN,
    },
    State.WAITING: {
        Event.BOARD: State.BOARDED,
        Event.RESULT: State.SETTLED,
        Event.STOP: State.STOPPED,
    },
    State.BOARDED: {
        Event.BOARD: State.BOARDED,  # A batch may bring several messages for one receive.
        Event.NOTHING: State.WAITING,
        Event.ANSWER: State.SETTLED,
        Event.RESULT: State.BOARDED,
        Event.STOP: State.BOARDED_LAST,
    },
    State.BOARDED_LAST: {
        Event.BOARD: State.BOARDED_LAST,
        Event.NOTHING: State.STOPPED,
        Event.ANSWER: State.SETTLED,
        Event.RESULT: State.BOARDED_LAST,
        Event.STOP: State.BOARDED_LAST,
    },
    State.STOPPED: {
        Event.BOARD: State.STOPPED,
        Event.RESULT: State.SETTLED,
        Event.STOP: State.STOPPED,
    },
    State.WITHDRAWN: {
        Event.BOARD: State.WITHDRAWN,
        Event.ANSWER: State.SETTLED,  # A committer that stops answers all that it has, also what was withdrawn.
        Event.RESULT: State.WITHDRAWN,
        Event.STOP: State.WITHDRAWN,
    },
    State.SETTLED: {
        Event.LOOK: State.SETTLED,  # A wake-up came before the take. Nothing is handed over.
        Event.BOARD: State.SETTLED,
        Event.RESULT: State.SETTLED,  # Only the first result counts.
        Event.STOP: State.SETTLED,
        Event.WITHDRAW: State.SETTLED,  # A committer that stops may have answered in between.
    },
}

# The state of a new arrival.
FIRST: Final = State.WATCHING

# A batch has the take, or will have it soon.
IN_BATCH: Final = frozenset({State.LOOKING, State.LOOKING_LAST, State.BOARDED, State.BOARDED_LAST})

# Of these: the batch is the first one of the take.
IN_FIRST_BATCH: Final = frozenset({State.LOOKING, State.LOOKING_LAST})


class _After(dict[Event, State]):
    """The transitions of one state. Any other event raises."""

    def __init__(self, state: State, transitions: Mapping[Event, State]) -> None:
        super().__init__(transitions)
        self._state = state

    def __missing__(self, event: Event) -> State:
        raise RuntimeError(
            f"a receive in the state {self._state.name} got the event {event.name}, which cannot come then; "
            "please report this bug"
        )


# The same for a quick look-up: `AFTER[state][event]`. An event that the table does not allow raises RuntimeError.
AFTER: Final[Mapping[State, Mapping[Event, State]]] = {
    state: _After(state, transitions) for state, transitions in TRANSITIONS.items()
}
