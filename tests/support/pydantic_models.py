"""Seeded pydantic classes and instances: every way there is to change what `model_dump()` gives."""

from __future__ import annotations

import enum
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import cached_property
from random import Random
from typing import Annotated, Any, Generic, Literal, TypeVar
from uuid import UUID
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PrivateAttr,
    RootModel,
    SerializeAsAny,
    TypeAdapter,
    WrapSerializer,
    computed_field,
    field_serializer,
    field_validator,
    model_serializer,
    model_validator,
)
from pydantic.dataclasses import dataclass as pydantic_dataclass
from pydantic_core import core_schema
from typing_extensions import TypedDict

T = TypeVar("T")
Make = Callable[[Random], Any]


# --- what fields are made of


class Side(enum.StrEnum):
    BUY = "buy"
    SELL = "007"


class Size(enum.IntEnum):
    SMALL = 1
    HUGE = 2**70


class Mutable(enum.Enum):
    LEVELS = [1, 2]  # noqa: RUF012
    PAIR = (1, [2.5])


class Pair(tuple, enum.Enum):  # type: ignore[type-arg]
    HERE = (1, 2)


class ByName(enum.Enum):
    """An Enum whose own schema serializes its members' names."""

    BID = 1
    ASK = 2

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        names = core_schema.plain_serializer_function_ser_schema(lambda member: member.name)
        return core_schema.no_info_plain_validator_function(cls, serialization=names)


class Money:
    """A class of its own that is serialized by its own schema."""

    def __init__(self, cents: int) -> None:
        self.cents = cents

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        text = core_schema.plain_serializer_function_ser_schema(lambda money: f"${money.cents / 100}")
        return core_schema.is_instance_schema(cls, serialization=text)


class Level(BaseModel):
    price: float
    size: int = 0


class DeepLevel(Level):
    """Has a field that a serializer of Level does not see."""

    depth: int = 7


class Leveled(BaseModel):
    kind: Literal["level"] = "level"
    price: float = 1.5


class Named(BaseModel):
    kind: Literal["named"] = "named"
    secret: int = Field(default=3, exclude=True)


class Box(BaseModel, Generic[T]):
    content: T
    count: int = 1


class Rooted(RootModel[list[int]]):
    pass


class RootedScalar(RootModel[int]):
    pass


class Node(BaseModel):
    """Its schema stands among definitions."""

    value: int = 1
    side: Side = Side.BUY
    other: Side | None = None
    next: Node | None = None


class Halved(BaseModel):
    """Serialized by its own schema."""

    width: float

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> Any:
        schema = handler(source)
        half = core_schema.plain_serializer_function_ser_schema(lambda model: {"half": model.width / 2})
        schema["serialization"] = half
        return schema


@dataclass
class Trade:
    price: float
    tags: list[str]


@pydantic_dataclass
class Checked:
    price: float
    hidden: int = Field(default=1, exclude=True)
    size: int = 2

    @field_serializer("size")
    def as_text(self, size: int) -> str:
        return f"{size} shares"


class Typed(TypedDict):
    a: int
    b: str


def of(*values: Any) -> Make:
    return lambda rng: rng.choice(values)


FLOATS = of(1.5, -0.0, 0.0, 1e300, 5e-324, float("inf"), float("nan"), 187.12)
PARSED = TypeAdapter(datetime)
MOMENTS = of(
    datetime(2026, 1, 2, 3, 4, 5, 6),
    datetime(2026, 1, 2, tzinfo=UTC),
    datetime(2026, 10, 25, 2, 30, tzinfo=ZoneInfo("Europe/Berlin"), fold=1),
    datetime(2026, 1, 2, tzinfo=timezone(timedelta(hours=1), "CET")),
    *(PARSED.validate_python(f"2026-01-02T03:04:05{zone}") for zone in ("Z", "+02:00", "-05:30")),
)

# annotation, what makes its values; the first are read in place
SCALARS: list[tuple[Any, Make]] = [
    (int, of(0, 1, -5, 2**63 - 1, 2**70)),
    (float, FLOATS),
    (str, of("", "7", "abcdefg", "a longer text than that", "é😀")),
    (bytes, of(b"", b"\0\xff")),
    (bool, of(True, False)),
    (date, of(date(2026, 1, 2))),
    (datetime, MOMENTS),
    (time, of(time(1, 2, 3), time(1, tzinfo=UTC), TypeAdapter(time).validate_python("01:02:03+01:00"))),
    (timedelta, of(timedelta(0), timedelta(days=-1, microseconds=7))),
    (Decimal, of(Decimal("1.10"), Decimal("-0"), Decimal("1e30"))),
    (UUID, of(UUID(int=7))),
    (Side, of(*Side)),
    (Size, of(*Size)),
    (Mutable, of(*Mutable)),
    (Literal["a", 7], of("a", 7)),
    (Annotated[int, Field(ge=0)], of(0, 9)),
    (Annotated[str, Field(max_length=20)], of("short")),
    (int | str | None, of(1, "1", None)),
    (float | None, of(1.5, None)),
    (datetime | None, MOMENTS),
]
OTHERS: list[tuple[Any, Make]] = [
    (Any, of(1, [1, {"a": (2,)}], None, Level(price=1), DeepLevel(price=1), Side.BUY, Trade(1.5, ["a"]))),
    (list[int], of([], [1, 2])),
    (dict[str, float], of({}, {"a": 1.5})),
    (tuple[int, str], of((1, "a"))),
    (list[Level], of([], [Level(price=1.5), DeepLevel(price=2)])),
    (dict[str, Level], of({"a": Level(price=1.5)})),
    (Level, of(Level(price=1.5), DeepLevel(price=2.5, depth=1))),
    (Level | None, of(None, Level(price=1.5), DeepLevel(price=2.5))),
    (SerializeAsAny[Level], of(Level(price=1.5), DeepLevel(price=2.5))),
    (list[SerializeAsAny[Level]], of([DeepLevel(price=2.5)])),
    (Annotated[Leveled | Named, Field(discriminator="kind")], of(Leveled(), Named())),
    (Box[int], of(Box[int](content=1))),
    (Box[Level], of(Box[Level](content=DeepLevel(price=1)))),
    (Rooted, of(Rooted([1, 2]))),
    (RootedScalar | None, of(None, RootedScalar(5))),
    (Halved, of(Halved(width=3.0))),
    (Trade, of(Trade(1.5, ["x"]))),
    (Checked, of(Checked(1.5))),
    (Typed, of(Typed(a=1, b="b"))),
    (Pair, of(*Pair)),
    (ByName, of(*ByName)),
    (Money | None, of(Money(150), None)),
    (Annotated[int, PlainSerializer(lambda value: f"{value}!")], of(1, 2)),
    (Annotated[int, PlainSerializer(str, when_used="json")], of(1, 2)),
    (Annotated[float, PlainSerializer(str, when_used="unless-none")] | None, of(1.5, None)),
    (Annotated[int, WrapSerializer(lambda value, handler: [handler(value)])], of(1, 2)),
    (list[Annotated[int, PlainSerializer(lambda value: -value)]], of([1, 2])),
]


# Instances of each class above.
RECORDS: list[Any] = [
    *(
        Level(price=1.5),
        DeepLevel(price=1.5),
        Leveled(),
        Named(),
        Box[int](content=1),
        Box[Level | None](content=None),
    ),
    *(
        Box[float](content=1.5),
        Box(content=[1]),
        Rooted([1]),
        Rooted([]),
        RootedScalar(7),
        Node(),
        Halved(width=3),
    ),
    *(Node(next=Node(next=Node())), Trade(1.5, []), Checked(2.5), RootModel[Level](DeepLevel(price=1))),
    *(RootModel[dict[str, int]]({}), RootModel[Side](Side.SELL), RootModel[ByName](ByName.BID)),
]


# --- what a class may have besides; each takes the namespace and the names of the fields


def aliases(rng: Random, names: list[str], space: dict[str, Any]) -> None:
    for name in rng.sample(names, min(2, len(names))):
        kind = rng.choice(["alias", "serialization_alias", "validation_alias"])
        space[name] = Field(**{kind: f"{name}Alias"})  # type: ignore[call-overload]
    space["model_config"]["populate_by_name"] = True
    if rng.random() < 0.4:
        space["model_config"]["serialize_by_alias"] = True


def excluded(rng: Random, names: list[str], space: dict[str, Any]) -> None:
    space[rng.choice(names)] = Field(exclude=True)


def excluded_if(rng: Random, names: list[str], space: dict[str, Any]) -> None:
    rule = rng.choice([lambda value: value is None, lambda value: not value, lambda value: True])
    space[rng.choice(names)] = Field(exclude_if=rule)


def computed(rng: Random, names: list[str], space: dict[str, Any]) -> None:
    def fields(self: Any) -> int:
        return len(type(self).model_fields)

    space["fields_"] = computed_field(property(fields))


def cached_computed(rng: Random, names: list[str], space: dict[str, Any]) -> None:
    def answer(self: Any) -> int:
        return 42

    space["answer"] = computed_field(cached_property(answer))


def cached(rng: Random, names: list[str], space: dict[str, Any]) -> None:
    space["answer"] = cached_property(lambda self: 42)


def field_plain(rng: Random, names: list[str], space: dict[str, Any]) -> None:
    when: Any = rng.choice(["always", "json", "unless-none", "json-unless-none"])
    space["plain_"] = field_serializer(rng.choice(names), when_used=when)(lambda self, value: f"<{value}>")


def field_wrap(rng: Random, names: list[str], space: dict[str, Any]) -> None:
    def wrap(self: Any, value: Any, handler: Any) -> Any:
        return {"wrapped": handler(value)}

    space["wrap_"] = field_serializer(rng.choice([*names, "*"]), mode="wrap")(wrap)


def model_plain(rng: Random, names: list[str], space: dict[str, Any]) -> None:
    result: Any = rng.choice([{"one": 1}, "text", [1, 2], {}])
    space["serial_"] = model_serializer(lambda self: result)


def model_wrap(rng: Random, names: list[str], space: dict[str, Any]) -> None:
    def wrap(self: Any, handler: Any) -> Any:
        return {**handler(self), "more": 1}

    space["serial_"] = model_serializer(mode="wrap")(wrap)


def own_schema(rng: Random, names: list[str], space: dict[str, Any]) -> None:
    def schema(cls: Any, source: Any, handler: Any) -> Any:
        made = handler(source)
        # the model's own, also when it stands among definitions
        inner = made["schema"] if made["type"] == "definitions" else made
        inner["serialization"] = core_schema.plain_serializer_function_ser_schema(lambda model: {"own": 1})
        return made

    space["__get_pydantic_core_schema__"] = classmethod(schema)


def own_dump(rng: Random, names: list[str], space: dict[str, Any]) -> None:
    space["model_dump"] = lambda self, **options: {"dumped": len(BaseModel.model_dump(self, **options))}


def extras(rng: Random, names: list[str], space: dict[str, Any]) -> None:
    space["model_config"]["extra"] = rng.choice(["allow", "allow", "ignore"])


def private(rng: Random, names: list[str], space: dict[str, Any]) -> None:
    space["__annotations__"]["_seen"] = int
    space["_seen"] = PrivateAttr(default=3)


def encoders(rng: Random, names: list[str], space: dict[str, Any]) -> None:
    space["model_config"]["json_encoders"] = {int: str, datetime: str}


def enum_values(rng: Random, names: list[str], space: dict[str, Any]) -> None:
    space["model_config"]["use_enum_values"] = True


def json_settings(rng: Random, names: list[str], space: dict[str, Any]) -> None:
    space["model_config"].update(
        ser_json_inf_nan="null", ser_json_timedelta="float", ser_json_bytes="hex", str_strip_whitespace=True
    )


def deferred(rng: Random, names: list[str], space: dict[str, Any]) -> None:
    space["model_config"]["defer_build"] = True


def frozen(rng: Random, names: list[str], space: dict[str, Any]) -> None:
    space["model_config"]["frozen"] = True


def validators(rng: Random, names: list[str], space: dict[str, Any]) -> None:
    mode: Any = rng.choice(["before", "after"])
    wrap: Any = model_validator(mode="wrap")
    validate: Any = field_validator
    space["field_"] = validate(rng.choice(names), mode=mode)(lambda cls, value: value)

    def unchanged(cls: Any, value: Any, handler: Any) -> Any:
        return handler(value)

    space["model_"] = wrap(classmethod(unchanged))


# They leave what `model_dump()` gives of scalars as it is.
HARMLESS = [private, json_settings, frozen, validators, cached, enum_values]
PARTS = [
    *(aliases, excluded, excluded_if, computed, cached_computed, field_plain, field_wrap, model_plain),
    *(model_wrap, own_schema, own_dump, extras, encoders, deferred, *HARMLESS),
]


class Made:
    """A class, and instances of it."""

    def __init__(self, rng: Random, number: int, bases: list[Made]) -> None:
        self.rng = rng
        self.plain = rng.random() < 0.35
        base = rng.choice(bases) if bases and rng.random() < 0.3 else None
        self.values: dict[str, Make] = dict(base.values) if base else {}
        space: dict[str, Any] = {"__annotations__": {}, "__module__": __name__, "model_config": ConfigDict()}
        names = []
        for n in range(rng.randint(1, 8)):
            kinds = SCALARS if self.plain or rng.random() < 0.6 else [*OTHERS]
            name = f"{rng.choice('pqrs')}{number}_{n}"
            space["__annotations__"][name], self.values[name] = rng.choice(kinds)
            names.append(name)
        parts = rng.sample(HARMLESS if self.plain else PARTS, rng.randint(0, 3))
        for part in parts:
            part(rng, names, space)
        self.extra = space["model_config"].get("extra") == "allow"
        self.parts = [part.__name__ for part in parts]
        parent = base.cls if base else BaseModel
        metaclass: Any = type(BaseModel)
        self.cls: Any = metaclass(f"Model{number}", (parent,), space)

    def fields(self) -> dict[str, Any]:
        return {name: make(self.rng) for name, make in self.values.items()}

    def instances(self) -> list[Any]:
        """As validated, as constructed without validation, and as changed behind pydantic's back."""
        rng, fields = self.rng, self.fields()
        if self.extra:
            fields["extra"] = rng.choice([1, "x", Level(price=1.5), [DeepLevel(price=2)]])
        by_name = {
            (field.validation_alias or name): fields.get(name)
            for name, field in self.cls.model_fields.items()
        }
        validated = self.cls.model_validate({**fields, **by_name})
        made = [validated, validated.model_copy(update=dict(list(self.fields().items())[:2]))]
        partial = self.fields()
        partial.pop(rng.choice([*partial]))
        made.append(self.cls.model_construct(**partial))
        made.append(self.cls.model_construct(**dict(reversed(self.fields().items()))))
        made.extend(changed(rng, validated.model_copy(), change) for change in rng.sample(CHANGES, 3))
        return made


# --- changes behind pydantic's back


def changed(rng: Random, model: Any, change: Callable[[Random, Any], None]) -> Any:
    change(rng, model)
    return model


Point = namedtuple("Point", "x y")


class Levels(list):  # type: ignore[type-arg]
    pass


def other_type(rng: Random, model: Any) -> None:
    name = rng.choice([*type(model).model_fields])
    values = [1, "x", None, [1], {}, {"a": 1}, {1: 2}, (1, 2), Point(1, 2), Levels([1]), Level(price=1)]
    values += [
        DeepLevel(price=2),
        Trade(1, []),
        Checked(2.5),
        {1, 2},
        Side.BUY,
        ByName.BID,
        Money(5),
        1j,
        Pair.HERE,
    ]
    model.__dict__[name] = rng.choice(values)


def field_gone(rng: Random, model: Any) -> None:
    del model.__dict__[rng.choice([*model.__dict__])]


def field_more(rng: Random, model: Any) -> None:
    model.__dict__["beside"] = 1


def field_exchanged(rng: Random, model: Any) -> None:
    field_gone(rng, model)
    field_more(rng, model)


def reordered(rng: Random, model: Any) -> None:
    items = [*model.__dict__.items()]
    rng.shuffle(items)
    model.__dict__.clear()
    model.__dict__.update(items)


def other_dict(rng: Random, model: Any) -> None:
    object.__setattr__(model, "__dict__", OrderedDict(model.__dict__))


def property_read(rng: Random, model: Any) -> None:
    getattr(model, "answer", None)


def rebuilt(rng: Random, model: Any) -> None:
    """The class gets another serializer after its first objects were read."""
    type(model).model_rebuild(force=True)


CHANGES = [
    *(other_type, other_type, field_gone, field_more, field_exchanged, reordered, other_dict),
    *(property_read, rebuilt),
]
