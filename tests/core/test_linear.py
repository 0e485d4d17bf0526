"""Time grows with the input, whatever its shape; so do size and memory where no two rows share a name."""

from __future__ import annotations

import gc
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from resource import RUSAGE_SELF, getrusage
from time import process_time
from typing import Any

import pytest

import snapdelta
from core import reference_decoder as reference
from support.assert_exact import assert_same
from support.documents import TESTS
from support.linear_shapes import SHAPES, SMALL
from support.roundtrip import Stream

pytestmark = pytest.mark.serial

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
    # Numbers of rows, paths and values have more digits where there are more of them.
    assert ratios["delta"] < 1.35, ratios


MEMORY = """
import sys
sys.path[:0] = sys.argv[1:]
import snapdelta
from core.test_linear import MANY, private

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
    command = [sys.executable, "-c", MEMORY, str(TESTS)]
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


# --- every shape, everything that is done with it

Work = Callable[[], Any]
LIMITS = snapdelta.Limits(max_bytes=1 << 36)  # the sizes are the test's


def works(prev: Snapshot, curr: Snapshot) -> dict[str, Work]:
    """What a writer and a reader do with a snapshot and the next one."""
    full, delta = snapdelta.dumps(prev), snapdelta.diff(prev, curr)
    encoder, other = snapdelta.Encoder(), snapdelta.Encoder()
    encoder.encode(prev)
    frames = [other.encode(prev), other.encode(curr)]

    def there_and_back() -> None:
        encoder.encode(curr)
        encoder.encode(prev)

    def follow() -> Snapshot:
        decoder = snapdelta.Decoder(LIMITS)
        for frame in frames:
            decoder.apply(frame)
        return decoder.snapshot()

    return {
        "encode": there_and_back,
        "diff": lambda: snapdelta.diff(prev, curr),
        "apply": lambda: snapdelta.apply(prev, delta, limits=LIMITS),
        "dumps": lambda: snapdelta.dumps(prev),
        "loads": lambda: snapdelta.loads(full, limits=LIMITS),
        "Decoder": follow,
        "pickle": lambda: pickle.loads(pickle.dumps(curr, protocol=5)),
        "columns": lambda: read_columns(prev),
    }


def read_columns(snapshot: Snapshot) -> list[list[Any]]:
    """The values in the order in which columns are decoded; none where the records differ in length."""
    records = [record for record in snapshot.values() if isinstance(record, dict)]
    if len({len(record) for record in records}) != 1:
        return []
    return [[record.get(name) for record in records] for name in records[0]]


# Memory is slower where more of it is in use: what Python itself does with the objects tells by how much.
MEMORY_BOUND = ("pickle", "columns")
OPERATIONS = ("encode", "diff", "apply", "dumps", "loads", "Decoder")


@pytest.fixture
def no_collections() -> Iterator[None]:
    """Python's own garbage collections grow faster than what they look at."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


LONG = 0.1  # seconds from which the ticks of the user time are fine enough


def least_time(work: Work, times: int) -> float:
    """Processor seconds of the fastest of some runs: others on the machine only make it slower.

    Long runs count without the kernel's share: it clears fresh pages for large blocks, not for small ones.
    """

    def once() -> float:
        user, both = getrusage(RUSAGE_SELF).ru_utime, process_time()
        result = work()
        both, user = process_time() - both, getrusage(RUSAGE_SELF).ru_utime - user
        del result  # to free it is Python's work
        return user if both >= LONG else both

    return min(once() for _ in range(times))


def growth(few: Work, many: Work, bound: float) -> float:
    """How much longer `many` takes; measured again while that is above the bound, as machines may be busy."""
    small = large = float("inf")
    for times in (1, 2, 3, 3):
        small, large = min(small, least_time(few, times + 1)), min(large, least_time(many, times))
        if large / small <= bound:
            break
    return large / small


def check_linear(few: dict[str, Work], many: dict[str, Work], operation: str, bound: float) -> None:
    """`many` has four times as much; the bound is for memory that is as fast."""
    ratio = growth(few[operation], many[operation], bound)
    print(f"{operation}: {ratio:.1f}")  # shown for a test that fails, and with -rP
    if ratio > bound:
        yardsticks = [name for name in MEMORY_BOUND if least_time(few[name], 1) > 0.001]
        slower = max([1.0, *(growth(few[name], many[name], 0) / 4 for name in yardsticks)])
        assert ratio <= bound * slower, f"{operation}: {ratio:.1f} times as long ({slower:.2f} of it memory)"


def mixed(fields: int) -> Snapshot:
    """Every field is a dict in some records and a number in others."""
    return {f"S{n}": {f"k{k}": {"x": k} if (n + k) % 2 else k for k in range(fields)} for n in range(40)}


def test_mixed_columns_cost_what_their_cells_cost() -> None:
    few, many = mixed(150), mixed(600)
    bound = 8  # each column reads its own cells: four times as much
    assert growth(lambda: snapdelta.arrow_table(few), lambda: snapdelta.arrow_table(many), bound) < bound


# much like others; only at full size
LONG_ONLY = (
    *("single_values", "empty_dicts", "many_repeated_columns", "times_that_grow", "groups_of_seventy_rows"),
    *("wide_record_reshaped", "many_key_names", "rows_inserted_in_front", "rows_removed", "moved_rows"),
    *("one_long_decimal", "one_big_int", "dates", "decimals_and_ids", "dicts_in_lists", "formulas"),
)
ORDINARY = [name for name in SHAPES if name not in LONG_ONLY]


@pytest.mark.usefixtures("no_collections")
@pytest.mark.parametrize("name", ORDINARY)
def test_time_grows_with_the_input(name: str) -> None:
    few, many = (works(*SHAPES[name](n)) for n in (SMALL[name], 4 * SMALL[name]))
    for operation in OPERATIONS:
        check_linear(few, many, operation, bound=7)


MOST = 40_000_000  # bytes of a pickle: larger inputs are not worth their memory


@pytest.mark.long
@pytest.mark.usefixtures("no_collections")
@pytest.mark.parametrize("name", SHAPES)
def test_time_grows_with_the_input_at_full_size(name: str) -> None:
    """At most five times as long for four times as much, from where it takes a tenth of a second."""
    prev, curr = SHAPES[name](SMALL[name])
    most = max(1, MOST // len(pickle.dumps(prev)))
    seconds = {operation: least_time(work, 3) for operation, work in works(prev, curr).items()}
    sizes: dict[int, list[str]] = {}
    for operation in OPERATIONS:
        times = 1
        while seconds[operation] * times < LONG and times < most:
            times *= 2
        sizes.setdefault(times * SMALL[name], []).append(operation)
    for n, operations in sizes.items():
        few, many = (works(*SHAPES[name](size)) for size in (n, 4 * n))
        for operation in operations:
            check_linear(few, many, operation, bound=5)
