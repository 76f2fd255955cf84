"""`DBOS` keeps nothing that is assigned to it, and explains the names that it lacks; tests may replace its methods."""

import gc
import inspect
import logging
import sys
import types
from collections.abc import Callable
from typing import Any
from unittest.mock import MagicMock, create_autospec, patch

import pytest

import tidings
from tests.support.app import Sightings
from tidings import DBOS, DBOSClient, SetWorkflowID, SetWorkflowTimeout, WorkflowHandle, WorkflowHandleAsync
from tidings import error as errors

dbos: Any = DBOS
package: Any = tidings

ATTRIBUTES = [name for name in dir(DBOS) if not name.startswith("__")]


def bare(kind: type) -> Any:
    """Make an object without its constructor, which would configure something."""
    return object.__new__(kind)


@pytest.fixture
def instance() -> Any:
    """An object of `DBOS`, as `DBOS(config=...)` gives it."""
    return bare(DBOS)


# --- assignments --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*ATTRIBUTES, "anything", "workfow_id"])
def test_nothing_can_be_set_or_deleted(instance: Any, name: str) -> None:
    before = inspect.getattr_static(DBOS, name, None)
    for target in (dbos, instance):
        with pytest.raises(AttributeError, match=rf"^DBOS\.{name} cannot be set: "):
            setattr(target, name, "x")
        with pytest.raises(AttributeError, match=rf"^DBOS\.{name} cannot be deleted"):
            delattr(target, name)
    assert inspect.getattr_static(DBOS, name, None) is before


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("workflow_id", "order-1", r"with SetWorkflowID\('order-1'\): DBOS\.start_workflow"),
        ("workflow_id", None, r"with SetWorkflowID\('\.\.\.'\): DBOS\.start_workflow"),
        ("step_id", 5, r"it tells which step the calling code is in"),
        ("executor_id", "me", r"set 'executor_id' in the configuration: DBOS\(config="),
        ("application_version", "2", r"set 'application_version' in the configuration"),
        ("logger", logging.getLogger("shop"), r"logging\.getLogger\('tidings'\)"),
        ("sleep", len, r"unittest\.mock\.patch\.object or pytest's monkeypatch\.setattr"),
        ("cart", [], r"DBOS keeps no values of yours; use a variable of your module"),
    ],
)
def test_an_assignment_is_told_what_to_write(name: str, value: Any, says: str) -> None:
    with pytest.raises(AttributeError, match=says):
        setattr(dbos, name, value)


def test_tests_may_replace_methods_and_get_them_back(monkeypatch: pytest.MonkeyPatch) -> None:
    before = vars(DBOS)["sleep"]
    with patch.object(DBOS, "sleep") as sleep, patch("tidings.DBOS.workflow_id", "w"), monkeypatch.context() as mine:
        mine.setattr(DBOS, "send", lambda *_: "sent")
        mine.setattr(DBOS, "anything", 1, raising=False)
        DBOS.sleep(5)
        sleep.assert_called_once_with(5)
        assert (dbos.send("w", 1), DBOS.workflow_id, dbos.anything) == ("sent", "w", 1)
    assert vars(DBOS)["sleep"] is before
    assert not hasattr(DBOS, "anything")
    assert DBOS.workflow_id is None


def test_the_class_may_be_inspected_before_the_launch() -> None:
    assert not hasattr(DBOS, "executor_id")
    with pytest.raises(errors.DBOSShutdownError, match=r"DBOS\.launch\(\)"):
        _ = DBOS.application_version
    assert {"send", "workflow_id"} <= dict(inspect.getmembers(DBOS)).keys()
    for faked in (create_autospec(DBOS), MagicMock(spec=DBOS)):
        faked.send("w", 1)
        faked.send.assert_called_once_with("w", 1)
    with patch("tidings.DBOS", autospec=True):
        tidings.DBOS.send("w", 1)


def test_a_class_of_the_users_own_is_open() -> None:
    class Faked(DBOS):
        pass

    faked: Any = Faked
    faked.sleep = lambda seconds: seconds
    assert faked.sleep(5) == 5
    del faked.sleep
    assert "sleep" in dir(Faked)


# --- names that do not exist ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda: dbos.scheduled, r"^DBOS has no attribute 'scheduled': tidings has no schedules"),
        (lambda: dbos.enqueue_workflow_async, r"tidings has no queues\. DBOS\.start_workflow"),
        (lambda: dbos.transaction, r"a function with @DBOS\.step\(\)"),
        (lambda: dbos.fork_workflow, r"under another id$"),
        (lambda: package.patch, r"a workflow's own code: DBOS\.patch\(\.\.\.\)"),
        (lambda: dbos.start_workfow, r"; did you mean DBOS\.start_workflow\?$"),
        (lambda: dbos.send_asnc, r"; did you mean DBOS\.send_async\?$"),
        (lambda: dbos.qqq, r"^DBOS has no attribute 'qqq'$"),
        (lambda: bare(DBOS).scheduled, r"tidings has no schedules"),
        (lambda: tidings.Queue, r"^tidings has no attribute 'Queue': tidings has no queues"),  # type: ignore[attr-defined]
        (lambda: tidings.DBOSException, r"Write: from tidings\.error import DBOSException"),  # type: ignore[attr-defined]
        (lambda: tidings.SetWorkflowId, r"did you mean tidings\.SetWorkflowID\?"),  # type: ignore[attr-defined]
        (lambda: bare(DBOSClient).enqueue_async, r"a client starts no workflows.*execute=False"),
        (lambda: bare(DBOSClient).recv, r"a client runs no workflows\. Use DBOS\.recv"),
        (lambda: bare(DBOSClient).fork_workflow, r"does not resume, restart or fork"),
        (lambda: bare(DBOSClient).sent, r"did you mean DBOSClient\.send\?"),
        (
            lambda: handle(WorkflowHandle).result,
            r"^WorkflowHandle has no attribute 'result'; did you mean get_result\(\)",
        ),
        (lambda: handle(WorkflowHandleAsync).status, r"^WorkflowHandleAsync has .*; did you mean get_status\(\)"),
        (lambda: handle(WorkflowHandle).cancel, r"write DBOS\.cancel_workflow\(handle\.workflow_id, \.\.\.\)"),
        (lambda: handle(WorkflowHandle).send, r"write DBOS\.send\(handle\.workflow_id, \.\.\.\)"),
    ],
)
def test_a_name_that_does_not_exist_is_explained(ask: Callable[[], Any], says: str) -> None:
    with pytest.raises(AttributeError, match=says):
        ask()


def handle(kind: Any) -> Any:
    return kind("w", DBOS)


@pytest.mark.parametrize("name", ["Queue", "SetEnqueueOptions", "KafkaMessage", "Dbos", *errors.__all__])
def test_an_import_of_a_name_that_does_not_exist_says_the_same(name: str) -> None:
    assert not hasattr(tidings, name)
    code = compile(f"import tidings\nfrom tidings import DBOS, {name}", "shop.py", "exec")
    with pytest.raises(ImportError, match=r"^tidings has no .*(tidings has|tidings consumes|did you mean|Write: from)"):
        exec(code, types.ModuleType("shop").__dict__)  # noqa: S102
    assert f"tidings.{name}" not in sys.modules


def test_asking_whether_a_name_exists_is_answered() -> None:
    assert not hasattr(dbos, "scheduled")
    assert getattr(dbos, "scheduled", None) is None
    assert not hasattr(tidings, "Queue")
    assert not hasattr(bare(DBOSClient), "enqueue")
    assert not hasattr(DBOS, "__wrapped__")


# --- managers that are not entered --------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [lambda: SetWorkflowID("w"), lambda: SetWorkflowTimeout(5)])
def test_a_manager_that_is_dropped_without_a_block_is_logged(log: Sightings, make: Callable[[], Any]) -> None:
    manager = make()
    name = type(manager).__name__
    del manager
    gc.collect()
    assert len(log.seen) == 1
    assert f"{name}(...) was made and not entered, so it has no effect; it is dropped at {__file__}:" in log.seen[0]


def test_a_manager_that_was_entered_or_was_never_made_is_not(log: Sightings) -> None:
    with SetWorkflowID("w"), SetWorkflowTimeout(5):
        pass
    twice = SetWorkflowID("w")
    with twice:
        pass
    del twice
    with pytest.raises(errors.DBOSLimitError):
        SetWorkflowID("")
    gc.collect()
    assert log.seen == []
