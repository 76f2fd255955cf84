"""One program writes a report step by step, and another program follows it live.

    python -m examples.live_report.writer     writes the report; kill it and start it again: it continues
    python -m examples.live_report.follower   follows the report; kill it and start it again: it continues too
    python -m examples.live_report            runs both, kills both, and checks the result

Read `report.py` first: the workflow. Then `follower.py`.
"""

# What both programs agree on: the workflow's id, and its streams.
REPORT_ID = "report of the day"
PROGRESS = "progress"
WORDS = "words"
