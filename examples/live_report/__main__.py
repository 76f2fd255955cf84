"""Runs it: `python -m examples.live_report`, or `make report`. Both programs are killed meanwhile and start again."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from examples.live_report import REPORT_ID, WORDS
from tidings import DBOSClient

_ROOT = Path(__file__).parents[2]


def main() -> None:
    """Run it in a new folder; exit with 0 if the follower has read the report without a gap or a repeat."""
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(0 if _play(Path(folder)) else 1)


def _play(folder: Path) -> bool:
    python_path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    environment = os.environ | {"PYTHONPATH": python_path, "PYTHONUNBUFFERED": "1"}
    environment.setdefault("DBOS_SYSTEM_DATABASE_URL", f"sqlite:///{folder / 'live_report.sqlite'}")

    def start(program: str, *options: str) -> "subprocess.Popen[str]":
        command = [sys.executable, "-m", f"examples.live_report.{program}", *options]
        return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True)

    writer = start("writer", "--pause", "0.02")
    _await_line(writer, "writing")
    for count in (5, 12):
        follower = start("follower")
        _show(follower, count)
        follower.kill()
        print(follower.communicate()[0], " <- the follower is killed")
        writer.kill()
        writer.communicate()
        print("(the writer, too; both start again)")
        writer = start("writer", "--pause", "0.02")
    follower = start("follower")
    _show(follower)
    follower.wait()
    writer.wait()
    with DBOSClient(system_database_url=environment["DBOS_SYSTEM_DATABASE_URL"]) as client:
        report = list(client.read_stream(REPORT_ID, WORDS))
        status = client.retrieve_workflow(REPORT_ID).get_status()
    read = [json.loads(line) for line in (folder / "report.jsonl").read_text().splitlines()]
    words = [each for each in report if not each.startswith("\n")]
    right = read == report and status.output == len(words)
    print(f"\n{len(report)} values were written, {len(read)} were read; {'all' if right else 'NOT all'} is right.")
    return right


def _await_line(program: "subprocess.Popen[str]", text: str) -> None:
    assert program.stdout is not None
    for line in program.stdout:
        if text in line:
            return
    raise RuntimeError("the program has ended; its output above says why")


def _show(program: "subprocess.Popen[str]", words: int | None = None) -> None:
    """Show the output of the program: so many words, or all."""
    for count, word in enumerate(_words(program), start=1):
        print(word, end="", flush=True)
        if count == words:
            return


def _words(program: "subprocess.Popen[str]") -> Iterator[str]:
    assert program.stdout is not None
    word = ""
    while character := program.stdout.read(1):
        word += character
        if character == " ":
            yield word
            word = ""
    yield word


if __name__ == "__main__":
    main()
