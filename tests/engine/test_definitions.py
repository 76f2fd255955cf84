"""Which function may take the place of another one of its name: one that is alike, or that is made again."""

from __future__ import annotations

import code
import datetime as dt
import functools
import importlib
import inspect
import re
import sys
import types
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from msgspec import Struct

from tests.support import programs
from tidings.core.retry import NO_RETRIES
from tidings.engine.runs.registry import Registry, StepFunction, WorkflowFunction
from tidings.error import DBOSConflictingRegistrationError

NAN = float("nan")


def _workflow(function: Callable[..., Any], name: str = "flow") -> WorkflowFunction:
    return WorkflowFunction(name, function, inspect.iscoroutinefunction(function), inspect.signature(function))


def _register_both(first: Callable[..., Any], second: Callable[..., Any]) -> Registry:
    registry = Registry()
    registry.add_workflow(_workflow(first))
    registry.add_workflow(_workflow(second))
    return registry


def _assert_refused(first: Callable[..., Any], second: Callable[..., Any], why: str) -> None:
    with pytest.raises(DBOSConflictingRegistrationError, match=why) as raised:
        _register_both(first, second)
    assert "@DBOS.workflow(name=...)" in str(raised.value)
    assert len(re.findall(r"\S+:\d+\b", str(raised.value))) >= 2, "it says where both are"


# --- what they are bound to ------------------------------------------------------------------------


class Color(Enum):
    RED = 1
    BLUE = 2


class Point(NamedTuple):
    x: Any


class Frozen(Struct, frozen=True):
    x: Any


class Loose(Struct):
    x: Any


class Caller:
    """An object that may be called, and has a method."""

    def __init__(self, company: str) -> None:
        self.company = company

    def __call__(self) -> str:
        return self.company

    def pay(self) -> str:
        return self.company


def _closure(value: Any) -> Callable[[], Any]:
    def pay() -> Any:
        return value

    return pay


def _with_default(value: Any) -> Callable[[], Any]:
    def pay(company: Any = value) -> Any:
        return company

    return pay


def _with_keyword_default(value: Any) -> Callable[[], Any]:
    def pay(*, company: Any = value) -> Any:
        return company

    return pay


def _lambda(value: Any) -> Callable[[], Any]:
    return lambda: value


def _nested(value: Any) -> Callable[[], Any]:
    def pay() -> Any:
        return [map(lambda _: value, each) for each in ((1, 2), (3, 4))]  # noqa: C417

    return pay


def _wrapped(value: Any) -> Callable[[], Any]:
    def pay() -> Any:
        return value

    @functools.wraps(pay)
    def call() -> Any:
        return pay()

    return call


def _with_attribute(value: Any) -> Callable[[], Any]:
    def pay() -> None: ...

    pay.company = value  # type: ignore[attr-defined]
    return pay


def _itself(company: Any) -> Any:
    return company


def _partial(value: Any) -> Callable[[], Any]:
    return functools.partial(_itself, value)


def _partial_by_name(value: Any) -> Callable[[], Any]:
    return functools.partial(_itself, company=value)


def _coroutine(value: Any) -> Callable[[], Any]:
    async def pay() -> Any:
        return value

    return pay


FACTORIES = [
    _closure, _with_default, _with_keyword_default, _lambda, _nested, _wrapped, _with_attribute, _partial,
    _partial_by_name, _coroutine,
]  # fmt: skip
EQUAL: list[tuple[Any, Any]] = [
    ("a" * 1_000, "a" * int("1000")),
    (10**30, 10**15 * 10**15),
    (1.5, float("1.5")),
    ((1, ("a", b"b")), (int("1"), ("a", b"b"))),
    (frozenset([1, 2]), frozenset([2, 1])),
    (Decimal("1.0"), Decimal("1.0")),
    (dt.datetime(2026, 1, 1, tzinfo=dt.UTC), dt.datetime(2026, 1, 1, tzinfo=dt.UTC)),
    (Path("a/b"), Path("a") / "b"),
    (re.compile("a+"), re.compile("a+")),
    (Point(1), Point(1)),
    (Frozen(("a",)), Frozen(("a",))),
    (Color.RED, Color.RED),
    (list[int], list[int]),
    (_closure("a"), _closure("a")),
    (_closure("a"), _lambda("a")),
    (functools.partial(_closure, 1), functools.partial(_closure, 1)),
    (sys, sys),
    (Caller, Caller),
]
DIFFERENT: list[tuple[Any, Any]] = [
    ("a", "b"),
    (1, 1.0),
    (1, True),
    (0.0, -0.0),
    (Decimal("1.0"), Decimal("1.00")),
    ((1, [2]), (1, [2])),
    ([], []),
    ({}, {}),
    (set(), set()),
    (bytearray(b"a"), bytearray(b"a")),
    (object(), object()),
    (Caller("a"), Caller("a")),
    (Caller("a").pay, Caller("a").pay),
    ([].append, [].append),
    (Point([]), Point([])),
    (Frozen([]), Frozen([])),
    (Loose(1), Loose(1)),
    (Color.RED, Color.BLUE),
    (_closure("a"), _closure("b")),
    (functools.partial(_closure, 1), functools.partial(_closure, 2)),
    (type("A", (), {}), type("A", (), {})),
    (dt.datetime(2026, 1, 1, 0, tzinfo=dt.UTC), dt.datetime(2026, 1, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=1)))),
    (frozenset([1]), frozenset([True])),
]


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("values", EQUAL, ids=lambda pair: type(pair[0]).__name__)
def test_functions_bound_to_what_is_equal_for_ever_are_one(factory: Callable[..., Any], values: Any) -> None:
    one, other = values
    registry = _register_both(factory(one), second := factory(other))
    found = registry.workflow("flow")
    assert found is not None
    assert found.function is second


@pytest.mark.parametrize("factory", FACTORIES)
@pytest.mark.parametrize("values", DIFFERENT, ids=lambda pair: type(pair[0]).__name__)
def test_functions_bound_to_what_may_differ_are_refused(factory: Callable[..., Any], values: Any) -> None:
    one, other = values
    _assert_refused(factory(one), factory(other), r"they differ in (the|their) |they are defined in two places")


@pytest.mark.parametrize("shared", [[], {}, Caller("a"), NAN], ids=lambda each: type(each).__name__)
def test_functions_bound_to_one_object_are_one(shared: Any) -> None:
    for factory in FACTORIES:
        _register_both(factory(shared), factory(shared))


def test_what_differs_is_named_and_its_value_is_not() -> None:
    _assert_refused(_closure("secret a"), _closure("secret b"), "the variable 'value' that they close over")
    _assert_refused(_partial("a"), _partial("b"), "a partial of .*the arguments that the partial holds")
    _assert_refused(Caller("a").pay, Caller("b").pay, "the object they are bound to")
    _assert_refused(Caller("a"), Caller("b"), "an object with .*the object that is called")
    with pytest.raises(DBOSConflictingRegistrationError) as raised:
        _register_both(_closure("secret a"), _closure("secret b"))
    assert "secret" not in str(raised.value)


def test_where_both_were_made_is_said_where_they_are_of_one_factory() -> None:
    registry = Registry()

    def register(value: str) -> None:
        registry.add_workflow(_workflow(_closure(value)))

    register("acme")
    with pytest.raises(DBOSConflictingRegistrationError) as raised:
        register("other")
    lines = [
        number
        for number, line in enumerate(Path(__file__).read_text().splitlines(), 1)
        if line.strip() in {'register("acme")', 'register("other")'}
    ]
    assert re.search(r":{} .*:{};".format(*lines), str(raised.value))


def test_a_method_of_one_object_is_one() -> None:
    caller = Caller("a")
    _register_both(caller.pay, caller.pay)
    _register_both(caller, caller)


def test_one_function_that_is_registered_twice_is_one() -> None:
    _register_both(_assert_refused, _assert_refused)
    _register_both(len, len)
    _assert_refused_builtins(len, ord)


def _assert_refused_builtins(first: Callable[..., Any], second: Callable[..., Any]) -> None:
    with pytest.raises(DBOSConflictingRegistrationError):
        _register_both(first, second)


def test_a_function_that_calls_itself_is_compared() -> None:
    def make(value: object) -> Callable[[int], Any]:
        def pay(count: int) -> Any:
            return pay(count - 1) if count else value

        return pay

    _register_both(make(1), make(1))
    _assert_refused(make(1), make(2), "the variable 'value'")


def test_a_variable_that_has_no_value_yet_tells_nothing() -> None:
    registry = Registry()

    def make(rate: int) -> None:
        def pay() -> int:
            return helper()

        registry.add_workflow(_workflow(pay))

        def helper() -> int:
            return rate

    make(1)
    with pytest.raises(DBOSConflictingRegistrationError, match="the variable 'helper'"):
        make(1)


def test_functions_that_call_each_other_are_compared() -> None:
    def make(value: object) -> Callable[[], Any]:
        def one() -> Any:
            return other() or value

        def other() -> Any:
            return one()

        return one

    _register_both(make(1), make(1))
    _assert_refused(make(1), make(2), "the variable")


# --- two definitions in one text -------------------------------------------------------------------

TWO_IN_ONE = {
    "other names": ("def flow(x): return send_email(x)", "def flow(x): return send_sms(x)"),
    "other attributes": ("def flow(x): return x.email()", "def flow(x): return x.sms()"),
    "other constants": ("def flow(x): return x + 1", "def flow(x): return x + 2"),
    "constants of other types": ("def flow(x): return x * 1", "def flow(x): return x * True"),
    "other texts": ("def flow(x): return 'email'", "def flow(x): return 'sms'"),
    "an inner function": ("def flow(x): return (lambda: send_email)()", "def flow(x): return (lambda: send_sms)()"),
    "an inner class": (
        "def flow(x):\n    class A:\n        y = 1\n    return A",
        "def flow(x):\n    class A:\n        y = 2\n    return A",
    ),
    "other defaults": ("def flow(x=1): return x", "def flow(x=2): return x"),
    "other keyword defaults": ("def flow(*, x=1): return x", "def flow(*, x=2): return x"),
    "other parameters": ("def flow(x): return x", "def flow(x, /): return x"),
    "names of parameters": ("def flow(x): return 1", "def flow(y): return 1"),
    "other handlers": (
        "def flow(x):\n    try: return x()\n    except A: pass",
        "def flow(x):\n    try: return x()\n    except B: pass",
    ),
    "a coroutine": ("def flow(x): return x", "async def flow(x): return x"),
    "a generator": ("def flow(x): return x", "def flow(x): yield x"),
    "other decorators": (
        "@register\n@wrap(1)\ndef flow(x): return x",
        "@register\n@wrap(2)\ndef flow(x): return x",
    ),
}
PRELUDE = """
import functools
def wrap(times):
    def decorate(function):
        @functools.wraps(function)
        def call(*args): return times, function(*args)
        return call
    return decorate
"""


class Run:
    """A registry, and what runs programs that register their workflows `flow` there by `@register`."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.space: dict[str, Any] = {"__name__": "__main__", "register": self.register}

    def register(self, function: Callable[..., Any], name: str = "flow") -> Callable[..., Any]:
        self.registry.add_workflow(_workflow(function, name))
        return function

    def cell(self, source: str, filename: str = "<cell>") -> None:
        """Run a cell of a notebook."""
        exec(compile(source, filename, "exec"), self.space)  # noqa: S102

    def result(self, *args: Any) -> Any:
        found = self.registry.workflow("flow")
        assert found is not None
        return found.function(*args)


def _registered(source: str) -> str:
    return source if source.startswith("@") else f"@register\n{source}"


@pytest.mark.parametrize("what", TWO_IN_ONE)
def test_two_definitions_in_one_text_are_refused(what: str) -> None:
    first, second = map(_registered, TWO_IN_ONE[what])
    with pytest.raises(DBOSConflictingRegistrationError, match=r"__main__\.flow \(.*they differ in the"):
        Run().cell(f"{PRELUDE}\n{first}\n{second}\n")


@pytest.mark.parametrize("what", TWO_IN_ONE)
def test_one_definition_that_stands_twice_in_a_text_is_one(what: str) -> None:
    first, second = map(_registered, TWO_IN_ONE[what])
    for each in (first, second):
        Run().cell(f"{PRELUDE}\n{each}\n{each}\n")


def test_two_methods_of_one_name_in_a_class_are_refused() -> None:
    source = "class A:\n    @register\n    def flow(self): return one\n    @register\n    def flow(self): return two\n"
    with pytest.raises(DBOSConflictingRegistrationError):
        Run().cell(source)


def test_two_classes_of_one_name_in_a_text_have_two_methods() -> None:
    source = "class A:\n    @register\n    def flow(self): return {}\n"
    with pytest.raises(DBOSConflictingRegistrationError):
        Run().cell(source.format(1) + source.format(2))


def test_two_branches_of_a_factory_are_refused_from_wherever_it_is_called() -> None:
    run = Run()
    run.cell(
        "def make(fast):\n    if fast:\n        @register\n        def flow(): return 1\n"
        "    else:\n        @register\n        def flow(): return 2\n"
    )
    run.cell("make(True)")
    with pytest.raises(DBOSConflictingRegistrationError):
        run.cell("make(False)")


# --- a text that is run again ----------------------------------------------------------------------

EDITS = {
    "as it was": "@register\ndef flow(): return 1\n",
    "edited": "@register\ndef flow(): return 2\n",
    "moved": "\n\n@register\ndef flow(): return 1\n",
    "moved and edited": "import sys\n@register\ndef flow(): return sys.version\n",
    "made a coroutine": "@register\nasync def flow(): return 2\n",
    "given parameters": "@register\ndef flow(x=1): return x\n",
    "made by a factory": "def make():\n    @register\n    def flow(): return 3\nmake()\n",
}


@pytest.mark.parametrize("edit", EDITS)
@pytest.mark.parametrize("filenames", [("<stdin>", "<stdin>"), ("<ipython-input-1>", "<ipython-input-2>")])
def test_the_newest_run_of_a_cell_counts(edit: str, filenames: tuple[str, str]) -> None:
    run = Run()
    run.cell("@register\ndef flow(): return 1\n", filenames[0])
    former = run.registry.workflow("flow")
    assert former is not None
    if edit == "made by a factory":  # Another function, which Python would not let take its place either.
        with pytest.raises(DBOSConflictingRegistrationError):
            run.cell(EDITS[edit], filenames[1])
        return
    run.cell(EDITS[edit], filenames[1])
    newest = run.registry.workflow("flow")
    assert newest is not None
    alone = Run()
    alone.cell(EDITS[edit])
    expected = alone.registry.workflow("flow")
    assert expected is not None
    assert newest.function.__code__.co_code == expected.function.__code__.co_code
    if newest.is_async == former.is_async:
        assert run.registry.current(former) is newest, "who holds the former one starts the newest"
    else:
        with pytest.raises(DBOSConflictingRegistrationError, match="only one of them is a coroutine function"):
            run.registry.current(former)


def test_a_cell_with_a_factory_is_run_again_with_another_body_and_other_values() -> None:
    run = Run()
    cell = "def make(company):\n    @register\n    def flow(): return company, {}\n"
    run.cell(cell.format(1) + "make('acme')")
    run.cell(cell.format(2) + "make('other')")
    assert run.result() == ("other", 2)
    with pytest.raises(DBOSConflictingRegistrationError, match="the variable 'company'"):
        run.cell("make('third')")


def test_a_cell_with_a_class_is_run_again() -> None:
    run = Run()
    for value in (1, 2):
        run.cell(
            "class Agent:\n"
            "    def __init__(self): self.flow = register(self.run)\n"
            f"    def run(self): return {value}\n"
            "Agent()\n"
        )
        assert run.result() == value
    with pytest.raises(DBOSConflictingRegistrationError, match="the object they are bound to"):
        run.cell("Agent()")


def test_lambdas_of_two_cells_are_made_again_only_under_a_name_that_was_given() -> None:
    run = Run()
    run.cell("register(lambda: 1)")
    run.cell("register(lambda: 2)")
    assert run.result() == 2
    run.cell("register(lambda: 1, '<lambda>')")
    with pytest.raises(DBOSConflictingRegistrationError, match="constants"):
        run.cell("register(lambda: 2, '<lambda>')")


def test_what_is_typed_at_the_prompt_replaces_what_was_typed_before() -> None:
    run = Run()
    console = code.InteractiveConsole(run.space)
    for value in (1, 2):
        for line in ("@register", "def flow():", f"    return {value}", ""):
            console.push(line)
        assert run.result() == value


class Module:
    """A module in a file, that registers its workflows in a `Run`."""

    def __init__(self, path: Path, run: Run) -> None:
        self.path = path
        self.run = run

    def write(self, source: str) -> None:
        self.path.write_text(f"from definitions_run import register\n{source}")

    def load(self) -> types.ModuleType:
        importlib.invalidate_caches()
        return importlib.import_module(self.path.stem)


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Module:
    run = Run()
    holder = types.ModuleType("definitions_run")
    holder.register = run.register  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "definitions_run", holder)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "definitions_shop", raising=False)
    return Module(tmp_path / "definitions_shop.py", run)


@pytest.mark.parametrize("edit", [each for each in EDITS if each != "made by a factory"])
def test_a_reloaded_module_counts(module: Module, edit: str) -> None:
    module.write(EDITS["as it was"])
    loaded = module.load()
    module.write(EDITS[edit])
    importlib.reload(loaded)
    found = module.run.registry.workflow("flow")
    assert found is not None
    assert found.function is loaded.flow


@pytest.mark.parametrize("edit", [each for each in EDITS if each != "made by a factory"])
def test_a_module_that_is_imported_anew_counts(module: Module, edit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    module.write(EDITS["as it was"])
    module.load()
    module.write(EDITS[edit])
    monkeypatch.delitem(sys.modules, "definitions_shop")
    loaded = module.load()
    found = module.run.registry.workflow("flow")
    assert found is not None
    assert found.function is loaded.flow


def test_two_definitions_in_a_reloaded_module_are_refused(module: Module) -> None:
    module.write(EDITS["as it was"])
    loaded = module.load()
    module.write(EDITS["as it was"] + EDITS["edited"])
    with pytest.raises(DBOSConflictingRegistrationError, match="constants"):
        importlib.reload(loaded)


def test_two_modules_of_one_name_are_two(tmp_path: Path) -> None:
    registry = Registry()
    for folder, result in (("a", "1"), ("b", "2")):
        path = tmp_path / folder / "plugin.py"
        path.parent.mkdir()
        path.write_text(f"def flow(): return {result}\n")
        spec = importlib.util.spec_from_file_location("plugin", path)
        assert spec is not None
        assert spec.loader is not None
        plugin = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(plugin)
        if folder == "a":
            registry.add_workflow(_workflow(plugin.flow))
        else:
            with pytest.raises(DBOSConflictingRegistrationError, match=r"a/plugin\.py:1.*b/plugin\.py:1"):
                registry.add_workflow(_workflow(plugin.flow))


SCRIPT = """
import sys
from tidings import DBOS
@DBOS.workflow()
def flow(): return __name__
if __name__ == "__main__":
    if "late" in sys.argv:
        import script
    from script import flow as imported
    from tidings.engine.process import REGISTRY
    print(REGISTRY.current(imported.__tidings_workflow__).function())
"""


@pytest.mark.parametrize("eager", [True, False], ids=["while it is read", "later"])
def test_a_script_that_is_imported_too_is_one_program(tmp_path: Path, eager: bool) -> None:
    source = "if __name__ == '__main__': import script\n" + SCRIPT if eager else SCRIPT
    (tmp_path / "script.py").write_text(source)
    done = programs.run(*programs.python(tmp_path / "script.py"))
    assert done.stdout == "__main__\n", done.stderr


# --- steps -----------------------------------------------------------------------------------------


def _step(function: Callable[..., Any], name: str = "step") -> StepFunction:
    return StepFunction(name, function, False, NO_RETRIES)


def test_steps_of_one_definition_may_be_bound_to_different_values() -> None:
    registry = Registry()
    values: list[Any] = ["a", "b", []]
    for value in values:
        for factory in FACTORIES:
            registry.add_step(_step(factory(value)))


def test_two_definitions_of_a_step_in_one_module_are_refused() -> None:
    run = Run()
    run.space["register"] = lambda function: run.registry.add_step(_step(function))
    first, second = (f"@register\ndef flow(x): return {each}(x)\n" for each in ("send_email", "send_sms"))
    run.cell(first, "<first>")
    run.cell(second, "<second>")
    with pytest.raises(DBOSConflictingRegistrationError, match=r"the names they use; .*@DBOS\.step\(name=\.\.\.\)"):
        run.cell(first + second)


def test_steps_of_two_modules_may_share_a_name() -> None:
    registry = Registry()
    registry.add_step(_step(_closure(1)))
    registry.add_step(_step(_lambda(1)))
