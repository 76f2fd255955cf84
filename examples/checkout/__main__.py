"""Opens the shop: `python -m examples.checkout`, or `make demo`."""

import argparse
import errno
import logging
import os
import socket
import sys
from contextlib import chdir
from pathlib import Path

import uvicorn

from examples.checkout import shop, story
from examples.checkout.timeline import Colour, TimelineHandler, paint, say
from examples.checkout.web import create_app
from tidings import DBOS
from tidings.error import DBOSInitializationError

NAME = "checkout"
URL = "DBOS_SYSTEM_DATABASE_URL"


def main() -> None:
    """Open the shop until Ctrl-C, or play the whole story."""
    options = _options()
    try:
        if options.auto:
            sys.exit(0 if story.play() else 1)
        if not options.folder.is_dir():
            sys.exit(f"There is no folder {options.folder}. Make it first, or name another with --folder.")
        with chdir(options.folder), _listen(options.port) as listener:
            _welcome(listener.getsockname()[1], options.pay_within)
            _serve(listener, options.pay_within)
    except DBOSInitializationError as error:
        sys.exit(f"The shop cannot open: {error}")
    except KeyboardInterrupt:
        say("\nThe shop is closed. Open it again, and every order goes on where it was.")


class _Server(uvicorn.Server):
    """Ends at once on Ctrl-C: when tidings stops, every page that waits gets its answer."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await DBOS.destroy_async()
        await super().shutdown(sockets)


def _serve(listener: socket.socket, pay_within_seconds: float) -> None:
    """Launch tidings, which recovers what was left, and answer requests."""
    logger = logging.getLogger("tidings")
    logger.setLevel(logging.INFO)
    logger.addHandler(TimelineHandler())
    logging.getLogger("tidings.store").setLevel(logging.ERROR)  # Its advice is for who opens the workflows' file.
    shop.open_books()
    DBOS(config={"name": NAME})
    with DBOS.launch():
        app = create_app(pay_within_seconds)
        _Server(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off")).run([listener])


def _listen(port: int) -> socket.socket:
    """Take the port before anything else is done."""
    try:
        return socket.create_server(("127.0.0.1", port))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        sys.exit(f"Port {port} is busy. Is the shop open already? Choose another port with --port.")


def _welcome(port: int, pay_within_seconds: float) -> None:
    """Say what to try and, last, where the shop is."""
    workflows = "the database of DBOS_SYSTEM_DATABASE_URL" if URL in os.environ else Path(f"{NAME}.sqlite").resolve()
    say(f"""
  Buy a bell and pay, or cancel, or let {pay_within_seconds:g} seconds pass.
  Then buy one more and kill this program while it waits for the payment: kill -9 {os.getpid()}
  Start it again: the order still waits, and you can pay.

  Stock and orders are kept in {Path(shop.FILE).resolve()},
  workflows in {workflows}.

The shop's address is {paint(f"http://127.0.0.1:{port}", Colour.BOLD)}; Ctrl-C closes it.""")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m examples.checkout", description="A shop that survives being killed."
    )
    parser.add_argument("--port", type=int, default=8000, help="where to listen; 0 is any free port (default: 8000)")
    parser.add_argument("--pay-within", type=float, default=60, metavar="SECONDS", help="time to pay (default: 60)")
    parser.add_argument("--folder", type=Path, default=Path(), help="where the shop's files are (default: here)")
    parser.add_argument("--auto", action="store_true", help="play a customer and a power cut, and check the books")
    return parser.parse_args()


if __name__ == "__main__":
    main()
