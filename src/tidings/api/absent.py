"""Names that do not exist: what an error says of them.

Some belong to features of `dbos` that tidings does not have, so programs written for it use them. The others are slips
of the hand, or belong to something else. Each error says what to write instead.
"""

from __future__ import annotations

import dis
from collections.abc import Iterable
from types import FrameType
from typing import Final

from tidings import error
from tidings.slips import nearest

_QUEUES: Final = (
    "tidings has no queues. DBOS.start_workflow(function, ...) runs a workflow in the background, and the "
    "configuration's 'max_executor_threads' limits how many blocking functions run at once"
)
_SCHEDULES: Final = (
    "tidings has no schedules. Let cron, or a loop of your program, start the workflow under an id that names the "
    "time: with SetWorkflowID(f'report {day}'): DBOS.start_workflow(report). A second start of one id does nothing"
)
_TRANSACTIONS: Final = (
    "tidings has no transactions. Write to your own database in a function with @DBOS.step(), in a transaction of its "
    "driver; a step may run again after a crash, so give the row a key, such as DBOS.workflow_id"
)
_AGAIN: Final = (
    "tidings does not resume, restart or fork workflows. A workflow whose process has died continues by itself; start "
    "a workflow that has ended again under another id"
)
_OF_WORKFLOWS: Final = "it belongs into a workflow's own code: DBOS.{name}(...)"
_DELETING: Final = "tidings deletes no single workflows; DBOS.reset_system_database() deletes all, in a test"
_KAFKA: Final = (
    "tidings consumes no Kafka topics. Start a workflow for each message in your consumer, under an id that names it: "
    "with SetWorkflowID(f'{topic} {partition} {offset}'): DBOS.start_workflow(handle, message)"
)
_SPANS: Final = "tidings makes no traces. The log has the id of each workflow: the logger 'tidings.workflows'"
_USERS: Final = "tidings knows no users and requests. Pass what a workflow needs as its arguments"
_ATTRIBUTES: Final = "tidings keeps no attributes of workflows. Publish them as events: DBOS.set_event(key, value)"
_CONFIG: Final = "tidings reads no file of settings. Write DBOS(config={'name': ..., 'system_database_url': ...})"
_ENQUEUE_HERE: Final = (
    "a client starts no workflows. Start them in a program that imports their functions, with DBOS.start_workflow; "
    "DBOS.launch(execute=False) starts workflows for other processes to execute. Or let a workflow that runs wait for "
    "messages: client.send(workflow_id, message)"
)
_MIGRATIONS: Final = (
    "DBOS.launch() creates and migrates the tables; the configuration's 'run_migrations' switches that off"
)

# What to use instead of what programs for dbos use.
_INSTEAD: Final = {
    **dict.fromkeys(
        ("Queue", "QueueRateLimit", "EnqueueOptions", "SetEnqueueOptions", "DBOSQueue", "enqueue", "enqueue_workflow",
         "register_queue", "retrieve_queue", "list_queues", "delete_queue", "listen_queues", "list_queued_workflows",
         "pause_queue", "resume_queue", "queue", "set_workflow_delay", "Debouncer", "DebouncerClient"), _QUEUES),
    **dict.fromkeys(
        ("scheduled", "schedule", "cron", "create_schedule", "list_schedules", "get_schedule", "delete_schedule",
         "pause_schedule", "resume_schedule", "apply_schedules", "backfill_schedule", "trigger_schedule"), _SCHEDULES),
    **dict.fromkeys(("transaction", "sql_session", "app_db", "SQLAlchemyDatasource", "datasource"), _TRANSACTIONS),
    **dict.fromkeys(
        ("resume_workflow", "resume_workflows", "fork_workflow", "restart_workflow", "execute_workflow_id",
         "recover_pending_workflows"), _AGAIN),
    **{name: _OF_WORKFLOWS.format(name=name) for name in ("patch", "deprecate_patch")},
    **dict.fromkeys(("delete_workflow", "delete_workflows", "garbage_collect"), _DELETING),
    **dict.fromkeys(("kafka_consumer", "KafkaMessage"), _KAFKA),
    **dict.fromkeys(("span", "tracer"), _SPANS),
    **dict.fromkeys(
        ("request", "authenticated_user", "authenticated_roles", "assumed_role", "set_authentication", "required_roles",
         "default_required_roles", "DBOSContextEnsure"), _USERS),
    **dict.fromkeys(("SetWorkflowAttributes", "update_workflow_attributes", "attributes"), _ATTRIBUTES),
    **dict.fromkeys(("load_config", "ConfigFile", "get_dbos_database_url"), _CONFIG),
    **dict.fromkeys(("run_dbos_database_migrations", "migrate"), _MIGRATIONS),
    "communicator": "a function whose result is recorded is a step: write @DBOS.step()",
    "parent_workflow_id": "write DBOS.get_workflow_status(DBOS.workflow_id).parent_workflow_id",
    "get_workflow_id": "write DBOS.workflow_id",
    "set_workflow_id": "write: with SetWorkflowID('...'): DBOS.start_workflow(function, ...)",
    "receive": "write DBOS.recv(topic)",
    "publish": "a workflow publishes an event with DBOS.set_event(key, value), or a value of a stream with "
    "DBOS.write_stream(key, value)",
}  # fmt: skip

_IMPORT_FROM: Final = dis.opmap["IMPORT_FROM"]
_STARTS: Final = ("start_workflow", "enqueue", "enqueue_workflow")
_OF_HANDLES: Final = {"result": "get_result()", "status": "get_status()", "id": "workflow_id"}


def missing(owner: str, name: str, known: Iterable[str]) -> AttributeError:
    """Return the error for an attribute that does not exist, of `DBOS` or of our module.

    Args:
        owner: what it was asked of, as users write it.
        name: the attribute.
        known: the attributes that exist.
    """
    if name.startswith("_"):
        return AttributeError(f"{owner} has no attribute {name!r}")
    return AttributeError(f"{owner} has no attribute {name!r}{_hint(owner, name, known)}")


def missing_of_client(name: str, known: Iterable[str], of_dbos: Iterable[str]) -> AttributeError:
    """Return the error for an attribute of a client that does not exist. Perhaps `DBOS` has it."""
    plain = name.removesuffix("_async")
    if plain in _STARTS:
        return AttributeError(f"DBOSClient has no attribute {name!r}: {_ENQUEUE_HERE}")
    if name in of_dbos and not name.startswith("_"):
        return AttributeError(
            f"DBOSClient has no attribute {name!r}: a client runs no workflows. Use DBOS.{name}, in a program that "
            "launches DBOS"
        )
    return missing("DBOSClient", name, known)


def missing_of_handle(owner: str, name: str, of_face: Iterable[str]) -> AttributeError:
    """Return the error for an attribute of a handle that does not exist. Perhaps `DBOS`, or the client, has it."""
    if name.startswith("_"):
        return AttributeError(f"{owner} has no attribute {name!r}")
    near = _OF_HANDLES.get(name) or nearest(name, ("get_result", "get_status", "get_workflow_id", "workflow_id"))
    hint = f"; did you mean {near}?" if near else ""
    found = next((each for each in (name, f"{name}_workflow") if each in of_face), None)
    if found is not None and name not in _OF_HANDLES:
        hint = f"; write DBOS.{found}(handle.workflow_id, ...)"
    return AttributeError(f"{owner} has no attribute {name!r}{hint}")


def missing_of_module(name: str, known: Iterable[str], asking: FrameType) -> Exception:
    """Return the error for a name that our module lacks, asked for by the code in this frame.

    That is an `AttributeError`. But for `from tidings import ...` Python would make an `ImportError` of it, without our
    text. So there it is an `ImportError`.
    """
    if name in error.__all__:
        text = (
            f"tidings has no {name!r}: the errors are in a module of their own. Write: from tidings.error import {name}"
        )
    else:
        text = str(missing("tidings", name, known))
    code, at = asking.f_code.co_code, asking.f_lasti
    if 0 <= at < len(code) and code[at] == _IMPORT_FROM:
        return ImportError(text, name="tidings")
    return AttributeError(text)


def _hint(owner: str, name: str, known: Iterable[str]) -> str:
    instead = _INSTEAD.get(name) or _INSTEAD.get(name.removesuffix("_async"))
    if instead is not None:
        return f": {instead}"
    near = nearest(name, [each for each in known if not each.startswith("_")])
    return "" if near is None else f"; did you mean {owner}.{near}?"
