"""What each `DBOSClient` of this process holds: its share of an engine, until it is closed."""

from __future__ import annotations

from tidings.engine import sharing
from tidings.engine.settings import Connection
from tidings.error import DBOSShutdownError

_LABEL = "client"
_DESTROYED = "this DBOSClient was destroyed; make a new one"

_open: set[Membership] = set()  # Those that the program has not closed yet.


class Membership:
    """The share of one client in an engine."""

    def __init__(self, connection: Connection) -> None:
        """Open the engine, or join it.

        Raises:
            DBOSInitializationError: the database is down, unfit, or newer than this library.
        """
        self.engine = sharing.acquire(connection, _LABEL, migrate=False)
        self.port = self.engine.open_port()
        _open.add(self)

    def close(self) -> None:
        """Leave the engine at once: calls that wait get an error. Calling it again does nothing."""
        try:
            _open.remove(self)
        except KeyError:
            return  # Another thread, or an earlier call, was first.
        self.engine.close_port(self.port, DBOSShutdownError(_DESTROYED))
        sharing.release(self.engine)

    def check_open(self) -> None:
        """Raise `DBOSShutdownError` if it was closed."""
        if self not in _open:
            raise DBOSShutdownError(_DESTROYED)


def close_all() -> None:
    """Close all that are open."""
    for each in list(_open):
        each.close()
