"""Field values go to the server and back, and what cannot go says so before anything is sent."""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from snapdelta.errors import CorruptDeltaError, StreamError, UnsupportedTypeError
from snapdelta.redis_stream_manager import RedisStreamManager
from snapdelta.streams.field_codec import _UNTAGGED, decode_fields, encode_fields
from support.servers import Deployment, Server


class Colour(enum.Enum):
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Shout(str):
    def __str__(self) -> str:
        return self.upper()


class BrokenZone(tzinfo):
    def utcoffset(self, moment: datetime | None) -> timedelta:
        raise ZeroDivisionError

    def dst(self, moment: datetime | None) -> None:
        return None

    def tzname(self, moment: datetime | None) -> None:
        return None


ENCODED: list[Any] = [
    True,
    False,
    None,
    datetime(2026, 3, 8, 2, 30, 0, 123456),
    datetime(2026, 3, 8, 2, 30, tzinfo=UTC),
    datetime(2026, 3, 8, 2, 30, tzinfo=timezone(timedelta(hours=-5))),
    date(2026, 3, 8),
    time(1, 2, 3, 4),
    timedelta(days=-1, microseconds=5),
    Decimal("1.10"),
    Decimal("-0E-7"),
    Decimal("NaN"),
    UUID(int=7),
    {},
    [],
    {"$decimal": "not one", "$$x": {"a": [1, 1.5, None, True, "text", b"\xff\x00"]}},
    [float("inf"), -0.0, 2**70, (1, (2, 3)), "\ud800"],
    "json:true",
    b"json:true",
    "\ud800",
]


@pytest.mark.parametrize("decode_responses", [False, True])
async def test_through_a_server_and_back(
    deployments: Callable[[str], Deployment], decode_responses: bool
) -> None:
    server = deployments("redis-6.2")
    assert isinstance(server, Server)
    server.reset()
    fields = {f"f{index}": value for index, value in enumerate(ENCODED)}
    async with server.client(decode_responses=decode_responses) as redis:
        await RedisStreamManager(redis).xadd("s", fields)
        ((_, read),) = await redis.xrange("s") or []
    decoded = decode_fields(read or {})
    assert list(decoded) == list(fields)
    for name, value in fields.items():
        assert repr(decoded[name]) == repr(value)


def test_what_redis_has_goes_as_it_is() -> None:
    fields: dict[str | bytes, Any] = {"s": "text", "b": b"\xff", "i": 5, "f": 1.5, b"n": "ü"}
    assert encode_fields("s", fields) == ["s", "text", "b", b"\xff", "i", 5, "f", 1.5, b"n", "ü"]


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Colour.RED, "red"),
        (Level.HIGH, 3),
        (Shout("quiet"), "quiet"),
        (np.int64(5), 5),
        (np.float64(0.1), 0.1),
        (np.str_("x"), "x"),
        (bytearray(b"ab"), b"ab"),
        (memoryview(b"ab"), b"ab"),
    ],
)
def test_dressed_up_values_go_as_what_they_are(value: Any, plain: Any) -> None:
    # redis-py would send "<Level.HIGH: 3>" and "np.float64(0.1)", or raise.
    encoded = encode_fields("s", {"f": value})[1]
    assert encoded == plain
    assert type(encoded) is type(plain)


_CYCLE: list[Any] = []
_CYCLE.append(_CYCLE)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"a": {1, 2}}, "stream 'orders', field a: set"),
        ({"a": {"b": [1, object()]}}, r"field a\.b\[1\]: object"),
        ({"a": {1: 2}}, "field a: a dict's keys must be str"),
        ({"a": _CYCLE}, "nested deeper than 64"),
        ({5: "x"}, "name must be"),
        ({"\ud800": "x"}, "name must be"),
        ({"a": 1j}, "complex"),
        ({"a": 10**5000}, "field a: .*4300 digits"),
        ({"a": {"b": [10**5000]}}, r"field a\.b\[0\]: .*4300 digits"),
        ({"a": datetime(2026, 3, 8, tzinfo=BrokenZone())}, "field a: a datetime that cannot be written"),
    ],
)
def test_what_cannot_be_carried_is_named(fields: Any, said: str) -> None:
    with pytest.raises(UnsupportedTypeError, match=said):
        encode_fields("orders", fields)


def test_an_entry_without_fields_is_refused() -> None:
    with pytest.raises(StreamError, match="'orders'"):
        encode_fields("orders", {})


@pytest.mark.parametrize(
    "value",
    [
        *(
            "json:",
            "json:{",
            b"json:\xff",
            'json:{"$decimal":"x"}',
            "json:" + "1" * 5000,
            "json:" + "[" * 100_000,
        ),
        *(
            f'json:{{"{tag}":{wrong}}}'
            for tag in _UNTAGGED
            for wrong in (
                "5",
                "1.5",
                "null",
                "true",
                "[1]",
                '["x"]',
                '{"a":1}',
                '"?"',
                "[[1]]",
                "[1,2,3,4]",
                "[1e400]",
            )
            if not (tag == "$tuple" and wrong.startswith("["))
        ),
    ],
)
def test_a_broken_value_is_an_error_that_names_the_field(value: Any) -> None:
    with pytest.raises(CorruptDeltaError, match="'price'"):
        decode_fields({b"price": value})


_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.decimals(allow_nan=False),
    # ISO 8601 has no fold.
    st.datetimes().map(lambda moment: moment.replace(fold=0)),
    st.dates(),
    st.timedeltas(),
    st.uuids(),
)
_VALUES = st.recursive(
    _SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3), st.tuples(inner, inner)
    ),
    max_leaves=10,
)


@settings(max_examples=300)
@given(value=st.one_of(_VALUES))
def test_any_value_comes_back(value: Any) -> None:
    # In a list, so that numbers and text are encoded as well.
    encoded = encode_fields("s", {"f": [value]})[1]
    decoded = decode_fields({"f": encoded})["f"]
    assert repr(decoded) == repr([value])


@settings(max_examples=200)
@given(value=st.one_of(st.text(), st.binary()))
def test_any_text_or_bytes_come_back_as_the_server_returns_them(value: str | bytes) -> None:
    encoded = encode_fields("s", {"f": value})[1]
    wire = encoded.encode() if isinstance(encoded, str) else encoded
    decoded = decode_fields({b"f": wire})["f"]
    assert decoded in (value, value.encode(errors="surrogatepass") if isinstance(value, str) else value)


def test_nan_and_infinity_come_back() -> None:
    decoded = decode_fields({"f": encode_fields("s", {"f": [float("nan"), float("-inf")]})[1]})["f"]
    assert math.isnan(decoded[0])
    assert decoded[1] == float("-inf")
