"""Every exception of tidings, in one tree.

DBOSException (Exception)
├── DBOSInitializationError            the configuration, the database or its schema cannot be used
├── DBOSConflictingRegistrationError   two functions, classes or instances under one name
├── DBOSContextError                   an operation was called where it is not allowed
├── DBOSLimitError                     an id, key or value is outside its limits
├── DBOSSerializationError             a value cannot be stored, or cannot be rebuilt
├── DBOSNonExistentWorkflowError       no workflow has that id
├── DBOSConflictingWorkflowError       that id belongs to another workflow function
├── DBOSWorkflowFunctionNotFoundError  this program lacks the function of a workflow
├── DBOSUnexpectedStepError            replay met another operation than the recorded one
├── DBOSDamagedWorkflowError           a row of a workflow is damaged in the database
├── MaxRecoveryAttemptsExceededError   a workflow ran in too many processes that died
├── DBOSMaxStepRetriesExceeded         a step failed and has no tries left
├── DBOSStepTimeoutError               a try of a step took too long
├── DBOSAwaitedWorkflowCancelledError  a result was awaited from a cancelled workflow
├── DBOSStreamTimeoutError             no further value was written to a stream in time
├── DBOSStreamClosedError              a stream is closed: no write, no further value
├── DBOSRecordedError                  a recorded error whose class cannot be rebuilt
└── DBOSShutdownError                  tidings is not running in this process

DBOSBaseException (BaseException)      `except Exception` in a workflow does not swallow these
├── DBOSWorkflowCancelledError         this workflow was cancelled
└── DBOSRunEndedError                  this execution has ended; another one may continue

Each message says what happened, in which workflow and operation, and what to do.
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


def _shown(error: BaseException) -> str:
    try:
        return repr(error)
    except Exception:  # The repr of a program's class may fail.
        return f"{type(error).__name__}, which cannot be printed"


class DBOSException(Exception):
    """The root of every error that a program may want to catch."""


class DBOSInitializationError(DBOSException):
    """The configuration, the database or its schema cannot be used; the message says which and why."""


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
    """An operation was called where it is not allowed: `recv` in a step, say."""


class DBOSLimitError(DBOSException, ValueError):
    """An id, topic, key, timeout or value is outside its limits; nothing was written."""


class DBOSSerializationError(DBOSException):
    """A value cannot be stored, or cannot be rebuilt; the message names the path inside it.

    Attributes:
        path: the place inside the value, as in `$.order.items[3]`.
        type_name: the class that this program lacks, as in `shop.orders.Order`, if that is the reason; else `None`.
    """

    type_name: str | None = None

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

    _nothing = ""  # For errors that an earlier version recorded.

    def __init__(self, *workflow_ids: str, nothing: str = "") -> None:
        super().__init__(*workflow_ids)
        self.workflow_ids = workflow_ids
        self._nothing = nothing  # "nothing was sent", say, if the call would have written something.

    def __str__(self) -> str:
        named = ", ".join(repr(workflow_id) for workflow_id in self.workflow_ids)
        done = f"; {self._nothing}" if self._nothing else ""
        return (
            f"no workflow has the id {named}{done}. Check the id, and that the program which starts the workflow uses "
            "the same database"
        )


class DBOSConflictingWorkflowError(DBOSException):
    """That workflow id is in use for another function."""

    def __init__(self, workflow_id: str, recorded: str, called: str) -> None:
        super().__init__(workflow_id, recorded, called)
        self.workflow_id = workflow_id

    def __str__(self) -> str:
        workflow_id, recorded, called = self.args
        return f"workflow id {workflow_id!r} belongs to {recorded}, so it cannot start {called}; use another id"


class DBOSWorkflowFunctionNotFoundError(DBOSException):
    """This program lacks the function of a workflow, or the class or instance that the function belongs to.

    Attributes:
        workflow_id: the workflow that cannot continue; `None` if a workflow could not be started.
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
                f"the workflow function {name!r} is no longer registered, so a recovery could not find it; nothing "
                "was started. DBOS.destroy(destroy_registry=True) forgets all functions, classes and instances: leave "
                "that out, or decorate the function again with @DBOS.workflow(), for instance by importlib.reload"
            )
        if config_name is not None:
            missing = f"no instance {config_name!r} of class {class_name!r} is registered; make it"
        elif class_name is not None:
            missing = f"no class is registered as {class_name!r}; import the module that decorates it"
        else:
            missing = f"no function is registered as {name!r}; import the module that decorates it"
        return f"workflow {workflow_id!r} cannot continue: {missing} before DBOS.launch()"


class DBOSUnexpectedStepError(DBOSException):
    """Replay met another operation than the recorded one: the code changed, or is not deterministic.

    The workflow stays PENDING and its history unchanged. It continues when another version of the code that takes the
    recorded path is running.

    Attributes:
        workflow_id: the id of the workflow.
        operation: where: "operation 3", or "operation 1 of branch 2".
        recorded: the operation that is recorded there.
        called: what the code called instead.
        version: the version of the code that called it; `None` if this process did.
    """

    def __init__(
        self, workflow_id: str, operation: str, recorded: str, called: str, version: str | None = None
    ) -> None:
        super().__init__(workflow_id, operation, recorded, called, version)
        self.workflow_id = workflow_id
        self.operation = operation
        self.recorded = recorded
        self.called = called
        self.version = version

    def __str__(self) -> str:
        version = "" if self.version is None else f" (version {self.version!r})"
        return (
            f"workflow {self.workflow_id!r} was recorded with {self.recorded} at {self.operation}, but the "
            f"code now calls {self.called}{version}; nothing was recorded. Run it with the code that started "
            "it, or make the workflow deterministic: read the time, random numbers, files and the network in steps"
        )


class DBOSDamagedWorkflowError(DBOSException):
    """A row of a workflow is damaged in the database, or was written by an unknown version of tidings.

    Attributes:
        workflow_id: the id of the workflow.
    """

    def __init__(self, workflow_id: str, damage: str) -> None:
        super().__init__(workflow_id, damage)
        self.workflow_id = workflow_id

    def __str__(self) -> str:
        workflow_id, damage = self.args
        return (
            f"workflow {workflow_id!r} cannot be read: {damage}. No other workflow is affected. Correct the row, or "
            "run the version of tidings that wrote it, and launch again; or cancel the workflow"
        )


class MaxRecoveryAttemptsExceededError(DBOSException):
    """A workflow ran in too many processes that died, without recording anything new: a dead letter.

    Attributes:
        workflow_id: the id of the workflow.
        attempts: how many processes died in a row.
    """

    def __init__(self, workflow_id: str, attempts: int) -> None:
        super().__init__(workflow_id, attempts)
        self.workflow_id = workflow_id
        self.attempts = attempts

    def __str__(self) -> str:
        return (
            f"workflow {self.workflow_id!r} is not recovered again: its process died {self.attempts} times in a row "
            "before it recorded anything new. Find out what it does after its last recorded step "
            "(DBOS.list_workflow_steps), correct that, and start the workflow again under another id"
        )


class DBOSMaxStepRetriesExceeded(DBOSException):
    """A step failed and has no tries left."""

    def __init__(self, step_name: str, max_attempts: int, errors: Sequence[BaseException]) -> None:
        super().__init__(step_name, max_attempts, list(errors))

    @property
    def errors(self) -> list[BaseException]:
        """The error of each try, in order."""
        errors: list[BaseException] = self.args[2]
        return errors

    def __str__(self) -> str:
        step_name, max_attempts, errors = self.args
        last = f"; the last error was {_shown(errors[-1])}" if errors else ""
        return f"step {step_name!r} failed {max_attempts} times, which is all that max_attempts allows{last}"


class DBOSStepTimeoutError(DBOSException):
    """A try of a step took longer than its time limit, and was given up. Its outside effects are not undone.

    Attributes:
        step_name: the name of the step.
        workflow_id: the workflow that called it.
        attempt: the number of the try, from 1.
        timeout_seconds: how long a try may take.
    """

    def __init__(self, step_name: str, workflow_id: str, attempt: int, timeout_seconds: float) -> None:
        super().__init__(step_name, workflow_id, attempt, timeout_seconds)
        self.workflow_id = workflow_id

    @property
    def step_name(self) -> str:
        return str(self.args[0])

    @property
    def attempt(self) -> int:
        return int(self.args[2])

    @property
    def timeout_seconds(self) -> float:
        return float(self.args[3])

    def __str__(self) -> str:
        step_name, workflow_id, attempt, timeout_seconds = self.args
        return (
            f"try {attempt} of step {step_name!r} in workflow {workflow_id!r} was given up, because it was not done "
            f"within {timeout_seconds:g} s; allow more time (timeout_seconds=) or further tries (retries_allowed=True)"
        )


class DBOSAwaitedWorkflowCancelledError(DBOSException):
    """A result was awaited from a workflow that has been cancelled."""

    def __init__(self, workflow_id: str) -> None:
        super().__init__(workflow_id)
        self.workflow_id = workflow_id

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r} was cancelled, so it has no result; its status is CANCELLED"


class DBOSStreamTimeoutError(DBOSException):
    """No further value was written to a stream in time."""

    def __init__(self, workflow_id: str, key: str, offset: int, timeout_seconds: float) -> None:
        super().__init__(workflow_id, key, offset, timeout_seconds)
        self.workflow_id = workflow_id
        self.key = key
        self.offset = offset

    def __str__(self) -> str:
        workflow_id, key, offset, timeout_seconds = self.args
        return (
            f"no value was written at offset {offset} of the stream {key!r} of workflow {workflow_id!r} within "
            f"{timeout_seconds:g} seconds; one may still follow. Read again, or allow more time with timeout_seconds="
        )


class DBOSStreamClosedError(DBOSException):
    """A stream is closed: nothing can be written to it, and it has no value after its end."""

    def __init__(self, workflow_id: str, key: str, offset: int | None = None) -> None:
        super().__init__(workflow_id, key, offset)
        self.workflow_id = workflow_id
        self.key = key
        self.offset = offset

    def __str__(self) -> str:
        workflow_id, key, offset = self.args
        stream = f"the stream {key!r} of workflow {workflow_id!r}"
        if offset is None:
            return f"{stream} is closed, so nothing was written; write before DBOS.close_stream, or to another stream"
        return f"{stream} has ended and has no value at offset {offset}"


class DBOSRecordedError(DBOSException):
    """Stands in for a recorded error that cannot be rebuilt as it was; raised the first time and on replay.

    If the program has imported the class of the original error, this error is an instance of that class too: `except
    httpx.HTTPError` catches it. It then has the message of the original, and the args and attributes that can be
    stored. Otherwise it is an instance of `DBOSRecordedError` alone.

    Attributes:
        type_name: the qualified name of the original class.
        message: the message of the original.
        traceback_text: the traceback of the original, as text.
    """

    def __init__(self, type_name: str, message: str, traceback_text: str = "") -> None:
        super().__init__(type_name, message, traceback_text)

    @property
    def type_name(self) -> str:
        return str(self.args[0])

    @property
    def message(self) -> str:
        return str(self.args[1])

    @property
    def traceback_text(self) -> str:
        return str(self.args[2])

    def __str__(self) -> str:
        return f"{self.type_name}: {self.message}"

    def __repr__(self) -> str:
        return f"DBOSRecordedError({self.type_name!r}, {self.message!r})"


class DBOSShutdownError(DBOSException):
    """tidings is not running in this process: not launched yet, or destroyed."""

    def __init__(self, message: str = "tidings was shut down in this process; call DBOS.launch() to continue") -> None:
        super().__init__(message)


class DBOSBaseException(BaseException):
    """The root of the errors that end an execution; `except Exception` does not catch them."""


class DBOSWorkflowCancelledError(DBOSBaseException):
    """This workflow was cancelled; it can record nothing more."""

    def __init__(self, workflow_id: str) -> None:
        super().__init__(workflow_id)
        self.workflow_id = workflow_id

    def __str__(self) -> str:
        return f"workflow {self.workflow_id!r} was cancelled"


class DBOSRunEndedError(DBOSBaseException):
    """This execution of the workflow can record nothing more: it was shut down, taken over, or has ended."""

    def __init__(self, workflow_id: str, reason: str) -> None:
        super().__init__(workflow_id, reason)
        self.workflow_id = workflow_id

    def __str__(self) -> str:
        workflow_id, reason = self.args
        return f"this execution of workflow {workflow_id!r} is over: {reason}"
