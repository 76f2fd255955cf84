"""Durable workflows that communicate, in Python.

A workflow is an ordinary function whose progress is recorded in a database; after a crash it goes on
from its last recorded step. Programs talk with it by messages, events and streams, all durable and in order.
"""

from tidings.api.classes import DBOSConfiguredInstance
from tidings.api.client import DBOSClient
from tidings.api.config import DBOSConfig
from tidings.api.context import SetWorkflowID, SetWorkflowTimeout
from tidings.api.dbos import DBOS
from tidings.api.filters import WorkflowFilters
from tidings.api.handle import WorkflowHandle, WorkflowHandleAsync, WorkflowStatus
from tidings.api.listing import ExecutorInfo, MessageInfo, StepInfo
from tidings.api.messages import SendMessage
from tidings.api.steps import StepOptions
from tidings.core.operations.messages import Message
from tidings.serialization import JSONSerializer, PickleSerializer, Serializer

__all__ = [
    "DBOS",
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
    "WorkflowFilters",
    "WorkflowHandle",
    "WorkflowHandleAsync",
    "WorkflowStatus",
]
