"""The settings of both programs, from environment variables: `WIDGET_STORE_` and the setting's name in capitals.

With `DBOS_SYSTEM_DATABASE_URL`, which tidings itself reads too, both programs use a PostgreSQL database.
"""

import os
from dataclasses import dataclass, fields
from pathlib import Path

import msgspec

_PREFIX = "WIDGET_STORE_"
DATABASE_URL = "DBOS_SYSTEM_DATABASE_URL"


class SettingsError(Exception):
    """A setting is missing or has a bad value; the message says which, and what to do."""


@dataclass(frozen=True, slots=True)
class Settings:
    """One field for each setting. `WIDGET_STORE_PAY_WITHIN_SECONDS=10 make demo` changes one.

    Attributes:
        shop_url, payments_url: the addresses of the two programs, for each other and for browsers.
        secret: known only to the two programs: the shop sends it to the payment service, which signs with it.
        folder: the folder of the SQLite files.
        schema: the prefix of the schemas' names in PostgreSQL.
        pay_within_seconds: how long the shop waits for a payment.
        stage_seconds: how long each stage of a dispatch takes.
        webhook_twice, webhook_late: the probability, from 0 to 1, that a webhook is delivered twice, or late.
        webhook_late_seconds: the delay of a late webhook.
        ends_with_stdin: whether a program ends when its standard input is closed. Its parent process holds the other
            end of that pipe, so the program ends with the parent, however the parent ends.
        die_after: for the tour: a step of the shop. The power fails after the step's work, but before its record.
    """

    shop_url: str = "http://127.0.0.1:8000"
    payments_url: str = "http://127.0.0.1:8001"
    secret: str = ""
    folder: str = "."
    schema: str = "widget_store"
    pay_within_seconds: float = 60
    stage_seconds: float = 2
    webhook_twice: float = 0.2
    webhook_late: float = 0.2
    webhook_late_seconds: float = 5
    ends_with_stdin: bool = False
    die_after: str = ""

    def environment(self) -> dict[str, str]:
        """Return these settings as environment variables."""
        return {_variable(field.name): str(getattr(self, field.name)) for field in fields(self)}


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a program's records: two SQLite files, or two schemas of a PostgreSQL database.

    Attributes:
        books: the file or the schema of its own tables.
        workflows: the file or the schema of tidings.
        postgres_url: the PostgreSQL database, or `None` for SQLite.
    """

    books: str
    workflows: str
    postgres_url: str | None

    @property
    def workflows_url(self) -> str:
        """The URL of the database for tidings."""
        return self.postgres_url or f"sqlite:///{self.workflows}"


def settings() -> Settings:
    """Read the settings.

    Raises:
        SettingsError: A setting that must be a number is not one, or the programs' secret is missing.
    """
    names = [field.name for field in fields(Settings)]
    given = {name: os.environ[_variable(name)] for name in names if _variable(name) in os.environ}
    try:
        read = msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise SettingsError(f"One of the {_PREFIX}... variables has a wrong value: {error}.") from None
    if not read.secret:
        raise SettingsError(
            f"{_variable('secret')} is not set. Give the shop and the payment service the same random text; "
            "`make demo` and `make tour` do."
        )
    return read


def place_of(program: str, told: Settings) -> Place:
    """Return the place of the records of a program, "shop" or "payments".

    Raises:
        SettingsError: The database's URL is not that of a PostgreSQL database, or the folder does not exist.
    """
    url = os.environ.get(DATABASE_URL)
    if url:
        if not url.startswith(("postgresql://", "postgres://")):
            raise SettingsError(
                f"{DATABASE_URL} must be the URL of a PostgreSQL database here: postgresql://user@host/database. "
                "Without it the widget store keeps SQLite files."
            )
        return Place(f"{told.schema}_{program}", f"{told.schema}_{program}_workflows", url)
    folder = Path(told.folder).resolve()
    if not folder.is_dir():
        raise SettingsError(f"There is no folder {folder}. Make it first, or name another: {_variable('folder')}.")
    return Place(str(folder / f"{program}.sqlite"), str(folder / f"{program}-workflows.sqlite"), None)


def _variable(name: str) -> str:
    return _PREFIX + name.upper()
