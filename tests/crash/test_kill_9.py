"""A program that is killed with SIGKILL again and again, and started again, until all its workflows have ended."""

from __future__ import annotations

import json
import random
import signal
import subprocess
from typing import Any

import pytest

from tests.crash.shop import BANK, END, order_id
from tests.support import programs
from tests.support.records import read_records

ORDERS = 12
LEAST_KILLS = 5


@pytest.mark.parametrize("seed", [1, 2])
def test_each_order_is_paid_once(database_url: str, seed: int) -> None:
    dice = random.Random(seed)
    kills = 0
    while (
        results := _live(database_url, dice.randint(1, 18) if kills < LEAST_KILLS else dice.randint(10, 60))
    ) is None:
        kills += 1
        assert kills < 100, "it makes no progress"
    assert kills >= LEAST_KILLS

    amounts = {order_id(number): number * 10 + number % 3 for number in range(ORDERS)}
    bank = results.pop(BANK)
    assert {workflow_id: order["amount"] for workflow_id, order in results.items()} == amounts
    assert bank["total"] == sum(amounts.values())
    assert sorted(bank["payers"]) == sorted(amounts), "each paid once"
    receipts = {bank["payers"].index(workflow_id): order["receipt"] for workflow_id, order in results.items()}
    assert receipts == {number: number for number in range(ORDERS)}, "each got the receipt of its own payment"

    records = read_records(database_url)
    assert {workflow.status for workflow in records.workflows} == {"SUCCESS"}
    assert len(records.messages) == 2 * ORDERS
    assert all(message.read_by_branch is not None for message in records.messages)
    assert [each.version for each in records.events if each.workflow_id == BANK] == list(range(1, ORDERS + 1))
    states = [(each.workflow_id, each.value) for each in records.events if each.workflow_id in amounts]
    assert len(states) == len(set(states)) == 3 * ORDERS


def _live(url: str, lines: int) -> dict[str, Any] | None:
    """Run the program, and kill it when it has said so many lines; return its results if it came to its end."""
    command = programs.python("-m", "tests.crash.shop", url, str(ORDERS))
    process = programs.start(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    for said, line in enumerate(process.stdout, 1):
        if line.startswith(END):
            _, errors = process.communicate()
            assert process.returncode == 0, errors
            found: dict[str, Any] = json.loads(line.removeprefix(END))
            return found
        if said == lines:
            process.send_signal(signal.SIGKILL)
            break
    _, errors = process.communicate()
    assert process.returncode == -signal.SIGKILL, errors
    return None
