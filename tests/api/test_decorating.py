"""What cannot be a workflow or a step is refused where it is decorated, with the line to write."""

import contextlib
import functools
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import pytest

from tests.support.app import App
from tests.support.face import off_loop
from tidings import DBOS, DBOSConfiguredInstance
from tidings.api.decorating import is_async


def lines() -> Iterator[str]:
    """Give lines."""
    yield ""


async def pages() -> AsyncIterator[str]:
    """Give pages."""
    yield ""


@contextlib.contextmanager
def opened() -> Iterator[str]:
    """Be a context manager."""
    yield ""


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[str]:
    """Be a context manager to enter with `async with`."""
    yield ""


class Cart:
    """What may stand below a decorator in a class."""

    @property
    def total(self) -> int:
        return 1

    @functools.cached_property
    def count(self) -> int:
        return 1

    def items(self) -> Iterator[int]:
        yield 1

    @staticmethod
    def rows() -> Iterator[int]:
        yield 1

    def __call__(self) -> int:
        return 1


class AsyncCart:
    """An object that is called and awaited."""

    async def __call__(self, number: int) -> int:
        return number + 1


class Rows:
    """An object that gives rows one by one."""

    def __call__(self) -> Iterator[int]:
        yield 1

    async def pages(self) -> AsyncIterator[int]:
        """Give pages."""
        yield 1


class Static:
    """One whose call does not take the object."""

    __call__ = staticmethod(lines)


async def work() -> None:
    """Do nothing."""


DECORATORS: dict[str, Any] = {"workflow": DBOS.workflow, "step": DBOS.step}


@pytest.mark.parametrize("kind", DECORATORS)
@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lines, "lines has a yield, so it cannot be a {kind}: .* return a list"),
        (pages, "pages has a yield, so it cannot be a {kind}: .* return a list"),
        (Cart.items, r"Cart\.items has a yield, so it cannot be a {kind}"),
        (vars(Cart)["rows"], r"Cart\.rows has a yield, so it cannot be a {kind}"),
        (functools.lru_cache(lines), "lines has a yield, so it cannot be a {kind}"),
        (opened, r"opened is a context manager, so it cannot be a {kind}: .*Leave @DBOS\.{kind}\(\) out, .* in a step"),
        (connected, "connected is a context manager, so it cannot be a {kind}"),
        (functools.partial(lines), "lines has a yield, so it cannot be a {kind}"),
        (functools.partial(pages), "pages has a yield, so it cannot be a {kind}"),
        (functools.lru_cache(functools.partial(functools.lru_cache(pages))), "has a yield, so it cannot be a {kind}"),
        (Rows(), "Rows has a yield, so it cannot be a {kind}"),
        (Rows().__call__, "has a yield, so it cannot be a {kind}"),
        (functools.partial(Rows()), "Rows has a yield, so it cannot be a {kind}"),
        (functools.partial(Rows().pages), r"pages has a yield, so it cannot be a {kind}"),
        (functools.lru_cache(Rows().pages), r"pages has a yield, so it cannot be a {kind}"),
        (Static(), "Static has a yield, so it cannot be a {kind}"),
        (
            Cart,
            r"@DBOS\.{kind}\(\) is above the class Cart; put it above a method, and @DBOS\.dbos",
        ),
        (dict, r"@DBOS\.{kind}\(\) is above the class dict"),
        (
            vars(Cart)["total"],
            r"the property Cart\.total, .*: @DBOS\.{kind}\(\) and then def total\(self\)",
        ),
        (
            vars(Cart)["count"],
            r"the property Cart\.count, .*: @DBOS\.{kind}\(\) and then def count\(self\)",
        ),
        (
            lambda: 1,
            r"a lambda has no name of its own.* @DBOS\.{kind}\(\) above a def, or @DBOS\.{kind}\(name='",
        ),
        (
            functools.partial(work),
            r"a functools\.partial of work has no name .*; give it one: @DBOS\.{kind}\(name='",
        ),
        (Cart(), r"a Cart object has no name of its own; give it one: @DBOS\.{kind}\(name='\.\.\.'\)"),
        (None, r"@DBOS\.{kind}\(\) decorates a function, not None; write it above a def or async def"),
        (5, r"@DBOS\.{kind}\(\) decorates a function, not int \(5\); write it above"),
        ("work", r"@DBOS\.{kind}\(\) decorates a function, not str \('work'\); write it above"),
        ([work], r"@DBOS\.{kind}\(\) decorates a function, not list"),
        (
            lines(),
            r"@DBOS\.{kind}\(\) decorates a function, not the generator lines\(\), .*\(\) above def lines",
        ),
        (
            pages(),
            r"@DBOS\.{kind}\(\) decorates a function, not the async generator pages\(\), which is the result",
        ),
    ],
)
def test_what_is_no_function_is_refused(kind: str, function: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says.replace("{kind}", kind)):
        DECORATORS[kind]()(function)


@pytest.mark.parametrize("kind", DECORATORS)
def test_a_coroutine_is_no_function(kind: str) -> None:
    coroutine = work()
    with pytest.raises(TypeError, match=rf"not the coroutine work\(\), .* write @DBOS\.{kind}\(\) above def work"):
        DECORATORS[kind]()(coroutine)
    coroutine.close()


@pytest.mark.parametrize("kind", DECORATORS)
def test_a_function_is_decorated_once(kind: str) -> None:
    other = {"workflow": "step", "step": "workflow"}[kind]

    def pay() -> None: ...

    decorated = DECORATORS[kind](name="pay")(pay)
    for again in (decorated, staticmethod(decorated), functools.wraps(decorated)(partial(decorated))):
        with pytest.raises(TypeError, match=rf"@DBOS\.{kind}\(\) is above pay twice; write it once"):
            DECORATORS[kind]()(again)
        with pytest.raises(TypeError, match=r"pay cannot be a workflow and a step at once; leave one of @DBOS\.work"):
            DECORATORS[other]()(again)


@pytest.mark.parametrize("kind", DECORATORS)
@pytest.mark.parametrize(
    ("given", "says"),
    [
        (work, r"write @DBOS\.{kind}\(\), with parentheses, above work"),
        (Cart.items, r"write @DBOS\.{kind}\(\), with parentheses, above Cart\.items"),
        (Cart, r"write @DBOS\.{kind}\(\), with parentheses, above Cart"),
        (vars(Cart)["total"], r"write @DBOS\.{kind}\(\), with parentheses, above Cart\.total"),
        (vars(Cart)["rows"], r"write @DBOS\.{kind}\(\), with parentheses, above Cart\.rows"),
        ("pay", r"@DBOS\.{kind} takes keywords only; write @DBOS\.{kind}\(name='pay'\)"),
        (3, r"@DBOS\.{kind} takes keywords only, such as name=\.\.\., not int \(3\)"),
        ({}, r"@DBOS\.{kind} takes keywords only, such as name=\.\.\., not dict"),
    ],
)
def test_a_decorator_is_called_with_keywords(kind: str, given: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says.replace("{kind}", kind)):
        DECORATORS[kind](given)


@pytest.mark.parametrize("function", [len, print, (1).__add__, "".join, object.__repr__])
def test_what_is_built_in_is_no_workflow_and_may_be_a_step(function: Any) -> None:
    with pytest.raises(TypeError, match=r"is built into Python, so .*; call it in a step: DBOS\.run_step"):
        DBOS.workflow(name="built in")(function)
    DBOS.step(name="built in")(function)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (work, r"write @DBOS\.dbos_class\(\), with parentheses, above work"),
        (Cart, r"write @DBOS\.dbos_class\(\), with parentheses, above Cart"),
        (5, r"class_name must be a string, not int \(5\)"),
    ],
)
def test_dbos_class_is_called_with_a_name(given: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        DBOS.dbos_class(given)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (work, r"@DBOS\.dbos_class\(\) decorates a class, not the function work"),
        (Cart(), r"@DBOS\.dbos_class\(\) decorates a class, not Cart"),
        (None, r"@DBOS\.dbos_class\(\) decorates a class, not None"),
    ],
)
def test_dbos_class_decorates_a_class(given: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        DBOS.dbos_class()(given)


def test_an_instance_says_what_it_lacks() -> None:
    with pytest.raises(TypeError, match=r"DBOS\.register_instance takes an object, not the class Cart"):
        DBOS.register_instance(Cart)
    for wrong, says in ((1, r"int \(1\)"), (None, "None"), (lines, "the function lines"), ([Cart()], "list")):
        with pytest.raises(TypeError, match=rf"DBOS\.register_instance takes an object of your class, not {says}"):
            DBOS.register_instance(wrong)
    with pytest.raises(TypeError, match=r"a Cart has no attribute config_name, .* derive the class from DBOSConfig"):
        DBOS.register_instance(Cart())

    class Shop(DBOSConfiguredInstance): ...

    with pytest.raises(TypeError, match=r"Shop is not registered: write @DBOS\.dbos_class\(\) above it"):
        Shop("main")


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (lines, "lines has a yield, so it cannot be a step"),
        (pages, "pages has a yield, so it cannot be a step"),
        (Rows(), "Rows has a yield, so it cannot be a step"),
        (functools.partial(Rows().pages), "pages has a yield, so it cannot be a step"),
        (functools.lru_cache(lines), "lines has a yield, so it cannot be a step"),
        (None, r"second argument of DBOS\.run_step is the function to run, not None"),
        ("work", r"second argument of DBOS\.run_step is the function to run, not 'work'"),
    ],
)
def test_run_step_refuses_what_is_no_step(function: Any, says: str) -> None:
    with pytest.raises(TypeError, match=says):
        DBOS.run_step(None, function)


@pytest.mark.parametrize("options", [{"retry": True}, {"max_attempt": 3}, {"retries_alowed": True}, {1: 2}])
def test_run_step_knows_its_options(options: Any) -> None:
    with pytest.raises(TypeError, match=r"DBOS\.run_step has no option .*; (did you mean '\w+'\?|options: .*)"):
        DBOS.run_step(options, len, "")


@pytest.mark.parametrize("wrong", ["yes", 1, 0.0, work])
def test_whether_a_step_is_tried_again_is_true_or_false(wrong: Any) -> None:
    with pytest.raises(TypeError, match=r"retries_allowed must be True or False, not"):
        DBOS.step(retries_allowed=wrong)(len)
    with pytest.raises(TypeError, match=r"retries_allowed must be True or False, not"):
        DBOS.run_step({"retries_allowed": wrong}, len, "")


async def test_an_object_with_an_async_call_is_awaited(app: App) -> None:
    """As a step and as a workflow, from both colours."""
    add = DBOS.step(name="add")(AsyncCart())
    assert is_async(AsyncCart())
    assert not is_async(Cart())

    @DBOS.workflow()
    async def order() -> Any:
        return await add(1)

    @DBOS.workflow()
    def blocking() -> Any:
        return DBOS.run_step(None, AsyncCart(), 2)

    assert await order() == 2
    assert await off_loop(blocking) == 3
    [status] = await DBOS.list_workflows_async(name=order.__qualname__)
    [step] = await DBOS.list_workflow_steps_async(status.workflow_id)
    assert step["function_name"] == "add"
