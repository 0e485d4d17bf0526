"""`tolerance`: what is published, against a plain model, and how far that is from what was given."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from itertools import islice
from math import inf, nan
from random import Random
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import snapdelta
from core import reference_decoder as reference
from snapdelta import Absolute, Relative
from snapdelta.testing.feed import Feed
from support import frames as f
from support.assert_exact import assert_same
from support.tolerance_model import PublishedModel, Snapshot, Tolerances

TOLERANCES: Tolerances = {
    ("p",): Relative(0.01),
    ("in", "q"): Absolute(0.5),
    ("a.b",): Absolute(2),
    (): Absolute(1.5),
}


class HeldStream:
    """An encoder with tolerances, the model of what it publishes, and readers of its frames."""

    def __init__(self, tolerances: Tolerances, epoch: int = 1) -> None:
        self.tolerances = tolerances
        self.model = PublishedModel(tolerances)
        self.encoder = snapdelta.Encoder(tolerance=tolerances, verify=True, epoch=epoch)
        self.decoder = snapdelta.Decoder()
        self.plain: Snapshot | None = None

    def encode(self, snapshot: Snapshot, full: bool = False) -> None:
        self.model.capture(snapshot)
        self._read(self.encoder.encode(snapshot, full=full))

    def update(self, changes: Snapshot, removed: list[str]) -> None:
        self.model.update(changes, removed)
        self._read(self.encoder.update(changes, removed))

    def drop(self, snapshot: Snapshot) -> None:
        """Captured, and not published: nothing happens."""
        before = self.encoder.digest, self.encoder.sequence
        self.encoder.capture(snapshot)
        assert (self.encoder.digest, self.encoder.sequence) == before

    def restart(self) -> None:
        """Another writer goes on from what was published."""
        encoder = snapdelta.Encoder(tolerance=self.tolerances, verify=True, epoch=self.encoder.epoch + 1)
        encoder.resume(self.decoder)
        self.encoder = encoder

    def _read(self, frame: bytes) -> None:
        self.decoder.apply(frame)
        self.plain = reference.decode(frame, self.plain)
        fulls = self.encoder.full(), self.decoder.full()
        for read in (self.decoder.snapshot(), self.plain, *map(snapdelta.loads, fulls)):
            assert_same(read, self.model.state)
        assert self.encoder.digest == self.decoder.digest == reference.digest(self.plain)
        for each in (frame, *fulls):
            info, head = snapdelta.inspect(each), reference.header(each)
            assert (info.within_tolerance, info.held_cells) == (True, self.model.held_cells)
            assert head.held_cells == self.model.held_cells


NUMBERS = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, 1.01, 1.0100001, -1.0, 1e308, -1e308, 5e-324, inf, -inf, nan]),
    st.floats(99, 102),
    st.integers(-4, 4),
    st.sampled_from([2**53 + 1, 2**63 - 1, -(2**63), 2**63, 2**70]),
    st.integers(10**12, 10**12 + 10**11),
    st.decimals(-3, 3, places=2),
    st.sampled_from([Decimal("1.0"), Decimal("-0"), Decimal("NaN"), Decimal("Infinity"), Decimal(10**30)]),
    st.sampled_from([None, True, "1", "1.5", [1.0], [1.001], {}, {"q": 1.0}]),
)
RECORDS = st.one_of(
    NUMBERS,
    st.fixed_dictionaries(
        {"p": NUMBERS}, optional={"a.b": NUMBERS, "in": st.fixed_dictionaries({"q": NUMBERS}), "x": NUMBERS}
    ),
    st.fixed_dictionaries({"x": NUMBERS, "p": NUMBERS, "in": st.fixed_dictionaries({"q": NUMBERS})}),
)
SNAPSHOTS = st.dictionaries(st.sampled_from("ABCD"), RECORDS, max_size=4)


@settings(max_examples=150)
@given(st.data())
def test_any_sequence(data: st.DataObject) -> None:
    stream = HeldStream(TOLERANCES)
    stream.encode(data.draw(SNAPSHOTS))
    for _ in range(data.draw(st.integers(1, 6))):
        match data.draw(st.sampled_from(["delta", "delta", "full", "update", "drop", "restart"])):
            case "update":
                changes = data.draw(SNAPSHOTS)
                removed = [s for s in data.draw(st.lists(st.sampled_from("ABCD"))) if s not in changes]
                stream.update(changes, removed)
            case "drop":
                stream.drop(data.draw(SNAPSHOTS))
            case "restart":
                stream.restart()
                stream.encode(data.draw(SNAPSHOTS))
            case kind:
                stream.encode(data.draw(SNAPSHOTS), full=kind == "full")


@pytest.mark.parametrize("seed", range(2))
def test_a_feed(seed: int) -> None:
    """Rows come, go, move and get other fields; prices of all types are held, of few digits and of many."""
    rng = Random(seed)
    tolerances: Tolerances = {
        ("price",): Relative(0.002), ("min", "av"): Relative(0.05), ("day", "exact"): Absolute(0.02),
    }  # fmt: skip
    stream = HeldStream(tolerances)
    held = 0
    for number, frame in enumerate(islice(Feed("enriched", symbols=30, seed=seed), 8)):
        rows = list(frame.items())
        rng.shuffle(rows)
        snapshot = {}
        for symbol, record in rows[rng.randrange(5) :]:
            digits = Decimal("1.00000000000000000000000001")
            price = record["lastTrade"]["p"]
            day = {"exact": Decimal(str(price)) * digits}
            snapshot[symbol] = {**record, "price": price, "day": day}
            if rng.random() < 0.2:
                snapshot[symbol] = {f"extra {number}": 1, **snapshot[symbol]}
        stream.encode(snapshot, full=number == 5)
        held += stream.model.held_cells
    assert held > 20


def drifts(rng: Random) -> Iterator[float]:
    """A price that goes one way by less than the tolerance at a time, with a turn now and then."""
    value, step = rng.uniform(1, 1000), rng.choice([-1, 1])
    while True:
        yield value
        value *= 1 + step * rng.uniform(0, 0.0004)
        step = -step if rng.random() < 0.01 or value > 1000 or value < 1 else step


def test_10_000_slow_drifts_at_once() -> None:
    rng = Random(5)
    sources = {f"S{n}": (drifts(rng), drifts(rng)) for n in range(10_000)}
    encoder = snapdelta.Encoder(tolerance={"last.p": Relative(0.001), ("bid",): Absolute(0.05)})
    exact, decoder = snapdelta.Encoder(), snapdelta.Decoder()
    sizes, exact_sizes = 0, 0
    ends: list[Any] = []
    for _ in range(16):
        snapshot: Snapshot = {
            s: {"last": {"p": next(p)}, "bid": next(bid)} for s, (p, bid) in sources.items()
        }
        frame = encoder.encode(snapshot)
        decoder.apply(frame)
        given_p = np.array([record["last"]["p"] for record in snapshot.values()])
        given_bid = np.array([record["bid"] for record in snapshot.values()])
        read_p, read_bid = decoder.column("last.p"), decoder.column("bid")
        assert (abs(given_p - read_p) <= 0.001 * abs(read_p)).all()
        assert (abs(given_bid - read_bid) <= 0.05).all()
        info = snapdelta.inspect(frame)
        assert info.held_cells == (given_p != read_p).sum() + (given_bid != read_bid).sum()
        sizes, exact_sizes = sizes + len(frame), exact_sizes + len(exact.encode(snapshot))
        ends.append(np.array(read_p))
    # No step was as large as the tolerance, and yet the readers went along.
    assert (ends[0] != ends[-1]).mean() > 0.9
    assert sizes < 0.6 * exact_sizes


def test_a_drift_of_10_000_frames() -> None:
    drift = drifts(Random(6))
    encoder, decoder = snapdelta.Encoder(tolerance={"p": Relative(0.001)}), snapdelta.Decoder()
    published = set()
    for _ in range(10_000):
        value = next(drift)
        decoder.apply(encoder.encode({"A": {"p": value, "exact": value}}))
        record = decoder.get("A")
        assert abs(value - record["p"]) <= 0.001 * abs(record["p"])
        assert record["exact"] == value
        published.add(record["p"])
    assert 500 < len(published) < 6_000


def read_back(tolerance: dict[Any, Any], *snapshots: Snapshot) -> Any:
    """What a reader has in the end."""
    encoder, decoder = snapdelta.Encoder(tolerance=tolerance), snapdelta.Decoder()
    for snapshot in snapshots:
        decoder.apply(encoder.encode(snapshot))
    return decoder.snapshot()


@pytest.mark.parametrize(
    ("published", "given", "held"),
    [
        (10.0, 10.5, True),
        (10.0, 10.6, False),
        (0.0, -0.0, True),
        (10, 10, True),
        (10, 11, False),
        (10, 10.0, False),  # another type
        (1, True, False),
        (nan, 1.0, False),
        (1.0, nan, False),
        (inf, 1.0, False),
        (1.0, inf, False),
        (Decimal("1.20"), Decimal("1.2"), True),
        (Decimal("1"), Decimal("1.5"), True),
        (Decimal("1"), Decimal("NaN"), False),
        (2**63, 2**63 + 1, False),
        ("1.0", "1.1", False),
        ([1.0], [1.1], False),  # a list is one value, and no number
        (None, 1.0, False),
        (1.0, None, False),
    ],
)
def test_what_is_held(published: Any, given: Any, held: bool) -> None:
    read = read_back({"p": Absolute(0.5)}, {"A": {"p": published}}, {"A": {"p": given}})
    assert_same(read, {"A": {"p": published if held else given}})


def test_what_was_missing_is_published_as_it_is() -> None:
    a, none, b = {"A": {"p": 1.0, "x": 0}}, {"A": {"x": 0}}, {"A": {"p": 1.1, "x": 0}}
    tolerance = {"p": Absolute(0.5)}
    assert read_back(tolerance, a, b) == a
    assert read_back(tolerance, a, none, b) == b
    assert read_back(tolerance, a, {}, b) == b
    # A record that is reordered, or gets another field, is the same record.
    other = {"A": {"new": 1, "p": 1.2}}
    assert read_back(tolerance, a, other) == {"A": {"new": 1, "p": 1.0}}


def test_the_order_is_exact() -> None:
    rows = {"A": {"p": 1.0}, "B": {"p": 1.1}}
    read = read_back({"p": Absolute(0.5)}, rows, {"B": {"p": 1.2}, "A": {"p": 1.1}})
    assert list(read.items()) == [("B", {"p": 1.1}), ("A", {"p": 1.0})]


def test_a_frame_of_held_cells_alone_is_a_frame_without_changes() -> None:
    encoder = snapdelta.Encoder(tolerance={"p": Absolute(0.5)})
    encoder.encode({f"S{n}": {"p": float(n)} for n in range(1000)})
    digest = encoder.digest
    captured = encoder.capture({f"S{n}": {"p": n + 0.25} for n in range(1000)})
    assert (captured.updated, captured.held_cells) == (0, 1000)
    frame = captured.finish()
    assert len(frame) < 64
    assert encoder.digest == digest
    assert snapdelta.inspect(frame).held_cells == 1000


def test_composed_deltas_tell_of_the_last_state() -> None:
    encoder = snapdelta.Encoder(tolerance={"p": Absolute(0.5)}, epoch=3)
    full, *deltas = (encoder.encode({"A": {"p": 1 + n / 4}, "B": {"p": 0.0}}) for n in range(5))
    composed = snapdelta.compose(deltas, full)
    info = snapdelta.inspect(composed)
    assert (info.within_tolerance, info.held_cells, info.target_digest) == (True, 1, encoder.digest)
    assert snapdelta.apply(snapdelta.loads(full), composed) == snapdelta.loads(encoder.full())


def test_without_a_tolerance_no_frame_tells_of_one() -> None:
    for encoder in (snapdelta.Encoder(), snapdelta.Encoder(tolerance=None), snapdelta.Encoder(tolerance={})):
        info = snapdelta.inspect(encoder.encode({"A": 1}))
        assert (info.within_tolerance, info.held_cells) == (False, 0)


def test_impossible_tolerances() -> None:
    for amount in (0, -1, nan, inf, -inf):
        with pytest.raises(snapdelta.UsageError, match=r"^tolerance: Absolute\(.*\) must be positive"):
            Absolute(amount)
    for ratio in (0, -0.5, 1, 5, nan, inf):
        with pytest.raises(snapdelta.UsageError, match=r"^tolerance: Relative\(.*\) must be above 0"):
            Relative(ratio)
    with pytest.raises(TypeError):
        Absolute("1")  # type: ignore[arg-type]
    wrong: list[tuple[Any, str]] = [
        ([("p", Absolute(1))], "must be a dict .* not list"),
        ({"p": 0.5}, "'p': must be Absolute or Relative, not 0.5"),
        ({3: Absolute(1)}, "a column is a tuple of str, or its text, not 3"),
        ({("p", 3): Absolute(1)}, r"a column is .* not \('p', 3\)"),
        ({"a.b": Absolute(1), ("a", "b"): Relative(0.1)}, r"\('a', 'b'\): the column is there twice"),
    ]
    for tolerance, message in wrong:
        with pytest.raises(snapdelta.UsageError, match=f"^tolerance: {message}"):
            snapdelta.Encoder(tolerance=tolerance)


def test_tolerances_are_values() -> None:
    assert Absolute(0.5) == Absolute(0.5) != Absolute(0.25)
    assert Relative(0.5) != Absolute(0.5)
    assert len({Relative(0.5), Relative(0.5), Absolute(0.5)}) == 2
    assert (repr(Relative(0.001)), repr(Absolute(2))) == ("Relative(0.001)", "Absolute(2.0)")


def test_python_code_that_runs_while_tolerances_are_read() -> None:
    tolerance: dict[Any, Any] = {}

    class Clearing(str):
        def encode(self, *arguments: Any) -> bytes:
            tolerance.clear()
            return b"p"

    tolerance |= {Clearing("p"): Absolute(0.5), "q": Absolute(0.5)}
    read = read_back(tolerance, {"A": {"p": 1.0, "q": 1.0}}, {"A": {"p": 1.25, "q": 1.25}})
    assert tolerance == {}
    assert read == {"A": {"p": 1.0, "q": 1.0}}


def test_python_code_that_runs_during_a_capture() -> None:
    """`default=` makes the number that is held, and may not use the encoder meanwhile."""

    class Money:
        def __init__(self, amount: float) -> None:
            self.amount = amount

    def default(value: Money) -> float:
        with pytest.raises(snapdelta.EncoderBusyError):
            encoder.encode({})
        return value.amount

    encoder = snapdelta.Encoder(tolerance={"p": Absolute(0.5)}, default=default)
    decoder = snapdelta.Decoder()
    for amount, read in ((1.0, 1.0), (1.25, 1.0), (1.5, 1.0), (1.75, 1.75)):
        decoder.apply(encoder.encode({"A": {"p": Money(amount)}}))
        assert decoder.get("A") == {"p": read}


def test_a_refused_snapshot_leaves_no_trace() -> None:
    encoder = snapdelta.Encoder(tolerance={"p": Absolute(0.5)})
    big = Decimal("12345678901234567890.5")
    encoder.encode({"A": {"p": big}, "B": {"p": 1.0}})
    before = encoder.digest, encoder.memory
    for _ in range(3):
        captured = encoder.capture({"A": {"p": big + Decimal("0.25"), "n": 1}, "B": {"p": 1.25}})
        assert captured.held_cells == 2
        del captured
        with pytest.raises(snapdelta.UnsupportedTypeError):
            encoder.encode({"A": {"p": big + Decimal("0.25"), "n": 1}, "B": {"p": {1}}})
        assert (encoder.digest, encoder.memory) == before
    read = snapdelta.Decoder()
    read.apply(encoder.full())
    read.apply(encoder.encode({"A": {"p": big + Decimal("0.25"), "n": 1}, "B": {"p": 1.25}}))
    assert_same(read.snapshot(), {"A": {"p": big, "n": 1}, "B": {"p": 1.0}})


def test_damaged_frames() -> None:
    empty = reference.digest({})
    bad = {
        "no count": f.seal(b"", target=empty, flags=f.WITHIN_TOLERANCE),
        "a count without the flag": f.framed(b"\0" + f.uv(0, 0, 0, 1) + empty.to_bytes(8, "little"), b""),
        "a count past 64 bits": f.framed(
            bytes([f.WITHIN_TOLERANCE]) + f.uv(0, 0, 0) + b"\xff" * 10 + empty.to_bytes(8, "little"), b""
        ),
    }
    for name, frame in bad.items():
        with pytest.raises(snapdelta.CorruptDeltaError):
            snapdelta.loads(frame)
        with pytest.raises(reference.Corrupt):
            reference.decode(frame)
        assert name
    most = f.seal(b"", target=empty, held=2**64 - 1)
    assert snapdelta.inspect(most).held_cells == 2**64 - 1
    assert snapdelta.loads(most) == {}
    encoder = snapdelta.Encoder(tolerance={"p": Absolute(0.5)})
    encoder.encode({"A": {"p": 1.0, "t": "text"}})
    frame = encoder.encode({"A": {"p": 1.25, "t": "another text"}})
    base = {"A": {"p": 1.0, "t": "text"}}
    for end in range(len(frame)):
        with pytest.raises(snapdelta.CorruptDeltaError):
            snapdelta.apply(base, frame[:end])
    rng = Random(1)
    for _ in range(2_000):
        damaged = bytearray(frame)
        for _ in range(rng.randrange(1, 4)):
            damaged[rng.randrange(len(damaged))] ^= 1 << rng.randrange(8)
        try:
            read = snapdelta.apply(base, f.rechecked(bytes(damaged)))
        except snapdelta.SnapdeltaError:
            continue
        assert_same(read, {"A": {"p": 1.0, "t": "another text"}})


def test_columns_are_held_back_as_a_dict_is() -> None:
    held = [snapdelta.Encoder(tolerance={"price": Absolute(0.5)}) for _ in range(2)]
    for price in (100.0, 100.4, 100.8):
        columns = {"_symbol": ["A", "B"], "price": np.array([price, price * 2])}
        rows = {"A": {"price": price}, "B": {"price": price * 2}}
        assert held[0].encode_columns(columns) == held[1].encode(rows)
    assert snapdelta.loads(held[0].full()) == {"A": {"price": 100.8}, "B": {"price": 201.6}}


def test_a_bundle_says_what_its_last_delta_held() -> None:
    encoder = snapdelta.Encoder(tolerance={"price": Absolute(0.5)})
    full, *deltas = (encoder.encode({"A": {"price": price}}) for price in (1.0, 1.7, 1.8))
    bundle = snapdelta.compose(deltas)
    info = snapdelta.inspect(bundle)
    assert (info.kind, info.within_tolerance, info.held_cells) == ("bundle", True, 1)
    decoder = snapdelta.Decoder()
    decoder.apply(full)
    decoder.apply(bundle)
    assert decoder.snapshot() == {"A": {"price": 1.7}}
