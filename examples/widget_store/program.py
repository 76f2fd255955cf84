"""Runs one of the two programs: launches tidings, which recovers what was left, and answers requests until Ctrl-C."""

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
    """Be a program until Ctrl-C.

    Args:
        name: "shop" or "payments".
        url_of: where it listens, `http://host:port`, according to the settings.
        open_books: makes its own tables.
        create_app: makes its web application.
    """
    speak_as(name)
    try:
        told = settings()
        place, url = place_of(name, told), url_of(told)
        if told.ends_with_stdin:
            threading.Thread(target=_end_with_stdin, daemon=True).start()
        # The port first: requests that come during the launch wait until it is done.
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
        pass  # The server has said that it is closed.


class _Server(uvicorn.Server):
    """Says when it is open and when it is closed, and ends at once on Ctrl-C."""

    def __init__(self, name: str, url: str, app: Starlette) -> None:
        super().__init__(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
        self._name = name
        self._url = url

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        say(f"\nThe {self._name} program is open at {paint(self._url, Colour.BOLD)}, as process {os.getpid()}.\n")

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await DBOS.destroy_async()  # First of all: every page that waits gets its answer.
        await super().shutdown(sockets)
        say(f"The {self._name} program is closed. Open it again, and everything goes on where it was.")


def _end_with_stdin() -> None:
    """End this program in order when nobody holds the other end of its standard input any more."""
    while os.read(sys.stdin.fileno(), 1024):
        pass
    os.kill(os.getpid(), signal.SIGTERM)


def _listen(url: str) -> socket.socket:
    """Take the port before anything else is done."""
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
    """Let tidings say in the timeline what it recovers."""
    logger = logging.getLogger("tidings")
    logger.setLevel(logging.INFO)
    logger.addHandler(TimelineHandler())
    logging.getLogger("tidings.store").setLevel(logging.ERROR)  # Its advice is for who opens the workflows' file.
