"""The arrays of a dict of columns, as the core reads them.

The core asks once a call. Nothing is imported here that the caller has not imported, but the time zone data.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from snapdelta.errors import UnsupportedTypeError, UsageError

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Microseconds of numpy's units of time, as numerator and denominator.
_UNITS = {
    "W": (7 * 86_400_000_000, 1),
    "D": (86_400_000_000, 1),
    "h": (3_600_000_000, 1),
    "m": (60_000_000, 1),
    "s": (1_000_000, 1),
    "ms": (1000, 1),
    "us": (1, 1),
    "ns": (1, 1000),
}
# Above the microseconds of all units that the core takes.
_NO_UNIT = 2**63
_NUMBERS = {"b": "bool", "i": "int", "u": "uint", "f": "float", "U": "str", "S": "bytes"}

Part = tuple[bytes, str, Any]


def parts(columns: dict[Any, Any]) -> list[Part]:
    """Name, kind and memory of each column.

    The kind is `columns` (a dict below it), `arrow`, `objects` (a list, a mask), or one of numbers or text
    (width, microseconds of a unit, buffer, mask).
    """
    return [_part(name, column) for name, column in list(columns.items())]


def _part(name: object, column: Any) -> Part:
    if type(name) is not str:
        raise UnsupportedTypeError(f"{name!r}: names of columns must be str, not {type(name).__name__}")
    encoded = name.encode("utf-8", "surrogatepass")
    numpy = sys.modules.get("numpy")
    if isinstance(column, dict):
        return encoded, "columns", dict(column)
    if isinstance(column, list | tuple):
        return encoded, "objects", (list(column), None)
    if numpy is not None and isinstance(column, numpy.ndarray):
        return encoded, *_array(name, numpy, column)
    if hasattr(column, "__arrow_c_stream__") or hasattr(column, "__arrow_c_array__"):
        return encoded, "arrow", column
    raise UnsupportedTypeError(
        f"{name}: a column must be a numpy array, a list, a dict of columns or an object with Arrow's "
        f"PyCapsule interface, not {type(column).__name__}"
    )


def _array(name: str, numpy: Any, array: Any) -> tuple[str, Any]:
    if array.ndim != 1:
        raise UsageError(f"{name}: a column must have 1 dimension, not {array.ndim}")
    mask = None
    if isinstance(array, numpy.ma.MaskedArray):
        mask = numpy.ascontiguousarray(numpy.ma.getmaskarray(array)).view("u1")
        array = array.data
    dtype = array.dtype
    if dtype.kind in "OT":
        return "objects", (array.tolist(), mask)
    if dtype.kind in "Mm":
        return _moments(name, numpy, array, mask)
    kind = _NUMBERS.get(dtype.kind)
    if kind is None or dtype.char == "g":
        raise UnsupportedTypeError(f"{name}: numpy's {dtype} is not supported")
    if dtype.itemsize == 0:
        return "objects", (array.tolist(), mask)
    return kind, (dtype.itemsize, 1, 1, _bytes(numpy, array), mask)


def _moments(name: str, numpy: Any, array: Any, mask: Any) -> tuple[str, Any]:
    unit, step = numpy.datetime_data(array.dtype)
    multiply, divide = _UNITS.get(unit, (_NO_UNIT, 1))
    if multiply * step >= _NO_UNIT:
        raise UnsupportedTypeError(f"{name}: numpy's {array.dtype} is not supported")
    kind = "duration"
    if array.dtype.kind == "M":
        kind = "date" if unit in "WD" else "datetime"
    return kind, (8, multiply * step, divide, _bytes(numpy, array), mask)


def _bytes(numpy: Any, array: Any) -> Any:
    """The items side by side, in the byte order of the machine."""
    native = numpy.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    return numpy.asarray(native).view("u1")


def in_zone(key: str, moments: Iterable[int | None]) -> list[datetime | None]:
    """Datetimes in a time zone, of microseconds since 1970. Raises ValueError."""
    try:
        zone = ZoneInfo(key)
    except ZoneInfoNotFoundError as error:
        raise ValueError("it is not known here; install tzdata") from error
    try:
        return [
            None if moment is None else (_EPOCH + timedelta(microseconds=moment)).astimezone(zone)
            for moment in moments
        ]
    except OverflowError as error:
        raise ValueError("a datetime outside Python's range") from error
