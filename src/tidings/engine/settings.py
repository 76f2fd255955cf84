"""The settings of an engine and a host, checked and complete. `api.config` makes them from the user's configuration."""

from __future__ import annotations

from dataclasses import dataclass, field

from tidings.serialization import Serializer
from tidings.store import DatabaseURL


@dataclass(frozen=True, slots=True)
class Connection:
    """How an engine talks with its database. Users with equal connections share one engine."""

    database_url: DatabaseURL = field(repr=False)  # It holds the password.
    schema: str
    lease_ms: int = 10_000
    use_listen_notify: bool = True
    polling_interval_seconds: float = 0.2  # Used while this process does not hear wake-ups from others.
    recheck_seconds: float = 30.0  # Used while it hears them: a wake-up may be lost.
    probe_patience_seconds: float = 2.0  # How soon a durable probe must be heard.


@dataclass(frozen=True, slots=True)
class Settings:
    """How a host executes workflows."""

    name: str  # The program: it executes only its own workflows.
    connection: Connection
    application_version: str | None  # None: the hash of the registered functions.
    executor_label: str
    run_migrations: bool
    max_executor_threads: int
    serializer: Serializer
    # Whether it continues workflows of other versions that no living process has.
    takes_other_versions: bool = True
