"""Runs the widget store: `python -m examples.widget_store`, or `make demo`.

It starts the two programs, and restarts a program that is killed: try it. Both end with this process, however it ends:
by Ctrl-C, with its terminal, or killed.
"""

import asyncio
import os
import secrets
import signal
import sys
from contextlib import suppress
from dataclasses import replace

from examples.widget_store.settings import DATABASE_URL, Settings, SettingsError, place_of, settings
from examples.widget_store.timeline import Colour, paint, say

_SECRET = "WIDGET_STORE_SECRET"


class ProgramEndedError(Exception):
    """A program ended by itself, and has printed the reason."""


def main() -> None:
    """Keep both programs open until Ctrl-C."""
    os.environ.setdefault(_SECRET, secrets.token_hex())
    try:
        told = settings()
        kept = f"the database of {DATABASE_URL}" if os.environ.get(DATABASE_URL) else place_of("shop", told).books
        _welcome(told, kept)
        asyncio.run(_keep_store_open(told))
    except SettingsError as error:
        sys.exit(f"The widget store cannot open: {error}")
    except ProgramEndedError as error:
        sys.exit(f"The widget store is closed, because the {error} program has ended.")
    except (KeyboardInterrupt, asyncio.CancelledError):
        pass  # Both programs have printed that they are closed.


def _welcome(told: Settings, kept: str) -> None:
    """Print the shop's address, and what to try."""
    say(f"""
  The shop's address is {paint(told.shop_url, Colour.BOLD)}; Ctrl-C closes it.

  Buy a widget and pay for it, or cancel, or let {told.pay_within_seconds:g} seconds pass.
  Then buy one more, and kill the shop while it waits for the payment: kill -9, with the number that it says below.
  It is restarted, and your order continues. Kill the payment service too, if you like.

  Orders are kept in {kept}.""")


async def _keep_store_open(told: Settings) -> None:
    """Keep both programs open until this is cancelled; return when both are closed."""
    environment = os.environ | replace(told, ends_with_stdin=True).environment()
    # Nothing is ever written to this pipe. Only this process has its writing end, which the system closes when the
    # process ends.
    stdin, _ = os.pipe()
    itself = asyncio.current_task()
    assert itself is not None
    for ending in _endings():
        asyncio.get_running_loop().add_signal_handler(ending, itself.cancel)
    try:
        async with asyncio.TaskGroup() as both:
            for program in ("payments", "shop"):
                both.create_task(_keep_open(program, environment, stdin))
    except ExceptionGroup as ended:
        raise ended.exceptions[0] from None


def _endings() -> list[signal.Signals]:
    """Return the signals that close the store. Under `nohup` the end of the terminal does not close it."""
    endings = [signal.SIGINT, signal.SIGTERM]
    return endings if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else [*endings, signal.SIGHUP]


async def _keep_open(program: str, environment: dict[str, str], stdin: int) -> None:
    """Run a program, and restart it whenever it is killed."""
    while True:
        # In a session of its own, so that Ctrl-C in the terminal does not reach it: this process ends it, once and in
        # order.
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", f"examples.widget_store.{program}"),
            stdin=stdin,
            env=environment,
            start_new_session=True,
        )
        try:
            code = await process.wait()
        finally:
            await _close(process)
        if code >= 0:
            raise ProgramEndedError(program)
        name = signal.Signals(-code).name
        say(paint(f"\nThe {program} program was killed ({name}). It is restarted, and continues.", Colour.RED))


async def _close(process: asyncio.subprocess.Process) -> None:
    if process.returncode is None:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()


if __name__ == "__main__":
    main()
