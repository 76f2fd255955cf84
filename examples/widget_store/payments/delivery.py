"""Webhooks: how the shop learns of a payment, even if it is down for hours.

As with real payment services, a webhook is delivered at least once: again after a lost answer, sometimes twice for no
visible reason, sometimes late. All deliveries of an event have the event's id, so the shop recognises repeats. If the
shop refuses a webhook (4xx), it is not sent again, because each retry would be refused too.
"""

import random
import time

import httpx
import msgspec
from msgspec import Struct

from examples.widget_store import signature
from examples.widget_store.settings import settings
from examples.widget_store.timeline import Colour, tell
from examples.widget_store.wire import PaymentEvent
from tidings import DBOS


class Plan(Struct, frozen=True):
    """How many times an event is delivered, and with what delay in seconds."""

    times: int
    late_seconds: float


@DBOS.workflow()
async def deliver(event: PaymentEvent, webhook_url: str) -> bool:
    """Deliver an event to the shop, and return whether the shop accepted it. Its id is the workflow's id."""
    plan = await make_plan()
    await DBOS.sleep_async(plan.late_seconds)
    for number in range(1, plan.times + 1):
        if not await post_webhook(event, webhook_url, number):
            return False
    return True


@DBOS.step()
async def make_plan() -> Plan:
    """Draw the plan at random, once: a replay returns the recorded plan."""
    told = settings()
    twice, late = random.random() < told.webhook_twice, random.random() < told.webhook_late
    return Plan(times=2 if twice else 1, late_seconds=told.webhook_late_seconds if late else 0)


# At once, then after pauses that grow up to an hour, for about three days.
@DBOS.step(retries_allowed=True, max_attempts=100, interval_seconds=0.1, backoff_rate=1.5)
async def post_webhook(event: PaymentEvent, webhook_url: str, number: int) -> bool:
    """Call the shop; return False if it refuses. Each attempt has a new signature, because an old one is stale."""
    body = msgspec.json.encode(event)
    headers = {signature.HEADER: signature.sign(settings().secret, body, int(time.time()))}
    try:
        async with httpx.AsyncClient(timeout=10) as client:
            answer = await client.post(webhook_url, content=body, headers=headers)
        if answer.is_client_error:
            tell(f"webhook '{event.status}' refused, and not sent again: {answer.text}", event.reference, Colour.RED)
            return False
        answer.raise_for_status()
    except httpx.HTTPStatusError as error:
        code = error.response.status_code
        tell(f"webhook '{event.status}': the shop answers {code}; retrying later", event.reference, Colour.YELLOW)
        raise
    except httpx.HTTPError:
        tell(f"webhook '{event.status}': the shop does not answer; retrying later", event.reference, Colour.YELLOW)
        raise
    again = "" if number == 1 else " once more"
    tell(f"webhook '{event.status}' delivered{again}", event.reference)
    return True
