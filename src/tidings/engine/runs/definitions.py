"""Where a registered function or class was defined, and whether another one of the same name may replace it.

A recovery knows only the name of a function. So it must not matter which of two functions of one name is called. A used
name may be registered again in two cases:

- *Made again*: the source text that defined the earlier one was run once more, as a notebook cell or a reloaded module.
  The newest definition counts, edited or not, as for Python itself.
- *Alike* (`engine.runs.sameness`): it does what the earlier one does, and is bound to the same values.

How to tell a second run of a text from two definitions in one run: each run has its own code objects. Python compiles a
cell, a statement at the prompt or a module each time it runs. Two definitions in one run share the code object that
contains both. A file may also be run again without being compiled. Then its module has another namespace or, after
`importlib.reload`, another `__spec__`.
"""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import CodeType, FrameType, FunctionType, MethodType
from typing import Any, Final

import tidings.engine.runs.scripts  # noqa: F401  # answers by which name a script is imported
from tidings.serialization.mains import MAINS

_LIBRARY: Final = __name__.partition(".")[0]
_LAMBDA: Final = "<lambda>"
_MODULE: Final = "<module>"
_MOST_CALLS: Final = 16  # How many calls are kept, for error messages.


@dataclass(frozen=True, slots=True, eq=False)
class Definition:
    """Where a function or class was defined and registered, and in which run of its source text.

    Attributes:
        module: its module's name.
        qualname: its qualified name there.
        place: file and line of the definition, or an empty text.
        calls: file and line of the calls that registered it, the innermost first.
        code: the code object of a function.
        codes: the code object that defined it (or else registered it), and those that contain that one.
        space: its module's namespace.
        spec: its module's `__spec__` at that time.
        file: the module's file, if the definition is in it; `None` if it was typed in.
    """

    module: str
    qualname: str
    place: str
    calls: tuple[str, ...]
    code: CodeType | None
    codes: tuple[CodeType, ...]
    space: dict[str, Any] | None
    spec: object
    file: str | None

    @property
    def is_in_main(self) -> bool:
        """Whether the definition is in the `__main__` module."""
        return self.module in MAINS

    def is_called_like(self, new: Definition) -> bool:
        """Tell whether both have the same name in the same module."""
        return (self.module, self.qualname) == (new.module, new.qualname)

    def is_made_again_by(self, new: Definition, name: str) -> bool:
        """Tell whether `new` comes from another run of the source text that defined this.

        Both are registered as `name`.
        """
        if not self.is_called_like(new):
            return False
        if self.file is not None and new.file is not None:
            if self.file != new.file:
                return False  # Two modules of one name.
            return self.space is not new.space or self.spec is not new.spec or self._is_compiled_anew(new, whole=True)
        if self.space is not new.space and not self.is_in_main:
            return False  # Two namespaces, and no sign that one replaced the other.
        if name.rpartition(".")[2] == _LAMBDA:
            return False  # All lambdas have this name.
        return self._is_compiled_anew(new, whole=False) or self._is_another_of_a_place(new)

    def is_elsewhere_in_main(self, new: Definition) -> bool:
        """Tell whether these are the two copies of one definition in a script that was also imported by its name."""
        return (
            self.is_in_main != new.is_in_main
            and self.qualname == new.qualname
            and self.file is not None
            and self.file == new.file
        )

    def _is_compiled_anew(self, new: Definition, *, whole: bool) -> bool:
        """Tell whether both come from different code objects.

        With `whole`, this is false unless all of both texts is known to have run.
        """
        if not (self.codes and new.codes) or self.codes[0].co_qualname != new.codes[0].co_qualname:
            return False
        if whole and not self.codes[-1].co_name == new.codes[-1].co_name == _MODULE:
            return False
        return not any(one is other for one in self.codes for other in new.codes)

    def _is_another_of_a_place(self, new: Definition) -> bool:
        """Tell whether this was typed in once more, if it is registered elsewhere than it is defined.

        In one cell, or at one prompt, two definitions are on two lines.
        """
        one, other = self.code, new.code
        if one is None or other is None or one is other or any(_contains(each, other) for each in new.codes[:1]):
            return False
        return one.co_filename != other.co_filename or one.co_firstlineno == other.co_firstlineno


def plain_function(given: object) -> FunctionType | None:
    """Return the Python function inside partials, methods, wrappers and objects, if there is one."""
    for _ in range(100):  # A wrapper may wrap itself.
        if isinstance(given, functools.partial):
            given = given.func
        elif isinstance(given, MethodType):
            given = given.__func__
        elif "__wrapped__" in getattr(given, "__dict__", {}):
            given = given.__wrapped__  # type: ignore[attr-defined]
        elif isinstance(given, FunctionType):
            return given
        else:
            call = getattr(type(given), "__call__", None)  # noqa: B004  # the function itself is wanted
            return call if isinstance(call, FunctionType) else None
    return None


def definition_of(function: Callable[..., Any]) -> Definition:
    """Return where a function was defined that is being registered now."""
    plain = plain_function(function)
    if plain is None:
        return _definition(None, *_names_of(function), None, None)
    code = plain.__code__
    place = f"{code.co_filename}:{code.co_firstlineno}"
    return _definition(code, plain.__module__ or "", plain.__qualname__, place, plain.__globals__)


def definition_of_class(target: type) -> Definition:
    """Return where a class was defined that is being registered now."""
    module = sys.modules.get(target.__module__)
    return _definition(None, target.__module__, target.__qualname__, None, None if module is None else vars(module))


def described(given: object, definition: Definition) -> str:
    """Return the name of a function or class and where it is defined, for error messages."""
    module, qualname = _names_of(given) if isinstance(given, type) else (definition.module, definition.qualname)
    text = f"{module}.{qualname}" if module else qualname
    if isinstance(given, functools.partial):
        text = f"a partial of {text}"
    elif not isinstance(given, (FunctionType, MethodType, type)):
        text = f"an object with {text}"
    return f"{text} ({definition.place})" if definition.place else text


def apart(first: Definition, second: Definition) -> tuple[str, str]:
    """Return texts that tell two definitions at one place apart, by the calls that registered them; or empty texts."""
    if first.place != second.place:
        return "", ""
    for one, other in zip(first.calls, second.calls, strict=False):
        if one != other:
            return f", registered from {one}", f", registered from {other}"
    return "", ""


def _definition(
    code: CodeType | None, module: str, qualname: str, place: str | None, space: dict[str, Any] | None
) -> Definition:
    frames = list(_callers())
    defining = next((frame for frame in frames if code is not None and _contains(frame.f_code, code)), None)
    start = frames.index(defining) if defining is not None else 0
    codes: list[CodeType] = []
    for frame in frames[start:]:
        if codes and not _contains(frame.f_code, codes[-1]):
            break
        codes.append(frame.f_code)
    calls = tuple(f"{frame.f_code.co_filename}:{frame.f_lineno}" for frame in frames[:_MOST_CALLS])
    where = (code.co_filename if code is not None else codes[0].co_filename) if codes or code is not None else None
    spec = space.get("__spec__") if space is not None else None
    if place is None:
        place = calls[0] if calls else ""
    return Definition(module, qualname, place, calls, code, tuple(codes), space, spec, _file(space, where))


def _callers() -> Iterator[FrameType]:
    """Yield the frames of the code that registers, the innermost first, without the library's own."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None:
        if str(frame.f_globals.get("__name__", "")).partition(".")[0] != _LIBRARY:
            yield frame
        frame = frame.f_back


def _contains(outer: CodeType, inner: CodeType) -> bool:
    return any(each is inner for each in outer.co_consts)


def _file(space: dict[str, Any] | None, filename: str | None) -> str | None:
    """Return the file of a namespace, if the code is from that file."""
    file = space.get("__file__") if space is not None else None
    if not isinstance(file, str) or filename is None:
        return None
    file, filename = os.path.realpath(file), os.path.realpath(filename)
    return file if file == filename else None


def _names_of(given: object) -> tuple[str, str]:
    named = given if isinstance(getattr(given, "__qualname__", None), str) else type(given)
    return str(getattr(named, "__module__", "")), str(getattr(named, "__qualname__", named))
