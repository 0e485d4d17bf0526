"""What the streams cost, as ratios within one run (the benchmark prints them, with more samples)."""

from __future__ import annotations

import pytest

from benches.streams import idle_share, many_ratio, write_ratio
from support.servers import Server, on_one_server

pytestmark = pytest.mark.serial


async def test_xadd_costs_little_more_than_redis_py_s_own(server: Server) -> None:
    async with server.client() as redis:
        assert await write_ratio(redis, samples=1500) <= 1.25


@on_one_server
async def test_many_rows_cost_a_quarter_of_as_many_awaits(server: Server) -> None:
    async with server.client() as redis:
        assert await many_ratio(redis, samples=10) <= 0.25


@on_one_server
async def test_two_hundred_idle_streams_cost_less_than_a_hundredth_of_a_core(server: Server) -> None:
    interval, streams = 3.0, 200
    async with server.client() as redis:
        share, looks = await idle_share(redis, interval, 2 * interval, streams)
    # Every stream was looked at, ten times as often as the default interval of 30 s would have it.
    assert looks >= streams
    assert share * interval / 30 < 0.01
