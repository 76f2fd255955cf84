"""Secrets in texts that people see or that are stored with errors. A `***` takes their place.

Found are the password of a URL, and what follows the name of a secret: `password=...`, `'api_key': '...'`,
`Authorization: Bearer ...`. A secret in a text without such a name cannot be found.
"""

from __future__ import annotations

import re
from typing import Final

HIDDEN: Final = "***"

_NAMES: Final = (
    "password|passwd|passphrase|secret|(?:api|secret|access|private|client)[-_]?key|"
    "(?:access|refresh|auth|bearer|session|security)[-_]?token|id[-_]token"
)
_VALUE: Final = r"""b?'[^'\n]{1,1024}'|b?"[^"\n]{1,1024}"|[^\s"'&;,)\]}]+"""
_HEADERS: Final = "(?:proxy-)?authorization|(?:set-)?cookie|x-[a-z-]{0,32}(?:key|token)|auth"

_is_name: Final = re.compile(rf"(?i).*(?:{_NAMES})").fullmatch
_is_header: Final = re.compile(rf"(?i)(?:{_HEADERS})").fullmatch
_LONGEST_NAME: Final = 128

# What follows `before` is hidden. Each pattern reads no part of the text more than a few times. The words come first:
# a text that has none of them is not searched, as a search takes a second for a million characters.
_PATTERNS: Final = (
    (("://",), r"""(?P<before>://[^\s/@:"'<>]{0,256}:)(?!\*\*\*)[^\s/"'<>]{1,1024}(?=@)"""),
    (
        ("passw", "passphrase", "secret", "key", "token"),
        rf"""(?i)(?P<before>(?:{_NAMES})\s?=\s?)(?!\*\*\*|None\b|True\b|False\b|null\b)(?:{_VALUE})""",
    ),
    (
        ("passw", "passphrase", "secret", "key", "token", "auth", "cookie"),
        rf"""(?i)(?P<before>(?:{_NAMES}|(?<![a-z])(?:{_HEADERS}))["']\s?[:,]\s?b?["'])(?!\*\*\*)[^"'\n]+""",
    ),
    (
        ("authorization",),
        r"""(?i)(?P<before>authorization["']?\s?[:=]\s?["']?(?:bearer|basic|digest|token)\s)(?!\*\*\*)[^\s"',)\]}]+""",
    ),
)
_IN_TEXT: Final = tuple((words, re.compile(pattern)) for words, pattern in _PATTERNS)
_MOST_ROUNDS: Final = 5  # What one pattern has hidden may let another one find more.


def hide_in_text(text: str) -> str:
    """Return a text with `***` in place of the secrets in it; the text itself if none is found."""
    small = text.lower()
    patterns = [pattern for words, pattern in _IN_TEXT if any(word in small for word in words)]
    for _ in range(_MOST_ROUNDS if patterns else 0):
        before = text
        for pattern in patterns:
            text = pattern.sub(rf"\g<before>{HIDDEN}", text)
        if text == before:
            break
    return text


def names_secret(name: str) -> bool:
    """Tell whether a field of this name holds a secret, if it holds text: `password`, `clientSecret`, `x-api-key`."""
    return len(name) <= _LONGEST_NAME and (_is_name(name) is not None or names_header(name))


def names_header(name: str) -> bool:
    """Tell whether this is the name of a header that authorizes."""
    return len(name) <= _LONGEST_NAME and _is_header(name) is not None
