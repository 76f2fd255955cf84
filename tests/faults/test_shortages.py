"""A process that runs into the system's limits, on descriptors and on memory for threads, while workflows run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.support import programs

PROGRAM = Path(__file__).with_name("starved.py")

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="other systems set these limits otherwise")


@pytest.mark.parametrize("loses", ["work", "connections"])
@pytest.mark.parametrize("lacks", ["descriptors", "threads"])
def test_n2_a_process_at_the_systems_limits_goes_on_when_they_are_raised(
    database_url: str, lacks: str, loses: str
) -> None:
    if database_url.startswith("sqlite") and (lacks, loses) == ("threads", "connections"):
        loses = "work"  # No connection to a file needs a thread.
    ran = programs.run(*programs.python(PROGRAM, database_url, lacks, loses))
    assert ran.stdout == "all well\n", ran.stderr
    assert "Traceback" not in ran.stderr, ran.stderr
