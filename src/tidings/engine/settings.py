"""What an engine and a host are told once, checked and complete. Made from the user's configuration by `api.config`."""

from __future__ import annotations

from dataclasses import dataclass

from tidings.serialization import Serializer


@dataclass(frozen=True, slots=True)
class Connection:
    """How an engine talks with its database. Those who want the same share one engine."""

    database_url: str
    schema: str
    lease_ms: int = 10_000
    use_listen_notify: bool = True
    polling_interval_seconds: float = 0.2  # where wake-ups from other processes are not heard
    recheck_seconds: float = 30.0  # where they are: any may be lost
    probe_patience_seconds: float = 2.0  # in which a probe is heard, once it is durable


@dataclass(frozen=True, slots=True)
class Settings:
    """How a host executes workflows."""

    name: str  # of the program: it executes its own workflows and no other program's
    connection: Connection
    application_version: str | None  # None: the hash of the registered functions
    executor_label: str
    run_migrations: bool
    max_executor_threads: int
    serializer: Serializer
