"""The voice of the watchdog where tests run in several processes.

When a test has taken too long, pytest-timeout prints what the test has said and every stack through the terminal's
reporter, and ends the process. In a worker that reporter speaks to nobody; there the error output is the run's.
"""

from __future__ import annotations

import sys

import pytest


class _Voice:
    """What stands in the reporter's place: a terminal to write to, and no interest in what the tests do."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._tw = terminal._tw
        self._tw._file = sys.stderr


def speak_up(config: pytest.Config) -> None:
    """Let the watchdog of this worker write to the error output."""
    reporter = config.pluginmanager.unregister(name="terminalreporter")
    assert isinstance(reporter, pytest.TerminalReporter)
    config.pluginmanager.register(_Voice(reporter), "terminalreporter")
