"""`default=`: the one that ships, and errors that are raised in one."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from typing import Any
from zoneinfo import ZoneInfo

import freezegun
import pandas as pd  # type: ignore[import-untyped]
import pendulum
import pytest
from pydantic import BaseModel, SecretStr

import snapdelta
from snapdelta import SnapshotManager, SnapshotReader
from snapdelta.defaults import plain_datetimes
from support.assert_exact import assert_same
from support.roundtrip import full_trip
from support.servers import Server

BERLIN = ZoneInfo("Europe/Berlin")
SUMMER = timezone(timedelta(hours=2))


class Zone(tzinfo):
    def __init__(self, offset: timedelta | None) -> None:
        self.offset = offset

    def __repr__(self) -> str:  # the name of a test, alike in every process
        return f"Zone({self.offset})"

    def utcoffset(self, moment: datetime | None) -> timedelta | None:
        return self.offset

    def dst(self, moment: datetime | None) -> timedelta | None:
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        return None


with freezegun.freeze_time("2024-05-05 06:07:08"):
    FAKES = [datetime.now(), datetime.now(UTC), date.today()]

VALUES: list[tuple[Any, Any]] = [
    (pd.Timestamp("2025-04-07 01:02:03.000004"), datetime(2025, 4, 7, 1, 2, 3, 4)),
    (pd.Timestamp("2025-04-07 01:02:03", tz="UTC"), datetime(2025, 4, 7, 1, 2, 3, tzinfo=UTC)),
    (pd.Timestamp("2025-07-07", tz="Europe/Berlin"), datetime(2025, 7, 7, tzinfo=BERLIN)),
    (pd.NaT, None),
    (pendulum.datetime(2024, 5, 5, tz="UTC"), datetime(2024, 5, 5, tzinfo=UTC)),
    (pendulum.datetime(2024, 5, 5, 1, tz="Europe/Berlin"), datetime(2024, 5, 5, 1, tzinfo=SUMMER)),
    (pendulum.datetime(2024, 5, 5, tz=2), datetime(2024, 5, 5, tzinfo=SUMMER)),
    # pendulum's fold is 1 unless told otherwise
    (pendulum.naive(2024, 5, 5, 6), datetime(2024, 5, 5, 6, fold=1)),
    (pendulum.date(2024, 5, 5), date(2024, 5, 5)),
    (pendulum.time(1, 2, 3), time(1, 2, 3)),
    (FAKES[0], datetime(2024, 5, 5, 6, 7, 8)),
    (FAKES[1], datetime(2024, 5, 5, 6, 7, 8, tzinfo=UTC)),
    (FAKES[2], date(2024, 5, 5)),
    (
        datetime(2024, 5, 5, tzinfo=Zone(timedelta(hours=2)), fold=1),
        datetime(2024, 5, 5, tzinfo=SUMMER),
    ),
    (time(1, tzinfo=Zone(timedelta(0))), time(1, tzinfo=UTC)),
]


@pytest.mark.parametrize(("value", "want"), VALUES, ids=[repr(value) for value, _ in VALUES])
def test_datetimes_of_other_libraries(value: Any, want: Any) -> None:
    with pytest.raises(snapdelta.UnsupportedTypeError, match=r"^A\.t: "):
        snapdelta.dumps({"A": {"t": value}})
    assert_same(plain_datetimes(value), want)
    snapshot = {"A": {"t": value, "l": [value]}, "B": value}
    got = snapdelta.loads(full_trip(snapshot, plain_datetimes))
    assert_same(got, {"A": {"t": want, "l": [want]}, "B": want})
    with freezegun.freeze_time("2024-05-05"):
        assert_same(plain_datetimes(value), want)
        assert_same(snapdelta.loads(snapdelta.dumps(snapshot, default=plain_datetimes)), got)


def test_an_hour_that_comes_twice() -> None:
    moments = [
        pd.Timestamp(datetime(2025, 10, 26, 2, 30, fold=fold), tz="Europe/Berlin", fold=fold)
        for fold in (0, 1)
    ]
    got = snapdelta.loads(snapdelta.dumps({"A": moments}, default=plain_datetimes))["A"]
    assert [moment.fold for moment in got] == [0, 1]
    assert [moment.utcoffset() for moment in got] == [timedelta(hours=2), timedelta(hours=1)]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (pd.Timestamp(1), "ValueError: 1970-01-01 00:00:00.000000001 has nanoseconds"),
        ({1}, "TypeError: set is not a datetime, date or time"),
        (pd.Timedelta(1), "TypeError: Timedelta is not a datetime, date or time"),
        (datetime(2024, 5, 5, tzinfo=Zone(None)), "TypeError: a datetime in .* has no offset"),
    ],
    ids=["nanoseconds", "set", "Timedelta", "no offset"],
)
def test_what_cannot_be_a_datetime_is_refused_with_its_path(value: Any, says: str) -> None:
    with pytest.raises(snapdelta.UnsupportedTypeError, match=rf"^A\.t\[0]: .*, and default= raised: {says}"):
        snapdelta.dumps({"A": {"t": [value]}}, default=plain_datetimes)


class Seed(BaseModel):
    symbol: str
    timestamp: datetime
    secret: SecretStr = SecretStr("x")


@pytest.mark.parametrize("default", [None, plain_datetimes])
async def test_a_manager_goes_on_after_a_refused_snapshot(server: Server, default: Any) -> None:
    """The models' own `model_dump()`, with a datetime parsed from `...Z`, needs no `default=`."""
    ticker = Seed.model_validate({"symbol": "AAPL", "timestamp": "2026-01-02T03:04:05Z"})
    good = {"AAPL": ticker.model_dump(exclude={"secret"})}
    client = server.client()
    name = f"refused-{default is None}"
    async with SnapshotManager(redis_client=client, default=default) as manager:
        assert (await manager.save_snapshot(good, name))["type"] == "full"
        refused: list[tuple[dict[Any, Any], str]] = [
            ({**good, "MSFT": ticker.model_dump()}, r"MSFT\.secret"),
            ({f"S{n}": {"m": {"tags": [1, {2}]}} for n in range(3)}, r"S0\.m\.tags\[1]"),
            ({**good, 7: {}}, "7"),
        ]
        for bad, path in refused:
            with pytest.raises(snapdelta.UnsupportedTypeError, match=rf"^{path}: ") as caught:
                await manager.save_snapshot(bad, name)
            assert isinstance(caught.value, snapdelta.SnapdeltaError)
        good["MSFT"] = {"price": 1.5}
        assert (await manager.save_snapshot(good, name))["type"] == "delta"
        latest = await SnapshotReader(client, name).latest()
        want = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
        assert latest is not None
        assert_same(latest.snapshot, {"AAPL": {"symbol": "AAPL", "timestamp": want}, "MSFT": {"price": 1.5}})
    await client.aclose()
