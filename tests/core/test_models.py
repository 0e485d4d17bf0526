"""pydantic models give what `model_dump()` gives, whatever their classes do and whatever was done to them.
Where nothing is special, they are read in place. And what else is read by its class.
"""

from __future__ import annotations

import enum
import operator
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone, tzinfo
from random import Random
from typing import Any

import msgspec
import pytest
from pydantic import BaseModel, Field, TypeAdapter, create_model
from pydantic_core import SchemaSerializer, core_schema

import snapdelta
from core import reference_decoder as reference
from snapdelta import _records
from support.assert_exact import assert_same
from support.expected import N, Unsupported
from support.pydantic_models import RECORDS, Checked, Made, Side
from support.roundtrip import delta_trip, full_trip


class DecodedReader:
    """An Encoder that has known the classes for long, and a Decoder."""

    def __init__(self) -> None:
        self.encoder, self.decoder = snapdelta.Encoder(verify=True), snapdelta.Decoder()

    def step(self, snapshot: dict[str, Any], want: dict[str, Any]) -> None:
        self.decoder.apply(self.encoder.encode(snapshot))
        assert_same(self.decoder.snapshot(), want)


def dumped(model: BaseModel) -> Any:
    """What `model_dump()` gives, as it is carried; None if that cannot be carried, or raises."""
    try:
        return N({"A": model.model_dump()})["A"]
    except (Unsupported, TypeError, ValueError, AttributeError):
        return None


def check_models(seeds: range) -> Counter[str]:
    """Compares so many generated classes, each with 7 instances. Returns what was seen."""
    seen: Counter[str] = Counter()
    bases: list[Made] = []
    follower = DecodedReader()
    for seed in seeds:
        made = Made(Random(seed), seed, bases[-20:])
        if not made.cls.__pydantic_decorators__.model_serializers and "own_dump" not in made.parts:
            bases.append(made)
        seen[f"class {_records.kind_of(made.cls)[0]}"] += 1
        for number, model in enumerate(made.instances()):
            want = dumped(model)
            if want is None:
                seen["refused"] += 1
                with pytest.raises((snapdelta.UnsupportedTypeError, AttributeError)):
                    snapdelta.dumps({"A": model})
                continue
            seen["carried"] += 1
            snapshot = {"A": model, "B": {"x": model, "y": seed}, "C": [model, (model,)]}
            wanted = {"A": want, "B": {"x": want, "y": seed}, "C": [want, (want,)]}
            try:
                assert_same(snapdelta.loads(snapdelta.dumps(snapshot)), wanted)
                # by now the Encoder knows the class, and its Enums
                follower.step(snapshot, wanted)
                follower.step({**snapshot, "D": model}, {**wanted, "D": want})
            except AssertionError as error:
                error.add_note(f"seed {seed}, instance {number}, parts {made.parts}: {model!r}")
                raise
    return seen


@pytest.fixture
def quiet() -> Iterator[None]:
    """pydantic warns of values of other types than the fields'."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@pytest.mark.usefixtures("quiet")
def test_generated_models_give_what_model_dump_gives() -> None:
    seen = check_models(range(150))
    assert seen["class model"] > 30
    assert seen["class record"] > 50
    assert seen["carried"] > 800


@pytest.mark.long
@pytest.mark.usefixtures("quiet")
def test_many_generated_models_give_what_model_dump_gives() -> None:
    seen = check_models(range(1000, 2200))
    print(dict(seen))
    assert seen["class model"] > 240
    assert seen["carried"] > 6400


@pytest.mark.parametrize("record", RECORDS, ids=repr)
def test_records_of_every_kind(record: Any) -> None:
    full_trip({"A": record, "B": {"x": record, "list": [record]}})
    delta_trip({"A": {"x": 1}, "B": record}, {"A": record, "B": {"x": 1}, "C": record})


# --- in place, and not


class Quote(BaseModel):
    """Nothing special: constraints, defaults, unions, an Enum twice, a validator's wrapper."""

    price: float = Field(default=1.5, gt=0)
    size: int | str | None = 7
    side: Side = Side.BUY
    other: Side | None = None
    at: datetime | None = None
    reason: str | None = Field(default=None, serialization_alias="why")


@pytest.fixture
def dumps_made(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """Counts the calls of `model_dump` by class."""
    made: Counter[str] = Counter()
    plain = BaseModel.model_dump

    def model_dump(self: BaseModel, *args: Any, **options: Any) -> dict[str, Any]:
        made[type(self).__name__] += 1
        return plain(self, *args, **options)

    monkeypatch.setattr(BaseModel, "model_dump", model_dump)
    return made


def test_models_without_anything_special_are_read_in_place(dumps_made: Counter[str]) -> None:
    encoder = snapdelta.Encoder()
    snapshot = {f"S{n}": Quote(price=1 + n) for n in range(500)}
    encoder.encode(snapshot)
    # the first call learns the Enum
    first = dumps_made.total()
    for _ in range(3):
        for quote in snapshot.values():
            quote.price += 1
        encoder.encode(snapshot)
    assert first <= 1
    assert dumps_made.total() == first


def test_models_are_read_in_place_from_the_first_frame(dumps_made: Counter[str]) -> None:
    class Tick(BaseModel):
        price: float
        size: int
        text: str

    ticks = {f"S{n}": Tick(price=n, size=n, text="a text of some length") for n in range(50)}
    frames = [snapdelta.dumps(ticks), snapdelta.diff({}, ticks)]
    changed = {**ticks, "S7": Tick(price=0.5, size=3, text=""), "inside": {"tick": ticks["S1"], "x": 1}}
    encoder = snapdelta.Encoder()
    encoder.encode(ticks)
    encoder.encode(changed)
    encoder.encode({**changed, "inside": {"tick": ticks["S2"], "x": 2}})
    assert not dumps_made
    assert_same(snapdelta.loads(frames[0]), N({symbol: tick.model_dump() for symbol, tick in ticks.items()}))
    delta_trip(ticks, changed)


class Trade(BaseModel):
    price: float
    size: int = 1


class Ticker(BaseModel):
    symbol: str
    trade: Trade
    maybe: Trade | None = None
    again: Trade = Trade(price=0)
    score: float | None = None


class Node(BaseModel):
    x: int
    next: Node | None = None


def test_models_within_their_own_class_are_dumped() -> None:
    assert _records.kind_of(Node)[0] == "record"
    full_trip({"A": Node(x=1, next=Node(x=2)), "B": Node(x=3)})


@pytest.mark.parametrize("fields", [1, 2])
def test_each_class_of_a_chain_is_judged_once(fields: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not once for each way that leads to it."""
    looks: Counter[str] = Counter()
    plain = _records._is_plain_model

    def counted(schema: Any) -> bool:
        looks[schema["cls"].__name__] += 1
        return plain(schema)

    monkeypatch.setattr(_records, "_is_plain_model", counted)

    def chain(length: int) -> tuple[str, int]:
        model = create_model("M0", value=(int, 0))
        for n in range(1, length):
            inner: Any = {f"m{k}": (model | None, None) for k in range(fields)}
            model = create_model(f"M{n}", value=(int, 0), **inner)
        looks.clear()
        return _records.kind_of(model)[0], looks.total()

    (kind, short), (_, long) = chain(6), chain(12)
    assert kind == "model"
    assert long < 5 * short


def test_models_that_may_hold_many_others() -> None:
    """All that the first record may hold is not listed: it would be 2**40 fields."""
    model = create_model("M0", value=(int, 0))
    for n in range(40):
        maybe: Any = (model | None, None)
        model = create_model(f"M{n}", value=(int, 0), left=maybe, right=maybe)
    full_trip({"A": model(), "B": model(right={"left": {"value": 2}})})


def test_models_in_models_are_read_in_place(dumps_made: Counter[str]) -> None:
    states: list[dict[str, Any]] = [
        {f"S{n}": Ticker(symbol=f"S{n}", trade=Trade(price=n * k), score=k or None) for n in range(30)}
        for k in range(4)
    ]
    states[2]["S3"] = {"inside": states[0]["S3"], "x": 1}
    wanted = [N(state) for state in states]
    follower = DecodedReader()
    dumps_made.clear()
    for state, want in zip(states, wanted, strict=True):
        follower.step(state, want)
    # Where `maybe` is None in place of a model, the record is dumped once, until its shape is known.
    assert dumps_made.total() < 70


class Fuller(Trade):
    more: int = 5


class Other(BaseModel):
    price: float
    size: int


@pytest.mark.parametrize(
    "value",
    [
        Fuller(price=1.5),
        Other(price=1.5, size=2),
        {"price": 1.5, "size": 1},
        None,
        Trade.model_construct(size=3, price=2.5),
        Trade.model_construct(price=[1.5], size=1),
        Trade.model_construct(price=Trade(price=1), size=1),
        5,
        {},
    ],
    ids=["subclass", "other class", "dict", "none", "order", "list", "model", "scalar", "empty"],
)
@pytest.mark.usefixtures("quiet")
def test_what_is_not_exactly_the_declared_model_is_dumped(value: Any) -> None:
    good = {f"S{n}": Ticker(symbol="S", trade=Trade(price=n), maybe=Trade(price=2.0)) for n in range(5)}
    for name in ("trade", "maybe"):
        odd = Ticker(symbol="x", trade=Trade(price=1.0), maybe=Trade(price=1.0))
        odd.__dict__[name] = value
        want = dumped(odd)
        follower = DecodedReader()
        plain = {symbol: dumped(ticker) for symbol, ticker in good.items()}
        follower.step(good, plain)
        follower.step(good, plain)
        state = {**good, "S2": odd, "new": odd}
        if want is None:
            with pytest.raises(snapdelta.UnsupportedTypeError):
                follower.encoder.encode(state)
            continue
        for _ in range(2):
            follower.step(state, {**plain, "S2": want, "new": want})


def test_classes_that_answer_for_their_attributes_are_dumped(dumps_made: Counter[str]) -> None:
    class Sly(BaseModel):
        x: int

        def __getattribute__(self, name: str) -> Any:
            return {"x": 5} if name == "__dict__" else super().__getattribute__(name)

    class Slots(msgspec.Struct):
        x: int

        def __getattribute__(self, name: str) -> Any:
            return 7 if name == "x" else super().__getattribute__(name)

    sly = Sly(x=1)
    want = sly.model_dump()
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    for _ in range(3):
        decoder.apply(encoder.encode({"A": sly, "B": sly, "C": Slots(1), "D": Slots(2)}))
        assert_same(decoder.snapshot(), {"A": want, "B": want, "C": {"x": 7}, "D": {"x": 7}})
    assert dumps_made["Sly"] >= 2


@dataclass(slots=True)
class Level:
    price: float
    size: Any = 0


@dataclass(slots=True)
class Deep(Level):
    # Hides the slot of the class above.
    size: Any = 1
    more: Any = None


class Nested(msgspec.Struct):
    level: Any
    at: Any = None
    text: str = "a text of some length"


def test_slots_give_what_getattr_gives() -> None:
    states = [
        {"A": Level(1.5), "B": Level(2.5, 3), "C": Deep(1.0, 2, "x"), "D": Nested(Level(1.0))},
        {
            "A": Level(1.5, [1, Level(2.0)]),
            "B": Deep(2.5),
            "C": Level(1.0),
            "D": Nested({"price": 1.0, "size": 0}),
        },
        {
            "A": Nested(None),
            "B": {"x": Level(2.0), "y": Nested(Nested(1))},
            "C": 5,
            "D": Nested(Level(1.0, 2), 2),
        },
    ]
    follower = DecodedReader()
    for state in (*states, *states[::-1], *states):
        follower.step(state, N(state))
        assert_same(snapdelta.loads(snapdelta.dumps(state)), N(state))


def changed_later(change: str) -> tuple[Any, Callable[[], object]]:
    """A class with slots, and what gives its instances another `x`."""

    class Root:
        __slots__ = ("x",)

    if change == "struct":

        class Struct(msgspec.Struct):
            x: Any

        return Struct, lambda: setattr(Struct, "x", property(lambda _: "changed"))
    if change == "above":
        made: Any = dataclass(type("Row", (Root,), {"__slots__": (), "__annotations__": {"x": Any}}))
        return made, lambda: setattr(Root, "x", property(lambda _: "changed", lambda *_: None))
    row: Any = dataclass(slots=True)(type("Row", (), {"__annotations__": {"x": Any}}))
    others: dict[str, Callable[[], object]] = {
        "property": lambda: setattr(row, "x", property(lambda _: "changed")),
        "value": lambda: setattr(row, "x", "changed"),
        "getattribute": lambda: setattr(row, "__getattribute__", lambda *_: "changed"),
    }
    return row, others[change]


@pytest.mark.parametrize("change", ["property", "value", "getattribute", "above", "struct"])
def test_a_slot_that_is_something_else_later(change: str) -> None:
    """Also of instances inside others, or in an update; and when it is a slot again."""
    made, change_it = changed_later(change)
    slot = made.__mro__[1].__dict__["x"] if change == "above" else made.__dict__["x"]
    other = Level(1.0)
    rows = {"A": made(1), "B": made(2), "C": {"deep": made(3)}, "D": other}
    turned = {"D": other, **rows}
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()

    def reads(snapshot: Any, *values: object) -> None:
        decoder.apply(encoder.encode(snapshot))
        want = {"A": {"x": values[0]}, "B": {"x": values[1]}, "C": {"deep": {"x": values[2]}}}
        read = decoder.snapshot()
        assert read.pop("D") == {"price": 1.0, "size": 0}
        assert_same(read, want)

    for snapshot in (rows, turned, rows):
        reads(snapshot, 1, 2, 3)
    change_it()
    for snapshot in (turned, rows, rows):
        reads(snapshot, "changed", "changed", "changed")
    decoder.apply(encoder.update({"B": rows["A"]}))
    assert_same(decoder.get("B"), {"x": "changed"})
    if change in ("property", "value"):
        setattr(made, "x", slot)  # noqa: B010
        for snapshot in (turned, rows, rows):
            reads(snapshot, 1, 2, 3)


def test_an_empty_slot_is_named() -> None:
    encoder = snapdelta.Encoder()
    levels = {symbol: Level(1.5) for symbol in "ABC"}
    encoder.encode(levels)
    del levels["B"].size
    before = encoder.digest
    for _ in range(2):
        with pytest.raises(
            snapdelta.UnsupportedTypeError, match=r"^B: Level could not be read: TypeError: no value for size"
        ):
            encoder.encode(levels)
    assert encoder.digest == before
    levels["B"].size = 4
    encoder.encode(levels)


@pytest.mark.parametrize(
    "change",
    [
        lambda quote: quote.__dict__.pop("other"),
        lambda quote: quote.__dict__.update(beside=1),
        lambda quote: (quote.__dict__.pop("other"), quote.__dict__.update(beside=1)),
        lambda quote: quote.__dict__.update(other=quote.__dict__.pop("price")),
        lambda quote: quote.__dict__.update(size=[1]),
        lambda quote: quote.__dict__.update(size=()),
        lambda quote: quote.__dict__.update(size={}),
        lambda quote: quote.__dict__.update(size=Checked(1.5)),
        lambda quote: quote.__dict__.update(size=type("Part", (int,), {})(1)),
    ],
    ids=["gone", "beside", "exchanged", "moved", "list", "tuple", "dict", "dataclass", "subclass"],
)
@pytest.mark.usefixtures("quiet")
def test_an_instance_that_is_not_exactly_its_fields_is_dumped(change: Any, dumps_made: Counter[str]) -> None:
    quote = Quote()
    snapdelta.dumps({"A": quote})
    before = dumps_made.total()
    change(quote)
    want = dumped(quote)
    before += 1
    if want is None:
        with pytest.raises(snapdelta.UnsupportedTypeError, match=r"^A\.size: Part is not supported"):
            snapdelta.dumps({"A": quote})
    else:
        full_trip({"A": quote, "B": [quote]})
    assert dumps_made.total() > before


def test_fields_that_are_left_out_under_a_condition() -> None:
    class Halt(BaseModel):
        price: float
        halt_reason: str | None = Field(default=None, exclude_if=lambda value: value is None)

    open_, halted = Halt(price=1.5), Halt(price=1.5, halt_reason="news")
    full_trip({"A": open_, "B": halted})
    delta_trip({"A": open_, "B": halted}, {"A": halted, "B": open_})
    assert snapdelta.loads(snapdelta.dumps({"A": open_})) == {"A": {"price": 1.5}}


def test_a_serializer_that_was_put_in_the_place_of_the_classs() -> None:
    class Row(BaseModel):
        x: int

    encoder, row = snapdelta.Encoder(), Row(x=1)
    encoder.encode({"A": row})
    Row.__pydantic_serializer__ = SchemaSerializer(
        core_schema.any_schema(
            serialization=core_schema.plain_serializer_function_ser_schema(lambda row: {"y": 2})
        )
    )
    decoder = snapdelta.Decoder()
    encoder.encode({"A": row})
    decoder.apply(encoder.full())
    assert decoder.snapshot() == {"A": row.model_dump()} == {"A": {"y": 2}}
    assert snapdelta.loads(snapdelta.dumps({"A": row})) == {"A": {"y": 2}}


def outer_of(inner: type[BaseModel]) -> type[BaseModel]:
    return create_model("Outer", price=(float, 1.5), inner=(inner, ...))


@pytest.mark.parametrize("change", ["model_dump", "getattribute", "above"])
def test_a_model_whose_class_is_changed_later(change: str) -> None:
    """What holds such a model is dumped as well: its own dump does not ask for that of the class."""

    class Base(BaseModel):
        x: int = 1

    class Row(Base):
        pass

    row = Row()
    outer = outer_of(Row)(inner=row)
    rows = {"A": row, "B": row, "C": outer, "D": Quote(price=1)}
    follower = DecodedReader()
    for snapshot in (rows, {"C": outer, **rows}, rows):
        follower.step(snapshot, {symbol: dumped(model) for symbol, model in snapshot.items()})
    with pytest.MonkeyPatch.context() as patch:
        if change == "getattribute":
            patch.setattr(Row, "__getattribute__", lambda *at: object.__getattribute__(*at), raising=False)
        else:
            changed = Base if change == "above" else Row
            patch.setattr(changed, "model_dump", lambda *_, **__: {"patched": 2}, raising=False)
        for snapshot in (rows, {"C": outer, **rows}, rows):
            follower.step(snapshot, {symbol: dumped(model) for symbol, model in snapshot.items()})
    follower.step(rows, {symbol: dumped(model) for symbol, model in rows.items()})


def test_a_dataclass_with_other_fields_later() -> None:
    @dataclass
    class Point:
        x: int = 1
        y: int = 2

    point, follower = Point(), DecodedReader()
    follower.step({"A": point, "B": {"p": [point]}}, {"A": {"x": 1, "y": 2}, "B": {"p": [{"x": 1, "y": 2}]}})
    fields = {"y": Point.__dataclass_fields__["y"]}
    Point.__dataclass_fields__ = fields
    follower.step({"A": point, "B": {"p": [point]}}, {"A": {"y": 2}, "B": {"p": [{"y": 2}]}})


def test_an_encoder_asks_once_for_a_class(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: Counter[str] = Counter()
    kind_of = _records.kind_of

    def counted(cls: type) -> Any:
        asked[cls.__name__] += 1
        return kind_of(cls)

    monkeypatch.setattr(_records, "kind_of", counted)

    @dataclass
    class Point:
        x: int

    encoder = snapdelta.Encoder()
    for n in range(5):
        ticker = Ticker(symbol=f"S{n}", trade=Trade(price=n))
        encoder.encode({"A": ticker, "B": Level(n), "C": {"a": Point(n), "ticker": ticker}, "D": Side.BUY})
    assert set(asked.values()) == {1}


# --- pydantic's zone

PARSED = TypeAdapter(datetime)
MOMENTS = ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05+02:00", "2026-01-02T03:04:05.5-09:30")


@pytest.mark.parametrize("text", MOMENTS)
def test_pydantics_zone_becomes_the_timezone_of_its_offset(text: str) -> None:
    moment = PARSED.validate_python(text)
    moments = {
        "A": {"at": moment, "in": {"list": [moment, (moment.replace(fold=1),)]}},
        "B": moment,
        "C": moment.timetz(),
        "D": {"x": 1, "at": moment.replace(fold=1)},
    }
    carried = snapdelta.loads(full_trip(moments))
    assert type(carried["A"]["at"].tzinfo) is timezone
    assert carried["A"]["at"] == moment
    later = {**moments, "A": {"at": moment + timedelta(1), "in": {"list": []}}, "D": {"x": 2, "at": moment}}
    # what was given with pydantic's zone is built anew, also where a delta does not touch it
    delta_trip(moments, later)
    delta_trip({**carried, "E": {"x": 1}}, moments)
    follower = DecodedReader()
    for snapshot in (moments, later, carried, moments, later):
        follower.step(snapshot, N(snapshot))


def test_an_encoder_keeps_few_of_pydantics_zones() -> None:
    """Each parsed datetime may have a zone object of its own."""
    encoder = snapdelta.Encoder()
    moments = [PARSED.validate_python("2026-01-02T03:04:05+01:00") for _ in range(20_000)]
    zones = [moment.tzinfo for moment in moments]
    assert len({id(zone) for zone in zones}) == 20_000
    before = [sys.getrefcount(zone) for zone in zones]
    encoder.encode({f"S{n}": {"at": moment} for n, moment in enumerate(moments)})
    after = [sys.getrefcount(zone) for zone in zones]
    assert 0 < sum(map(operator.ne, before, after)) <= 4096
    assert_same(
        snapdelta.loads(encoder.full())["S0"], {"at": moments[0].replace(tzinfo=timezone(timedelta(hours=1)))}
    )


def test_a_default_may_make_anything_of_a_datetime_in_another_zone() -> None:
    class Zone(tzinfo):
        def utcoffset(self, moment: datetime | None) -> timedelta | None:
            raise AssertionError

        dst = tzname = utcoffset  # type: ignore[assignment]

    def default(value: datetime) -> Any:
        return {"year": value.year} if value.year > 2000 else value.year

    early, late = datetime(1999, 1, 1, tzinfo=Zone()), datetime(2026, 1, 1, tzinfo=Zone())
    plain = {"A": {"x": 1, "t": datetime(2026, 1, 1)}, "B": {"x": 1, "t": late}}
    full_trip(plain, default)
    delta_trip(plain, {"A": {"x": 1, "t": late}, "B": {"x": 1, "t": early}}, default)
    delta_trip(
        {"A": {"x": 1, "t": early}, "B": {"x": 1}}, {"A": {"x": 1, "t": early}, "B": {"x": 2}}, default
    )


def test_fake_datetimes_in_the_module_do_no_harm() -> None:
    """freezegun puts its own classes into the module `datetime`, perhaps before a process's first call."""
    code = """if True:
        import datetime, freezegun
        real = datetime.datetime(2026, 1, 2), datetime.date(2026, 1, 2)
        with freezegun.freeze_time("2025-05-05"):
            import snapdelta
            got = snapdelta.loads(snapdelta.dumps({"A": list(real)}))["A"]
        assert [type(value) for value in got] == [datetime.datetime, datetime.date], got
        assert got == list(real)
    """
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


# --- dataclasses, Structs, Enums


def test_pydantic_dataclasses_give_what_their_serializer_gives() -> None:
    record = Checked(1.5, 4, 5)
    assert snapdelta.loads(full_trip({"A": record, "B": {"c": [record]}}))["A"] == {
        "price": 1.5,
        "size": "5 shares",
    }


@dataclass
class Row:
    price: float = 1.0
    vwap: float = field(init=False)


@dataclass(slots=True)
class Slotted:
    price: float = field(init=False)


class Struct(msgspec.Struct):
    price: float = 1.0


def test_a_field_without_a_value_is_named() -> None:
    struct = Struct()
    del struct.price
    for record, name, missing in (
        (Row(), "Row", "vwap"),
        (Slotted(), "Slotted", "price"),
        (struct, "Struct", "price"),
    ):
        for snapshot, path in (
            ({"AAPL": record}, "AAPL"),
            ({"AAPL": {"row": record}}, "AAPL.row"),
            ({"AAPL": {"rows": [1, record]}}, r"AAPL\.rows\[1]"),
        ):
            says = rf"^{path}: {name} could not be read: TypeError: no value for {missing}$"
            with pytest.raises(snapdelta.UnsupportedTypeError, match=says) as caught:
                snapdelta.dumps(snapshot)
            assert isinstance(caught.value.__cause__, TypeError)
            assert isinstance(caught.value.__cause__.__cause__, AttributeError)
    checked = Checked(1.5)
    del checked.price
    with pytest.raises(
        snapdelta.UnsupportedTypeError, match=r"^A\[0]: Checked could not be read: .*'price'$"
    ):
        snapdelta.dumps({"A": [checked]})


def test_a_serializer_that_raises_is_named() -> None:
    class Loud(BaseModel):
        side: Any

        def model_dump(self, **options: Any) -> Any:
            raise self.side

    for error in (ValueError("bad"), TypeError("bad")):
        with pytest.raises(
            snapdelta.UnsupportedTypeError, match=r"^A\.m: Loud could not be read: \w+: bad$"
        ) as caught:
            snapdelta.dumps({"A": {"m": Loud(side=error)}})
        assert caught.value.__cause__ is error
    lost = LookupError("bad")
    with pytest.raises(LookupError) as other:
        snapdelta.dumps({"A": {"m": Loud(side=lost)}})
    assert other.value is lost
    assert lost.__notes__ == ["A.m: Loud could not be read"]


def test_members_whose_value_can_change_are_read_each_time() -> None:
    class Levels(enum.Enum):
        LIST = [1, 2]  # noqa: RUF012
        TUPLE = (1, [2])
        EMPTY = {}  # type: ignore[var-annotated]  # noqa: RUF012
        ROW = Row()
        OTHER = {1}  # noqa: RUF012

    Levels.ROW.value.vwap = 0.5
    encoder, decoder = snapdelta.Encoder(default=sorted, verify=True), snapdelta.Decoder()
    snapshot = {"A": {member.name: member for member in Levels}, "B": [*Levels]}
    for n in range(3):
        decoder.apply(encoder.encode(snapshot))
        assert_same(decoder.snapshot(), N(snapshot, sorted))
        Levels.LIST.value.append(n)
        Levels.TUPLE.value[1].append(n)
        Levels.EMPTY.value[f"k{n}"] = n
        Levels.ROW.value.vwap += 1
        Levels.OTHER.value.add(10 + n)
    assert_same(reference.decode(encoder.full()), decoder.snapshot())


def test_a_member_whose_value_is_another_later() -> None:
    class Level(enum.Enum):
        LOW = 1
        HIGH = "a text that is too long for a word"

    follower = DecodedReader()
    snapshot = {"A": {"level": Level.LOW, "in": [Level.HIGH]}, "B": Level.HIGH}
    for _ in range(2):
        follower.step(snapshot, N(snapshot))
    for member, value in ((Level.LOW, 1.0), (Level.HIGH, "another")):
        setattr(member, "_value_", value)  # noqa: B010
    assert N(snapshot)["B"] == "another"
    for _ in range(2):
        follower.step(snapshot, N(snapshot))
    setattr(Level.HIGH, "_value_", {"now": ["a dict"]})  # noqa: B010
    follower.step({"B": 1, **snapshot}, N({"B": 1, **snapshot}))
