"""The name by which other programs import the script that Python was started with.

Nothing is imported to find it: only names and files are compared.
"""

from __future__ import annotations

import os
import sys
from types import ModuleType

from tidings.serialization import mains


def importable_name(main: ModuleType) -> str | None:
    """Return the name of a module that was run by its name (`python -m orders`) or as a file (`python orders.py`)."""
    spec, file = vars(main).get("__spec__"), vars(main).get("__file__")
    if spec is not None:
        name = getattr(spec, "name", None)
        return name if isinstance(name, str) and name not in mains.MAINS else None
    if not isinstance(file, str):
        return None  # It was typed in, or passed with -c.
    stem, extension = os.path.splitext(os.path.basename(file))
    if extension != ".py" or not stem.isidentifier() or stem in mains.MAINS or stem in sys.builtin_module_names:
        return None
    return stem if _is_found(stem, file) else None


def _is_found(stem: str, file: str) -> bool:
    """Tell whether an import of this name would load that file: it is the first one found on `sys.path`."""
    loaded = sys.modules.get(stem)
    if loaded is not None:
        return _is_same(vars(loaded).get("__file__"), file)
    for entry in map(str, sys.path):
        folder = os.path.join(entry or os.getcwd(), stem)
        if os.path.isfile(os.path.join(folder, "__init__.py")):
            return False
        if os.path.isfile(f"{folder}.py"):
            return _is_same(f"{folder}.py", file)
    return False


def _is_same(one: object, other: str) -> bool:
    return isinstance(one, str) and os.path.realpath(one) == os.path.realpath(other)


def may_be_called(main: ModuleType, name: str) -> bool:
    """Tell whether a program that runs or imports the file of `main` may call it `name`.

    From another folder, `sub/orders.py` is imported as `sub.orders`; run in its own folder, it is `orders`. Under a
    symbolic link it has the name of the link.
    """
    file, parts = vars(main).get("__file__"), name.split(".")
    if not isinstance(file, str) or not all(part.isidentifier() for part in parts):
        return False
    ending = f"{os.sep}{os.path.join(*parts)}.py"
    if any(path.endswith(ending) for path in (os.path.abspath(file), os.path.realpath(file))):
        return True
    return any(_is_same(os.path.join(str(entry) or os.getcwd(), ending[1:]), file) for entry in sys.path)


mains.answer_by(importable_name, may_be_called)
