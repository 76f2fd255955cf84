"""Tests that leave something which the check after each test cannot see. Only `test_stress` runs them."""

import atexit
import os
from pathlib import Path

from tests.support import leftovers, programs


def test_a_process_that_is_nobodys_child() -> None:
    programs.run("sh", "-c", "setsid sleep 3600 > /dev/null 2>&1 &")


def test_a_file_beside_the_directory_of_this_run() -> None:
    (Path(os.environ["TMPDIR"]).parent / "left").touch()


def test_a_file_in_memory_that_comes_at_the_end() -> None:
    atexit.register((leftovers.MEMORY / f"{leftovers.MEMORY_PREFIX}left").touch)
