"""Mistakes before anything runs: decorators, the configuration, the launch, the database."""

# What is wrong here is wrong on purpose.
# mypy: disable-error-code="call-arg, arg-type, misc, typeddict-item, typeddict-unknown-key, call-overload"

import contextlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from harness.postgres import free_port
from tests.mistakes.ground import Ground, mistake
from tests.support.face import off_loop
from tidings import DBOS, DBOSClient, DBOSConfiguredInstance
from tidings.engine.process import Process

# --- decorators ---------------------------------------------------------------------------------------


@mistake(
    "The parentheses of a decorator are left out",
    "@DBOS.workflow\ndef checkout(order): ...",
    "write @DBOS.workflow(), with parentheses, above checkout",
    launched=False,
)
async def bare_decorator(ground: Ground) -> None:
    @DBOS.workflow
    def checkout(order: str) -> None: ...


@mistake(
    "A name is given to a decorator by position",
    '@DBOS.step("charge card")\ndef charge(): ...',
    "takes keywords only",
    "write @DBOS.step(name='charge card')",
    launched=False,
)
async def name_by_position(ground: Ground) -> None:
    DBOS.step("charge card")


@mistake(
    "A workflow yields its progress",
    "@DBOS.workflow()\ndef report():\n    yield 'begun'",
    "report has a yield, so it cannot be a workflow",
    "DBOS.write_stream(key, value)",
    launched=False,
)
async def generator_workflow(ground: Ground) -> None:
    @DBOS.workflow()
    def report() -> Iterator[str]:
        yield "begun"


@mistake(
    "A step is an async generator",
    "@DBOS.step()\nasync def pages():\n    yield 1",
    "pages has a yield, so it cannot be a step",
    "return a list",
    launched=False,
)
async def generator_step(ground: Ground) -> None:
    @DBOS.step()
    async def pages() -> AsyncIterator[int]:
        yield 1


@mistake(
    "A context manager is a step",
    "@DBOS.step()\n@contextmanager\ndef connection():\n    yield connect()",
    "connection is a context manager, so it cannot be a step",
    "Leave @DBOS.step() out, and write the with block in a step",
    launched=False,
)
async def context_manager_as_step(ground: Ground) -> None:
    @contextlib.contextmanager
    def connection() -> Iterator[None]:
        yield

    DBOS.step()(connection)


@mistake(
    "A class is decorated as a workflow",
    "@DBOS.workflow()\nclass Shop: ...",
    "is above the class Shop",
    "@DBOS.dbos_class() above the class",
    launched=False,
)
async def class_workflow(ground: Ground) -> None:
    @DBOS.workflow()
    class Shop: ...


@mistake(
    "A property is decorated as a step",
    "@DBOS.step()\n@property\ndef total(self): ...",
    "is above the property Cart.total, which is read and not called",
    "without @property",
    launched=False,
)
async def property_step(ground: Ground) -> None:
    class Cart:
        @DBOS.step()
        @property
        def total(self) -> int:
            return 1


@mistake(
    "One function is a workflow and a step",
    "@DBOS.workflow()\n@DBOS.step()\ndef charge(): ...",
    "charge cannot be a workflow and a step at once",
    "leave one of @DBOS.workflow() and @DBOS.step() out",
    launched=False,
)
async def workflow_and_step(ground: Ground) -> None:
    @DBOS.workflow()
    @DBOS.step()
    def charge() -> None: ...


@mistake(
    "A function is decorated twice",
    "@DBOS.step()\n@DBOS.step(name='charge')\ndef charge(): ...",
    "@DBOS.step() is above charge twice; write it once",
    launched=False,
)
async def decorated_twice(ground: Ground) -> None:
    @DBOS.step()
    @DBOS.step(name="charge")
    def charge() -> None: ...


@mistake(
    "A lambda is made a workflow",
    "double = DBOS.workflow()(lambda x: 2 * x)",
    "a lambda has no name of its own",
    "write @DBOS.workflow() above a def, or @DBOS.workflow(name='...')",
    launched=False,
)
async def lambda_workflow(ground: Ground) -> None:
    DBOS.workflow()(lambda x: 2 * x)


@mistake(
    "A function is called where it is decorated",
    "DBOS.workflow()(checkout())",
    "@DBOS.workflow() decorates a function, not the coroutine checkout()",
    "write @DBOS.workflow() above def checkout",
    launched=False,
)
async def decorated_call(ground: Ground) -> None:
    async def checkout() -> None: ...

    coroutine = checkout()
    try:
        DBOS.workflow()(coroutine)
    finally:
        coroutine.close()


@mistake(
    "Two workflows have one name",
    "@DBOS.workflow(name='checkout')\ndef checkout_eu(): ...\n\n"
    "@DBOS.workflow(name='checkout')\ndef checkout_us(): ...",
    "two functions are registered as 'checkout'",
    "checkout_eu",
    "checkout_us",
    "give one of them another name with @DBOS.workflow(name=...)",
    launched=False,
)
async def two_of_one_name(ground: Ground) -> None:
    @DBOS.workflow(name="checkout")
    def checkout_eu() -> int:
        return 19

    @DBOS.workflow(name="checkout")
    def checkout_us() -> int:
        return 0


@mistake(
    "The number of tries has the name that another library gives it",
    "@DBOS.step(max_retries=3)",
    "DBOS.step() got an unexpected keyword argument 'max_retries'; did you mean max_attempts=? It needs "
    "retries_allowed=True",
    launched=False,
)
async def retries_of_others(ground: Ground) -> None:
    DBOS.step(max_retries=3)


@mistake(
    "A step's number of tries is a text",
    "@DBOS.step(retries_allowed=True, max_attempts='3')",
    "max_attempts must be a whole number, not '3'",
    launched=False,
)
async def tries_as_text(ground: Ground) -> None:
    @ground.face.step(retries_allowed=True, max_attempts="3")
    async def fetch(order: str) -> str:
        return order


@mistake(
    "@DBOS.dbos_class() is left out above a class with workflows",
    "class Shop(DBOSConfiguredInstance): ...\n\nShop('main')",
    "the class",
    "Shop is not registered",
    "write @DBOS.dbos_class() above it",
    launched=False,
)
async def class_not_registered(ground: Ground) -> None:
    class Shop(DBOSConfiguredInstance): ...

    Shop("main")


# --- the configuration, and the launch ------------------------------------------------------------------


@mistake(
    "DBOS(...) is forgotten",
    "DBOS.launch()",
    "call DBOS(config={'name': ...}) before DBOS.launch()",
    launched=False,
)
async def never_configured(ground: Ground) -> None:
    settings, Process.settings = Process.settings, None
    try:
        DBOS.launch()
    finally:
        Process.settings = settings


@mistake(
    "The configuration is given by position",
    "DBOS({'name': 'shop'})",
    "write DBOS(config={'name': ...})",
    launched=False,
)
async def configured_by_position(ground: Ground) -> None:
    DBOS({"name": "shop"})


@mistake(
    "A key of the configuration is misspelt",
    "DBOS(config={'name': 'shop', 'system_databse_url': url})",
    "the configuration has an unknown key 'system_databse_url'; did you mean 'system_database_url'?",
    launched=False,
)
async def misspelt_key(ground: Ground) -> None:
    DBOS(config={"name": "shop", "system_databse_url": "sqlite:///shop.sqlite"})


@mistake(
    "The program has no name",
    "DBOS(config={})",
    "the configuration needs a 'name', the name of your program",
    launched=False,
)
async def no_name(ground: Ground) -> None:
    DBOS(config={})


@mistake(
    "An environment variable is missing",
    "DBOS(config={'name': 'shop', 'system_database_url': os.environ.get('DATABASE_URL')})",
    "WARNING",
    "'system_database_url' is None, perhaps because an environment variable is not set",
    "using sqlite:///shop.sqlite",
    launched=False,
)
async def missing_variable(ground: Ground) -> str:
    settings = Process.settings
    try:
        DBOS(config={"name": "shop", "system_database_url": None})
    finally:
        Process.settings = settings
    return await ground.logged("is None")


@mistake(
    "A workflow is started before the launch",
    "DBOS.start_workflow(checkout)",
    "tidings is not running in this process",
    "write DBOS(config={'name': ...}) and DBOS.launch() before this call",
    launched=False,
)
async def not_launched(ground: Ground) -> None:
    @ground.face.workflow()
    async def checkout() -> None: ...

    await ground.face.start(checkout)


@mistake(
    "DBOS.launch() is forgotten, or DBOS.launch_async() is not awaited",
    "DBOS(config={'name': 'shop'})\nDBOS.send('order-1', 'paid')",
    "DBOS.launch() was not called yet; call it (or await DBOS.launch_async()) before this",
    launched=False,
)
async def launch_forgotten(ground: Ground) -> None:
    DBOS(config=ground.app.config)
    await ground.face.send("order-1", "paid")


@mistake("DBOS.launch() is called twice", "DBOS.launch()\nDBOS.launch()", "call it once, or DBOS.destroy() in between")
async def launched_twice(ground: Ground) -> None:
    await off_loop(DBOS.launch)


# --- the database ---------------------------------------------------------------------------------------


async def _open(url: Any) -> None:
    await off_loop(lambda: DBOSClient(system_database_url=url))


async def _launch(ground: Ground, url: str) -> None:
    """Launch with this URL in the configuration, which fails."""
    settings = Process.settings
    try:
        DBOS(config={"name": "shop", "system_database_url": url})
        await off_loop(DBOS.launch)
    finally:
        Process.settings = settings


@mistake(
    "The folder of an SQLite file does not exist",
    "DBOS(config={'name': 'shop', 'system_database_url': 'sqlite:///data/shop.sqlite'})",
    "there is no directory",
    "create it first",
    launched=False,
)
async def no_folder(ground: Ground) -> None:
    await _launch(ground, f"sqlite:///{ground.folder}/data/shop.sqlite")


@mistake(
    "The file is something else than an SQLite database",
    "'system_database_url': 'sqlite:///notes.txt'",
    "this file is not an SQLite database: name another file, or a new one",
    launched=False,
)
async def not_a_database(ground: Ground) -> None:
    (ground.folder / "notes.txt").write_text("milk, eggs, bread\n" * 100)
    await _launch(ground, f"sqlite:///{ground.folder}/notes.txt")


@mistake(
    "A folder is named instead of a file",
    "'system_database_url': 'sqlite:////var/lib/shop'",
    "this is a directory: name a file in it",
    launched=False,
)
async def a_folder(ground: Ground) -> None:
    await _launch(ground, f"sqlite:///{ground.folder}")


@mistake(
    "The folder of an SQLite file cannot be written to",
    "'system_database_url': 'sqlite:////proc/shop.sqlite'",
    "this program cannot write to it",
    "the file and its directory /proc must be writable",
    launched=False,
)
async def not_writable(ground: Ground) -> None:
    await _launch(ground, "sqlite:////proc/shop.sqlite")  # Nobody can, not even root.


@mistake(
    "A slash is missing in an SQLite URL",
    "'system_database_url': 'sqlite://shop.sqlite'",
    "is not the URL of an SQLite file",
    "use sqlite:///relative.sqlite or sqlite:////absolute/path.sqlite",
    launched=False,
)
async def two_slashes(ground: Ground) -> None:
    await _launch(ground, "sqlite://shop.sqlite")


@mistake(
    "The database is one that is not supported",
    "'system_database_url': 'mysql://root:<password>@localhost/shop'",
    "is for another kind of database: tidings supports only SQLite and PostgreSQL",
    "postgresql://user:password@host:5432/database",
    launched=False,
)
async def unsupported_database(ground: Ground) -> None:
    await _launch(ground, "mysql://root:h1dden@localhost/shop")


@mistake(
    "PostgreSQL is not running",
    "'system_database_url': 'postgresql://postgres:<password>@127.0.0.1:5432/shop'",
    "PostgreSQL database 'shop' at 127.0.0.1:",
    "Connection refused",
    "No server listens there: start PostgreSQL, or put the right host and port into the URL",
    launched=False,
)
async def no_server(ground: Ground) -> None:
    await _launch(ground, f"postgresql://postgres:h1dden@127.0.0.1:{free_port()}/shop")


@mistake(
    "A client is given its URL by position",
    "DBOSClient('postgresql://shop:<password>@db/shop')",
    "missing 1 required keyword-only argument: 'system_database_url'; write DBOSClient(system_database_url=",
    launched=False,
)
async def url_by_position(ground: Ground) -> None:
    DBOSClient("postgresql://shop:h1dden@db/shop")


@mistake(
    "A client opens a database that no program has launched on yet",
    "DBOSClient(system_database_url='sqlite:///shop.sqlite')",
    "there is no such file",
    "launch the program that runs its workflows",
    launched=False,
)
async def client_first(ground: Ground) -> None:
    await _open(f"sqlite:///{ground.folder}/shop.sqlite")


@mistake(
    "The PostgreSQL database was not created",
    "'system_database_url': 'postgresql://postgres@127.0.0.1/shop'",
    'FATAL: database "no_such_shop" does not exist. Create it (create database "no_such_shop")',
    "or put the right database into the URL",
    launched=False,
    only="postgresql",
)
async def database_not_created(ground: Ground) -> None:
    await _launch(ground, f"{ground.app.database_url.rpartition('/')[0]}/no_such_shop")


@mistake(
    "The user of the PostgreSQL URL does not exist",
    "'system_database_url': 'postgresql://shopkeeper:<password>@127.0.0.1/shop'",
    'role "shopkeeper" does not exist',
    "or put the right user into the URL",
    launched=False,
    only="postgresql",
)
async def unknown_user(ground: Ground) -> None:
    place = ground.app.database_url.partition("@")[2]
    await _launch(ground, f"postgresql://shopkeeper:h1dden@{place}")


@mistake(
    "The schema of a client is not the program's",
    "DBOSClient(system_database_url=url, dbos_system_schema='shop')",
    "it has no tidings schema yet",
    "launch the program that runs its workflows",
    only="postgresql",
)
async def other_schema(ground: Ground) -> None:
    await off_loop(lambda: DBOSClient(system_database_url=ground.app.database_url, dbos_system_schema="shop"))
