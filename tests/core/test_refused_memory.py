"""What is refused leaves nothing behind: memory is flat over thousands of refused inputs of each kind."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from support.documents import TESTS

# Names, symbols and texts are new in every input: whatever stays of them shows.
PROGRAM = """
import ctypes, gc, json, sys
sys.path[:0] = sys.argv[3:]
from support import frames as f
import snapdelta
from support.frames import COLUMNS, PATHS, ROWS, SHAPES, constant_column, strings, sv, uv

NAMES = 100

def resident():
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))

def names(n):
    return [f"{n}_{i}_a_name_that_is_new" for i in range(NAMES)]

def record(n):
    return {name: f"a text that is new {name}" for name in names(n)}

FIRST = {"A": {"x": 1, "in": {"y": 1}}}
encoder = snapdelta.Encoder()
decoder = snapdelta.Decoder(limits=snapdelta.Limits(1 << 20))
decoder.apply(encoder.encode(FIRST))

def delta(body, **header):
    return f.seal(body, **{
        "kind": f.DELTA, "base": decoder.digest, "rows": 1,
        "epoch": decoder.epoch, "sequence": decoder.sequence + 1,
        **header,
    })

def paths_of(n):
    keys = names(n)
    return f.new_keys(*keys) + uv(NAMES) + sv(0, 0) * NAMES

def unused_names(n):
    return f.body_of({PATHS: paths_of(n)})

def a_new_row(n):
    texts = [f"a text that is new {name}".encode() for name in names(n)]
    columns = b"".join(
        sv(0 if i else 4) + b"\\2" + f.sized(bytes([8, 0]) + f.sized(t)) for i, t in enumerate(texts)
    )
    shape = uv(1, 0, NAMES) + sv(*[0] * NAMES) + uv(0, 0) + uv(1, 1)
    rows = uv(0, 1) + strings(f"S{n}")
    return f.body_of({ROWS: rows, PATHS: paths_of(n), SHAPES: shape, COLUMNS: uv(NAMES) + columns})

def too_much(n):
    shapes = uv(8000) + uv(0, 1, 0) * 8000 + uv(0, 0)
    return f.body_of({PATHS: paths_of(n), SHAPES: shapes})

def a_broken_shape(n):
    return f.body_of({PATHS: paths_of(n), SHAPES: uv(2) + uv(0, 1) + sv(0) + uv(0, 2) + sv(0, -1) + uv(0, 0)})

def a_newer_coding(n):
    return f.body_of({PATHS: paths_of(n), COLUMNS: uv(1) + sv(0) + b"\\x0f" + uv(0)})

def full(n):
    return snapdelta.dumps({f"S{n}": record(n)})

def refused_by_default(value):
    raise snapdelta.UnsupportedTypeError("no")

raising = snapdelta.Encoder(default=refused_by_default)
raising.encode(FIRST)

def dropped(n):
    pending = encoder.capture({"A": record(n)})
    del pending
    encoder.encode({"A": record(n), "B": {1: 2}})

def last_sequence():
    last = snapdelta.Encoder()
    last.begin(1, 2**64 - 2)
    last.encode(FIRST)
    return last

ended = last_sequence()
other = snapdelta.Encoder()
E = snapdelta

def damaged(n):
    frame = full(n)
    return f.resealed(frame, f.body_in(frame), target=1)

def unsupported(n):
    return {"A": record(n) | {1: 2}}

SMALL = E.Limits(20_000)

KINDS = {
    "Decoder: digest mismatch": (E.CorruptDeltaError, lambda n: decoder.apply(delta(a_new_row(n)))),
    "Decoder: unused names": (E.CorruptDeltaError, lambda n: decoder.apply(delta(unused_names(n)))),
    "Decoder: shape": (E.CorruptDeltaError, lambda n: decoder.apply(delta(a_broken_shape(n)))),
    "Decoder: limit": (E.LimitExceededError, lambda n: decoder.apply(delta(too_much(n)))),
    "Decoder: coding": (E.UnsupportedVersionError, lambda n: decoder.apply(delta(a_newer_coding(n)))),
    "Decoder: version": (
        E.UnsupportedVersionError, lambda n: decoder.apply(delta(unused_names(n), version=9))
    ),
    "Decoder: epoch": (E.BaseMismatchError, lambda n: decoder.apply(delta(a_new_row(n), epoch=7))),
    "Decoder: base": (E.BaseMismatchError, lambda n: decoder.apply(delta(a_new_row(n), base=7))),
    "Decoder: cut": (E.CorruptDeltaError, lambda n: decoder.apply(delta(a_new_row(n))[:-1])),
    "Decoder: full frame": (E.CorruptDeltaError, lambda n: decoder.apply(damaged(n))),
    "loads: digest mismatch": (E.CorruptDeltaError, lambda n: E.loads(damaged(n))),
    "loads: limit": (E.LimitExceededError, lambda n: E.loads(full(n), limits=SMALL)),
    "inspect: limit": (E.LimitExceededError, lambda n: E.inspect(full(n), limits=SMALL)),
    "apply: base": (E.BaseMismatchError, lambda n: E.apply({"A": record(n)}, delta(a_new_row(n)))),
    "apply: digest mismatch": (E.CorruptDeltaError, lambda n: E.apply(FIRST, delta(a_new_row(n)))),
    "apply: unsupported": (E.UnsupportedTypeError, lambda n: E.apply(unsupported(n), delta(a_new_row(n)))),
    "Encoder: value": (
        E.UnsupportedTypeError, lambda n: encoder.encode({"A": record(n) | {"bad": object()}})
    ),
    "Encoder: key": (E.UnsupportedTypeError, lambda n: encoder.encode(unsupported(n))),
    "Encoder: default raises": (
        E.UnsupportedTypeError, lambda n: raising.encode({"A": record(n) | {"bad": object()}})
    ),
    "Encoder: dropped frames": (E.UnsupportedTypeError, dropped),
    "Encoder: no more sequences": (E.SnapdeltaError, lambda n: ended.encode({"A": record(n)})),
    "dumps": (E.UnsupportedTypeError, lambda n: E.dumps({"A": record(n), "B": object()})),
    "diff": (E.UnsupportedTypeError, lambda n: E.diff({"A": record(n)}, {"B": object()})),
}

count = int(sys.argv[1])
grown = {}
for name, (error, refused) in KINDS.items():
    def some(numbers):
        for n in numbers:
            try:
                refused(n)
            except error:
                continue
            raise SystemExit(f"{name}: not refused")
    some(range(50))
    before = resident()
    some(range(50, 50 + count))
    grown[name] = resident() - before
decoder.apply(encoder.encode({"A": {"x": 2, "in": {"y": 1}}}))
assert decoder.snapshot() == {"A": {"x": 2, "in": {"y": 1}}}
print(json.dumps(grown))
"""

MIB = 1 << 20


def growth(count: int, timeout: float) -> dict[str, int]:
    """By kind: bytes by which the resident memory rose over so many refused inputs."""
    command = [sys.executable, "-c", PROGRAM, str(count), "", str(TESTS)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)
    assert done.returncode == 0, done.stderr
    grown = json.loads(done.stdout)
    assert isinstance(grown, dict)
    return grown


def test_a_few_hundred_refused_inputs_leave_nothing() -> None:
    """300 x 100 names and texts that stay are 10 MiB."""
    grown = growth(300, 300)
    assert max(grown.values()) < 3 * MIB, grown


@pytest.mark.long
def test_ten_thousand_refused_inputs_leave_nothing() -> None:
    grown = growth(10_000, 3600)
    assert max(grown.values()) < 4 * MIB, grown
