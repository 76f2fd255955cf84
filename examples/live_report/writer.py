"""Writes the report: `python -m examples.live_report.writer`. Started again, it continues where it stopped."""

import argparse

from examples.live_report import REPORT_ID
from examples.live_report.report import write_report
from tidings import DBOS, SetWorkflowID

_CHAPTERS = ["rainfall", "bread", "traffic", "football", "the price of widgets"]


def main() -> None:
    """Write the report, or what is left of it."""
    parser = argparse.ArgumentParser(prog="python -m examples.live_report.writer", description=__doc__)
    parser.add_argument("--pause", type=float, default=0.2, metavar="SECONDS", help="between words (default: 0.2)")
    pause_seconds = parser.parse_args().pause
    DBOS(config={"name": "live_report"})
    with DBOS.launch(), SetWorkflowID(REPORT_ID):
        # The id is an idempotency key: an existing report continues, and no second one begins.
        report = DBOS.start_workflow(write_report, _CHAPTERS, pause_seconds)
        print(f"writing {REPORT_ID!r}", flush=True)
        print(f"written: {report.get_result()} words", flush=True)


if __name__ == "__main__":
    main()
