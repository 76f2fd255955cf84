"""A test that leaves something behind fails, and its error lists what it left."""

import pytest

from tests.support import programs

_LEFT = {
    "a_thread": "the thread stuck",
    "a_process": "sleep 3600",
    "a_process_that_nobody_asks_how_it_ended": "it has ended, and nobody has asked how",
    "a_process_of_a_process": "sleep 3600",
    "a_file": "/tidings-left-",
    "a_lock_file_that_is_held": "/tidings-held.lock",
    "an_event_loop": "an open event loop",
    "a_launched_dbos": "a launched DBOS",
    "a_client": "1 open clients",
    "another_function_of_a_module": "tidings.engine.lock_files.sweep",
    "another_method_of_a_class": "Engine.tend_outages",
    "a_handler_of_a_signal": "another handler of SIGTERM",
    "a_handler_of_the_log": "another handler of the log",
    "a_variable_of_the_environment": "the environment's LEFT",
    "another_working_directory": "another working directory",
}


@pytest.mark.long
def test_whoever_leaves_something_behind_fails_and_no_other_test_does() -> None:
    run = programs.run(*programs.python("-m", "pytest", "-n0", "tests/support/leaving.py", "--patience-seconds=0.5"))
    assert run.returncode == 1, run.stderr
    assert f"{len(_LEFT) + 2} passed, {len(_LEFT)} errors" in run.stdout
    for test, left in _LEFT.items():
        _, _, said = run.stdout.partition(f"leaving.py::test_{test} has left behind:\n")
        assert left in said.partition("leaving.py::")[0], f"{test}: {run.stdout}"
