"""The journal of a process: a file with one record on each line, to which only this process appends.

Each record is one write in append mode. So a killed process loses nothing that it wrote, because the system has it, and
the threads of a process do not mix their records.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec

from chaos.histories import AnyRecord, History, Record

SUFFIX = ".jsonl"

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(AnyRecord)


class Journal:
    """The journal of this process. There is one object in each process; `open` gives it its file."""

    def __init__(self) -> None:
        self.process = ""
        self._file = -1
        self._numbers = itertools.count()

    def open(self, directory: Path, process: str) -> None:
        """Begin the journal of this process."""
        self.process = process
        self._file = os.open(directory / f"{process}{SUFFIX}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
        self._file = -1

    def note(self, record: Record) -> None:
        """Append a record."""
        os.write(self._file, _encoder.encode(record) + b"\n")

    def new_name(self) -> str:
        """Return a name that is unique in the whole run."""
        return f"{self.process}#{next(self._numbers)}"


journal = Journal()


def read_journal(path: Path) -> History:
    """Read a journal. The last line may be incomplete, because the process was killed."""
    return History(path.name.removesuffix(SUFFIX), tuple(_records(path)))


def read_journals(directory: Path) -> list[History]:
    """Read all journals of a run."""
    return [read_journal(path) for path in sorted(directory.glob(f"*{SUFFIX}"))]


def _records(path: Path) -> Iterator[AnyRecord]:
    with path.open("rb") as lines:
        for line in lines:
            if line.endswith(b"\n"):
                yield _decoder.decode(line)
