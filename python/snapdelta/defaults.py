"""Functions for `default=`."""

from __future__ import annotations

import sys
from datetime import date, datetime, time, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

_DATE = ("year", "month", "day")
_TIME = ("hour", "minute", "second", "microsecond")
_FIELDS = {"datetime": (*_DATE, *_TIME), "date": _DATE, "time": _TIME}


def plain_datetimes(value: Any) -> date | time | None:
    """Convert a datetime, date or time of another library, or in its zone, to the standard library's.

    For `default=`. It takes pandas.Timestamp, pendulum's DateTime, Date and Time, freezegun's fakes, and any
    other subclass of datetime, date and time. Year to microsecond do not change. It keeps a `timezone`, a
    `ZoneInfo` with a key, and the fold. Any other zone becomes the `timezone`
    of its offset at that moment. pandas.NaT becomes None.

    Raises TypeError for anything else, and ValueError for a Timestamp with nanoseconds, which a datetime
    cannot hold. A call of snapdelta turns both into an UnsupportedTypeError that names the path.
    """
    pandas = sys.modules.get("pandas")
    if pandas is not None and value is pandas.NaT:
        return None
    base = _base(type(value))
    if getattr(value, "nanosecond", 0):
        raise ValueError(f"{value} has nanoseconds; round it, for example with floor('us')")
    plain: date | time = base(*(getattr(value, name) for name in _FIELDS[base.__name__]))
    if isinstance(plain, datetime | time):
        zone = _plain_zone(value)
        # the offset of a moment says what the fold says
        plain = plain.replace(tzinfo=zone, fold=value.fold if zone is value.tzinfo else 0)
    return plain


def _base(cls: type) -> Any:
    """The class of the standard library's that this one derives from."""
    # by name: freezegun puts its own classes in the place of `datetime.datetime` and `datetime.date`
    for base in cls.__mro__:
        if base.__module__ == "datetime" and base.__name__ in _FIELDS:
            return base
    raise TypeError(f"{cls.__name__} is not a datetime, date or time")


def _plain_zone(moment: Any) -> tzinfo | None:
    zone: tzinfo | None = moment.tzinfo
    if zone is None or type(zone) is timezone or (type(zone) is ZoneInfo and zone.key is not None):
        return zone
    offset = moment.utcoffset()
    if offset is None:
        raise TypeError(f"a {type(moment).__name__} in {zone} has no offset")
    return timezone(offset)
