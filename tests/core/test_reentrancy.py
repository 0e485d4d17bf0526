"""Python code that runs while the package is at work, and what it may do: anything, without harm."""

from __future__ import annotations

import copy
import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from itertools import product
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from pydantic import BaseModel

import snapdelta
from core import reference_decoder as reference
from support.assert_exact import assert_same, same
from support.expected import N
from support.roundtrip import Stream, panics_shown

Snapshot = dict[str, Any]


def market(rows: int = 50) -> Snapshot:
    return {f"S{n}": {"p": n / 4, "t": f"text number {n}", "in": {"l": [n, {"k": n}]}} for n in range(rows)}


def wreck(snapshot: Snapshot) -> None:
    """Changes everything that there is to change."""
    for symbol in list(snapshot):
        record = snapshot[symbol]
        if type(record) is dict:
            inner = record.get("in")
            if type(inner) is dict:
                inner.clear()
            for n in range(50):
                record[f"new {n}"] = object()
            record.clear()
    snapshot.clear()
    for n in range(100):
        snapshot[f"wrecked {n}"] = n
    gc.collect()


class Cleared(BaseModel):
    """Its dump wrecks the snapshot that it stands in."""

    x: int = 1
    victim: Any = None

    def model_dump(self, **options: Any) -> dict[str, Any]:
        wreck(self.victim)
        return {"x": self.x}


@dataclass
class Lazy:
    """Reading its field wrecks the snapshot that it stands in."""

    x: Any

    def __getattribute__(self, name: str) -> Any:
        if name == "x":
            wreck(object.__getattribute__(self, "victim"))
            return 5
        return object.__getattribute__(self, name)


def with_model(snapshot: Snapshot) -> Any:
    return Cleared(victim=snapshot)


def with_lazy(snapshot: Snapshot) -> Any:
    lazy = Lazy(1)
    object.__setattr__(lazy, "victim", snapshot)
    return lazy


def places(snapshot: Snapshot, value: Any) -> None:
    """Puts a value that bites first, in the middle, deep and last."""
    snapshot["S0"]["bite"] = value
    snapshot["S20"]["in"]["l"].append(value)
    snapshot["S30"]["in"]["bite"] = value
    snapshot["last"] = value


@pytest.mark.parametrize("make", [with_model, with_lazy])
def test_records_that_change_the_snapshot_when_read(make: Callable[[Snapshot], Any]) -> None:
    """What is encoded is the snapshot as it was when the call began."""
    want = market()
    stands_for = {"x": 1} if make is with_model else {"x": 5}
    places(want, stands_for)
    for call in ("dumps", "encode", "capture", "diff", "diff from"):
        snapshot = market()
        places(snapshot, make(snapshot))
        with panics_shown():
            check_call(call, snapshot, want, None)


def check_call(call: str, snapshot: Snapshot, want: Snapshot, default: Callable[[Any], Any] | None) -> None:
    before = {"S1": {"p": 1}, "gone": {"t": "x"}, **market(3)}
    if call == "dumps":
        assert_same(reference.decode(snapdelta.dumps(snapshot, default=default)), want)
    elif call == "diff":
        frame = snapdelta.diff(before, snapshot, default=default)
        assert_same(reference.decode(frame, N(before)), want)
    elif call == "diff from":
        frame = snapdelta.diff(snapshot, before, default=default)
        assert_same(reference.decode(frame, want), before)
    else:
        encoder = snapdelta.Encoder(default=default)
        first = encoder.encode(before)
        frame = encoder.capture(snapshot).finish() if call == "capture" else encoder.encode(snapshot)
        assert_same(reference.decode(frame, reference.decode(first)), want)
        assert encoder.digest == reference.digest(want)


@pytest.mark.parametrize("call", ["dumps", "encode", "capture", "diff", "diff from"])
def test_a_default_that_changes_the_snapshot(call: str) -> None:
    snapshot, want = market(), market()
    places(snapshot, {1, 2})
    places(want, "set")

    def default(value: Any) -> Any:
        wreck(snapshot)
        return "set"

    with panics_shown():
        check_call(call, snapshot, want, default)


def test_a_default_that_changes_the_snapshot_and_fails() -> None:
    stream = Stream()
    good = market(5)
    stream.step(good)
    snapshot = market(40)
    snapshot["S7"]["bite"] = {1}

    def default(value: Any) -> Any:
        wreck(snapshot)
        raise RuntimeError("no")

    encoder = snapdelta.Encoder(default=default)
    encoder.encode(good)
    with panics_shown(), pytest.raises(RuntimeError, match="no"):
        encoder.encode(snapshot)
    assert (encoder.sequence, encoder.digest) == (1, reference.digest(good))
    assert_same(reference.decode(encoder.encode({**good, "x": 1}), good), {**good, "x": 1})


# --- the same object again


def test_a_default_that_calls_the_same_encoder() -> None:
    calls: list[str] = []

    def default(value: Any) -> Any:
        uses: dict[str, Callable[[], Any]] = {
            "encode": lambda: encoder.encode({"B": 1}),
            "capture": lambda: encoder.capture({"B": 1}),
            "full": encoder.full,
            "digest": lambda: encoder.digest,
        }
        for name, use in uses.items():
            with pytest.raises(snapdelta.EncoderBusyError):
                use()
            calls.append(name)
        return sorted(value)

    encoder = snapdelta.Encoder(default=default)
    first = encoder.encode({"A": {"x": 1}})
    frame = encoder.encode({"A": {"x": {1}}})
    assert calls == ["encode", "capture", "full", "digest"]
    assert_same(reference.decode(frame, reference.decode(first)), {"A": {"x": [1]}})


def test_a_default_that_lets_the_refusal_through() -> None:
    encoder = snapdelta.Encoder(default=lambda value: encoder.encode({}))
    good = {"A": {"x": 1}}
    encoder.encode(good)
    with pytest.raises(snapdelta.EncoderBusyError):
        encoder.encode({"A": {"x": {1}}})
    assert (encoder.sequence, encoder.digest) == (1, reference.digest(good))


def test_a_default_may_use_the_package_otherwise() -> None:
    def default(value: Any) -> Any:
        return snapdelta.loads(snapdelta.dumps({"A": sorted(value)}))["A"]

    frame = snapdelta.dumps({"A": {"x": {2, 1}}}, default=default)
    assert_same(snapdelta.loads(frame), {"A": {"x": [1, 2]}})


def test_one_capture_at_a_time() -> None:
    encoder = snapdelta.Encoder()
    encoder.encode({"A": 1})
    pending = encoder.capture({"A": 2})
    for use in (lambda: encoder.encode({}), lambda: encoder.capture({}), encoder.full):
        with pytest.raises(snapdelta.EncoderBusyError):
            use()
    frame = pending.finish()
    assert_same(reference.decode(frame, {"A": 1}), {"A": 2})
    with pytest.raises(ValueError, match="finished"):
        pending.finish()
    assert_same(reference.decode(encoder.encode({"A": 3}), {"A": 2}), {"A": 3})


# --- keys


class Key(str):
    """A key whose comparison and hash would be noticed, were they used."""

    calls = 0

    def __eq__(self, other: object) -> bool:
        Key.calls += 1
        wreck(Key.victim)
        return str.__eq__(self, other)

    def __hash__(self) -> int:
        Key.calls += 1
        return str.__hash__(self)

    victim: Snapshot


class Twin:
    """Not a str, but of the same hash as one, and equal to it; comparing wrecks the snapshot."""

    def __init__(self, text: str) -> None:
        self.text = text

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        Key.calls += 1
        wreck(Key.victim)
        return True


@pytest.mark.parametrize("make", [Key, Twin])
@pytest.mark.parametrize("inside", [False, True])
def test_keys_with_a_mind_of_their_own(make: Callable[[str], Any], inside: bool) -> None:
    """A dict with a key that is no str is refused, and no comparison of that key is ever asked for."""
    good = market()
    encoder = snapdelta.Encoder()
    frames = [encoder.encode(good)]
    delta = snapdelta.diff(good, {**good, "S4": 1})
    calls: list[Callable[[Snapshot], Any]] = [
        snapdelta.dumps,
        lambda snapshot: snapdelta.diff(snapshot, good),
        lambda snapshot: snapdelta.diff(good, snapshot),
        encoder.encode,
        lambda snapshot: snapdelta.apply(snapshot, delta),
        lambda snapshot: snapdelta.apply(snapshot, delta, verify=False),
    ]
    for position, text in product((0, 1, 10), ("S4", "p", "elsewhere")):
        snapshot = with_key(make(text), text, position, inside)
        Key.victim = snapshot
        Key.calls = 0
        for call in calls:
            with panics_shown(), pytest.raises(snapdelta.SnapdeltaError):
                call(snapshot)
        assert Key.calls == 0
    assert_same(reference.decode(encoder.full()), reference.decode(frames[0]))


def with_key(key: Any, text: str, position: int, inside: bool) -> Snapshot:
    """A snapshot with this key in it, among the symbols or in a record, for the str that it is like."""
    snapshot = market()
    rows = [(k, v) for k, v in (snapshot["S4"] if inside else snapshot).items() if k != text]
    rows.insert(position, (key, 1))
    return {**snapshot, "S4": dict(rows)} if inside else dict(rows)


# --- finalizers


class Bomb:
    """Wrecks a snapshot when it goes; in a cycle, so that it is the collector that finds it."""

    def __init__(self, victim: Snapshot) -> None:
        self.victim = victim
        self.cycle = self

    def __del__(self) -> None:
        wreck(self.victim)


@contextmanager
def eager_collector() -> Iterator[None]:
    """The collector runs at every chance."""
    threshold = gc.get_threshold()
    gc.set_threshold(1, 1, 1)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)


@pytest.mark.parametrize("count", range(12))
def test_finalizers_that_change_the_snapshot(count: int) -> None:
    """Whenever the collector runs, the frame holds the snapshot before or after, and nothing between."""
    snapshot = market()
    before = copy.deepcopy(snapshot)
    wrecked = market()
    wreck(wrecked)
    encoder = snapdelta.Encoder()
    first = encoder.encode(market(30))
    base = reference.decode(first)
    with eager_collector(), panics_shown():
        garbage = [Bomb(snapshot) for _ in range(count)]
        del garbage
        frame = encoder.encode(snapshot)
        result = snapdelta.apply(base, frame)
    found = reference.decode(frame, base)
    assert_same(found, result)
    assert same(found, before) or same(found, wrecked)


class Loud:
    """A value for default=, whose finalizer wrecks the snapshot when the snapshot itself lets go of it."""

    def __init__(self, victim: Snapshot) -> None:
        self.victim = victim

    def __del__(self) -> None:
        wreck(self.victim)


def test_values_that_go_while_they_are_read() -> None:
    snapshot, want = market(), market()
    want["S3"]["loud"] = want["S8"]["in"]["loud"] = "was loud"
    snapshot["S3"]["loud"] = Loud(snapshot)
    snapshot["S8"]["in"]["loud"] = Loud(snapshot)

    def default(value: Any) -> Any:
        for row in ("S3", "S8"):
            snapshot.get(row, {}).pop("loud", None)
        return "was loud"

    with panics_shown():
        frame = snapdelta.dumps(snapshot, default=default)
    assert_same(reference.decode(frame), want)


# --- threads


def in_threads(work: Callable[[int], None], count: int = 2) -> None:
    errors: list[BaseException] = []
    begin = threading.Barrier(count)

    def run(number: int) -> None:
        try:
            begin.wait()
            work(number)
        except BaseException as error:  # noqa: BLE001  # a panic too has to be seen by the test
            errors.append(error)

    threads = [threading.Thread(target=run, args=(n,)) for n in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_two_threads_on_one_encoder() -> None:
    """Each call gives a right frame or EncoderBusyError; in their order the frames are a stream."""
    rows = 3000
    snapshots = [
        {f"S{n}": {"p": n * k / 7, "t": f"{k} text {n * k}", "k": k} for n in range(rows)}
        for k in range(1, 9)
    ]
    encoder = snapdelta.Encoder()
    frames = [encoder.encode({})]
    occupied: list[int] = []

    def work(number: int) -> None:
        for k in range(40):
            try:
                frames.append(encoder.encode(snapshots[(number * 4 + k) % 8]))
            except snapdelta.EncoderBusyError:
                occupied.append(number)

    in_threads(work)
    assert len(frames) + len(occupied) == 81
    assert encoder.sequence == len(frames)
    digests = {reference.digest(snapshot) for snapshot in [{}, *snapshots]}
    decoder = snapdelta.Decoder()
    for frame in sorted(frames, key=lambda frame: reference.header(frame).sequence):
        decoder.apply(frame)
        assert decoder.digest in digests
    assert_same(decoder.snapshot(), reference.decode(encoder.full()))


def test_two_threads_on_one_decoder() -> None:
    first = {f"S{n}": {"p": n / 7, "t": f"text {n}"} for n in range(3000)}
    second = {**first, "S5": {"p": 0.5, "t": "x"}}
    frames = [snapdelta.dumps(first), snapdelta.dumps(second)]
    decoder = snapdelta.Decoder()
    decoder.apply(frames[0])

    def work(number: int) -> None:
        for k in range(40):
            try:
                if number:
                    decoder.apply(frames[k % 2])
                else:
                    found = decoder.snapshot()
                    assert found in (first, second)
            except snapdelta.EncoderBusyError:
                continue

    in_threads(work)
    assert_same(decoder.snapshot(), second)


def test_a_thread_that_changes_the_snapshot() -> None:
    """A walk is one moment: what another thread writes in order is not seen out of order."""
    snapshot: Snapshot = {f"S{n}": {"x": 0} for n in range(2000)}
    symbols = list(snapshot)
    done = threading.Event()
    frames: list[bytes] = []

    def write() -> None:
        k = 0
        while not done.is_set():
            k += 1
            for symbol in symbols:
                snapshot[symbol]["x"] = k

    def read() -> None:
        encoder = snapdelta.Encoder()
        try:
            frames.extend(encoder.encode(snapshot) for _ in range(100))
        finally:
            done.set()

    in_threads(lambda number: write() if number else read())
    decoder = snapdelta.Decoder()
    for frame in frames:
        decoder.apply(frame)
        values = [record["x"] for record in decoder.snapshot().values()]
        assert values == sorted(values, reverse=True)
        assert values[0] - values[-1] <= 1


ZONES = ("Asia/Tokyo", "Europe/Rome", "Africa/Cairo")


def moments(n: int) -> Snapshot:
    """Values that Python code makes, everywhere; a zone of another name is loaded anew."""
    zone = ZoneInfo.no_cache(ZONES[n])
    at = datetime(2026, 1, 5, tzinfo=zone)
    listed = [Decimal(n), {"id": UUID(int=2**n)}]
    return {f"S{k}": {"id": UUID(int=k + n), "at": at, "listed": listed} for k in range(20)}


@pytest.fixture(params=[True, False], ids=["switched off", "seen"])
def seen_by_python_code(request: pytest.FixtureRequest) -> Iterator[Callable[[Callable[[], object]], None]]:
    """Calls what runs Python code: it must find the collector as it was left, and may switch it for good."""

    def run(call: Callable[[], object]) -> None:
        seen: list[bool] = []

        def profile(frame: Any, event: str, argument: Any) -> None:
            if event == "call" and frame.f_code is not run.__code__:
                seen.append(gc.isenabled())
                if request.param:
                    gc.disable()

        ZoneInfo.clear_cache()
        gc.enable()
        sys.setprofile(profile)
        try:
            call()
        finally:
            sys.setprofile(None)
        assert len(seen) > 20
        assert gc.isenabled() is not request.param
        assert seen == ([True] + [False] * (len(seen) - 1) if request.param else [True] * len(seen))

    yield run
    gc.enable()


def test_python_code_finds_the_collector_as_it_was_left(seen_by_python_code: Any) -> None:
    first, second, third = (moments(n) for n in range(3))
    frames = [snapdelta.dumps(first), snapdelta.diff(first, second)]
    decoder = snapdelta.Decoder()
    decoder.apply(frames[0])
    seen_by_python_code(decoder.snapshot)
    decoder.apply(snapdelta.dumps(third))
    seen_by_python_code(lambda: decoder.snapshot(shared=True))
    seen_by_python_code(lambda: snapdelta.loads(frames[0]))
    for verify in (True, False):
        seen_by_python_code(lambda verify=verify: snapdelta.apply(first, frames[1], verify=verify))
    assert_same(snapdelta.apply(first, frames[1]), second)
