"""Mistakes in what is started: `DBOS.start_workflow`, and what is called in its place."""

from tests.mistakes.ground import Ground, mistake
from tidings import DBOS, DBOSConfiguredInstance, WorkflowHandle


@mistake(
    "A workflow is called instead of named where it is started",
    "DBOS.start_workflow(checkout('order'))",
    "takes a workflow function, and then its arguments",
    "(checkout, ...), not DBOS.start_workflow",
)
async def started_call(ground: Ground) -> None:
    @DBOS.workflow(name="checkout")
    async def checkout(order: str) -> None: ...

    call = checkout("order")
    try:
        await ground.face.start_workflow(call)
    finally:
        call.close()


@mistake(
    "What a blocking workflow returned is started",
    "DBOS.start_workflow(checkout('order'))   # a def",
    "takes a workflow function, and then its arguments, not None",
    "without calling the function",
)
async def started_result(ground: Ground) -> None:
    await ground.face.start_workflow(None)


@mistake(
    "A workflow is started by its name",
    "DBOS.start_workflow('checkout')",
    "takes a workflow function, and then its arguments, not a name",
    "(checkout, ...), without quotes",
)
async def started_name(ground: Ground) -> None:
    await ground.face.start_workflow("checkout")


@mistake(
    "A step is started",
    "DBOS.start_workflow(charge)   # decorated with @DBOS.step()",
    "charge is a step, not a workflow; decorate it with @DBOS.workflow() instead of @DBOS.step()",
)
async def started_step(ground: Ground) -> None:
    @DBOS.step(name="charge")
    def charge() -> None: ...

    await ground.face.start_workflow(charge)


@mistake(
    "A function without a decorator is started",
    "DBOS.start_workflow(send_mail)",
    "'send_mail' is not a workflow: decorate it with @DBOS.workflow()",
)
async def started_plain(ground: Ground) -> None:
    def send_mail() -> None: ...

    await ground.face.start_workflow(send_mail)


@mistake(
    "A class is started",
    "DBOS.start_workflow(Shop)",
    "not the class Shop; start a method of it that has @DBOS.workflow() above it",
)
async def started_class(ground: Ground) -> None:
    class Shop: ...

    await ground.face.start_workflow(Shop)


@mistake(
    "A workflow is started that is a lambda",
    "DBOS.start_workflow(lambda: checkout('order'))",
    "a lambda is not a workflow: write it as a def, with @DBOS.workflow() above it",
)
async def started_lambda(ground: Ground) -> None:
    await ground.face.start_workflow(lambda: None)


@mistake(
    "A handle is started again",
    "DBOS.start_workflow(DBOS.start_workflow(checkout))",
    "not the handle on workflow 'order-1', which was started already; call its get_result()",
)
async def started_handle(ground: Ground) -> None:
    await ground.face.start_workflow(WorkflowHandle("order-1", DBOS))


@mistake(
    "An argument of a workflow is left out",
    "DBOS.start_workflow(checkout)",
    "missing a required argument: 'order'; it takes checkout(order, amount=1)",
)
async def missing_argument(ground: Ground) -> None:
    @DBOS.workflow(name="checkout")
    def checkout(order, amount=1):  # type: ignore[no-untyped-def]
        ...

    await ground.face.start_workflow(checkout)


@mistake(
    "super().__init__(config_name) is left out in a class with workflows",
    "@DBOS.dbos_class()\nclass Shop(DBOSConfiguredInstance):\n    def __init__(self): ...",
    "is a method and was called on an object of",
    "Shop, which is not registered",
    "call super().__init__(config_name) in",
)
async def no_super_init(ground: Ground) -> None:
    @DBOS.dbos_class()
    class Shop(DBOSConfiguredInstance):
        def __init__(self) -> None: ...

        @ground.face.workflow(name="checkout")
        async def checkout(self) -> None: ...

    await Shop().checkout()


@mistake(
    "An id is used for another workflow",
    "with SetWorkflowID('order-1'):\n    DBOS.start_workflow(refund)   # order-1 is a checkout",
    "workflow id 'order-1' belongs to the function",
    "checkout",
    "so it cannot start the function",
    "use another id",
)
async def id_of_another(ground: Ground) -> None:
    @ground.face.workflow(name="checkout")
    async def checkout() -> None: ...

    @ground.face.workflow(name="refund")
    async def refund() -> None: ...

    for each in (checkout, refund):
        await ground.face.start(each, workflow_id="order-1")
