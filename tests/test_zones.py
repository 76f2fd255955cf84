"""A moment comes back as the same instant, whatever its time zone is, and in the same zone where that can be."""

from __future__ import annotations

import json
import sys
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from pathlib import Path
from types import ModuleType
from typing import Any
from zoneinfo import TZPATH, ZoneInfo

import pydantic
import pydantic_core
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidings.error import DBOSSerializationError
from tidings.serialization import JSONSerializer, dump, load

JSON = JSONSerializer()


def stored(value: Any) -> Any:
    return json.loads(dump(JSON, value, "the value"))


def back(value: Any) -> Any:
    return load(JSON, dump(JSON, value, "the value"), "the value")


class Fixed(tzinfo):
    """A zone of a program's own, as many libraries have one."""

    def __init__(self, offset: timedelta, name: Any = "mine") -> None:
        self.offset = offset
        self.name = name

    def utcoffset(self, _: datetime | None) -> timedelta:
        return self.offset

    def dst(self, _: datetime | None) -> None:
        return None

    def tzname(self, _: datetime | None) -> str:
        if isinstance(self.name, Exception):
            raise self.name
        return self.name  # type: ignore[no-any-return]


class Changing(tzinfo):
    """One with a summer."""

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return None if moment is None else timedelta(hours=2 if 3 < moment.month < 11 else 1)

    def dst(self, _: datetime | None) -> None:
        return None

    def tzname(self, _: datetime | None) -> str:
        return "mine"


class Failing(Fixed):
    def utcoffset(self, _: datetime | None) -> timedelta:
        raise RuntimeError("no offset")


class Named(ZoneInfo):
    """A zone of a library that builds on zoneinfo, as pendulum's."""


offsets = st.timedeltas(timedelta(hours=-23, minutes=-59), timedelta(hours=23, minutes=59))


@given(
    st.datetimes(datetime(1900, 1, 1), datetime(2200, 1, 1)),  # noqa: DTZ001
    st.one_of(
        offsets.map(Fixed),
        st.builds(Fixed, offsets, st.text(max_size=3) | st.none() | st.just(RuntimeError())),
        offsets.map(timezone),
        st.integers(-86_399, 86_399).map(pydantic_core.TzInfo),
        st.sampled_from(["Europe/Berlin", "America/New_York", "Asia/Kathmandu", "Africa/Casablanca"]).map(ZoneInfo),
        st.sampled_from(["Europe/Berlin", "Pacific/Apia"]).map(Named),
    ),
    st.sampled_from([0, 1]),
)
def test_the_instant_comes_back(moment: datetime, zone: tzinfo, fold: int) -> None:
    value = moment.replace(tzinfo=zone, fold=fold)
    again = back(value)
    assert again.utcoffset() == value.utcoffset()
    assert again.replace(tzinfo=None) == value.replace(tzinfo=None)
    assert again.fold == fold
    assert again.astimezone(UTC) == value.astimezone(UTC)


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("2026-01-01T00:00:00Z", 0),
        ("2026-01-01T00:00:00+02:00", 7200),
        ("2026-07-01T00:00:00-03:30", -12600),
        ("2026-07-01T00:00:00+00:00", 0),
    ],
)
def test_what_pydantic_parsed_comes_back(text: str, offset: int) -> None:
    value = pydantic.TypeAdapter(datetime).validate_python(text)
    again = back({"at": [value]})["at"][0]
    assert again == value
    assert (again.utcoffset(), again.tzname(), type(again.tzinfo)) == (
        timedelta(seconds=offset),
        value.tzname(),
        type(value.tzinfo),
    )


def test_without_pydantic_its_zones_are_pythons(monkeypatch: pytest.MonkeyPatch) -> None:
    text = dump(JSON, pydantic.TypeAdapter(datetime).validate_python("2026-01-01T00:00:00+02:00"), "")
    monkeypatch.delitem(sys.modules, "pydantic_core")
    again = load(JSON, text, "")
    assert (type(again.tzinfo), again.utcoffset(), again.tzname()) == (timezone, timedelta(hours=2), "+02:00")


@pytest.mark.parametrize("zone", [Fixed(timedelta(hours=1)), Fixed(timedelta(0), None), timezone.utc])  # noqa: UP017
def test_a_time_of_day_with_a_fixed_offset_comes_back(zone: tzinfo) -> None:
    value = time(12, 30, tzinfo=zone)
    assert back(value) == value
    assert back(value).utcoffset() == value.utcoffset()


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (datetime(2024, 7, 1, tzinfo=Changing()), "because its offset changes and only its class knows when"),
        (time(12, tzinfo=Changing()), "without a date it has no offset"),
        (datetime(2024, 7, 1, tzinfo=Failing(timedelta(0))), "RuntimeError: no offset"),
        (datetime(2024, 7, 1, tzinfo=Fixed(1)), "TypeError"),  # type: ignore[arg-type]
        (time(12, tzinfo=Failing(timedelta(0))), "RuntimeError: no offset"),
    ],
)
def test_a_zone_that_cannot_come_back_is_refused_where_it_is_passed(value: Any, reason: str) -> None:
    with pytest.raises(
        DBOSSerializationError, match=r"the message: \$\.at: the time zone .*cannot be stored"
    ) as caught:
        dump(JSON, {"at": value}, "the message")
    assert reason in str(caught.value)


def test_a_zone_without_a_key_comes_back_as_its_offset() -> None:
    files = [path for root in TZPATH if (path := Path(root, "Europe/Berlin")).exists()]
    with files[0].open("rb") as file:
        zone = ZoneInfo.from_file(file)
    value = datetime(2024, 7, 1, 12, tzinfo=zone)
    again = back(value)
    assert again.astimezone(UTC) == value.astimezone(UTC)
    assert (type(again.tzinfo), again.utcoffset(), again.tzname()) == (timezone, timedelta(hours=2), "CEST")


def test_where_the_rules_of_a_zone_have_changed_the_instant_counts() -> None:
    text = '{"$tidings":"datetime","v":"2024-07-01T12:00:00+05:00","zone":"Europe/Berlin"}'
    again = load(JSON, text, "")
    assert again.astimezone(UTC) == datetime(2024, 7, 1, 7, tzinfo=UTC)
    assert again.tzinfo == ZoneInfo("Europe/Berlin")


def test_a_zone_that_this_machine_does_not_know_is_named() -> None:
    text = '{"$tidings":"datetime","v":"2024-07-01T12:00:00+05:00","zone":"Europe/Atlantis"}'
    with pytest.raises(DBOSSerializationError, match="does not know the time zone 'Europe/Atlantis'; install"):
        load(JSON, text, "the message")


# --- pytz and dateutil, which need not be installed: by what this library uses of them -------------------


class LikePytz(tzinfo):
    """A zone of pytz: it has one instance for each of its offsets, and its name."""

    def __init__(self, zone: str, offset: timedelta) -> None:
        self.zone = zone
        self.offset = offset

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return None if moment is None else self.offset

    def dst(self, _: datetime | None) -> None:
        return None

    def tzname(self, _: datetime | None) -> str:
        return "pytz"

    def fromutc(self, moment: datetime) -> datetime:
        there = moment.replace(tzinfo=UTC).astimezone(ZoneInfo(self.zone))
        offset = there.utcoffset()
        assert offset is not None
        return there.replace(tzinfo=LikePytz(self.zone, offset), fold=0)


LikePytz.__module__ = "pytz.tzfile"


@pytest.fixture
def pytz(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("pytz")
    module.timezone = lambda key: LikePytz(key, timedelta(minutes=53))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pytz", module)
    return module


@pytest.mark.parametrize("month", [1, 7])
def test_a_zone_of_pytz_comes_back_with_the_offset_of_its_instant(pytz: ModuleType, month: int) -> None:
    value = LikePytz("Europe/Berlin", timedelta(0)).fromutc(datetime(2024, month, 1, 12))  # noqa: DTZ001
    again = back(value)
    assert (again.utcoffset(), again.hour) == (value.utcoffset(), value.hour)
    assert type(again.tzinfo) is LikePytz
    assert stored(value)["zone"] == "Europe/Berlin"


def test_a_zone_of_pytz_that_was_not_localized_comes_back_as_it_is(pytz: ModuleType) -> None:
    value = datetime(2024, 7, 1, 12, tzinfo=pytz.timezone("Europe/Berlin"))
    again = back(value)
    assert (again.utcoffset(), again.hour, type(again.tzinfo)) == (timedelta(minutes=53), 12, LikePytz)


def test_without_pytz_its_zones_are_zoneinfos(pytz: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = [dump(JSON, datetime(2024, 7, 1, 12, tzinfo=LikePytz("Europe/Berlin", timedelta(hours=2))), "")]
    texts.append(dump(JSON, datetime(2024, 7, 1, 12, tzinfo=pytz.timezone("Europe/Berlin")), ""))
    monkeypatch.delitem(sys.modules, "pytz")
    summer, not_localized = (load(JSON, text, "") for text in texts)
    assert summer == datetime(2024, 7, 1, 12, tzinfo=ZoneInfo("Europe/Berlin"))
    assert summer.tzinfo == not_localized.tzinfo == ZoneInfo("Europe/Berlin")
    assert not_localized.astimezone(UTC) == datetime(2024, 7, 1, 11, 7, tzinfo=UTC)
    assert "pytz" not in sys.modules


class tzlocal(tzinfo):  # noqa: N801
    """dateutil's zone of the machine, which here is where the test says."""

    hours = 2

    def utcoffset(self, _: datetime | None) -> timedelta:
        return timedelta(hours=self.hours)

    def dst(self, _: datetime | None) -> None:
        return None

    def tzname(self, _: datetime | None) -> str:
        return "here"


class tzstr(tzlocal):  # noqa: N801
    """dateutil's zone of a text."""

    def __init__(self, text: str) -> None:
        self._s = text


class tzfile(Changing):  # noqa: N801
    """dateutil's zone of a file, or of the database inside its package."""

    def __init__(self, filename: str) -> None:
        self._filename = filename


@pytest.fixture
def dateutil(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = ModuleType("dateutil.tz")
    for cls in (tzlocal, tzstr, tzfile):
        monkeypatch.setattr(cls, "__module__", "dateutil.tz.tz")
        setattr(module, cls.__name__, cls)
    module.gettz = lambda key: tzfile(f"/usr/share/zoneinfo/{key}")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dateutil.tz", module)
    return module


@pytest.mark.parametrize("file", ["/usr/share/zoneinfo/Europe/Berlin", "Europe/Berlin", "/opt/lib/zoneinfo/Etc/GMT+5"])
@pytest.mark.usefixtures("dateutil")
def test_a_zone_of_dateutil_comes_back_by_its_name(file: str) -> None:
    value = datetime(2024, 7, 1, 12, tzinfo=tzfile(file))
    again = back(value)
    assert (again, type(again.tzinfo)) == (value, tzfile)
    assert again.tzinfo._filename.endswith(file.rpartition("zoneinfo/")[2])
    assert back(datetime(2024, 7, 1, 12, tzinfo=tzfile("/etc/localtime"))).utcoffset() == value.utcoffset()


def test_other_zones_of_dateutil_come_back_where_they_mean_the_same(
    dateutil: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = [datetime(2024, 7, 1, 12, tzinfo=zone) for zone in (tzlocal(), tzstr("EST5EDT"))]
    texts = [dump(JSON, value, "") for value in values]
    assert [type(load(JSON, text, "").tzinfo) for text in texts] == [tzlocal, tzstr]
    assert load(JSON, texts[1], "").tzinfo._s == "EST5EDT"
    monkeypatch.setattr(tzlocal, "hours", 3)
    for text in texts:
        again = load(JSON, text, "")
        assert (again.utcoffset(), again.tzname(), again.hour) == (timedelta(hours=2), "here", 12)
    monkeypatch.delitem(sys.modules, "dateutil.tz")
    assert [load(JSON, text, "").utcoffset() for text in texts] == [timedelta(hours=2)] * 2


def test_a_library_is_asked_for_names_of_zones_only(pytz: ModuleType) -> None:
    def must_not_be_called(key: str) -> Any:
        raise AssertionError(key)

    pytz.timezone = must_not_be_called  # type: ignore[attr-defined]
    for key in ("../../etc/passwd", "/etc/passwd", "a/../b", "", "~/x"):
        with pytest.raises(DBOSSerializationError):
            load(JSON, json.dumps({"$tidings": "datetime", "v": "2024-07-01T12:00:00", "zone": key, "of": "pytz"}), "x")


def test_dates_without_a_zone_are_stored_as_they_were() -> None:
    assert stored(datetime(2024, 1, 2)) == {"$tidings": "datetime", "v": "2024-01-02T00:00:00"}  # noqa: DTZ001
    assert stored(date(2024, 1, 2)) == {"$tidings": "date", "v": "2024-01-02"}
    assert stored(datetime(2024, 1, 2, tzinfo=Fixed(timedelta(hours=1)))) == {
        "$tidings": "datetime",
        "v": "2024-01-02T00:00:00+01:00",
        "name": "mine",
    }
