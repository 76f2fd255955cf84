"""The main program of a benchmark process, in the environment of the library that is measured.

    BENCH_LIBRARY=tidings python -m bench.program '{"program": "workflows.started_alone", "url": "sqlite:///x.sqlite"}'

A program is a function of `bench.programs`. If two processes are measured, the program starts a neighbour, which runs
the same module and performs the actions that it is told (`bench.actor`).
"""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
import traceback
from typing import Any

from bench.actor import obey
from bench.library import DBOS
from bench.size import Size


def main() -> None:
    """Run the program, then exit at once, whatever still runs: a clean shutdown is not measured."""
    try:
        _run()
    except Exception:
        traceback.print_exc()
        os._exit(1)
    os._exit(0)


def _run() -> None:
    given: dict[str, Any] = json.loads(sys.argv[1])
    module_name, _, function_name = given["program"].rpartition(".")
    module = importlib.import_module(f"bench.programs.{module_name}")
    # Logging costs time, and not the same in each library. Failures still show as errors.
    logging.disable(logging.WARNING)
    config: dict[str, Any] = {"name": "bench", "system_database_url": given["url"], "application_version": "1"}
    if "executor_id" in given:
        config["executor_id"] = given["executor_id"]
    DBOS(config=config)  # type: ignore[arg-type]
    if given.get("neighbour"):
        DBOS.launch()
        obey(module)
    else:
        program = getattr(module, function_name)
        if not getattr(program, "launches", False):
            DBOS.launch()
        program(Size(**given.get("size", {})))


if __name__ == "__main__":
    main()
