"""Timing in pairs: ours and the peer in turn, and the median of the ratios of the pairs.

Times of a shared machine wander by tens of percent within a minute; the ratio of two runs that stand side by
side does not.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median
from time import process_time
from typing import TYPE_CHECKING, Any

from benches.timing import quiet_collector

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS = 15
# Processor time: everything timed runs in one thread and waits for nothing, and other processes count less.
TIMER = process_time
_WARM_UP = 2


@dataclass
class Timing:
    """Seconds of each round; `ratio` is the median of ours / peer."""

    ours: list[float] = field(default_factory=list)
    peer: list[float] = field(default_factory=list)

    @property
    def ratio(self) -> float:
        return median(ours / peer for ours, peer in zip(self.ours, self.peer, strict=True))


def time_pairs(
    benchmark: BenchmarkFixture,
    ours: Callable[[], Any],
    peer: Callable[[], Any],
    *,
    clear: Callable[[], Any],
    prepare: Callable[[], Any] | None = None,
    rounds: int = ROUNDS,
) -> Timing:
    """Time `ours` and `peer` in turn; the benchmark's own timer must be TIMER.

    `clear` runs before each of the two and walks over other data, so that neither finds the other's in the
    caches. `prepare` runs before ours instead, where ours needs a state; it must walk as much. Results are
    freed outside the times.
    """
    timing = Timing()
    held: list[Any] = []

    def set_up() -> None:
        held.clear()
        clear()
        start = TIMER()
        held.append(peer())
        timing.peer.append(TIMER() - start)
        held.clear()
        (prepare or clear)()

    with quiet_collector():
        benchmark.pedantic(lambda: held.append(ours()), setup=set_up, rounds=rounds, warmup_rounds=_WARM_UP)
    held.clear()
    assert benchmark.stats is not None
    timing.ours = list(benchmark.stats.stats.data)
    # The warm-up rounds have a peer's time but none of ours.
    timing.peer = timing.peer[-len(timing.ours) :]
    return timing
