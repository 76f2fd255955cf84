"""Serves a program that a test edits and deploys. The program itself defines the workflows.

The lease is an hour, and so is the time between two re-checks: only what the process hears or sees at once counts.
"""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

from tests.processes.telling import ONLY_HEARD, answer, say, say_what_happens
from tidings import DBOS, DBOSConfig, SetWorkflowID
from tidings.engine.process import Process


def executes(step: str) -> int:
    """Say that this process executes a step, and return its process id."""
    say("executes", DBOS.workflow_id, step)
    return os.getpid()


def serve(workflows: Mapping[str, Callable[..., Any]], url: str, config: str) -> None:
    """Launch with this configuration, and do what the test asks for until the input ends."""
    chosen: DBOSConfig = {"name": "shop", "system_database_url": url}
    DBOS(config=chosen | json.loads(config))
    settings = Process.settings
    assert settings is not None
    connection = dataclasses.replace(settings.connection, lease_ms=3_600_000, **ONLY_HEARD)
    Process.settings = dataclasses.replace(settings, connection=connection)

    def start(workflow: str, *workflow_ids: str) -> None:
        for workflow_id in workflow_ids:
            with SetWorkflowID(workflow_id):
                DBOS.start_workflow(workflows[workflow])

    with DBOS.launch():
        assert Process.host is not None
        say_what_happens(Process.host.engine)
        say("launched")
        answer({"start": start, "get_result": DBOS.get_result})
