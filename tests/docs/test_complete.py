"""What the documentation must not leave out."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from types import FunctionType
from typing import Any

import pytest

import tidings
from tests.docs.pages import DOCS, README, ROOT
from tidings import DBOS, DBOSClient, error

_SECTION = re.compile(r"^(Args|Returns|Raises|Durable)\b.*:", re.MULTILINE)
# Neither durable nor about something that is: they start, stop, name, and find.
_NOT_DURABLE = {"launch", "destroy", "check_connection", "dbos_class", "register_instance", "workflow"} | {
    "reset_system_database"
}
_GIVE_NOTHING_BACK = {None, "None", "Self"}


def _operations() -> Iterator[tuple[str, Callable[..., Any]]]:
    for owner in (DBOS, DBOSClient):
        for name, member in inspect.getmembers_static(owner):
            if not name.startswith("_") and isinstance(member, (classmethod, FunctionType)):
                yield f"{owner.__name__}.{name}", getattr(owner, name)


OPERATIONS = dict(_operations())
OWN = [name for name in OPERATIONS if not name.endswith("_async")]


@pytest.mark.parametrize("name", OWN)
def test_a_docstring_has_the_sections_that_apply(name: str) -> None:
    function = OPERATIONS[name]
    doc = inspect.getdoc(function) or ""
    sections = set(_SECTION.findall(doc))
    parameters = [each for each in inspect.signature(function).parameters if each not in ("self", "cls")]
    for parameter in parameters:
        assert re.search(rf"^ +\**{parameter}: ", doc, re.MULTILINE), f"{name} does not say what {parameter} is"
    if inspect.signature(function).return_annotation not in _GIVE_NOTHING_BACK:
        assert "Returns" in sections, f"{name} does not say what it returns"
    if name.partition(".")[2] not in _NOT_DURABLE:
        assert "Durable" in sections, f"{name} does not say what is durable, and what a replay does"
    assert "Raises" in sections or not parameters, f"{name} does not say what it raises"


@pytest.mark.parametrize("name", sorted(set(OPERATIONS) - set(OWN)))
def test_an_async_form_refers_to_the_blocking_one(name: str) -> None:
    blocking = name.removesuffix("_async")
    assert f"`{blocking.partition('.')[2]}`" in (inspect.getdoc(OPERATIONS[name]) or "")


def test_the_reference_has_each_operation_and_each_public_name() -> None:
    reference = "\n".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    documented = set(re.findall(r"^::: tidings\.(\S+)$", reference, re.MULTILINE))
    assert set(OPERATIONS) <= documented | {"DBOSClient.check_connection", "DBOSClient.destroy"} | {
        "DBOSClient.check_connection_async",
        "DBOSClient.destroy_async",
    }
    assert set(tidings.__all__) - {"DBOS"} <= documented
    assert {f"error.{name}" for name in error.__all__} <= documented


def test_the_guide_on_errors_has_them_all() -> None:
    guide = (DOCS / "guides" / "errors.md").read_text()
    roots = {"DBOSException", "DBOSBaseException"}
    assert set(re.findall(r"^\| `(\w+)`", guide, re.MULTILINE)) >= set(error.__all__) - roots


def test_each_page_is_in_the_navigation_and_in_the_readme() -> None:
    navigation, readme = (ROOT / "mkdocs.yml").read_text(), README.read_text()
    for page in DOCS.rglob("*.md"):
        name = str(page.relative_to(DOCS))
        assert re.search(rf"[-:] {re.escape(name)}$", navigation, re.MULTILINE), name
        if page.parent.name in ("guides", "start", "understanding"):
            assert f"docs/{name}" in readme, name


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 120


def test_the_version_is_that_of_the_package() -> None:
    assert f'version = "{tidings.__version__}"' in (ROOT / "pyproject.toml").read_text()
    assert not hasattr(tidings, "no_such_name")
