"""Takeover: which workflows of dead executors this process claims, and how many at a time.

Survivors share. At its first look each claims its share of what it finds. At its next look, when the other survivors
have looked too, it claims all that is left. So the workflows of one dead process do not all go to the process that
looked first. And if other processes cannot take their shares, no workflow is left.

A workflow stays with its version of the code while a living process has that version. After that, a process of its
program whose `recover_versions` is "compatible" continues it. A version that could not continue it does not try again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Final, NamedTuple

from msgspec.structs import replace

from tidings.core.recovery import has_tried, share_of
from tidings.engine.ownership.leases import LeaseObserver
from tidings.engine.ownership.progress import alive_of
from tidings.engine.runs.port import Parts
from tidings.engine.runs.registry import Registry
from tidings.model import ANY_VERSION, Executor, PendingGroup, WorkflowRecord
from tidings.store.protocol import KEEP_EXECUTORS_MS

logger = logging.getLogger("tidings")

CLAIM_TOGETHER: Final = 200

# (dead owners, names of workflows, reserved versions, limit) -> those that were claimed; see `Store.claim`
Claim = Callable[[Collection[str], Collection[str], Collection[str] | None, int], Collection[WorkflowRecord]]

_MOST_SAID: Final = 1_000  # names of functions

_FIRST_EPOCH: Final = 1  # of a workflow that no process has executed before this claim


class _Rules(NamedTuple):
    """Which workflows this process may take now."""

    names: Collection[str]
    reserved: Collection[str] | None  # Other versions that living processes have; None: only this version is taken.


class Takeover:
    """Finds workflows whose owner is dead or missing, and claims this process's share of them."""

    def __init__(
        self,
        parts: Parts,
        registry: Registry,
        app_version: str,
        program: str,
        lease_ms: int,
        claim: Claim,
        *,
        takes_other_versions: bool,
    ) -> None:
        self._parts = parts
        self._registry = registry
        self._app_version = app_version
        self._program = program
        self._takes_other_versions = takes_other_versions
        self._claim = claim
        self._watch = LeaseObserver(lease_ms)
        self._known_dead: dict[
            str, int
        ] = {}  # Dead executors, and the lease in the row: it changes if an executor lives again.
        self._left_some = False  # Whether the last look left shares for other processes.
        self._lease_ms = lease_ms
        self._unknown: dict[str, int] = {}  # Names that are not registered here, of workflows without an owner: since.
        self._said_unknown: set[str] = set()

    def look(self, *, thorough: bool) -> None:
        """Find the executors that have died since the last look, and claim a share of their workflows.

        Args:
            thorough: whether to look for workflows even if no executor has died. Some may have been given back, or left
                earlier because they could not be executed here then.
        """
        me = self._parts.committer.executor.executor_id
        # Groups first, then executors. An executor has a row before it owns anything, so an owner without one is gone.
        groups = self._groups() if thorough else []
        executors = self._parts.reader.ask(lambda store: store.executors()).result()
        clock = self._parts.clock
        dead = {each.executor_id: each for each in self._watch.find_dead(executors, clock.own_ms())}
        dead.pop(me, None)
        news = [each for each in dead.values() if self._is_news(each, clock.now_ms())]
        if not (news or thorough or self._left_some):
            return
        rules = self._rules([each for each in executors if each.executor_id not in dead])
        # A row may have been deleted by hand, even that of a living process, whose batches are then refused.
        gone = {each.executor_id for each in groups} - {each.executor_id for each in executors} - {me}
        without_owner = [
            each
            for each in (groups if thorough else self._groups())
            if each.executor_id is None or each.executor_id in dead or each.executor_id in gone
        ]
        orphans = [each for each in without_owner if self._can_take(each, rules)]
        if thorough:
            self._say_unknown(without_owner, rules)
        owners = {each.executor_id for each in orphans if each.executor_id is not None}
        owners.update(each.executor_id for each in news)
        if orphans or news:
            survivors = sum(self._is_like_me(each) for each in executors if each.executor_id not in dead)
            self._take(owners, rules, sum(each.count for each in orphans), survivors)
        self._known_dead = {each: dead[each].lease_until_ms for each in dead}

    def _say_unknown(self, without_owner: Collection[PendingGroup], rules: _Rules) -> None:
        """Log, once for each function, that workflows wait for one that is not registered here.

        Another process may have it, and claim them. So it is logged if none has for the time of a lease.
        """
        now = self._parts.clock.own_ms()
        unknown: dict[str, PendingGroup] = {}
        for each in without_owner:
            if each.name not in rules.names and self._is_for_us(each, rules):
                same = unknown.get(each.name)
                unknown[each.name] = each if same is None else replace(same, count=same.count + each.count)
        self._unknown = {name: self._unknown.get(name, now) for name in unknown}
        for name, since_ms in self._unknown.items():
            is_news = name not in self._said_unknown and len(self._said_unknown) < _MOST_SAID
            if is_news and now - since_ms >= self._lease_ms:
                self._said_unknown.add(name)
                _say_nobody_has(unknown[name])

    def _groups(self) -> list[PendingGroup]:
        return self._parts.reader.ask(lambda store: store.pending_groups()).result()  # type: ignore[no-any-return]

    def leftovers(self) -> list[PendingGroup]:
        """Return the pending workflows that will not be executed here: of another version, or with an unknown name.

        Workflows of another program are included only if no process of it is running, and a function of their name is
        registered here: this may be the same program under a new name.
        """
        me = self._parts.committer.executor.executor_id  # Its workflows were started since the launch.
        groups = self._groups()
        executors = self._parts.reader.ask(lambda store: store.executors()).result()
        now = self._parts.clock.now_ms()
        alive = alive_of(executors, now)
        running, rules = {each.program for each in alive}, self._rules(alive)
        found: dict[tuple[str, str, str | None], PendingGroup] = {}
        for each in groups:
            if each.executor_id == me or self._can_take(each, rules) or self._is_said(each, rules):
                continue
            if not self._is_mine(each.program) and (each.program in running or each.name not in rules.names):
                continue
            kind = (each.name, each.app_version, each.program)
            if each.name not in rules.names:
                self._said_unknown.add(each.name)
            same = found.setdefault(kind, each)
            if same is not each:
                found[kind] = replace(same, count=same.count + each.count)
        return list(found.values())

    def _rules(self, alive: Collection[Executor]) -> _Rules:
        reserved = None
        if self._takes_other_versions:
            mine = (each for each in alive if each.program == self._program and each.app_version is not None)
            reserved = {str(each.app_version) for each in mine} - {self._app_version}
        return _Rules(self._registry.workflow_names(), reserved)

    def _can_take(self, group: PendingGroup, rules: _Rules) -> bool:
        """Tell whether these workflows may be executed here; a claim decides the same."""
        return group.name in rules.names and self._is_for_us(group, rules)

    def _is_for_us(self, group: PendingGroup, rules: _Rules) -> bool:
        """Tell whether these workflows may be executed by a process of this version that has their function."""
        if not self._is_mine(group.program) or self._was_stuck_here(group):
            return False
        if group.app_version in (self._app_version, ANY_VERSION):
            return True
        return rules.reserved is not None and bool(group.stuck or group.app_version not in rules.reserved)

    def _was_stuck_here(self, group: PendingGroup) -> bool:
        return has_tried(group.stuck, self._app_version, self._parts.committer.executor.code_hash)

    def _is_said(self, group: PendingGroup, rules: _Rules) -> bool:
        """Tell whether nothing need be said of these workflows: others have them, or their reason was logged before."""
        return self._was_stuck_here(group) or (rules.reserved is not None and group.app_version in rules.reserved)

    def _is_mine(self, program: str | None) -> bool:
        """Tell whether a workflow may be this program's. Rows from before programs were recorded have `None`."""
        return program is None or program == self._program

    def _is_like_me(self, executor: Executor) -> bool:
        """Tell whether an executor may take over the same workflows as this one."""
        is_my_version = executor.app_version == self._app_version
        is_executing = self._takes_other_versions and executor.app_version is not None
        return executor.program == self._program and (is_my_version or is_executing)

    def _is_news(self, dead: Executor, now_ms: int) -> bool:
        """Tell whether this death is new, or so long ago that the row may be removed: a claim removes it."""
        is_known = self._known_dead.get(dead.executor_id) == dead.lease_until_ms
        return not is_known or dead.lease_until_ms + KEEP_EXECUTORS_MS < now_ms

    def _take(self, owners: Collection[str], rules: _Rules, orphans: int, survivors: int) -> None:
        share = orphans if self._left_some else share_of(orphans, survivors)
        self._left_some = share < orphans
        total = fresh = 0
        while True:
            together = min(CLAIM_TOGETHER, share - total)
            claimed = self._claim(owners, rules.names, rules.reserved, together)
            total += len(claimed)
            fresh += sum(each.epoch == _FIRST_EPOCH for each in claimed)
            if len(claimed) < together or total == share:
                break
        left = f"; {orphans - share} left for other processes" if self._left_some else ""
        if total > fresh:
            _say("recovered %d pending workflow%s that ended processes left%s", total - fresh, left)
        if fresh:
            _say("began %d workflow%s started by processes that execute none (execute=False)%s", fresh, left)


def _say_nobody_has(group: PendingGroup) -> None:
    logger.warning(
        "no process executes %d pending workflow%s of %r, for example %r: no function is registered under this name in "
        "this process, and no other process has claimed %s. Import the module that decorates it before DBOS.launch(), "
        "here or in another process of the program. This is logged once for each function",
        group.count,
        "" if group.count == 1 else "s",
        group.name,
        group.example_id,
        "it" if group.count == 1 else "them",
    )


def _say(text: str, count: int, left: str) -> None:
    logger.info(text, count, "" if count == 1 else "s", left)
