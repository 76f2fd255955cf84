"""The matrix itself: the contents of its table, and that no row is left out."""

from __future__ import annotations

import base64
import hashlib
import io
import sys
import tarfile
from pathlib import Path

import pytest

from tests.matrix import command, npm, platform, pythons, running, table, unstable
from tests.matrix.platform import REPOSITORY, Interpreter, Missing, Platform
from tests.matrix.rows import Row, rows
from tests.support import programs
from tests.support.engines import wait_until

PASSES = "def test_it():\n    pass\n"
FAILS = "def test_it():\n    assert False\n"


@pytest.fixture
def document(tmp_path: Path) -> Path:
    document = tmp_path / "document.md"
    document.write_text(f"Before.\n\n{table.BEGIN}\n{table.END}\n\nAfter.\n")
    return document


@pytest.fixture
def offered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    """Three rows: one that passes, one that fails, one that is not available."""

    def prepared(name: str, text: str) -> Row:
        file = tmp_path / f"test_{name}.py"
        file.write_text(text)
        here = Platform(Interpreter((sys.executable,), "3.0.0", "here"), "here")
        return Row(name, name, lambda: here, (str(file),))

    def missing() -> Platform:
        raise Missing("there is none")

    monkeypatch.setattr(running, "LOGS", tmp_path / "logs")
    every = [prepared("good", PASSES), prepared("bad", FAILS), Row("none", "Nothing", missing)]
    monkeypatch.setattr(command, "rows", lambda: iter(every))
    return every


def lines(document: Path) -> list[str]:
    """The rows of the table."""
    return [line for line in document.read_text().splitlines() if line.startswith("| `make")]


@pytest.mark.usefixtures("offered")
def test_the_table_says_what_passed_what_failed_and_what_could_not_be_had(document: Path) -> None:
    assert command.main(["--output", str(document), "--", "-p", "no:cacheprovider"]) == 1
    good, bad, none = lines(document)
    assert good.startswith("| `make matrix ROW=good` | Python 3.")
    assert "| here | 1 passed |" in good
    assert "| 0 passed, 1 failed<br>`test_bad::test_it` |" in bad
    assert none == "| `make matrix ROW=none` | Nothing |  | not run: there is none |  |"
    assert document.read_text().startswith("Before.\n")
    assert document.read_text().endswith("\nAfter.\n")


@pytest.mark.usefixtures("offered")
def test_a_row_alone_leaves_the_lines_of_the_others(document: Path) -> None:
    assert command.main(["--output", str(document), "--row", "bad", "--row", "none"]) == 1
    assert command.main(["--output", str(document), "--row", "good"]) == 0
    assert [table._name(line) for line in lines(document)] == ["good", "bad", "none"]


def test_what_cannot_be_had_fails_only_if_it_was_named_and_what_came_to_no_end_fails(
    offered: list[Row], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert command.main(["--row", "none"]) == 1
    good_and_none = [row for row in offered if row.name != "bad"]
    monkeypatch.setattr(command, "rows", lambda: iter(good_and_none))
    assert command.main([]) == 0
    assert command.main(["--row", "good", "--", "--no-such-option"]) == 1
    assert command.main(["--row", "good", "--", "-k", "no such test"]) == 1
    assert command.main(["--row", "good", "--minutes", "0"]) == 1


def test_a_preparation_that_breaks_fails_its_row_alone() -> None:
    def broken() -> Platform:
        raise OSError("no room")

    result = running.run_row(Row("broken", "Broken", broken), [], 60)
    assert result.failed == ("its preparation failed: OSError('no room')",)


@pytest.mark.usefixtures("offered")
def test_an_unknown_row_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert command.main(["--row", "better"]) == 2
    assert "There is no row better. There are: good, bad, none." in capsys.readouterr().out


def test_a_document_without_a_place_for_the_table_is_refused(tmp_path: Path) -> None:
    document = tmp_path / "document.md"
    document.write_text("Nothing.\n")
    with pytest.raises(ValueError, match="has no lines"):
        table.update(document, [], [])


def test_guarantees_has_a_place_for_the_table() -> None:
    text = (REPOSITORY / "docs" / "guarantees.md").read_text()
    assert text.count(table.BEGIN) == text.count(table.END) == 1


def test_every_version_that_is_promised_has_a_row() -> None:
    names = [row.name for row in rows()]
    assert len(set(names)) == len(names)
    promised = [f"python-3.{minor}" for minor in range(11, 15)] + [f"postgresql-{major}" for major in range(14, 19)]
    poolers = ["pgbouncer-transaction", "pgbouncer-session"]
    assert {*promised, *poolers, "sqlite-3.35", "replicated-pair"} <= set(names)


def test_this_python_is_found_by_its_version_and_another_is_not() -> None:
    version = "{}.{}".format(*sys.version_info)
    assert pythons._version_of((sys.executable,), version) is not None
    assert pythons._version_of((sys.executable,), "3.10") is None
    assert pythons._version_of(("no-such-program",), version) is None
    with pytest.raises(Missing, match=r"no python3\.10t on the PATH or at pyenv"):
        pythons.find_python("3.10t")


@pytest.mark.parametrize(
    "text",
    [
        "deb [signed-by=/a/key] http://example.org/debian bookworm main\n",
        "Types: deb\n# URIs: http://example.net/debian\nURIs: http://example.org/debian\nSuites: bookworm\n",
    ],
)
def test_the_mirror_is_the_one_of_apt(text: str) -> None:
    assert unstable.mirror_of(text) == "http://example.org/debian"


def test_an_archive_that_is_not_the_pinned_one_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as files:
        entry = tarfile.TarInfo("package/native/pg-symlinks.json")
        text = b'[{"source": "native/lib/a.so.1", "target": "native/lib/a.so"}]'
        entry.size = len(text)
        files.addfile(entry, io.BytesIO(text))
        files.addfile(tarfile.TarInfo("package/native/lib/a.so.1"))

    def pack(command: list[str | Path], **_: object) -> str:
        (Path(command[-1]) / "a-1.tgz").write_bytes(written.getvalue())
        return ""

    monkeypatch.setattr(npm, "WORKSHOP", tmp_path)
    monkeypatch.setattr(npm, "run", pack)
    with pytest.raises(Missing, match="npm fetched another a 1"):
        npm.fetch(npm.Package("a", "1", "another"))
    pinned = base64.b64encode(hashlib.sha512(written.getvalue()).digest()).decode()
    package = npm.fetch(npm.Package("a", "1", pinned))
    assert (package / "native" / "lib" / "a.so").readlink() == Path("a.so.1")


def test_a_command_that_fails_is_a_reason() -> None:
    with pytest.raises(Missing, match="there is no program `no-such-program`"):
        platform.run(["no-such-program"])
    with pytest.raises(Missing, match="failed: it went wrong"):
        platform.run(["sh", "-c", "echo it went wrong; exit 1"])
    with pytest.raises(Missing, match=r"took more than 0\.01 s"):
        platform.run(["sleep", "100"], timeout=0.01)


ROW = """
import os, pathlib
from tests.matrix.running import _run_to_its_end
_run_to_its_end(["sh", "-c", "echo $$; exec sleep 3600"], os.environ, pathlib.Path({log!r}), 3600)
"""


def test_a_row_ends_with_the_matrix_however_that_ends(tmp_path: Path) -> None:
    log = tmp_path / "log"
    matrix = programs.start(*programs.python("-c", ROW.format(log=str(log))))
    wait_until(lambda: log.exists() and log.read_text().endswith("\n"))
    matrix.kill()
    matrix.wait()
    wait_until(lambda: _has_ended(int(log.read_text())))


def _has_ended(pid: int) -> bool:
    """Whether this process has ended, or is a zombie that was not reaped yet."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("Z")
    except FileNotFoundError:
        return True
