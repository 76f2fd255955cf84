"""The metaclass of `DBOS`: nothing can be set on it, and a name that it lacks is explained.

`DBOS.workflow_id = "order-1"` would be accepted by an ordinary class, and do nothing but hide the id from all code of
the process. Tests may still replace its methods, with `unittest.mock.patch` or pytest's `monkeypatch`: these put back
what was there.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Final

from tidings.api.absent import missing
from tidings.slips import plainly

# The modules that replace attributes for a test, and put them back.
_PATCHERS: Final = ("unittest.mock", "mock.mock", "_pytest.monkeypatch")

_IN_CONFIG: Final = "set {name!r} in the configuration: DBOS(config={{'name': ..., {name!r}: ...}})"
_INSTEAD: Final = {
    "step_id": "it tells which step the calling code is in. Give a step its name: @DBOS.step(name='...')",
    "step_status": "it tells which step the calling code is in",
    "executor_id": _IN_CONFIG.format(name="executor_id"),
    "application_version": _IN_CONFIG.format(name="application_version"),
    "logger": "configure logging.getLogger('tidings'), or set 'log_level' in the configuration",
}


class Sealed(type):
    """The class of `DBOS`. Subclasses that users derive are open."""

    def __setattr__(cls, name: str, value: Any) -> None:
        if _is_refused(cls, name):
            raise cannot_set(cls, name, value)
        super().__setattr__(name, value)

    def __delattr__(cls, name: str) -> None:
        if _is_refused(cls, name):
            raise cannot_delete(name)
        super().__delattr__(name)

    if not TYPE_CHECKING:  # A type checker would accept any name.

        def __getattr__(cls, name: str) -> Any:
            for each in cls.__mro__:
                if name in vars(each):  # A property without a value at present: this raises its error once more.
                    return vars(each)[name].__get__(None, cls)
            raise missing(cls.__name__, name, dir(cls))


class SealedInstance:
    """An object of a `Sealed` class: refuses what the class refuses."""

    def __setattr__(self, name: str, value: Any) -> None:
        if _is_refused(type(self), name):
            raise cannot_set(type(self), name, value)
        super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if _is_refused(type(self), name):
            raise cannot_delete(name)
        super().__delattr__(name)

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            raise missing(type(self).__name__, name, dir(type(self)))


def cannot_set(cls: type, name: str, value: object) -> AttributeError:
    """Return the error for an assignment."""
    if name == "workflow_id":
        given = f"SetWorkflowID({plainly(value)})" if isinstance(value, str) else "SetWorkflowID('...')"
        why = (
            "it tells which workflow the calling code is in. To choose the id of a workflow, write: with "
            f"{given}: DBOS.start_workflow(function, ...)"
        )
    elif name in _INSTEAD:
        why = _INSTEAD[name]
    elif hasattr(cls, name):
        why = (
            "all code of this process uses it. To replace it for a test, use unittest.mock.patch.object or pytest's "
            "monkeypatch.setattr, which put it back"
        )
    else:
        why = "DBOS keeps no values of yours; use a variable of your module, or pass the value to the workflow"
    return AttributeError(f"DBOS.{name} cannot be set: {why}")


def cannot_delete(name: str) -> AttributeError:
    """Return the error for `del DBOS.name`."""
    return AttributeError(f"DBOS.{name} cannot be deleted: all code of this process uses it")


def _is_refused(cls: type, name: str) -> bool:
    is_special = name.startswith("__") and name.endswith("__")
    if is_special or not cls.__module__.startswith("tidings."):
        return False
    return sys._getframe(2).f_globals.get("__name__") not in _PATCHERS
