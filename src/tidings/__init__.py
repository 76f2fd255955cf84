"""Durable workflows that communicate, in Python.

A workflow is an ordinary function whose progress is recorded in a database; after a crash it resumes from its last
recorded step. Programs talk to it through messages, events and streams, all durable and in order.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from tidings.api.absent import missing_of_module
from tidings.api.classes import DBOSConfiguredInstance
from tidings.api.client import DBOSClient
from tidings.api.config import DBOSConfig
from tidings.api.context import SetWorkflowID, SetWorkflowTimeout
from tidings.api.dbos import DBOS
from tidings.api.filters import WorkflowFilters
from tidings.api.handle import StuckInfo, WorkflowHandle, WorkflowHandleAsync, WorkflowStatus
from tidings.api.listing import ExecutorInfo, MessageInfo, StepInfo
from tidings.api.messages import SendMessage
from tidings.api.steps import StepOptions, StepStatus
from tidings.api.versions import ApplicationVersion
from tidings.core.operations.cancelling import Cancellation
from tidings.core.operations.messages import Message
from tidings.serialization import JSONSerializer, PickleSerializer, Serializer, UndecodedValue

__all__ = [
    "DBOS",
    "ApplicationVersion",
    "Cancellation",
    "DBOSClient",
    "DBOSConfig",
    "DBOSConfiguredInstance",
    "ExecutorInfo",
    "JSONSerializer",
    "Message",
    "MessageInfo",
    "PickleSerializer",
    "SendMessage",
    "Serializer",
    "SetWorkflowID",
    "SetWorkflowTimeout",
    "StepInfo",
    "StepOptions",
    "StepStatus",
    "StuckInfo",
    "UndecodedValue",
    "WorkflowFilters",
    "WorkflowHandle",
    "WorkflowHandleAsync",
    "WorkflowStatus",
]

__version__: str

if not TYPE_CHECKING:  # A type checker would accept any name.

    def __getattr__(name: str) -> str:
        """Look up `__version__` on demand: reading the package's metadata takes longer than a launch."""
        if name == "__version__":
            return importlib.import_module("importlib.metadata").version("tidings")
        raise missing_of_module(name, __all__, sys._getframe(1))
