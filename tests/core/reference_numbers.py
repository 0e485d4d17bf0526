"""The arithmetic of FORMAT.md section 8.4: values of cells, forms, rounding and operations.

A part of the second decoder; `reference_decoder` says what it is for.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable
from math import copysign, inf, nan
from typing import NamedTuple

from core.reference_values import MASK, Cell, Corrupt, Reader, Unsupported, signed, text, value_of


def float_word(value: float) -> int:
    return int(struct.unpack("<Q", struct.pack("<d", value))[0])


def word_float(word: int) -> float:
    return float(struct.unpack("<d", struct.pack("<Q", word))[0])


def divide(a: float, b: float) -> float:
    """a / b as IEEE 754 has it, where Python raises."""
    if b:
        return a / b
    return nan if a == 0 or a != a else copysign(inf, a) * copysign(1.0, b)


LIMIT = 2**51
NUMBER_IN_TEXT = re.compile(
    rb"([-+]?)([^-+.,0-9]{0,4})([-+]?)([1-9][0-9]{0,2}(?:,[0-9]{3})+|0|[1-9][0-9]*)"
    rb"(?:\.([0-9]+))?([^-+.,0-9]{0,4})",
    re.DOTALL,
)


def value(cell: Cell | None) -> float | None:
    """The double that a cell stands for."""
    if cell is None:
        return None
    tag, payload = cell
    if tag in (7, 8):
        written = value_of(cell)
        assert isinstance(written, str)
        return value_in_text(written.encode("utf-8", "surrogatepass"))
    if isinstance(payload, bytes):
        return None
    if tag in (4, 6):
        return float(signed(payload) if tag == 4 else payload)
    if tag == 5:
        number = word_float(payload)
        return None if number != number else number
    if tag != 19:
        return None
    coefficient = float(payload & (2**55 - 1))
    if payload >> 55 & 1 and coefficient:
        coefficient = -coefficient
    exponent = (payload >> 56 ^ 128) - 128
    if not -22 <= exponent <= 22:
        return None
    return coefficient / 10.0**-exponent if exponent < 0 else coefficient * 10.0**exponent


def value_in_text(written: bytes) -> float | None:
    found = NUMBER_IN_TEXT.fullmatch(written) if len(written) <= 40 else None
    if not found:
        return None
    first, prefix, second, whole, fraction, _ = found.groups(b"")
    if second and (first or not prefix):
        return None
    digits = whole.replace(b",", b"") + fraction
    m = int(digits)
    if len(digits) > 18 or m > 2**53:
        return None
    return float(-m if b"-" in (first, second) else m) / 10.0 ** len(fraction)


def first_of(*integers: int | None) -> int:
    return next((integer for integer in integers if integer is not None), 0)


class Form(NamedTuple):
    kind: int
    flags: int = 0
    decimals: int = 0
    prefix: bytes = b""
    suffix: bytes = b""


def form_of(reader: Reader, scale: Scale) -> Form:
    kind = reader.u8()
    if scale.raw and kind not in (0, 2):
        raise Corrupt("doubles as something else")
    if kind > 5:
        raise Unsupported(f"form {kind}")
    if kind < 4:
        return Form(kind)
    flags = reader.u8() if kind == 5 else 0
    if flags > 15:
        raise Unsupported(f"flags of text {flags}")
    decimals = reader.u8()
    if not (
        decimals <= scale.exponent or decimals == 255 or (decimals == 254 and kind == 5 and scale.exponent)
    ):
        raise Corrupt(f"{decimals} decimals")
    if kind == 4:
        return Form(kind, 0, decimals)
    prefix, suffix = reader.take(reader.uv()), reader.take(reader.uv())
    for affix in (prefix, suffix):
        text(affix)
        if len(affix) > 4 or set(affix) & set(b"0123456789+-.,"):
            raise Corrupt("no number stands between these")
    return Form(kind, flags, decimals, prefix, suffix)


class Scale(NamedTuple):
    exponent: int
    unit: int

    @property
    def raw(self) -> bool:
        return self.exponent == 255

    def check(self) -> None:
        if self.exponent > 18 and not self.raw:
            raise Unsupported(f"exponent {self.exponent}")
        if not 1 <= self.unit <= (1 if self.raw else LIMIT):
            raise Corrupt(f"a unit of {self.unit}")

    def integer(self, number: float | None) -> int | None:
        """R(v), as a word."""
        if number is None:
            return None
        if self.raw:
            return float_word(number)
        scaled = number * 10.0**self.exponent
        if self.unit > 1:
            scaled /= float(self.unit)
        return round(scaled) & MASK if abs(scaled) <= LIMIT else None

    def cell(self, form: Form, word: int) -> Cell | None:
        """The cell of an integer; None if it cannot have the form."""
        if self.raw:
            return (5, word)
        number = signed(word) * self.unit
        if abs(number) > LIMIT:
            return None
        power = 10**self.exponent
        if form.kind in (1, 3) and number % power == 0:
            return (4, number // power & MASK)
        if form.kind in (2, 3):
            return (5, float_word(float(number) / 10.0**self.exponent))
        if form.kind < 4:
            return None
        digits, d = abs(number), self.exponent
        least = {255: 0, 254: 1}.get(form.decimals, form.decimals)
        while d > least and digits % 10 == 0:
            digits, d = digits // 10, d - 1
        if form.decimals < 254 and d > form.decimals:
            return None
        if form.kind == 4:
            return (19, (-d & 255) << 56 | (number < 0) << 55 | digits)
        sign = b"-" if number < 0 else b"+" if form.flags & (2 if number else 8) else b""
        whole = f"{digits // 10**d:,}" if form.flags & 4 else str(digits // 10**d)
        fraction = f".{digits % 10**d:0{d}}" if d else ""
        parts = (form.prefix, sign) if form.flags & 1 else (sign, form.prefix)
        return text_cell(b"".join(parts) + (whole + fraction).encode() + form.suffix)

    def form_of_cell(self, forms: list[Form], cell: Cell | None, none: int = 0) -> int:
        """The first form that gives the cell, else `none`."""
        if cell is None:
            return none
        word = self.integer(value(cell))
        for n, form in enumerate(forms):
            made = (0, 0) if form.kind == 0 else None if word is None else self.cell(form, word)
            if made == cell:
                return n
        return none


def text_cell(written: bytes) -> Cell:
    if written.isdigit() and len(written) <= 19 and (written == b"0" or written[:1] != b"0"):
        return (6, int(written))
    if len(written) <= 7:
        return (7, int.from_bytes(written, "little") | len(written) << 56)
    return (8, written)


def rounded_close(close: float, k: float) -> float:
    scaled = close * k
    return divide(float(round(scaled)), k) if abs(scaled) <= LIMIT else nan


def close_of(old: float, percent: float) -> float:
    return divide(old, 1 + percent / 100)


# The operands of each operation, and what it makes of them; x and y are A and B of the text.
OPERATIONS: tuple[tuple[str, Callable[..., float]], ...] = (
    ("o", lambda o: o),
    ("a", lambda a: a),
    ("x", lambda x: x),
    ("oax", lambda o, a, x: o + (a - x)),
    ("oax", lambda o, a, x: o - (a - x)),
    ("oax", lambda o, a, x: divide(o * a, x)),
    ("oax", lambda o, a, x: divide(o * x, a)),
    ("ak", lambda a, k: k * a),
    ("oaxk", lambda o, a, x, k: o + k * (a - x)),
    ("ok", lambda o, k: o + k),
    ("oa", lambda o, a: o if o > a else a),
    ("oa", lambda o, a: o if o < a else a),
    ("oax", lambda o, a, x: (divide(a, close_of(x, o)) - 1) * 100),
    ("oaxk", lambda o, a, x, k: (divide(a, rounded_close(close_of(x, o), k)) - 1) * 100),
    ("ab", lambda a, b: a - b),
    ("ab", lambda a, b: a + b),
    ("ab", lambda a, b: a * b),
    ("ab", lambda a, b: divide(a, b)),
    ("ab", lambda a, b: (a + b) / 2),
    ("ab", lambda a, b: divide(a, b) * 100),
    ("ab", lambda a, b: divide(a - b, b) * 100),
    ("ab", lambda a, b: abs(a) * b),
    ("ab", lambda a, b: (divide(a, b) - 1) * 100),
    ("ab", lambda a, b: divide(a, b - a) * 100),
    ("abk", lambda a, b, k: divide(k * a, b)),
    ("abk", lambda a, b, k: k * a * b),
    ("ab", lambda a, b: a if a > b else b),
    ("ab", lambda a, b: a if a < b else b),
    ("oaxb", lambda o, a, x, b: o + (a - x) * b),
    ("oaxbk", lambda o, a, x, b, k: o + k * (a - x) * b),
    ("oaxb", lambda o, a, x, b: divide(o * x + b * (a - x), a)),
    ("oaxby", lambda o, a, x, b, y: o + (a - x) + (b - y)),
    ("oaxby", lambda o, a, x, b, y: o + (a - x) - (b - y)),
    ("oa", lambda o, a: a - o),
    ("oa", lambda o, a: a + o),
    ("ax", lambda a, x: a - x),
    ("ax", lambda a, x: divide(a - x, x) * 100),
)
