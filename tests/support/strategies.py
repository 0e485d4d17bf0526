"""Hypothesis strategies over all that a snapshot may hold, and what happens to it from frame to frame."""

from __future__ import annotations

import struct
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum, IntEnum, StrEnum
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from hypothesis import strategies as st
from pydantic import BaseModel, Field, computed_field, field_serializer

Snapshot = dict[str, Any]
Strategy = st.SearchStrategy[Any]
Draw = Callable[[Strategy], Any]


_NAMED: dict[str, Strategy] = {}


@st.composite
def a(draw: st.DrawFn, name: str) -> Any:
    return draw(_NAMED[name])


def named(name: str, strategy: Strategy) -> Strategy:
    """The strategy under a short name: hypothesis prints strategies, and refuses to print one of 35 kB."""
    _NAMED[name] = strategy
    return a(name)


# --- leaves


class Side(StrEnum):
    BUY = "buy"
    SELL = "007"


class Size(IntEnum):
    SMALL = 1
    HUGE = 2**70


class Mixed(Enum):
    NOTHING = None
    PAIR = (1, 1.0)
    DAY = date(2026, 1, 2)
    TREE = {"a": {"b": [Side.BUY]}}  # noqa: RUF012  # an Enum's member, and it is to be a dict


def float_of_bits(bits: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", bits))[0])


FLOATS = st.one_of(
    st.floats(),
    st.integers(0, 2**64 - 1).map(float_of_bits),
    # signaling and quiet NaNs of both signs with payloads
    st.sampled_from([0x7FF0000000000001, 0x7FF8000000000000, 0xFFF8000000000123, 0xFFF4000000000000]).map(
        float_of_bits
    ),
    st.sampled_from([0.0, -0.0, 5e-324, 1e22, 2.0**51 / 100, -(2.0**53)]),
    st.builds(lambda m, e: m / 10**e, st.integers(-(10**9), 10**9), st.integers(0, 8)),
)
INTS = st.one_of(
    st.integers(-5, 300),
    st.integers(-(2**63), 2**63 - 1),
    st.sampled_from([2**63 - 1, 2**63, -(2**63), -(2**63) - 1, 2**64, -(2**71), 255 << 64]),
    st.integers(),
    st.integers(2**60, 2**200),
)
DIGITS = st.one_of(
    st.integers(0, 10**20).map(str),
    st.text("0123456789", min_size=1, max_size=21),
    st.sampled_from(["0", "00", "01", "9" * 19, "9" * 20, "1" + "0" * 18, "18446744073709551616"]),
    st.sampled_from(["١٢", "1_0", "+1", "-1", " 1"]),  # other digits than ASCII's
)
TEXTS = st.one_of(
    st.text(st.characters(), max_size=12),  # lone surrogates among them
    st.sampled_from(["", "\ud800", "\udc00\ud800", "\ud83d\ude00", "😀", "é" * 3, "é" * 4, "a\0", "abcdefg"]),
    st.text("ab", max_size=9),
    DIGITS,
)
OFFSETS = st.one_of(
    st.timedeltas(timedelta(hours=-23, minutes=-59, seconds=-59), timedelta(hours=23, minutes=59)),
    st.sampled_from(
        [timedelta(0), timedelta(microseconds=-1), timedelta(days=1) - timedelta(microseconds=1)]
    ),
)
ZONES = st.one_of(
    st.none(),
    st.just(UTC),
    st.builds(timezone, OFFSETS),
    st.builds(timezone, OFFSETS, st.one_of(st.sampled_from(["", "UTC", "EST"]), TEXTS)),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]).map(ZoneInfo),
)
DATETIMES = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold),
    st.datetimes(),
    ZONES,
    st.integers(0, 1),
)
TIMES = st.builds(
    lambda moment, zone, fold: moment.replace(tzinfo=zone, fold=fold), st.times(), ZONES, st.integers(0, 1)
)
TIMEDELTAS = st.one_of(st.timedeltas(), st.sampled_from([timedelta.min, timedelta.max, timedelta.resolution]))
DIGIT_TUPLES = st.lists(st.integers(0, 9), max_size=25).map(tuple)
DECIMALS = st.one_of(
    st.builds(
        lambda sign, digits, exponent: Decimal((sign, digits, exponent)),
        st.integers(0, 1),
        DIGIT_TUPLES,
        st.one_of(st.integers(-10, 10), st.integers(-130, 130), st.integers(-(10**18), 10**18 - 30)),
    ),
    st.builds(
        lambda sign, digits, kind: Decimal((sign, digits, kind)),
        st.integers(0, 1),
        DIGIT_TUPLES,
        st.sampled_from(["n", "N", "F"]),
    ),
    st.sampled_from(
        [
            Decimal("1.0"),
            Decimal("1.00"),
            Decimal(2**55 - 1),
            Decimal(2**55),
            Decimal("-0"),
            Decimal("0e-129"),
        ]
    ),
)
ENUMS = st.sampled_from([*Side, *Size, *Mixed])
PLAIN_SCALARS = st.one_of(
    *(st.none(), st.booleans(), INTS, FLOATS, TEXTS, st.binary(max_size=12), st.dates(), DATETIMES, TIMES),
    *(TIMEDELTAS, DECIMALS, st.uuids(), st.just({})),
)
NUMPY = st.one_of(
    st.booleans().map(np.bool_),
    st.integers(-128, 127).map(np.int8),
    st.integers(0, 2**16 - 1).map(np.uint16),
    st.integers(-(2**31), 2**31 - 1).map(np.int32),
    st.integers(-(2**63), 2**63 - 1).map(np.int64),
    st.integers(0, 2**64 - 1).map(np.uint64),
    st.integers(0, 2**64 - 1).map(np.ulonglong),
    st.floats(width=16).map(np.float16),
    st.floats(width=32).map(np.float32),
    FLOATS.map(np.float64),
    st.text("aé1", max_size=9).map(np.str_),
    st.binary(max_size=9).map(lambda data: np.bytes_(data.rstrip(b"\0"))),
)
SCALARS = named("scalar", st.one_of(PLAIN_SCALARS, PLAIN_SCALARS, ENUMS, NUMPY))


# --- records

KEYS = st.one_of(
    st.sampled_from(["p", "s", "t", "x", "a.b", "a", "b", "", "[0]", "a\\", ".", "é", "\ud800", "0", "😀"]),
    st.text(st.characters(), max_size=5),
)
SYMBOLS = st.one_of(st.sampled_from(["AAPL", "MSFT", "BRK.B", "", "1", "\udfff", "a[0]"]), TEXTS)


class Quote(BaseModel):
    """A pydantic class that may be read in place."""

    p: float
    s: int = 0
    t: datetime | None = None
    side: Side = Side.BUY


class Ticker(BaseModel):
    """A pydantic class that must go through model_dump(): nested, excluded, computed, serialized."""

    quote: Quote
    tags: list[str] = []
    secret: int = Field(default=1, exclude=True)
    price: Decimal = Decimal(1)

    @computed_field  # type: ignore[prop-decorator]
    @property
    def double(self) -> float:
        return self.quote.p * 2

    @field_serializer("price")
    def as_text(self, price: Decimal) -> str:
        return f"${price}"


@dataclass
class Trade:
    price: Any
    venue: Any
    next: Any = None


@dataclass(slots=True, frozen=True)
class Slots:
    a: Any
    b: Any


class Bar(msgspec.Struct, rename="camel"):  # a rename is for JSON; the fields are what is read
    open_price: Any
    close: Any = None


QUOTES = st.builds(Quote, p=FLOATS, s=st.integers(), t=st.none() | st.datetimes(), side=st.sampled_from(Side))
MODELS = named(
    "model",
    st.one_of(
        QUOTES,
        st.builds(Ticker, quote=QUOTES, tags=st.lists(TEXTS.filter(str.isascii), max_size=2)),
        st.builds(Trade, SCALARS, TEXTS, st.none() | st.builds(Slots, SCALARS, SCALARS)),
        st.builds(Slots, SCALARS, SCALARS),
        st.builds(Bar, SCALARS, SCALARS),
    ),
)


def ordered(items: dict[str, Any], front: bool) -> OrderedDict[str, Any]:
    """An OrderedDict whose order is not that of its making."""
    out = OrderedDict(items)
    if out:
        out.move_to_end(next(iter(out)) if front else list(out)[-1], last=front)
    return out


def dicts(values: Strategy) -> Strategy:
    plain = st.dictionaries(KEYS, values, max_size=4)
    return st.one_of(
        plain,
        plain,
        plain.map(lambda items: defaultdict(list, items)),
        st.builds(ordered, plain, st.booleans()),
    )


def items(depth: int) -> Strategy:
    """What stands in a list, with lists, tuples and dicts up to so many deep (st.recursive is too slow)."""
    ends = st.one_of(SCALARS, SCALARS, MODELS)
    if depth == 0:
        return ends
    inner = items(depth - 1)
    return st.one_of(ends, st.lists(inner, max_size=3), st.lists(inner, max_size=2).map(tuple), dicts(inner))


ITEMS = named("item", items(2))
SEQUENCES = st.one_of(st.lists(ITEMS, max_size=4), st.lists(ITEMS, max_size=3).map(tuple))
LEAVES = named("leaf", st.one_of(SCALARS, SCALARS, SCALARS, SEQUENCES))


def nested(depth: int) -> Strategy:
    """Dicts of leaves and dicts, up to so many deep."""
    values = LEAVES if depth == 1 else st.one_of(LEAVES, LEAVES, nested(depth - 1))
    return dicts(values)


RECORDS = named("record", st.one_of(nested(4), nested(4), nested(2), MODELS, LEAVES))
SNAPSHOTS: st.SearchStrategy[Snapshot] = st.dictionaries(SYMBOLS, RECORDS, max_size=6)


# --- columns: many rows of one shape, so that columns have something to be coded by


@st.composite
def tables(draw: st.DrawFn, max_rows: int = 30) -> Snapshot:
    """Rows that mostly share a shape, in columns that mostly hold one type."""
    kinds: list[Strategy] = [
        *(INTS, FLOATS, DIGITS, TEXTS, DECIMALS, DATETIMES, st.binary(max_size=9), LEAVES, ENUMS),
        st.integers(0, 10**6),
        st.integers(0, 10**6).map(lambda cents: cents / 100),
        st.integers(0, 10**9).map(lambda ms: datetime(2026, 1, 2) + timedelta(milliseconds=ms)),
        st.sampled_from(["NYSE", "NASDAQ", "a longer text that no word can hold", None]),
        st.sampled_from([0, 0.0, -0.0, False, None, "0", b"", {}, [], ()]),
    ]
    count = draw(st.integers(1, max_rows))
    names = draw(st.lists(KEYS, min_size=1, max_size=5, unique=True))
    columns = [draw(st.lists(draw(st.sampled_from(kinds)), min_size=count, max_size=count)) for _ in names]
    if draw(st.booleans()):
        columns[-1] = columns[0]  # a column that repeats another
    inner = draw(st.integers(0, len(names)))  # so many of the fields stand in a dict of their own
    rows: Snapshot = {}
    for n in range(count):
        fields = {name: column[n] for name, column in zip(names, columns, strict=True)}
        below = {name: fields.pop(name) for name in names[:inner]}
        rows[f"S{n}"] = {**fields, "below": below} if below else fields
    return rows


def successor(draw: Draw, snapshot: Snapshot) -> Snapshot:
    """What may come after a snapshot: a few of the things that happen to one, in a new dict."""
    rows = dict(snapshot)
    for step in draw(st.lists(st.sampled_from(list(STEPS)), max_size=4)):
        rows = STEPS[step](draw, rows)
    return rows


@st.composite
def sequences(draw: st.DrawFn, max_frames: int = 4) -> list[Snapshot]:
    """Snapshots that follow one another."""
    frames = [draw(st.one_of(tables(), SNAPSHOTS))]
    for _ in range(draw(st.integers(1, max_frames))):
        frames.append(successor(draw, frames[-1]))
    return frames


def _some(draw: Draw, rows: Snapshot) -> list[str]:
    return draw(st.lists(st.sampled_from(list(rows)), max_size=5, unique=True)) if rows else []


def _update(draw: Draw, rows: Snapshot) -> Snapshot:
    """Other leaves of whatever type, at paths that are there."""
    out = dict(rows)
    for symbol in _some(draw, rows):
        out[symbol] = _with_leaf(draw, out[symbol], draw(LEAVES))
    return out


def _drift(draw: Draw, rows: Snapshot) -> Snapshot:
    """Every number at the top of a record moves by the same step; times and digit strings too."""
    step = draw(st.integers(-3, 50))

    def moved(value: Any) -> Any:
        if type(value) is int:
            return value + step
        if type(value) is float:
            return value + step / 100
        if type(value) is datetime and 1900 < value.year < 3000:
            return value + timedelta(seconds=step)
        if type(value) is str and value.isdecimal() and value.isascii():
            return str(int(value) + abs(step))
        return value

    def record(value: Any) -> Any:
        return {key: moved(field) for key, field in value.items()} if type(value) is dict else moved(value)

    return {symbol: record(value) for symbol, value in rows.items()}


def _with_leaf(draw: Draw, record: Any, leaf: Any) -> Any:
    if type(record) is not dict or not record:
        return leaf
    key = draw(st.sampled_from(list(record)))
    return {**record, key: _with_leaf(draw, record[key], leaf)}


def _add(draw: Draw, rows: Snapshot) -> Snapshot:
    """A new row: of a kind of its own, or like one that is there; at the end or in front."""
    record = draw(st.one_of(RECORDS, st.sampled_from(list(rows.values())) if rows else RECORDS))
    new = {draw(SYMBOLS): record}
    return {**rows, **new} if draw(st.booleans()) else {**new, **rows}


def _remove(draw: Draw, rows: Snapshot) -> Snapshot:
    gone = set(_some(draw, rows))
    return {symbol: record for symbol, record in rows.items() if symbol not in gone}


def _rename(draw: Draw, rows: Snapshot) -> Snapshot:
    """A symbol goes and its record stays under another name."""
    gone = set(_some(draw, rows)[:1])
    return {symbol + "'" if symbol in gone else symbol: record for symbol, record in rows.items()}


def _shuffle(draw: Draw, rows: Snapshot) -> Snapshot:
    return {symbol: rows[symbol] for symbol in draw(st.permutations(list(rows)))}


def _move(draw: Draw, rows: Snapshot) -> Snapshot:
    """One row goes to the front."""
    first = _some(draw, rows)[:1]
    return {symbol: rows[symbol] for symbol in dict.fromkeys([*first, *rows])}


def _sort(draw: Draw, rows: Snapshot) -> Snapshot:
    """A ranking by some field, either way."""
    fields = [record for record in rows.values() if type(record) is dict and record]
    if not fields:
        return rows
    name = draw(st.sampled_from(list(fields[0])))

    def key(symbol: str) -> float:
        record = rows[symbol]
        value: Any = record.get(name) if type(record) is dict else None
        return float(value) if type(value) in (int, float) and abs(value) < 2.0**60 else 0.0

    return {symbol: rows[symbol] for symbol in sorted(rows, key=key, reverse=draw(st.booleans()))}


def _reshape(draw: Draw, rows: Snapshot) -> Snapshot:
    """Fields of a record come, go, change places, or become dicts."""
    out = dict(rows)
    for symbol in _some(draw, rows):
        record = out[symbol]
        if type(record) is not dict or not record:
            out[symbol] = draw(st.sampled_from([{}, {"a": record}, {"": {"a.b": record}}]))
            continue
        key = draw(st.sampled_from(list(record)))
        change = draw(st.sampled_from(["drop", "new", "order", "wrap", "unwrap"]))
        if change == "drop":
            out[symbol] = {name: value for name, value in record.items() if name != key}
        elif change == "new":
            new = {draw(KEYS): draw(LEAVES)}
            out[symbol] = {**record, **new} if draw(st.booleans()) else {**new, **record}
        elif change == "order":
            out[symbol] = {name: record[name] for name in draw(st.permutations(list(record)))}
        elif change == "wrap":
            out[symbol] = {**record, key: {"in": record[key]}}
        else:
            out[symbol] = record[key]
    return out


def _replace(draw: Draw, rows: Snapshot) -> Snapshot:
    new: Snapshot = draw(SNAPSHOTS)
    return new


def _same(draw: Draw, rows: Snapshot) -> Snapshot:
    return dict(rows)


STEPS: dict[str, Callable[[Draw, Snapshot], Snapshot]] = {
    "update": _update,
    "drift": _drift,
    "add": _add,
    "remove": _remove,
    "rename": _rename,
    "shuffle": _shuffle,
    "move": _move,
    "sort": _sort,
    "reshape": _reshape,
    "replace": _replace,
    "same": _same,
}
