"""Runs the cells of a notebook, as a notebook does: one after the other, on one event loop that runs.

Takes a list of cells as JSON on its standard input.
"""

import ast
import asyncio
import inspect
import json
import sys


async def _run(cells: list[str]) -> None:
    names: dict[str, object] = {"__name__": "__main__"}
    for number, cell in enumerate(cells, start=1):
        code = compile(cell, f"<cell {number}>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, names)  # noqa: S307  (from our own page)
        if inspect.iscoroutine(result):
            await result


asyncio.run(_run(json.load(sys.stdin)))
