"""What a frame carries, in plain Python: FORMAT.md's conventions and section 1 (cells, hashes, digests).

The first half of the second decoder; `reference_decoder` is the other and says what it is for.
"""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from itertools import accumulate
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

Snapshot = dict[str, Any]
Path = tuple[str, ...]
Cell = tuple[int, int | bytes]  # tag; a word, or bytes

MASK = 2**64 - 1
MAX_DEPTH = 64


class Corrupt(Exception):  # noqa: N818
    """The frame is damaged, or says what the text does not allow."""


class UnknownZone(Exception):  # noqa: N818
    """An IANA key that this machine has no data for."""


class Unsupported(Exception):  # noqa: N818
    """A newer version, an unknown mandatory section or a reserved code."""


# --- Conventions


class Entropy:
    """The stream of section ENTROPY, 2.1."""

    def __init__(self, data: bytes) -> None:
        self.reader = Reader(data, self) if data else None
        self.x = self.reader.u64() if self.reader else 2**31
        if not 2**31 <= self.x < 2**63:
            raise Corrupt("a state out of range")

    def step(self, start: int, frequency: int, bits: int) -> None:
        self.x = frequency * (self.x >> bits) + self.x % 2**bits - start
        if self.x < 2**31:
            if self.reader is None:
                raise Corrupt("no entropy stream")
            self.x = self.x << 32 | self.reader.u32()

    def raw(self, bits: int) -> int:
        slot: int = self.x % 2**bits
        self.step(slot, 1, bits)
        return slot

    def choice(self, share: int) -> bool:
        """Whether a choice of this share of 256 was taken; 0 and 255 leave none."""
        if share in (0, 255):
            return share == 255
        is_taken = self.x % 256 < share
        start, frequency = (0, share) if is_taken else (share, 256 - share)
        self.step(start, frequency, 8)
        return is_taken

    def end(self) -> None:
        if self.x != 2**31 or (self.reader and self.reader.left()):
            raise Corrupt("more in the entropy stream than was read")


class Reader:
    """Takes the forms of the text from bytes, never past their end."""

    def __init__(self, data: bytes, entropy: Entropy | None = None) -> None:
        self.data = data
        self.at = 0
        self.entropy = entropy or Entropy(b"")

    def left(self) -> int:
        return len(self.data) - self.at

    def take(self, n: int) -> bytes:
        if n > self.left():
            raise Corrupt(f"byte {self.at}: {n} bytes wanted, {self.left()} left")
        self.at += n
        return self.data[self.at - n : self.at]

    def end(self) -> None:
        if self.left():
            raise Corrupt(f"{self.left()} bytes too many")

    def u8(self) -> int:
        return self.take(1)[0]

    def peek(self) -> int:
        return self.data[self.at]

    def u32(self) -> int:
        return int.from_bytes(self.take(4), "little")

    def u64(self) -> int:
        return int.from_bytes(self.take(8), "little")

    def uv(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            byte = self.u8()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if (byte == 0 and shift) or value > MASK:
                    raise Corrupt("a number that is not in its shortest form or has more than 64 bits")
                return value
        raise Corrupt("a number of more than 10 bytes")

    def sv(self) -> int:
        return unzigzag(self.uv())

    def strings(self, n: int) -> list[bytes]:
        lengths = [self.uv() for _ in within(n, self.left())]
        return [self.take(length) for length in lengths]

    def gaps(self, n: int, limit: int) -> list[int]:
        numbers: list[int] = []
        last = -1
        for _ in within(n, limit):
            last += 1 + self.uv()
            if last >= limit:
                raise Corrupt(f"number {last} is not below {limit}")
            numbers.append(last)
        return numbers

    def integers(self, n: int) -> list[int]:
        mode = self.u8()
        if mode <= 8:
            self.at -= 1
            return self.byte_planes(n)
        if mode < 16:
            raise Corrupt(f"mode {mode} of integers")
        if mode not in (16, 17, 18, 24):
            raise Unsupported(f"mode {mode} of integers")
        mantissa, bits = mode - 16, min(max(n.bit_length(), 1), 12)
        lowest, others = self.u8(), self.u8()
        if lowest + others > min(255, ((63 - mantissa) << mantissa) + (MASK >> (63 - mantissa))):
            raise Corrupt("a class beyond the last one")
        frequencies = [self.uv() for _ in range(others)]
        frequencies.append(2**bits - sum(frequencies))
        if frequencies[0] == 0 or frequencies[-1] <= 0:
            raise Corrupt("a table with a wrong sum, or with a frequency of 0 at an end")
        starts = [0, *accumulate(frequencies)]
        numbers = []
        for _ in range(n):
            at = bisect_right(starts, self.entropy.x % 2**bits) - 1
            self.entropy.step(starts[at], frequencies[at], bits)
            number, opened = lowest + at, 0
            if number >> mantissa:
                opened = (number >> mantissa) - 1
                number = number - (opened << mantissa) << opened
            for done in range(0, opened, 16):
                number |= self.entropy.raw(min(16, opened - done)) << done
            numbers.append(number)
        return numbers

    def byte_planes(self, n: int) -> list[int]:
        width = self.u8()
        if width > 8:
            raise Corrupt(f"a plane width of {width}")
        if width * n > self.left():
            raise Corrupt("planes past the end")
        words = bytearray(8 * n)
        for plane in range(width):
            words[plane::8] = self.take(n)
        return list(struct.unpack(f"<{n}Q", words))


def within(n: int, limit: int) -> range:
    """range(n), if n things can be there at all."""
    if n > limit:
        raise Corrupt(f"{n} things where at most {limit} can be")
    return range(n)


def unzigzag(z: int) -> int:
    return (z >> 1) ^ -(z & 1)


def signed(word: int) -> int:
    return word - 2**64 if word >= 2**63 else word


def text(data: bytes) -> str:
    try:
        return data.decode("utf-8", "surrogatepass")
    except UnicodeDecodeError as error:
        raise Corrupt(f"not UTF-8: {error}") from error


def uv_bytes(n: int) -> bytes:
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def sized(data: bytes) -> bytes:
    return uv_bytes(len(data)) + data


# --- 1. The data


@dataclass
class Row:
    symbol: str
    cells: dict[Path, Cell]  # in the order of the shape


def leaves(record: Any) -> Iterable[tuple[Path, Any]]:
    if type(record) is dict and record:
        for key, value in record.items():
            for path, leaf in leaves(value):
                yield (key, *path), leaf
    else:
        yield (), record


def rows_of(snapshot: Snapshot) -> list[Row]:
    return [
        Row(symbol, {path: cell_of(leaf) for path, leaf in leaves(record)})
        for symbol, record in snapshot.items()
    ]


def record_of(cells: dict[Path, Cell]) -> Any:
    if () in cells:
        return value_of(cells[()])
    record: dict[str, Any] = {}
    for path, cell in cells.items():
        inner = record
        for key in path[:-1]:
            inner = inner.setdefault(key, {})
        inner[path[-1]] = value_of(cell)
    return record


# --- 1.1 Tags

FIXED64_TAGS = frozenset({4, 5, 6, 7, 13, 14, 15, 19})
PLAIN_TAGS = frozenset({0, 1, 2, 3})
EPOCH = datetime.min
MICROSECOND = timedelta(microseconds=1)


def cell_of(value: Any) -> Cell:
    """The one cell of a value; of a dict inside a list too (tag 22)."""
    kind = type(value)
    if value is None:
        return 0, 0
    if kind is bool:
        return 1 + value, 0
    if kind is int:
        return int_cell(value)
    if kind is float:
        return 5, int(struct.unpack("<Q", struct.pack("<d", value))[0])
    if kind is str:
        return str_cell(value)
    if kind is bytes:
        return 9, value
    if kind is list or kind is tuple:
        return 11 + (kind is tuple), uv_bytes(len(value)) + b"".join(map(inline_of, value))
    if kind is dict:
        items = b"".join(
            sized(key.encode("utf-8", "surrogatepass")) + inline_of(item) for key, item in value.items()
        )
        return (22, uv_bytes(len(value)) + items) if value else (3, 0)
    if kind is date:
        return 13, value.year << 9 | value.month << 5 | value.day
    if kind is datetime:
        return datetime_cell(value)
    if kind is time:
        since = timedelta(
            hours=value.hour, minutes=value.minute, seconds=value.second, microseconds=value.microsecond
        )
        return 17, struct.pack("<QB", since // MICROSECOND, value.fold) + zone_bytes(value.tzinfo)
    if kind is timedelta:
        return 18, timedelta_bytes(value)
    if kind is Decimal:
        return decimal_cell(value)
    if kind is UUID:
        return 21, value.bytes
    raise TypeError(f"{kind.__name__} is not a value of a snapshot")


def int_cell(value: int) -> Cell:
    if -(2**63) <= value < 2**63:
        return 4, value & MASK
    bits = (value if value >= 0 else ~value).bit_length() + 1
    return 10, value.to_bytes((bits + 7) // 8, "little", signed=True)


def str_cell(value: str) -> Cell:
    data = value.encode("utf-8", "surrogatepass")
    digits = 1 <= len(data) <= 19 and all(48 <= byte <= 57 for byte in data)
    if digits and (data[0] != 48 or len(data) == 1):
        return 6, int(value)
    if len(data) <= 7:
        return 7, int.from_bytes(data, "little") | len(data) << 56
    return 8, data


def datetime_cell(value: datetime) -> Cell:
    micros = (value.replace(tzinfo=None, fold=0) - EPOCH) // MICROSECOND
    if value.fold == 0 and value.tzinfo is None:
        return 14, micros
    if value.fold == 0 and value.tzinfo is UTC:
        return 15, micros
    return 16, struct.pack("<QB", micros, value.fold) + zone_bytes(value.tzinfo)


def timedelta_bytes(value: timedelta) -> bytes:
    return struct.pack("<iII", value.days, value.seconds, value.microseconds)


def zone_bytes(zone: object) -> bytes:
    if zone is None:
        return b"\0"
    if zone is UTC:
        return b"\1"
    if type(zone) is timezone:
        offset, *name = zone.__getinitargs__()  # type: ignore[attr-defined]  # the only exact way to the name
        if name:
            return b"\3" + timedelta_bytes(offset) + sized(name[0].encode("utf-8", "surrogatepass"))
        return b"\2" + timedelta_bytes(offset)
    if type(zone) is ZoneInfo and zone.key is not None:
        return b"\4" + sized(zone.key.encode("utf-8", "surrogatepass"))
    raise TypeError(f"{zone!r} is not a zone of a snapshot")


def decimal_cell(value: Decimal) -> Cell:
    sign, digits, exponent = value.as_tuple()
    if isinstance(exponent, str):
        kind = {"F": 1, "n": 2, "N": 3}[exponent]
        payload = b"" if kind == 1 else bytes(48 + digit for digit in digits)
        return 20, struct.pack("<BBQ", kind, sign, 0) + payload
    data = bytes(48 + digit for digit in digits)
    if len(data) <= 17 and int(data) < 2**55 and -128 <= exponent <= 127:
        return 19, (exponent & 0xFF) << 56 | sign << 55 | int(data)
    return 20, struct.pack("<BBq", 0, sign, exponent) + data


def inline_of(value: Any) -> bytes:
    tag, payload = cell_of(value)
    head = bytes([tag])
    if tag in PLAIN_TAGS:
        return head
    if isinstance(payload, bytes):
        return head + (payload if tag in (11, 12, 22) else sized(payload))
    if tag == 4:
        number = signed(payload)
        return head + uv_bytes((number << 1 ^ number >> 63) & MASK)
    if tag in (6, 13):
        return head + uv_bytes(payload)
    if tag == 7:
        length = payload >> 56
        return head + bytes([length]) + payload.to_bytes(8, "little")[:length]
    return head + payload.to_bytes(8, "big")


def value_of(cell: Cell) -> Any:
    """The value of a cell; corrupt if the cell is not the one that this value has."""
    tag, payload = cell
    try:
        value = bytes_value(tag, payload) if isinstance(payload, bytes) else fixed64_value(tag, payload)
    except (ValueError, OverflowError, ArithmeticError) as error:  # what the constructors of the types raise
        raise Corrupt(f"tag {tag}: {error}") from error
    if cell_of(value) != cell:
        raise Corrupt(f"tag {tag}: not canonical")
    return value


def fixed64_value(tag: int, word: int) -> Any:
    if tag in PLAIN_TAGS:
        return (None, False, True, {})[tag]
    if tag == 4:
        return signed(word)
    if tag == 5:
        return struct.unpack("<d", struct.pack("<Q", word))[0]
    if tag == 6:
        return str(word)
    if tag == 7:
        data = word.to_bytes(8, "little")
        return text(data[: data[7]])
    if tag == 13:
        return date(word >> 9, word >> 5 & 15, word & 31)
    if tag == 14 or tag == 15:
        return (EPOCH + timedelta(microseconds=word)).replace(tzinfo=UTC if tag == 15 else None)
    exponent = signed(word) >> 56
    return Decimal((word >> 55 & 1, digit_tuple(word & (1 << 55) - 1), exponent))


def digit_tuple(number: int) -> tuple[int, ...]:
    return tuple(map(int, str(number)))


def bytes_value(tag: int, payload: bytes) -> Any:
    reader = Reader(payload)
    if tag == 8:
        return text(payload)
    if tag == 9:
        return payload
    if tag == 10:
        return int.from_bytes(payload, "little", signed=True)
    if tag == 16 or tag == 17:
        micros, fold = timedelta(microseconds=reader.u64()), reader.u8()
        zone = read_zone(reader)
        reader.end()
        moment = (EPOCH + micros).replace(tzinfo=zone, fold=fold)
        if tag == 16:
            return moment
        if micros.days:
            raise Corrupt("a time of more than a day")
        return moment.timetz()
    if tag == 18:
        value: Any = read_timedelta(reader)
    elif tag == 20:
        value = read_decimal(reader)
    elif tag == 21:
        value = UUID(bytes=payload)
        reader.take(16)
    else:
        value = read_container(reader, tag, 1)
    reader.end()
    return value


def read_timedelta(reader: Reader) -> timedelta:
    days, seconds, micros = struct.unpack("<iII", reader.take(12))
    return timedelta(days, seconds, micros)


def read_zone(reader: Reader) -> timezone | ZoneInfo | None:
    kind = reader.u8()
    if kind == 0:
        return None
    if kind == 1:
        return UTC
    if kind == 2:
        return timezone(read_timedelta(reader))
    if kind == 3:
        return timezone(read_timedelta(reader), text(reader.take(reader.uv())))
    if kind != 4:
        raise Corrupt(f"a zone of kind {kind}")
    key = text(reader.take(reader.uv()))
    try:
        return ZoneInfo(key)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise UnknownZone(key) from error


def read_decimal(reader: Reader) -> Decimal:
    kind, sign, exponent = struct.unpack("<BBq", reader.take(10))
    digits = tuple(byte - 48 for byte in reader.take(reader.left()))
    if kind > 3 or sign > 1 or any(not 0 <= digit <= 9 for digit in digits):
        raise Corrupt("a Decimal of no kind")
    if kind == 0:
        return Decimal((sign, digits, exponent))
    if exponent or (kind == 1 and digits):
        raise Corrupt("more than a special Decimal has")
    name = {1: "Infinity", 2: "NaN", 3: "sNaN"}[kind]
    return Decimal("-" * sign + name + "".join(map(str, digits)))


def read_container(reader: Reader, tag: int, depth: int) -> Any:
    """The items of a list, a tuple or a dict that is `depth` deep in its cell."""
    if depth > MAX_DEPTH:
        raise Corrupt(f"nested deeper than {MAX_DEPTH}")
    count = reader.uv()
    if tag == 22:
        items: dict[str, Any] = {}
        for _ in within(count, reader.left()):
            key = text(reader.take(reader.uv()))
            items[key] = read_inline(reader, depth)
        if len(items) != count or not count:
            raise Corrupt("an empty dict, or a key twice")
        return items
    values = [read_inline(reader, depth) for _ in within(count, reader.left())]
    return values if tag == 11 else tuple(values)


def read_inline(reader: Reader, depth: int = 0) -> Any:
    """A value in plain form; with depth 0 it is a leaf, where tag 22 has no place."""
    tag = reader.u8()
    if tag > 22 or (tag == 22 and depth == 0):
        raise Corrupt(f"tag {tag}")
    if tag in (11, 12, 22):
        return read_container(reader, tag, depth + 1)
    if tag in PLAIN_TAGS:
        return value_of((tag, 0))
    if tag == 4:
        return reader.sv()
    if tag in (6, 13):
        return value_of((tag, reader.uv()))
    if tag == 7:
        length = reader.u8()
        return value_of((7, int.from_bytes(reader.take(length), "little") | length << 56))
    if tag in FIXED64_TAGS:
        return value_of((tag, int.from_bytes(reader.take(8), "big")))
    return value_of((tag, reader.take(reader.uv())))


def depth_of(value: Any) -> int:
    """How many lists, tuples and non-empty dicts stand around the deepest value."""
    if type(value) is dict:
        return 1 + max(map(depth_of, value.values())) if value else 0
    if type(value) in (list, tuple):
        return 1 + max(map(depth_of, value), default=0)
    return 0


def weight_of(value: Any) -> int:
    """What the value of a bytes payload is charged for the items in it (section 10)."""
    if type(value) is dict:
        return 256 + sum(128 + weight_of(item) for item in value.values()) if value else 0
    if type(value) in (list, tuple):
        return sum(128 + weight_of(item) for item in value)
    return 128 if cell_of(value)[0] in (16, 17) else 0


# --- 1.3 Hashes and digests

K0, K1, K2, K3 = 0x9E3779B97F4A7C15, 0xA0761D6478BD642F, 0xE7037ED1A0B428DB, 0x8EBC6AF09C88C6E3


def mum(a: int, b: int) -> int:
    product = a * b
    return (product & MASK) ^ (product >> 64)


def chain(words: Iterable[int], n: int) -> int:
    """H(w1 … wk; n)"""
    h = K0
    for word in words:
        h = mum(h ^ word, K1)
    return mum(h ^ n, K2)


def hash_bytes(data: bytes) -> int:
    padded = data + bytes(-len(data) % 8)
    return chain(struct.unpack(f"<{len(padded) // 8}Q", padded), len(data))


def hash_text(string: str) -> int:
    return hash_bytes(string.encode("utf-8", "surrogatepass"))


def hash_path(path: Path, known: dict[Path, int]) -> int:
    if path not in known:
        known[path] = chain(map(hash_text, path), len(path))
    return known[path]


def hash_record(cells: dict[Path, Cell], known: dict[Path, int]) -> int:
    total = chain((hash_path(path, known) for path in cells), len(cells))
    for path, (tag, payload) in cells.items():
        x = hash_bytes(payload) if isinstance(payload, bytes) else payload
        total += mum(mum(x ^ known[path], K2) ^ (tag + 1), K3)
    return total & MASK


def digest_of_rows(rows: Sequence[Row]) -> int:
    known: dict[Path, int] = {}
    words: list[int] = []
    for row in rows:
        words += hash_text(row.symbol), hash_record(row.cells, known)
    return chain(words, len(rows))


def digest(snapshot: Snapshot) -> int:
    """The digest of a snapshot."""
    return digest_of_rows(rows_of(snapshot))
