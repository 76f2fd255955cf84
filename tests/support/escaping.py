"""Tests that leave what no check after a test can see. No run collects them but those that `test_stress` starts."""

import os
from pathlib import Path

from tests.support import programs


def test_a_process_that_is_nobodys_child() -> None:
    programs.run("sh", "-c", "setsid sleep 3600 > /dev/null 2>&1 &")


def test_a_file_beside_the_directory_of_this_run() -> None:
    (Path(os.environ["TMPDIR"]).parent / "left").touch()
