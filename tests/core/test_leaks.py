"""Memory does not grow with the number of frames, though every frame brings what the ones before had not."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

# Lean on purpose: the smaller the process, the smaller the leak that 5 % shows.
PROGRAM = """
import gc, json, random, sys
from decimal import Decimal
import snapdelta

def resident():
    gc.collect()
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmRSS"))

rng = random.Random(1)
serial = 0

def record():
    global serial
    serial += 1
    return {
        "p": rng.random(), "id": str(10**12 + serial), "text": f"a text that was never seen {serial}",
        "in": {"l": [serial, f"item number {serial}"], "big": 2**70 + serial}, f"key {serial}": serial,
    }

def snapshots():
    state = {f"S{n}": record() for n in range(100)}
    while True:
        yield state
        for symbol in rng.sample(list(state), 20):
            del state[symbol]
            state[f"N{serial}"] = record()
        for symbol in rng.sample(list(state), 20):
            state[symbol] = record()

def streams():
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    for state in snapshots():
        decoder.apply(encoder.encode(state))
        decoder.snapshot(shared=True)
        decoder.get("S1")
        decoder.changed, decoder.added, decoder.removed
        yield

def with_fulls():
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    for n, state in enumerate(snapshots()):
        frame = encoder.encode(state, full=n % 10 == 0)
        decoder.apply(frame)
        decoder.apply(encoder.full())
        decoder.snapshot()
        yield

def verified():
    encoder = snapdelta.Encoder(verify=True)
    for n, state in enumerate(snapshots()):
        encoder.encode(state, full=n % 10 == 0)
        encoder.full()
        yield

def stateless():
    before = {}
    for n, state in enumerate(snapshots()):
        if n % 10 == 0:
            before = snapdelta.loads(snapdelta.dumps(before))
        frame = snapdelta.diff(before, state)
        snapdelta.inspect(frame)
        before = snapdelta.apply(before, frame)
        yield

def composed():
    encoder, decoder = snapdelta.Encoder(epoch=1), snapdelta.Decoder()
    deltas, base, late = [], {}, snapdelta.Decoder()
    for n, state in enumerate(snapshots()):
        frame = encoder.encode(state, full=n % 10 == 0)
        decoder.apply(frame)
        if n % 10 == 0:
            deltas, base, late = [], decoder.snapshot(), snapdelta.Decoder()
            late.apply(frame)
        else:
            deltas.append(frame)
        if n % 10 == 9:
            snapdelta.compose(deltas, base)
            bundle = snapdelta.compose(deltas)
            late.apply(bundle)
            snapdelta.apply(base, bundle)
            for wrong in (deltas[::-1], deltas[1:]):
                try:
                    snapdelta.compose(wrong, base)
                except snapdelta.BaseMismatchError:
                    pass
        yield

def columns():
    encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    for state in snapshots():
        names = list(state)
        data = {"s": names, "r": [state[name] for name in names], "p": decoder_of_prices(state)}
        decoder.apply(encoder.encode_columns(data, symbol="s"))
        for wrong in ({**data, "o": [object()] * len(names)}, {**data, f"key {serial} x": []}):
            try:
                encoder.encode_columns(wrong, symbol="s")
            except snapdelta.SnapdeltaError:
                pass
        yield

def decoder_of_prices(state):
    decoder = snapdelta.Decoder()
    decoder.apply(snapdelta.dumps({name: {"p": record["p"]} for name, record in state.items()}))
    return OnlyPrices(decoder)

class OnlyPrices:
    # a struct column of Arrow, without a library for it
    def __init__(self, decoder):
        self.decoder = decoder

    def __arrow_c_stream__(self, requested_schema=None):
        return self.decoder.__arrow_c_stream__()

def errors():
    encoder, decoder = snapdelta.Encoder(default=refused), snapdelta.Decoder()
    for state in snapshots():
        frame = encoder.encode(state)
        bad = dict(state, **{f"B{serial}": record(), "bad": {"x": object()}})
        broken = bytearray(frame)
        broken[rng.randrange(len(broken))] ^= 1
        attempts = [
            lambda: encoder.encode(bad), lambda: snapdelta.dumps(bad), lambda: snapdelta.diff(state, bad),
            lambda: decoder.apply(bytes(broken)), lambda: snapdelta.inspect(frame[:-1]),
            lambda: snapdelta.apply({}, frame), lambda: encoder.capture(bad),
        ]
        for attempt in attempts:
            try:
                attempt()
            except (snapdelta.SnapdeltaError, KeyError):
                pass
        encoder.capture(dict(state, **{f"C{serial}": record()}))
        decoder.apply(frame)
        yield

def held():
    tolerance = {"p": snapdelta.Absolute(0.6), "in.d": snapdelta.Relative(0.7)}
    encoder, decoder = snapdelta.Encoder(tolerance=tolerance, verify=True), snapdelta.Decoder()
    for state in snapshots():
        state = {s: {**r, "in": {"d": Decimal(rng.getrandbits(100))}} for s, r in state.items()}
        assert encoder.capture(state).symbols == 100
        decoder.apply(encoder.encode(state))
        decoder.apply(encoder.full())
        yield

def refused(value):
    raise KeyError(value)

works = [streams, with_fulls, verified, stateless, composed, columns, errors, held]
work = {work.__name__: work for work in works}[sys.argv[1]]()
sizes = {}
for n in range(1, int(sys.argv[2]) + 1):
    next(work)
    if n % 200 == 0:
        sizes[n] = resident()
print(json.dumps(sizes))
"""


WORKS = ["streams", "with_fulls", "verified", "stateless", "composed", "columns", "errors", "held"]


def sizes_of(work: str, frames: int) -> dict[int, int]:
    """Resident bytes after every 200 frames."""
    command = [sys.executable, "-c", PROGRAM, work, str(frames)]
    done = subprocess.run(command, capture_output=True, check=True, text=True, timeout=600)
    return {int(frame): size for frame, size in json.loads(done.stdout).items()}


@pytest.mark.parametrize("work", WORKS)
def test_memory_stays_where_it_is(work: str) -> None:
    sizes = sizes_of(work, 2000)
    assert sizes[2000] <= 1.05 * sizes[200], sizes


@pytest.mark.long
@pytest.mark.parametrize("work", WORKS)
def test_memory_stays_where_it_is_for_long(work: str) -> None:
    sizes = sizes_of(work, 20_000)
    assert sizes[20_000] <= 1.05 * sizes[2000], sizes
