"""A second decoder of snapdelta frames: slow, plain, and written from FORMAT.md alone.

It is laid out in the order of that text; section 1 is `reference_values`, the arithmetic of 8.4
`reference_numbers`. It shares no code with the package, so a frame that both read alike is a frame the text
describes. Outside the standard library it needs only `zstandard`, for zstd frames (RFC 8878).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import zstandard

from core.reference_numbers import OPERATIONS, Scale, first_of, float_word, form_of, value, word_float
from core.reference_values import (
    FIXED64_TAGS,
    MASK,
    MAX_DEPTH,
    PLAIN_TAGS,
    Cell,
    Corrupt,
    Entropy,
    Path,
    Reader,
    Row,
    Snapshot,
    UnknownZone,
    Unsupported,
    cell_of,
    depth_of,
    digest,
    digest_of_rows,
    hash_bytes,
    read_inline,
    record_of,
    rows_of,
    signed,
    sized,
    text,
    unzigzag,
    value_of,
    weight_of,
    within,
)

__all__ = [
    "BaseMismatch",
    "Corrupt",
    "Header",
    "LimitExceeded",
    "Snapshot",
    "UnknownZone",
    "Unsupported",
    "decode",
    "digest",
    "header",
]


class LimitExceeded(Corrupt):
    """The frame declares more than the budget."""


class BaseMismatch(Exception):  # noqa: N818
    """The delta was made from another snapshot."""


# --- 2. The frame


class Header(NamedTuple):
    version: int
    kind: int  # 0 full, 1 delta
    compression: int  # 0 stored, 1 zstd
    held_cells: int | None  # None: the states are exact
    has_text: bool
    is_bundle: bool
    epoch: int
    sequence: int
    required_bytes: int  # 0: not known
    body_length: int
    base_epoch: int
    base_sequence: int
    base: int
    base_rows: int
    target: int
    coded: bytes


def header(frame: bytes) -> Header:
    """The header of a frame, checked, and what follows its fields, coded."""
    if frame[:4] != b"\xd1SND" or len(frame) < 13:
        raise Corrupt("no frame")
    reader = Reader(frame[:-8])
    reader.take(4)
    version, fields_length, coded_length = reader.u8(), reader.uv(), reader.uv()
    if fields_length + coded_length != reader.left():
        raise Corrupt("the frame's length is not the declared one")
    if struct.unpack("<Q", frame[-8:])[0] != hash_bytes(frame[:-8]):
        raise Corrupt("checksum")
    if version > 1:
        raise Unsupported(f"version {version}")
    if version < 1:
        raise Corrupt("version 0")
    fields = Reader(reader.take(fields_length))
    flags = fields.u8()
    if flags > 63:
        raise Unsupported(f"flags {flags}")
    kind, compression, has_text = flags & 1, flags >> 1 & 1, bool(flags & 16)
    if flags & 32 and (not kind or compression or has_text):
        raise Corrupt("a bundle that is no stored delta")
    epoch, sequence, required = fields.uv(), fields.uv(), fields.uv()
    held = fields.uv() if flags & 8 else None
    length = fields.uv() if compression or has_text else coded_length
    base_epoch = base_sequence = base_rows = 0
    base = digest({})
    if flags & 4 and not kind:
        raise Corrupt("a full frame with a base")
    if kind:
        base_epoch = fields.uv() if flags & 4 else epoch
        base_sequence = fields.uv() if flags & 4 else sequence - fields.uv()
        base, base_rows = fields.u64(), fields.uv()
        check_base_place(base_epoch, base_sequence, epoch, sequence, other_epoch=bool(flags & 4))
    target = fields.u64()
    fields.end()
    if max(length, coded_length, base_rows) >= 2**32:
        raise Corrupt("a length of 33 bits")
    return Header(
        version,
        kind,
        compression,
        held,
        has_text,
        bool(flags & 32),
        *(epoch, sequence, required, length),
        *(base_epoch, base_sequence, base, base_rows, target),
        coded=reader.take(coded_length),
    )


def check_base_place(
    base_epoch: int, base_sequence: int, epoch: int, sequence: int, *, other_epoch: bool
) -> None:
    if other_epoch:
        if base_epoch == epoch:
            raise Corrupt("another epoch that is the same")
    elif base_sequence < 0 or (base_sequence == sequence) != (epoch == sequence == 0):
        raise Corrupt("a base that does not come before")


MAGIC = b"\x28\xb5\x2f\xfd"


def inflate(coded: bytes, length: int, prefix: bytes = b"") -> tuple[bytes, bytes]:
    """The contents of one zstd frame that has exactly `length` bytes of them, and what follows it."""
    # zstd takes no dictionary of less than 8 bytes for one, and no empty one
    before = zstandard.ZstdCompressionDict(prefix, zstandard.DICT_TYPE_RAWCONTENT) if prefix else None
    zstd = zstandard.ZstdDecompressor(before, max_window_size=2**27).decompressobj()
    out, rest = bytearray(), b""
    try:
        for at in range(0, len(coded), 256):  # small bites: each makes at most 8 MB
            out += zstd.decompress(coded[at : at + 256])
            if len(out) > length:
                raise Corrupt("the zstd frame is longer than declared")
            if zstd.eof:
                rest = zstd.unused_data + coded[at + 256 :]
                break
    except zstandard.ZstdError as error:
        raise Corrupt(f"zstd: {error}") from error
    if not zstd.eof or len(out) != length or coded[:4] != MAGIC:
        raise Corrupt("the zstd frame is shorter than declared, or none")
    return bytes(out), rest


class Contents(NamedTuple):
    body: bytes  # with all its sections
    apart: int  # bytes of it that stood behind a zstd frame
    text: bytes  # compressed


def contents_of(head: Header) -> Contents:
    """What follows the fields of a frame."""
    if head.compression:
        contents = with_entropy(*inflate(head.coded, head.body_length))
    elif head.body_length <= len(head.coded):
        contents = Contents(head.coded[: head.body_length], 0, head.coded[head.body_length :])
    else:
        raise Corrupt("a body that is longer than the frame")
    if head.has_text != bool(contents.text):
        raise Corrupt("a text that the header does not tell of, or none")
    return contents


def with_entropy(declared: bytes, following: bytes) -> Contents:
    """Puts the entropy stream where the body has its length."""
    reader, body, apart = Reader(declared), b"", 0
    while reader.left():
        number, contents = reader.u8(), reader.take(reader.uv())
        if number == ENTROPY and contents:
            length = Reader(contents)
            apart = length.uv()
            length.end()
            if not 1 <= apart <= len(following):
                raise Corrupt(f"an entropy stream of {apart} bytes")
            contents, following = following[:apart], following[apart:]
        body += bytes([number]) + sized(contents)
    return Contents(body, apart, following)


def decode(frame: bytes, base: Snapshot | None = None, *, max_bytes: int = 1 << 30) -> Snapshot:
    """The snapshot that a frame makes of its base. A full frame needs none."""
    head = header(frame)
    rows = rows_of(base or {}) if head.kind == 1 else []
    if digest_of_rows(rows) != head.base or len(rows) != head.base_rows:
        raise BaseMismatch("the base is not the frame's")
    if head.required_bytes > max_bytes:
        raise LimitExceeded("the frame needs more than the limit")
    budget = Budget(max_bytes)
    budget.charge(head.body_length)
    if head.is_bundle:
        return decode_bundle(head, base or {}, budget)
    contents = contents_of(head)
    budget.charge(contents.apart)
    body = Body(rows, budget, contents.text)
    body.read(contents.body)
    if digest_of_rows(body.target) != head.target:
        raise Corrupt("the result has not the target's digest")
    return {row.symbol: record_of(row.cells) for row in body.target}


def decode_bundle(bundle: Header, base: Snapshot, budget: Budget) -> Snapshot:
    """2.2: what the deltas of a bundle lead to in turn."""
    reader = Reader(bundle.coded)
    count = reader.uv()
    if count > reader.left():
        raise Corrupt("more deltas than bytes")
    deltas = [reader.take(reader.uv()) for _ in range(count)]
    reader.end()
    budget.charge(512 * len(deltas))
    heads = [header(delta) for delta in deltas]
    place = (bundle.base_epoch, bundle.base_sequence, bundle.base)
    for head in heads:
        if not head.kind or head.is_bundle or (head.base_epoch, head.base_sequence, head.base) != place:
            raise Corrupt("a bundle of what is no delta, or does not follow")
        place = (head.epoch, head.sequence, head.target)
        budget.charge(16 * head.base_rows)
    if not heads or heads[0].base_rows != bundle.base_rows:
        raise Corrupt("a bundle without a delta, or from another base")
    if place != (bundle.epoch, bundle.sequence, bundle.target):
        raise Corrupt("a bundle that leads elsewhere")
    state = base
    for delta in deltas:
        try:
            state = decode(delta, state, max_bytes=budget.left)
        except BaseMismatch as error:
            raise Corrupt("a delta of a bundle that has another number of rows") from error
    return state


@dataclass
class RowCells:
    """Where a cell of a stream stands: what its row holds in the base, and what is known of it by now."""

    old: dict[Path, Cell] = field(default_factory=dict)
    now: dict[Path, Cell] = field(default_factory=dict)


class Edit(NamedTuple):
    """What makes one shape of another."""

    removed: list[int]
    inserted: dict[int, Path]  # by position in the new shape


Predict = Callable[[RowCells, int], int]

TEXT, ENTROPY = 8, 9
SECTIONS = {
    1: "rows",
    2: "paths",
    3: "shapes",
    4: "sets",
    5: "sparse",
    6: "columns",
    7: "order",
    TEXT: "text",
    ENTROPY: "entropy",
}
READ_ORDER = (1, 2, 3, 4, TEXT, 5, 6, 7, ENTROPY)  # the text is needed by SPARSE and COLUMNS
EMPTY = {1: b"\0\0", 2: b"\0\0", 3: b"\0\0\0", 4: b"\0", 5: b"\0", 6: b"\0", 7: b"\0\0\0"}
BYTES_TAGS = (8, 9, 10, 11, 12, 16, 17, 18, 20, 21)
FIXED_LENGTHS = {18: 12, 21: 16}
SHARES = (
    *(0, 1, 3, 6, 10, 16, 23, 31, 40, 50, 60, 72, 84, 96, 109, 122),
    *(134, 147, 160, 172, 184, 196, 206, 216, 225, 233, 240, 246, 250, 253, 254, 255),
)


class Body:
    """Reads the sections one after another; each leaves what the next ones need."""

    def __init__(self, base: list[Row], budget: Budget, coded_text: bytes) -> None:
        self.base = base
        self.coded_text = coded_text
        self.values: Reader | None = None  # those of the text
        self.budget = budget
        self.target: list[Row] = []

    def read(self, data: bytes) -> None:
        found = self.sections(Reader(data))
        self.entropy = Entropy(found.pop(ENTROPY, b""))
        heads = column_heads(Reader(found.get(6, EMPTY[6])))
        self.budget.charge(512 * len(heads))
        self.symbols_in_text = bool(found.get(TEXT)) and Reader(found[TEXT]).uv() > 0
        for number in READ_ORDER:
            name = SECTIONS[number]
            reader = Reader(found.get(number, EMPTY.get(number, b"")), self.entropy)
            if name == "entropy":
                self.entropy.end()
            elif name == "sparse":
                self.sparse(reader, {head.path_id for head in heads if head.flags & 2})
            elif name == "columns":
                self.columns(reader, heads)
            elif name == "text":
                if reader.left() or self.coded_text:
                    self.text(reader, heads, Reader(found.get(5, EMPTY[5])))
            else:
                getattr(self, name)(reader)
            reader.end()
        if self.values is not None:
            self.values.end()

    def sections(self, reader: Reader) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        last = 0
        while reader.left():
            number = reader.u8()
            if number <= last:
                raise Corrupt("sections out of order")
            last = number
            contents = reader.take(reader.uv())
            if number in SECTIONS:
                found[number] = contents or EMPTY.get(number, b"")
            elif number < 128:
                raise Unsupported(f"section {number}")
        return found

    # --- 3. ROWS

    def rows(self, reader: Reader) -> None:
        self.removed = set(reader.gaps(reader.uv(), len(self.base)))
        self.retained = [n for n in range(len(self.base)) if n not in self.removed]
        count = reader.uv()
        self.budget.charge(384 * (len(self.base) + len(self.retained) + count))
        self.added = [""] * count
        if not self.symbols_in_text:
            self.name_added(reader.strings(count))

    def name_added(self, names: list[bytes]) -> None:
        self.added = self.names_of(names)
        symbols = [self.base[n].symbol for n in self.retained] + self.added
        if len(set(symbols)) != len(symbols):
            raise Corrupt("a symbol twice")

    def names_of(self, names: list[bytes]) -> list[str]:
        self.budget.charge(3 * sum(map(len, names)))
        return [text(name) for name in names]

    # --- 4. PATHS

    def base_schema(self) -> None:
        """Numbers the keys, paths and shapes of the base."""
        self.base_shapes = list(dict.fromkeys(tuple(row.cells) for row in self.base))
        beginnings = (path[:n] for shape in self.base_shapes for path in shape for n in range(len(path) + 1))
        self.known_paths: list[Path] = list(dict.fromkeys([(), *beginnings]))
        self.keys = list(dict.fromkeys(path[-1] for path in self.known_paths[1:]))

    def paths(self, reader: Reader) -> None:
        self.base_schema()
        key, self.last_path_id = len(self.keys) - 1, len(self.known_paths) - 1
        self.keys += self.new_keys(reader)
        if len(set(self.keys)) != len(self.keys):
            raise Corrupt("a key twice")
        count = reader.uv()
        self.budget.charge(320 * count)
        parent = 0
        for _ in within(count, reader.left()):
            parent += reader.sv()
            key += 1 + reader.sv()
            if not (0 <= parent < len(self.known_paths) and 0 <= key < len(self.keys)):
                raise Corrupt("a path without its parent or key")
            self.known_paths.append((*self.known_paths[parent], self.keys[key]))
            if len(self.known_paths[-1]) > MAX_DEPTH:
                raise Corrupt(f"a path deeper than {MAX_DEPTH}")
        if len(set(self.known_paths)) != len(self.known_paths):
            raise Corrupt("a path twice")

    def new_keys(self, reader: Reader) -> list[str]:
        count = reader.uv()
        self.budget.charge(320 * count)
        shared = [reader.uv() for _ in within(count, reader.left())]
        key, keys = b"", []
        for beginning, rest in zip(shared, reader.strings(count), strict=True):
            if beginning > len(key):
                raise Corrupt("a key shares more than there is")
            self.budget.charge(3 * (beginning + len(rest)))
            key = key[:beginning] + rest
            keys.append(text(key))
        return keys

    def path(self, path_id: int) -> Path:
        if not 0 <= path_id < len(self.known_paths):
            raise Corrupt(f"path id {path_id} of {len(self.known_paths)}")
        return self.known_paths[path_id]

    # --- 5. SHAPES

    def shapes(self, reader: Reader) -> None:
        shapes = list(self.base_shapes)
        count = reader.uv()
        self.budget.charge(512 * count)
        for _ in within(count, reader.left()):
            shapes.append(self.new_shape(reader, shapes))
        if len(set(shapes)) != len(shapes):
            raise Corrupt("a shape twice")
        count = reader.uv()
        self.budget.charge(512 * count)
        edits = [self.edit(reader) for _ in within(count, reader.left())]
        self.reshape(reader, edits)
        self.added_shapes: list[tuple[Path, ...]] = []
        while len(self.added_shapes) < len(self.added):
            shape, run = entry(shapes, reader.uv()), reader.uv()
            if not 1 <= run <= len(self.added) - len(self.added_shapes):
                raise Corrupt(f"a run of {run} rows")
            self.added_shapes += [shape] * run
        shapes_kept = [self.reshaped.get(n, self.base[n].cells) for n in self.retained]
        for kept in [*shapes_kept, *self.added_shapes]:
            self.budget.charge(128 * len(kept) + 256 * dicts_in(kept))
        self.place_rows()

    def new_shape(self, reader: Reader, before: list[tuple[Path, ...]]) -> tuple[Path, ...]:
        distance = reader.uv()
        if distance > len(before):
            raise Corrupt(f"an edit of the shape {distance} before")
        if distance:
            return self.edited(before[-distance], self.edit(reader))
        count = reader.uv()
        self.budget.charge(64 * count)
        return self.checked_shape(self.shape_paths(reader, count))

    def shape_paths(self, reader: Reader, count: int) -> list[Path]:
        paths = []
        for _ in within(count, reader.left()):
            self.last_path_id += 1 + reader.sv()
            paths.append(self.path(self.last_path_id))
        return paths

    def checked_shape(self, paths: list[Path]) -> tuple[Path, ...]:
        check_shape(paths)
        self.budget.charge(32 * dicts_in(paths))
        return tuple(paths)

    def edit(self, reader: Reader) -> Edit:
        removed = reader.gaps(reader.uv(), 2**32 - 1)
        self.budget.charge(16 * len(removed))
        inserted = reader.gaps(reader.uv(), 2**32 - 1)
        self.budget.charge(64 * len(inserted))
        return Edit(removed, dict(zip(inserted, self.shape_paths(reader, len(inserted)), strict=True)))

    def edited(self, old: Sequence[Path], edit: Edit) -> tuple[Path, ...]:
        self.budget.charge(512 + 64 * (len(old) + len(edit.inserted)))
        away = set(edit.removed)
        kept = iter([path for n, path in enumerate(old) if n not in away])
        length = len(old) - len(away) + len(edit.inserted)
        if max(away, default=-1) >= len(old) or max(edit.inserted, default=-1) >= length:
            raise Corrupt("an edit past the end of a shape")
        return self.checked_shape(
            [edit.inserted[n] if n in edit.inserted else next(kept) for n in range(length)]
        )

    def reshape(self, reader: Reader, edits: list[Edit]) -> None:
        positions = reader.gaps(reader.uv(), len(self.base))
        if self.removed.intersection(positions):
            raise Corrupt("a removed row is reshaped")
        self.reshaped: dict[int, tuple[Path, ...]] = {}
        made: dict[tuple[tuple[Path, ...], int], tuple[Path, ...]] = {}
        named = 0
        for position in positions:
            code = reader.uv()
            if code > named:
                raise Corrupt("an edit that was not named before")
            number = code - 1 if code else named
            named = max(named, number + 1)
            old = tuple(self.base[position].cells)
            edit = entry(edits, number)
            if (old, number) not in made:
                made[old, number] = self.edited(old, edit)
            if made[old, number] == old:
                raise Corrupt("an edit that changes nothing")
            self.reshaped[position] = made[old, number]

    def place_rows(self) -> None:
        """The places of updated cells (base rows) and of inserted ones, with the paths inserted there."""
        self.updates = {n: RowCells(self.base[n].cells, dict(self.base[n].cells)) for n in self.retained}
        self.inserts: list[tuple[RowCells, Sequence[Path]]] = [
            (RowCells(), [path for path in shape if path not in self.base[n].cells])
            for n, shape in self.reshaped.items()
        ]
        self.inserts += [(RowCells(), shape) for shape in self.added_shapes]

    # --- 6. ROW_SETS

    def sets(self, reader: Reader) -> None:
        self.row_sets: list[list[int]] = [list(range(len(self.base)))]
        count = reader.uv()
        self.budget.charge(64 * count)
        for _ in range(count):
            self.row_sets.append(self.row_set(reader))
            self.budget.charge(16 * len(self.row_sets[-1]))
            if self.removed.intersection(self.row_sets[-1]):
                raise Corrupt("a set holds a removed row")

    def row_set(self, reader: Reader) -> list[int]:
        number, kind = reader.uv(), reader.u8()
        if number >= len(self.row_sets):
            raise Corrupt(f"a set inside set {number}, which is no earlier one")
        parent = self.row_sets[number]
        if kind == 1:
            bits = int.from_bytes(reader.take((len(parent) + 7) // 8), "little")
            if bits >> len(parent):
                raise Corrupt("unused bits are not 0")
            return [row for n, row in enumerate(parent) if bits >> n & 1]
        if kind == 3:
            return self.predicted_set(reader, parent)
        if kind == 4:
            return self.set_by_context(reader, parent)
        if kind > 4:
            raise Unsupported(f"a set of kind {kind}")
        indices = reader.gaps(reader.uv(), len(parent))
        if kind == 0:
            return [parent[n] for n in indices]
        without = set(indices)
        return [row for n, row in enumerate(parent) if n not in without]

    def predicted_set(self, reader: Reader, parent: list[int]) -> list[int]:
        number, complement = divmod(reader.uv(), 2)
        if number + 1 >= len(self.row_sets):
            raise Corrupt(f"a set that set {number + 1} predicts, which is no earlier one")
        self.budget.charge(8 * (len(parent) + len(self.row_sets[number + 1])))
        predicted = set(self.row_sets[number + 1])
        wrong = set(reader.gaps(reader.uv(), len(parent)))
        return [row for n, row in enumerate(parent) if ((row in predicted) ^ bool(complement)) ^ (n in wrong)]

    def set_by_context(self, reader: Reader, parent: list[int]) -> list[int]:
        self.budget.charge(8 * len(parent))
        count = reader.uv()
        if count > 4:
            raise Corrupt(f"a context of {count} sets")
        earlier: list[tuple[set[int], int]] = []
        members: list[int] = []
        own: set[int] = set()
        distance = 0
        for _ in range(count):
            number = reader.uv()
            if number >= len(self.row_sets):
                raise Corrupt(f"a context of set {number}, which is no earlier one")
            if number == 0:
                distance += 1
                earlier.append((own, distance))
            else:
                self.budget.charge(8 * len(self.row_sets[number]))
                earlier.append((set(self.row_sets[number]), 0))
        shares = [SHARES[reader.entropy.raw(5)] for _ in range(1 << count)]
        for row in parent:
            share = shares[sum(1 << i for i, (rows, back) in enumerate(earlier) if row - back in rows)]
            if reader.entropy.choice(share):
                members.append(row)
                own.add(row)
        return members

    # --- 7. SPARSE

    def sparse_places(self, reader: Reader) -> list[tuple[int, int]]:
        """Row and path id of each updated cell."""
        count = reader.uv()
        row, rows = 0, []
        for _ in within(count, reader.left()):
            row += reader.uv()
            rows.append(row)
        return [(row, reader.uv()) for row in rows]

    def sparse(self, reader: Reader, listed: set[int]) -> None:
        cells = self.sparse_places(reader)
        self.budget.charge(512 * len(cells))
        path_ids = [path_id for _, path_id in cells]
        if any(a >= b for a, b in pairwise(cells)):
            raise Corrupt("sparse cells out of order")
        self.sparse_paths = set(path_ids)
        for row, path_id in cells:
            self.updatable(row, self.path(path_id)).now[self.path(path_id)] = self.sparse_cell(reader)
        listed_paths = {self.path(path_id) for path_id in listed}
        for place, paths in self.inserts:
            for path in paths:
                if path not in listed_paths:
                    place.now[path] = self.sparse_cell(reader)

    def sparse_cell(self, reader: Reader) -> Cell:
        if self.values is not None and reader.left() and reader.peek() in BYTES_TAGS:
            cell: Cell = (tag := reader.u8(), self.text_value(tag))
            value_of(cell)  # it must be canonical
        else:
            cell = cell_of(read_inline(reader))
        self.weigh(cell)
        return cell

    def updatable(self, row: int, path: Path) -> RowCells:
        if row not in self.updates or path not in self.base[row].cells:
            raise Corrupt(f"row {row} has no cell at {path}")
        if row in self.reshaped and path not in self.reshaped[row]:
            raise Corrupt(f"row {row} has no cell at {path} any more")
        return self.updates[row]

    def weigh(self, cell: Cell) -> None:
        """Charges what a bytes payload becomes, once for each cell that has it."""
        if isinstance(cell[1], bytes):
            self.budget.charge(64 + 2 * len(cell[1]) + weight_of(value_of(cell)))
        elif cell[0] == 19:
            self.budget.charge(64)

    # --- 8. COLUMNS

    def columns(self, reader: Reader, heads: list[ColumnHead]) -> None:
        reader.take(reader.left())  # column_heads has taken it apart
        for head in heads:
            path, rest = self.path(head.path_id), Reader(head.rest, self.entropy)
            self.may_name_base_values = bool(head.flags & 4)
            if head.flags & 1:
                if head.path_id in self.sparse_paths:
                    raise Corrupt(f"listed and sparse updates at {path}")
                if not 1 <= head.row_set < len(self.row_sets):
                    raise Corrupt(f"row set {head.row_set} of {len(self.row_sets)}")
                self.stream(
                    rest, path, [self.updatable(n, path) for n in self.row_sets[head.row_set]], updates=True
                )
            if head.flags & 2:
                self.stream(
                    rest, path, [place for place, paths in self.inserts if path in paths], updates=False
                )
            rest.end()

    def stream(self, reader: Reader, path: Path, places: list[RowCells], *, updates: bool) -> None:
        self.in_updates = updates  # some predictors are for updates only
        if not places:
            raise Corrupt("a stream of no cells")
        for place, cell in zip(places, self.cells(reader, path, places), strict=True):
            self.weigh(cell)
            place.now[path] = cell

    # --- 8.1 Cell streams

    def cells(self, reader: Reader, path: Path, places: list[RowCells], copies: int = 0) -> list[Cell]:
        tag = reader.u8()
        if tag == 254:
            return self.copied(reader, path, places, copies + 1)
        if tag == 253:
            return self.numbers(reader, path, places, copies + 1)
        if tag == 252:
            return self.split(reader, path, places, copies + 1)
        tags = list(reader.take(len(places))) if tag == 255 else [tag] * len(places)
        payloads: dict[int, Iterator[int | bytes]] = {}
        for each in sorted(set(tags)):
            if each > 21:
                raise Unsupported(f"tag {each}")
            of_tag = [place for place, its in zip(places, tags, strict=True) if its == each]
            if each in PLAIN_TAGS:
                payloads[each] = iter([0] * len(of_tag))
            elif each in FIXED64_TAGS:
                payloads[each] = iter(self.fixed64_stream(reader, each, path, of_tag))
            else:
                payloads[each] = iter(self.bytes_stream(reader, each, len(of_tag), path))
        cells: list[Cell] = [(each, next(payloads[each])) for each in tags]
        for cell in cells:
            value_of(cell)  # corrupt if not canonical
        return cells

    def copied(self, reader: Reader, path: Path, places: list[RowCells], copies: int) -> list[Cell]:
        if copies > 8:
            raise Corrupt("copies more than 8 deep")
        source = self.other(reader.uv(), path)
        cells = [place.now.get(source) for place in places]
        exceptions = reader.gaps(reader.uv(), len(places))
        if exceptions:
            changed = self.cells(reader, path, [places[n] for n in exceptions], copies)
            for n, cell in zip(exceptions, changed, strict=True):
                cells[n] = cell
        whole = [cell for cell in cells if cell is not None]
        if len(whole) != len(cells):
            raise Corrupt("a copy of a cell that is not there")
        return whole

    def split(self, reader: Reader, path: Path, places: list[RowCells], copies: int) -> list[Cell]:
        if copies > 8:
            raise Corrupt("splits in copies more than 8 deep")
        number = reader.uv()
        if not self.in_updates or not 1 <= number < len(self.row_sets):
            raise Corrupt(f"a split by row set {number} of {len(self.row_sets)}, or of inserts")
        members = {id(self.updates[row]) for row in self.row_sets[number]}
        held = [id(place) in members for place in places]
        if len(set(held)) < 2:
            raise Corrupt("a split with a side of no cells")
        sides = {
            side: iter(self.cells(reader, path, of_side, copies))
            for side in (True, False)
            if (of_side := [place for place, is_held in zip(places, held, strict=True) if is_held is side])
        }
        return [next(sides[is_held]) for is_held in held]

    def other(self, path_id: int, path: Path) -> Path:
        """The path of another column that is named by its path id."""
        other = self.path(path_id)
        if other == path:
            raise Corrupt("a column that refers to itself")
        return other

    # --- 8.2 Fixed64 streams

    def fixed64_stream(self, reader: Reader, tag: int, path: Path, places: list[RowCells]) -> list[int]:
        n = len(places)
        encoding = reader.u8()
        if encoding == 0:
            return [reader.u64()] * n
        if encoding == 1:
            count = reader.uv()
            if not 1 <= count <= 65536:
                raise Corrupt(f"a dictionary of {count}")
            self.budget.charge(16 * count)
            entries = reader.byte_planes(count)
            return [entry(entries, index) for index in reader.integers(n)]
        if encoding > 2:
            raise Unsupported(f"fixed64 encoding {encoding}")
        return self.residuals(reader, tag, path, places)

    def residuals(self, reader: Reader, tag: int, path: Path, places: list[RowCells]) -> list[int]:
        predict = self.predictor(reader, tag, path)
        stride = reader.uv()
        if stride < 1:
            raise Corrupt("a stride of 0")
        words: list[int] = []
        for place, z in zip(places, reader.integers(len(places)), strict=True):
            prediction = predict(place, words[-1] if words else 0)
            words.append((prediction + stride * unzigzag(z)) & MASK)
        return words

    def predictor(self, reader: Reader, tag: int, path: Path) -> Predict:
        """From the place of a cell and the word before it in the stream to the prediction of its word."""

        def word(cells: dict[Path, Cell], at: Path) -> int | None:
            cell = cells.get(at)
            if cell is None or cell[0] != tag:
                return None
            assert isinstance(cell[1], int)
            return cell[1]

        code = reader.u8()
        if code == 0:
            return lambda place, before: 0
        if code == 1:
            return lambda place, before: word(place.old, path) or 0
        if code == 2:
            return lambda place, before: before
        if code == 3:
            argument = reader.u64()
            return lambda place, before: argument
        if code > 6:
            raise Unsupported(f"predictor {code}")
        a = self.other(reader.uv(), path)
        if code == 4:
            return lambda place, before: word(place.now, a) or 0
        if code == 5:

            def moved(place: RowCells, before: int) -> int:
                old, now, then = word(place.old, path) or 0, word(place.now, a), word(place.old, a)
                return old if now is None or then is None else old + now - then

            return moved
        b = self.other(reader.uv(), path)

        def larger(place: RowCells, before: int) -> int:
            one, two = word(place.now, a), word(place.now, b)
            return 0 if one is None or two is None else max(one, two, key=signed)

        return larger

    # --- 8.3 Bytes streams

    def bytes_stream(self, reader: Reader, tag: int, n: int, path: Path) -> list[bytes]:
        encoding = reader.u8()
        if encoding == 0:
            return self.payloads(reader, tag, n)
        if encoding > 2:
            raise Unsupported(f"bytes encoding {encoding}")
        if encoding == 2:
            if not self.may_name_base_values:
                raise Corrupt("base values that the flags do not announce")
            return self.base_values(reader, tag, n, path)
        count = reader.uv()
        if not 1 <= count <= 65536:
            raise Corrupt(f"a dictionary of {count}")
        self.budget.charge(64 * count)
        entries = self.payloads(reader, tag, count)
        return [entry(entries, index) for index in reader.integers(n)]

    def base_values(self, reader: Reader, tag: int, n: int, path: Path) -> list[bytes]:
        if not (step := reader.uv()):
            raise Corrupt("a step of 0")
        rows = self.sampled(step)
        self.budget.charge(16 * len(rows))
        cells = filter(None, (self.base[n].cells.get(path) for n in rows))
        known = list(
            dict.fromkeys(payload for of, payload in cells if of == tag and isinstance(payload, bytes))
        )
        if (count := reader.uv()) > 65536:
            raise Corrupt(f"{count} entries beside those of the base")
        self.budget.charge(64 * (len(known) + count))
        entries = known + self.payloads(reader, tag, count)
        return [entry(entries, index) for index in reader.integers(n)]

    def payloads(self, reader: Reader, tag: int, n: int) -> list[bytes]:
        if self.values is None:
            return reader.strings(n)
        return [self.text_value(tag) for _ in within(n, self.values.left())]

    # --- 8.4 Numbers

    def numbers(self, reader: Reader, path: Path, places: list[RowCells], nested: int) -> list[Cell]:
        if nested > 8:
            raise Corrupt("numbers in copies more than 8 deep")
        scale = Scale(reader.u8(), reader.uv())
        scale.check()
        count = reader.u8()
        if not 1 <= count <= 15:
            raise Corrupt(f"{count} forms")
        forms = [form_of(reader, scale) for _ in range(count)]
        absent = next((n for n, form in enumerate(forms) if form.kind == 0), 0)
        mode = reader.u8()
        if mode > 3:
            raise Unsupported(f"mode of forms {mode}")
        corrections: dict[int, int] = {}
        if mode == 3:
            other_forms = reader.byte_planes(within(reader.uv(), len(places)).stop)
            form_shares = reader.take(2 * count + 2)
        else:
            positions = reader.gaps(reader.uv(), len(places))
            corrections = dict(zip(positions, reader.byte_planes(len(positions)), strict=True))
        kind = reader.u8()
        if kind > 3:
            raise Unsupported(f"predictor of numbers {kind}")
        reference = reader.u64() if kind == 2 else 0
        formula = self.formula(reader, path) if kind == 3 else None
        results = [formula(place) if formula else None for place in places]
        chosen: list[int] = []
        for n, (place, result) in enumerate(zip(places, results, strict=True)):
            form = 0
            if mode == 3:
                of_base = scale.form_of_cell(forms, place.old.get(path), count)
                context = 2 * of_base + (formula is not None and result is None)
                if not reader.entropy.choice(form_shares[context]):
                    if not other_forms:
                        raise Corrupt("a form is missing")
                    form = other_forms.pop(0)
            elif mode == 1:
                form = scale.form_of_cell(forms, place.old.get(path))
            elif mode == 2 and formula and result is None:
                form = absent
            chosen.append(corrections.get(n, form))
        if mode == 3 and other_forms:
            raise Corrupt("forms are left")
        if any(form > count for form in chosen):
            raise Corrupt("a form that is not there")
        numeric = [n for n, form in enumerate(chosen) if form < count and forms[form].kind]
        stride = reader.uv()
        if stride < 1:
            raise Corrupt("a stride of 0")
        cells: list[Cell | None] = [(0, 0)] * len(places)
        before = 0
        for n, z in zip(numeric, reader.integers(len(numeric)), strict=True):
            prediction = before if kind == 1 else reference
            if formula:
                prediction = first_of(
                    scale.integer(results[n]), scale.integer(value(places[n].old.get(path)))
                )
            before = (prediction + stride * unzigzag(z)) & MASK
            cells[n] = scale.cell(forms[chosen[n]], before)
        others = [n for n, form in enumerate(chosen) if form == count]
        if others:
            for n, cell in zip(
                others, self.cells(reader, path, [places[n] for n in others], nested), strict=True
            ):
                cells[n] = cell
        whole = [cell for cell in cells if cell is not None]
        if len(whole) != len(cells):
            raise Corrupt("a number that is too large, or not of its form")
        return whole

    def formula(self, reader: Reader, path: Path) -> Callable[[RowCells], float | None]:
        operation = reader.u8()
        if operation >= len(OPERATIONS):
            raise Unsupported(f"operation {operation}")
        names, operate = OPERATIONS[operation]
        if not self.in_updates and set("oxy") & set(names):
            raise Corrupt("an operation on old values among inserts")
        a = self.other(reader.uv(), path) if set("ax") & set(names) else ()
        b = self.other(reader.uv(), path) if set("by") & set(names) else ()
        k = word_float(reader.u64()) if "k" in names else 0.0

        def result(place: RowCells) -> float | None:
            found = {
                "o": value(place.old.get(path)),
                "a": value(place.now.get(a)),
                "x": value(place.old.get(a)),
                "b": value(place.now.get(b)),
                "y": value(place.old.get(b)),
                "k": k,
            }
            operands = [found[name] for name in names]
            numbers = [operand for operand in operands if operand is not None]
            if len(numbers) < len(operands):
                return None
            made = operate(*numbers)
            return None if made != made else made

        return result

    # --- 8.5 TEXT

    def text(self, reader: Reader, heads: list[ColumnHead], sparse: Reader) -> None:
        prefix = self.prefix(reader, heads, sparse)
        chunks, coded = reader.uv(), Reader(self.coded_text)
        if not chunks:
            raise Corrupt("a text without chunks")
        text = b""
        for chunk in within(chunks, reader.left()):
            length, skipped, skipped_at_end = reader.uv(), reader.uv(), reader.uv()
            if not length or skipped + skipped_at_end > len(prefix):
                raise Corrupt("an empty chunk, or more skipped than there is of the prefix")
            size = reader.uv() if chunk + 1 < chunks else coded.left()
            self.budget.charge(2 * length)
            before = prefix[skipped : len(prefix) - skipped_at_end]
            contents, rest = inflate(MAGIC + coded.take(size), length, before)
            if rest:
                raise Corrupt("bytes follow a chunk")
            text += contents
        self.values = Reader(text)
        if self.symbols_in_text:
            self.name_added([self.values.take(self.values.uv()) for _ in self.added])

    def prefix(self, reader: Reader, heads: list[ColumnHead], sparse: Reader) -> bytes:
        rows = self.sampled(reader.uv())
        symbols = [self.base[n].symbol.encode("utf-8", "surrogatepass") for n in rows]
        self.budget.charge(16 * len(symbols) + sum(map(len, symbols)))
        values = [sized(symbol) for symbol in symbols]
        places = [(row, self.path(path_id)) for row, path_id in self.sparse_places(sparse)]
        values += self.prefix_values([self.updatable(row, path).old[path] for row, path in places])
        updated = {head.path_id: head.row_set for head in heads if head.flags & 1}
        path_id = -1
        for _ in within(reader.uv(), reader.left()):
            path_id += 1 + reader.sv()
            path, code = self.path(path_id), reader.uv()
            rows = self.sampled(code >> 1)
            if code & 1:
                if not 1 <= updated.get(path_id, 0) < len(self.row_sets):
                    raise Corrupt(f"a part with the updates of path id {path_id}, which has none")
                rows = [*rows, *self.row_sets[updated[path_id]]]
            self.budget.charge(16 * len(rows))
            values += self.prefix_values([self.base[n].cells.get(path) for n in rows])
        return b"".join(values)

    def sampled(self, step: int) -> list[int]:
        return list(range(0, len(self.base), step)) if step else []

    def prefix_values(self, cells: list[Cell | None]) -> list[bytes]:
        """Of equal payloads the first."""
        first: dict[bytes, bytes] = {}
        for tag, payload in filter(None, cells):
            if isinstance(payload, bytes):
                first.setdefault(payload, payload if tag in FIXED_LENGTHS else sized(payload))
        self.budget.charge(sum(map(len, first)))
        return list(first.values())

    def text_value(self, tag: int) -> bytes:
        assert self.values is not None
        return self.values.take(FIXED_LENGTHS[tag] if tag in FIXED_LENGTHS else self.values.uv())

    # --- 9. ORDER

    def order(self, reader: Reader) -> None:
        reference = self.survivor_rows() + [
            Row(symbol, {path: place.now[path] for path in paths})
            for symbol, (place, paths) in zip(self.added, self.inserts[len(self.reshaped) :], strict=True)
        ]
        mode = reader.u8()
        if mode > 1:
            raise Unsupported(f"order mode {mode}")
        if mode == 1:
            path, flags = self.path(reader.uv()), reader.u8()
            if flags > 1:
                raise Unsupported(f"order flags {flags}")
            sign = -1 if flags else 1
            reference.sort(key=lambda row: sign * order_key(row.cells.get(path)))
        moved = reader.gaps(reader.uv(), len(reference))
        distances = reader.integers(len(moved))
        places: dict[int, Row] = {}
        for position, z in zip(moved, distances, strict=True):
            at = signed((position + unzigzag(z)) & MASK)
            if at in places or not 0 <= at < len(reference):
                raise Corrupt(f"a row is moved to {at}")
            places[at] = reference[position]
        away = set(moved)
        others = (row for n, row in enumerate(reference) if n not in away)
        self.target = [places[n] if n in places else next(others) for n in range(len(reference))]
        for row in self.target:
            check_depth(row)

    def survivor_rows(self) -> list[Row]:
        inserted = {row: place for row, (place, _) in zip(self.reshaped, self.inserts, strict=False)}
        rows = []
        for n in self.retained:
            cells = self.updates[n].now
            if n in self.reshaped:
                both = inserted[n].now
                cells = {path: both[path] if path in both else cells[path] for path in self.reshaped[n]}
            rows.append(Row(self.base[n].symbol, cells))
        return rows


def check_shape(paths: list[Path]) -> None:
    """A shape must be the shape of a record."""
    if not paths:
        raise Corrupt("a shape without paths")
    closed: set[Path] = set()  # the beginnings that were left behind, and the whole paths
    last: Path = ()
    for n, path in enumerate(paths):
        same = 0
        while same < min(len(path), len(last)) and path[same] == last[same]:
            same += 1
        if n:
            closed.update(last[:length] for length in range(same + 1, len(last) + 1))
            if same == len(last):
                raise Corrupt("a path is the beginning of another")
            if same == len(path) or any(path[:length] in closed for length in range(1, len(path) + 1)):
                raise Corrupt("paths that begin alike and stand apart")
        last = path


class ColumnHead(NamedTuple):
    path_id: int
    flags: int
    row_set: int
    rest: bytes


def column_heads(reader: Reader) -> list[ColumnHead]:
    heads: list[ColumnHead] = []
    path_id = -1
    for _ in within(reader.uv(), reader.left()):
        path_id += 1 + reader.sv()
        flags = reader.u8()
        if not flags & 3 or flags > 7:
            raise Unsupported(f"column flags {flags}")
        row_set = reader.uv() if flags & 1 else 0
        heads.append(ColumnHead(path_id, flags, row_set, reader.take(reader.uv())))
    reader.end()
    if len({head.path_id for head in heads}) != len(heads):
        raise Corrupt("a column twice")
    return heads


def entry(entries: Sequence[Any], index: int) -> Any:
    if index >= len(entries):
        raise Corrupt(f"entry {index} of {len(entries)}")
    return entries[index]


def order_key(cell: Cell | None) -> int:
    tag, payload = cell or (0, 0)
    if tag not in (4, 5) or isinstance(payload, bytes):
        return 0
    bits = float_word(float(signed(payload))) if tag == 4 else payload
    return bits ^ MASK if bits >> 63 else bits | 1 << 63


def check_depth(row: Row) -> None:
    for path, cell in row.cells.items():
        if cell[0] in (11, 12) and len(path) + depth_of(value_of(cell)) > MAX_DEPTH:
            raise Corrupt(f"{row.symbol}: nested deeper than {MAX_DEPTH}")


# --- 10. Limits


def dicts_in(paths: Iterable[Path]) -> int:
    """Dicts of a record with these paths, itself included."""
    return len({path[:length] for path in paths for length in range(len(path))})


class Budget:
    def __init__(self, max_bytes: int) -> None:
        self.left = max_bytes

    def charge(self, n: int) -> None:
        self.left -= n
        if self.left < 0:
            raise LimitExceeded("the frame declares more than the limit")
