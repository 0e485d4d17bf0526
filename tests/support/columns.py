"""The columns of a snapshot by the plain way: docs/columns.md in Python, without the core."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pyarrow as pa  # type: ignore[import-untyped]

EPOCH = datetime(1970, 1, 1)  # of clocks without a zone
MICROSECOND = timedelta(microseconds=1)
MISSING: Any = object()


@dataclass(frozen=True)
class Kind:
    """A declared type, and the value that it has of one of Python."""

    name: str
    convert: Callable[[Any], Any]


def declared(values: list[Any], inner: bool = False) -> Kind | None:
    """The type that holds all these values, of which none is None; None where it is JSON."""
    types = {type(value) for value in values}
    if not types:
        return Kind("null", lambda value: None)
    if types == {bool}:
        return Kind("bool", lambda value: value)
    if types <= {int, float} and float in types:
        exact = all(abs(value) <= 2**53 for value in values if type(value) is int)
        return Kind("double", float) if exact else None
    if types <= {int, Decimal}:
        return _whole(values)
    if types <= {list, tuple}:
        return _list(values)
    if len(types) == 1:
        return _simple(types.pop(), values, inner)
    return None


def _whole(values: list[Any]) -> Kind | None:
    if all(type(value) is int and -(2**63) <= value < 2**63 for value in values):
        return Kind("int64", lambda value: value)
    whole, scale = 0, 0
    for value in values:
        number = Decimal(value)
        if not number.is_finite():
            return None
        _, digits, exponent = number.as_tuple()
        assert isinstance(exponent, int)
        if len(digits) > 38 or abs(exponent) > 38:
            return None
        if type(value) is int and -(2**63) <= value < 2**63:
            whole = max(whole, 19)
        elif number:
            whole = max(whole, len(digits) + exponent)
        scale = max(scale, -exponent)
    if whole + scale > 38:
        return None
    # Exactly: the context of decimal rounds to 28 digits.
    return Kind(f"decimal128(38, {scale})", lambda value: _scaled(Decimal(value), scale))


def _scaled(number: Decimal, scale: int) -> int:
    sign, digits, exponent = number.as_tuple()
    assert isinstance(exponent, int)
    coefficient = int("".join(map(str, digits)) + "0" * (exponent + scale))
    return -coefficient if sign else coefficient


def _list(values: list[Any]) -> Kind | None:
    items = [item for value in values for item in value if item is not None]
    kind = declared(items, inner=True)
    if kind is None:
        return None
    convert = kind.convert
    return Kind(
        f"list<{kind.name}>", lambda value: [None if item is None else convert(item) for item in value]
    )


def _simple(kind: type, values: list[Any], inner: bool) -> Kind | None:
    if kind is str:
        return Kind("text", str) if all(is_text(value) for value in values) else None
    if kind is bytes:
        return Kind("binary", bytes)
    if kind is UUID:
        return Kind("text", str)
    if kind is date:
        return Kind("date", lambda value: (value - date(1970, 1, 1)).days)
    if kind is time:
        naive = all(value.tzinfo is None for value in values)
        return Kind("time", _since_midnight) if naive else None
    if kind is timedelta:
        fits = all(value // MICROSECOND in range(-(2**63), 2**63) for value in values)
        return Kind("duration", lambda value: value // MICROSECOND) if fits else None
    if kind is datetime:
        return _moments(values, inner)
    if kind is dict:
        return _fields(values) if all(values) else None
    return None


def _since_midnight(value: time) -> int:
    return (datetime.combine(EPOCH, value.replace(fold=0)) - EPOCH) // MICROSECOND


def _moments(values: list[datetime], inner: bool) -> Kind | None:
    aware = {value.tzinfo is not None for value in values}
    if len(aware) > 1 or (inner and any(isinstance(value.tzinfo, ZoneInfo) for value in values)):
        return None
    return Kind("timestamp[UTC]" if True in aware else "timestamp", moment)


def moment(value: datetime) -> int:
    """Microseconds since 1970; beyond what a datetime holds as well."""
    offset = value.utcoffset() or timedelta()
    return (value.replace(tzinfo=None, fold=0) - EPOCH) // MICROSECOND - offset // MICROSECOND


def _fields(values: list[dict[str, Any]]) -> Kind | None:
    found: dict[str, list[Any]] = {}
    for value in values:
        for key, item in value.items():
            found.setdefault(key, []).append(item)
    kinds = {}
    for key, items in found.items():
        kind = declared([item for item in items if item is not None], inner=True)
        if kind is None or not is_name(key):
            return None
        kinds[key] = kind

    def convert(value: dict[str, Any]) -> dict[str, Any]:
        return {
            key: None if value.get(key) is None else kind.convert(value[key]) for key, kind in kinds.items()
        }

    names = ", ".join(f"{key}: {kind.name}" for key, kind in kinds.items())
    return Kind(f"struct<{names}>", convert)


def is_text(text: str) -> bool:
    return not any("\ud800" <= c <= "\udfff" for c in text)


def is_name(text: str) -> bool:
    return is_text(text) and "\0" not in text


# --- whole snapshots


def expected(snapshot: dict[str, Any]) -> dict[str, tuple[str, list[Any]]]:
    """Name -> (type, value of each row) of the columns of a snapshot."""
    records = list(snapshot.values())
    columns = {"_symbol": ("text", list(snapshot))}
    dicts = [record if type(record) is dict else {} for record in records]
    has_keys = any(dicts)
    single = [MISSING if type(record) is dict and record else record for record in records]
    values = [value for value in single if value is not MISSING and value is not None]
    if records and (not has_keys or any(value != {} for value in values)):
        columns["value"] = _leaf(single)
    for key, column in _below(dicts).items():
        assert key not in columns
        columns[key] = column
    return columns


def _below(dicts: list[dict[str, Any]]) -> dict[str, tuple[str, list[Any]]]:
    keys = dict.fromkeys(key for record in dicts for key in record)
    return {key: _column([record.get(key, MISSING) for record in dicts]) for key in keys}


def _column(values: list[Any]) -> tuple[str, list[Any]]:
    present = [value for value in values if value is not MISSING and value is not None]
    if not any(type(value) is dict and value for value in present):
        return _leaf(values)
    if not all(type(value) is dict for value in present):
        return _json(values)
    below = _below([value if type(value) is dict else {} for value in values])
    rows = [
        {key: column[1][at] for key, column in below.items()} if type(value) is dict else None
        for at, value in enumerate(values)
    ]
    return f"struct<{', '.join(f'{key}: {column[0]}' for key, column in below.items())}>", rows


def _leaf(values: list[Any]) -> tuple[str, list[Any]]:
    kind = declared([value for value in values if value is not MISSING and value is not None])
    if kind is None:
        return _json(values)
    return kind.name, [None if value is MISSING or value is None else kind.convert(value) for value in values]


def _json(values: list[Any]) -> tuple[str, list[Any]]:
    texts = [
        None if value is MISSING or value is None else json.dumps(value, default=str) for value in values
    ]
    return "json", texts


def read(table: pa.Table) -> dict[str, tuple[str, list[Any]]]:
    """The same of an Arrow table."""
    columns = {}
    for field in table.schema:
        array = table.column(field.name).combine_chunks()
        columns[field.name] = (_name(field), _plain(array))
    return columns


def _name(field: pa.Field) -> str:
    kind = field.type
    if field.metadata and field.metadata.get(b"snapdelta") == b"json":
        return "json"
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{item.name}: {_name(item)}' for item in kind)}>"
    if pa.types.is_large_list(kind):
        return f"list<{_name(kind.value_field)}>"
    names = {
        pa.large_string(): "text",
        pa.large_binary(): "binary",
        pa.date32(): "date",
        pa.time64("us"): "time",
        pa.duration("us"): "duration",
        pa.timestamp("us"): "timestamp",
        pa.timestamp("us", "UTC"): "timestamp[UTC]",
    }
    return names.get(kind, str(kind))


def _plain(array: pa.Array) -> list[Any]:
    if isinstance(array, pa.ChunkedArray):
        return [value for chunk in array.chunks for value in _plain(chunk)]
    kind = array.type
    if pa.types.is_struct(kind):
        fields = [_plain(array.field(at)) for at in range(kind.num_fields)]
        names = [item.name for item in kind]
        return [
            dict(zip(names, (column[at] for column in fields), strict=True)) if valid else None
            for at, valid in enumerate(array.is_valid().to_pylist())
        ]
    if pa.types.is_large_list(kind):
        items, ends = _plain(array.values), array.offsets.to_pylist()
        return [
            items[ends[at] : ends[at + 1]] if valid else None
            for at, valid in enumerate(array.is_valid().to_pylist())
        ]
    if pa.types.is_temporal(kind):
        width = pa.int32() if kind == pa.date32() else pa.int64()
        return array.view(width).to_pylist()  # type: ignore[no-any-return]
    if pa.types.is_decimal(kind):
        return [None if value is None else _scaled(value, kind.scale) for value in array.to_pylist()]
    return array.to_pylist()  # type: ignore[no-any-return]
