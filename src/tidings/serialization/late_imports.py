"""Modules that a program imports within its workflows and steps, and not at the top of a module.

A step that returns `http.HTTPStatus.OK` may do `import http` itself. In a process that replays the step, nothing has
imported `http`. The value still must come back. So tidings then runs those imports that the program's own workflows and
steps contain, if they are of the package that is missing.

A stored name chooses only among these imports. It is never imported itself. What they are, this layer does not know:
`engine.runs.imports` provides the answer.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

Import = Callable[[str], None]

_answering: list[Import] = []


def answer_by(import_package: Import) -> None:
    """Register the function that runs the program's imports of a package. Called once, when the library is imported."""
    _answering.append(import_package)


def import_for(module: str) -> bool:
    """Run the program's imports of the package of a module that is missing; tell whether the module is there now."""
    if module in sys.modules:
        return False
    package = module.partition(".")[0]
    for import_package in _answering:
        import_package(package)
    return module in sys.modules
