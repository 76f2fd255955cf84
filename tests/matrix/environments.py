"""Creates and keeps an environment for each interpreter, with the pinned packages and tidings itself."""

from __future__ import annotations

import hashlib
import shutil
import sys
from typing import Final

from tests.matrix.platform import REPOSITORY, WORKSHOP, Interpreter, run

_PINS: Final = REPOSITORY / "requirements-dev.txt"


def own() -> Interpreter:
    """Return the Python that runs this, in the environment that `make` has created."""
    return Interpreter((sys.executable,), ".".join(map(str, sys.version_info[:3])), "as `make test`")


def environment_of(interpreter: Interpreter) -> Interpreter:
    """Return the Python of an environment for this interpreter. The environment is created if it does not exist.

    Raises:
        Missing: A pinned package cannot be installed there.
    """
    directory = WORKSHOP / "environments" / f"python-{interpreter.version}"
    *around, python = interpreter.command
    inside = (*around, str(directory / "bin" / "python"))
    state = hashlib.sha256(
        b"\0".join([_PINS.read_bytes(), (REPOSITORY / "pyproject.toml").read_bytes(), repr(interpreter).encode()])
    ).hexdigest()
    ready = directory / ".ready"
    if not ready.exists() or ready.read_text() != state:
        shutil.rmtree(directory, ignore_errors=True)
        run([*around, python, "-m", "venv", str(directory)])
        pip = [*inside, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        run([*pip, "--require-hashes", "-r", str(_PINS)], timeout=1800)
        run([*pip, "--no-deps", "--no-build-isolation", "--editable", str(REPOSITORY)])
        ready.write_text(state)
    return Interpreter(inside, interpreter.version, interpreter.source)
