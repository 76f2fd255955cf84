"""Puts the simulated world into the engine's modules for the length of a simulation, and takes it out again.

What is exchanged: the modules `threading`, `time` and `uuid`; the event loops that asyncio makes; the store that a URL
opens; the lock files by which the death of a process is seen; what modules keep for the whole process, which here is
one of several (the running host, the shared engines, open clients, the locks of modules and of the registry: a thread
that waited for a real one would hold up the baton); and sets, whose order no seed decides.

A name that is not there is an error: the engine has changed, and this module has to follow.
"""

from __future__ import annotations

import _thread
import asyncio
import contextlib
import math
import os
import queue
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any, Protocol, cast
from weakref import WeakSet

from tests.simulation.loops import SimLoop, all_tasks
from tests.simulation.primitives import (
    Local,
    LockOfEachProcess,
    OrderedSet,
    Queue,
    RLock,
    Threading,
    Time,
    Uuid,
)
from tests.simulation.scheduler import playing
from tidings import store as stores
from tidings.api import client, dbos
from tidings.engine import clients, lock_files, process, sharing
from tidings.engine.database import chain, committer
from tidings.engine.host import Host
from tidings.engine.ownership import leases, supervisor
from tidings.engine.process import REGISTRY
from tidings.engine.runs import loops, other_topics, thread_calls, workers
from tidings.engine.settings import Settings
from tidings.store.protocol import Store

_MODULES = {queue: Queue, threading: Threading, time: Time, uuid: Uuid}


class Program(Protocol):
    """What a simulated process keeps that a real one keeps in modules."""

    host: Host | None
    lock: RLock
    launch_lock: RLock
    launch: object | None
    settings: Settings


def program() -> Program:
    """Return the simulated process that the running thread is of."""
    return cast(Program, playing().current.party)


class OneOfSeveral:
    """What stands for `tidings.engine.process.Process`: the running thread's."""

    has_run = True  # Which words an error has depends on it, and nothing else.

    @property
    def settings(self) -> Settings:
        return program().settings

    @property
    def host(self) -> Host | None:
        return program().host

    @host.setter
    def host(self, host: Host | None) -> None:
        program().host = host

    @property
    def lock(self) -> RLock:
        return program().lock

    @property
    def launch_lock(self) -> RLock:
        return program().launch_lock

    @property
    def launch(self) -> object | None:
        return program().launch

    @launch.setter
    def launch(self, launch: object | None) -> None:
        program().launch = launch


class LockFiles(Protocol):
    """How the death of a process is seen on its own host."""

    @property
    def not_now(self) -> contextlib.AbstractContextManager[None]:
        """As `held.NO_FORK`."""

    def lock(self, path: Any, *, create: bool) -> int | None:
        """As `lock_files._lock`."""

    def close(self, file: int) -> None:
        """As `lock_files.unlock`."""

    def hold(self, owner: Any, file_of: Callable[[Any], int | None]) -> None:
        """As `held.hold`."""


@contextlib.contextmanager
def staged(open_store: Callable[[str], Store], files: LockFiles) -> Iterator[None]:
    """Exchange everything for the length of the block."""
    exchange = _Exchange()
    try:
        _set_the_stage(exchange, open_store, files)
        yield
    finally:
        exchange.take_back()


def _set_the_stage(exchange: _Exchange, open_store: Callable[[str], Store], files: LockFiles) -> None:
    for module in _modules_of_tidings():
        for name, value in list(vars(module).items()):
            if isinstance(value, ModuleType) and value in _MODULES:
                exchange.put(module, name, _MODULES[value])
            elif isinstance(value, _thread.LockType):
                exchange.put(module, name, LockOfEachProcess())
    for registered in (REGISTRY, REGISTRY.receivers):
        exchange.put(registered, "_lock", LockOfEachProcess())
    for module in (chain, committer):
        exchange.add(module, "set", OrderedSet)
    for asyncios in (asyncio, asyncio.events):
        exchange.put(asyncios, "new_event_loop", SimLoop)
    for asyncios in (asyncio, asyncio.tasks):
        exchange.put(asyncios, "all_tasks", all_tasks)
    for module in (process, dbos):
        exchange.put(module, "Process", OneOfSeveral())
    exchange.put(stores, "open", lambda url, schema: open_store(url))
    exchange.put(lock_files, "_lock", files.lock)
    exchange.put(lock_files, "unlock", files.close)
    exchange.put(lock_files, "forget", _ignore)
    for module in (leases, lock_files):
        exchange.put(module, "NO_FORK", files.not_now)
    exchange.put(leases, "hold", files.hold)
    exchange.put(leases, "os", _Os())
    exchange.put(supervisor, "sweep", _ignore)
    exchange.put(process, "_ON_TERM", _NoSignals())
    exchange.put(clients, "_open", OrderedSet())
    exchange.put(client, "Connection", lambda url, schema: program().settings.connection)
    for name in ("_doors", "_shared", "_users"):
        exchange.put(sharing, name, {})
    exchange.put(loops, "_sentinels", {})
    exchange.put(loops, "_closing", WeakSet())
    exchange.put(workers, "_mine", Local())
    exchange.put(thread_calls, "_here", Local())
    exchange.put(other_topics, "_LOOKED_INTO_SECONDS", math.inf)  # No plot names a topic wrong.
    exchange.put(thread_calls, "_MOST_LOOKS", 1_000_000)  # A thread may be held up for longer than any real one.


def _ignore(*_: object) -> None:
    """Do nothing."""


class _Exchange:
    """What was exchanged, and for what."""

    def __init__(self) -> None:
        self._former: list[tuple[object, str, Any]] = []

    def put(self, owner: object, name: str, value: Any) -> None:
        """Put `value` in the place of what is there."""
        self._former.append((owner, name, getattr(owner, name)))
        setattr(owner, name, value)

    def add(self, module: ModuleType, name: str, value: Any) -> None:
        """Put `value` where nothing is: before a builtin, say."""
        assert not hasattr(module, name), f"{module.__name__} has a {name!r} of its own"
        self._former.append((module, name, _ABSENT))
        setattr(module, name, value)

    def take_back(self) -> None:
        """Put everything back, the last first."""
        for owner, name, value in reversed(self._former):
            if value is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)


_ABSENT = object()


class _Os:
    """As much of `os` as `leases` needs."""

    getpid = staticmethod(os.getpid)


class _NoSignals:
    """What stands for the handler of SIGTERM: no signal is sent to a process that several play."""

    install = remove = staticmethod(_ignore)


def _modules_of_tidings() -> list[ModuleType]:
    return [module for name, module in sys.modules.items() if name.startswith(("tidings.engine", "tidings.api"))]
