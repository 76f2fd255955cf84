"""Classes of a script have one name, whether the script is run or imported."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.support import programs

SCRIPT = """
import enum, sys
from dataclasses import dataclass
from typing import NamedTuple
from tidings.serialization import JSONSerializer
@dataclass
class Order:
    id: int
    @dataclass
    class Line:
        what: str
class Color(enum.Enum):
    RED = 1
class Point(NamedTuple):
    x: int
class Refused(Exception): ...
def write():
    refused = Refused("no")
    refused.__cause__ = KeyError("a")
    return JSONSerializer().serialize([Order(1), Order.Line("a"), Color.RED, Point(2), refused])
def read(text):
    order, line, color, point, refused = JSONSerializer().deserialize(text)
    found = type(order), type(line), type(color), type(point), type(refused)
    assert found == (Order, Order.Line, Color, Point, Refused), found
    assert (order, line, color, point, refused.args) == (Order(1), Order.Line("a"), Color.RED, Point(2), ("no",))
"""
MAIN = """
if __name__ == "__main__":
    if sys.argv[1:]:
        read(sys.argv[1])
    else:
        print(write())
"""


def _run(folder: Path, *command: str | Path) -> subprocess.CompletedProcess[str]:
    return programs.run(*programs.python(*command), cwd=folder)


def _written(folder: Path, *command: str | Path) -> str:
    done = _run(folder, *command)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def _assert_read(folder: Path, text: str, *command: str | Path) -> None:
    done = _run(folder, *command, text)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "orders.py").write_text(SCRIPT + MAIN)
    package = tmp_path / "shop"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "orders.py").write_text(SCRIPT + MAIN)
    (package / "__main__.py").write_text(SCRIPT + MAIN)
    return tmp_path


# How it is run, and what imports it.
WAYS = {
    "as a file": (["orders.py"], "orders"),
    "by its name": (["-m", "orders"], "orders"),
    "in a package": (["-m", "shop.orders"], "shop.orders"),
    "as a package": (["-m", "shop"], "shop.__main__"),
}
IMPORTING = "import sys; import {0} as script; {1}"
SPAWNED = """
if __name__ == "__main__":
    import multiprocessing
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        pool.apply(read, [write()])
        print(pool.apply(write))
"""


@pytest.mark.parametrize("way", WAYS)
def test_a_script_and_programs_that_import_it_read_each_other(folder: Path, way: str) -> None:
    command, module = WAYS[way]
    importing = ("-c", IMPORTING.format(module, "script.read(sys.argv[1])"))
    text = _written(folder, *command)
    assert f'"cls":"{module}:Order"' in text
    assert '"__main__:' not in text
    _assert_read(folder, text, *importing)
    _assert_read(folder, text, *command)
    other = _written(folder, "-c", IMPORTING.format(module, "print(script.write())"))
    assert other == text
    _assert_read(folder, other, *command)


def test_processes_that_a_script_spawns_use_its_name(folder: Path) -> None:
    (folder / "spawning.py").write_text(SCRIPT + SPAWNED)
    text = _written(folder, "spawning.py")
    assert '"cls":"spawning:Order"' in text
    _assert_read(folder, text, "-c", IMPORTING.format("spawning", "script.read(sys.argv[1])"))


def test_what_was_stored_under_main_is_read_by_the_script(folder: Path) -> None:
    """So it was before scripts had names."""
    text = _written(folder, "orders.py").replace('"orders:', '"__main__:')
    assert "__main__:Order" in text
    _assert_read(folder, text, "orders.py")
    _assert_read(folder, text, "-m", "orders")


@pytest.mark.parametrize(
    "name", ["my-orders.py", "json.py", "time.py", "orders"], ids=["no name", "another module", "built in", "no module"]
)
def test_a_script_that_no_import_finds_keeps_its_own_name(folder: Path, name: str) -> None:
    script = folder / "scripts" / name
    script.parent.mkdir()
    # As if the other module had been imported before the script was.
    script.write_text("import sys; path = sys.path.pop(0); import json; sys.path.insert(0, path)\n" + SCRIPT + MAIN)
    text = _written(folder, "-P", script)
    assert '"cls":"__main__:Order"' in text
    _assert_read(folder, text, "-P", script)


def test_a_script_beside_a_package_of_its_name_keeps_its_own(folder: Path) -> None:
    (folder / "shop.py").write_text(SCRIPT + MAIN)
    text = _written(folder, "shop.py")
    assert '"cls":"__main__:Order"' in text
    _assert_read(folder, text, "shop.py")


def test_two_copies_of_a_script_in_one_program_are_kept_apart(folder: Path) -> None:
    """Each class comes back as itself, in this program; only one of the two can have the script's name."""
    (folder / "double.py").write_text(
        SCRIPT
        + """
if __name__ == "__main__":
    first = write()
    import double
    second, third = write(), double.write()
    assert '"double:Order"' in first and '"__main__:Order"' in second and '"double:Order"' in third
    read(second)
    double.read(third)
"""
    )
    _written(folder, "double.py")


def test_reading_imports_nothing(folder: Path) -> None:
    text = _written(folder, "orders.py")
    reading = (
        "import sys\nfrom tidings.serialization import JSONSerializer\n"
        "try: JSONSerializer().deserialize(sys.argv[1])\n"
        "except Exception as error: print(error)\n"
        "assert 'orders' not in sys.modules and 'shop' not in sys.modules"
    )
    assert "import the module 'orders' before" in _written(folder, "-c", reading, text)
    typed_in = text.replace('"orders:', '"__main__:')
    assert "the program that stored it cannot be imported" in _written(folder, "-c", reading, typed_in)


WORKFLOW = """
import os, sys
from dataclasses import dataclass
from tidings import DBOS, SetWorkflowID
@dataclass
class Order:
    id: int
@DBOS.workflow()
def process(order):
    reply = DBOS.recv("go", timeout_seconds=3600)
    assert type(order) is Order and type(reply) is Order, (order, reply)
    return Order(order.id + reply.id)
def configure(url):
    DBOS(config={"name": "shop", "system_database_url": url, "application_version": "1"})
    return DBOS.launch()
if __name__ == "__main__":
    configure(sys.argv[1])
    with SetWorkflowID("w"):
        DBOS.start_workflow(process, Order(1))
    DBOS.send("w", Order(2), "go") if sys.argv[2] == "sends" else None
    os._exit(9)
"""


@pytest.mark.parametrize("sender", ["sends", "starts"])
def test_a_workflow_of_a_script_goes_on_in_a_program_that_imports_it(
    database_url: str, tmp_path: Path, sender: str
) -> None:
    (tmp_path / "flows.py").write_text(WORKFLOW)
    assert _run(tmp_path, "flows.py", database_url, sender).returncode == 9
    sends = "DBOS.send('w', flows.Order(2), 'go')" if sender == "starts" else "pass"
    going_on = (
        f"import flows, sys\nfrom tidings import DBOS\nwith flows.configure(sys.argv[1]):\n    {sends}\n"
        "    result = DBOS.get_result('w', timeout_seconds=60)\n    assert result == flows.Order(3)"
    )
    done = _run(tmp_path, "-c", going_on, database_url)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("first", "then"),
    [
        (["shop/orders.py"], ["-m", "shop.orders"]),
        (["-m", "shop.orders"], ["shop/orders.py"]),
        (["orders.py"], ["link.py"]),
        (["link.py"], ["orders.py"]),
        (["orders.py"], ["elsewhere/link.py"]),
    ],
    ids=" ".join,
)
def test_a_script_is_the_same_however_it_is_run(folder: Path, first: list[str], then: list[str]) -> None:
    (folder / "link.py").symlink_to("orders.py")
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "link.py").symlink_to("../orders.py")
    _assert_read(folder, _written(folder, *first), *then)


@pytest.mark.parametrize(
    ("program", "found"),
    [
        ("import shop.orders as script; script.read(sys.argv[1])", "shop.orders"),
        ("exec(open('orders.py').read().split('if __name__')[0]); read(sys.argv[1])", "__main__"),
    ],
    ids=["another package", "typed in"],
)
def test_what_may_be_the_same_script_is_named_with_what_to_do(folder: Path, program: str, found: str) -> None:
    text = _written(folder, "orders.py")
    done = _run(folder, "-c", f"import sys; {program}", text)
    assert f"{found} has a class of that name" in done.stderr
    assert f"sys.modules['orders'] = sys.modules['{found}']" in done.stderr
    does_so = f"import sys, {found}; sys.modules['orders'] = sys.modules['{found}']; {program}"
    _assert_read(folder, text, "-c", does_so)
