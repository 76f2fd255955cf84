"""A server that refuses every connection, and repeats in its error what it was given, in many ways."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Final, Self

_ENCRYPTION_REQUESTS: Final = (80877103, 80877104)

# What servers and poolers say. The last ones are as hostile as a text can be.
SAYINGS: Final = (
    'role "{user}" does not exist',
    'database "{database}" does not exist',
    'password authentication failed for user "{user}"',
    'no pg_hba.conf entry for host "127.0.0.1", user "{user}", database "{database}", no encryption',
    "no such user: {user}",
    "no such database: {database}",
    "invalid command-line argument for server process: {options}",
    'unrecognized configuration parameter "{options}"',
    "la base de données « {database} » n'existe pas",
    "Rolle »{user}« existiert nicht, Datenbank „{database}“ auch nicht\nLINE 1: {options}",
    "{application_name} ({user}@{database})",
    "{user}{database}{options}",
)


class EchoingServer:
    """Listens on `port`, at 127.0.0.1, until the end of the `with` block. Each connection gets the next saying."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.count = 0
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return  # The end of the block.
            with connection:
                self._refuse(connection)

    def _refuse(self, connection: socket.socket) -> None:
        try:
            message = self._message(connection)
            while int.from_bytes(message[:4], "big") in _ENCRYPTION_REQUESTS:
                connection.sendall(b"N")
                message = self._message(connection)
        except OSError:
            return
        words = message[4:].decode(errors="replace").split("\0")
        given = dict(zip(words[::2], words[1::2], strict=False))
        named = {key: given.get(key, "") for key in ("user", "database", "options", "application_name")}
        said = SAYINGS[self.count % len(SAYINGS)].format(**named)
        self.count += 1
        error = b"SFATAL\0VFATAL\0C28000\0M" + said.encode() + b"\0\0"
        connection.sendall(b"E" + (len(error) + 4).to_bytes(4, "big") + error)

    def _message(self, connection: socket.socket) -> bytes:
        size = int.from_bytes(self._read(connection, 4), "big")
        return self._read(connection, size - 4)

    def _read(self, connection: socket.socket, size: int) -> bytes:
        found = b""
        while len(found) < size:
            part = connection.recv(size - len(found))
            if not part:
                raise ConnectionError
            found += part
        return found
