"""A program to be killed: orders pay at a bank, by messages, and get a receipt each.

    python -m tests.crash.shop URL ORDERS

It says a line for each batch, before and after its commit, so that who reads along can kill it there.
Started again it goes on; when all has ended it says so, with the results as JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from tidings import DBOS, SetWorkflowID
from tidings.engine.hooks import Point
from tidings.engine.process import Process

BANK = "bank"
END = "end "


@DBOS.step()
async def price(number: int) -> int:
    """Return what an order costs."""
    return number * 10


@DBOS.step()
async def shipping(number: int) -> int:
    """Return what it costs to ship it."""
    return number % 3


@DBOS.workflow(name="shop.order")
async def order(number: int) -> dict[str, Any]:
    """Pay, and wait for the receipt."""
    await DBOS.set_event_async("state", "new")
    amount = sum(await asyncio.gather(price(number), shipping(number)))
    await DBOS.set_event_async("state", "priced")
    await DBOS.send_async(BANK, amount, "payment")
    receipt = await DBOS.recv_async("receipt", None)
    await DBOS.set_event_async("state", "paid")
    return {"amount": amount, "receipt": receipt}


@DBOS.workflow(name="shop.bank")
def bank(orders: int) -> dict[str, Any]:
    """Take a payment from each order, and give receipts, numbered as they come."""
    payers = []
    total = 0
    for number in range(orders):
        payment = DBOS.recv_message("payment", None)
        assert payment is not None
        assert payment.sender_id is not None
        total += payment.value
        payers.append(payment.sender_id)
        DBOS.set_event("total", total)
        DBOS.send(payment.sender_id, number, "receipt")
    return {"total": total, "payers": payers}


def order_id(number: int) -> str:
    """Return the id of an order's workflow."""
    return f"order-{number}"


def say(line: str) -> None:
    """Print a line that is not lost when the process dies."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main(url: str, orders: int) -> None:
    """Start all, or find it started, and wait for the end."""
    DBOS(config={"name": "shop", "system_database_url": url, "application_version": "1"})
    with DBOS.launch():
        assert Process.host is not None
        Process.host.engine.hooks.set(Point.BATCH_TAKEN, lambda jobs: say(f"before {len(jobs)}"))
        Process.host.engine.hooks.set(Point.BATCH_COMMITTED, lambda jobs: say(f"after {len(jobs)}"))
        with SetWorkflowID(BANK):
            counter = DBOS.start_workflow(bank, orders)
        handles = {}
        for number in range(orders):
            with SetWorkflowID(order_id(number)):
                handles[order_id(number)] = DBOS.start_workflow(order, number)
        results = {workflow_id: handle.get_result() for workflow_id, handle in handles.items()}
        results[BANK] = counter.get_result()
    say(END + json.dumps(results))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
