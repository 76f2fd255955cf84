"""Steps import modules themselves, and the process that replays them has not: `except` is the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support import programs

# One workflow for each case: its step fails, and the workflow tells what it sees of that. The first process
# leaves what it saw in an event, and ends while all workflows wait. The second one replays them.
PROGRAM = """
import asyncio, importlib, os, sys
from typing import Any
import httpx
from tidings import DBOS, SetWorkflowID
from tidings.error import DBOSException

face, phase, url = sys.argv[1:]
hidden = importlib.import_module


def fails_by_import():
    import tomllib
    tomllib.loads("=")

def fails_by_hidden_import():
    hidden("zipfile").ZipFile("/dev/null")

def fails_with_text_of_its_own():
    import shop_errors
    raise shop_errors.Refused(3, reason="no money")

def fails_with_hidden_text_of_its_own():
    raise hidden("hidden_errors").Refused(3, reason="no money")

def fails_with_a_value_of_a_missing_class():
    error = KeyError(hidden("hidden_errors").Order(1), "x")
    error.order = hidden("hidden_errors").Order(2)
    error.count = 3
    raise error

def fails_in_a_group():
    raise ExceptionGroup("all", [hidden("hidden_errors").Refused(1, reason="a"), OSError(2, "gone")])

def fails_because():
    raise LookupError("no") from hidden("hidden_errors").Refused(1, reason="a")

def fails_and_cannot_be_kept():
    error = hidden("hidden_errors").Refused(3, reason="no money")
    error.connection = sys
    raise error from hidden("hidden_errors").Declined(1, reason=sys)

def fails_with_a_base_of_the_module():
    raise hidden("hidden_errors").Declined(1, reason="a")

def fails_to_connect():
    httpx.get("http://127.0.0.1:1/")  # It imports httpcore when it connects.

def fails_and_is_final():
    hidden("pydantic").TypeAdapter(int).validate_python("x")


def seen(value: Any) -> Any:
    if not isinstance(value, BaseException):
        return repr(value)
    kinds = (Exception, ValueError, KeyError, LookupError, OSError, DBOSException, httpx.HTTPError, ExceptionGroup)
    return {
        "class": f"{type(value).__module__}.{type(value).__qualname__}",
        "kinds": [kind.__name__ for kind in kinds if isinstance(value, kind)],
        "text": str(value),
        "count": getattr(value, "count", None),
        "notes": getattr(value, "__notes__", []),
        "cause": seen(value.__cause__),
        "errors": [seen(each) for each in value.exceptions] if isinstance(value, ExceptionGroup) else [],
    }


cases = {name: case for name, case in globals().items() if name.startswith("fails")}

if face == "blocking":
    @DBOS.step(name="step")
    def step(name): return cases[name]()

    @DBOS.workflow(name="case")
    def case(name):
        try:
            found = step(name)
        except Exception as error:
            found = error
        described = seen(found)
        DBOS.set_event("seen", described)
        DBOS.recv("go", 3600)
        return described
else:
    @DBOS.step(name="step")
    async def step(name): return cases[name]()

    @DBOS.workflow(name="case")
    async def case(name):
        try:
            found = await step(name)
        except Exception as error:
            found = error
        described = seen(found)
        await DBOS.set_event_async("seen", described)
        await DBOS.recv_async("go", 3600)
        return described

DBOS(config={"name": "late", "system_database_url": url, "log_level": "CRITICAL"})
late = ("tomllib", "shop_errors", "hidden_errors", "httpcore", "pydantic")
missing = [name for name in late if name not in sys.modules]
with DBOS.launch():
    if phase == "first":
        for name in cases:
            with SetWorkflowID(name):
                DBOS.start_workflow(case, name)
        for name in cases:
            DBOS.get_event(name, "seen", timeout_seconds=60)
        for name in cases:
            assert DBOS.get_workflow_status(name).status == "PENDING"
        sys.stdout.flush()
        os._exit(0)
    import json
    ended = {}
    for name in cases:
        DBOS.send(name, 1, "go")
    for name in cases:
        ended[name] = [DBOS.get_event(name, "seen"), DBOS.retrieve_workflow(name).get_result(timeout_seconds=60)]
    print(json.dumps({"missing": missing, "ended": ended}))
"""

ERRORS = """
from dataclasses import dataclass

@dataclass
class Order:
    id: int

class Refused(ValueError):
    def __init__(self, code, *, reason):
        super().__init__(code)
        self.count, self.reason = code, reason
    def __str__(self):
        return f"refused: {self.reason}"

class Declined(Refused):
    pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "late.py").write_text(PROGRAM)
    (tmp_path / "shop_errors.py").write_text(ERRORS)
    (tmp_path / "hidden_errors.py").write_text(ERRORS)
    return tmp_path


@pytest.mark.parametrize("face", ["blocking", "awaiting"])
def test_a_replay_sees_what_was_seen_without_the_modules_that_steps_import(
    database_url: str, folder: Path, face: str
) -> None:
    first = programs.run(*programs.python("late.py", face, "first", database_url), cwd=folder)
    assert first.returncode == 0, first.stderr
    second = programs.run(*programs.python("late.py", face, "second", database_url), cwd=folder)
    assert second.returncode == 0, second.stderr
    told: dict[str, Any] = json.loads(second.stdout)
    assert told["missing"] == ["tomllib", "shop_errors", "hidden_errors", "httpcore", "pydantic"]
    for name, (at_first, again) in told["ended"].items():
        assert isinstance(at_first, dict), name
        assert again == at_first, name
