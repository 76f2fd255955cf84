"""Workflows that are methods: W1 of the requirements, for classes and configured instances."""

import functools
from typing import Any

import pytest

from tests.support.app import App, Sightings
from tests.support.face import Face
from tidings import DBOS, DBOSConfiguredInstance
from tidings.error import (
    DBOSConflictingRegistrationError,
    DBOSConflictingWorkflowError,
    DBOSSerializationError,
    DBOSWorkflowFunctionNotFoundError,
)

FOREVER = 3_600  # seconds: longer than the watchdog lets a test run


class Plain(DBOSConfiguredInstance):
    """A class that is not decorated."""


def make_shop(face: Face) -> Any:
    """Define a class with a workflow of each kind."""

    @DBOS.dbos_class()
    class Shop(DBOSConfiguredInstance):
        def __init__(self, config_name: str, currency: str) -> None:
            super().__init__(config_name)
            self.currency = currency

        @face.workflow()
        async def price(self, amount: int, *, rebate: int = 0) -> Any:
            received = await face.recv("go", FOREVER if amount else 0)
            return f"{await self.reckon(amount - rebate)} {self.currency} {received}"

        @face.step()
        async def reckon(self, amount: int) -> int:
            return amount

        @classmethod
        @face.workflow()
        async def describe(cls, what: str) -> str:
            await face.recv("go", 0)
            return f"{cls.__name__} {what}"

        @face.workflow()
        async def bill(self) -> Any:
            handle = await face.start(self.price, 0)
            return [await self.price(0), await handle.get_result()]

    return Shop


async def test_w1_a_method_is_a_workflow_on_its_own_instance(app: App, face: Face) -> None:
    shop = make_shop(face)
    euro, dollar = shop("eu", "EUR"), shop("us", "USD")
    assert await euro.price(0) == "0 EUR None"
    assert await dollar.price(0, rebate=-3) == "3 USD None"
    handle = await face.start(euro.price, 0, workflow_id="w")
    assert await handle.get_result() == "0 EUR None"
    status = await handle.get_status()
    assert (status.class_name, status.config_name) == (shop.__qualname__, "eu")
    assert status.input == {"args": [0], "kwargs": {}}
    assert await euro.bill() == ["0 EUR None", "0 EUR None"]


async def test_w1_a_class_method_is_a_workflow_of_its_class(app: App, face: Face) -> None:
    shop = make_shop(face)
    assert await shop.describe("sells") == "Shop sells"
    handle = await face.start(shop("eu", "EUR").describe, "buys")
    assert await handle.get_result() == "Shop buys"
    status = await handle.get_status()
    assert (status.class_name, status.config_name) == (shop.__qualname__, None)


async def test_w1_decorators_may_stand_in_either_order(app: App) -> None:
    @DBOS.dbos_class("Tools")
    class Tools:
        @DBOS.workflow()
        @staticmethod
        async def inner_static(text: str) -> str:
            return text

        @staticmethod
        @DBOS.workflow()
        async def outer_static(text: str) -> str:
            return text

        @DBOS.workflow()
        @classmethod
        async def inner_class(cls, text: str) -> str:
            return f"{cls.__name__} {text}"

        @DBOS.step()
        @classmethod
        async def class_step(cls, text: str) -> str:
            return f"{cls.__name__} {text}"

        @DBOS.step()
        @staticmethod
        async def static_step(text: str) -> str:
            return text

        @DBOS.workflow()
        @staticmethod
        async def steps() -> list[str]:
            return [await Tools.class_step("a"), await Tools.static_step("b"), await Tools().static_step("c")]

    assert await Tools.inner_static("a") == await Tools().inner_static("a") == "a"
    assert await Tools.outer_static("a") == await Tools().outer_static("a") == "a"
    assert await Tools.inner_class("c") == await Tools().inner_class("c") == "Tools c"
    handle = await DBOS.start_workflow_async(Tools.steps)
    assert await handle.get_result() == ["Tools a", "b", "c"]
    assert len(await DBOS.list_workflow_steps_async(handle.workflow_id)) == 3


async def test_a_method_that_is_a_step_may_be_run_with_run_step(app: App, face: Face) -> None:
    @DBOS.dbos_class("Scale")
    class Scale(DBOSConfiguredInstance):
        @DBOS.step()
        async def weigh(self, what: str, unit: str = "kg") -> str:
            return f"{self.config_name} {what} {unit}"

        @DBOS.step()
        @classmethod
        async def name(cls, suffix: str) -> str:
            return cls.__name__ + suffix

    scale = Scale("kitchen")

    @DBOS.workflow()
    async def flow() -> list[str]:
        return [
            await DBOS.run_step_async(None, scale.weigh, "pears"),
            await DBOS.run_step_async({"timeout_seconds": 60}, scale.weigh, "pears", unit="g"),
            await DBOS.run_step_async(None, Scale.name, "!"),
        ]

    handle = await DBOS.start_workflow_async(flow)
    assert await handle.get_result() == ["kitchen pears kg", "kitchen pears g", "Scale!"]


async def test_w1_after_a_crash_a_method_goes_on_on_the_instance_of_its_configuration(app: App, face: Face) -> None:
    shop = make_shop(face)
    euro, dollar = shop("eu", "EUR"), shop("us", "USD")
    for each, name in ((euro, "e"), (dollar, "d")):
        await face.start(each.price, 7, workflow_id=name)
        await app.waiting("message", name, "go")
    await app.crash_and_restart()
    for name in ("e", "d"):
        await face.send(name, "now", "go")
    assert await face.get_result("e") == "7 EUR now"
    assert await face.get_result("d") == "7 USD now"


async def test_w1_a_method_whose_instance_is_missing_waits_for_a_program_that_has_it(
    app: App, face: Face, log: Sightings
) -> None:
    shop = make_shop(face)
    await face.start(shop("eu", "EUR").price, 7, workflow_id="w")
    await app.waiting("message", "w", "go")
    await app.crash()
    DBOS.destroy(destroy_registry=True)
    DBOS.dbos_class()(shop)
    DBOS.workflow(name=shop.price.__tidings_workflow__.name)(shop.price.__tidings_workflow__.function)
    DBOS.dbos_class()(shop)
    await app.launch()
    reason = f"no instance 'eu' of class {shop.__qualname__!r} is registered; make it before DBOS.launch()"
    await log.until(lambda seen: any(reason in line for line in seen))
    with pytest.raises(DBOSWorkflowFunctionNotFoundError, match="no instance 'eu'"):
        await face.get_result("w")
    shop("eu", "EUR")
    await app.relaunch()
    await face.send("w", "late", "go")
    assert await face.get_result("w") == "7 EUR late"


async def test_w1_a_method_of_a_base_class_is_recorded_with_the_class_it_is_called_on(app: App, face: Face) -> None:
    class Base(DBOSConfiguredInstance):
        @face.workflow()
        async def name(self) -> str:
            await face.recv("go", 0)
            return type(self).__name__

    @DBOS.dbos_class("First")
    class First(Base):
        """One heir."""

    @DBOS.dbos_class("Second")
    class Second(Base):
        """Another one."""

    assert [await First("a").name(), await Second("a").name()] == ["First", "Second"]
    assert {each.class_name for each in await face.list_workflows()} == {"First", "Second"}


async def test_an_id_belongs_to_one_configuration(app: App, face: Face) -> None:
    shop = make_shop(face)
    await face.start(shop("eu", "EUR").price, 0, workflow_id="w")
    with pytest.raises(DBOSConflictingWorkflowError, match=r"belongs to .*Shop\('eu'\), so it cannot start .*\('us'\)"):
        await face.start(shop("us", "USD").price, 0, workflow_id="w")


# --- bad input ------------------------------------------------------------------------------------------


async def test_two_instances_or_classes_of_one_name_are_refused(app: App, face: Face) -> None:
    shop = make_shop(face)
    shop("eu", "EUR")
    with pytest.raises(DBOSConflictingRegistrationError, match=r"two instances .* another config_name"):
        shop("eu", "USD")
    with pytest.raises(DBOSConflictingRegistrationError, match="two classes are registered as"):
        DBOS.dbos_class(shop.__qualname__)(dict)


async def test_an_instance_of_a_class_that_is_not_decorated_is_refused(app: App) -> None:
    with pytest.raises(TypeError, match=r"Plain is not registered: write @DBOS.dbos_class\(\) above it"):
        Plain("x")


@pytest.mark.parametrize("name", ["", "x" * 513, "a\0b", None, 7])
async def test_a_bad_configuration_name_is_refused(app: App, face: Face, name: Any) -> None:
    shop = make_shop(face)
    with pytest.raises((TypeError, ValueError), match="config_name"):
        shop(name, "EUR")


async def test_a_method_on_an_object_that_is_not_registered_is_refused(app: App, face: Face) -> None:
    @DBOS.dbos_class()
    class Loose:
        @face.workflow()
        async def run(self) -> None:
            """Do nothing."""

    with pytest.raises(TypeError, match=r"was called on .* which is not registered"):
        await Loose().run()
    with pytest.raises(TypeError, match="was called on"):
        await face.start(Loose().run)
    assert app.rows.counts()["workflows"] == 0
    loose = Loose()
    with pytest.raises(TypeError, match="has no attribute config_name, by which a recovery"):
        DBOS.register_instance(loose)
    loose.config_name = "now"  # type: ignore[attr-defined]
    DBOS.register_instance(loose)
    await loose.run()


async def test_a_function_that_a_class_only_names_stays_a_function(app: App, face: Face) -> None:
    @face.workflow()
    async def plain(text: str) -> str:
        return text

    @DBOS.dbos_class()
    class Alias:
        go = staticmethod(plain)
        went = plain

    assert await plain("a") == await Alias.went("a") == "a"


async def test_a_class_decorator_without_parentheses_says_so(app: App) -> None:
    with pytest.raises(TypeError, match=r"write @DBOS.dbos_class\(\), with parentheses, above Plain"):
        DBOS.dbos_class(Plain)  # type: ignore[arg-type]


async def test_a_method_that_is_called_on_nothing_says_so(app: App, face: Face) -> None:
    shop = make_shop(face)
    with pytest.raises(TypeError, match="is a method: call it on an object of its class, or on the class"):
        await shop.price(self=shop("eu", "EUR"), amount=1)


async def test_a_method_of_a_class_that_is_not_decorated_says_what_to_do(app: App, face: Face) -> None:
    class Bare:
        @face.workflow()
        async def run(self) -> None:
            """Do nothing."""

    with pytest.raises(DBOSSerializationError, match=r"decorate its class with @DBOS.dbos_class\(\)"):
        await Bare().run()


def _agent_class(company: Any, amount: int = 1) -> type:
    @DBOS.dbos_class("Agent")
    class Agent(DBOSConfiguredInstance):
        """One of a factory's classes."""

        company_name = company

        def pay(self, by: int = amount) -> tuple[Any, int]:
            return self.company_name, by

    return Agent


def test_two_classes_of_a_factory_are_one_if_they_can_only_behave_alike() -> None:
    _agent_class("acme")
    _agent_class("acme")
    for arguments, what in ((("other",), "company_name"), (([],), "company_name"), (("acme", 2), "pay")):
        with pytest.raises(DBOSConflictingRegistrationError, match=rf"two classes .*Agent.*attribute '{what}'"):
            _agent_class(*arguments)


@pytest.mark.parametrize("decorate", [DBOS.workflow, DBOS.step])
def test_what_has_no_name_must_be_given_one(decorate: Any) -> None:
    with pytest.raises(TypeError, match=r"functools\.partial of print has no name .*; give it one: @DBOS\.\w+\(name="):
        decorate()(functools.partial(print, 1))
    decorate(name="print one")(functools.partial(print, 1))
