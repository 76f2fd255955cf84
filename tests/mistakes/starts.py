"""Mistakes in what is started: `DBOS.start_workflow`, and what is called in its place."""

from tests.mistakes.ground import Ground, mistake
from tidings import DBOS, DBOSClient, DBOSConfiguredInstance, SetWorkflowID, WorkflowHandle


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
    "What a blocking workflow returned, a text, is started",
    "DBOS.start_workflow(report('July'))   # a def, which returns 'report of July'",
    "takes a workflow function, and then its arguments, not str ('report of July')",
    "If that is what the workflow returned, it has run already",
    "without calling the function",
)
async def started_text(ground: Ground) -> None:
    await ground.face.start_workflow("report of July")


@mistake(
    "An id is given to DBOS.start_workflow",
    "DBOS.start_workflow(checkout, workflow_id='order-1')",
    "got an unexpected keyword argument 'workflow_id'; to choose the id, write: with SetWorkflowID('...'): "
    "DBOS.start_workflow(function, ...)",
)
async def id_as_argument(ground: Ground) -> None:
    @ground.face.workflow(name="checkout")
    async def checkout(order: str = "") -> None: ...

    await ground.face.start_workflow(checkout, workflow_id="order-1")


@mistake(
    "A timeout is given to DBOS.start_workflow",
    "DBOS.start_workflow(checkout, timeout=60)",
    "got an unexpected keyword argument 'timeout'; to limit the time, write: with SetWorkflowTimeout(seconds): ",
)
async def timeout_as_argument(ground: Ground) -> None:
    @ground.face.workflow(name="checkout")
    async def checkout(order: str = "") -> None: ...

    await ground.face.start_workflow(checkout, timeout=60)


@mistake(
    "SetWorkflowID is called without `with`",
    "SetWorkflowID('order-1')\nDBOS.start_workflow(checkout)",
    "WARNING: SetWorkflowID(...) was made and not entered, so it has no effect; it is dropped at ",
    "starts.py:",
    "Write: with SetWorkflowID(...): DBOS.start_workflow(function, ...)",
)
async def id_without_with(ground: Ground) -> str:
    SetWorkflowID("order-1")
    return await ground.logged("was made and not entered")


@mistake(
    "The id of a workflow is assigned",
    "DBOS.workflow_id = 'order-1'\nDBOS.start_workflow(checkout)",
    "DBOS.workflow_id cannot be set: it tells which workflow the calling code is in",
    "write: with SetWorkflowID('order-1'): DBOS.start_workflow(function, ...)",
)
async def assigned_id(ground: Ground) -> None:
    DBOS.workflow_id = "order-1"  # type: ignore[assignment]


@mistake(
    "A workflow is enqueued, as in dbos",
    "from tidings import Queue",
    "ImportError: tidings has no attribute 'Queue': tidings has no queues",
    "DBOS.start_workflow(function, ...) runs a workflow in the background",
)
async def queue(ground: Ground) -> None:
    exec("from tidings import Queue")  # noqa: S102


@mistake(
    "A workflow is scheduled, as in dbos",
    "@DBOS.scheduled('0 8 * * *')",
    "DBOS has no attribute 'scheduled': tidings has no schedules",
    "with SetWorkflowID(f'report {day}'): DBOS.start_workflow(report)",
)
async def scheduled(ground: Ground) -> None:
    DBOS.scheduled("0 8 * * *")  # type: ignore[attr-defined]


@mistake(
    "A workflow is started through a client",
    "client.start_workflow(checkout)",
    "DBOSClient has no attribute 'start_workflow",
    "a client starts no workflows",
    "DBOS.launch(execute=False)",
)
async def started_by_a_client(ground: Ground) -> None:
    with DBOSClient(system_database_url=ground.app.database_url) as client:
        await ground.face.on(client).start_workflow(1)


@mistake(
    "An operation is misspelt",
    "DBOS.recieve('approval')",
    "DBOS has no attribute 'recieve'; did you mean DBOS.recv?",
)
async def misspelt_operation(ground: Ground) -> None:
    DBOS.recieve("approval")  # type: ignore[attr-defined]


@mistake(
    "An error is imported from tidings",
    "from tidings import DBOSWorkflowCancelledError",
    "ImportError: tidings has no 'DBOSWorkflowCancelledError': the errors are in a module of their own. Write: "
    "from tidings.error import DBOSWorkflowCancelledError",
)
async def error_of_the_package(ground: Ground) -> None:
    exec("from tidings import DBOSWorkflowCancelledError")  # noqa: S102


@mistake(
    "A handle is used like a future",
    "DBOS.start_workflow(checkout).result()",
    "WorkflowHandle has no attribute 'result'; did you mean get_result()?",
)
async def handle_like_a_future(ground: Ground) -> None:
    WorkflowHandle("order-1", DBOS).result()  # type: ignore[attr-defined]


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
