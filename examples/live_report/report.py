"""The workflow: it gathers a figure for each chapter, and streams the text word by word.

The workflow's own code writes each value exactly once: these values are the report. A step may die and run again, so
the values that it writes appear once per try: these values are the progress.
"""

import random
import time

from examples.live_report import PROGRESS, WORDS
from tidings import DBOS

_VERBS = ("rose to", "fell to", "stayed at")


@DBOS.workflow()
def write_report(chapters: list[str], pause_seconds: float) -> int:
    """Write a chapter for each of these subjects. Returns how many words it took."""
    count = 0
    for number, subject in enumerate(chapters, start=1):
        figure = gather_figure(subject, f"chapter {number} of {len(chapters)}", pause_seconds)
        DBOS.write_stream(WORDS, f"\n{number}. {subject.capitalize()}\n")
        for word in f"Today {subject} {_VERBS[figure % len(_VERBS)]} {figure}.".split():
            DBOS.write_stream(WORDS, word)
            DBOS.sleep(pause_seconds)
            count += 1
    DBOS.close_stream(WORDS)
    return count


@DBOS.step()
def gather_figure(subject: str, chapter: str, pause_seconds: float) -> int:
    """Look up a figure, and report the progress to the readers."""
    for part in ("asking around", "counting", "counting again"):
        DBOS.write_stream(PROGRESS, f"{chapter}: {part} about {subject}")
        time.sleep(pause_seconds)
    return random.randrange(1_000)
