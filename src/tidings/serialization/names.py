"""Classes by name. No module is imported for a name that was stored.

Only classes that this process has imported are found.

Namespaces are read as dicts, so no code of a module, or of an object in one, runs.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from tidings.serialization.fault import Fault, shown
from tidings.serialization.mains import MAINS, importable_main, may_be_main


def name_of(cls: type) -> str:
    """Return the name under which `find_class` finds `cls` again, also when the program runs again.

    A class of the started script gets the name by which other programs import it. If they cannot import it, or if this
    program has imported a second copy of the script, it is named as a class of `__main__`.
    """
    module, qualname = cls.__module__, cls.__qualname__
    if module in MAINS:
        imported = f"{importable_main()}:{qualname}"
        if find(imported) is cls:
            return imported
        module = "__main__"
    name = f"{module}:{qualname}"
    if find(name) is not cls:
        raise Fault(
            f"its class {cls.__module__}.{cls.__qualname__} cannot be found again by its name; "
            "define the class at the top level of a module, under its own name"
        )
    return name


def find_class(name: str) -> type:
    """Return the class that `name_of` named. It may be of any kind.

    Raises:
        Fault: it is not imported.
    """
    cls = find(name)
    if cls is None:
        raise Fault(f"its class {shown(name)} does not exist in this program; {_remedy(name)}", type_name=name)
    return cls


def _remedy(name: str) -> str:
    module, _, qualname = name.partition(":")
    if module in MAINS:
        return (
            "the program that stored it cannot be imported (it was typed in, or its file is not on the import path); "
            "define the class in a module that both programs import"
        )
    elsewhere = _other_module(module, qualname)
    if elsewhere is not None:
        return (
            f"{elsewhere} has a class of that name. If it is the same file, import or run it as {shown(module)} here "
            f"too, or add an alias before the value is read: sys.modules[{shown(module)}] = sys.modules[{elsewhere!r}]"
        )
    return (
        f"import the module {shown(module)} before the value is read "
        "(if the class was moved or renamed, leave its old name as an alias)"
    )


def _other_module(module: str, qualname: str) -> str | None:
    """Return a module that may be the same file under another name: same last part, or a `__main__`."""
    if module in sys.modules:
        return None
    last = module.rpartition(".")[2]
    for name, loaded in tuple(sys.modules.items()):
        if (name in MAINS or name.rpartition(".")[2] == last) and _find_in(loaded, qualname) is not None:
            return name
    return None


def find(name: str) -> type | None:
    """Return the class that `name_of` named; `None` if this process has not imported it."""
    module, _, qualname = name.partition(":")
    found = _find_in(sys.modules.get(module), qualname)
    if found is None and (module in MAINS or module == importable_main() or _is_main(module)):
        found = _find_in(sys.modules.get("__main__"), qualname)
    return found


def _is_main(module: str) -> bool:
    """Tell whether another program may call the file of `__main__` by this name."""
    return module not in sys.modules and may_be_main(module)


def _find_in(module: Any, qualname: str) -> type | None:
    # Namespaces are read as dicts: getattr could run a module's `__getattr__` or a lazy loader,
    # and `isinstance` asks a proxy object for its `__class__`.
    if not issubclass(type(module), ModuleType):
        return None
    namespace: Mapping[str, Any] = object.__getattribute__(module, "__dict__")
    found: Any = None
    for part in qualname.split("."):
        found = namespace.get(part)
        if not issubclass(type(found), type):
            return None
        namespace = found.__dict__
    cls: type = found
    return cls


def member_of(module: str, name: str) -> Any:
    """Return an attribute of a module that is imported already; `None` if there is none."""
    found = sys.modules.get(module)
    if not issubclass(type(found), ModuleType):
        return None
    return object.__getattribute__(found, "__dict__").get(name)
