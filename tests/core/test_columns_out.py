"""Columns out: polars, pyarrow, duckdb and numpy read the types of docs/columns.md, and the values."""

from __future__ import annotations

import gc
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from itertools import islice
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import duckdb
import numpy as np
import polars as pl
import pyarrow as pa  # type: ignore[import-untyped]
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snapdelta
from snapdelta.errors import MissingExtraError
from snapdelta.snapshots.update import Update
from snapdelta.testing.feed import Feed
from support import columns, strategies
from support.assert_exact import assert_same

BERLIN = ZoneInfo("Europe/Berlin")
EVENING = datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN)  # a clock that shows this twice
VALUES: dict[str, list[Any]] = {
    "bool": [True, None, False],
    "int": [1, -(2**63), 2**63 - 1],
    "float": [1.5, float("-inf"), None],
    "int and float": [1, 2.5, 2**53],
    "int that is no float, and float": [2**53 + 1, 2.5, 0],
    "int beyond 64 bits": [2**64, -(10**37), None],
    "int beyond 38 digits": [10**38, 1, 2],
    "decimal": [Decimal("1.10"), Decimal("-2"), Decimal("3E+5")],
    "decimal and int": [Decimal("0.001"), 5, None],
    "decimal that is none": [Decimal("NaN"), Decimal(1), Decimal(2)],
    "long decimal": [Decimal("1." + "1" * 37), Decimal("-0"), None],
    "text": ["a", "a text that is longer", "0012"],
    "digits": ["12345", "0", None],
    "surrogate": ["\ud800", "b", "c"],
    "bytes": [b"\x00\xff", b"", None],
    "uuid": [UUID(int=2**127 + 5), None, UUID(int=0)],
    "date": [date(2026, 1, 2), date.min, date.max],
    "naive": [datetime(2026, 1, 2, 3, 4, 5, 6), datetime.min, datetime.max],
    "utc": [datetime(2026, 1, 2, tzinfo=UTC), datetime(1969, 12, 31, 23, 59, tzinfo=UTC), None],
    "offset": [
        datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=-5), "X")),
        datetime(2026, 1, 2, tzinfo=UTC),
        None,
    ],
    "zone": [EVENING, EVENING.replace(fold=1), None],
    "naive and aware": [EVENING, datetime(2026, 1, 2), None],
    "delta": [timedelta(days=-1, microseconds=5), timedelta(0), None],
    "long delta": [timedelta.max, timedelta(0), None],
    "list": [[1, None], [], None],
    "tuple": [(1.5,), [2], ()],
    "mixed list": [[1, "a"], [2], None],
    "lists": [[[1], []], [], [[2, None]]],
    "list of dicts": [[{"a": 1}, {"b": "x", "a": None}], [], [None]],
    "nothing": [None, None, None],
    "no keys": [{}, None, {}],
    "dict": [{"x": 1}, {}, None],
    "deep": [{"x": {"y": 1, "z": {"": "a"}}}, {"x": {}}, {"x": None, "w": 2}],
    "dict and value": [{"x": 1}, 5, None],
    "mixed": [1, "1", None],
    "bool and int": [True, 1, 0],
}


def decoder_of(snapshot: dict[str, Any]) -> snapdelta.Decoder:
    decoder = snapdelta.Decoder()
    decoder.apply(snapdelta.Encoder().encode(snapshot))
    return decoder


def snapshot_of(values: list[Any]) -> dict[str, Any]:
    return {f"S{n}": {"v": value} for n, value in enumerate(values)}


def assert_declared(decoder: snapdelta.Decoder) -> None:
    table = pa.table(decoder)
    table.validate(full=True)
    assert_same(columns.read(table), columns.expected(decoder.snapshot()))


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_each_kind_of_column(values: list[Any]) -> None:
    decoder = decoder_of(snapshot_of(values))
    assert_declared(decoder)
    frame = pl.DataFrame(decoder)
    assert frame["v"].null_count() == sum(value is None for value in values)
    assert frame.shape == (3, 2)
    assert duckdb.from_arrow(decoder).fetchall()[0][0] == "S0"


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_records_that_are_one_value(values: list[Any]) -> None:
    assert_declared(decoder_of({f"S{n}": value for n, value in enumerate(values)}))


def test_records_that_are_values_of_several_types() -> None:
    """A record with keys is in their columns alone, be the column `value` text or not."""
    for other in ("text", 7):
        decoder = decoder_of({"A": {"x": 1}, "B": 5, "C": other, "D": {}, "E": None})
        assert_declared(decoder)
        assert pa.table(decoder).column("value")[0].as_py() is None


def test_mixed_columns_at_any_depth() -> None:
    """The shapes of the records differ; other dicts stand before and behind the mixed one."""
    deep = {"m": {"x": 1, "y": {"z": [2, None], "w": {}}, "v": {"u": "text"}}, "n": 3}
    decoder = decoder_of(
        {
            "A": {"first": {"q": 0}, "d": {"k": {"l": 1}, **deep}, "last": 1},
            "B": {"d": {"m": 5, "n": 4}, "last": 2},
            "C": {"d": deep, "first": {"q": 1, "r": {"s": 2}}},
            "D": {"d": {"m": {}, "n": {"o": 1}}},
            "E": {"d": None},
        }
    )
    assert_declared(decoder)
    flat = pa.table(decoder.arrow_table(flat=True)).column("d.m").to_pylist()
    assert flat == [None, "5", None, "{}", None]  # the keys have columns of their own


@settings(max_examples=50)
@given(strategies.tables())
def test_any_snapshot(snapshot: dict[str, Any]) -> None:
    decoder = decoder_of(snapshot)
    plain = decoder.snapshot()
    if not all(map(columns.is_name, _names(plain))):
        with pytest.raises(snapdelta.UnsupportedTypeError):
            pa.table(decoder)
        return
    table = pa.table(decoder)
    table.validate(full=True)
    assert_same(columns.read(table), columns.expected(plain))


def _names(record: Any) -> Iterator[str]:
    if type(record) is dict:
        for key, value in record.items():
            yield key
            yield from _names(value)


@settings(max_examples=60)
@given(st.lists(strategies.LEAVES, min_size=1, max_size=6))
def test_numpy_holds_the_values(values: list[Any]) -> None:
    snapshot = snapdelta.loads(snapdelta.dumps(snapshot_of(values)))
    plain = [record["v"] for record in snapshot.values()]
    if any(type(value) is dict and value for value in plain):
        return
    array = decoder_of(snapshot).column("v")
    assert list(np.ma.getmaskarray(array)) == [value is None for value in plain]
    there = [(array.data[at], value) for at, value in enumerate(plain) if value is not None]
    if array.dtype == object:
        for got, value in there:
            assert_same(got, value)
        return
    for got, value in there:
        if isinstance(value, datetime):
            value = columns.moment(value)
        elif isinstance(value, date):
            value = (value - date(1970, 1, 1)).days
        elif isinstance(value, timedelta):
            value //= timedelta(microseconds=1)
        number = got.astype("i8") if array.dtype.kind in "mM" else got
        assert number == value or (number != number and value != value)


DTYPES = {"bool": "?", "int": "i8", "float": "f8", "int and float": "f8", "date": "M8[D]", "naive": "M8[us]",
          "utc": "M8[us]", "offset": "M8[us]", "zone": "O", "delta": "m8[us]", "text": "O", "decimal": "O",
          "mixed": "O", "int beyond 64 bits": "O", "list": "O"}  # fmt: skip


@pytest.mark.parametrize(("name", "dtype"), DTYPES.items(), ids=DTYPES)
def test_dtypes(name: str, dtype: str) -> None:
    array = decoder_of(snapshot_of(VALUES[name])).column(("v",))
    assert array.dtype == np.dtype(dtype)
    assert len(array) == 3


def test_what_a_record_has_not_is_masked() -> None:
    decoder = decoder_of(
        {"A": {"day": {"v": 5}}, "B": {"day": {}}, "C": 1, "D": {"day": {"v": 7}, "a.b": "x"}}
    )
    volume = decoder.column("day.v")
    assert volume.tolist() == [5, None, None, 7]
    assert volume.sum() == 12
    assert decoder.column("a\\.b").tolist() == decoder.column(("a.b",)).tolist() == [None, None, None, "x"]
    single = decoder_of({"A": 1, "B": None})
    assert single.column(()).tolist() == single.column("").tolist() == [1, None]


@pytest.mark.parametrize("path", ["nothing", ("day", "w"), "day", ("day", "v", "x")])
def test_a_path_without_values_is_refused(path: Any) -> None:
    decoder = decoder_of({"A": {"day": {"v": 5}}, "B": {"day": None}})
    with pytest.raises(snapdelta.UsageError, match=r"^path: "):
        decoder.column(path)
    with pytest.raises(TypeError, match="tuple of str"):
        decoder.column(5)  # type: ignore[arg-type]


def test_the_empty_text_is_the_path_without_keys() -> None:
    decoder = decoder_of({"A": {"": 5}})
    assert decoder.column(("",)).tolist() == [5]
    for path in ("", ()):
        with pytest.raises(
            snapdelta.UsageError, match=r'dicts at \(\), .*; the key "" has the path \("",\)$'
        ):
            decoder.column(path)


def test_a_path_that_no_record_has_any_more() -> None:
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    decoder.apply(encoder.encode({"A": {"x": 1, "y": 2}}))
    decoder.apply(encoder.encode({"A": {"y": 2}}))
    assert decoder.arrow_table().columns == ["_symbol", "y"]
    with pytest.raises(snapdelta.UsageError):
        decoder.column("x")


def test_the_rows_that_changed_have_the_types_of_all() -> None:
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    prev = {"A": {"p": 1.5}, "B": {"p": 2}, "C": {"p": 3}, "D": {"p": 4}}
    curr = {"N": {"p": 9}, "D": {"p": 4}, "B": {"p": 7}, "A": {"p": 1.5}}
    decoder.apply(encoder.encode(prev))
    decoder.apply(encoder.encode(curr))
    table = pa.table(decoder.arrow_table(changed=True))
    assert table.schema == pa.table(decoder).schema
    assert table.to_pylist() == [{"_symbol": "N", "p": 9.0}, {"_symbol": "B", "p": 7.0}]
    update = Update(curr, ["N"], ["B"], ["C"], [], 1, 2, decoder.digest, 0.0, 0.0, False, None)
    assert pa.table(update.arrow_table(changed=True)) == table
    assert pa.table(update) == pa.table(decoder) == pa.table(snapdelta.arrow_table(curr))


def test_a_table_is_of_its_moment() -> None:
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    decoder.apply(encoder.encode({"A": {"p": 1, "t": "a text of some length"}}))
    table = decoder.arrow_table()
    before = pa.table(table)
    decoder.apply(encoder.encode({"B": {"q": 2}}))
    assert pa.table(table) == before
    del table, decoder
    gc.collect()
    assert before.to_pylist() == [{"_symbol": "A", "p": 1, "t": "a text of some length"}]


def test_a_market_in_polars_and_duckdb() -> None:
    """A struct of DuckDB cannot have keys that differ by case alone, as the feed has: flat columns can."""
    market = next(iter(Feed("enriched", symbols=400)))
    decoder = decoder_of(market)
    assert_declared(decoder)
    frame = pl.DataFrame(decoder)
    plain = pl.from_dicts(
        [{"_symbol": symbol, **record} for symbol, record in market.items()], infer_schema_length=None
    )
    assert frame.to_dicts() == plain.to_dicts()
    flat = pa.table(decoder.arrow_table(flat=True))
    assert flat.column("lastQuote.P").to_pylist() == [record["lastQuote"]["P"] for record in market.values()]
    relation = duckdb.from_arrow(decoder.arrow_table(flat=True))
    assert relation.aggregate('count(*), sum("day.v")').fetchall() == [
        (400, sum(record["day"]["v"] for record in market.values()))
    ]


def test_repeated_text_is_a_dictionary() -> None:
    snapshot = {
        f"S{n}": {"kind": f"a kind of name {n % 3}", "own": f"a text of its own {n}"} for n in range(100)
    }
    schema = pa.table(decoder_of(snapshot)).schema
    assert pa.types.is_dictionary(schema.field("kind").type)
    assert schema.field("own").type == pa.large_string()
    assert_declared(decoder_of(snapshot))


def test_nothing_at_all() -> None:
    for decoder in (snapdelta.Decoder(), decoder_of({})):
        assert pa.table(decoder).to_pydict() == {"_symbol": []}
        assert len(decoder.arrow_table(changed=True)) == 0
    assert pl.DataFrame(snapdelta.arrow_table({})).shape == (0, 1)


@pytest.mark.parametrize("key", ["a\0b", "\ud800"])
def test_names_that_arrow_has_not(key: str) -> None:
    for snapshot in ({"A": {"x": {key: 1}}}, {"A": {"x": {key: {"y": 1}}}}):
        for flat in (False, True):
            with pytest.raises(snapdelta.UnsupportedTypeError, match=r"^x\."):
                decoder_of(snapshot).arrow_table(flat=flat)
    with pytest.raises(snapdelta.UnsupportedTypeError, match="surrogate"):
        decoder_of({"\ud800": 1}).arrow_table()


def test_names_of_its_own() -> None:
    for snapshot in ({"A": {"_symbol": 1}}, {"A": {"value": 1}, "B": 2}):
        with pytest.raises(snapdelta.UsageError, match="column of the table's own"):
            decoder_of(snapshot).arrow_table()
    assert decoder_of({"A": {"value": 1}, "B": None, "C": {}}).arrow_table().columns == ["_symbol", "value"]


def test_memory_stays_within_the_limits() -> None:
    """Lists that rows share are written out for each: charged before they are made."""
    snapshot = {f"S{n}": {"l": list(range(1000))} for n in range(100)}
    decoder = snapdelta.Decoder(snapdelta.Limits(max_bytes=20 << 20))
    decoder.apply(snapdelta.Encoder().encode(snapshot))
    assert decoder.arrow_table().columns == ["_symbol", "l"]
    with pytest.raises(snapdelta.LimitExceededError):
        snapdelta.arrow_table(snapshot, limits=snapdelta.Limits(max_bytes=1 << 20))
    with pytest.raises(snapdelta.LimitExceededError):
        snapdelta.arrow_table(
            {f"S{n}": {f"k{n}": 1} for n in range(500)}, limits=snapdelta.Limits(max_bytes=1 << 20)
        )


@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("in_list", [False, True])
def test_names_take_memory_within_the_limits(in_list: bool, flat: bool) -> None:
    """Many keys in one row: each is a field and an array of its own."""
    keys = {f"k{n}": 1 for n in range(10_000)}
    snapshot = {"A": {"l": [keys]} if in_list else keys}
    assert len(snapdelta.arrow_table(snapshot, flat=flat)) == 1
    with pytest.raises(snapdelta.LimitExceededError):
        snapdelta.arrow_table(snapshot, flat=flat, limits=snapdelta.Limits(max_bytes=4 << 20))


def test_a_long_key_above_many_flat_columns() -> None:
    snapshot = {"A": {"k" * 100_000: {f"k{n}": 1 for n in range(100)}}}
    limits = snapdelta.Limits(max_bytes=4 << 20)
    assert len(snapdelta.arrow_table(snapshot, limits=limits)) == 1
    with pytest.raises(snapdelta.LimitExceededError, match="bytes of names"):
        snapdelta.arrow_table(snapshot, flat=True, limits=limits)


class Interrupted:
    """An import of numpy that the user breaks off."""

    def find_spec(self, name: str, *_: object) -> None:
        if name == "numpy":
            raise KeyboardInterrupt


def test_only_a_missing_numpy_is_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = decoder_of(snapshot_of([1]))
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "numpy", None)
        with pytest.raises(MissingExtraError, match="numpy"):
            decoder.column("v")
        patched.delitem(sys.modules, "numpy")
        patched.setattr("sys.meta_path", [Interrupted(), *sys.meta_path])
        with pytest.raises(KeyboardInterrupt):
            decoder.column("v")
    assert decoder.column("v").tolist() == [1]


def test_rows_by_symbol() -> None:
    snapshot = {f"S{n}": {"n": n} for n in range(5)}
    table = snapdelta.arrow_table(snapshot, symbols=iter(["S3", "S1", "none", "S3"]))
    assert pa.table(table).to_pydict() == {"_symbol": ["S1", "S3"], "n": [1, 3]}
    for wrong in (["S1", 5], 5):
        with pytest.raises(TypeError):
            snapdelta.arrow_table(snapshot, symbols=wrong)  # type: ignore[arg-type]


PROGRAM = """
import gc, sys
import pyarrow as pa
import snapdelta

def resident():
    gc.collect()
    pa.default_memory_pool().release_unused()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))

def record(n):
    text = {"t": f"text number {n}", "k": "repeated text", "m": n if n % 2 else "x"}
    return {"p": n / 7, **text, "d": {"l": [n, n]}}

rows = {f"S{n}": record(n) for n in range(2000)}
decoder = snapdelta.Decoder()
decoder.apply(snapdelta.Encoder().encode(rows))
for round in range(int(sys.argv[1])):
    table = decoder.arrow_table()
    read = pa.table(table)
    part = read.column("d").chunk(0).field(0)
    del read
    schema = pa.schema(table)
    # a capsule that nobody reads, a stream of which only the schema is read
    table.__arrow_c_stream__(), table.__arrow_c_schema__()
    pa.RecordBatchReader.from_stream(table).schema
    assert part[7].as_py() == [7, 7]
    decoder.column("t"), decoder.column("p")
    if round == 20:
        start = resident()
print((resident() - start) / 2**20)
"""


def test_nothing_leaks() -> None:
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, "80"], capture_output=True, text=True, check=False, timeout=600
    )
    assert run.returncode == 0, run.stderr
    # 60 rounds of a table of half a megabyte
    assert float(run.stdout) < 8


def test_python_code_that_runs_meanwhile_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    decoder = decoder_of(snapshot_of([1, "a"]))
    raised: list[str] = []

    def dumps(value: Any, **options: Any) -> str:
        for call in (lambda: decoder.arrow_table(), lambda: decoder.snapshot(), lambda: decoder.column("v")):
            try:
                call()
            except snapdelta.EncoderBusyError as error:
                raised.append(str(error))
        raise RuntimeError("no text")

    with monkeypatch.context() as patched:
        patched.setattr("json.dumps", dumps)
        with pytest.raises(RuntimeError, match="no text"):
            decoder.arrow_table()
    assert len(raised) == 3
    assert_declared(decoder)


def test_a_stream_that_goes_on() -> None:
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    for market in islice(Feed("enriched", symbols=100), 4):
        decoder.apply(encoder.encode(market))
        assert_declared(decoder)
        changed = pa.table(decoder.arrow_table(changed=True))
        assert sorted(changed.column("_symbol").to_pylist()) == sorted(decoder.changed)
