"""`make stress` itself: its report of a round, the log that it keeps, and the leftovers that it finds."""

from pathlib import Path

import pytest

from tests import stress
from tests.support import leftovers

_LEAVING = "tests/support/leaving.py"
_ESCAPING = "tests/support/escaping.py"


def play(logs: Path, rounds: int, *arguments: str) -> int:
    """Run rounds of these tests beside one busy process."""
    return stress.main([f"--rounds={rounds}", "--busy=1", "--seed=7", f"--logs={logs}", "--", "-n0", *arguments])


@pytest.mark.long
def test_rounds_that_are_green_leave_no_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert play(tmp_path, 2, _LEAVING, "-k", "nothing") == 0
    first, one, two, last = capsys.readouterr().out.splitlines()
    assert first == "2 rounds beside 1 busy processes: SEED=7"
    assert "green" in one
    assert "2 passed" in two
    assert one.partition("SEED=")[2].partition(":")[0] != two.partition("SEED=")[2].partition(":")[0]
    assert last == "2 rounds, all green"
    assert list(tmp_path.iterdir()) == []


def test_a_round_that_fails_keeps_its_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert play(tmp_path, 1, _LEAVING, "-k", "test_a_file", "--patience-seconds=0") == 1
    _, line, last = capsys.readouterr().out.splitlines()
    assert "RED" in line
    assert "1 passed" in line
    assert "1 error" in line
    assert last == "1 of 1 rounds failed"
    [kept] = tmp_path.iterdir()
    assert str(kept) in line
    assert "has left behind" in kept.read_text()


def test_what_a_round_leaves_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stress, "_PATIENCE_SECONDS", 0.1)
    other = leftovers.MEMORY / "tidings-another-0-run"  # It belongs to another run.
    other.touch()
    assert play(tmp_path, 1, _ESCAPING) == 1
    other.unlink()
    _, line, _ = capsys.readouterr().out.splitlines()
    assert "RED" in line
    assert "3 passed" in line
    [in_memory] = leftovers.MEMORY.glob("tidings-*-left")
    in_memory.unlink()
    for left in ("(sleep 3600 )", "/left;", str(in_memory)):
        assert left in line
    assert str(other) not in line
