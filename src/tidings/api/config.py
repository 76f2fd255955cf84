"""Checks the user's configuration: the error for an unknown key or a bad value says what to do.

A configured value takes precedence over the environment, and the environment over the default.
"""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from typing import Literal, TypedDict, cast

from tidings import store as stores
from tidings.api.logs import level_from
from tidings.engine.settings import Connection, Settings
from tidings.error import DBOSInitializationError, DBOSLimitError
from tidings.limits import Seconds, check_id
from tidings.serialization import JSONSerializer, Serializer
from tidings.slips import configured, is_database_url, nearest, plainly

logger = logging.getLogger("tidings")


class _Required(TypedDict):
    name: str


class DBOSConfig(_Required, total=False):
    """The configuration that `DBOS(config=...)` takes.

    Keys:
        name: the program's name; required. Programs with different names may share a database: each executes only its
            own workflows. It may send to, read and list those of all programs.
        system_database_url: `sqlite:///file.sqlite` or `postgresql://user@host/database`; the default is
            `sqlite:///<name>.sqlite`. Bytes, pydantic's `SecretStr` and `PostgresDsn`, and SQLAlchemy's `URL` are
            accepted too; a path names an SQLite file. A driver in the URL (`postgresql+asyncpg://`) and white space
            around it are ignored. Its `options` apply, except to settings that tidings needs to set itself.
            Environment: `DBOS_SYSTEM_DATABASE_URL`.
        dbos_system_schema: the PostgreSQL schema that holds the tables; "tidings" by default.
        application_version: the version of the code, by which recovery chooses workflows; a hash of the code by
            default. Environment: `DBOS__APPVERSION`.
        recover_versions: which workflows of ended processes this process continues. "compatible", the default: those
            of its own version of the code, and those of another version once no living process has that version. A
            workflow for which the code calls other operations than are recorded is left to other code, and
            `WorkflowStatus.stuck` says why. "same": only those of its own version.
        executor_id: a label for this process. Environment: `DBOS__VMID`.
        run_migrations: whether `launch` brings the schema up to date; True by default.
        max_executor_threads: how many blocking workflows and steps run at once; those that wait do not count.
        use_listen_notify: whether to listen for changes that other processes make; True by default. If it is False,
            waiting calls poll the database.
        notification_listener_polling_interval_sec: how often waiting calls poll while the process does not listen, in
            seconds or as a `timedelta`; 0.2 by default. If there are very many waiters, they poll less often.
        serializer: how values are stored; typed JSON by default.
        log_level: the lowest level that is written to standard error, in a program that has configured no logging:
            "DEBUG", "INFO" (which then includes the start and end of each workflow), "WARNING" or "ERROR". By default
            it is INFO, but of workflows only problems are shown. A program that configures logging sets the levels
            itself.
    """

    system_database_url: stores.DatabaseURL
    dbos_system_schema: str
    application_version: str
    recover_versions: Literal["compatible", "same"]
    executor_id: str
    run_migrations: bool
    max_executor_threads: int
    use_listen_notify: bool
    notification_listener_polling_interval_sec: Seconds
    serializer: Serializer
    log_level: str | int


_TYPES: dict[str, type] = {
    "name": str,
    "dbos_system_schema": str,
    "application_version": str,
    "recover_versions": str,
    "executor_id": str,
    "run_migrations": bool,
    "max_executor_threads": int,
    "use_listen_notify": bool,
    "notification_listener_polling_interval_sec": float,
}
_DEFAULT_THREADS = 64
_DEFAULT_POLLING_SECONDS = 0.2
_LONGEST_POLLING_SECONDS = 86_400
_MOST_BYTES_OF_FILE = 200  # of a program's name in a file name; leaves room for suffixes
_URL_VARIABLE = "DBOS_SYSTEM_DATABASE_URL"


def settings_from(config: DBOSConfig) -> Settings:
    """Check a configuration and complete it.

    Raises:
        DBOSInitializationError: a key is unknown, missing, or has a bad value.
    """
    if not isinstance(config, dict):
        raise DBOSInitializationError(
            "the configuration must be a dict, as in DBOS(config={'name': 'shop'}), "
            f"not {configured(config, kind=True)}"
        )
    is_missing = "system_database_url" in config and config["system_database_url"] is None
    said = {key: value for key, value in config.items() if value is not None}
    interval = said.get("notification_listener_polling_interval_sec")
    if isinstance(interval, timedelta):
        said["notification_listener_polling_interval_sec"] = interval.total_seconds()
    _check(said)
    config = cast(DBOSConfig, said)
    name = config["name"]
    environment = os.environ
    url = _address(config, name)
    if is_missing:
        logger.warning(
            "the configuration's 'system_database_url' is None, perhaps because an environment variable is not set; "
            "using %s",
            f"the environment's {_URL_VARIABLE}" if environment.get(_URL_VARIABLE) else str(url),
        )
    stores.prepare(url)  # Here and not in the launch, so that a recovery need not wait for it.
    return Settings(
        name=name,
        connection=Connection(
            database_url=url,
            schema=config.get("dbos_system_schema", "tidings"),
            use_listen_notify=config.get("use_listen_notify", True),
            polling_interval_seconds=cast(
                float, config.get("notification_listener_polling_interval_sec", _DEFAULT_POLLING_SECONDS)
            ),
        ),
        application_version=config.get("application_version") or _from_environment("DBOS__APPVERSION"),
        executor_label=config.get("executor_id") or _from_environment("DBOS__VMID") or "local",
        run_migrations=config.get("run_migrations", True),
        max_executor_threads=config.get("max_executor_threads", _DEFAULT_THREADS),
        serializer=config.get("serializer") or JSONSerializer(),
        takes_other_versions=config.get("recover_versions", "compatible") == "compatible",
    )


def _address(config: DBOSConfig, name: str) -> stores.Address:
    if "system_database_url" in config:
        return stores.address(config["system_database_url"], "the configuration's 'system_database_url'")
    if os.environ.get(_URL_VARIABLE):
        return stores.address(os.environ[_URL_VARIABLE], f"the environment's {_URL_VARIABLE}")
    if len(name.encode()) > _MOST_BYTES_OF_FILE or any(each in name for each in "/\\?"):
        raise DBOSInitializationError(
            f"the configuration's 'name' ({_shown_name(name)}) cannot be the name of a file. Without a "
            "'system_database_url' the SQLite file is named after it: give a 'system_database_url', or a shorter name "
            "without '/', '\\' and '?'"
        )
    return stores.address(f"sqlite:///{name}.sqlite", "the configuration's 'name', which names the file,")


def _check(config: dict[str, object]) -> None:
    known = [*_TYPES, "system_database_url", "serializer", "log_level"]
    for key in config:
        if key not in known:
            near = nearest(key, known)
            hint = f"did you mean {near!r}?" if near else "known keys: " + ", ".join(known)
            raise DBOSInitializationError(f"the configuration has an unknown key {configured(key)}; {hint}")
    if not config.get("name"):
        raise DBOSInitializationError("the configuration needs a 'name', the name of your program")
    if isinstance(config["name"], str):
        _check_name(config["name"])
    for key, kind in _TYPES.items():
        value = config.get(key)
        if value is not None and not _is(value, kind):
            expected = "float or timedelta" if kind is float else kind.__name__
            raise DBOSInitializationError(
                f"the configuration's {key!r} must be of type {expected}, not {configured(value, kind=True)}"
            )
        check_no_url(value, f"the configuration's {key!r}")
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
    versions = config.get("recover_versions")
    if versions is not None and versions not in ("compatible", "same"):
        raise DBOSInitializationError(
            f"the configuration's 'recover_versions' must be 'compatible' or 'same', not {configured(versions)}"
        )
    level_from(config.get("log_level"))
    serializer = config.get("serializer")
    if serializer is not None:
        check_serializer(serializer, "the configuration's 'serializer'")


def _shown_name(name: str) -> str:
    return configured(name) if any(each in name for each in "@:=") else plainly(name)


def _from_environment(variable: str) -> str | None:
    value = os.environ.get(variable)
    check_no_url(value, f"the environment's {variable}")
    return value or None


def check_no_url(value: object, what: str) -> None:
    """Refuse the URL of a database where it does not belong: names are recorded, listed and logged.

    Raises:
        DBOSInitializationError: the value is one. The error does not show it.
    """
    if is_database_url(value, or_login="schema" in what):
        raise DBOSInitializationError(
            f"{what} is the URL of a database, or holds a password: it belongs into 'system_database_url'"
        )


def _check_name(name: str) -> None:
    """Refuse a program's name that cannot be recorded."""
    try:
        check_id(name, "name")
    except DBOSLimitError as error:
        raise DBOSInitializationError(f"the configuration's 'name' cannot be used: {error}") from None


def check_schema(schema: object, what: str) -> str:
    """Return a schema's name.

    Raises:
        DBOSInitializationError: it is no text, or the URL of a database.
    """
    if not isinstance(schema, str):
        raise DBOSInitializationError(f"{what} must be a string, not {configured(schema, kind=True)}")
    check_no_url(schema, what)
    return schema


def check_serializer(serializer: object, what: str) -> None:
    """Refuse an object that is not a `Serializer`.

    Raises:
        DBOSInitializationError: it is a class, or lacks methods. The error names them.
    """
    if isinstance(serializer, type):
        raise DBOSInitializationError(f"{what} must be an object, not the class {serializer.__qualname__}: call it")
    missing = [name for name in ("serialize", "deserialize", "name") if not callable(getattr(serializer, name, None))]
    if missing:
        raise DBOSInitializationError(f"{what} lacks the methods {', '.join(missing)}")


def _is(value: object, kind: type) -> bool:
    """Tell whether a value is of a type. An int counts as a float; a bool does not count as a number."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (int, float) if kind is float else kind)
