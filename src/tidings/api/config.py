"""The user's configuration, checked: an unknown key or a bad value is an error that says what to do.

What is configured beats the environment, which beats the default.
"""

from __future__ import annotations

import difflib
import os
from typing import TypedDict, cast

from tidings import store as stores
from tidings.engine.settings import Connection, Settings
from tidings.error import DBOSInitializationError, DBOSLimitError
from tidings.limits import check_id
from tidings.serialization import JSONSerializer, Serializer


class _Required(TypedDict):
    name: str


class DBOSConfig(_Required, total=False):
    """What `DBOS(config=...)` takes.

    Keys:
        name: the program's name; required. Programs with different names may share a database: each executes its
            own workflows, and may send to, read and list those of all.
        system_database_url: `sqlite:///file.sqlite` or `postgresql://user@host/database`; the default is
            `sqlite:///<name>.sqlite`. Environment: `DBOS_SYSTEM_DATABASE_URL`.
        dbos_system_schema: the PostgreSQL schema that holds the tables; "tidings" by default.
        application_version: what histories are matched with; a hash of the code by default.
            Environment: `DBOS__APPVERSION`.
        executor_id: a label for this process. Environment: `DBOS__VMID`.
        run_migrations: whether `launch` brings the schema up to date; True by default.
        max_executor_threads: how many blocking workflows and steps run at once; one that waits does
            not count.
        use_listen_notify: whether to listen for what other processes change; True by default. Without, whoever
            waits for them looks at the database again and again.
        notification_listener_polling_interval_sec: how often they look, in seconds, where nothing can be heard;
            0.2 by default. Very many waiters look less often.
        serializer: how values are stored; typed JSON by default.
    """

    system_database_url: str
    dbos_system_schema: str
    application_version: str
    executor_id: str
    run_migrations: bool
    max_executor_threads: int
    use_listen_notify: bool
    notification_listener_polling_interval_sec: float
    serializer: Serializer


_TYPES: dict[str, type] = {
    "name": str,
    "system_database_url": str,
    "dbos_system_schema": str,
    "application_version": str,
    "executor_id": str,
    "run_migrations": bool,
    "max_executor_threads": int,
    "use_listen_notify": bool,
    "notification_listener_polling_interval_sec": float,
}
_DEFAULT_THREADS = 64
_DEFAULT_POLLING_SECONDS = 0.2
_LONGEST_POLLING_SECONDS = 86_400


def settings_from(config: DBOSConfig) -> Settings:
    """Check a configuration and complete it.

    Raises:
        DBOSInitializationError: a key is unknown, missing, or has a bad value.
    """
    if not isinstance(config, dict):
        raise DBOSInitializationError(f"the configuration must be a dict, not {type(config).__name__}")
    config = cast(DBOSConfig, {key: value for key, value in config.items() if value is not None})
    _check(dict(config))
    name = config["name"]
    environment = os.environ
    url = config.get("system_database_url") or environment.get("DBOS_SYSTEM_DATABASE_URL") or f"sqlite:///{name}.sqlite"
    stores.prepare(url)  # Here, so that a launch that has workflows to recover need not wait for it.
    return Settings(
        name=name,
        connection=Connection(
            database_url=url,
            schema=config.get("dbos_system_schema", "tidings"),
            use_listen_notify=config.get("use_listen_notify", True),
            polling_interval_seconds=config.get("notification_listener_polling_interval_sec", _DEFAULT_POLLING_SECONDS),
        ),
        application_version=config.get("application_version") or environment.get("DBOS__APPVERSION") or None,
        executor_label=config.get("executor_id") or environment.get("DBOS__VMID") or "local",
        run_migrations=config.get("run_migrations", True),
        max_executor_threads=config.get("max_executor_threads", _DEFAULT_THREADS),
        serializer=config.get("serializer") or JSONSerializer(),
    )


def _check(config: dict[str, object]) -> None:
    known = [*_TYPES, "serializer"]
    for key in config:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "known keys: " + ", ".join(known)
            raise DBOSInitializationError(f"the configuration has an unknown key {key!r}; {hint}")
    if not config.get("name"):
        raise DBOSInitializationError("the configuration needs a 'name', the name of your program")
    if isinstance(config["name"], str):
        _check_name(config["name"])
    for key, kind in _TYPES.items():
        value = config.get(key)
        if value is not None and not _is(value, kind):
            raise DBOSInitializationError(
                f"the configuration's {key!r} must be of type {kind.__name__}, not {type(value).__name__} ({value!r})"
            )
        if value == "":
            raise DBOSInitializationError(
                f"the configuration's {key!r} must not be empty; leave it out for the default"
            )
    threads = config.get("max_executor_threads")
    if isinstance(threads, int) and threads < 1:
        raise DBOSInitializationError(f"the configuration's 'max_executor_threads' must be 1 or more, not {threads}")
    interval = config.get("notification_listener_polling_interval_sec")
    if isinstance(interval, (int, float)) and not 0 < interval <= _LONGEST_POLLING_SECONDS:
        raise DBOSInitializationError(
            "the configuration's 'notification_listener_polling_interval_sec' must be more than 0 and at most "
            f"{_LONGEST_POLLING_SECONDS} seconds, not {interval}"
        )
    serializer = config.get("serializer")
    if serializer is not None:
        check_serializer(serializer, "the configuration's 'serializer'")


def _check_name(name: str) -> None:
    """Refuse a name of a program that could not be recorded."""
    try:
        check_id(name, "name")
    except DBOSLimitError as error:
        raise DBOSInitializationError(f"the configuration's 'name' cannot be used: {error}") from None


def check_serializer(serializer: object, what: str) -> None:
    """Refuse what is no `Serializer`.

    Raises:
        DBOSInitializationError: naming what it lacks.
    """
    if isinstance(serializer, type):
        raise DBOSInitializationError(f"{what} must be an object, not the class {serializer.__qualname__}: call it")
    missing = [name for name in ("serialize", "deserialize", "name") if not callable(getattr(serializer, name, None))]
    if missing:
        raise DBOSInitializationError(f"{what} lacks the methods {', '.join(missing)}")


def _is(value: object, kind: type) -> bool:
    """Tell whether a value is of a type: an integer is a number too, and a truth value is none."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)
