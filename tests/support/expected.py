"""N, what a snapshot is after the trip: the package's contract, written out in plain Python."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, defaultdict
from collections.abc import Callable
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import msgspec
import numpy as np
from pydantic import BaseModel, TypeAdapter
from pydantic_core import TzInfo

AS_THEY_ARE = (bool, int, float, str, bytes, date, timedelta, Decimal, UUID, type(None))
DICTS = (dict, defaultdict, OrderedDict)
NUMPY = (
    *(np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64),
    *(np.longlong, np.ulonglong, np.float16, np.float32, np.float64, np.str_, np.bytes_),
)
MAX_DEPTH = 64


class Unsupported(Exception):  # noqa: N818
    """The value has no place in a snapshot; the arguments are its path and the value."""


def N(value: Any, default: Callable[[Any], Any] | None = None) -> Any:  # noqa: N802
    """The snapshot that a reader gets."""
    if type(value) is not dict:
        raise Unsupported((), value)
    for symbol in value:
        if type(symbol) is not str:
            raise Unsupported((), symbol)
    return {symbol: expected_value(record, default, (symbol,)) for symbol, record in value.items()}


def expected_value(value: Any, default: Callable[[Any], Any] | None, path: tuple[str | int, ...]) -> Any:
    kind = type(value)
    if len(path) > MAX_DEPTH and (kind in (list, tuple) or (kind in DICTS and value)):
        raise Unsupported(path, value)
    if kind in AS_THEY_ARE:
        return value
    if kind is datetime or kind is time:
        zone = value.tzinfo
        if zone is None or type(zone) is timezone or (type(zone) is ZoneInfo and zone.key is not None):
            return value
        if type(zone) is TzInfo:
            return value.replace(tzinfo=timezone(zone.utcoffset(None)))  # type: ignore[arg-type]
    elif kind is list or kind is tuple:
        return kind(expected_value(item, default, (*path, n)) for n, item in enumerate(value))
    elif kind in DICTS:
        for key in value:
            if type(key) is not str:
                raise Unsupported(path, key)
        return {key: expected_value(item, default, (*path, key)) for key, item in value.items()}
    elif isinstance(value, Enum):
        return expected_value(value._value_, default, path)
    elif kind in NUMPY:
        return expected_value(value.item(), default, path)
    elif isinstance(value, BaseModel):
        return expected_value(value.model_dump(), default, path)
    elif isinstance(value, msgspec.Struct):
        return expected_value({name: getattr(value, name) for name in value.__struct_fields__}, default, path)
    elif "__pydantic_serializer__" in vars(kind) and dataclasses.is_dataclass(kind):
        return expected_value(TypeAdapter(kind).dump_python(value), default, path)
    elif dataclasses.is_dataclass(kind):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
        return expected_value(fields, default, path)
    if default is not None:
        return expected_value(default(value), default, path)
    raise Unsupported(path, value)
