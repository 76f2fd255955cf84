"""Time zones: what is stored of the zone of a `datetime` or `time`, and how it is rebuilt.

The instant is always kept, because the stored text has the offset. The zone is rebuilt as follows:

- `datetime.timezone`: the same. `zoneinfo`: the same, by its key.
- pytz, dateutil and pydantic: the same, if the reading program has imported the library. Otherwise a zone with a key
  becomes one of `zoneinfo`, and a zone with a fixed offset a `datetime.timezone`.
- Any other class: a `datetime.timezone`, if the offset never changes. A zone whose offset changes is refused, because
  a replay could compute with another offset than the first time.

A zone of zoneinfo or dateutil without a key becomes the offset that it had at that instant. If the rules of a zone
have changed since the value was stored, the instant is kept and the local time changes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from datetime import datetime, time, timedelta, timezone, tzinfo
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tidings.serialization.fault import Fault, shown
from tidings.serialization.names import member_of

Moment = datetime | time

_KEY: Final = re.compile(r"\w[\w+-]*(/\w[\w+-]*)*", re.ASCII)
_PYTZ: Final = "pytz"
_DATEUTIL: Final = "dateutil"
_PYDANTIC: Final = "pydantic"
_LIBRARIES: Final = {"pytz": _PYTZ, "dateutil": _DATEUTIL, "pydantic_core": _PYDANTIC}
_OTHER_YEARS: Final = (1950, 1975, 2000, 2010, 2030)  # in which an offset is checked, beside the value's year


def describe(value: Moment) -> dict[str, Any]:
    """Return what is stored of a moment's zone, in addition to the text of the moment.

    Raises:
        Fault: the zone cannot be stored.
    """
    zone = value.tzinfo
    if zone is None:
        return {}
    if type(zone) is timezone:
        offset, *names = zone.__getinitargs__()  # type: ignore[attr-defined]  # the method that pickle uses
        return _fixed(offset, names[0] if names else None)
    if type(zone) is ZoneInfo and zone.key is not None:
        return {"zone": zone.key}
    try:
        return _describe_foreign(value, zone)
    except Fault:
        raise
    except Exception as error:
        raise Fault(f"the time zone {shown(zone)} cannot be stored: {type(error).__name__}: {error}") from None


def _describe_foreign(value: Moment, zone: tzinfo) -> dict[str, Any]:
    library = _LIBRARIES.get(type(zone).__module__.partition(".")[0])
    key = _key_of(zone, library)
    if key is not None:
        described = {"zone": key} if library is None else {"zone": key, "of": library}
        if _comes_back(value, described):
            return described
    offset = value.utcoffset()
    if offset is None:
        raise Fault(f"the time zone {shown(zone)} cannot be stored: without a date it has no offset")
    is_known = library is not None or ZoneInfo in type(zone).__mro__
    if not is_known and not _is_fixed(value, zone, offset):
        raise Fault(
            f"the time zone {shown(zone)} cannot be stored, because its offset changes and only its class knows when; "
            "use zoneinfo.ZoneInfo(key), or datetime.timezone"
        )
    fixed = _fixed(offset, _name_of(value))
    if library is not None:
        exact = fixed | {"of": library} | ({"rule": rule} if (rule := _rule_of(zone, library)) is not None else {})
        if _comes_back(value, exact, type(zone)):
            return exact
    return fixed


def _key_of(zone: Any, library: str | None) -> str | None:
    """Return the name of a zone in the time zone database, if it has one."""
    if library == _PYTZ:
        key = zone.zone
    elif library == _DATEUTIL:
        file = getattr(zone, "_filename", None)
        key = file.rpartition("zoneinfo/")[2] if isinstance(file, str) else None
    else:
        key = zone.key if ZoneInfo in type(zone).__mro__ else None
    return key if isinstance(key, str) and _KEY.fullmatch(key) else None


def _rule_of(zone: Any, library: str) -> str | None:
    """Return the rule of a dateutil zone: a text as in the variable TZ, or "" for the local zone."""
    name = type(zone).__name__ if library == _DATEUTIL else ""
    rule = getattr(zone, "_s", None) if name == "tzstr" else "" if name == "tzlocal" else None
    return rule if isinstance(rule, str) and rule.isascii() else None


def _comes_back(value: Moment, described: dict[str, Any], kind: type | None = None) -> bool:
    """Tell whether `place` rebuilds the same instant from this, in a zone of class `kind`."""
    try:
        again = place(_moment(value), described, value.fold)
    except Exception:
        return False
    is_kind = kind is None or type(again.tzinfo) is kind
    return (
        is_kind and again.utcoffset() == value.utcoffset() and again.replace(tzinfo=None) == value.replace(tzinfo=None)
    )


def _moment(value: Moment) -> Moment:
    return type(value).fromisoformat(value.isoformat())


def _is_fixed(value: Moment, zone: tzinfo, offset: timedelta) -> bool:
    """Tell whether the offset of a zone is the same at all sampled times."""
    return all(zone.utcoffset(each) == offset for each in _other_times(value))


def _other_times(value: Moment) -> Iterator[datetime]:
    if isinstance(value, datetime):
        for year in (value.year, *_OTHER_YEARS):
            for month in range(1, 13):
                yield value.replace(year=year, month=month, day=1)


def _name_of(value: Moment) -> str | None:
    try:
        name: object = value.tzname()
    except Exception:
        return None
    return name if isinstance(name, str) and name.isascii() else None


def _fixed(offset: timedelta, name: str | None) -> dict[str, Any]:
    described: dict[str, Any] = {}
    if offset.microseconds:  # `fromisoformat` drops them from an offset of less than a second
        described["offset"] = [offset.days, offset.seconds, offset.microseconds]
    if name is not None and name != timezone(offset).tzname(None):
        described["name"] = name
    return described


# --- back ------------------------------------------------------------------------------------------------


def place(value: Moment, described: dict[str, Any], fold: int = 0) -> Moment:
    """Return a moment, which has no zone or only an offset, in the zone that `describe` returned.

    Raises:
        Fault: this machine does not know the zone.
    """
    library = described.get("of")
    if "zone" in described:
        return _in_zone(value, described["zone"], library, fold)
    if library is not None or "offset" in described or "name" in described:
        offset = timedelta(*described["offset"]) if "offset" in described else value.utcoffset()
        zone = _ruled_zone(value.replace(fold=fold), described["rule"]) if "rule" in described else None
        value = value.replace(tzinfo=zone or _fixed_zone(offset, described.get("name"), library))  # type: ignore[arg-type]
    return value.replace(fold=fold)


def _ruled_zone(value: Moment, rule: str) -> tzinfo | None:
    """Return the dateutil zone of a rule; `None` if it cannot be made or has another offset at that moment."""
    make = member_of("dateutil.tz", "tzstr" if rule else "tzlocal")
    try:
        zone: tzinfo | None = None if make is None else make(rule) if rule else make()
    except Exception:
        return None
    return zone if zone is not None and value.replace(tzinfo=zone).utcoffset() == value.utcoffset() else None


def _fixed_zone(offset: timedelta, name: str | None, library: str | None) -> tzinfo:
    make: Callable[[timedelta, str | None], tzinfo | None] | None = _FIXED.get(library) if library else None
    made = None if make is None else make(offset, name)
    if made is not None:
        return made
    return timezone(offset) if name is None else timezone(offset, name)


def _fixed_of_pytz(offset: timedelta, _: str | None) -> tzinfo | None:
    make, minutes = member_of("pytz", "FixedOffset"), offset / timedelta(minutes=1)
    return make(int(minutes)) if make is not None and minutes.is_integer() else None


def _fixed_of_dateutil(offset: timedelta, name: str | None) -> tzinfo | None:
    utc, make = member_of("dateutil.tz", "tzutc"), member_of("dateutil.tz", "tzoffset")
    if utc is None or make is None:
        return None
    made: tzinfo = utc() if not offset and name is None else make(name, offset)
    return made


def _fixed_of_pydantic(offset: timedelta, _: str | None) -> tzinfo | None:
    make = member_of("pydantic_core", "TzInfo")
    return None if make is None else make(offset.total_seconds())


_FIXED: Final = {_PYTZ: _fixed_of_pytz, _DATEUTIL: _fixed_of_dateutil, _PYDANTIC: _fixed_of_pydantic}


def _in_zone(value: Moment, key: str, library: str | None, fold: int) -> Moment:
    zone: tzinfo | None = None
    if library == _PYTZ:
        zone = _of_library(member_of("pytz", "timezone"), key)
    elif library == _DATEUTIL:
        zone = _of_library(member_of("dateutil.tz", "gettz"), key)
    if zone is None:
        zone = _zone_info(key)
    placed = value.replace(tzinfo=zone, fold=fold)
    offset = value.utcoffset()
    if offset is None or not isinstance(value, datetime) or placed.utcoffset() == offset:
        return placed
    return value.astimezone(zone)  # pytz has one zone per offset; or the rules have changed.


def _of_library(find: Any, key: str) -> tzinfo | None:
    """Return a library's own zone for a key. The library might read any file, so other names are refused."""
    if find is None or not _KEY.fullmatch(key):
        return None
    try:
        zone: object = find(key)
    except Exception:
        return None
    return zone if isinstance(zone, tzinfo) else None


def _zone_info(key: str) -> ZoneInfo:
    try:
        return ZoneInfo(key)  # It reads only files of the time zone database.
    except ZoneInfoNotFoundError:
        raise Fault(
            f"this machine does not know the time zone {shown(key)}; install its time zone database, or the package "
            "tzdata"
        ) from None
