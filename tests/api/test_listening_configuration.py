"""The configuration of listening: `use_listen_notify` and how often to look without it."""

from datetime import timedelta
from typing import Any

import pytest

from tidings.api.config import settings_from
from tidings.error import DBOSInitializationError


def test_by_default_it_listens() -> None:
    settings = settings_from({"name": "test"}).connection
    assert settings.use_listen_notify
    assert settings.polling_interval_seconds == 0.2


def test_both_can_be_configured() -> None:
    settings = settings_from(
        {"name": "test", "use_listen_notify": False, "notification_listener_polling_interval_sec": 2}
    ).connection
    assert not settings.use_listen_notify
    assert settings.polling_interval_seconds == 2


def test_the_interval_may_be_a_timedelta() -> None:
    settings = settings_from(
        {"name": "test", "notification_listener_polling_interval_sec": timedelta(milliseconds=500)}
    ).connection
    assert settings.polling_interval_seconds == 0.5


@pytest.mark.parametrize(
    ("key", "value", "complaint"),
    [
        ("use_listen_notify", 1, "must be of type bool, not int"),
        ("notification_listener_polling_interval_sec", "1", "must be of type float or timedelta, not str"),
        ("notification_listener_polling_interval_sec", True, "must be of type float or timedelta, not True"),
        ("notification_listener_polling_interval_sec", 0, "more than 0"),
        ("notification_listener_polling_interval_sec", -1.5, "more than 0"),
        ("notification_listener_polling_interval_sec", float("nan"), "more than 0"),
        ("notification_listener_polling_interval_sec", float("inf"), "at most 86400"),
        ("notification_listener_polling_interval_sec", timedelta(0), "more than 0"),
        ("notification_listener_polling_interval_sec", timedelta(days=2), "at most 86400"),
        ("use_listen_notif", False, "did you mean 'use_listen_notify'"),
    ],
)
def test_a_bad_value_is_refused(key: str, value: Any, complaint: str) -> None:
    with pytest.raises(DBOSInitializationError, match=complaint):
        settings_from({"name": "test", key: value})  # type: ignore[misc]
