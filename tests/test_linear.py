"""Every row with field names of its own: size and time grow with the leaves, not with rows times names."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import reference_decoder as reference
import snapdelta
from exact import assert_same
from trips import Stream

Snapshot = dict[str, Any]
FEW, MANY = 1000, 10_000
SLACK = 3  # over the ratio of the leaves: caches, and a machine with other work


def private(rows: int, turn: int = 0) -> Snapshot:
    """Five leaves a row, two of them a level down; the names are no other row's."""
    return {
        f"S{n}": {
            f"a{n}": n + turn,
            f"b{n}": (n + turn) / 8,
            f"in{n}": {f"c{n}": f"text {n} {turn}", f"d{n}": None},
            f"e{n}": [n, turn],
        }
        for n in range(rows)
    }


def user_time(rows: int, work: Callable[[], Any]) -> float:
    """User CPU seconds of one run; small ones run more often, as the clock ticks in hundredths of a second.

    Not the kernel's time: fresh pages for large blocks are a cost that small blocks are spared.
    """
    repeats = 3 * MANY // rows
    before = getrusage(RUSAGE_SELF).ru_utime
    for _ in range(repeats):
        work()
    return (getrusage(RUSAGE_SELF).ru_utime - before) / repeats


def costs(rows: int) -> dict[str, float]:
    """Bytes of frames, and seconds of everything that is done with them."""
    first, second = private(rows), private(rows, turn=1)
    full, delta = snapdelta.dumps(first), snapdelta.diff(first, second)

    def follow() -> None:
        encoder, decoder = snapdelta.Encoder(), snapdelta.Decoder()
        for snapshot in (first, second):
            decoder.apply(encoder.encode(snapshot))
        decoder.snapshot()

    return {
        "full": len(full),
        "delta": len(delta),
        "dumps": user_time(rows, lambda: snapdelta.dumps(first)),
        "loads": user_time(rows, lambda: snapdelta.loads(full)),
        "diff": user_time(rows, lambda: snapdelta.diff(first, second)),
        "apply": user_time(rows, lambda: snapdelta.apply(first, delta)),
        "inspect": user_time(rows, lambda: snapdelta.inspect(delta)),
        "Encoder and Decoder": user_time(rows, follow),
    }


def test_private_names_cost_what_their_leaves_cost() -> None:
    few, many = costs(FEW), costs(MANY)
    ratios = {name: many[name] / few[name] / (MANY / FEW) for name in few}
    assert max(ratios.values()) < SLACK, ratios
    assert ratios["full"] < 1.3, ratios
    assert ratios["delta"] < 1.3, ratios


MEMORY = """
import sys
sys.path[:0] = sys.argv[1:]
import snapdelta
from test_linear import MANY, private

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))

first, second = private(MANY), private(MANY, turn=1)
before = peak()
snapdelta.diff({}, first)
snapdelta.diff(first, second)
print(peak() - before)
"""


def test_private_names_take_no_memory_for_the_other_rows() -> None:
    """One byte for each row at each name would be 600 MB; the leaves themselves are 60,000."""
    command = [sys.executable, "-c", MEMORY, str(Path(__file__).parent)]
    rise = int(subprocess.run(command, capture_output=True, check=True).stdout)
    assert rise < 6 * MANY * 6 * 1024


def test_private_names_through_both_decoders() -> None:
    stream = Stream()
    stream.step(private(FEW))
    stream.step(private(FEW, turn=1))
    shuffled = dict(reversed(private(FEW, turn=2).items()))
    del shuffled["S5"]
    stream.step({**shuffled, "new": {"never seen": 1}})
    stream.check_full()


def test_many_private_names_at_full_size() -> None:
    first, second = private(MANY), private(MANY, turn=1)
    frame = snapdelta.diff(first, second)
    assert_same(snapdelta.apply(first, frame), second)
    assert_same(reference.decode(frame, first), second)
    assert_same(snapdelta.loads(snapdelta.dumps(second)), second)


def many_dicts(count: int, turn: int) -> Snapshot:
    """One record with so many dicts in it, all of which change with the turn."""
    return {"all": {f"k{n}": {"v": n + turn, "w": 1} for n in range(count)}}


def apply_time(count: int) -> float:
    first, second = many_dicts(count, 0), many_dicts(count, 1)
    frame = snapdelta.diff(first, second)
    result = snapdelta.apply(first, frame)
    assert result == second
    took = []
    for _ in range(3):
        before = getrusage(RUSAGE_SELF).ru_utime
        for _ in range(max(1, 40_000 // count)):
            snapdelta.apply(first, frame)
        took.append(getrusage(RUSAGE_SELF).ru_utime - before)
    return min(took) / max(1, 40_000 // count)


def test_apply_to_a_record_of_many_dicts_is_linear() -> None:
    assert apply_time(60_000) < 4 * 2 * apply_time(15_000)
