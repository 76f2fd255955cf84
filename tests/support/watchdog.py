"""The output of the watchdog when tests run in several processes.

When a test has taken too long, pytest-timeout prints the test's output and all stacks through the terminal reporter,
and ends the process. In a worker nobody reads that reporter's output; but the worker shares the error output of the
run.
"""

from __future__ import annotations

import sys

import pytest


class _Voice:
    """A replacement for the reporter: it writes to a terminal, and ignores the results of tests."""

    def __init__(self, terminal: pytest.TerminalReporter) -> None:
        self._tw = terminal._tw
        self._tw._file = sys.stderr


def speak_up(config: pytest.Config) -> None:
    """Let the watchdog of this worker write to the error output."""
    reporter = config.pluginmanager.unregister(name="terminalreporter")
    assert isinstance(reporter, pytest.TerminalReporter)
    config.pluginmanager.register(_Voice(reporter), "terminalreporter")
