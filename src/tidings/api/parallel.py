"""Steps side by side, in blocking workflows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TypeVar

from tidings.api.caller import caller_in_app, current_host
from tidings.engine import scope as scopes
from tidings.engine.loops import running_loop
from tidings.engine.thread_calls import call_together

R = TypeVar("R")


class Parallel:
    """Functions that run at once."""

    @classmethod
    def run_parallel(cls, *functions: Callable[[], R]) -> list[R]:
        """Call functions at once, each in a thread, and return their results in the order of the functions.

        In a blocking workflow each may call steps and other operations: `DBOS.run_parallel(*(partial(pay, each) for
        each in orders))`. They are recorded in a branch for each function, so a replay is right whichever is quicker.
        What the functions share besides, such as a list, may be in another order in a replay: use their results.
        Threads of the program's own, such as a ThreadPoolExecutor's, cannot call operations of a workflow. In an
        async workflow: `await asyncio.gather(*(asyncio.to_thread(pay, each) for each in orders))`.

        At most `max_executor_threads` run at once, together with all workflows and steps of this process.

        Raises:
            RuntimeError: called on a running event loop, which it would block.
            What the first of the functions that failed raised, when all have ended.

        Durable: each operation in them, as always; this has no record of its own.
        """
        if running_loop() is not None:
            raise RuntimeError(
                "DBOS.run_parallel would block the running event loop; use: "
                "await asyncio.gather(asyncio.to_thread(function), ...)"
            )
        caller = caller_in_app(scopes.of_thread)
        loop = asyncio.new_event_loop()
        try:
            return call_together(loop, functions, current_host().workers)
        except BaseException:
            if asyncio.all_tasks(loop):  # Ctrl-C: they will never run again, and may record nothing more.
                caller.port.detach()
            raise
        finally:
            for task in asyncio.all_tasks(loop):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
            loop.close()
