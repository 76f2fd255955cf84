"""The shop's books: its products, its orders and their histories, in a database of its own.

A step runs again if the program died before its result was recorded. So each function that a step calls writes in one
transaction, which first checks the order's status: if it runs twice, it changes nothing twice. The order's id is the
workflow's id.
"""

import time
from enum import StrEnum
from pathlib import Path

from msgspec import Struct

from examples.widget_store.database import Database, Transaction
from examples.widget_store.settings import Place

FULL_SHELF = 12


class Status(StrEnum):
    """The status of an order."""

    CREATED = "created"
    RESERVED = "waiting for payment"
    PAID = "paid"
    DISPATCHED = "dispatched"
    CANCELLED = "cancelled"


class Product(Struct, frozen=True):
    """A product, with the number on the shelf."""

    product_id: str
    name: str
    description: str
    price_cents: int
    inventory: int


class NewOrder(Struct, frozen=True):
    """A customer's order."""

    order_id: str
    product_id: str
    quantity: int


class OrderRecord(Struct, frozen=True):
    """An order with its status. `history` has its events, oldest first, and `moments_ms` their times.

    With `bank_pays` the customer has told a bank to pay, which takes a while.
    """

    order_id: str
    product_name: str
    quantity: int
    amount_cents: int
    status: Status
    history: list[str]
    moments_ms: list[int]
    bank_pays: bool = False


class Books(Struct, frozen=True):
    """The products, and the last orders, newest first."""

    products: list[Product]
    orders: list[OrderRecord]


_database = Database()


def open_books(place: Place) -> None:
    """Create the shop's tables and fill its shelf, if they do not exist."""
    _database.open(place, Path(__file__).with_name("tables.sql").read_text("utf-8"))


def create_order(order: NewOrder) -> int:
    """Record a new order, and return its price in cents."""
    with _database.transaction() as transaction:
        create = "insert into orders (order_id, status, created_at_ms) values (?, ?, ?) on conflict do nothing"
        if transaction.change(create, order.order_id, Status.CREATED.value, _now_ms()):
            transaction.change(
                "insert into order_items (order_id, product_id, quantity, price_cents)"
                " select ?, product_id, ?, price_cents from products where product_id = ?",
                *(order.order_id, order.quantity, order.product_id),
            )
            _note(transaction, order.order_id, "ordered")
        amount = "select quantity * price_cents from order_items where order_id = ?"
        return int(transaction.rows(amount, order.order_id)[0][0])


def reserve_inventory(order_id: str) -> bool:
    """Take the ordered widgets from the shelf, or cancel the order if there are too few. Return whether there were
    enough."""
    with _database.transaction() as transaction:
        status = _lock(transaction, order_id)
        if status is not Status.CREATED:
            return status is not Status.CANCELLED
        product_id, quantity = _item(transaction, order_id)
        take = "update products set inventory = inventory - ? where product_id = ? and inventory >= ?"
        reserved = transaction.change(take, quantity, product_id, quantity)
        if reserved:
            _enter(transaction, order_id, Status.RESERVED, "inventory reserved")
        else:
            _enter(transaction, order_id, Status.CANCELLED, "cancelled: not enough widgets on the shelf")
        return reserved


def enter_payment(order_id: str) -> None:
    """Record that a reserved order is paid."""
    with _database.transaction() as transaction:
        if _lock(transaction, order_id) is Status.RESERVED:
            _enter(transaction, order_id, Status.PAID, "paid")


def cancel_order(order_id: str, why: str) -> None:
    """Cancel a reserved order, and put its widgets back on the shelf."""
    with _database.transaction() as transaction:
        if _lock(transaction, order_id) is Status.RESERVED:
            product_id, quantity = _item(transaction, order_id)
            put_back = "update products set inventory = inventory + ? where product_id = ?"
            transaction.change(put_back, quantity, product_id)
            _enter(transaction, order_id, Status.CANCELLED, f"cancelled: {why}; inventory back")


def enter_dispatch(order_id: str) -> None:
    """Record that a paid order was dispatched."""
    with _database.transaction() as transaction:
        if _lock(transaction, order_id) is Status.PAID:
            _enter(transaction, order_id, Status.DISPATCHED, "dispatched")


def enter_refund(order_id: str) -> None:
    """Record that the payment of a cancelled order was refunded."""
    with _database.transaction() as transaction:
        _lock(transaction, order_id)
        refunded = "payment came too late: refunded"
        if not transaction.rows("select 1 from order_history where order_id = ? and what = ?", order_id, refunded):
            _note(transaction, order_id, refunded)


def enter_bank_order(order_id: str) -> bool:
    """Record that the customer has told a bank to pay. Return whether the order exists."""
    with _database.transaction() as transaction:
        note = (
            "insert into bank_orders (order_id) select order_id from orders where order_id = ? on conflict do nothing"
        )
        transaction.change(note, order_id)
        return bool(transaction.rows("select 1 from bank_orders where order_id = ?", order_id))


def restock() -> None:
    """Fill the products that are sold out. Others are left as they are, so pressing twice fills once."""
    with _database.transaction() as transaction:
        transaction.change("update products set inventory = ? where inventory = 0", FULL_SHELF)


def find_order(order_id: str) -> OrderRecord | None:
    """Return an order, or `None` if it was not recorded yet."""
    with _database.transaction() as transaction:
        return _find_order(transaction, order_id)


def read_products() -> list[Product]:
    """Return the products."""
    with _database.transaction() as transaction:
        return _read_products(transaction)


def read_books(most_orders: int) -> Books:
    """Return the products and the last orders, read in one transaction."""
    with _database.transaction() as transaction:
        order_ids = transaction.rows("select order_id from orders order by created_at_ms desc limit ?", most_orders)
        found = [_find_order(transaction, order_id) for (order_id,) in order_ids]
        return Books(_read_products(transaction), [order for order in found if order is not None])


def _read_products(transaction: Transaction) -> list[Product]:
    query = "select product_id, name, description, price_cents, inventory from products order by name"
    return [Product(*row) for row in transaction.rows(query)]


def _find_order(transaction: Transaction, order_id: str) -> OrderRecord | None:
    row = transaction.row(
        "select name, quantity, quantity * order_items.price_cents, status from orders"
        " join order_items using (order_id) join products using (product_id) where order_id = ?",
        order_id,
    )
    if row is None:
        return None
    name, quantity, amount_cents, status = row
    history = transaction.rows("select what, at_ms from order_history where order_id = ? order by position", order_id)
    whats, moments = [what for what, _ in history], [at_ms for _, at_ms in history]
    bank_pays = bool(transaction.rows("select 1 from bank_orders where order_id = ?", order_id))
    return OrderRecord(order_id, name, quantity, amount_cents, Status(status), whats, moments, bank_pays)


def _lock(transaction: Transaction, order_id: str) -> Status:
    """Lock this order until the end of the transaction, and return its status."""
    row = transaction.row("update orders set status = status where order_id = ? returning status", order_id)
    if row is None:
        raise LookupError(f"there is no order {order_id}: its workflow creates it first")
    return Status(row[0])


def _item(transaction: Transaction, order_id: str) -> tuple[str, int]:
    ((product_id, quantity),) = transaction.rows(
        "select product_id, quantity from order_items where order_id = ?", order_id
    )
    return product_id, quantity


def _enter(transaction: Transaction, order_id: str, status: Status, what: str) -> None:
    transaction.change("update orders set status = ? where order_id = ?", status.value, order_id)
    _note(transaction, order_id, what)


def _note(transaction: Transaction, order_id: str, what: str) -> None:
    transaction.change(
        "insert into order_history (order_id, position, what, at_ms)"
        " select ?, count(*) + 1, ?, ? from order_history where order_id = ?",
        *(order_id, what, _now_ms(), order_id),
    )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
