"""Every bound of tidings, with its unit and its reason, and the checks that keep them.

Checked at the call that passes the value, before anything is written.
"""

from __future__ import annotations

from typing import Final

from tidings.error import DBOSLimitError

# A PostgreSQL index row holds about 2,700 bytes; the widest index is
# (workflow id, topic or key, a number), so 512 + 1,024 leaves room for both.
MAX_ID_BYTES: Final = 512
MAX_KEY_BYTES: Final = 1_024

# One value must fit a batch, a network buffer and a person's patience.
MAX_VALUE_BYTES: Final = 16 * 1024 * 1024

# What one batch takes: enough that the sync is shared by many, small enough that the first one in
# it does not wait long for the last.
MAX_BATCH_UNITS: Final = 1_024
MAX_BATCH_BYTES: Final = 8 * 1024 * 1024

# What a reader of a stream takes at once: enough that a query costs little per value, and little
# enough that memory stays flat however slow the reader is. A value beyond the bytes is a page alone.
MAX_PAGE_ITEMS: Final = 1_000
MAX_PAGE_BYTES: Final = 1024 * 1024

# What a run may see of the messages that wait behind the one it takes. A hundred receives share one commit then, which
# leaves little of it to each; the bytes are kept until they are taken, perhaps by thousands of runs at once.
MAX_AHEAD_ITEMS: Final = 100
MAX_AHEAD_BYTES: Final = 64 * 1024

# Handed over but not yet durable, per process. A run that meets the bound waits for its own unit.
MAX_BYTES_IN_FLIGHT: Final = 64 * 1024 * 1024
MAX_UNITS_IN_FLIGHT: Final = 50_000

# How often a workflow may be recovered after a process died with it before it recorded anything new.
# Bad luck strikes a few times in a row; what strikes a hundred times is the workflow itself.
DEFAULT_RECOVERY_ATTEMPTS: Final = 100

# Python's thread wait takes at most about 292 years; a millisecond clock in 64 bits needs less.
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
        raise TypeError(f"offset must be a whole number, not {value!r:.100}")
    if not 0 <= value < 2**63:
        raise DBOSLimitError(f"offset must be 0 (the first value of a stream) or more, and fit 64 bits; got {value}")
    return value


def check_topic(value: object) -> str | None:
    """Return `value` if it is a legal topic; `None` is the topic of messages without one."""
    return None if value is None else check_key(value, "topic")


def check_timeout(value: object, what: str = "timeout_seconds") -> float | None:
    """Return `value` if it is `None` (no limit) or a finite number of seconds from 0 upwards."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} must be a number of seconds or None, not {value!r}")
    if not value >= 0:  # Neither is NaN.
        raise DBOSLimitError(f"{what} must be 0 or more seconds, or None to wait without limit; got {value!r}")
    return None if value > MAX_TIMEOUT_SECONDS else float(value)


def check_time_limit(value: object, what: str) -> float | None:
    """Return `value` if it is `None` (no limit) or a number of seconds more than 0; a hundred years are no limit."""
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{what} must be a number of seconds, or None for no limit, not {value!r}")
    if not value > 0:  # Nor is NaN.
        raise DBOSLimitError(f"{what} must be more than 0, or None for no limit, not {value}")
    return None if value > MAX_TIMEOUT_SECONDS else float(value)


def check_recovery_attempts(value: object) -> int | None:
    """Return `value` if it is `None` (any number) or a whole number from 0 upwards."""
    if value is None:
        return None
    if type(value) is not int:
        raise TypeError(f"max_recovery_attempts must be a whole number, or None for any number, not {value!r}")
    if value < 0:
        raise DBOSLimitError(f"max_recovery_attempts must be 0 or more, or None for any number, not {value}")
    return value


def check_value_size(text: str, what: str) -> str:
    """Return `text`, a serialized value, if it is not larger than 16 MiB."""
    if len(text) * 4 > MAX_VALUE_BYTES and (size := len(text.encode())) > MAX_VALUE_BYTES:
        raise DBOSLimitError(
            f"{what} takes {size:,} bytes, more than the {MAX_VALUE_BYTES:,} a value may have; "
            "store it elsewhere and pass a reference"
        )
    return text


def _check_text(value: object, what: str, most: int, least: int) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{what} must be a string, not {type(value).__name__} ({value!r:.100})")
    if "\0" in value:
        raise DBOSLimitError(f"{what} {value!r:.100} holds a NUL character, which no store can keep")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise DBOSLimitError(f"{what} {value!r:.100} holds a lone surrogate, which is no text") from None
    if size < least:
        raise DBOSLimitError(f"{what} must not be empty")
    if size > most:
        raise DBOSLimitError(f"{what} takes {size:,} bytes of UTF-8, more than the {most:,} allowed: {value[:40]!r}…")
    return value
