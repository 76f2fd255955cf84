"""A test that shows a password anywhere fails."""

from harness.password import PASSWORD
from tests.support import programs

_SHOWN = {
    "in_output": "Captured stdout call",
    "in_errors": "Captured stderr call",
    "in_the_log": "Captured log call",
    "in_a_traceback_in_the_log": "Captured log call",
    "in_a_caught_error": "an error ValueError",
    "in_the_cause_of_a_caught_error": "an error ValueError",
    "in_the_context_of_a_caught_error": "an error ValueError",
    "in_a_note_of_a_caught_error": "an error ValueError",
    "in_one_of_several_errors": "an error ValueError",
    "in_the_output_of_a_program": "a program's output",
    "in_the_errors_of_a_program": "a program's errors",
    "in_a_table[sqlite]": "the file tidings.sqlite",
    "in_a_table[postgres]": "the table workflows",
    "in_a_table_in_base64[sqlite]": "the file tidings.sqlite",
    "in_a_table_in_base64[postgres]": "the table workflows",
}


def test_whoever_shows_a_password_fails_and_no_other_test_does() -> None:
    command = programs.python("-m", "pytest", "-n0", "-rN", "--show-capture=no", "tests/support/showing.py")
    run = programs.run(*command)
    assert run.returncode == 1, run.stderr
    assert f"{len(_SHOWN) + 1} passed, {len(_SHOWN)} errors" in run.stdout
    for test, where in _SHOWN.items():
        _, _, said = run.stdout.partition(f"showing.py::test_{test} shows a password:\n")
        assert where in said.partition("showing.py::")[0], f"{test}: {run.stdout}"
    assert PASSWORD not in run.stdout
