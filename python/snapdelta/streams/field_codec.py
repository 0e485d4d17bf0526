"""A reversible encoding of field values for which Redis has no type.

str, bytes, int and float are written as text or bytes, as Redis stores them. Every other value becomes
`json:` and JSON,
in which what JSON lacks is an object with one key: {"$datetime": ISO 8601}, {"$date": ..}, {"$time": ..},
{"$timedelta": [days, seconds, microseconds]}, {"$decimal": ".."}, {"$uuid": ".."}, {"$bytes": base64},
{"$tuple": [..]}, {"$float": "nan" | "inf" | "-inf"}. A dict's own key that begins with `$` gets another `$`.
Text and bytes that begin with `json:` are encoded too, so decoding never guesses. A
datetime keeps its
offset, not the name of its zone.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Mapping
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from snapdelta.errors import CorruptDeltaError, StreamArgumentError, UnsupportedTypeError

MARK = "json:"
_MARK_BYTES = MARK.encode()
_DEEPEST = 64

_TAGGED: dict[type, tuple[str, Callable[[Any], Any]]] = {
    datetime: ("$datetime", datetime.isoformat),
    date: ("$date", date.isoformat),
    time: ("$time", time.isoformat),
    timedelta: ("$timedelta", lambda value: [value.days, value.seconds, value.microseconds]),
    Decimal: ("$decimal", str),
    UUID: ("$uuid", str),
    bytes: ("$bytes", lambda value: base64.b64encode(value).decode()),
}
# What JSON holds under each tag, and what that becomes.
_UNTAGGED: dict[str, tuple[type, Callable[[Any], Any]]] = {
    "$datetime": (str, datetime.fromisoformat),
    "$date": (str, date.fromisoformat),
    "$time": (str, time.fromisoformat),
    "$timedelta": (list, lambda value: _timedelta(*value)),
    "$decimal": (str, Decimal),
    "$uuid": (str, UUID),
    "$bytes": (str, lambda value: base64.b64decode(value, validate=True)),
    "$tuple": (list, tuple),
    "$float": (str, float),
}


def _timedelta(days: int, seconds: int, microseconds: int) -> timedelta:
    return timedelta(days, seconds, microseconds)


def encode_fields(stream: str, fields: Mapping[str | bytes, Any], encoding: str = "utf-8") -> list[Any]:
    """The flat list of names and values that XADD takes: only str, bytes, int and float are in it.

    `encoding` is the client's; text that it cannot carry is encoded as JSON, in ASCII. Raises
    UnsupportedTypeError that names the stream and the path of an unsupported name or value.
    """
    if not isinstance(fields, Mapping):
        raise UnsupportedTypeError(
            f"stream {stream!r}: fields must be a mapping of names to values, not {type(fields).__name__}"
        )
    if not fields:
        raise StreamArgumentError(f"stream {stream!r}: an entry needs at least one field; fields is empty")
    flat: list[Any] = []
    for name, value in fields.items():
        kind = type(value)
        if not (type(name) is bytes or (type(name) is str and _fits(name, encoding))):
            raise UnsupportedTypeError(
                f"stream {stream!r}: a field's name must be bytes, or str that the client's encoding "
                f"({encoding}) can carry, not {name!r}"
            )
        if kind is str:
            plain = value if _is_plain(value, encoding) else _encode(stream, name, value, encoding)
        elif kind is float:
            plain = value
        elif kind is bytes:
            plain = value if not value.startswith(_MARK_BYTES) else _encode(stream, name, value, encoding)
        else:
            plain = _encode(stream, name, value, encoding)
        flat.append(name)
        flat.append(plain)
    return flat


def decode_fields(fields: Mapping[Any, Any]) -> dict[str | bytes, Any]:
    """The fields of an entry as Python values; a value that was not encoded stays as it is.

    Names become str where they are UTF-8. Unencoded text, bytes and numbers stay the bytes or str that the
    client read. Raises CorruptDeltaError, naming the field, for a value that is marked as encoded but is
    malformed.
    """
    decoded: dict[str | bytes, Any] = {}
    for name, value in fields.items():
        key = _as_text(name)
        if isinstance(value, bytes) and value.startswith(_MARK_BYTES):
            decoded[key] = _decode(key, value[len(_MARK_BYTES) :])
        elif isinstance(value, str) and value.startswith(MARK):
            decoded[key] = _decode(key, value[len(MARK) :])
        else:
            decoded[key] = value
    return decoded


def _is_plain(text: str, encoding: str) -> bool:
    """Whether the text goes as it is: not like an encoded value, and without what the client cannot send."""
    return not text.startswith(MARK) and _fits(text, encoding)


def _fits(text: str, encoding: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _as_text(name: Any) -> str | bytes:
    if not isinstance(name, bytes):
        return str(name)
    try:
        return name.decode()
    except UnicodeDecodeError:
        return name


def _encode(stream: str, name: str | bytes, value: Any, encoding: str) -> Any:
    value = _unwrapped(value)
    path = name if isinstance(name, str) else repr(name)
    if type(value) is float:
        return value
    if type(value) is int:
        return _written(value, stream, path)
    if type(value) is str and _is_plain(value, encoding):
        return value
    if isinstance(value, (bytearray, memoryview)):
        # Redis has bytes, and so have these.
        value = bytes(value)
    if type(value) is bytes and not value.startswith(_MARK_BYTES):
        return value
    return MARK + json.dumps(_tagged(value, stream, path, 0), separators=(",", ":"), ensure_ascii=True)


def _written(value: int, stream: str, path: str) -> int:
    """The int itself, unless Python refuses to write it as text (sys.set_int_max_str_digits)."""
    try:
        str(value)
    except ValueError as error:
        raise UnsupportedTypeError(f"stream {stream!r}, field {path}: {error}") from error
    return value


def _unwrapped(value: Any) -> Any:
    """An Enum's value, a numpy scalar's Python value, a str, int or float without its subclass."""
    if isinstance(value, Enum):
        return _unwrapped(value.value)
    kind = type(value)
    if kind.__module__ == "numpy" and getattr(value, "shape", None) == () and hasattr(value, "item"):
        return value.item()
    if kind in (str, int, float, bool):
        return value
    if isinstance(value, str):
        # Not str(value): the subclass may have its own idea of that.
        return str.__str__(value)
    for plain in (int, float):
        if isinstance(value, plain):
            return plain(value)
    return value


def _tagged(value: Any, stream: str, path: str, depth: int) -> Any:
    """The value as JSON can carry it."""
    if depth > _DEEPEST:
        raise UnsupportedTypeError(
            f"stream {stream!r}, field {path}: nested deeper than {_DEEPEST} (or it contains itself)"
        )
    value = _unwrapped(value)
    kind = type(value)
    if value is None or kind in (bool, str):
        return value
    if kind is int:
        return _written(value, stream, path)
    if kind is float:
        return value if math.isfinite(value) else {"$float": str(value)}
    if kind is dict:
        tagged: dict[str, Any] = {}
        for key, item in value.items():
            if type(key) is not str:
                raise UnsupportedTypeError(
                    f"stream {stream!r}, field {path}: a dict's keys must be str, not {key!r}"
                )
            tagged["$" + key if key.startswith("$") else key] = _tagged(
                item, stream, f"{path}.{key}", depth + 1
            )
        return tagged
    if kind in (list, tuple):
        items = [_tagged(item, stream, f"{path}[{index}]", depth + 1) for index, item in enumerate(value)]
        return items if kind is list else {"$tuple": items}
    if kind in _TAGGED:
        tag, convert = _TAGGED[kind]
        try:
            return {tag: convert(value)}
        except Exception as error:  # a tzinfo of the caller's may raise anything
            raise UnsupportedTypeError(
                f"stream {stream!r}, field {path}: a {kind.__name__} that cannot be written: {error}"
            ) from error
    raise UnsupportedTypeError(f"stream {stream!r}, field {path}: {kind.__name__} is not supported")


def _decode(name: str | bytes, text: str | bytes) -> Any:
    try:
        return json.loads(text, object_hook=_untagged)
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        raise CorruptDeltaError(
            f"field {name!r} is marked as encoded but cannot be decoded: {error}"
        ) from error


def _untagged(found: dict[str, Any]) -> Any:
    if len(found) == 1:
        ((key, value),) = found.items()
        if key in _UNTAGGED:
            kind, convert = _UNTAGGED[key]
            if type(value) is not kind:
                raise TypeError(f"{key} holds a {type(value).__name__}")
            return convert(value)
    return {key[1:] if key.startswith("$$") else key: value for key, value in found.items()}
