"""The key that marks typed JSON, and what a marked value says of its class."""

from __future__ import annotations

from typing import Any, Final

MARK: Final = "$tidings"


def class_named_in(node: Any) -> str | None:
    """Return the class that a JSON value names, as people write it."""
    name = node.get("cls") if type(node) is dict and MARK in node else None
    return name.replace(":", ".") if type(name) is str else None
