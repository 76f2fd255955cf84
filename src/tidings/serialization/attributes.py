"""The attributes of instances, in their `__dict__` and in slots, read and set without running their class's code.

Cached values are left out: those of `functools.cached_property`, and the hash that attrs caches.
"""

from __future__ import annotations

from functools import cached_property
from types import MemberDescriptorType
from typing import Any, Final

from tidings.serialization.fault import Fault, shown

HEAP_TYPE: Final = 1 << 9  # Py_TPFLAGS_HEAPTYPE: not one of the interpreter's own static types
_ATTRS_HASH: Final = "_attrs_cached_hash"  # differs from process to process; None means "not computed"
_NOT_STATE: Final = frozenset({"__orig_class__"})  # left by typing on `Box[int](...)`


class Attributes:
    """The attributes of the instances of one class."""

    def __init__(self, cls: type) -> None:
        self._cls = cls
        self._has_dict = cls.__dictoffset__ != 0
        self._slots: dict[str, MemberDescriptorType] = {}
        self._left_out = set(_NOT_STATE)
        for base in reversed(cls.__mro__):
            if base.__flags__ & HEAP_TYPE:
                slots = {name: member for name, member in vars(base).items() if type(member) is MemberDescriptorType}
                self._slots |= slots
                self._left_out |= {name for name, member in vars(base).items() if type(member) is cached_property}
                if "__attrs_attrs__" in vars(base):  # attrs keeps cached properties in slots that are not fields
                    fields = {attribute.name for attribute in vars(base)["__attrs_attrs__"]}
                    self._left_out |= slots.keys() - fields - {_ATTRS_HASH}

    def get_all(self, instance: Any) -> dict[str, Any]:
        """Return the attributes that are set: those in slots in the order of declaration, then the others."""
        found = {}
        for name, slot in self._slots.items():
            try:
                found[name] = slot.__get__(instance)
            except AttributeError:
                continue  # never set
        if self._has_dict:
            found |= instance.__dict__
        if not self._left_out.isdisjoint(found):
            for name in self._left_out & found.keys():
                del found[name]
        if _ATTRS_HASH in found:
            found[_ATTRS_HASH] = None
        return found

    def set_all(self, instance: Any, fields: dict[str, Any]) -> None:
        """Set these attributes, in their order.

        Raises:
            Fault: an instance of the class cannot have one of them.
        """
        if self._has_dict and not self._slots:
            instance.__dict__.update(fields)
            return
        for name, value in fields.items():
            if name in self._slots:
                self._slots[name].__set__(instance, value)
            elif self._has_dict:
                instance.__dict__[name] = value
            else:
                raise gone(self._cls, name)


def attributes_of(error: BaseException) -> dict[str, Any]:
    """Return the attributes of an error, without those that cannot be read. Never fails."""
    try:
        found = Attributes(type(error)).get_all(error)
    except Exception:
        found = dict(vars(BaseException)["__dict__"].__get__(error))
    return {name: value for name, value in found.items() if type(name) is str}


def added(cls: type, name: str) -> Fault:
    """Return the fault of a stored value that lacks a field added to its class since."""
    return Fault(f"the stored value lacks the field {name!r} that the class {cls.__qualname__} has; give it a default")


def gone(cls: type, name: str) -> Fault:
    """Return the fault of a stored value with a field removed from its class since."""
    return Fault(f"the class {cls.__qualname__} lacks the field {shown(name)} that the stored value has; add it again")
