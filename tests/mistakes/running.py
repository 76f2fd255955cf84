"""Mistakes in calls: where operations are called, ids that do not exist, results that do not come, changed code."""

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import Any

from tests.mistakes.ground import Ground, mistake
from tests.mistakes.values import fetch_price
from tests.support.face import Awaiting, off_loop
from tidings import DBOS, DBOSClient, SendMessage, SetWorkflowID, WorkflowHandle

# --- where it is called -----------------------------------------------------------------------------------


async def _in_step(ground: Ground, body: Any) -> Any:
    """Call something in a step of a workflow."""

    @ground.face.step(name="charge")
    async def charge() -> Any:
        return await body()

    @ground.face.workflow(name="checkout")
    async def checkout() -> Any:
        return await charge()

    return await (await ground.face.start(checkout)).get_result()


@mistake(
    "A message is received in a step",
    "@DBOS.step()\ndef charge():\n    card = DBOS.recv('card')",
    "was called in the step",
    "charge",
    "only the code of a workflow itself may call it",
    "in the workflow, and pass what it returns to the step",
)
async def recv_in_a_step(ground: Ground) -> None:
    await _in_step(ground, partial(ground.face.recv, "card"))


@mistake(
    "A message is received outside of any workflow",
    "answer = DBOS.recv('answer')   # in the main program",
    "was called outside of any workflow",
    "Call it in a function that is decorated with @DBOS.workflow()",
)
async def recv_outside(ground: Ground) -> None:
    await ground.face.recv("answer")


@mistake(
    "An event is set outside of any workflow",
    "DBOS.set_event('status', 'ready')",
    "('status') was called outside of any workflow; an event belongs to one",
    "Call it in a function that is decorated with @DBOS.workflow()",
)
async def event_outside(ground: Ground) -> None:
    await ground.face.set_event("status", "ready")


@mistake(
    "A stream is written outside of any workflow",
    "DBOS.write_stream('log', 'ready')",
    "('log') was called outside of any workflow; a stream belongs to one",
    "Call it in a function that is decorated with @DBOS.workflow()",
)
async def stream_outside(ground: Ground) -> None:
    await ground.face.write_stream("log", "ready")


@mistake(
    "A stream is written after it was closed",
    "DBOS.close_stream('log')\nDBOS.write_stream('log', 'one more')",
    "the stream 'log' of workflow",
    "is closed, so nothing was written",
    "write before DBOS.close_stream, or to another stream",
)
async def write_after_close(ground: Ground) -> None:
    @ground.face.workflow(name="checkout")
    async def checkout() -> None:
        await ground.face.close_stream("log")
        await ground.face.write_stream("log", "one more")

    await (await ground.face.start(checkout)).get_result()


@mistake(
    "A workflow waits for its own end",
    "@DBOS.workflow()\ndef checkout():\n    return DBOS.get_result(DBOS.workflow_id)",
    "workflow 'order-2' would wait for its own end, which can never come",
    "Wait for it outside of the workflow",
)
async def own_end(ground: Ground) -> None:
    @ground.face.workflow(name="checkout")
    async def checkout() -> Any:
        return await ground.face.get_result("order-2")

    await (await ground.face.start(checkout, workflow_id="order-2")).get_result()


@mistake(
    "A step waits for the end of its workflow",
    "@DBOS.step()\ndef charge():\n    return handle.get_result()",
    "would wait in its step",
    "for its own end, which can never come",
)
async def own_end_in_a_step(ground: Ground) -> None:
    async def wait() -> Any:
        return await ground.face.wait_first([WorkflowHandle(str(DBOS.workflow_id), DBOS)])

    await _in_step(ground, wait)


@mistake(
    "Steps run in a ThreadPoolExecutor",
    "with ThreadPoolExecutor() as pool:\n    pool.map(charge, orders)   # in a workflow",
    "was called in a thread that workflow",
    "it would not be recorded",
    "DBOS.run_parallel(function, ...)",
)
async def steps_in_a_pool(ground: Ground) -> None:
    @DBOS.step(name="charge")
    def charge(order: int) -> int:
        return order

    @DBOS.workflow(name="checkout")
    def checkout() -> list[int]:
        with ThreadPoolExecutor(1) as pool:
            return list(pool.map(charge, range(3)))

    await off_loop(checkout)


@mistake(
    "A message is received in a thread that a workflow starts",
    "ThreadPoolExecutor().submit(DBOS.recv, 'card')   # in a workflow",
    "DBOS.recv was called in a thread that workflow",
    "which does not have the workflow's context",
)
async def recv_in_a_pool(ground: Ground) -> None:
    @DBOS.workflow(name="checkout")
    def checkout() -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(DBOS.recv, "card").result()

    await off_loop(checkout)


@mistake(
    "A client is used in the code of a workflow",
    "@DBOS.workflow()\ndef checkout():\n    client.send('order-1', 'paid')",
    "called a DBOSClient, which records nothing",
    "Call the client in a step, or use DBOS",
)
async def client_in_a_workflow(ground: Ground) -> None:
    with DBOSClient(system_database_url=ground.app.database_url) as client:

        @ground.face.workflow(name="checkout")
        async def checkout() -> None:
            await ground.face.on(client).send("order-1", "paid")

        await (await ground.face.start(checkout)).get_result()


@mistake(
    "A blocking workflow is called in a coroutine",
    "async def endpoint():\n    return checkout()   # a def",
    "would block the running event loop; use: await DBOS.start_workflow_async(...)",
    "or make it an async def",
)
async def blocking_workflow_on_a_loop(ground: Ground) -> None:
    @DBOS.workflow(name="checkout")
    def checkout() -> None: ...

    checkout()


@mistake(
    "Functions are called instead of named where they run side by side",
    "DBOS.run_parallel(charge('tea'), charge('milk'))",
    "DBOS.run_parallel takes functions, which it calls, not None",
    "write DBOS.run_parallel(partial(function, argument), ...)",
)
async def parallel_results(ground: Ground) -> None:
    await off_loop(lambda: DBOS.run_parallel(None, None))  # type: ignore[arg-type]


@mistake(
    "An async step runs in DBOS.run_parallel",
    "DBOS.run_parallel(partial(charge, 'tea'), partial(charge, 'milk'))   # charge is an async def",
    "DBOS.run_parallel runs blocking functions, and charge is async",
    "write partial(DBOS.run_step, None, charge, argument)",
)
async def async_in_parallel(ground: Ground) -> None:
    @DBOS.step(name="charge")
    async def charge(order: str) -> None: ...

    # As a user's function is called, and not one inside of another.
    charge.__qualname__ = "charge"
    await off_loop(lambda: DBOS.run_parallel(partial(charge, "tea"), partial(charge, "milk")))


@mistake(
    "`await` is forgotten at the argument of a step",
    "charge(fetch_price('tea'))   # in an async workflow; charge is a def, fetch_price is async",
    "a step that is a def returned the coroutine fetch_price() in an async workflow, and nothing can await it there",
    "If it was an argument of the step, pass its awaited value",
)
async def argument_not_awaited(ground: Ground) -> None:
    @DBOS.step(name="charge")
    def charge(price: Any) -> Any:
        return price

    async def checkout() -> None:
        charge(fetch_price("tea"))

    await DBOS.workflow(name="checkout")(checkout)()


@mistake(
    "A blocking handle is used in a coroutine",
    "async def endpoint():\n    return DBOS.retrieve_workflow('order-1').get_result()",
    "handle.get_result() would block the running event loop; use: "
    "await DBOS.get_result_async(...), with its workflow_id",
)
async def blocking_handle(ground: Ground) -> None:
    WorkflowHandle("order-1", DBOS).get_result()


@mistake(
    "A sleep is negative",
    "DBOS.sleep(opening - now)   # after the opening",
    "seconds must be 0 or more seconds; got timedelta(seconds=-60)",
)
async def negative_sleep(ground: Ground) -> None:
    await ground.face.sleep(timedelta(minutes=-1))


@mistake(
    "The options of DBOS.run_step are left out",
    "DBOS.run_step(charge, order)",
    "write DBOS.run_step(None, charge, ...)",
)
async def step_without_options(ground: Ground) -> None:
    def charge(order: str) -> None: ...

    await ground.face.run_step(charge, "order")


@mistake(
    "A coroutine is given to DBOS.run_step",
    "DBOS.run_step_async(None, charge('order'))",
    "write DBOS.run_step(None, charge, ...), not charge(...)",
)
async def step_of_a_coroutine(ground: Ground) -> None:
    async def charge(order: str) -> None: ...

    call = charge("order")
    try:
        await ground.face.run_step(None, call)
    finally:
        call.close()


# --- what is not there --------------------------------------------------------------------------------------


@mistake(
    "A message is sent to an id that does not exist",
    "DBOS.send('ordr-1', 'paid')",
    "no workflow has the id 'ordr-1'; nothing was sent",
    "the program which starts the workflow uses the same database",
)
async def unknown_destination(ground: Ground) -> None:
    await ground.face.send("ordr-1", "paid")


@mistake(
    "A workflow is looked up that does not exist",
    "DBOS.retrieve_workflow('ordr-1')",
    "no workflow has the id 'ordr-1'. Check the id",
)
async def unknown_workflow(ground: Ground) -> None:
    await ground.face.retrieve_workflow("ordr-1")


@mistake(
    "A message waits on a topic that is misspelt",
    "DBOS.send('order-3', 'yes', 'aproval')   # received with DBOS.recv('approval')",
    "workflow 'order-3' received nothing on topic 'approval' within 1 s",
    "unread messages on topic 'aproval'. Check the names of the topics.",
)
async def wrong_topic(ground: Ground) -> str:
    @ground.face.workflow(name="checkout")
    async def checkout() -> Any:
        await ground.face.recv("go", None)
        return await ground.face.recv("approval", timeout_seconds=1)

    handle = await ground.face.start(checkout, workflow_id="order-3")
    await ground.face.send("order-3", "yes", "aproval")
    await ground.face.send("order-3", None, "go")
    await handle.get_result()
    return await ground.logged("received nothing on topic 'approval'")


@mistake(
    "A message is sent to a workflow that has ended",
    "DBOS.send('order-4', 'paid')",
    "a message was sent to workflow 'order-4', which has ended, so nobody will receive it",
)
async def sent_too_late(ground: Ground) -> str:
    @ground.face.workflow(name="checkout")
    async def checkout() -> None: ...

    await (await ground.face.start(checkout, workflow_id="order-4")).get_result()
    await ground.face.send("order-4", "paid")
    return await ground.logged("'order-4', which has ended")


@mistake(
    "A bulk holds tuples",
    "DBOS.send_bulk([('order-1', 'paid')])",
    "send_bulk takes a list of SendMessage(...), and at index 0 is tuple",
)
async def bulk_of_tuples(ground: Ground) -> None:
    await ground.face.send_bulk([("order-1", "paid")])


@mistake(
    "One message is given where a list belongs",
    "DBOS.send_bulk(SendMessage('order-1', 'paid'))",
    "send_bulk takes a list of SendMessage(...), not SendMessage",
)
async def bulk_of_one(ground: Ground) -> None:
    await ground.face.send_bulk(SendMessage("order-1", "paid"))


@mistake(
    "One handle is given where a list belongs",
    "DBOS.wait_first(handle)",
    "wait_first takes a list of handles, not the handle on workflow 'order-1'",
)
async def wait_for_one(ground: Ground) -> None:
    await ground.face.wait_first(WorkflowHandle("order-1", DBOS))


@mistake(
    "A list of handles is empty",
    "DBOS.wait_first([])",
    "wait_first was given no handles, so it would never return; give it one or more",
)
async def wait_for_none(ground: Ground) -> None:
    await ground.face.wait_first([])


@mistake(
    "A status is asked for that does not exist",
    "DBOS.list_workflows(status='SUCESS')",
    "no workflow has the status 'SUCESS'; did you mean 'SUCCESS'?",
)
async def unknown_status(ground: Ground) -> None:
    await ground.face.list_workflows(status="SUCESS")


@mistake(
    "A filter is asked for that does not exist",
    "DBOS.list_workflows(workflow_id='order-1')",
    ": it has no filter 'workflow_id'; did you mean 'workflow_ids'?",
)
async def unknown_filter(ground: Ground) -> None:
    await ground.face.list_workflows(workflow_id="order-1")


@mistake(
    "Workflows are listed by their function",
    "DBOS.list_workflows(name=checkout)",
    "name must be a string or a list of strings, not the function checkout; write name='order checkout'",
)
async def listed_by_function(ground: Ground) -> None:
    @ground.face.workflow(name="order checkout")
    async def checkout() -> None: ...

    await ground.face.list_workflows(name=checkout)


@mistake(
    "A client lists workflows by their state",
    "client.list_workflows(state='PENDING')",
    "DBOSClient.list_workflows",
    "it has no filter 'state'; did you mean 'status'?",
)
async def listed_by_a_client(ground: Ground) -> None:
    with DBOSClient(system_database_url=ground.app.database_url) as client:
        await ground.face.on(client).list_workflows(state="PENDING")


@mistake(
    "A message is sent in a thread that a workflow starts",
    "threading.Thread(target=DBOS.send, args=('order-1', 'paid')).start()   # in a workflow",
    "DBOS.send was called in a thread that workflow",
    "it would not be recorded, and would be done again at each recovery",
    "DBOS.run_parallel(function, ...)",
)
async def sent_in_a_pool(ground: Ground) -> None:
    @DBOS.workflow(name="checkout")
    def checkout() -> Any:
        with ThreadPoolExecutor(1) as pool:
            return pool.submit(DBOS.send, "order-1", "paid").result()

    await off_loop(checkout)


# --- steps that fail, and code that changed -----------------------------------------------------------------


@mistake(
    "A step is not done in time",
    "@DBOS.step(timeout_seconds=0.01)\nasync def charge():\n    await asyncio.sleep(60)",
    "try 1 of step",
    "charge",
    "was not done within 0.01 s; allow more time (timeout_seconds=) or further tries (retries_allowed=True)",
)
async def slow_step(ground: Ground) -> None:
    @DBOS.step(name="charge", timeout_seconds=0.01)
    async def charge() -> None:
        await asyncio.Event().wait()

    @DBOS.workflow(name="checkout")
    async def checkout() -> None:
        await charge()

    await (await Awaiting().start(checkout)).get_result()


@mistake(
    "A step fails as often as it is tried",
    "@DBOS.step(retries_allowed=True, max_attempts=2)\ndef charge():\n    raise ConnectionError('the bank is closed')",
    "charge",
    "failed 2 times, which is all that max_attempts allows",
    "ConnectionError('the bank is closed')",
)
async def failing_step(ground: Ground) -> None:
    @ground.face.step(name="charge", retries_allowed=True, max_attempts=2, interval_seconds=0)
    async def charge() -> None:
        raise ConnectionError("the bank is closed")

    @ground.face.workflow(name="checkout")
    async def checkout() -> None:
        await charge()

    await (await ground.face.start(checkout)).get_result()


async def _replayed(ground: Ground, workflow_id: str, code: Any) -> None:
    """Run `code` in a workflow until it waits, kill the process, run it again, and wait for what comes of it."""

    @ground.face.workflow(name=f"checkout of {workflow_id}")
    async def checkout() -> Any:
        await code()
        return await ground.face.recv("go", None)

    await ground.face.start(checkout, workflow_id=workflow_id)
    await ground.app.waiting("message", workflow_id, "go")
    await ground.app.crash_and_restart()
    await ground.face.get_result(workflow_id)


@mistake(
    "The code of a workflow throws dice",
    "if random.random() < 0.5:\n    charge()\nelse:\n    refund()",
    "workflow 'order-5' was recorded with charge at operation 1, but the code now calls refund",
    "make the workflow deterministic: read the time, random numbers, files and the network in steps",
)
async def dice(ground: Ground) -> None:
    dice = random.Random(7)
    sides = ["charge", "refund"] if dice.random() < 0.5 else ["refund", "charge"]
    sides.sort()

    async def code() -> None:
        await ground.face.run_step({"name": sides.pop(0)}, int)

    await _replayed(ground, "order-5", code)


@mistake(
    "A step is renamed while workflows wait",
    "charge()   # now: charge_card()",
    "workflow 'order-6' was recorded with charge at operation 1, but the code now calls charge_card",
    "Run it with the code that started it",
)
async def renamed(ground: Ground) -> None:
    names = ["charge", "charge_card"]

    async def code() -> None:
        await ground.face.run_step({"name": names.pop(0)}, int)

    await _replayed(ground, "order-6", code)


@mistake(
    "The function of a workflow is not imported any more",
    "# from shop import checkout",
    "1 pending workflow of 'checkout of tea' is not recovered here, for example 'order-7'",
    "no function is registered as 'checkout of tea'; import the module that decorates it before DBOS.launch()",
)
async def not_imported(ground: Ground) -> str:
    @ground.face.workflow(name="checkout of tea")
    async def checkout() -> None:
        await ground.face.recv("go", None)

    await ground.face.start(checkout, workflow_id="order-7")
    await ground.app.waiting("message", "order-7", "go")
    await ground.app.crash()
    await DBOS.destroy_async(destroy_registry=True)
    await ground.app.launch()
    return await ground.logged("no function is registered as 'checkout of tea'")


@mistake(
    "A result is awaited of a workflow whose version runs nowhere",
    "handle.get_result(timeout_seconds=1)",
    "workflow 'order-8' did not end within 1 s; no process executes it",
    "no running process has version '1' of the code of the program 'test' (running: version '2')",
    "set 'recover_versions' to 'compatible'",
)
async def other_version(ground: Ground) -> None:
    @ground.face.workflow(name="checkout")
    async def checkout() -> None:
        await ground.face.recv("go", None)

    await ground.face.start(checkout, workflow_id="order-8")
    try:
        await ground.app.relaunch(application_version="2", recover_versions="same")
        await ground.face.get_result("order-8", timeout_seconds=1)
    finally:
        await ground.app.relaunch(application_version="1", recover_versions="compatible")


@mistake(
    "A workflow takes longer than it may",
    "with SetWorkflowTimeout(0.01):\n    checkout()",
    "workflow 'order-9' was cancelled, so it has no result; its status is CANCELLED",
)
async def workflow_timeout(ground: Ground) -> None:
    @ground.face.workflow(name="checkout")
    async def checkout() -> None:
        await ground.face.recv("go", None)

    with SetWorkflowID("order-9"):
        handle = await ground.face.start_workflow(checkout)
    await ground.face.cancel_workflow("order-9")
    await handle.get_result()


@mistake(
    "A result is asked for after the shutdown",
    "DBOS.destroy()\nhandle.get_result()",
    "DBOS.destroy() has stopped it; call DBOS.launch() again, or make this call before DBOS.destroy()",
)
async def after_destroy(ground: Ground) -> None:
    await DBOS.destroy_async()
    try:
        await ground.face.get_result("order-1")
    finally:
        await ground.app.launch()
