"""The hash of a program's source files: what changes it, and what does not."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from tidings.engine.program_files import hash_with_files

Import = Callable[..., Path]


@pytest.fixture
def imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Import]:
    """Write a module into a folder, import it, and return its file."""
    names: list[str] = []

    def write_and_import(name: str, text: str = "TOPIC = 'one'\n", folder: str = "app") -> Path:
        path = tmp_path / folder / f"{name.replace('.', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        monkeypatch.syspath_prepend(tmp_path / folder)
        importlib.import_module(name)
        names.append(name)
        return path

    yield write_and_import
    for name in names:
        for each in (name, name.partition(".")[0]):
            sys.modules.pop(each, None)


def hashed(*packages: str, functions: str = "functions") -> str:
    return hash_with_files(functions, packages)


def test_changed_content_changes_it_and_the_former_content_restores_it(imported: Import) -> None:
    path = imported("deployed_topics")
    before = hashed()
    path.write_text("TOPIC = 'another'\n")
    assert hashed() != before
    path.write_text("TOPIC = 'one'\n")
    assert hashed() == before


def test_other_functions_change_it() -> None:
    assert hashed(functions="one") != hashed(functions="another")


def test_a_file_that_is_only_touched_does_not_change_it(imported: Import) -> None:
    path = imported("deployed_topics")
    before = hashed()
    os.utime(path, ns=(1, 1))
    assert hashed() == before


def test_another_folder_does_not_change_it(imported: Import) -> None:
    """A deploy may put each release into a folder of its own."""
    imported("deployed_topics", folder="release-1")
    before = hashed()
    del sys.modules["deployed_topics"]
    imported("deployed_topics", folder="release-2")
    assert "release-2" in str(sys.modules["deployed_topics"].__file__)
    assert hashed() == before


def test_the_same_content_in_another_module_changes_it(imported: Import) -> None:
    one, other = imported("deployed_one", "A = 1\n"), imported("deployed_other", "A = 2\n")
    before = hashed()
    one.write_text("A = 2\n")
    other.write_text("A = 1\n")
    assert hashed() != before


@pytest.mark.parametrize("packages", ["site-packages", "dist-packages"])
def test_an_installed_package_counts_only_if_it_defines_a_function(imported: Import, packages: str) -> None:
    path = imported("deployed_package.topics", folder=f"lib/{packages}")
    without, with_it = hashed(), hashed("deployed_package")
    path.write_text("TOPIC = 'another'\n")
    assert hashed() == without
    assert hashed("deployed_package") != with_it


def test_pythons_own_modules_and_tidings_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    before = hashed()
    for name in ("json.decoder", "tidings.model"):
        monkeypatch.delitem(sys.modules, name)
    assert hashed() == before


def test_a_file_that_is_removed_or_cannot_be_read_is_left_out(imported: Import) -> None:
    without = hashed()
    path = imported("deployed_topics")
    assert hashed() != without
    path.unlink()
    assert hashed() == without
    path.mkdir()
    assert hashed() == without


def test_modules_without_a_source_file_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    before = hashed()
    for number, file in enumerate((None, 7, "", "compiled.so", "frozen.pyc", "/no/such/app.zip/app.py")):
        module = ModuleType(f"deployed_{number}")
        module.__file__ = file  # type: ignore[assignment]
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setitem(sys.modules, "deployed_none", None)
    monkeypatch.setitem(sys.modules, "deployed_object", object())
    monkeypatch.setitem(sys.modules, "deployed_builtin", ModuleType("deployed_builtin"))
    assert hashed() == before


def test_a_module_that_fails_when_it_is_asked_for_an_attribute_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """As modules that import what is missing."""

    class Failing(ModuleType):
        def __getattr__(self, name: str) -> object:
            raise ImportError(f"no module for {name}")

    before = hashed()
    monkeypatch.setitem(sys.modules, "deployed_failing", Failing("deployed_failing"))
    assert hashed() == before


def test_a_module_that_is_imported_at_its_first_use_is_hashed_and_not_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "deployed_lazy.py"
    path.write_text("raise AssertionError('it was imported')\n")
    before = hashed()
    spec = importlib.util.spec_from_file_location("deployed_lazy", path)
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "deployed_lazy", module)
    spec.loader.exec_module(module)
    assert hashed() != before


def test_a_file_that_did_not_change_is_not_read_again(imported: Import) -> None:
    path = imported("deployed_topics")
    before, status = hashed(), path.stat()
    path.write_text("TOPIC = 'two'\n")  # Of the same size, and at the same time.
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert hashed() == before
    os.utime(path)
    assert hashed() != before
