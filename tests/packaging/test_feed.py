"""The simulated feed: repeatable, consistent in itself, and about as large and as busy as it says."""

from __future__ import annotations

import json
from itertools import islice
from typing import Any

import pytest

from snapdelta import SnapdeltaError
from snapdelta.errors import FeedSettingError
from snapdelta.testing.feed import Feed, Kind, Snapshot

KINDS: tuple[Kind, ...] = ("nested", "enriched", "ranked")

HOUR_MS = 3_600_000
# Midnight in New York at the start of the feed's first day.
MIDNIGHT_MS = 1_772_636_400_000 - 10 * HOUR_MS


def leaves(record: dict[str, Any], prefix: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    found: dict[tuple[str, ...], Any] = {}
    for key, value in record.items():
        if isinstance(value, dict):
            found |= leaves(value, (*prefix, key))
        else:
            found[(*prefix, key)] = value
    return found


def changed_leaves(before: Snapshot, after: Snapshot) -> dict[str, int]:
    """How many leaves of each symbol differ; a new symbol counts with all of them."""
    changed = {}
    for symbol, record in after.items():
        old = leaves(before.get(symbol, {}))
        count = sum(1 for path, value in leaves(record).items() if path not in old or old[path] != value)
        if count:
            changed[symbol] = count
    return changed


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_frames(kind: Kind) -> None:
    def text(seed: int) -> list[str]:
        return [json.dumps(frame) for frame in islice(Feed(kind, 200, seed), 5)]

    assert text(1) == text(1)
    assert text(1) != text(2)


@pytest.mark.parametrize(
    ("kind", "leaf_count", "megabytes", "symbol_share", "leaf_share"),
    [
        ("nested", 36, (5.5, 6.5), (0.17, 0.25), (0.07, 0.09)),
        ("enriched", 49, (9.0, 10.5), (0.31, 0.39), (0.13, 0.19)),
        ("ranked", 40, (9.0, 12.0), (0.31, 0.39), (0.11, 0.17)),
    ],
)
def test_the_full_market_is_as_large_and_as_busy_as_documented(
    kind: Kind,
    leaf_count: int,
    megabytes: tuple[float, float],
    symbol_share: tuple[float, float],
    leaf_share: tuple[float, float],
) -> None:
    _, before, after = islice(Feed(kind), 3)
    assert len(after) == pytest.approx(11_905, abs=5)
    assert {len(leaves(record)) for record in after.values()} == {leaf_count}
    size = len(json.dumps(after, separators=(",", ":"))) / 1e6
    assert megabytes[0] < size < megabytes[1]
    changed = changed_leaves(before, after)
    assert symbol_share[0] < len(changed) / len(after) < symbol_share[1]
    assert leaf_share[0] < sum(changed.values()) / (leaf_count * len(after)) < leaf_share[1]


def test_frames_are_plain_json() -> None:
    for kind in KINDS:
        for frame in islice(Feed(kind, 100), 3):
            assert json.dumps(json.loads(json.dumps(frame))) == json.dumps(frame)


def check_nested(record: dict[str, Any]) -> None:
    day, minute, trade, quote, prev = (record[k] for k in ("day", "min", "lastTrade", "lastQuote", "prevDay"))
    assert record["updated"] == max(trade["t"], quote["t"])
    assert minute["av"] == day["v"]
    assert quote["p"] < quote["P"]
    assert prev["l"] <= min(prev["o"], prev["c"]) <= max(prev["o"], prev["c"]) <= prev["h"]
    assert type(trade["i"]) is str
    assert trade["i"].isdecimal()
    if not day["v"]:
        assert record["todaysChange"] == 0.0
        assert set(day.values()) == {0}
        return
    assert day["c"] == minute["c"] == trade["p"]
    assert day["l"] <= min(day["o"], day["c"], day["vw"]) <= max(day["o"], day["c"], day["vw"]) <= day["h"]
    assert day["l"] <= minute["l"] <= min(minute["o"], minute["c"], minute["vw"])
    assert max(minute["o"], minute["c"], minute["vw"]) <= minute["h"] <= day["h"]
    assert minute["v"] <= day["v"]
    assert minute["t"] == trade["t"] // 60_000_000_000 * 60_000
    assert record["todaysChange"] == trade["p"] - prev["c"]
    assert record["todaysChangePerc"] == record["todaysChange"] / prev["c"] * 100


def check_enriched(record: dict[str, Any]) -> None:
    day, quote, price = record["day"], record["lastQuote"], record["lastTrade"]["p"]
    assert record["mid"] == (quote["p"] + quote["P"]) / 2
    assert record["spread"] == quote["P"] - quote["p"]
    assert record["spread_pct"] == record["spread"] / record["mid"] * 100
    assert record["above_vwap"] is (price > day["vw"])
    assert record["score"] == abs(record["todaysChangePerc"]) * record["rvol"]
    for name, level in (("high", "h"), ("low", "l"), ("vwap", "vw"), ("open", "o")):
        distance = (price - day[level]) / day[level] * 100 if day["v"] else None
        assert record[f"from_{name}"] == distance
    if day["v"]:
        average = day["v"] / record["rvol"]
        assert average == pytest.approx(round(average), rel=1e-12)


def test_the_fields_of_a_record_agree() -> None:
    for frame in islice(Feed("enriched", 1_500, seed=3, interval=20.0), 12):
        for record in frame.values():
            check_nested(record)
            check_enriched(record)


def test_minutes_roll_over() -> None:
    feed = Feed("nested", 50, seed=1, interval=20.0)
    before = next(feed)
    resets = 0
    for after in islice(feed, 12):
        for symbol, record in after.items():
            old, new = before[symbol]["min"], record["min"]
            assert new["av"] >= old["av"]
            if new["t"] > old["t"]:
                resets += new["n"] < old["n"]
            else:
                assert new["t"] == old["t"]
                assert new["v"] >= old["v"]
                assert new["n"] >= old["n"]
        before = after
    assert resets > 50


def test_activity_is_skewed() -> None:
    trades = dict.fromkeys(next(iter(Feed("ranked", 1_000))), 0)
    for frame in islice(Feed("ranked", 1_000), 1, 20):
        for symbol, record in frame.items():
            trades[symbol] = record["trades"]
    busiest = sorted(trades.values(), reverse=True)
    assert sum(busiest[:100]) > 0.5 * sum(busiest)
    assert busiest[-1] < 10


def test_symbols_come_and_go() -> None:
    feed = Feed("enriched", 1_200, interval=30.0)
    before = set(next(feed))
    came = went = 0
    seen = set(before)
    returned = 0
    for frame in islice(feed, 60):
        new = frame.keys() - before
        came += len(new)
        went += len(before - frame.keys())
        returned += len(new & seen)
        before = set(frame)
        seen |= before
    # Half an hour at three a minute each way.
    assert 40 < came < 160
    assert 40 < went < 160
    assert 0 < returned < came


def test_the_ranking_moves() -> None:
    orders = []
    for frame in islice(Feed("ranked", 500), 4):
        scores = [record["score"] for record in frame.values()]
        assert scores == sorted(scores, reverse=True)
        assert all(symbol == record["symbol"] for symbol, record in frame.items())
        orders.append(list(frame))
    assert orders[1] != orders[2] != orders[3]


@pytest.mark.parametrize("kind", KINDS)
def test_equal_values_are_other_objects_unless_sharing_is_asked_for(kind: Kind) -> None:
    def shared_leaves(share: bool) -> int:
        before, after = islice(Feed(kind, 300, share_unchanged=share), 2)
        count = 0
        for symbol, record in after.items():
            old, new = leaves(before[symbol]), leaves(record)
            assert record is not before[symbol]
            for path, value in new.items():
                assert all(a is b for a, b in zip(path, _same_path(path, old), strict=True))
                # Python itself shares small ints, single letters, None and the like.
                if type(value) is float or (type(value) is int and value > 256):
                    count += value is old[path]
        return count

    assert shared_leaves(False) == 0
    assert shared_leaves(True) > 2_000


def _same_path(path: tuple[str, ...], record: dict[tuple[str, ...], Any]) -> tuple[str, ...]:
    return next(other for other in record if other == path)


def test_sharing_does_not_change_the_values() -> None:
    apart = [json.dumps(frame) for frame in islice(Feed("enriched", 300), 4)]
    assert [json.dumps(frame) for frame in islice(Feed("enriched", 300, share_unchanged=True), 4)] == apart


@pytest.mark.parametrize("share", [False, True])
def test_a_changed_frame_does_not_change_the_next(share: bool) -> None:
    untouched = [json.dumps(frame) for frame in islice(Feed("nested", 50, share_unchanged=share), 3)]
    texts = []
    for frame in islice(Feed("nested", 50, share_unchanged=share), 3):
        texts.append(json.dumps(frame))
        for record in frame.values():
            record["day"].clear()
            record["extra"] = 1
        frame.popitem()
    assert texts == untouched


def test_sessions_and_days_follow_the_clock() -> None:
    feed = Feed("enriched", 60, seed=2, interval=1_800.0, start_ms=MIDNIGHT_MS + 9 * HOUR_MS)
    frames = dict(zip((9 + half / 2 for half in range(48)), feed, strict=False))
    for hour, frame in frames.items():
        of_day = hour % 24
        session = "pre" if of_day < 9.5 else "regular" if of_day < 16 else "post"
        expected = session if 4 <= of_day < 20 else "closed"
        assert {record["session"] for record in frame.values()} == {expected}
    # Nothing trades at night; the new day begins with the pre-market and makes the old one the previous day.
    evening, night, morning = frames[20.0], frames[27.5], frames[28.0]
    still_there = evening.keys() & night.keys() & morning.keys()
    assert len(still_there) > 40
    for symbol in still_there:
        assert night[symbol]["lastTrade"] == evening[symbol]["lastTrade"]
        assert morning[symbol]["day"]["v"] < max(1, night[symbol]["day"]["v"])
        if night[symbol]["day"]["v"]:
            assert morning[symbol]["prevDay"] == night[symbol]["day"]


def test_the_clock_moves_by_the_interval() -> None:
    feed = Feed("nested", 10, interval=0.25)
    times = []
    for _ in islice(feed, 3):
        times.append(feed.time_ms)
    assert [t - times[0] for t in times] == [0, 250, 500]


def test_an_empty_market_is_a_market() -> None:
    assert next(Feed("ranked", 0)) == {}


@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"kind": "flat"}, "kind: 'flat' is not one of nested, enriched, ranked"),
        ({"symbols": -1}, "symbols must be at least 0, not -1"),
        ({"interval": 0.0}, "interval must be positive, not 0.0 s"),
        ({"interval": float("nan")}, "interval must be positive, not nan s"),
        ({"pace": -0.5}, "pace must be at least 0, not -0.5"),
    ],
)
def test_a_wrong_setting_is_named(arguments: dict[str, Any], names: str) -> None:
    with pytest.raises(FeedSettingError, match="^" + names) as caught:
        Feed(**arguments)
    assert isinstance(caught.value, SnapdeltaError)
