"""Runs one of the two programs: launches tidings, which recovers its workflows, and serves requests until Ctrl-C."""

import errno
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable
from urllib.parse import urlsplit

import psycopg
import uvicorn
from starlette.applications import Starlette

from examples.widget_store.settings import Place, Settings, SettingsError, place_of, settings
from examples.widget_store.timeline import Colour, TimelineHandler, paint, say, speak_as
from tidings import DBOS
from tidings.error import DBOSInitializationError


def run(
    name: str,
    url_of: Callable[[Settings], str],
    open_books: Callable[[Place], None],
    create_app: Callable[[], Starlette],
) -> None:
    """Run a program until Ctrl-C.

    Args:
        name: "shop" or "payments".
        url_of: returns its address in the settings, `http://host:port`.
        open_books: creates its own tables.
        create_app: creates its web application.
    """
    speak_as(name)
    try:
        told = settings()
        place, url = place_of(name, told), url_of(told)
        if told.ends_with_stdin:
            threading.Thread(target=_end_with_stdin, daemon=True).start()
        # The port comes first, so that requests during the launch wait until it is complete.
        with _listen(url) as listener:
            open_books(place)
            _report_to_timeline()
            DBOS(
                config={"name": name, "system_database_url": place.workflows_url, "dbos_system_schema": place.workflows}
            )
            with DBOS.launch():
                _Server(name, url, create_app()).run([listener])
    except (SettingsError, DBOSInitializationError, psycopg.OperationalError) as error:
        sys.exit(f"The {name} program cannot open: {error}")
    except KeyboardInterrupt:
        pass  # The server has printed that it is closed.


class _Server(uvicorn.Server):
    """Prints when it is open and when it is closed, and ends at once on Ctrl-C."""

    def __init__(self, name: str, url: str, app: Starlette) -> None:
        super().__init__(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
        self._name = name
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        say(f"\nThe {self._name} program is open at {paint(self._url, Colour.BOLD)}, as process {os.getpid()}.\n")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await DBOS.destroy_async()  # First, so that every waiting page gets its answer.
        await super().shutdown(sockets)
        say(f"The {self._name} program is closed. Open it again, and everything continues.")


def _end_with_stdin() -> None:
    """End this program in order when the other end of its standard input is closed."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _listen(url: str) -> socket.socket:
    """Take the port before anything else."""
    parts = urlsplit(url)
    try:
        return socket.create_server((parts.hostname or "127.0.0.1", parts.port or 80))
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        sys.exit(
            f"Port {parts.port} is busy. Is the program open already? Choose other addresses with "
            "WIDGET_STORE_SHOP_URL and WIDGET_STORE_PAYMENTS_URL."
        )


def _report_to_timeline() -> None:
    """Show the recoveries of tidings in the timeline."""
    logger = logging.getLogger("tidings")
    logger.setLevel(logging.INFO)
    logger.addHandler(TimelineHandler())
    logging.getLogger("tidings.workflows").setLevel(logging.WARNING)  # The timeline shows the workflows already.
    logging.getLogger("tidings.store").setLevel(logging.ERROR)  # Its advice is not for users of the store.
