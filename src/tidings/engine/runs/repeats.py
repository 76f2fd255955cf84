"""Warns if a workflow is started again under an id that exists, but with other arguments than the recorded ones.

The id decides, and the recorded arguments count: that makes a start repeatable. Other arguments are usually a mistake:
for example, the id is built from too little to tell two orders apart.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from tidings.engine.runs.receivers import Receiver
from tidings.engine.runs.registry import WorkflowFunction
from tidings.model import WorkflowRecord
from tidings.serialization import Serializer, load
from tidings.shortage import is_shortage

logger = logging.getLogger("tidings")

_MOST_SAID: Final = 1_000


class Repeats:
    """Compares the arguments of repeated starts with the recorded ones."""

    def __init__(self, serializer: Serializer) -> None:
        self._serializer = serializer
        self._said: set[str] = set()  # Ids that the log has named.

    def note(self, found: WorkflowRecord, inputs: str, function: WorkflowFunction, receiver: Receiver | None) -> None:
        """Note that a start with these `inputs` has found that the workflow exists."""
        workflow_id = found.workflow_id
        if found.inputs in (None, inputs) or found.damage is not None or workflow_id in self._said:
            return
        if not self._differ(found, inputs, function, receiver):
            return
        if len(self._said) >= _MOST_SAID:
            self._said.clear()
        self._said.add(workflow_id)
        logger.warning(
            "workflow %r (%s) exists, and was started again with other arguments. The recorded arguments count: the "
            "call returned the existing workflow, and started no other. To start another one, choose another id. "
            "This is logged once for each id",
            workflow_id,
            found.name,
            extra={"workflow_id": workflow_id, "workflow_name": found.name},
        )

    def _differ(
        self, found: WorkflowRecord, inputs: str, function: WorkflowFunction, receiver: Receiver | None
    ) -> bool:
        """Tell whether the values differ. Two texts may mean the same, such as `order(1)` and `order(number=1)`."""
        what = f"the arguments of workflow {found.workflow_id!r}"
        try:
            recorded, given = (load(self._serializer, each, what) for each in (found.inputs or "", inputs))
            return _bound(recorded, function, receiver) != _bound(given, function, receiver)
        except Exception as error:  # Old arguments do not fit the code, or values cannot be compared.
            if is_shortage(error):
                raise
            return True


def _bound(inputs: Any, function: WorkflowFunction, receiver: Receiver | None) -> Mapping[str, Any]:
    args = inputs["args"] if receiver is None else [None, *inputs["args"]]
    bound = function.signature.bind(*args, **inputs["kwargs"])
    bound.apply_defaults()
    return bound.arguments
