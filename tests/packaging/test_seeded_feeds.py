"""The feeds beside the market: repeatable, as busy as documented, consistent, and carried exactly."""

from __future__ import annotations

import json
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from itertools import islice, pairwise
from typing import Any

import pytest

from snapdelta.errors import FeedSettingError
from snapdelta.testing.feed import Aircraft, ExchangeTickers, OrderBooks, Snapshot, StockList
from snapdelta.testing.feed._base import SeededFeed, decimal_text, quotient
from support.roundtrip import Stream

Make = Callable[..., SeededFeed]

FEEDS: dict[str, Make] = {
    "tickers": ExchangeTickers,
    "book_lists": partial(OrderBooks, "lists"),
    "book_dicts": partial(OrderBooks, "dicts"),
    "stock_list": StockList,
    "aircraft": Aircraft,
}


@pytest.mark.parametrize("make", FEEDS.values(), ids=FEEDS)
def test_a_seed_gives_the_same_frames(make: Make) -> None:
    def text(seed: int) -> list[str]:
        return [json.dumps(frame) for frame in islice(make(40, seed), 6)]

    assert text(1) == text(1)
    assert text(1) != text(2)


@pytest.mark.parametrize(
    ("name", "symbols", "row_share", "field_share"),
    [
        ("tickers", 2_000, (0.42, 0.60), (0.15, 0.25)),
        ("book_lists", 100, (0.55, 0.85), (0.35, 0.60)),
        ("book_dicts", 100, (0.55, 0.85), (0.35, 0.60)),
        ("stock_list", 4_000, (0.93, 0.99), (0.38, 0.48)),
        ("aircraft", 1_500, (0.80, 0.90), (0.20, 0.30)),
    ],
)
def test_the_defaults_are_as_busy_as_documented(
    name: str, symbols: int, row_share: tuple[float, float], field_share: tuple[float, float]
) -> None:
    frames = islice(FEEDS[name](), 5)
    rows, fields = zip(*(shares(before, after) for before, after in pairwise(frames)), strict=True)
    assert len(next(FEEDS[name]())) == symbols
    assert row_share[0] < sum(rows) / len(rows) < row_share[1]
    assert field_share[0] < sum(fields) / len(fields) < field_share[1]


def shares(before: Snapshot, after: Snapshot) -> tuple[float, float]:
    """The share of the symbols that changed, and of their fields; new symbols count as changed."""
    rows = fields = 0
    for symbol, record in after.items():
        old = before.get(symbol, {})
        changed = sum(1 for key, value in record.items() if key not in old or old[key] != value)
        rows += changed > 0
        fields += changed
    return rows / len(after), fields / sum(map(len, after.values()))


@pytest.mark.parametrize("make", FEEDS.values(), ids=FEEDS)
def test_every_frame_is_carried_exactly(make: Make) -> None:
    stream = Stream()
    for frame in islice(make(25, seed=4), 6):
        stream.step(frame)


@pytest.mark.parametrize("make", FEEDS.values(), ids=FEEDS)
def test_a_changed_frame_does_not_change_the_next(make: Make) -> None:
    untouched = [json.dumps(frame) for frame in islice(make(10), 3)]
    texts = []
    for frame in islice(make(10), 3):
        texts.append(json.dumps(frame))
        for record in frame.values():
            for value in record.values():
                if isinstance(value, dict | list):
                    value.clear()
            record.clear()
        frame.clear()
    assert texts == untouched


@pytest.mark.parametrize("make", FEEDS.values(), ids=FEEDS)
def test_an_empty_feed_is_a_feed(make: Make) -> None:
    assert list(islice(make(0), 2)) == [{}, {}]


@pytest.mark.parametrize("make", FEEDS.values(), ids=FEEDS)
@pytest.mark.parametrize(
    ("arguments", "names"),
    [
        ({"symbols": -1}, "symbols must be at least 0, not -1"),
        ({"interval": 0.0}, "interval must be positive, not 0.0 s"),
    ],
)
def test_a_wrong_setting_is_named(make: Make, arguments: dict[str, Any], names: str) -> None:
    with pytest.raises(FeedSettingError, match="^" + names):
        make(**arguments)


def test_a_wrong_setting_of_a_book_is_named() -> None:
    with pytest.raises(FeedSettingError, match=r"^form: 'tuples' is not one of lists, dicts"):
        OrderBooks("tuples")  # type: ignore[arg-type]
    with pytest.raises(FeedSettingError, match=r"^levels must be at least 1, not 0"):
        OrderBooks(levels=0)


def test_the_clock_moves_by_the_interval() -> None:
    feed = StockList(5)
    times = [feed.time_ms for _ in islice(feed, 3)]
    assert [time - times[0] for time in times] == [0, 86_400_000, 172_800_000]


def test_the_fields_of_a_ticker_agree() -> None:
    halted = negative = 0
    for frame in islice(ExchangeTickers(300, seed=2, interval=60.0), 12):
        for symbol, ticker in frame.items():
            number = {
                key: Decimal(value) for key, value in ticker.items() if key.endswith(("Price", "Change"))
            }
            assert ticker["symbol"] == symbol
            assert all(len(ticker[key].partition(".")[2]) == 8 for key in number)
            assert ticker["closeTime"] - ticker["openTime"] == 86_400_000
            if ticker["count"] == 0:
                halted += 1
                assert ticker["firstId"] == -1
                continue
            assert ticker["count"] == ticker["lastId"] - ticker["firstId"] + 1
            change = number["lastPrice"] - number["openPrice"]
            negative += change < 0
            assert number["priceChange"] == change
            percent = Decimal(ticker["priceChangePercent"])
            assert abs(percent - change / number["openPrice"] * 100) <= Decimal("0.0005")
            average = Decimal(ticker["quoteVolume"]) / Decimal(ticker["volume"])
            assert abs(number["weightedAvgPrice"] - average) <= Decimal("1e-8") + average * Decimal("1e-6")
            assert number["lowPrice"] <= min(number["lastPrice"], number["openPrice"])
            assert number["highPrice"] >= max(number["lastPrice"], number["openPrice"])
            assert 0 < number["bidPrice"] < number["askPrice"]
    assert halted > 500
    assert negative > 500


@pytest.mark.parametrize("name", ["book_lists", "book_dicts"])
def test_books_are_sorted_and_do_not_cross(name: str) -> None:
    feed = FEEDS[name](30, seed=3)
    for frame in islice(feed, 12):
        for market, book in frame.items():
            assert book["symbol"] == market
            bids, asks = (prices(book[side]) for side in ("bids", "asks"))
            assert len(bids) == len(asks) == 50
            assert bids == sorted(set(bids), reverse=True)
            assert asks == sorted(set(asks))
            assert 0 < bids[0] < asks[0]
            assert book["timestamp"] <= feed.time_ms


def test_both_forms_show_the_same_books() -> None:
    for lists, dicts in zip(
        islice(OrderBooks("lists", 20), 4), islice(OrderBooks("dicts", 20), 4), strict=True
    ):
        for market, book in dicts.items():
            for side in ("bids", "asks"):
                levels = [[float(price), float(size)] for price, size in book[side].items()]
                assert lists[market][side] == levels


def test_levels_come_and_go() -> None:
    came = went = resized = 0
    for before, after in pairwise(islice(OrderBooks("dicts", 30, seed=3), 12)):
        for market, book in after.items():
            old, new = before[market]["bids"], book["bids"]
            came += len(new.keys() - old.keys())
            went += len(old.keys() - new.keys())
            resized += sum(1 for price in new.keys() & old.keys() if new[price] != old[price])
    assert min(came, went, resized) > 100


def prices(levels: Any) -> list[float]:
    if isinstance(levels, dict):
        return [float(price) for price in levels]
    return [price for price, _ in levels]


def test_a_stock_list_is_text_whose_numbers_agree() -> None:
    def number(text: str) -> Decimal:
        return Decimal(text.removeprefix("$").removesuffix("%").replace(",", ""))

    feed = StockList(1_000, seed=6)
    before = next(feed)
    came = grouped = 0
    for after in islice(feed, 5):
        assert list(after) == sorted(after)
        came += len(after.keys() - before.keys())
        for symbol, row in after.items():
            assert all(type(value) is str for value in row.values())
            price, change = number(row["lastsale"]), number(row["netchange"])
            assert row["lastsale"] == f"${price:,.2f}"
            grouped += "," in row["lastsale"]
            assert abs(number(row["pctchange"]) - change / (price - change) * 100) <= Decimal("0.005")
            assert row["marketCap"] == f"{number(row['marketCap']):,.2f}"
            assert number(row["marketCap"]) % price == 0
            if symbol in before and row != before[symbol]:
                assert price - change == number(before[symbol]["lastsale"])
        before = after
    assert grouped > 0
    assert came > 0


def test_aircraft_move_as_their_speed_says() -> None:
    feed = Aircraft(400, seed=7)
    before = next(feed)
    came = without = compared = 0
    for after in islice(feed, 8):
        came += len(after.keys() - before.keys())
        for address, now in after.items():
            if now["latitude"] is None:
                without += 1
                assert now["longitude"] is now["time_position"] is None
                continue
            assert now["time_position"] <= now["last_contact"] <= feed.time_ms // 1000
            assert 0 <= now["true_track"] < 360
            if now["on_ground"]:
                assert now["baro_altitude"] is now["vertical_rate"] is None
            was = before.get(address)
            if was is None or was["latitude"] is None or now["latitude"] == was["latitude"]:
                continue
            # No faster than the sum of both speeds over twice the interval, and a grid step.
            north = (now["latitude"] - was["latitude"]) * 111_195
            allowed = (now["velocity"] + was["velocity"] + 20) * (
                now["time_position"] - was["time_position"] + 20
            )
            assert abs(north) < allowed
            compared += 1
        before = after
    assert compared > 1_000
    assert came > 3
    assert without > 20
    digits = [len(str(row["longitude"])) for row in before.values() if row["longitude"] is not None]
    assert sum(digits) / len(digits) > 14


@pytest.mark.parametrize(
    ("units", "decimals", "grouping", "text"),
    [
        (400_000_200, 8, "", "4.00000200"),
        (-31, 2, "", "-0.31"),
        (0, 3, "", "0.000"),
        (123_450, 2, ",", "1,234.50"),
    ],
)
def test_whole_units_become_decimal_text(units: int, decimals: int, grouping: str, text: str) -> None:
    assert decimal_text(units, decimals, grouping) == text


@pytest.mark.parametrize(
    ("numerator", "denominator", "rounded"), [(7, 2, 4), (-7, 2, -4), (5, 4, 1), (-5, 4, -1), (0, 3, 0)]
)
def test_a_quotient_is_rounded_to_the_nearest(numerator: int, denominator: int, rounded: int) -> None:
    assert quotient(numerator, denominator) == rounded
