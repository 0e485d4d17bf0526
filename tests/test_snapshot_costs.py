"""What a save costs, as a ratio within one run (the benchmark prints it, with more samples)."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from redis.asyncio import Redis

from benches.heap import HEAPS
from benches.snapshots import WARM_UP, Bench, Samples
from benches.timing import quiet_collector
from servers import Deployment


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
            bench.samples = Samples()
            await bench.cost(15)
    assert bench.samples.ratio("save", "encode", "xadd") <= 1.3
