"""Columns in against the plain way: the dict of the same values, encoded."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from itertools import pairwise
from random import Random
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import pandas as pd  # type: ignore[import-untyped]
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snapdelta
from snapdelta.testing.feed import Feed
from support.assert_exact import assert_same

Snapshot = dict[str, Any]
ROWS = 5


def plain_of(rows: list[dict[str, Any]]) -> Snapshot:
    return {row["symbol"]: {key: value for key, value in row.items() if key != "symbol"} for row in rows}


def assert_reads(data: object, want: Snapshot) -> None:
    """From nothing, from itself, and from another state: the state of the dict, whatever was before."""
    plain = snapdelta.Encoder()
    plain.encode(want)
    encoder, decoder = snapdelta.Encoder(verify=True), snapdelta.Decoder()
    other = {**{symbol: {"before": 1} for symbol in list(want)[1:]}, "gone": 5}
    for first in (None, other):
        if first is not None:
            decoder.apply(encoder.encode(first))
        decoder.apply(encoder.encode_columns(data, symbol="symbol"))
        assert_same(decoder.snapshot(), want)
        assert encoder.digest == decoder.digest == plain.digest
        again = encoder.encode_columns(data, symbol="symbol")
        decoder.apply(again)
        assert encoder.digest == plain.digest
        assert (snapdelta.inspect(again).updated, snapdelta.inspect(again).removed) == (0, 0)


# --- what each type becomes

VALUES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "null": (pa.null(), [None, None]),
    "bool": (pa.bool_(), [True, None, False]),
    **{
        f"int{bits}": (getattr(pa, f"int{bits}")(), [-(2 ** (bits - 1)), 0, None]) for bits in (8, 16, 32, 64)
    },
    **{f"uint{bits}": (getattr(pa, f"uint{bits}")(), [2**bits - 1, None, 0]) for bits in (8, 16, 32, 64)},
    "float16": (pa.float16(), [1.5, 2.0**-24, -0.0, float("inf"), None]),
    "float32": (pa.float32(), [1.5, 2.0**-149, -0.0, None]),
    "float64": (pa.float64(), [0.1, -0.0, None, float("-inf")]),
    "text": (pa.string(), ["", "12", "a longer text than seven", "é€😀", None]),
    "large text": (pa.large_string(), ["b", None, "01"]),
    "text views": (pa.string_view(), ["short", None, "a text of more than twelve bytes"]),
    "binary": (pa.binary(), [b"", None, b"\0\xff"]),
    "binary views": (pa.binary_view(), [b"", b"bytes, more than twelve of them", None]),
    "fixed binary": (pa.binary(3), [b"abc", None]),
    "dictionary": (pa.dictionary(pa.int8(), pa.string()), ["x", "y", None, "x"]),
    "date32": (pa.date32(), [date(1, 1, 1), date(9999, 12, 31), None]),
    "date64": (pa.date64(), [date(1969, 12, 31), None]),
    "time32": (pa.time32("ms"), [time(1, 2, 3, 4000), None]),
    "time64": (pa.time64("us"), [time(23, 59, 59, 999_999), time(0)]),
    "timestamp": (pa.timestamp("us"), [datetime(1, 1, 1), None, datetime(9999, 12, 31, 23, 59, 59, 999_999)]),
    "timestamp s": (pa.timestamp("s"), [datetime(1969, 12, 31, 23, 59, 59), None]),
    "timestamp ns": (pa.timestamp("ns"), [datetime(2026, 1, 2, 3, 4, 5, 6), None]),
    "UTC": (pa.timestamp("ms", "UTC"), [datetime(2026, 1, 2, tzinfo=UTC), None]),
    "offset": (pa.timestamp("us", "-09:30"), [datetime(2026, 1, 2, tzinfo=timezone(-timedelta(hours=9.5)))]),
    "zone": (
        pa.timestamp("us", "Europe/Paris"),
        [datetime(2026, 10, 25, 2, 30, fold=fold, tzinfo=ZoneInfo("Europe/Paris")) for fold in (0, 1)],
    ),
    "duration": (pa.duration("us"), [timedelta(-1, 5, 7), None, timedelta(10**6)]),
    "decimal": (pa.decimal128(38, 2), [Decimal("-0.01"), Decimal("9" * 36 + ".99"), None, Decimal("0.00")]),
    "wide decimal": (pa.decimal256(76, 1), [Decimal("-" + "7" * 70 + ".5"), Decimal("0.0"), None]),
    "list": (pa.list_(pa.int32()), [[1, None], [], None]),
    "large list": (pa.large_list(pa.string()), [["a", None, "a longer text than seven"], None]),
    "fixed list": (pa.list_(pa.float64(), 2), [[1.5, 2.5], None]),
    "list of structs": (
        pa.list_(pa.struct([("a", pa.int8()), ("b", pa.list_(pa.string()))])),
        [[{"a": 1, "b": ["x"]}, None], [], None],
    ),
    "struct": (
        pa.struct([("a", pa.int8()), ("b", pa.struct([("c", pa.string())]))]),
        [{"a": 1, "b": {"c": "x"}}, {"a": None, "b": None}, None, {"a": 2, "b": {"c": None}}],
    ),
}


@pytest.mark.parametrize("kind", VALUES)
def test_types(kind: str) -> None:
    """As they come, sliced, and in chunks, of which one is empty."""
    form, values = VALUES[kind]
    symbols = [f"S{n}" for n in range(len(values))]
    want = {symbol: {"v": value} for symbol, value in zip(symbols, values, strict=True)}
    array = pa.array(values, form)
    assert_reads(pa.table({"symbol": symbols, "v": array}), want)
    assert_reads({"symbol": symbols, "v": array}, want)
    padded = pa.table({"symbol": ["-", *symbols, "--"], "v": pa.concat_arrays([array[:1], array, array[:1]])})
    assert_reads(padded.slice(1, len(values)), want)
    table = pa.table({"symbol": symbols, "v": array})
    assert_reads(pa.concat_tables([table[:1], table[:0], table[1:]]), want)
    assert_reads(pa.record_batch({"symbol": symbols, "v": array}), want)


@pytest.mark.parametrize("bits", [0x7C01, 0xFE00, 0x0001, 0x83FF, 0x3C00, 0x7BFF, 0x8000])
def test_halves_are_exact(bits: int) -> None:
    array = np.array([bits], "u2").view("f2")
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    decoder.apply(encoder.encode_columns({"symbol": ["A"], "v": array}, symbol="symbol"))
    assert struct.pack("<d", decoder.get("A")["v"]) == struct.pack("<d", array[0].item())


NUMPY: dict[str, tuple[Any, list[Any]]] = {
    "strided": (np.arange(10)[::4], [0, 4, 8]),
    "backwards": (np.arange(3.0)[::-1], [2.0, 1.0, 0.0]),
    "big-endian": (np.array([1, -2, 3], ">i4"), [1, -2, 3]),
    "big-endian text": (np.array(["a", "b€", ""], ">U3"), ["a", "b€", ""]),
    "zeros inside": (np.array(["a\0b", "\0", "c"]), ["a\0b", "", "c"]),
    "bytes": (np.array([b"ab", b"", b"c"]), [b"ab", b"", b"c"]),
    "masked": (np.ma.array([1, 2, 3], mask=[False, True, False]), [1, None, 3]),
    "days": (np.array(["2026-01-02", "NaT", "0001-01-01"], "M8[D]"), [date(2026, 1, 2), None, date(1, 1, 1)]),
    "hours": (
        np.array(["2026-01-02T03", "NaT", "1969-12-31T23"], "M8[h]"),
        [datetime(2026, 1, 2, 3), None, datetime(1969, 12, 31, 23)],
    ),
    "spans": (np.array([1, -1, 2], "m8[25s]"), [timedelta(seconds=25 * n) for n in (1, -1, 2)]),
    "objects": (np.array([1, "x", {"a": [1.5]}], object), [1, "x", {"a": [1.5]}]),
    "new text": (np.array(["a", "bb", ""], np.dtypes.StringDType()), ["a", "bb", ""]),
    "large": (np.array([2**64 - 1, 0, 2**63], "u8"), [2**64 - 1, 0, 2**63]),
    "bools": (np.array([True, False, True]), [True, False, True]),
}


@pytest.mark.parametrize("kind", NUMPY)
def test_numpy(kind: str) -> None:
    array, values = NUMPY[kind]
    assert_reads(
        {"symbol": np.array(["A", "B", "C"]), "d": {"v": array}},
        {symbol: {"d": {"v": value}} for symbol, value in zip("ABC", values, strict=True)},
    )


def test_libraries() -> None:
    rows: list[dict[str, Any]] = [
        {"symbol": "A", "p": 1.5, "n": 1, "t": "text", "s": {"x": 1}},
        {"symbol": "B", "p": None, "n": 2, "t": None, "s": None},
    ]
    frame = pl.DataFrame(rows)
    assert_reads(frame, plain_of(rows))
    assert_reads(duckdb.sql("select * from frame"), plain_of(rows))
    flat = [{key: row[key] for key in ("symbol", "n", "t")} for row in rows]
    assert_reads(pd.DataFrame(flat), plain_of(flat))
    columns = {"symbol": frame["symbol"], "c": frame["t"].cast(pl.Categorical), "n": pd.Series([1, 2])}
    assert_reads(columns, {"A": {"c": "text", "n": 1}, "B": {"c": None, "n": 2}})
    assert_reads({"symbol": ["A", "B"]}, {"A": {}, "B": {}})
    assert_reads(frame.clear(), {})


def test_columns_out_come_in() -> None:
    snapshot = next(Feed("enriched", symbols=50))
    source, encoder = snapdelta.Decoder(), snapdelta.Encoder()
    source.apply(snapdelta.dumps(snapshot))
    encoder.encode_columns(source)
    assert encoder.digest == source.digest


def test_a_stream_of_snapshots() -> None:
    """Rows that come, go, move and change; columns and dicts in turn."""
    encoder, decoder, plain = snapdelta.Encoder(), snapdelta.Decoder(), snapdelta.Encoder()
    for number, snapshot in zip(range(8), Feed("enriched", symbols=80), strict=False):
        rows = [{"symbol": symbol, **record} for symbol, record in snapshot.items()]
        if number % 3 == 2:
            rows = rows[5:40] + rows[:3] + rows[40:]
        want = plain_of(rows)
        table = pa.Table.from_pylist(rows)
        frame = encoder.encode(want) if number % 4 == 3 else encoder.encode_columns(table, symbol="symbol")
        assert frame == plain.encode(want)
        decoder.apply(frame)
        assert_same(decoder.snapshot(), want)


# Names, Arrow's types, and values of which each row has one.
WIDE: dict[str, tuple[pa.DataType, list[Any]]] = {
    "float": (pa.float64(), [1.5, -0.0, 0.0, float("nan"), 2.5]),
    "single": (pa.float32(), [1.5, 0.25]),
    "int": (pa.int64(), [1, -(2**63), 2**63 - 1]),
    "small": (pa.uint16(), [0, 65_535]),
    "bool": (pa.bool_(), [True, False]),
    "text": (pa.string(), ["", "1", "01", "seven b", "é", "a text of more than twelve bytes", "123456789"]),
    "views": (pa.string_view(), ["short", "eight b.", "a text of more than twelve bytes", "12"]),
    "dictionary": (pa.dictionary(pa.int16(), pa.string()), ["open", "halted for news", "7"]),
    "moment": (pa.timestamp("us"), [datetime(2026, 1, 2), datetime(2026, 1, 2, 3)]),
    "list": (pa.list_(pa.int64()), [[1, 2], [], [None]]),
}


@pytest.mark.parametrize("seed", range(8))
def test_blocks_of_many_rows(seed: int) -> None:
    """Chunks that end anywhere, nulls here and there, rows that come, go, move and have another shape.

    The frames are those of the dicts, byte by byte, also of a writer that is given both in turn.
    """
    rng = Random(seed)
    encoder, plain, decoder = snapdelta.Encoder(), snapdelta.Encoder(), snapdelta.Decoder()
    names = [name for name in WIDE for _ in range(rng.randrange(4))] or ["float"]
    rows: dict[str, dict[str, Any]] = {}
    for number in range(6):
        nulls = {name: rng.choice([0, 0, 0.02, 0.5, 1]) for name in WIDE}
        for symbol in (f"S{n}" for n in range(rng.choice([90, 100, 130]))):
            old = rows.get(symbol)
            row = {} if old is None else dict(old)
            for place, name in enumerate(names):
                if old is None or rng.random() < 0.1:
                    value = None if rng.random() < nulls[name] else rng.choice(WIDE[name][1])
                    row[f"{name} {place}"] = value
            rows[symbol] = row
        for symbol in rng.sample(sorted(rows), 4):
            del rows[symbol]
        if number % 2:
            order = sorted(rows, key=lambda symbol: (rng.random() < 0.1, int(symbol[1:])))
            rows = {symbol: rows[symbol] for symbol in order}
        cuts = [0, *sorted(rng.choices(range(len(rows) + 1), k=rng.choice([0, 3]))), len(rows)]
        columns = {"symbol": pa.array(list(rows))}
        for place, name in enumerate(names):
            values = [row[f"{name} {place}"] for row in rows.values()]
            parts = [pa.array(values[start:end], WIDE[name][0]) for start, end in pairwise(cuts)]
            columns[f"{name} {place}"] = pa.chunked_array(parts, WIDE[name][0])
        if number == 4:
            # All rows have another shape.
            del columns[f"{names[0]} 0"]
        want = {s: {name: row[name] for name in columns if name != "symbol"} for s, row in rows.items()}
        given = rng.choice([pa.table(columns), columns])
        frame = encoder.encode_columns(given, symbol="symbol") if number % 3 < 2 else encoder.encode(want)
        assert frame == plain.encode(want)
        decoder.apply(frame)
        assert_same(decoder.snapshot(), want)


LEAVES = st.one_of(
    st.tuples(st.just(pl.Int64), st.integers(-(2**63), 2**63 - 1)),
    st.tuples(st.just(pl.Float64), st.floats(allow_nan=False)),
    st.tuples(st.just(pl.String), st.text(max_size=14)),
)
KINDS: dict[str, tuple[Any, st.SearchStrategy[Any]]] = {
    "int": (pl.Int64, st.integers(-(2**63), 2**63 - 1)),
    "uint": (pl.UInt64, st.integers(0, 2**64 - 1)),
    "small": (pl.Int8, st.integers(-128, 127)),
    "float": (pl.Float64, st.floats(allow_nan=False)),
    "single": (pl.Float32, st.floats(width=32, allow_nan=False)),
    "text": (pl.String, st.text(max_size=14)),
    "bytes": (pl.Binary, st.binary(max_size=14)),
    "bool": (pl.Boolean, st.booleans()),
    "date": (pl.Date, st.dates()),
    "moment": (pl.Datetime("us"), st.datetimes()),
    "span": (pl.Duration("us"), st.timedeltas(timedelta(-(10**5)), timedelta(10**5))),
    "time": (pl.Time, st.times()),
    "decimal": (pl.Decimal(20, 3), st.integers(-(10**19), 10**19).map(lambda n: Decimal(n).scaleb(-3))),
    "list": (pl.List(pl.Int32), st.lists(st.none() | st.integers(-9, 9), max_size=3)),
    "structs": (
        pl.Struct({"a": pl.Int8, "b": pl.List(pl.Struct({"c": pl.String}))}),
        st.fixed_dictionaries(
            {
                "a": st.none() | st.integers(-9, 9),
                "b": st.none()
                | st.lists(st.fixed_dictionaries({"c": st.none() | st.text(max_size=9)}), max_size=2),
            }
        ),
    ),
}


# Arrow's names end at a NUL; polars ends the process over one.
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=3)


@settings(max_examples=60)
@given(st.data())
def test_any_columns(data: st.DataObject) -> None:
    """Two states after each other, each in chunks or sliced; read back by polars as well."""
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    kinds = data.draw(st.dictionaries(NAMES, st.sampled_from(sorted(KINDS)), max_size=5))
    kinds.pop("symbol", None)
    schema = {"symbol": pl.String, **{name: KINDS[kind][0] for name, kind in kinds.items()}}
    for _ in range(2):
        symbols = data.draw(st.lists(st.text(max_size=3), unique=True, max_size=ROWS))
        rows = [
            {
                "symbol": symbol,
                **{name: data.draw(st.none() | KINDS[kind][1]) for name, kind in kinds.items()},
            }
            for symbol in symbols
        ]
        frame = pl.DataFrame(rows, schema)
        cut = data.draw(st.integers(0, len(rows)))
        given: Any = pl.concat([frame[:cut], frame[cut:]], rechunk=False)
        if data.draw(st.booleans()):
            given = frame.to_arrow()
        want = plain_of(frame.to_dicts())
        decoder.apply(encoder.encode_columns(given, symbol="symbol"))
        assert_same(decoder.snapshot(), want)
        plain = snapdelta.Encoder()
        plain.encode(want)
        assert plain.digest == encoder.digest


# --- what is refused

COLUMN = np.array([1, 2])
REFUSED: dict[str, tuple[Any, type[Exception], str]] = {
    "twice": ({"symbol": ["A", "A"]}, snapdelta.UsageError, "^symbol: A is there twice"),
    "null": (pl.DataFrame({"symbol": ["A", None]}), snapdelta.UsageError, "^symbol: there is none in row 1"),
    "numbers": ({"symbol": COLUMN}, snapdelta.UsageError, "^symbol: there is none in row 0"),
    "objects": ({"symbol": ["A", 5]}, snapdelta.UsageError, "^symbol: there is no str in row 1"),
    "no symbols": ({"s": ["A", "B"]}, snapdelta.UsageError, "^symbol: there is no column symbol"),
    "shorter": ({"symbol": ["A"], "d": {"v": COLUMN}}, snapdelta.UsageError, r"^d\.v: 2 rows"),
    "flat": ({"symbol": ["A"], "v": np.zeros((1, 2))}, snapdelta.UsageError, "^v: a column must have 1"),
    "empty dict": ({"symbol": ["A"], "v": {}}, snapdelta.UsageError, "^v: a dict without columns"),
    "one column": (pl.Series([1]), snapdelta.UsageError, "^data: "),
    "no columns": ([1], snapdelta.UnsupportedTypeError, "^columns are a dict of arrays"),
    "scalar": ({"symbol": ["A"], "v": 5}, snapdelta.UnsupportedTypeError, "^v: a column must be"),
    "key": ({"symbol": ["A"], 5: COLUMN}, snapdelta.UnsupportedTypeError, "^5: names of columns must be str"),
    "complex": ({"symbol": ["A"], "v": np.zeros(1, "c8")}, snapdelta.UnsupportedTypeError, "^v: numpy's"),
    "months": ({"symbol": ["A"], "v": np.zeros(1, "M8[M]")}, snapdelta.UnsupportedTypeError, "^v: numpy's"),
    "long steps": (
        {"symbol": ["A"], "v": np.zeros(1, "m8[99999999W]")},
        snapdelta.UnsupportedTypeError,
        "^v: numpy's",
    ),
    "object": (
        {"symbol": ["A", "B"], "v": [1, object()]},
        snapdelta.UnsupportedTypeError,
        r"^B\.v: object is not supported",
    ),
    "map": (
        pa.table({"symbol": ["A"], "v": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8()))}),
        snapdelta.UnsupportedTypeError,
        r'^v: Arrow\'s type "\+m" is not supported',
    ),
    "nanoseconds": (
        {"symbol": ["A", "B"], "v": np.array([1000, 1001], "M8[ns]")},
        snapdelta.UnsupportedTypeError,
        r"^B\.v: nanoseconds",
    ),
    "year 10000": (
        {"symbol": ["A"], "v": np.array(["10000-01-01"], "M8[D]")},
        snapdelta.UnsupportedTypeError,
        r"^A\.v: a date outside",
    ),
    "deep": (
        pa.table({"symbol": ["A"], "v": pa.nulls(1, pa.list_(pa.list_(pa.time64("ns"))))}),
        AssertionError,
        "",
    ),
    "names twice": (
        pa.Table.from_arrays([pa.array(["A"])] + 2 * [pa.array([1])], ["symbol", "v", "v"]),
        snapdelta.UnsupportedTypeError,
        "^v: duplicate column",
    ),
    "zone": (
        pa.table({"symbol": ["A"], "v": pa.array([0], pa.timestamp("us", "Mars/Olympus"))}),
        snapdelta.UnsupportedTypeError,
        "^v: time zone Mars/Olympus",
    ),
}
REFUSED.pop("deep")


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_leave_the_state(case: str) -> None:
    data, error, message = REFUSED[case]
    encoder = snapdelta.Encoder()
    encoder.encode({"A": {"v": "a text of some length"}})
    before = (encoder.digest, encoder.sequence, encoder.memory)
    with pytest.raises(error, match=message):
        encoder.encode_columns(data, symbol="symbol")
    assert (encoder.digest, encoder.sequence, encoder.memory) == before
    encoder.encode_columns({"symbol": ["A"], "v": [1]}, symbol="symbol")
    assert encoder.sequence == 2


def nested(depth: int) -> pa.DataType:
    return pa.list_(nested(depth - 1)) if depth else pa.int8()


def test_nesting_is_limited() -> None:
    for depth, fits in ((63, True), (64, False), (300, False)):
        table = pa.table({"symbol": ["A"], "v": pa.nulls(1, nested(depth))})
        if fits:
            snapdelta.Encoder().encode_columns(table, symbol="symbol")
        else:
            with pytest.raises(snapdelta.UnsupportedTypeError, match=r"nested deeper|malformed"):
                snapdelta.Encoder().encode_columns(table, symbol="symbol")


def with_offsets(offsets: list[int], data: bytes) -> pa.Array:
    return pa.Array.from_buffers(
        pa.string(), len(offsets) - 1, [None, pa.array(offsets, pa.int32()).buffers()[1], pa.py_buffer(data)]
    )


MALFORMED = {
    "falling offsets": with_offsets([0, 4, 2, 4], b"abcd"),
    "negative offsets": with_offsets([0, -1, 2, 4], b"abcd"),
    "no UTF-8": with_offsets([0, 1, 2, 4], b"\xff\xfe\xff\xff"),
    "an index beyond": pa.DictionaryArray.from_arrays(
        pa.array([0, 1, 7], pa.int8()), pa.array(["a", "b"]), safe=False
    ),
    "list beyond": pa.Array.from_buffers(
        pa.list_(pa.int8()),
        3,
        [None, pa.array([0, 1, 9, 2], pa.int32()).buffers()[1]],
        children=[pa.array([1, 2], pa.int8())],
    ),
}


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_arrays(case: str) -> None:
    encoder = snapdelta.Encoder()
    with pytest.raises(
        snapdelta.UnsupportedTypeError, match=r"\.v: (the Arrow data are malformed|text that)"
    ):
        encoder.encode_columns({"symbol": ["A", "B", "C"], "v": MALFORMED[case]}, symbol="symbol")
    assert encoder.sequence == 0


class Once:
    """A table whose capsule was consumed before."""

    def __init__(self) -> None:
        self.capsule = pa.table({"symbol": ["A"]}).__arrow_c_stream__()
        assert pa.RecordBatchReader._import_from_c_capsule(self.capsule).read_all().num_rows == 1

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        return self.capsule


class Stream:
    """A table whose method does what it is told first."""

    def __init__(self, then: Callable[[], object]) -> None:
        self.then = then

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        given = self.then()
        return pa.table({"symbol": ["A"], "v": [1]}).__arrow_c_stream__() if given is None else given


def failing() -> Iterator[pa.RecordBatch]:
    yield pa.record_batch({"symbol": ["A"]})
    raise ValueError("the source broke")


def test_streams_that_fail() -> None:
    encoder = snapdelta.Encoder()
    with pytest.raises(snapdelta.UnsupportedTypeError, match="consumed before"):
        encoder.encode_columns(Once(), symbol="symbol")
    reader = pa.RecordBatchReader.from_batches(pa.schema([("symbol", pa.string())]), failing())
    with pytest.raises(snapdelta.UnsupportedTypeError, match="the source broke"):
        encoder.encode_columns(reader, symbol="symbol")
    with pytest.raises((TypeError, ValueError)):
        encoder.encode_columns(Stream(lambda: 5), symbol="symbol")
    assert encoder.sequence == 0


def test_a_stream_that_calls_the_same_encoder() -> None:
    encoder = snapdelta.Encoder()

    def again() -> None:
        with pytest.raises(snapdelta.EncoderBusyError):
            encoder.encode({"B": 1})

    encoder.encode_columns(Stream(again), symbol="symbol")
    assert (encoder.sequence, encoder.digest) == (1, digest_of({"A": {"v": 1}}))


def test_objects_whose_conversion_changes_the_columns() -> None:
    objects: list[Any] = [{1}, {2}, 3]
    numbers = np.arange(3)

    def default(value: set[int]) -> int:
        objects.clear()
        numbers[:] = 9
        return value.pop()

    encoder = snapdelta.Encoder(default=default)
    data = {"symbol": ["A", "B", "C"], "o": objects, "n": numbers}
    encoder.encode_columns(data, symbol="symbol")
    want = {symbol: {"o": n + 1, "n": n} for n, symbol in enumerate("ABC")}
    assert encoder.digest == digest_of(want)


def test_what_is_captured_is_what_is_used() -> None:
    encoder, prices = snapdelta.Encoder(), np.array([1.5, 2.5])
    captured = encoder.capture_columns({"symbol": ["A", "B"], "p": prices}, symbol="symbol")
    prices[:] = 0
    decoder = snapdelta.Decoder()
    decoder.apply(captured.finish())
    assert (captured.symbols, captured.added) == (2, 2)
    assert decoder.snapshot() == {"A": {"p": 1.5}, "B": {"p": 2.5}}


def digest_of(snapshot: Snapshot) -> int:
    encoder = snapdelta.Encoder()
    encoder.encode(snapshot)
    return encoder.digest
