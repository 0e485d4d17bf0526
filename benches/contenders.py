"""The ways to send a snapshot or its change that are measured side by side: each writes and reads bytes."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib import import_module

import msgspec
import orjson
import pyarrow as pa  # type: ignore[import-untyped]
import zstandard

import snapdelta
from benches import peers
from benches.by_hand import HandWrittenRows
from benches.peers import Snapshot

Write = Callable[[Snapshot], bytes]
Read = Callable[[bytes], Snapshot]

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder().decode
_zstd3 = zstandard.ZstdCompressor(level=3)
_unzstd = zstandard.ZstdDecompressor()


@dataclass(frozen=True)
class Contender:
    """One way. `writer` and `reader` get the frames before, which is no part of the time.

    makes_delta  what is written needs the frame before to be read
    once         too slow for more than one round
    """

    name: str
    makes_delta: bool
    writer: Callable[[list[Snapshot]], Write]
    reader: Callable[[list[Snapshot]], Read]
    once: bool = False


def _snapdelta_writer(before: list[Snapshot]) -> Write:
    """As in a service: it has learned from the frames before."""
    encoder = snapdelta.Encoder()
    for snapshot in before:
        encoder.encode(snapshot)
    return encoder.encode


def _snapdelta_reader(before: list[Snapshot]) -> Read:
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    encoder.begin(0, len(before) - 1)
    decoder.apply(encoder.encode(before[-1]))
    decoder.snapshot(shared=True)

    def read(frame: bytes) -> Snapshot:
        decoder.apply(frame)
        return decoder.snapshot(shared=True)

    return read


def _read_whole_records(prev: Snapshot, delta: bytes) -> Snapshot:
    changed, gone = _unpack(zlib.decompress(delta))
    merged = {**prev, **changed}
    for symbol in gone:
        del merged[symbol]
    return merged


def _row_writer(before: list[Snapshot]) -> Write:
    rows = HandWrittenRows("rows")
    rows.changes(before[-1])
    return lambda curr: _pack(rows.changes(curr))


def _row_reader(before: list[Snapshot]) -> Read:
    held, _ = HandWrittenRows("rows").changes(before[-1])

    def read(delta: bytes) -> Snapshot:
        changed, _ = _unpack(delta)
        texts = {**held, **changed}
        symbols: list[str] = orjson.loads(texts["__order__"])
        return {symbol: orjson.loads(texts[symbol]) for symbol in symbols}

    return read


def _prefix_writer(level: int, before: list[Snapshot]) -> Write:
    packed = _pack(before[-1])
    return lambda curr: peers.zstd_prefix(packed, _pack(curr), level)


def _prefix_reader(before: list[Snapshot]) -> Read:
    base = zstandard.ZstdCompressionDict(_pack(before[-1]), dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    decompressor = zstandard.ZstdDecompressor(dict_data=base, max_window_size=2**31)
    return lambda frame: _unpack(decompressor.decompress(frame))


def _arrow_write(curr: Snapshot) -> bytes:
    table = pa.Table.from_pylist([{"symbol": symbol, "record": record} for symbol, record in curr.items()])
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=pa.Codec("zstd", compression_level=3))
    with pa.ipc.new_stream(sink, table.schema, options=options) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()  # type: ignore[no-any-return]


def _arrow_read(frame: bytes) -> Snapshot:
    rows = pa.ipc.open_stream(frame).read_all().to_pylist()
    return {row["symbol"]: row["record"] for row in rows}


def _full(name: str, write: Write, read: Read) -> Contender:
    return Contender(name, False, lambda before: write, lambda before: read)


def _delta(
    name: str, write: Callable[[Snapshot, Snapshot], bytes], read: Callable[[Snapshot, bytes], Snapshot]
) -> Contender:
    return Contender(
        name, True, lambda before: partial(write, before[-1]), lambda before: partial(read, before[-1])
    )


def _prefix(level: int, *, once: bool = False) -> Contender:
    name = f"msgpack, zstd-{level} with prefix"
    return Contender(name, True, partial(_prefix_writer, level), _prefix_reader, once)


_OF_SLICES = ("deepdiff", "jsonpatch", "dictdiffer", "bsdiff4")
OURS = "snapdelta Encoder"
CONTENDERS = [
    Contender(OURS, True, _snapdelta_writer, _snapdelta_reader),
    _delta("snapdelta diff", snapdelta.diff, snapdelta.apply),
    _delta("changed fields, msgpack + zstd-3", peers.field_diff, peers.apply_field_diff),
    _delta("changed records, msgpack + zlib-6", peers.whole_records, _read_whole_records),
    Contender("changed rows as JSON, for HSET", True, _row_writer, _row_reader),
    _prefix(3),
    _prefix(9),
    _prefix(19, once=True),
    _full("snapdelta dumps", snapdelta.dumps, snapdelta.loads),
    _full("orjson", orjson.dumps, orjson.loads),
    _full("msgspec msgpack", _pack, _unpack),
    _full(
        "pickle + zstd-3",
        lambda curr: _zstd3.compress(pickle.dumps(curr, protocol=5)),
        lambda frame: pickle.loads(_unzstd.decompress(frame)),
    ),
    _full("Arrow IPC + zstd-3", _arrow_write, _arrow_read),
]  # fmt: skip


def slice_contenders() -> list[Contender]:
    """Libraries that compare dicts in Python, and a binary diff: so slow that a slice must do.

    Raises SystemExit without the dependency group `bench`.
    """
    try:
        deepdiff, jsonpatch, dictdiffer, bsdiff4 = map(import_module, _OF_SLICES)
    except ImportError as error:
        raise SystemExit(f"{error.name} is missing: pip install --group bench") from error
    return [
        _delta(
            "deepdiff Delta",
            lambda prev, curr: deepdiff.Delta(deepdiff.DeepDiff(prev, curr)).dumps(),
            lambda prev, delta: prev + deepdiff.Delta(delta),
        ),
        _delta(
            "jsonpatch",
            lambda prev, curr: jsonpatch.make_patch(prev, curr).to_string().encode(),
            lambda prev, delta: jsonpatch.apply_patch(prev, delta.decode()),
        ),
        _delta(
            "dictdiffer, as JSON",
            lambda prev, curr: orjson.dumps(list(dictdiffer.diff(prev, curr))),
            lambda prev, delta: dictdiffer.patch(orjson.loads(delta), prev),
        ),
        _delta(
            "bsdiff4 of JSON",
            lambda prev, curr: bsdiff4.diff(orjson.dumps(prev), orjson.dumps(curr)),
            lambda prev, delta: orjson.loads(bsdiff4.patch(orjson.dumps(prev), delta)),
        ),
    ]
