"""The live report: followed by another program, both killed on the way, without a gap or a repeat."""

import os
import subprocess
import sys


def test_a_report_is_followed_without_a_gap_or_a_repeat_though_both_programs_are_killed(database_url: str) -> None:
    environment = os.environ | {"DBOS_SYSTEM_DATABASE_URL": database_url}
    command = [sys.executable, "-m", "examples.live_report"]
    played = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert played.returncode == 0, played.stdout + played.stderr
    assert played.stdout.count("the follower is killed") == 2
    assert "all is right" in played.stdout
