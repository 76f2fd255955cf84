"""Every limit of tidings, with its unit and its reason, and the checks.

A value is checked in the call that passes it, before anything is written.
"""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Final

from tidings.error import DBOSLimitError
from tidings.slips import given, plainly

# The type of every public parameter in seconds.
Seconds = float | timedelta

# A PostgreSQL index row holds about 2,700 bytes; the widest index is
# (workflow id, topic or key, a number), so 512 + 1,024 leaves room for both.
MAX_ID_BYTES: Final = 512
MAX_KEY_BYTES: Final = 1_024

# One value must fit in a batch and in network buffers, and must not take long to store.
MAX_VALUE_BYTES: Final = 16 * 1024 * 1024

# The size of a batch: large enough that many units share one sync, small enough that the first unit
# does not wait long for the last.
MAX_BATCH_UNITS: Final = 1_024
MAX_BATCH_BYTES: Final = 8 * 1024 * 1024

# The size of a page of a stream: large enough that a query costs little per value, small enough that
# memory use stays low even for a slow reader. A value larger than this is a page of its own.
MAX_PAGE_ITEMS: Final = 1_000
MAX_PAGE_BYTES: Final = 1024 * 1024

# How many unread messages a run may see beyond the one that it takes. With a hundred, a hundred receives share the cost
# of one commit. The bytes stay in memory until the messages are taken, perhaps in thousands of runs at once.
MAX_AHEAD_ITEMS: Final = 100
MAX_AHEAD_BYTES: Final = 64 * 1024

# Units handed over but not yet durable, per process. A run that reaches the limit waits for its own unit.
MAX_BYTES_IN_FLIGHT: Final = 64 * 1024 * 1024
MAX_UNITS_IN_FLIGHT: Final = 50_000

# How often in a row a workflow may be recovered without having recorded anything new. A few crashes in a row may be
# bad luck; after a hundred, the workflow itself is the cause.
DEFAULT_RECOVERY_ATTEMPTS: Final = 100

# A wait of a Python thread may last at most about 292 years; 64 bits hold far more milliseconds.
MAX_TIMEOUT_SECONDS: Final = 100 * 366 * 86_400.0


def check_id(value: object, what: str) -> str:
    """Return `value` if it is a legal workflow id: 1 to 512 bytes of UTF-8, no NUL."""
    return _check_text(value, what, MAX_ID_BYTES, least=1)


def check_key(value: object, what: str) -> str:
    """Return `value` if it is a legal topic, event key, stream key or idempotency key."""
    return _check_text(value, what, MAX_KEY_BYTES, least=0)


def check_offset(value: object) -> int:
    """Return `value` if it is a legal offset of a stream: a whole number from 0 upwards."""
    if type(value) is not int:
        raise TypeError(f"offset must be a whole number, not {plainly(value)}")
    if not 0 <= value < 2**63:
        raise DBOSLimitError(f"offset must be 0 (the first value of a stream) or more, and fit 64 bits; got {value}")
    return value


def check_topic(value: object) -> str | None:
    """Return `value` if it is a legal topic; `None` stands for messages without a topic."""
    return None if value is None else check_key(value, "topic")


def check_timeout(value: object, what: str = "timeout_seconds") -> float | None:
    """Return the seconds of a wait: 0 or more, or `None` for no limit."""
    return None if value is None else _seconds(value, what, "None to wait without limit")


def check_time_limit(value: object, what: str) -> float | None:
    """Return the seconds that something may take: more than 0, or `None` for no limit."""
    return None if value is None else _seconds(value, what, "None for no limit", may_be_zero=False)


def check_seconds(value: object, what: str) -> float:
    """Return a number of seconds, 0 or more; `None` is not allowed."""
    return _seconds(value, what, None)


def _seconds(value: object, what: str, no_limit: str | None, *, may_be_zero: bool = True) -> float:
    """Return `value`, a number or a timedelta, in seconds. More than a hundred years is an error.

    Code that waits without limit passes `None`. Infinity, or a huge number, is more likely a mistake.
    """
    alternative = "" if no_limit is None else f", or {no_limit}"
    number = value.total_seconds() if isinstance(value, timedelta) else value
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(f"{what} must be a number of seconds or a timedelta{alternative}, not {plainly(value)}")
    if not (number >= 0 if may_be_zero else number > 0):  # NaN fails both.
        least = "0 or more seconds" if may_be_zero else "more than 0 seconds"
        raise DBOSLimitError(f"{what} must be {least}{alternative}; got {_shown(value)}")
    if number > MAX_TIMEOUT_SECONDS:
        most = f"{MAX_TIMEOUT_SECONDS:,.0f} seconds, a hundred years"
        raise DBOSLimitError(f"{what} must be at most {most}{alternative}; got {_shown(value)}")
    return float(number)


def _shown(value: object) -> str:
    """Return a number or a timedelta for a message. Python refuses to print integers of many thousand digits."""
    if isinstance(value, int) and abs(value) >= 10**15:
        return f"an integer of about {math.log10(abs(value)):.0f} digits"
    if isinstance(value, timedelta):  # Python prints -1 s as -1 day and 86,399 s.
        return f"timedelta(seconds={value.total_seconds():g})"
    return f"{value!r:.100}"


def check_recovery_attempts(value: object, what: str) -> int | None:
    """Return `value` if it is `None` (any number) or a whole number from 0 upwards."""
    if value is None:
        return None
    if type(value) is not int:
        raise TypeError(f"{what} must be a whole number, or None for any number, not {plainly(value)}")
    if value < 0:
        raise DBOSLimitError(f"{what} must be 0 or more, or None for any number, not {value}")
    return value


def check_value_size(text: str, what: str) -> str:
    """Return `text`, a serialized value, if it is not larger than 16 MiB."""
    if len(text) * 4 > MAX_VALUE_BYTES and (size := len(text.encode())) > MAX_VALUE_BYTES:
        raise DBOSLimitError(
            f"{what} would take {size:,} bytes, more than the {MAX_VALUE_BYTES:,} a value may have; "
            "store large data elsewhere and pass a reference"
        )
    return text


def _check_text(value: object, what: str, most: int, least: int) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a string, not {given(value)}")
    if "\0" in value:
        raise DBOSLimitError(f"{what} {value!r:.100} contains a NUL character, which no store can keep; remove it")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise DBOSLimitError(f"{what} {value!r:.100} contains a lone surrogate, which is not text") from None
    if size < least:
        raise DBOSLimitError(f"{what} must not be empty")
    if size > most:
        raise DBOSLimitError(f"{what} takes {size:,} bytes of UTF-8, more than the {most:,} allowed: {value[:40]!r}…")
    return value
