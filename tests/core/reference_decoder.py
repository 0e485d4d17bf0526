"""A second decoder of snapdelta frames: slow, plain, and written from FORMAT.md alone.

With `reference_values` (section 1) it is laid out in the order of that text and shares no code with the
package, so a frame that both read alike is a frame the text describes. Outside the standard library it needs
only `zstandard`, for bodies that are zstd frames (RFC 8878).
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from math import copysign, inf, nan
from typing import Any, NamedTuple

import zstandard

from core.reference_values import (
    MASK,
    MAX_DEPTH,
    PLAIN_TAGS,
    WORD_TAGS,
    Cell,
    Corrupt,
    Path,
    Reader,
    Row,
    Snapshot,
    UnknownZone,
    cell_of,
    depth_of,
    digest,
    digest_of_rows,
    hash_bytes,
    read_plain,
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


class Unsupported(Exception):  # noqa: N818
    """A newer version, an unknown mandatory section or a reserved code."""


class BaseMismatch(Exception):  # noqa: N818
    """The delta was made from another snapshot."""


# --- 2. The frame


class Header(NamedTuple):
    version: int
    kind: int  # 0 full, 1 delta
    compression: int  # 0 stored, 1 zstd
    epoch: int
    sequence: int
    base: int
    target: int
    body_length: int
    coded_length: int


def header(frame: bytes) -> Header:
    """The header of a frame, checked."""
    if len(frame) < 56 or frame[:4] != b"\xd1SND":
        raise Corrupt("no frame")
    version, kind, compression, zero, *numbers = struct.unpack_from("<BBBBQQQQII", frame, 4)
    found = Header(version, kind, compression, *numbers)
    if found.coded_length != len(frame) - 56:
        raise Corrupt("the frame's length is not the declared one")
    if struct.unpack_from("<Q", frame, 48)[0] != hash_bytes(frame[:48] + frame[56:]):
        raise Corrupt("checksum")
    if version > 1:
        raise Unsupported(f"version {version}")
    if version < 1 or kind > 1 or compression > 1 or zero:
        raise Corrupt("a header that the text does not allow")
    if compression == 0 and found.body_length > found.coded_length:
        raise Corrupt("a stored body of another length")
    if kind == 0 and found.base != digest({}):
        raise Corrupt("a full frame with a base")
    return found


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


def contents_of(frame: bytes) -> tuple[bytes, bytes]:
    """The body of a frame, and its compressed text."""
    head, rest = header(frame), frame[56:]
    if head.compression:
        return inflate(rest, head.body_length)
    return rest[: head.body_length], rest[head.body_length :]


def decode(frame: bytes, base: Snapshot | None = None, *, max_bytes: int = 1 << 30) -> Snapshot:
    """The snapshot that a frame makes of its base. A full frame needs none."""
    head = header(frame)
    rows = rows_of(base or {}) if head.kind == 1 else []
    if digest_of_rows(rows) != head.base:
        raise BaseMismatch("the base's digest is not the frame's")
    budget = Budget(max_bytes)
    budget.charge(head.body_length)
    contents, text = contents_of(frame)
    body = Body(rows, budget, text)
    body.read(contents)
    if digest_of_rows(body.target) != head.target:
        raise Corrupt("the result has not the target's digest")
    return {row.symbol: record_of(row.cells) for row in body.target}


@dataclass
class RowCells:
    """Where a cell of a stream stands: what its row holds in the base, and what is known of it by now."""

    old: dict[Path, Cell] = field(default_factory=dict)
    now: dict[Path, Cell] = field(default_factory=dict)


Predict = Callable[[RowCells, int], int]

SECTIONS = {1: "rows", 2: "paths", 3: "shapes", 4: "sets", 5: "loose", 6: "columns", 7: "order", 8: "text"}
EMPTY = {2: b"\0\0", 3: b"\0\0", 4: b"\0", 5: b"\0", 6: b"\0", 7: b"\0\0\0"}
BYTES_TAGS = (8, 9, 10, 11, 12, 16, 17, 18, 20, 21)
FIXED_LENGTHS = {18: 12, 21: 16}
READ_ORDER = (1, 2, 3, 4, 8, 5, 6, 7)  # the text is needed by SPARSE and COLUMNS


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
        if 1 not in found:
            raise Corrupt("no ROWS")
        heads = column_heads(Reader(found.get(6, EMPTY[6])))
        self.budget.charge(512 * len(heads))
        self.symbols_in_text = bool(found.get(8)) and Reader(found[8]).uv() > 0
        for number in READ_ORDER:
            name = SECTIONS[number]
            reader = Reader(found.get(number, EMPTY.get(number, b"")))
            if name == "loose":
                self.sparse(reader, {head.node for head in heads if head.flags & 2})
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
        if reader.uv() != len(self.base):
            raise Corrupt("another number of rows in the base")
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

    def names(self, reader: Reader) -> list[str]:
        return self.names_of(reader.strings(reader.uv()))

    def names_of(self, names: list[bytes]) -> list[str]:
        self.budget.charge(3 * sum(map(len, names)))
        return [text(name) for name in names]

    # --- 4. PATHS

    def paths(self, reader: Reader) -> None:
        keys = self.names(reader)
        self.budget.charge(320 * len(keys))
        if len(set(keys)) != len(keys):
            raise Corrupt("a key twice")
        count = reader.uv()
        self.budget.charge(320 * count)
        self.nodes: list[Path] = [()]
        parent, key = 0, -1
        for _ in within(count, reader.left()):
            parent += reader.sv()
            key += 1 + reader.sv()
            if not (0 <= parent < len(self.nodes) and 0 <= key < len(keys)):
                raise Corrupt("a node without its parent or key")
            self.nodes.append((*self.nodes[parent], keys[key]))
            if len(self.nodes[-1]) > MAX_DEPTH:
                raise Corrupt(f"a path deeper than {MAX_DEPTH}")
        if len(set(self.nodes)) != len(self.nodes):
            raise Corrupt("a node twice")

    def path(self, node: int) -> Path:
        if not 0 <= node < len(self.nodes):
            raise Corrupt(f"node {node} of {len(self.nodes)}")
        return self.nodes[node]

    # --- 5. SHAPES

    def shapes(self, reader: Reader) -> None:
        count = reader.uv()
        self.budget.charge(512 * count)
        shapes = [self.shape(reader) for _ in within(count, reader.left())]

        def numbered() -> list[Path]:
            number = reader.uv()
            if number >= len(shapes):
                raise Corrupt(f"shape {number} of {len(shapes)}")
            return shapes[number]

        positions = reader.gaps(reader.uv(), len(self.base))
        self.reshaped = {position: numbered() for position in positions}
        if self.removed.intersection(positions):
            raise Corrupt("a removed row is reshaped")
        self.added_shapes: list[list[Path]] = []
        while len(self.added_shapes) < len(self.added):
            shape, run = numbered(), reader.uv()
            if not 1 <= run <= len(self.added) - len(self.added_shapes):
                raise Corrupt(f"a run of {run} rows")
            self.added_shapes += [shape] * run
        shapes_kept = [self.reshaped.get(n, self.base[n].cells) for n in self.retained]
        for kept in [*shapes_kept, *self.added_shapes]:
            self.budget.charge(128 * len(kept) + 256 * dicts_in(kept))
        self.place_rows()

    def shape(self, reader: Reader) -> list[Path]:
        count = reader.uv()
        self.budget.charge(64 * count)
        paths: list[Path] = []
        node = -1
        for _ in within(count, reader.left()):
            node += 1 + reader.sv()
            paths.append(self.path(node))
        check_shape(paths)
        self.budget.charge(32 * dicts_in(paths))
        return paths

    def place_rows(self) -> None:
        """The places of updated cells (base rows) and of inserted ones, with the paths inserted there."""
        self.updates = {n: RowCells(self.base[n].cells, dict(self.base[n].cells)) for n in self.retained}
        self.inserts: list[tuple[RowCells, list[Path]]] = [
            (RowCells(), [path for path in shape if path not in self.base[n].cells])
            for n, shape in self.reshaped.items()
        ]
        self.inserts += [(RowCells(), shape) for shape in self.added_shapes]

    # --- 6. SETS

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
        if kind in (3, 4):
            return self.predicted_set(reader, kind, parent)
        if kind > 4:
            raise Unsupported(f"a set of kind {kind}")
        indices = reader.gaps(reader.uv(), len(parent))
        if kind == 0:
            return [parent[n] for n in indices]
        without = set(indices)
        return [row for n, row in enumerate(parent) if n not in without]

    def predicted_set(self, reader: Reader, kind: int, parent: list[int]) -> list[int]:
        number, complement = divmod(reader.uv(), 2)
        if number + 1 >= len(self.row_sets):
            raise Corrupt(f"a set that set {number + 1} predicts, which is no earlier one")
        self.budget.charge(len(parent) + len(self.row_sets[number + 1]))
        predicted = set(self.row_sets[number + 1])
        if kind == 4:
            bits = int.from_bytes(reader.take((len(parent) + 7) // 8), "little")
            if bits >> len(parent):
                raise Corrupt("unused bits are not 0")
            wrong = {n for n in range(len(parent)) if bits >> n & 1}
        else:
            wrong = set(reader.gaps(reader.uv(), len(parent)))
        return [row for n, row in enumerate(parent) if ((row in predicted) ^ bool(complement)) ^ (n in wrong)]

    # --- 7. LOOSE

    def sparse_places(self, reader: Reader) -> list[tuple[int, int]]:
        """Row and node of each updated cell."""
        count = reader.uv()
        row, rows = 0, []
        for _ in within(count, reader.left()):
            row += reader.uv()
            rows.append(row)
        return [(row, reader.uv()) for row in rows]

    def sparse(self, reader: Reader, listed: set[int]) -> None:
        cells = self.sparse_places(reader)
        self.budget.charge(512 * len(cells))
        nodes = [node for _, node in cells]
        if any(a >= b for a, b in pairwise(cells)):
            raise Corrupt("loose cells out of order")
        self.sparse_paths = set(nodes)
        for row, node in cells:
            self.updatable(row, self.path(node)).now[self.path(node)] = self.sparse_cell(reader)
        listed_paths = {self.path(node) for node in listed}
        for place, paths in self.inserts:
            for path in paths:
                if path not in listed_paths:
                    place.now[path] = self.sparse_cell(reader)

    def sparse_cell(self, reader: Reader) -> Cell:
        if self.values is not None and reader.left() and reader.peek() in BYTES_TAGS:
            cell: Cell = (tag := reader.u8(), self.text_value(tag))
            value_of(cell)  # it must be canonical
        else:
            cell = cell_of(read_plain(reader))
        self.weigh(cell)
        return cell

    def updatable(self, row: int, path: Path) -> RowCells:
        if row not in self.updates or path not in self.base[row].cells:
            raise Corrupt(f"row {row} has no cell at {path}")
        if row in self.reshaped and path not in self.reshaped[row]:
            raise Corrupt(f"row {row} has no cell at {path} any more")
        return self.updates[row]

    def weigh(self, cell: Cell) -> None:
        """Charges what a blob makes of itself, once for each cell that holds it."""
        if isinstance(cell[1], bytes):
            self.budget.charge(64 + 2 * len(cell[1]) + weight_of(value_of(cell)))
        elif cell[0] == 19:
            self.budget.charge(64)

    # --- 8. COLUMNS

    def columns(self, reader: Reader, heads: list[ColumnHead]) -> None:
        reader.take(reader.left())  # column_heads has taken it apart
        for head in heads:
            path, rest = self.path(head.node), Reader(head.rest)
            self.may_name_base_values = bool(head.flags & 4)
            if head.flags & 1:
                if head.node in self.sparse_paths:
                    raise Corrupt(f"listed and loose updates at {path}")
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
        tags = list(reader.take(len(places))) if tag == 255 else [tag] * len(places)
        payloads: dict[int, Iterator[int | bytes]] = {}
        for each in sorted(set(tags)):
            if each > 21:
                raise Unsupported(f"tag {each}")
            of_tag = [place for place, its in zip(places, tags, strict=True) if its == each]
            if each in PLAIN_TAGS:
                payloads[each] = iter([0] * len(of_tag))
            elif each in WORD_TAGS:
                payloads[each] = iter(self.words(reader, each, path, of_tag))
            else:
                payloads[each] = iter(self.blobs(reader, each, len(of_tag), path))
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

    def other(self, node: int, path: Path) -> Path:
        """The path of a node that is named as another column."""
        other = self.path(node)
        if other == path:
            raise Corrupt("a column that refers to itself")
        return other

    # --- 8.2 Word streams

    def words(self, reader: Reader, tag: int, path: Path, places: list[RowCells]) -> list[int]:
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
            return [entry(entries, index) for index in reader.byte_planes(n)]
        if encoding == 2:
            return self.residuals(reader, tag, path, places, None)
        if encoding > 3:
            raise Unsupported(f"word coding {encoding}")
        if tag != 5:
            raise Corrupt("decimals that are no floats")
        exponent = reader.u8()
        if exponent > 22:
            raise Corrupt(f"an exponent of {exponent}")
        positions = reader.gaps(reader.uv(), n)
        exceptions = dict(zip(positions, reader.byte_planes(len(positions)), strict=True))
        numbers = self.residuals(reader, tag, path, places, exponent)
        return [
            exceptions[i] if i in exceptions else decimal_word(m, exponent) for i, m in enumerate(numbers)
        ]

    def residuals(
        self, reader: Reader, tag: int, path: Path, places: list[RowCells], exponent: int | None
    ) -> list[int]:
        """The words, or with an exponent the numbers m of decimals."""
        predict = self.predictor(reader, tag, path, exponent)
        scale = reader.uv()
        if scale < 1:
            raise Corrupt("a scale of 0")
        words: list[int] = []
        for place, z in zip(places, reader.byte_planes(len(places)), strict=True):
            prediction = predict(place, words[-1] if words else 0)
            words.append((prediction + scale * unzigzag(z)) & MASK)
        return words

    def predictor(self, reader: Reader, tag: int, path: Path, exponent: int | None) -> Predict:
        """From the place of a cell and the word before it in the stream to the prediction of its word."""

        def word(cells: dict[Path, Cell], at: Path) -> int | None:
            cell = cells.get(at)
            if cell is None or cell[0] != tag:
                return None
            assert isinstance(cell[1], int)
            return cell[1] if exponent is None else decimal_number(cell[1], exponent)

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
        if code > 7:
            raise Unsupported(f"predictor {code}")
        if code > 5 and exponent is not None:
            raise Corrupt("a formula or the larger of two among decimals")
        if code == 6:
            return self.formula(reader, tag, path)
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

    def formula(self, reader: Reader, tag: int, path: Path) -> Predict:
        operation = reader.u8()
        if operation > 10:
            raise Unsupported(f"operation {operation}")
        if tag != 5:
            raise Corrupt("a formula of no floats")
        a, node = self.other(reader.uv(), path), reader.uv()
        ratio = operation in (8, 9)  # of the old word and of column a
        if ratio and (node or not self.in_updates):
            raise Corrupt("a ratio to the old value among inserts, or of two columns")
        b = a if ratio else self.other(node, path)

        def predict(place: RowCells, before: int) -> int:
            x, y = number(place.now.get(a)), number(place.old.get(a) if ratio else place.now.get(b))
            if x is None or y is None:
                return 0
            old = place.old.get(path)
            o = number(old) if old is not None and old[0] == 5 else 0.0
            assert o is not None
            value = operate(operation, x, y, o)
            return 0 if value != value else float_word(value)

        return predict

    # --- 8.3 Blob streams

    def blobs(self, reader: Reader, tag: int, n: int, path: Path) -> list[bytes]:
        encoding = reader.u8()
        if encoding == 0:
            return self.payloads(reader, tag, n)
        if encoding > 2:
            raise Unsupported(f"blob coding {encoding}")
        if encoding == 2:
            if not self.may_name_base_values:
                raise Corrupt("base values that the flags do not announce")
            return self.base_values(reader, tag, n, path)
        count = reader.uv()
        if not 1 <= count <= 65536:
            raise Corrupt(f"a dictionary of {count}")
        self.budget.charge(64 * count)
        entries = self.payloads(reader, tag, count)
        return [entry(entries, index) for index in reader.byte_planes(n)]

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
        return [entry(entries, index) for index in reader.byte_planes(n)]

    def payloads(self, reader: Reader, tag: int, n: int) -> list[bytes]:
        if self.values is None:
            return reader.strings(n)
        return [self.text_value(tag) for _ in within(n, self.values.left())]

    # --- 8.4 TEXT

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
        places = [(row, self.path(node)) for row, node in self.sparse_places(sparse)]
        values += self.prefix_values([self.updatable(row, path).old[path] for row, path in places])
        updated = {head.node: head.row_set for head in heads if head.flags & 1}
        node = -1
        for _ in within(reader.uv(), reader.left()):
            node += 1 + reader.sv()
            path, code = self.path(node), reader.uv()
            rows = self.sampled(code >> 1)
            if code & 1:
                if not 1 <= updated.get(node, 0) < len(self.row_sets):
                    raise Corrupt(f"a part with the updates of node {node}, which has none")
                rows = [*rows, *self.row_sets[updated[node]]]
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
        distances = reader.byte_planes(len(moved))
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
    node: int
    flags: int
    row_set: int
    rest: bytes


def column_heads(reader: Reader) -> list[ColumnHead]:
    heads: list[ColumnHead] = []
    node = -1
    for _ in within(reader.uv(), reader.left()):
        node += 1 + reader.sv()
        flags = reader.u8()
        if not flags & 3 or flags > 7:
            raise Unsupported(f"column flags {flags}")
        row_set = reader.uv() if flags & 1 else 0
        heads.append(ColumnHead(node, flags, row_set, reader.take(reader.uv())))
    reader.end()
    if len({head.node for head in heads}) != len(heads):
        raise Corrupt("a column twice")
    return heads


def entry(entries: Sequence[Any], index: int) -> Any:
    if index >= len(entries):
        raise Corrupt(f"entry {index} of {len(entries)}")
    return entries[index]


def float_word(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def word_float(word: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", word))[0])


def decimal_word(m: int, exponent: int) -> int:
    number = signed(m)
    if abs(number) > 2**51:
        raise Corrupt(f"{number} is too large for a decimal")
    return float_word(float(number) / 10.0**exponent)


def decimal_number(word: int, exponent: int) -> int:
    """m of a word, 0 if it is not exactly such a decimal."""
    scaled = word_float(word) * 10.0**exponent
    if not abs(scaled) <= 2**51:
        return 0
    m = round(scaled)  # half to even
    return m if decimal_word(m & MASK, exponent) == word else 0


def number(cell: Cell | None) -> float | None:
    """An operand: the double of a cell of tag 5, the nearest to one of tag 4."""
    if cell is None or cell[0] not in (4, 5):
        return None
    assert isinstance(cell[1], int)
    return word_float(cell[1]) if cell[0] == 5 else float(signed(cell[1]))


def divide(a: float, b: float) -> float:
    """a / b as IEEE 754 has it, where Python raises."""
    if b:
        return a / b
    return nan if a == 0 or a != a else copysign(inf, a) * copysign(1.0, b)


def operate(operation: int, a: float, b: float, o: float) -> float:
    """Of operations 8 and 9, b is a' and o the old value."""
    steps: tuple[Callable[[], float], ...] = (
        lambda: a - b,
        lambda: a + b,
        lambda: a * b,
        lambda: divide(a, b),
        lambda: (a + b) / 2,
        lambda: divide(a, b) * 100,
        lambda: divide(a - b, b) * 100,
        lambda: abs(a) * b,
        lambda: divide(o * a, b),
        lambda: divide(o * b, a),
        lambda: (divide(a, b) - 1) * 100,
    )
    return steps[operation]()


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
