"""Which Arrow type holds a field of all exported states, and the value that goes into it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pyarrow as pa  # type: ignore[import-untyped]

from snapdelta.snapshots.json_text import json_text

# Whole numbers that a double holds exactly.
_EXACT = 2**53
_MOST_DIGITS = 38


@dataclass(slots=True)
class FieldKinds:
    """The types that one field has had so far."""

    types: set[type] = field(default_factory=set)
    smallest: int = 0
    largest: int = 0
    aware: set[bool] = field(default_factory=set)
    surrogates: bool = False
    whole_digits: int = 0
    decimals: int = 0
    special: bool = False

    def add(self, value: Any) -> None:
        kind = type(value)
        self.types.add(kind)
        if kind is int:
            self.smallest, self.largest = min(self.smallest, value), max(self.largest, value)
        elif kind is datetime or kind is time:
            self.aware.add(value.tzinfo is not None)
        elif kind is str:
            self.surrogates = self.surrogates or (not value.isascii() and _has_surrogates(value))
        elif kind is Decimal:
            self._add_decimal(value)

    def _add_decimal(self, value: Decimal) -> None:
        if not value.is_finite():
            self.special = True
            return
        sign, digits, exponent = value.as_tuple()
        assert isinstance(exponent, int)
        # Arrow's zero has no sign.
        self.special = self.special or bool(sign and not value)
        # A column has one scale: "1.10" and "1.1" would become one.
        if self.whole_digits and exponent != -self.decimals:
            self.special = True
        self.decimals = max(0, -exponent)
        self.special = self.special or exponent > 0
        self.whole_digits = max(self.whole_digits, len(digits) - self.decimals, 1)

    def column(self) -> Column:
        """The narrowest type that holds every value; JSON text if there is none."""
        kinds = self.types - {type(None)}
        if not kinds:
            return Column(pa.null(), _same)
        if kinds <= {int, float} and float in kinds:
            exact = self.smallest >= -_EXACT and self.largest <= _EXACT
            return Column(pa.float64(), float) if exact else _JSON
        if len(kinds) > 1:
            return _JSON
        return self._of_one_type(kinds.pop())

    def _of_one_type(self, kind: type) -> Column:
        if kind is int:
            return Column(pa.int64(), _same) if self.smallest >= -(2**63) and self.largest < 2**63 else _JSON
        if kind is str:
            return _JSON if self.surrogates else Column(pa.string(), _same)
        if kind is datetime:
            if len(self.aware) > 1:
                return _JSON
            return Column(pa.timestamp("us", "UTC" if True in self.aware else None), _same)
        if kind is time:
            return _JSON if True in self.aware else Column(pa.time64("us"), _same)
        if kind is Decimal:
            digits = self.whole_digits + self.decimals
            if self.special or digits > _MOST_DIGITS:
                return Column(pa.string(), str)
            return Column(pa.decimal128(digits, self.decimals), _same)
        return _SIMPLE.get(kind, _JSON)


@dataclass(frozen=True, slots=True)
class Column:
    """An Arrow type, and the function that converts a value other than None for it."""

    type: pa.DataType
    convert: Callable[[Any], Any]


def _same(value: Any) -> Any:
    return value


def _has_surrogates(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return True
    return False


_JSON = Column(pa.string(), lambda value: json_text(value).decode())
_SIMPLE = {
    bool: Column(pa.bool_(), _same),
    float: Column(pa.float64(), _same),
    bytes: Column(pa.binary(), _same),
    date: Column(pa.date32(), _same),
    # Parquet has no type of its own: seconds, as in a mirror.
    timedelta: Column(pa.float64(), timedelta.total_seconds),
    UUID: Column(pa.string(), str),
}
