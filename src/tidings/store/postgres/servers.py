"""Chooses among the servers that a URL names: one that takes writes, and the same one for all connections of a store.

After a failover two servers may take writes, if nobody stopped the old primary when it came back. Each lacks what was
written to the other. A store that writes to one and reads from the other mixes their data, and nothing would show it.
So each new connection tries first the server that the store connected to last. An older connection to another server is
dropped (`Wire.server`, compared at each use).
"""

from __future__ import annotations

import os
from collections.abc import Mapping

import psycopg

Conninfo = Mapping[str, str | int | None]


class Servers:
    """The servers of one URL. Used by several threads; the newest connection decides.

    Attributes:
        current: the host and the port of the server to which the last connection was made.
    """

    def __init__(self, given: Conninfo) -> None:
        self._hosts = _split(given.get("host"))
        self._addresses = _split(given.get("hostaddr"))
        count = max(len(self._hosts), len(self._addresses))
        ports = _split(given.get("port"))
        self._ports = ports * count if len(ports) == 1 else ports
        self._are_several = count > 1
        # The first connection may try the servers in any order; later ones must lead to the same server.
        self._order: dict[str, str | int | None] = (
            {"load_balance_hosts": "disable"}
            if given.get("load_balance_hosts") or os.environ.get("PGLOADBALANCEHOSTS")
            else {}
        )
        self.current: tuple[str, int] | None = None

    def preference(self) -> dict[str, str | int | None]:
        """Return the parameters that apply unless the URL sets them."""
        return {"target_session_attrs": "read-write"} if self._are_several else {}

    def in_order(self) -> dict[str, str | int | None]:
        """Return the servers as connection parameters, the last connection's server first."""
        current = self.current
        if not self._are_several or current is None:
            return {}
        names = self._hosts or self._addresses
        ports = self._ports or [""] * len(names)
        order = sorted(
            range(len(names)),
            key=lambda each: (names[each], int(ports[each] or os.environ.get("PGPORT") or 5432)) != current,
        )
        lists = {"host": self._hosts, "hostaddr": self._addresses, "port": self._ports}
        return self._order | {name: ",".join(each[index] for index in order) for name, each in lists.items() if each}

    def found(self, connection: psycopg.Connection) -> None:
        """Note which server a new connection leads to."""
        self.current = server_of(connection)


def server_of(connection: psycopg.Connection) -> tuple[str, int]:
    """Return the host, as the URL calls it, and the port that a connection leads to."""
    return connection.info.host, connection.info.port


def _split(value: str | int | None) -> list[str]:
    return str(value).split(",") if value else []
