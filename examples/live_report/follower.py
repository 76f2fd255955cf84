"""Follows the report live: `python -m examples.live_report.follower`. Started again, it continues where it stopped.

It keeps each value that it has read in a file, one per line. So the number of whole lines is the offset from which it
continues. No value is lost or kept twice, whenever this program is killed.
"""

import argparse
import json
import os
from collections.abc import Iterator
from pathlib import Path

from examples.live_report import REPORT_ID, WORDS
from tidings import DBOSClient

URL = os.environ.get("DBOS_SYSTEM_DATABASE_URL", "sqlite:///live_report.sqlite")


def main() -> None:
    """Follow the report to its end."""
    parser = argparse.ArgumentParser(prog="python -m examples.live_report.follower", description=__doc__)
    parser.add_argument("--file", type=Path, default=Path("report.jsonl"), help="what was read (default: %(default)s)")
    file: Path = parser.parse_args().file
    with DBOSClient(system_database_url=URL) as client:
        for word in follow(client, file):
            print(word, end=" ", flush=True)
    print("\n(the end)")


def follow(client: DBOSClient, file: Path) -> Iterator[str]:
    """Yield each value, and keep it in the file."""
    with file.open("ab") as kept:
        offset = _whole_lines(file)
        for word in client.read_stream(REPORT_ID, WORDS, offset=offset):
            kept.write(json.dumps(word).encode() + b"\n")
            kept.flush()
            yield word


def _whole_lines(file: Path) -> int:
    """Count the whole lines, and cut off a line that was not finished when the program was killed."""
    content = file.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    os.truncate(file, len(whole))
    return whole.count(b"\n")


if __name__ == "__main__":
    main()
