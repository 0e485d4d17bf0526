"""What snapdelta is measured against: the usual ways to send a snapshot or its change.

Each returns bytes. `field_diff` can be applied again, so that a benchmark can show that it carries the same.
"""

from __future__ import annotations

import zlib
from typing import Any

import msgspec
import zstandard

Snapshot = dict[str, Any]

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
_zstd3 = zstandard.ZstdCompressor(level=3)


def msgpack(snapshot: Snapshot) -> bytes:
    return _pack(snapshot)


def msgpack_zstd3(snapshot: Snapshot) -> bytes:
    return _zstd3.compress(_pack(snapshot))


def from_msgpack_zstd3(frame: bytes) -> Snapshot:
    snapshot: Snapshot = _unpack(zstandard.ZstdDecompressor().decompress(frame))
    return snapshot


def whole_records(prev: Snapshot, curr: Snapshot) -> bytes:
    """Every changed record as a whole, msgpack + zlib-6: what a hand-written snapshot manager does."""
    changed = {symbol: record for symbol, record in curr.items() if prev.get(symbol) != record}
    gone = [symbol for symbol in prev if symbol not in curr]
    return zlib.compress(_pack([changed, gone]), 6)


def field_diff(prev: Snapshot, curr: Snapshot) -> bytes:
    """Only the changed fields, msgpack + zstd-3, with the order as row numbers where it moved."""
    changed = {}
    for symbol, record in curr.items():
        old = prev.get(symbol)
        if old is None:
            changed[symbol] = record
        elif fields := _changed_fields(old, record):
            changed[symbol] = fields
    gone = [symbol for symbol in prev if symbol not in curr]
    kept = {symbol: row for row, symbol in enumerate(dict.fromkeys([*prev, *changed])) if symbol in curr}
    order = [] if list(kept) == list(curr) else [kept[symbol] for symbol in curr]
    return _zstd3.compress(_pack([changed, gone, order]))


def apply_field_diff(prev: Snapshot, delta: bytes) -> Snapshot:
    changed, gone, order = _unpack(zstandard.ZstdDecompressor().decompress(delta))
    symbols = list(dict.fromkeys([*prev, *changed]))
    removed = set(gone)
    rows = [symbols[row] for row in order] if order else [s for s in symbols if s not in removed]
    return {symbol: _updated(prev.get(symbol, {}), changed.get(symbol, {})) for symbol in rows}


def zstd_prefix(prev_packed: bytes, curr_packed: bytes, level: int) -> bytes:
    """zstd with the previous frame as prefix, both as msgpack; at 19 it equals `zstd -19 --patch-from`."""
    base = zstandard.ZstdCompressionDict(prev_packed, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    # The window reaches over both, or matches at the far end of the base would be lost.
    window = max(10, (len(prev_packed) + len(curr_packed)).bit_length())
    parameters = zstandard.ZstdCompressionParameters.from_level(level, window_log=window)
    return zstandard.ZstdCompressor(dict_data=base, compression_params=parameters).compress(curr_packed)


def same_value(a: object, b: object) -> bool:
    """Equal and of one type: 1, 1.0 and True differ."""
    return type(a) is type(b) and a == b


def _changed_fields(old: Any, new: Any) -> Any:
    """The part of `new` that differs; a removed field, which these corpora do not have, raises."""
    fields = {}
    for key, value in new.items():
        if key not in old:
            fields[key] = value
            continue
        before = old[key]
        if type(value) is dict and type(before) is dict:
            if inner := _changed_fields(before, value):
                fields[key] = inner
        elif not same_value(before, value):
            fields[key] = value
    if len(old) > len(new):
        raise ValueError("a field was removed")
    return fields


def _updated(old: Any, fields: Any) -> Any:
    merged = dict(old)
    for key, value in fields.items():
        nested = type(value) is dict and type(old.get(key)) is dict
        merged[key] = _updated(old[key], value) if nested else value
    return merged
