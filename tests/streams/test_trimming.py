"""Streams come down to their policy, on every kind of server, alone and in a cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from snapdelta.redis_stream_manager import RedisStreamManager, StreamPolicy, TrimReport
from support.servers import AsyncClient, Deployment, Server, on_one_server
from support.stream_harness import fill, ids_of, read

# stream-node-max-entries of a server that nobody has configured: what `~` may leave above a bound.
NODE = 100


async def _trim(redis: AsyncClient, policy: StreamPolicy, stream: str = "s") -> TrimReport:
    return await RedisStreamManager(redis, {stream: policy}).trim(stream)


@pytest.mark.parametrize("size", [1, 200, 5000])
async def test_an_overgrown_stream_comes_down(redis: AsyncClient, size: int) -> None:
    await fill(redis, "s", 50_003 if size < 1000 else 3000, size)
    before = await redis.xlen("s")
    report = await _trim(redis, StreamPolicy(maxlen=1000))
    assert 1000 <= report.length <= 1000 + NODE
    assert report.length == await redis.xlen("s") == before - report.removed
    assert (report.finished, report.notes) == (True, [])


async def test_exact_is_exact(redis: AsyncClient) -> None:
    await fill(redis, "s", 12_345)
    report = await _trim(redis, StreamPolicy(maxlen=777, approximate=False))
    assert report.length == await redis.xlen("s") == 777


async def test_the_newest_entries_stay(redis: AsyncClient) -> None:
    await fill(redis, "s", 3000)
    newest = (await ids_of(redis, "s"))[-50:]
    await _trim(redis, StreamPolicy(maxlen=50, approximate=False))
    assert await ids_of(redis, "s") == newest


async def test_nothing_to_do_changes_nothing(redis: AsyncClient) -> None:
    assert (await _trim(redis, StreamPolicy(maxlen=5))).length == 0
    assert not await redis.exists("s")
    await fill(redis, "s", 5)
    report = await _trim(
        redis, StreamPolicy(maxlen=5, approximate=False, max_age=3600.0, max_bytes=1_000_000)
    )
    assert (report.length, report.removed, report.notes) == (5, 0, [])


# --- one node for ever


@pytest.mark.parametrize("approximate", [True, False])
async def test_a_server_whose_nodes_have_no_limit_is_trimmed_exactly_and_told_on(
    deployment: Deployment, redis: AsyncClient, approximate: bool
) -> None:
    deployment.config_set("stream-node-max-entries", 0)
    deployment.config_set("stream-node-max-bytes", 0)
    await fill(redis, "s", 15_000)
    # The fact that this is about: `~` removes nothing here.
    assert await redis.xtrim("s", maxlen=1000, approximate=True) == 0
    before = await redis.memory_usage("s")
    manager = RedisStreamManager(redis, {"s": StreamPolicy(maxlen=1000, approximate=approximate)})
    report = await manager.trim("s")
    assert report.length == 1000
    after = await redis.memory_usage("s")
    assert before is not None
    assert after is not None
    assert after > before * 0.9
    if approximate:
        assert "no memory will be freed" in report.notes[0]
        assert manager.stats().counters.exact_fallbacks == 1
        # New limits, new nodes: then the memory does come back.
        deployment.config_set("stream-node-max-entries", NODE)
        await fill(redis, "s", 1200)
        again = await manager.trim("s")
        assert again.length <= 1000 + NODE
        freed = await redis.memory_usage("s")
        assert freed is not None
        assert freed < before / 5


async def test_larger_nodes_are_no_fault(deployment: Deployment, redis: AsyncClient) -> None:
    deployment.config_set("stream-node-max-entries", 1000)
    deployment.config_set("stream-node-max-bytes", 0)
    await fill(redis, "s", 5500)
    report = await _trim(redis, StreamPolicy(maxlen=600))
    assert 600 <= report.length <= 600 + 1000
    assert report.notes == []


# --- age


async def _aged(redis: AsyncClient, *ages: float) -> None:
    """Entries that were added so many seconds ago, by the server's clock."""
    node = {"target_nodes": redis.get_node_from_key("s")} if hasattr(redis, "get_node_from_key") else {}
    seconds, microseconds = await redis.execute_command("TIME", **node)
    now = seconds * 1000 + microseconds // 1000
    for index, age in enumerate(ages):
        await redis.xadd("s", {"age": age}, id=f"{now - int(age * 1000)}-{index}")


async def test_old_entries_go(redis: AsyncClient) -> None:
    await redis.ping()
    await _aged(redis, 900, 601, 599, 10, 0)
    report = await _trim(redis, StreamPolicy(maxlen=None, max_age=600.0, approximate=False))
    assert (report.length, report.removed) == (3, 2)


async def test_approximate_age_leaves_at_most_a_node(redis: AsyncClient) -> None:
    await redis.ping()
    await _aged(redis, *(900 for _ in range(250)), *(1 for _ in range(10)))
    report = await _trim(redis, StreamPolicy(max_age=600.0))
    assert 10 <= report.length <= 10 + NODE


@pytest.mark.parametrize("keep_unread", [False, True])
async def test_entries_of_two_months_ago_take_no_newer_ones_with_them(
    redis: AsyncClient, keep_unread: bool
) -> None:
    """Redis before 6.2.7 removes a node by its last id, which it gets wrong where ids are 25 days apart."""
    await redis.ping()
    await _aged(redis, *(86_400.0 * days for days in range(60, 0, -1)), 20, 10, 0)
    if keep_unread:
        await redis.xgroup_create("s", "readers", id="$")
    ceiling = 1000 if keep_unread else None
    policy = StreamPolicy(
        maxlen=None, max_age=600.0, approximate=False, keep_unread=keep_unread, hard_maxlen=ceiling
    )
    report = await _trim(redis, policy)
    assert (report.length, report.removed) == (3, 60)
    assert await redis.xlen("s") == 3


@pytest.mark.parametrize("ids", [("5-1", "6-1", "7-1"), ("1-1", "1795400000000-0"), ("17954000000000000-0",)])
async def test_ids_that_are_no_times_are_left_alone_and_told(
    redis: AsyncClient, ids: tuple[str, ...]
) -> None:
    for entry in ids:
        await redis.xadd("s", {"f": 1}, id=entry)
    report = await _trim(redis, StreamPolicy(max_age=0.001, approximate=False))
    assert await redis.xlen("s") == len(ids)
    assert "not times" in report.notes[0]


# --- bytes


@pytest.mark.parametrize("size", [50, 3000])
async def test_a_byte_budget_is_kept(redis: AsyncClient, size: int) -> None:
    budget = 500_000
    await fill(redis, "s", 2_500_000 // size, size)
    report = await _trim(redis, StreamPolicy(maxlen=None, max_bytes=budget))
    used = await redis.memory_usage("s", samples=0)
    assert used is not None
    assert used <= budget * 1.05
    # And not emptied for it: what is left makes use of the budget.
    assert used > budget / 2
    assert report.bytes is not None
    assert abs(report.bytes - used) <= used * 0.05


async def test_a_budget_over_mixed_sizes(redis: AsyncClient) -> None:
    for number in range(300):
        size = 20_000 if 100 <= number < 200 else 20
        await redis.xadd("s", {"f": b"x" * size}, id=f"{1_795_400_000_000 + number}-0")
    report = await _trim(redis, StreamPolicy(max_bytes=300_000))
    used = await redis.memory_usage("s", samples=0)
    assert used is not None
    assert used <= 300_000
    assert report.length >= 100


async def test_a_budget_where_no_memory_is_freed_goes_by_entries(
    deployment: Deployment, redis: AsyncClient
) -> None:
    deployment.config_set("stream-node-max-entries", 0)
    deployment.config_set("stream-node-max-bytes", 0)
    await fill(redis, "s", 2000, 1000)
    manager = RedisStreamManager(redis, {"s": StreamPolicy(maxlen=None, max_bytes=500_000)})
    for _ in range(3):
        report = await manager.trim("s")
    # Not drained to nothing although MEMORY USAGE stays where it was.
    assert 300 <= report.length <= 500
    assert any("by a sample" in note for note in report.notes)


# --- unread entries


async def _with_groups(redis: AsyncClient, **groups: int) -> None:
    """3,000 entries, of which each group has acknowledged so many."""
    await fill(redis, "s", 3000)
    for group, count in groups.items():
        await redis.xgroup_create("s", group, id="0")
        if count:
            await read(redis, "s", group, count)


@pytest.mark.parametrize("approximate", [True, False])
async def test_the_slowest_group_holds_entries_back(redis: AsyncClient, approximate: bool) -> None:
    await _with_groups(redis, slow=500, fast=2900)
    policy = StreamPolicy(maxlen=100, keep_unread=True, hard_maxlen=5000, approximate=approximate)
    manager = RedisStreamManager(redis, {"s": policy})
    report = await manager.trim("s")
    assert (report.length, report.removed, report.unread_dropped, report.held_back) == (2500, 500, 0, 2400)
    rest = await read(redis, "s", "slow", 10_000)
    assert len(rest) == 2500
    # All is read now: down to maxlen.
    report = await manager.trim("s")
    assert (report.length, report.held_back) == (100, 0)


async def test_delivered_is_not_acknowledged(redis: AsyncClient) -> None:
    await _with_groups(redis, g=200)
    await read(redis, "s", "g", 800, acknowledge=False)
    report = await _trim(redis, StreamPolicy(maxlen=100, keep_unread=True, hard_maxlen=5000))
    assert report.length == 2800


async def test_never_beyond_the_ceiling_and_what_was_lost_is_counted(redis: AsyncClient) -> None:
    await _with_groups(redis, g=300)
    manager = RedisStreamManager(redis, {"s": StreamPolicy(maxlen=100, keep_unread=True, hard_maxlen=1000)})
    report = await manager.trim("s")
    # 300 were read; of the 2,700 unread ones 1,000 may stay.
    assert (report.length, report.unread_dropped) == (1000, 1700)
    assert manager.stats().counters.unread_dropped == 1700
    assert manager.stats().counters.entries_trimmed == 2000


async def test_without_a_group_there_is_nobody_to_wait_for(redis: AsyncClient) -> None:
    await fill(redis, "s", 3000)
    report = await _trim(redis, StreamPolicy(maxlen=100, keep_unread=True))
    assert (report.length, report.unread_dropped) == (100, 0)


async def test_age_and_bytes_wait_for_the_slowest_group_as_well(redis: AsyncClient) -> None:
    await redis.ping()
    await _aged(redis, *(900 for _ in range(300)))
    await redis.xgroup_create("s", "g", id="0")
    await read(redis, "s", "g", 100)
    policy = StreamPolicy(
        maxlen=None, max_age=1.0, max_bytes=16_384, approximate=False, keep_unread=True, hard_maxlen=1000
    )
    report = await _trim(redis, policy)
    assert report.length == 200


async def test_what_was_dropped_while_pending_waits_for_nobody(redis: AsyncClient) -> None:
    await fill(redis, "s", 300)
    await redis.xgroup_create("s", "g", id="0")
    await read(redis, "s", "g", 150, acknowledge=False)
    manager = RedisStreamManager(redis, {"s": StreamPolicy(maxlen=10, keep_unread=True, hard_maxlen=150)})
    assert (await manager.trim("s")).unread_dropped == 150
    # The group's pending list still names the dropped ones; the rest is read and acknowledged.
    await read(redis, "s", "g", 1000)
    pending = await redis.xpending("s", "g")
    assert pending["pending"] == 150
    report = await manager.trim("s")
    assert (report.length, report.unread_dropped, report.held_back) == (10, 0, 0)
    await manager.xadd_many("s", [{"n": n} for n in range(140)])
    await read(redis, "s", "g", 1000)
    await manager.xadd_many("s", [{"n": n} for n in range(50)])
    assert manager.stats().counters.unread_dropped == 150


async def test_a_stuck_entry_does_not_hold_back_what_is_read_behind_it(server: Server) -> None:
    async with server.client() as redis:
        await fill(redis, "s", 3000)
        await redis.xgroup_create("s", "g", id="0")
        ids = await read(redis, "s", "g", 2000, acknowledge=False)
        await redis.xack("s", "g", *ids[1:])
        report = await _trim(redis, StreamPolicy(maxlen=100, keep_unread=True, hard_maxlen=5000))
        # XTRIM ... ACKED, where the server has it; without it the oldest pending entry is the bound.
        assert report.length == (1001 if server.kind == "redis-8.2" else 3000)
        assert await ids_of(redis, "s", 1) == ids[:1]


@pytest.mark.parametrize(
    ("last", "pending"),
    [("5-18446744073709551615", False), ("5-9007199254740993", True), ("18446744073709551615-0", False)],
)
async def test_ids_beyond_the_reach_of_a_float(redis: AsyncClient, last: str, pending: bool) -> None:
    milliseconds, _, sequence = last.partition("-")
    below = f"{milliseconds}-{int(sequence) - 1}" if sequence != "0" else f"{int(milliseconds) - 1}-0"
    for entry in (below, last):
        await redis.xadd("s", {"f": 1}, id=entry)
    await redis.xgroup_create("s", "g", id="0")
    ids = await read(redis, "s", "g", 2, acknowledge=False)
    await redis.execute_command("XACK", "s", "g", *(ids[:1] if pending else ids))
    report = await _trim(redis, StreamPolicy(maxlen=1, keep_unread=True))
    assert report.length == 1
    if pending:
        await redis.xadd("s", {"f": 1}, id=f"{milliseconds}-18446744073709551614")
        assert (await _trim(redis, StreamPolicy(maxlen=1, keep_unread=True))).length == 2


# --- a large backlog


def _xtrim_calls(server: Server) -> tuple[int, float]:
    """How many XTRIM there were since the last reset, and the microseconds of one on average."""
    with server.admin() as client:
        found = client.info("commandstats")["cmdstat_xtrim"]
    return found["calls"], found["usec_per_call"]


@on_one_server
@pytest.mark.parametrize("policy", [{}, {"approximate": False}])
async def test_a_large_backlog_goes_in_small_steps(server: Server, policy: dict[str, Any]) -> None:
    entries = 1_000_000
    async with server.client() as redis:
        await fill(redis, "s", entries)
        await redis.copy("s", "whole")
        server.execute("CONFIG", "RESETSTAT")
        assert await redis.xtrim("whole", maxlen=1000, approximate=False) == entries - 1000
        _, whole = _xtrim_calls(server)
        server.execute("CONFIG", "RESETSTAT")
        report = await _trim(redis, StreamPolicy(**policy))
        calls, step = _xtrim_calls(server)
    assert report.length <= 1000 + NODE
    # No step removes more than 10,000 entries, and the server is held up for a fraction of the whole.
    assert calls >= report.removed / 10_000
    assert step < whole / 10


async def test_a_large_backlog_that_is_read_goes_in_small_steps(server: Server) -> None:
    async with server.client() as redis:
        await fill(redis, "s", 200_000)
        server.execute("CONFIG", "RESETSTAT")
        report = await _trim(redis, StreamPolicy(keep_unread=True, hard_maxlen=1_000_000))
        assert report.length == 1000
        with server.admin() as client:
            assert client.info("commandstats")["cmdstat_evalsha"]["calls"] >= report.removed / 10_000


async def test_a_budget_ends_a_look_and_the_next_goes_on(server: Server) -> None:
    async with server.client() as redis:
        await fill(redis, "s", 200_000)
        manager = RedisStreamManager(redis, {"s": StreamPolicy()})
        stream = manager._streams["s"]
        report = await manager._trimmer.trim(stream, budget=0.0)
        assert not report.finished
        assert 1000 + NODE < report.length < 200_000
        assert (await manager.trim("s")).finished


@pytest.fixture
def forbidding(fresh_server: Callable[..., Server]) -> Server:
    """A server whose user may neither CONFIG nor INFO, as managed ones often are."""
    server = fresh_server("redis-8.2")
    server.execute("ACL", "SETUSER", "app", "on", ">secret", "~*", "&*", "+@all", "-config", "-info")
    return server


async def test_a_server_that_tells_nothing_about_itself(forbidding: Server) -> None:
    async with forbidding.client(username="app", password="secret") as redis:
        await fill(redis, "s", 5000)
        await redis.xgroup_create("s", "g", id="0")
        policy = StreamPolicy(
            maxlen=100, max_age=3600.0, max_bytes=20_000, keep_unread=True, hard_maxlen=1000
        )
        assert (await _trim(redis, policy)).length == 1000
