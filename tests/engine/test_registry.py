"""Names mean one function each, and the version is that of the code."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from tidings.core.retry import NO_RETRIES
from tidings.engine.runs.registry import Registry, StepFunction, WorkflowFunction
from tidings.error import DBOSConflictingRegistrationError


def _module(tmp_path: Path, name: str, source: str) -> Any:
    """Import a file of this source.

    Python keeps nothing compiled of it: to its cache, two versions of one length, written in one second, are the same.
    """
    path = tmp_path / f"{name}.py"
    path.write_text(source)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with patch.object(sys, "dont_write_bytecode", True):
        spec.loader.exec_module(module)
    return module


def _workflow(function: Callable[..., Any], name: str = "flow") -> WorkflowFunction:
    return WorkflowFunction(name, function, is_async=False, signature=inspect.signature(function))


def _version(tmp_path: Path, name: str, workflow: str, step: str | None = None) -> str:
    registry = Registry()
    registry.add_workflow(_workflow(_module(tmp_path, name, workflow).flow))
    if step is not None:
        registry.add_step(StepFunction("step", _module(tmp_path, f"{name}_step", step).step, False, NO_RETRIES))
    return registry.version()


def test_the_version_is_that_of_the_code_and_of_nothing_else(tmp_path: Path) -> None:
    flow, step = "def flow():\n    return 1\n", "def step():\n    return 1\n"
    version = _version(tmp_path, "a", flow)
    assert _version(tmp_path, "b", flow) == version
    assert _version(tmp_path, "c", flow + "\n\nunrelated = 1\n") == version
    assert _version(tmp_path, "d", "def flow():\n    return 2\n") != version
    with_step = _version(tmp_path, "e", flow, step)
    assert with_step != version
    assert _version(tmp_path, "f", flow, "def step():\n    return 2\n") != with_step


def test_the_version_is_that_of_the_bytecode_where_there_is_no_source() -> None:
    def version(source: str) -> str:
        namespace: dict[str, Any] = {"__name__": "nowhere"}
        exec(compile(source, "<nowhere>", "exec"), namespace)  # noqa: S102
        registry = Registry()
        registry.add_workflow(_workflow(namespace["flow"]))
        return registry.version()

    assert version("def flow(a): return a.b") == version("def flow(a): return a.b")
    assert version("def flow(a): return a.b") != version("def flow(a): return a.c")


def test_the_version_is_the_same_on_every_python(tmp_path: Path) -> None:
    """A workflow goes on under a newer Python, if nothing else changes."""
    registry = Registry()
    registry.add_workflow(_workflow(_module(tmp_path, "settled", "def flow(): return 1\n").flow))
    assert registry.version() == "993dc66f9ed56a074cda67ddd95e47a8"


def test_two_functions_under_one_name_are_refused_and_named(tmp_path: Path) -> None:
    registry = Registry()
    first = _module(tmp_path, "first", "def flow(): pass\n").flow
    second = _module(tmp_path, "second", "\ndef flow(): pass\n").flow
    registry.add_workflow(_workflow(first))
    with pytest.raises(DBOSConflictingRegistrationError, match=r"first\.flow .*first\.py:1.*second\.py:2"):
        registry.add_workflow(_workflow(second))
    found = registry.workflow("flow")
    assert found is not None
    assert found.function is first


def test_a_function_defined_again_takes_the_place_of_the_former(tmp_path: Path) -> None:
    registry = Registry()
    for source in ("def flow(): return 1\n", "def flow(): return 2\n"):
        registry.add_workflow(_workflow(_module(tmp_path, "reloaded", source).flow))
    found = registry.workflow("flow")
    assert found is not None
    assert found.function() == 2
    assert registry.workflow_names() == ["flow"]
    registry.clear()
    assert registry.workflow_names() == []
    assert registry.workflow("flow") is None
