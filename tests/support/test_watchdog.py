"""The watchdog itself: a test that hangs fails its run. The run ends and shows where the test hung."""

import pytest

from tests.support import programs


@pytest.mark.long
def test_a_test_that_hangs_in_one_of_several_processes_fails_and_shows_every_stack() -> None:
    # The limit is for the test alone: its setup may take long.
    told = ("--numprocesses=1", "--timeout=5", "-o", "timeout_func_only=true")
    command = programs.python("-m", "pytest", "tests/support/hanging.py", *told)
    run = programs.run(*command)
    assert run.returncode == 1, run.stderr
    assert "FAILED tests/support/hanging.py::test_that_hangs" in run.stdout
    for what in ("last words", "Stack of MainThread", "for_ever.wait()", "Stack of stuck"):
        assert what in run.stderr
