"""A report that is written step by step, and followed live by another program.

    python -m examples.live_report.writer     writes the report; kill it and start it again: it goes on
    python -m examples.live_report.follower   follows it; kill it and start it again: it goes on, too
    python -m examples.live_report            plays both, kills both, and checks what has come of it

Read `report.py` first: the workflow. Then `follower.py`.
"""

# Where both programs find each other: the workflow's id, and its streams.
REPORT_ID = "report of the day"
PROGRESS = "progress"
WORDS = "words"
