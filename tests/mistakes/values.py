"""Mistakes with values: a forgotten `await`, and what cannot be stored."""

import asyncio
import collections
import contextlib
import socket
import sqlite3
import threading
from collections.abc import Iterator
from typing import Any

from tests.mistakes.ground import Ground, mistake
from tests.support.face import off_loop
from tidings import DBOS, SetWorkflowID, WorkflowHandle, WorkflowHandleAsync


class Basket:
    """Of no kind that is stored."""


@contextlib.contextmanager
def opened(name: str) -> Iterator[str]:
    """Open something."""
    yield name


async def fetch_price(item: str) -> int:
    """Return a price, some time."""
    return len(item)


async def _started(ground: Ground, *args: Any) -> Any:
    """Start a workflow with these arguments."""

    @ground.face.workflow(name="checkout")
    async def checkout(*args: Any) -> None: ...

    return await ground.face.start(checkout, *args)


@mistake(
    "`await` is forgotten in an argument",
    "DBOS.start_workflow(checkout, {'price': fetch_price('tea')})",
    "the arguments of workflow",
    "checkout",
    "$.args[0].price: the coroutine fetch_price() cannot be stored",
    "await",  # in the words of a def or of an async def
)
async def coroutine_in_an_argument(ground: Ground) -> None:
    price = fetch_price("tea")
    try:
        await _started(ground, {"price": price})
    finally:
        price.close()


@mistake(
    "`await` is forgotten in a message",
    "DBOS.send('order-1', fetch_price('tea'))",
    "the message to workflow 'order-1': $: the coroutine fetch_price() cannot be stored",
    "await",  # in the words of a def or of an async def
)
async def coroutine_sent(ground: Ground) -> None:
    price = fetch_price("tea")
    try:
        await ground.face.send("order-1", price)
    finally:
        price.close()


@mistake(
    "A workflow returns a task that it has not awaited",
    "return asyncio.create_task(fetch_price('tea'))",
    "the result of workflow",
    "the task of fetch_price() cannot be stored; ",
    "wait it",
    ", and pass its result",
)
async def task_returned(ground: Ground) -> None:
    task = asyncio.create_task(fetch_price("tea"))
    await task

    @ground.face.workflow(name="checkout")
    async def checkout() -> Any:
        return task

    await (await ground.face.start(checkout)).get_result()


@mistake(
    "`await` is forgotten at DBOS.recv_async",
    "answer = DBOS.recv_async('approval')\nawait DBOS.set_event_async('answer', answer)",
    "the event 'answer': $: the coroutine DBOS.recv_async() cannot be stored",
    "Write: ",
    "DBOS.recv",
)
async def recv_not_awaited(ground: Ground) -> None:
    answer = DBOS.recv_async("approval")

    @ground.face.workflow(name="checkout")
    async def checkout() -> None:
        await ground.face.set_event("answer", answer)

    try:
        await (await ground.face.start(checkout)).get_result()
    finally:
        answer.close()


@mistake(
    "A generator is sent",
    "DBOS.send('order-1', (line for line in lines))",
    "$: a generator expression cannot be stored; make it a list: write it with square brackets",
)
async def generator_sent(ground: Ground) -> None:
    await ground.face.send("order-1", (each for each in "abc"))


@mistake(
    "The result of map() is sent",
    "DBOS.send('order-1', map(str, lines))",
    "$: an object of map cannot be stored; make it a list: list(...)",
)
async def map_sent(ground: Ground) -> None:
    await ground.face.send("order-1", map(str, [1, 2]))


@mistake(
    "The keys of a dict are an argument of a workflow",
    "DBOS.start_workflow(checkout, prices.keys())",
    "$.args[0]: an object of dict_keys cannot be stored; make it a list: list(...)",
)
async def keys_as_argument(ground: Ground) -> None:
    @ground.face.workflow(name="checkout")
    async def checkout(names: Any) -> None: ...

    await ground.face.start_workflow(checkout, {"tea": 3}.keys())


@mistake(
    "A context manager is not entered",
    "DBOS.send('order-1', opened('prices'))   # not: with opened('prices') as prices",
    "$: the context manager opened() cannot be stored; write with opened(...) as value, and pass the value",
)
async def context_manager_sent(ground: Ground) -> None:
    await ground.face.send("order-1", opened("prices"))


@mistake(
    "A handle is passed instead of an id or a result",
    "DBOS.send('order-1', DBOS.start_workflow(invoice))",
    "the handle on workflow 'invoice-1' cannot be stored",
    "pass its workflow_id, or what its get_result() returns",
)
async def handle_sent(ground: Ground) -> None:
    await ground.face.send("order-1", WorkflowHandle("invoice-1", DBOS))


@mistake(
    "A lambda is an argument of a workflow",
    "DBOS.start_workflow(checkout, lambda order: order.total)",
    "$.args[0]: a lambda cannot be stored; pass what it returns",
)
async def lambda_argument(ground: Ground) -> None:
    await _started(ground, lambda order: order)


@mistake(
    "A function is passed and not called",
    "DBOS.set_event('price', fetch_price)",
    "the function fetch_price cannot be stored; call missing? Write: fetch_price(...)",
)
async def function_as_event(ground: Ground) -> None:
    await ground.face.send("order-1", {"price": fetch_price})


@mistake(
    "A lock is an argument of a workflow",
    "DBOS.start_workflow(checkout, threading.Lock())",
    "_thread.lock object",
    "cannot be stored: only plain data",
    "an id, path or URL from which a step makes it again",
)
async def lock_argument(ground: Ground) -> None:
    await _started(ground, threading.Lock())


@mistake(
    "A database connection is an argument of a workflow",
    "DBOS.start_workflow(checkout, session)",
    "sqlite3.Connection object",
    "cannot be stored: only plain data",
    "from which a step makes it again",
)
async def connection_argument(ground: Ground) -> None:
    connection = sqlite3.connect(":memory:")
    try:
        await _started(ground, connection)
    finally:
        connection.close()


@mistake(
    "An open file is an argument of a workflow",
    "DBOS.start_workflow(checkout, open('orders.csv'))",
    "$.args[0]: <_io.TextIOWrapper",
    "cannot be stored: only plain data",
)
async def file_argument(ground: Ground) -> None:
    with (ground.folder / "orders.csv").open("w") as file:
        await _started(ground, file)


@mistake(
    "A socket is the result of a step",
    "@DBOS.step()\ndef connect():\n    return socket.create_connection(address)",
    "the result of step",
    "connect",
    "socket.socket",
    "cannot be stored: only plain data",
)
async def socket_result(ground: Ground) -> None:
    with socket.socket() as connection:

        @ground.face.step(name="connect")
        async def connect() -> Any:
            return connection

        @ground.face.workflow(name="checkout")
        async def checkout() -> None:
            await connect()

        await (await ground.face.start(checkout)).get_result()


@mistake(
    "An object of a plain class is sent",
    "class Basket: ...\n\nDBOS.send('order-1', {'basket': Basket()})",
    "$.basket:",
    "Basket object",
    "cannot be stored: only plain data, and objects of dataclass, attrs, pydantic and msgspec classes, can be",
)
async def plain_object(ground: Ground) -> None:
    await ground.face.send("order-1", {"basket": Basket()})


@mistake(
    "A defaultdict is sent",
    "DBOS.send('order-1', collections.defaultdict(int))",
    "defaultdict is a subclass of dict; convert it to a plain dict",
)
async def subclass_sent(ground: Ground) -> None:
    await ground.face.send("order-1", collections.defaultdict(int))


@mistake(
    "A list contains itself",
    "items.append(items)\nDBOS.send('order-1', items)",
    "one contains itself",
)
async def circle_sent(ground: Ground) -> None:
    items: list[Any] = []
    items.append(items)
    await ground.face.send("order-1", items)


@mistake(
    "A large file is sent as a message",
    "DBOS.send('order-1', pathlib.Path('film.mp4').read_bytes())",
    "the message to workflow 'order-1' would take",
    "more than the 16,777,216 a value may have",
    "store large data elsewhere and pass a reference",
)
async def large_message(ground: Ground) -> None:
    await ground.face.send("order-1", "x" * (16 * 1024 * 1024 + 1))


@mistake(
    "A def workflow returns the coroutine of an async workflow",
    "@DBOS.workflow()\ndef checkout():\n    return invoice('order-1')   # an async def workflow",
    "$: the coroutine invoice() cannot be stored; a def cannot await it. It is a workflow, so write: "
    "DBOS.start_workflow(invoice, ...).get_result(); or make the def an async def",
)
async def workflow_not_awaited(ground: Ground) -> None:
    @DBOS.workflow(name="invoice")
    async def invoice(order: str) -> str:
        return order

    call = invoice("order-1")

    @DBOS.workflow(name="checkout")
    def checkout() -> Any:
        return call

    try:
        await off_loop(checkout)
    finally:
        call.close()


@mistake(
    "A def uses an async handle",
    "result = handle.get_result()   # of DBOS.start_workflow_async, in a def\nDBOS.send('order-1', result)",
    "$: the coroutine WorkflowHandleAsync.get_result() cannot be stored; a def cannot await it. Write: "
    "DBOS.get_result(handle.workflow_id)",
)
async def async_handle_in_a_def(ground: Ground) -> None:
    result: Any = WorkflowHandleAsync("order-1", DBOS).get_result()
    try:
        await off_loop(DBOS.send, "order-1", result)
    finally:
        result.close()


@mistake(
    "A workflow is a class method, and its class is not decorated",
    "class Shop:\n    @DBOS.workflow()\n    @classmethod\n    def checkout(cls): ...\n\nShop.checkout()",
    "workflow 'checkout' is a class method of Shop, which is not registered",
    "write @DBOS.dbos_class() above class Shop",
)
async def class_method_without_class(ground: Ground) -> None:
    class Shop:
        @classmethod
        @ground.face.workflow(name="checkout")
        async def checkout(cls) -> None: ...

    await Shop.checkout()


@mistake(
    "A method is called on its class",
    "Shop.checkout()   # not: Shop('main').checkout()",
    "missing a required argument: 'self'; it is a method: call it on an object of its class",
)
async def method_on_class(ground: Ground) -> None:
    class Shop:
        @ground.face.workflow(name="checkout")
        async def checkout(self) -> None: ...

    await Shop.checkout()  # type: ignore[call-arg]


@mistake(
    "A workflow is a method, and its class is not decorated",
    "class Shop:\n    @DBOS.workflow()\n    def checkout(self): ...\n\nShop().checkout()",
    "the arguments of workflow",
    "(if it is a method, decorate its class with @DBOS.dbos_class())",
)
async def method_without_class(ground: Ground) -> None:
    class Shop:
        @ground.face.workflow(name="checkout")
        async def checkout(self) -> None: ...

    await Shop().checkout()


@mistake(
    "An id is too long",
    "with SetWorkflowID(url_of_the_order): ...",
    "workflow_id takes 600 bytes of UTF-8, more than the 512 allowed",
)
async def long_id(ground: Ground) -> None:
    with SetWorkflowID("x" * 600):
        await _started(ground)


@mistake(
    "An id is empty",
    "with SetWorkflowID(order.get('id', '')): ...",
    "workflow_id must not be empty",
)
async def empty_id(ground: Ground) -> None:
    with SetWorkflowID(""):
        await _started(ground)


@mistake(
    "A handle is given where an id belongs",
    "DBOS.send(handle, 'paid')",
    "destination_id must be a string, not the handle on workflow 'order-1'",
    "pass its workflow_id",
)
async def handle_as_id(ground: Ground) -> None:
    await ground.face.send(WorkflowHandle("order-1", DBOS), "paid")


@mistake(
    "`await` is forgotten at an id",
    "DBOS.get_event(create_order(), 'status')",
    "workflow_id must be a string, not the coroutine create_order(); ",
    "await",
)
async def coroutine_as_id(ground: Ground) -> None:
    async def create_order() -> str:
        return "order-1"

    order = create_order()
    try:
        await ground.face.get_event(order, "status")
    finally:
        order.close()


@mistake(
    "A number is an id",
    "DBOS.send(4711, 'paid')",
    "destination_id must be a string, not int (4711)",
)
async def number_as_id(ground: Ground) -> None:
    await ground.face.send(4711, "paid")


@mistake(
    "A timeout is a text",
    "DBOS.recv('approval', timeout_seconds=os.environ['TIMEOUT'])",
    "timeout_seconds must be a number of seconds",
    "not '60'",
)
async def timeout_as_text(ground: Ground) -> None:
    await ground.face.get_event("order-1", "status", timeout_seconds="60")


@mistake(
    "The async form of a stream is read with a plain `for`",
    "for value in DBOS.read_stream('order-1', 'log'): ...   # in a coroutine",
    "DBOS.read_stream would block the running event loop; use: async for value in DBOS.read_stream_async(...)",
)
async def stream_on_a_loop(ground: Ground) -> None:
    DBOS.read_stream("order-1", "log")


@mistake(
    "A blocking form is called in a coroutine",
    "async def endpoint():\n    DBOS.send('order-1', 'paid')",
    "DBOS.send would block the running event loop; use: await DBOS.send_async(...)",
)
async def blocking_on_a_loop(ground: Ground) -> None:
    DBOS.send("order-1", "paid")


@mistake(
    "An async form is run by something else than asyncio",
    "trio.run(main)   # with await DBOS.send_async('order-1', 'paid') in it",
    "DBOS.send_async was awaited where no asyncio event loop runs",
    "or use DBOS.send",
)
async def without_a_loop(ground: Ground) -> None:
    coroutine = DBOS.send_async("order-1", "paid")
    await off_loop(lambda: coroutine.send(None))
