"""Versions of the code: patches, and which versions have unfinished workflows."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tidings.api.caller import Face, shared
from tidings.core import targets
from tidings.core.effects import NOW, ExecutorList, ListExecutors, Operation, Read
from tidings.core.operations import patches
from tidings.engine.caller import Caller
from tidings.limits import check_key
from tidings.model import ANY_VERSION

LIST_VERSIONS = "DBOS.list_application_versions"


@dataclass(frozen=True, slots=True)
class ApplicationVersion:
    """A version of a program's code that has unfinished workflows, or a living process.

    Attributes:
        app_version: the version; `None` of workflows that a process which executes nothing has started: they get the
            version of the process that executes them.
        program: the program's name, or `None` of workflows from a tidings that did not record it.
        pending: how many workflows of this version are PENDING.
        stuck: how many of them no process executes, because a version of the code could not continue them;
            `list_workflows(stuck=True, app_version=...)` lists these.
        processes: how many living processes execute workflows with this version.
    """

    app_version: str | None
    program: str | None
    pending: int
    stuck: int
    processes: int


class Versions(Face):
    """Versions of the code."""

    @shared
    def list_application_versions(cls) -> list[ApplicationVersion]:
        """List the versions that have unfinished workflows or living processes, by program and version.

        An old version without pending workflows needs no process any more.

        Returns:
            One for each version.

        Durable: in a workflow the list is recorded, and a replay gets the same one.
        """
        return cls._block("list_application_versions", _list_versions)

    @shared
    async def list_application_versions_async(cls) -> list[ApplicationVersion]:
        """Await `list_application_versions`."""
        return await cls._await(_list_versions)


class Patches(Versions):
    """What a workflow's code may ask about its own history."""

    @classmethod
    def patch(cls, name: str) -> bool:
        """Tell whether this workflow takes the new path of changed code.

            if DBOS.patch("check-fraud"):
                check_fraud(order)      # workflows that come here for the first time
            else:
                check_address(order)    # workflows that came here before the deploy

        The first execution that comes here records a marker and takes the new path. So do all replays that find the
        marker. A replay that finds another operation recorded here was on the old path before the deploy: it gets
        False, and continues on that path. A workflow that is still on its way here, under any version, gets True.

        Once no workflow from before the patch is unfinished, replace the call by `deprecate_patch` and remove the old
        path.

        Args:
            name: the patch's name; another one for each change of a workflow.

        Returns:
            True for the new path, False for the old one.

        Raises:
            DBOSContextError: called outside of a workflow's own code.
            DBOSLimitError: the name is outside its limits.

        Durable: a marker is recorded before the workflow's next operation. The semantics are those of `dbos` and of
        Temporal's `patched`.
        """
        return cls._block("patch", lambda caller: _patch(caller, "DBOS.patch", name, records=True))

    @classmethod
    async def patch_async(cls, name: str) -> bool:
        """Await `patch`."""
        return await cls._await(lambda caller: _patch(caller, "DBOS.patch_async", name, records=True))

    @classmethod
    def deprecate_patch(cls, name: str) -> bool:
        """Accept the marker of a patch whose old path is removed, and record none.

        Call it where `patch` was called, until no workflow that recorded the marker is unfinished. Then remove it.

        Args:
            name: the patch's name.

        Returns:
            True.

        Raises:
            DBOSContextError, DBOSLimitError: as `patch`.

        Durable: records nothing. A replay passes over the marker, if there is one.
        """
        return cls._block("deprecate_patch", lambda caller: _patch(caller, "DBOS.deprecate_patch", name, records=False))

    @classmethod
    async def deprecate_patch_async(cls, name: str) -> bool:
        """Await `deprecate_patch`."""
        return await cls._await(lambda caller: _patch(caller, "DBOS.deprecate_patch_async", name, records=False))


def _patch(caller: Caller, called: str, name: str, *, records: bool) -> Operation[bool]:
    """Tell which path the code takes. Where nothing is recorded yet, `records` tells whether to record a marker."""
    check_key(name, "name of a patch")
    scope = caller.workflow_scope(called)
    found = scope.next_recorded()
    if records if found is None else patches.is_marker(found, name):
        return patches.mark(scope.begin(patches.PATCH, target=targets.of_patch(name)))
    return patches.took(not records)


def _list_versions(caller: Caller) -> Operation[list[ApplicationVersion]]:
    return caller.observed(LIST_VERSIONS, _read_versions(), "the list of versions")


def _read_versions() -> Operation[list[ApplicationVersion]]:
    listed: ExecutorList = yield Read(ListExecutors())
    now: int = yield NOW
    pending: Counter[tuple[str, str]] = Counter()
    stuck: Counter[tuple[str, str]] = Counter()
    processes: Counter[tuple[str, str]] = Counter()
    for group in listed.pending:
        kind = group.program or "", group.app_version
        pending[kind] += group.count
        stuck[kind] += group.count if group.stuck and group.executor_id is None else 0
    for each in listed.alive(now):
        if each.app_version is not None:
            processes[each.program or "", each.app_version] += 1
    return [
        ApplicationVersion(
            app_version=None if version == ANY_VERSION else version,
            program=program or None,
            pending=pending[program, version],
            stuck=stuck[program, version],
            processes=processes[program, version],
        )
        for program, version in sorted(pending.keys() | processes.keys())
    ]
