"""Programs that tests start: none outlives the process that started it."""

import os
import signal
import subprocess

import pytest

from tests.support import programs

# It starts another program, as the widget store does. Both ignore signals and the end of their input.
_STUBBORN = """
import signal, subprocess, sys
signal.pthread_sigmask(signal.SIG_BLOCK, set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP})
if len(sys.argv) > 1:
    subprocess.Popen([sys.executable, "-c", sys.argv[1]])
print("here", flush=True)
while True:
    signal.pause()
"""
_PARENT = """
import os, signal, sys
from tests.support import programs
program = programs.start(*programs.python("-c", sys.argv[1], sys.argv[1]))
if sys.argv[2] == "stopped":
    program.send_signal(signal.SIGSTOP)
sys.stdin.readline()
os._exit(7) if sys.argv[2] == "ended by the watchdog" else os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["killed", "ended by the watchdog"])
def test_a_program_and_what_it_started_end_with_the_process_that_started_it(how: str) -> None:
    command = programs.python("-c", _PARENT, _STUBBORN, how)
    parent = programs.start(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    assert [parent.stdout.readline() for _ in range(2)] == ["here\n", "here\n"]
    # They share its output, which ends only after all three have ended.
    rest, _ = parent.communicate("end\n")
    assert rest == ""
    assert parent.returncode == (-signal.SIGKILL if how == "killed" else 7)


def test_a_program_that_was_stopped_ends_too() -> None:
    command = programs.python("-c", _PARENT, _STUBBORN, "stopped")
    parent = programs.start(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    parent.communicate("end\n")
    assert parent.returncode == -signal.SIGKILL


def test_a_program_finds_what_the_tests_find() -> None:
    found = programs.run(*programs.python("-c", "import os, tests; print(os.getpgrp())"))
    assert found.returncode == 0, found.stderr
    assert int(found.stdout) == programs.group() != os.getpgrp()
