"""The shop's own records: its stock, its orders and its takings, in an SQLite file.

A step runs again when the program died before its result was recorded. So what a step writes here, it
writes in one transaction which first looks how the order stands: done twice, it changes nothing twice.
The workflows are recorded elsewhere, in the database of tidings.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from enum import StrEnum

FILE = "shop.sqlite"
PRICE = 24
STOCK = 10

_TABLES = """
    create table if not exists shop (
        id integer primary key check (id = 1),
        stock integer not null,
        takings integer not null
    );
    create table if not exists orders (
        number integer primary key,
        order_id text not null unique,
        status text not null
    );
"""


class Status(StrEnum):
    """How an order stands."""

    WAITING = "waiting for payment"
    PAID = "paid"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed out"
    SOLD_OUT = "sold out"


@dataclass(frozen=True, slots=True)
class Books:
    """What the shop has, has earned and has been asked for; the newest order comes first."""

    stock: int
    takings: int
    orders: dict[str, Status]


def open_books() -> None:
    """Create the tables in the current folder, unless they are there."""
    with closing(_connect()) as database:
        database.executescript(_TABLES)
        database.execute("insert or ignore into shop values (1, ?, 0)", (STOCK,))


def read_books() -> Books:
    """Read how the shop stands."""
    with _transaction() as database:
        stock, takings = database.execute("select stock, takings from shop").fetchone()
        orders = database.execute("select order_id, status from orders order by number desc").fetchall()
    return Books(stock, takings, {order_id: Status(status) for order_id, status in orders})


def reserve(order_id: str) -> bool:
    """Take one piece out of the stock for a new order. Return whether there was one."""
    with _transaction() as database:
        find = "select status from orders where order_id = ?"
        found = database.execute(find, (order_id,)).fetchone()
        if found is not None:
            return bool(found[0] != Status.SOLD_OUT)
        reserved = database.execute("update shop set stock = stock - 1 where stock > 0").rowcount == 1
        status = Status.WAITING if reserved else Status.SOLD_OUT
        database.execute("insert into orders (order_id, status) values (?, ?)", (order_id, status))
        return reserved


def settle(order_id: str, status: Status) -> None:
    """Enter how a waiting order has ended: its price among the takings, or its piece back in the stock."""
    with _transaction() as database:
        end = "update orders set status = ? where order_id = ? and status = ?"
        was_waiting = database.execute(end, (status, order_id, Status.WAITING)).rowcount == 1
        if was_waiting and status is Status.PAID:
            database.execute("update shop set takings = takings + ?", (PRICE,))
        elif was_waiting:
            database.execute("update shop set stock = stock + 1")


def _connect() -> sqlite3.Connection:
    return sqlite3.connect(FILE, timeout=60, isolation_level=None)


@contextmanager
def _transaction() -> Iterator[sqlite3.Connection]:
    """All or nothing: commit at the end of the block, roll back if it fails."""
    with closing(_connect()) as database, database:
        database.execute("begin immediate")
        yield database
