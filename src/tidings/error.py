"""Every exception of tidings, in one tree.

DBOSException (Exception)
├── DBOSInitializationError            the configuration, the database or its schema is unfit
├── DBOSConflictingRegistrationError   two functions, classes or instances under one name
├── DBOSContextError                   an operation was called where it has no meaning
├── DBOSLimitError                     an id, key or value is outside its limits
├── DBOSSerializationError             a value that cannot be stored, or not be rebuilt
├── DBOSNonExistentWorkflowError       no workflow has that id
├── DBOSConflictingWorkflowError       that id belongs to another workflow function
├── DBOSWorkflowFunctionNotFoundError  a workflow has no function in this program
├── DBOSUnexpectedStepError            replay met another operation than the recorded one
├── DBOSDamagedWorkflowError           a row of a workflow is damaged in the database
├── MaxRecoveryAttemptsExceededError   a workflow was running when too many processes died
├── DBOSMaxStepRetriesExceeded         a step failed as often as it may
├── DBOSStepTimeoutError               a try of a step was not done in time
├── DBOSAwaitedWorkflowCancelledError  a result was awaited from a cancelled workflow
├── DBOSStreamTimeoutError             no further value came to a stream in time
├── DBOSStreamClosedError              a stream takes, or has, no such value: it is closed
├── DBOSRecordedError                  a recorded error whose class cannot be rebuilt
└── DBOSShutdownError                  tidings is not running (any more) in this process

DBOSBaseException (BaseException)      `except Exception` in a workflow does not swallow these
├── DBOSWorkflowCancelledError         this workflow was cancelled
└── DBOSRunEndedError                  this execution may record nothing more; another one may go on

The message of each says what happened, in which workflow and operation, and what to do.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "DBOSAwaitedWorkflowCancelledError",
    "DBOSBaseException",
    "DBOSConflictingRegistrationError",
    "DBOSConflictingWorkflowError",
    "DBOSContextError",
    "DBOSDamagedWorkflowError",
    "DBOSException",
    "DBOSInitializationError",
    "DBOSLimitError",
    "DBOSMaxStepRetriesExceeded",
    "DBOSNonExistentWorkflowError",
    "DBOSRecordedError",
    "DBOSRunEndedError",
    "DBOSSerializationError",
    "DBOSShutdownError",
    "DBOSStepTimeoutError",
    "DBOSStreamClosedError",
    "DBOSStreamTimeoutError",
    "DBOSUnexpectedStepError",
    "DBOSWorkflowCancelledError",
    "DBOSWorkflowFunctionNotFoundError",
    "MaxRecoveryAttemptsExceededError",
]


class DBOSException(Exception):
    """The root of every error that a program may want to catch."""


class DBOSInitializationError(DBOSException):
    """The configuration, the database or its schema is unfit; the message says which and why."""


class DBOSConflictingRegistrationError(DBOSException):
    """Two functions, classes or instances were registered under one name."""

    def __init__(
        self,
        name: str,
        first: str,
        second: str,
        *,
        kind: str = "functions",
        remedy: str = "another name with @DBOS.workflow(name=...)",
        why: str = "",
    ) -> None:
        reason = f"; {why}" if why else ""
        super().__init__(
            f"two {kind} are registered as {name!r}: {first} and {second}{reason}; give one of them {remedy}"
        )


class DBOSContextError(DBOSException):
    """An operation was called where it has no meaning: `recv` in a step, say."""


class DBOSLimitError(DBOSException, ValueError):
    """An id, topic, key, timeout or value is outside its limits; nothing was written."""


class DBOSSerializationError(DBOSException):
    """A value cannot be stored, or not be rebuilt; the message names the path inside it.

    Attributes:
        path: where inside the value, as in `$.order.items[3]`.
    """

    def __init__(self, message: str, path: str = "$") -> None:
        super().__init__(message, path)
        self.path = path

    def __str__(self) -> str:
        return str(self.args[0])


class DBOSNonExistentWorkflowError(DBOSException):
    """No workflow has that id.

    Attributes:
        workflow_ids: the ids that do not exist.
    """

    def __init__(self, *workflow_ids: str) -> None:
        super().__init__(*workflow_ids)
        self.workflow_ids = workflow_ids

    def __str__(self) -> str:
        named = ", ".join(repr(workflow_id) for workflow_id in self.workflow_ids)
        return f"no workflow has the id {named}; nothing was sent or changed"


class DBOSConflictingWorkflowError(DBOSException):
    """That workflow id was used before, for another function."""

    def __init__(self, workflow_id: str, recorded: str, called: str) -> None:
        super().__init__(workflow_id, recorded, called)
        self.workflow_id = workflow_id

    def __str__(self) -> str:
        workflow_id, recorded, called = self.args
        return f"workflow id {workflow_id!r} belongs to {recorded}, so it cannot start {called}; use another id"


class DBOSWorkflowFunctionNotFoundError(DBOSException):
    """A workflow has no function of its name in this program, or nothing to call it on.

    Attributes:
        workflow_id: which workflow cannot go on; `None` if one could not be started.
    """

    def __init__(
        self, workflow_id: str | None, name: str, class_name: str | None = None, config_name: str | None = None
    ) -> None:
        super().__init__(workflow_id, name, class_name, config_name)
        self.workflow_id = workflow_id

    def __str__(self) -> str:
        workflow_id, name, class_name, config_name = self.args
        if workflow_id is None:
            return (
                f"the workflow function {name!r} is not registered any more, so a recovery could not find it; nothing "
                "was started. DBOS.destroy(destroy_registry=True) forgets all functions, classes and instances: leave "
                "that out, or decorate the function again with @DBOS.workflow(), for instance by importlib.reload"
            )
        if config_name is not None:
            missing = f"no instance {config_name!r} of class {class_name!r} is registered; make it"
        elif class_name is not None:
            missing = f"no class is registered as {class_name!r}; import the module that decorates it"
        else:
            missing = f"no function is registered as {name!r}; import the module that decorates it"
        return f"workflow {workflow_id!r} cannot go on: {missing} before DBOS.launch()"


class DBOSUnexpectedStepError(DBOSException):
    """Replay met another operation than the recorded one: the code changed, or is not deterministic.

    The workflow stays PENDING with its history untouched; it goes on when it is run by code that
    takes the recorded path.
    """

    def __init__(self, workflow_id: str, where: str, recorded: str, called: str) -> None:
        super().__init__(workflow_id, where, recorded, called)
        self.workflow_id = workflow_id

    def __str__(self) -> str:
        workflow_id, where, recorded, called = self.args
        return (
            f"workflow {workflow_id!r} was recorded with {recorded} at {where}, but the code now "
            f"calls {called}; nothing was recorded. Run it with the code that started it, or make "
            "the workflow deterministic (time, random numbers and I/O belong into steps)"
        )


class DBOSDamagedWorkflowError(DBOSException):
    """A row of a workflow is damaged in the database, or written by a version of tidings that this one does not know.

    Attributes:
        workflow_id: whose row it is.
    """

    def __init__(self, workflow_id: str, damage: str) -> None:
        super().__init__(workflow_id, damage)
        self.workflow_id = workflow_id

    def __str__(self) -> str:
        workflow_id, damage = self.args
        return (
            f"workflow {workflow_id!r} cannot be read: {damage}. Nothing else is affected. Put the row right, or run "
            "the version of tidings that wrote it, and launch again; or cancel the workflow"
        )


class MaxRecoveryAttemptsExceededError(DBOSException):
    """A workflow was being executed when a process died, too often and without getting on: a dead letter.

    Attributes:
        workflow_id: its id.
        attempts: how many processes died so.
    """

    def __init__(self, workflow_id: str, attempts: int) -> None:
        super().__init__(workflow_id, attempts)
        self.workflow_id = workflow_id
        self.attempts = attempts

    def __str__(self) -> str:
        return (
            f"workflow {self.workflow_id!r} is recovered no more: the processes that executed it died {self.attempts} "
            "times in a row before it recorded anything new; see what it does behind its last recorded step, mend "
            "that, and start it anew under another id"
        )


class DBOSMaxStepRetriesExceeded(DBOSException):
    """A step failed as often as it may."""

    def __init__(self, step_name: str, max_attempts: int, errors: Sequence[BaseException]) -> None:
        super().__init__(step_name, max_attempts, list(errors))

    @property
    def errors(self) -> list[BaseException]:
        """The error of each try, in order."""
        errors: list[BaseException] = self.args[2]
        return errors

    def __str__(self) -> str:
        step_name, max_attempts, errors = self.args
        last = f"; the last error was {errors[-1]!r}" if errors else ""
        return f"step {step_name!r} failed {max_attempts} times, as often as it may{last}"


class DBOSStepTimeoutError(DBOSException):
    """A try of a step was not done in time. It is given up; what it did until then stays done."""

    def __init__(self, step_name: str, workflow_id: str, attempt: int, timeout_seconds: float) -> None:
        super().__init__(step_name, workflow_id, attempt, timeout_seconds)
        self.workflow_id = workflow_id

    def __str__(self) -> str:
        step_name, workflow_id, attempt, timeout_seconds = self.args
        return (
            f"try {attempt} of step {step_name!r} in workflow {workflow_id!r} was given up, because it was not done "
            f"within {timeout_seconds:g} s; allow it more (timeout_seconds=) or further tries (retries_allowed=True)"
        )


class DBOSAwaitedWorkflowCancelledError(DBOSException):
    """A result was awaited from a workflow that has been cancelled."""

    def __init__(self, workflow_id: str) -> None:
        super().__init__(workflow_id)
        self.workflow_id = workflow_id

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r} was cancelled, so it has no result"


class DBOSStreamTimeoutError(DBOSException):
    """No further value came to a stream in time."""

    def __init__(self, workflow_id: str, key: str, offset: int, timeout_seconds: float) -> None:
        super().__init__(workflow_id, key, offset, timeout_seconds)
        self.workflow_id = workflow_id
        self.key = key
        self.offset = offset

    def __str__(self) -> str:
        workflow_id, key, offset, timeout_seconds = self.args
        return (
            f"no value came to offset {offset} of the stream {key!r} of workflow {workflow_id!r} within "
            f"{timeout_seconds:g} seconds; it may still come"
        )


class DBOSStreamClosedError(DBOSException):
    """A stream is closed: it takes no more values, and has none behind its end."""

    def __init__(self, workflow_id: str, key: str, offset: int | None = None) -> None:
        super().__init__(workflow_id, key, offset)
        self.workflow_id = workflow_id
        self.key = key
        self.offset = offset

    def __str__(self) -> str:
        workflow_id, key, offset = self.args
        stream = f"the stream {key!r} of workflow {workflow_id!r}"
        if offset is None:
            return f"{stream} is closed, so nothing more can be written to it; nothing was written"
        return f"{stream} has ended and has no value at offset {offset}"


class DBOSRecordedError(DBOSException):
    """A recorded error whose own class cannot be rebuilt; raised alike first and on replay.

    Attributes:
        type_name: the qualified name of the original class.
        message: what it said.
        traceback_text: where it was raised, as printed the first time.
    """

    def __init__(self, type_name: str, message: str, traceback_text: str = "") -> None:
        super().__init__(type_name, message, traceback_text)
        self.type_name = type_name
        self.message = message
        self.traceback_text = traceback_text

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}"


class DBOSShutdownError(DBOSException):
    """tidings is not running in this process: not launched yet, or destroyed."""

    def __init__(self, message: str = "tidings was shut down in this process; call DBOS.launch() to go on") -> None:
        super().__init__(message)


class DBOSBaseException(BaseException):
    """The root of what ends an execution; `except Exception` does not swallow it."""


class DBOSWorkflowCancelledError(DBOSBaseException):
    """This workflow was cancelled; it can record nothing more."""

    def __init__(self, workflow_id: str) -> None:
        super().__init__(workflow_id)
        self.workflow_id = workflow_id

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r} was cancelled"


class DBOSRunEndedError(DBOSBaseException):
    """This execution of the workflow may record nothing more: shut down, taken over, or ended."""

    def __init__(self, workflow_id: str, reason: str) -> None:
        super().__init__(workflow_id, reason)
        self.workflow_id = workflow_id

    def __str__(self) -> str:
        workflow_id, reason = self.args
        return f"this execution of workflow {workflow_id!r} is over: {reason}"
