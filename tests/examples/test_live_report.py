"""The live report: followed by another program, both killed on the way, without a gap or a repeat."""

import os

from tests.support import programs


def test_a_report_is_followed_without_a_gap_or_a_repeat_though_both_programs_are_killed(database_url: str) -> None:
    environment = os.environ | {"DBOS_SYSTEM_DATABASE_URL": database_url}
    played = programs.run(*programs.python("-m", "examples.live_report"), env=environment)
    assert played.returncode == 0, played.stdout + played.stderr
    assert played.stdout.count("the follower is killed") == 2
    assert "all is right" in played.stdout
