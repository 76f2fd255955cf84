"""The watchdog itself: a test that hangs fails its run, which ends and says where it hung."""

from tests.support import programs


def test_a_test_that_hangs_in_one_of_several_processes_fails_and_shows_every_stack() -> None:
    command = programs.python("-m", "pytest", "tests/support/hanging.py", "--numprocesses=1", "--timeout=1")
    run = programs.run(*command)
    assert run.returncode == 1, run.stderr
    assert "FAILED tests/support/hanging.py::test_that_hangs" in run.stdout
    for what in ("last words", "Stack of MainThread", "for_ever.wait()", "Stack of stuck"):
        assert what in run.stderr
