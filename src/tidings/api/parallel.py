"""Parallel steps in blocking workflows."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from inspect import iscoroutine
from typing import Final, TypeVar, cast

from tidings.api.decorating import is_async
from tidings.core.effects import Lack
from tidings.core.operations.patience import without
from tidings.engine.caller import caller_in_app
from tidings.engine.process import current_host
from tidings.engine.runs import scope as scopes
from tidings.engine.runs.drive import drive
from tidings.engine.runs.loops import made_loop, running_loop
from tidings.engine.runs.thread_calls import Begins, call_here, call_together
from tidings.engine.runs.workers import without_permit
from tidings.slips import called_name, plainly

R = TypeVar("R")

_LOOP: Final = Lack("starting an event loop for DBOS.run_parallel")


class Parallel:
    """Functions that run in parallel."""

    @classmethod
    def run_parallel(cls, *functions: Callable[[], R]) -> list[R]:
        """Call functions in parallel, each in a thread, and return their results in the order of the functions.

        In a blocking workflow the functions may call steps and other operations: `DBOS.run_parallel(*(partial(pay,
        each) for each in orders))`. Each function's operations are recorded in a branch of its own, so a replay is
        right whichever function is faster. An object that the functions share, such as a list, may be filled in another
        order in a replay: use the results instead. The program's own threads, such as those of a `ThreadPoolExecutor`,
        cannot call operations of a workflow.

        In an async workflow write `await asyncio.gather(*(asyncio.to_thread(pay, each) for each in orders))`. Functions
        called in this way or by `run_parallel` may call `run_parallel` themselves.

        At most `max_executor_threads` run at once, together with all workflows and steps of this process.

        Args:
            *functions: what to call, each without arguments.

        Returns:
            Their results, in the order of the functions.

        Raises:
            RuntimeError: called on a running event loop, which it would block.
            TypeError: an argument is not a function, but for example the result of a call.
            Exception: the error of the first function that failed. It is raised when all functions have ended.

        Durable: each operation that the functions call, as usual. `run_parallel` has no record of its own.
        """
        if running_loop() is not None:
            raise RuntimeError(
                "DBOS.run_parallel would block the running event loop; use: "
                "await asyncio.gather(asyncio.to_thread(function), ...)"
            )
        for each in functions:
            if is_async(each) or iscoroutine(each):
                name = called_name(each)
                raise TypeError(
                    f"DBOS.run_parallel runs blocking functions, and {name} is async; write "
                    f"partial(DBOS.run_step, None, {name}, argument), or in an async workflow "
                    f"await asyncio.gather({name}(argument), ...)"
                )
            if not callable(each):
                raise TypeError(
                    f"DBOS.run_parallel takes functions, which it calls, not {plainly(each)}; write "
                    "DBOS.run_parallel(partial(function, argument), ...), with partial from functools"
                )
        call = call_here()
        if call is not None:  # In a thread that an async workflow awaits: the workflow's loop runs these functions too.
            together = partial(call_together, functions, current_host().workers)
            return cast(list[R], call.perform(together, Begins.AT_ONCE))
        caller = caller_in_app(scopes.of_thread, "DBOS.run_parallel")
        loop = drive(without(_LOOP, made_loop), caller.port)
        try:
            with without_permit():
                return loop.run_until_complete(call_together(functions, current_host().workers))
        except BaseException:
            if asyncio.all_tasks(loop):  # Ctrl-C: these tasks never run again, and must record nothing more.
                caller.port.detach()
            raise
        finally:
            for task in asyncio.all_tasks(loop):
                task._log_destroy_pending = False  # type: ignore[attr-defined]
            loop.close()
