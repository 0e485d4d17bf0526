"""Shapes of input that grow with one number: a snapshot, and the next one, for each."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

Snapshot = dict[str, Any]
Shape = Callable[[int], tuple[Snapshot, Snapshot]]

SHAPES: dict[str, Shape] = {}
"""By name."""
SMALL: dict[str, int] = {}
"""By name: the number that gives a snapshot of which `dumps` takes some 10 ms."""


def shape(small: int) -> Callable[[Shape], Shape]:
    def register(make: Shape) -> Shape:
        SHAPES[make.__name__], SMALL[make.__name__] = make, small
        return make

    return register


def both(make: Callable[[int], Snapshot]) -> tuple[Snapshot, Snapshot]:
    """The snapshots of turn 0 and of turn 1."""
    return make(0), make(1)


# --- rows and records


@shape(10_000)
def plain_rows(n: int) -> tuple[Snapshot, Snapshot]:
    """A market: a tenth of the prices change."""

    def rows(turn: int) -> Snapshot:
        return {
            f"S{i}": {
                "price": (i * 37 % 9973 + turn * (i % 10 == 0)) / 100,
                "size": i * 7 + turn * (i % 10 == 0),
                "name": f"name {i % 50}",
                "open": i / 8,
                "last": {"p": i / 16, "t": 1_700_000_000 + i + turn},
            }
            for i in range(n)
        }

    return both(rows)


@shape(12_000)
def single_values(n: int) -> tuple[Snapshot, Snapshot]:
    """Records that are one leaf."""
    return both(lambda turn: {f"S{i}": (i + turn) / 3 for i in range(n)})


@shape(8000)
def wide_record(n: int) -> tuple[Snapshot, Snapshot]:
    return both(lambda turn: {"all": {f"f{i}": i + turn for i in range(n)}})


@shape(5000)
def wide_first_record_reordered(n: int) -> tuple[Snapshot, Snapshot]:
    """One wide record, then as many narrow ones in reverse: every field may be what they are sorted by."""
    prev: Snapshot = {"meta": {f"f{i}": float(i) for i in range(n)}}
    prev |= {f"S{i}": {"x": i} for i in range(n)}
    first, *others = prev.items()
    return prev, dict([first, *reversed(others)])


@shape(3000)
def narrow_records_after_a_wide_one(n: int) -> tuple[Snapshot, Snapshot]:
    """The wide one is all dicts; in the narrow ones is something that is read after the walk."""

    def rows(turn: int) -> Snapshot:
        wide = {f"f{i}": {"v": i + turn} for i in range(n)}
        return {"all": wide, **{f"S{i}": {"a": {"b": i}, "c": OrderedDict(d=turn)} for i in range(n)}}

    return both(rows)


@shape(120)
def wide_records_reordered(n: int) -> tuple[Snapshot, Snapshot]:
    """Forty wide records in another order; no field sorts them."""
    random = Random(1)
    prev: Snapshot = {f"S{r}": {f"f{i}": random.random() for i in range(n)} for r in range(40)}
    symbols = list(prev)
    random.shuffle(symbols)
    return prev, {symbol: prev[symbol] for symbol in symbols}


@shape(25_000)
def many_dicts(n: int) -> tuple[Snapshot, Snapshot]:
    """One record with many dicts in it, all of which change."""
    return both(lambda turn: {"all": {f"k{i}": {"v": i + turn, "w": 1} for i in range(n)}})


@shape(1000)
def deep_records(n: int) -> tuple[Snapshot, Snapshot]:
    """Leaves 50 dicts down."""

    def record(i: int, turn: int) -> Any:
        value: Any = {"v": i + turn, "w": i}
        for level in range(49):
            value = {f"level {level}": value}
        return value

    return both(lambda turn: {f"S{i}": record(i, turn) for i in range(n)})


@shape(8000)
def nested_by_halves(n: int) -> tuple[Snapshot, Snapshot]:
    """One record that is a tree of dicts of two."""

    def tree(size: int, turn: int) -> Any:
        if size <= 1:
            return turn
        return {"left": tree(size // 2, turn), "right": tree(size - size // 2, turn)}

    return both(lambda turn: {"all": tree(n, turn)})


@shape(6000)
def empty_dicts(n: int) -> tuple[Snapshot, Snapshot]:
    """Dicts that are empty, and are filled."""
    return both(lambda turn: {f"S{i}": {"a": {}, "b": {"c": {}} if (i + turn) % 2 else {}} for i in range(n)})


# --- columns


@shape(160)
def costly_columns(n: int) -> tuple[Snapshot, Snapshot]:
    """Many columns of random floats."""
    random = Random(2)
    return both(lambda turn: {f"S{r}": {f"c{i}": random.random() for i in range(n)} for r in range(8)})


@shape(2400)
def costly_columns_that_tell_nothing(n: int) -> tuple[Snapshot, Snapshot]:
    """Many columns of costly numbers, too few to look for a formula."""
    random = Random(3)

    def cell(row: int) -> Any:
        return random.getrandbits(60) if row < 1 else None if row < 5 else random.random()

    return both(lambda turn: {f"S{r}": {f"c{i}": cell(r + turn) for i in range(n)} for r in range(6)})


@shape(120)
def columns_of_two_kinds(n: int) -> tuple[Snapshot, Snapshot]:
    """All floats come before all ints: no column finds one of its kind close by."""

    def record(r: int, turn: int) -> Any:
        floats = {f"a{i}": (r * i + turn) / 7 for i in range(n)}
        return floats | {f"b{i}": r * i + turn for i in range(n)}

    return both(lambda turn: {f"S{r}": record(r, turn) for r in range(6)})


@shape(2000)
def repeated_columns(n: int) -> tuple[Snapshot, Snapshot]:
    """Twenty columns that are the same, but for some exceptions."""

    def value(i: int, c: int, turn: int) -> int:
        return (i * 7919 + turn) * 1_000_003 % 999_999_937 + (c * (i % 97 == c))

    return both(lambda turn: {f"S{i}": {f"c{c}": value(i, c, turn) for c in range(20)} for i in range(n)})


@shape(1000)
def many_repeated_columns(n: int) -> tuple[Snapshot, Snapshot]:
    return both(lambda turn: {f"S{r}": {f"c{i}": (r * 7919 + turn) * 31 for i in range(n)} for r in range(6)})


@shape(6000)
def exceptions(n: int) -> tuple[Snapshot, Snapshot]:
    """Columns of several types, and decimals with some that are none."""
    random = Random(4)

    def record(i: int) -> Any:
        return {
            "any": [None, True, i, i / 3, f"text {i}", {}, "1"][random.randrange(7)],
            "decimal": i / 100 if i % 9 else random.random(),
            "copy": i / 100 if i % 5 else random.random(),
        }

    return both(lambda turn: {f"S{i}": record(i) for i in range(n)})


@shape(8000)
def distinct_values_in_dictionaries(n: int) -> tuple[Snapshot, Snapshot]:
    """Values that come a few times each, in no order."""
    random = Random(5)
    values = [random.random() for _ in range(n // 8 + 1)]
    return both(
        lambda turn: {
            f"S{i}": {"a": random.choice(values), "b": random.choice(values), "c": f"text {i % (n // 8 + 1)}"}
            for i in range(n)
        }
    )


@shape(6000)
def formulas(n: int) -> tuple[Snapshot, Snapshot]:
    """Columns worked out from two others."""
    random = Random(6)

    def record() -> Any:
        price, close = random.random() * 100 + 1, random.random() * 100 + 1
        change = price - close
        return {"price": price, "close": close, "change": change, "percent": change / close * 100}

    return both(lambda turn: {f"S{i}": record() for i in range(n)})


@shape(6000)
def times_that_grow(n: int) -> tuple[Snapshot, Snapshot]:
    def record(i: int, turn: int) -> Any:
        at = 1_700_000_000_000_000_000 + i * 1_000_003 % 5_000_000_000 + turn * 5_000_000_000
        return {"t": at, "u": at + i % 3, "latest": max(at, at + i % 3)}

    return both(lambda turn: {f"S{i}": record(i, turn) for i in range(n)})


# --- shapes


@shape(2000)
def names_of_its_own(n: int) -> tuple[Snapshot, Snapshot]:
    """No two rows share a field."""
    return both(
        lambda turn: {f"S{i}": {f"a{i}": i + turn, f"b{i}": {f"c{i}": i / 8 + turn}} for i in range(n)}
    )


@shape(1500)
def groups_of_six_rows(n: int) -> tuple[Snapshot, Snapshot]:
    """Six rows share their fields, with nobody else: as many row sets as groups."""
    return both(
        lambda turn: {f"S{i}": {f"a{i // 6}": i + turn, f"b{i // 6}": (i + turn) / 8} for i in range(n)}
    )


@shape(8000)
def groups_of_seventy_rows(n: int) -> tuple[Snapshot, Snapshot]:
    return both(
        lambda turn: {f"S{i}": {f"a{i // 70}": i + turn, f"b{i // 70}": (i + turn) / 8} for i in range(n)}
    )


@shape(150)
def row_sets_that_look_alike(n: int) -> tuple[Snapshot, Snapshot]:
    """Row sets of the same size, with the same first, middle and last row."""
    random = Random(7)
    wheres = []
    for _ in range(n):
        low, high = random.sample(range(1, 100), 4), random.sample(range(101, 199), 4)
        wheres.append({0, *low, 100, *high, 199})

    def cell(row: int, where: set[int], turn: int) -> int:
        return row + (turn if row in where else 0)

    return both(
        lambda turn: {
            f"S{r}": {f"c{i}": cell(r, where, turn) for i, where in enumerate(wheres)} for r in range(200)
        }
    )


@shape(500)
def few_of_many_fields(n: int) -> tuple[Snapshot, Snapshot]:
    """Each row has some of 300 fields."""
    random = Random(8)

    def record(i: int) -> Any:
        return {f"f{c}": i / 7 for c in sorted(random.sample(range(300), 8))}

    return both(lambda turn: {f"S{i}": record(i) for i in range(n)})


@shape(1000)
def fields_in_any_order(n: int) -> tuple[Snapshot, Snapshot]:
    random = Random(9)
    names = [f"f{c}" for c in range(12)]
    return both(
        lambda turn: {f"S{i}": dict.fromkeys(random.sample(names, len(names)), i + turn) for i in range(n)}
    )


@shape(3000)
def reshaped_rows(n: int) -> tuple[Snapshot, Snapshot]:
    """Every row loses one field of five and gains another, with text that stays."""

    def record(i: int, turn: int) -> Any:
        names = [f"f{(i + c) % 7}" for c in range(5) if c != turn]
        return dict.fromkeys(names, i / 8) | {"text": f"a longer text {i}"}

    return both(lambda turn: {f"S{i}": record(i, turn) for i in range(n)})


@shape(10_000)
def wide_record_reshaped(n: int) -> tuple[Snapshot, Snapshot]:
    """One field is gone, in the middle of all."""
    return both(lambda turn: {"all": {f"f{i}": i for i in range(n) if i != n // 2 or not turn}})


@shape(7000)
def many_key_names(n: int) -> tuple[Snapshot, Snapshot]:
    """Long names, that are others in the next snapshot."""
    return both(lambda turn: {"all": {f"{'name' * 8} {i} {turn}": i for i in range(n)}})


# --- rows that come, go and move


@shape(12_000)
def moved_rows(n: int) -> tuple[Snapshot, Snapshot]:
    random = Random(10)
    rows = [(f"S{i}", {"a": i, "b": random.random()}) for i in range(n)]
    return dict(rows), dict(random.sample(rows, n))


@shape(8000)
def ranked_rows(n: int) -> tuple[Snapshot, Snapshot]:
    """Sorted by a column that changes."""
    random = Random(11)

    def ranking(turn: int) -> Snapshot:
        scores = sorted(((random.random(), i) for i in range(n)), reverse=True)
        return {f"S{i}": {"score": score, "a": i, "b": i / 3} for score, i in scores}

    return both(ranking)


@shape(6000)
def rows_that_come_and_go(n: int) -> tuple[Snapshot, Snapshot]:
    """Half of the rows are others."""
    return both(
        lambda turn: {
            f"S{i if i % 2 else i + turn * n}": {"a": i, "b": i / 7, "c": f"some text {i}"} for i in range(n)
        }
    )


@shape(8000)
def rows_removed(n: int) -> tuple[Snapshot, Snapshot]:
    rows = {f"S{i}": {"a": i, "b": i / 7, "c": f"some text {i}"} for i in range(n)}
    return rows, dict(list(rows.items())[-n // 10 :])


@shape(15_000)
def rows_inserted_in_front(n: int) -> tuple[Snapshot, Snapshot]:
    rows = [(f"S{i}", {"a": i, "b": i / 7}) for i in range(n)]
    return dict(rows[n // 2 :]), dict(rows)


# --- values


@shape(2000)
def lists(n: int) -> tuple[Snapshot, Snapshot]:
    """Order books: lists of pairs."""
    return both(
        lambda turn: {f"S{i}": {"bids": [[i + d / 8, turn + d] for d in range(10)]} for i in range(n)}
    )


@shape(60_000)
def one_long_list(n: int) -> tuple[Snapshot, Snapshot]:
    return both(lambda turn: {"all": {"list": [i + turn for i in range(n)]}})


@shape(5000)
def lists_in_lists(n: int) -> tuple[Snapshot, Snapshot]:
    """A long list, 50 lists down."""

    def nested(turn: int) -> Any:
        value: Any = [(i, turn) for i in range(n)]
        for _ in range(50):
            value = [value]
        return value

    return both(lambda turn: {"all": {"list": nested(turn)}})


@shape(10_000)
def dicts_in_lists(n: int) -> tuple[Snapshot, Snapshot]:
    return both(lambda turn: {"all": {"list": [{"id": i, "v": {"w": turn}} for i in range(n)]}})


@shape(8000)
def foreign_values_in_a_list(n: int) -> tuple[Snapshot, Snapshot]:
    """What is read after the walk."""
    return both(lambda turn: {"all": {"list": [Decimal(i + turn) / 8 for i in range(n)]}})


@shape(2000)
def decimals_and_ids(n: int) -> tuple[Snapshot, Snapshot]:
    return both(
        lambda turn: {
            f"S{i}": {"d": Decimal(i + turn) / 8, "id": UUID(int=i << 64), "x": {"y": Decimal(i)}}
            for i in range(n)
        }
    )


@shape(8000)
def dates(n: int) -> tuple[Snapshot, Snapshot]:
    first = datetime(2026, 1, 1, tzinfo=UTC)
    return both(
        lambda turn: {
            f"S{i}": {
                "at": first + timedelta(seconds=i + turn),
                "day": (first + timedelta(days=i % 999)).date(),
            }
            for i in range(n)
        }
    )


@shape(6000)
def many_texts(n: int) -> tuple[Snapshot, Snapshot]:
    return both(lambda turn: {f"S{i}": {"text": f"text {i} {turn} " * 10} for i in range(n)})


@shape(60_000)
def one_long_text(n: int) -> tuple[Snapshot, Snapshot]:
    random = Random(12)
    return both(lambda turn: {"all": {"text": random.randbytes(8 * n).hex(), "bytes": random.randbytes(n)}})


@shape(2000)
def many_big_ints(n: int) -> tuple[Snapshot, Snapshot]:
    return both(lambda turn: {f"S{i}": {"n": -(1 << 80) - i * (turn + 1)} for i in range(n)})


@shape(60_000)
def one_big_int(n: int) -> tuple[Snapshot, Snapshot]:
    random = Random(13)
    return both(lambda turn: {"all": {"n": random.getrandbits(64 * n)}})


@shape(50_000)
def one_long_decimal(n: int) -> tuple[Snapshot, Snapshot]:
    return both(lambda turn: {"all": {"d": Decimal(f"{turn + 1}." + "1234567890" * n)}})
