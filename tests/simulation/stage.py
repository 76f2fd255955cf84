"""Puts the simulated world into the engine's modules for the length of a simulation, and takes it out again.

What is exchanged: the modules `threading`, `time` and `uuid`; the event loops that asyncio makes; the store that a URL
opens; the lock files by which the death of a process is seen; what modules keep for the whole process, which here is
one of several (the running host, the shared engines, open clients); and sets, whose order no seed decides.

A name that is not there is an error: the engine has changed, and this module has to follow.
"""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Protocol, cast
from weakref import WeakSet

from tests.simulation.loops import SimLoop, all_tasks
from tests.simulation.primitives import Local, Lock, OrderedSet, RLock, Threading, Time, Uuid
from tests.simulation.scheduler import playing
from tidings import store as stores
from tidings.api import caller, client, dbos
from tidings.engine import chain, committer, leases, loops, sharing, supervisor, ticket, workers
from tidings.engine.host import Host
from tidings.engine.settings import Settings
from tidings.store.protocol import Store

_MODULES = {threading: Threading, time: Time, uuid: Uuid}


class Program(Protocol):
    """What a simulated process keeps that a real one keeps in modules."""

    host: Host | None
    lock: RLock
    settings: Settings


def program() -> Program:
    """Return the simulated process that the running thread is of."""
    return cast(Program, playing().current.party)


class OneOfSeveral:
    """What stands for `tidings.api.caller.Process`: the running thread's."""

    @property
    def host(self) -> Host | None:
        return program().host

    @host.setter
    def host(self, host: Host | None) -> None:
        program().host = host

    @property
    def lock(self) -> RLock:
        return program().lock


class SettingsOfOne:
    """What stands for `DBOS._settings`."""

    def __get__(self, instance: object, owner: type) -> Settings:
        return program().settings


class LockFiles(Protocol):
    """How the death of a process is seen on its own host."""

    def lock(self, path: Any, *, create: bool) -> int | None:
        """As `leases._lock`."""

    def close(self, file: int) -> None:
        """Unlock it."""

    def is_free(self, path: Any) -> bool:
        """As `leases._is_free`."""


@contextlib.contextmanager
def staged(open_store: Callable[[str], Store], files: LockFiles) -> Iterator[None]:
    """Exchange everything for the length of the block."""
    exchanged: list[tuple[object, str, Any]] = []

    def put(owner: object, name: str, value: Any) -> None:
        exchanged.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def add(owner: object, name: str, value: Any) -> None:
        assert not hasattr(owner, name)
        exchanged.append((owner, name, _ABSENT))
        setattr(owner, name, value)

    try:
        for module in _modules_of_tidings():
            for name, value in list(vars(module).items()):
                if isinstance(value, ModuleType) and value in _MODULES:
                    put(module, name, _MODULES[value])
        for module in (chain, committer):
            add(module, "set", OrderedSet)
        for asyncios in (asyncio, asyncio.events):
            put(asyncios, "new_event_loop", SimLoop)
        for asyncios in (asyncio, asyncio.tasks):
            put(asyncios, "all_tasks", all_tasks)
        put(stores, "open", lambda url, schema: open_store(url))
        for name, value in {"_lock": files.lock, "_is_free": files.is_free, "forget": _ignore, "os": _Os(files)}.items():
            put(leases, name, value)
        put(supervisor, "sweep", _ignore)
        for api in (caller, dbos):
            put(api, "Process", OneOfSeveral())
        put(dbos.DBOS, "_settings", SettingsOfOne())
        put(client, "_open", OrderedSet())
        put(client, "Connection", lambda url, schema: program().settings.connection)
        put(sharing, "_lock", Lock())
        for name in ("_doors", "_shared", "_users"):
            put(sharing, name, {})
        put(loops, "_sentinels", {})
        put(loops, "_closing", WeakSet())
        put(ticket, "_first_waiter", Lock())
        put(workers, "_mine", Local())
        yield
    finally:
        for owner, name, value in reversed(exchanged):
            if value is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


_ABSENT = object()


class _Os:
    """As much of `os` as `leases` needs for the files that it locks."""

    def __init__(self, files: LockFiles) -> None:
        self.close = files.close


def _modules_of_tidings() -> list[ModuleType]:
    return [module for name, module in sys.modules.items() if name.startswith(("tidings.engine", "tidings.api"))]


def _ignore(*_: object) -> None:
    """Do nothing."""
