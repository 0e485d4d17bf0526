"""What a save costs, as a ratio within one run (the benchmark prints it, with medians of more samples)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from benches.heap import HEAPS
from benches.snapshots import WARM_UP, Bench, Samples
from benches.timing import quiet_collector
from support.servers import Deployment

pytestmark = pytest.mark.serial


@pytest.mark.parametrize("heap", HEAPS)
async def test_a_save_costs_little_more_than_its_parts(
    deployments: Callable[[str], Deployment], heap: str
) -> None:
    server = deployments("valkey-9.1")
    server.reset()
    async with server.client() as redis:
        assert isinstance(redis, Redis)
        bench = Bench(redis, heap)
        with quiet_collector():
            await bench.cost(WARM_UP)
            # What else the machine does slows some samples, and some rounds; it makes none faster.
            for _ in range(3):
                bench.samples = Samples()
                await bench.cost(12)
                save, encode, xadd = (min(bench.samples.taken[part]) for part in ("save", "encode", "xadd"))
                if save <= 1.3 * (encode + xadd):
                    return
    pytest.fail(f"a save took {save / (encode + xadd):.2f} times as long as its parts")
