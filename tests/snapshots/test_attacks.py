"""What a reviewer with bad intentions tried on the snapshots, and what is not to happen again."""

from __future__ import annotations

import asyncio
import enum
import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import datetime, tzinfo
from itertools import pairwise
from typing import Any

import pytest
import redis as sync_redis
from redis.asyncio import Redis

from snapdelta.errors import SnapshotClosedError, SnapshotError, SnapshotSettingError
from snapdelta.snapshot_manager import SnapshotManager, SnapshotReader, Update
from support.market import Market
from support.servers import Deployment, Server
from support.snapshot_harness import LIMIT, CancelAt, client_of, keys_of

KEYS = keys_of()
# Few symbols after many: a full frame is smaller than the delta.
MANY = {f"S{n}": {"price": n * 1.37} for n in range(200)}


@pytest.fixture
def valkey(deployments: Callable[[str], Deployment]) -> Iterator[Server]:
    """One kind is enough: what is tried here is on our side of the connection."""
    found = deployments("valkey-9.1")
    assert isinstance(found, Server)
    found.reset()
    yield found
    found.reset()


def check_gaps(seen: list[Update]) -> None:
    """Each update is the next state, or says that there may be others between."""
    for before, update in pairwise(seen):
        assert update.resynced or update.sequence == before.sequence + 1, (before.sequence, update.sequence)


# --- what an update says of missed states


async def a_lost_full_frame(client: Any, manager: SnapshotManager) -> int:
    """Two restarts, the second one's full frame lost; then a delta and a checkpoint. The last sequence."""
    await manager.save_snapshot(MANY)
    assert (await manager.save_snapshot({"A": {"price": 1}}))["reason"] == "larger"
    (newest, _), *_ = await client.xrevrange(KEYS.full, count=1)
    await client.xdel(KEYS.full, newest)
    await manager.save_snapshot({"A": {"price": 2}})
    return (await manager.save_snapshot({"A": {"price": 3}}, force_full=True))["sequence"]


async def test_a_follower_that_lost_a_full_frame_in_place_of_a_delta_says_so(valkey: Server) -> None:
    async with client_of(valkey) as client, SnapshotManager(client) as manager:
        await manager.save_snapshot({"first": {}})
        updates: Any = SnapshotReader(client).follow()
        first = await anext(updates)
        last = await a_lost_full_frame(client, manager)
        seen = [first]
        async with asyncio.timeout(LIMIT):
            while seen[-1].sequence < last:
                seen.append(await anext(updates))
        await updates.aclose()
    check_gaps(seen)


async def test_a_replay_that_lost_a_full_frame_in_place_of_a_delta_says_so(valkey: Server) -> None:
    async with client_of(valkey) as client, SnapshotManager(client) as manager:
        last = await a_lost_full_frame(client, manager)
        seen = [update async for update in SnapshotReader(client).replay()]
    assert seen[-1].sequence == last
    check_gaps(seen)


async def test_missed_states_are_told_though_the_newest_equals_the_last_seen(valkey: Server) -> None:
    async with (
        client_of(valkey) as client,
        SnapshotManager(client, history=0, history_frames=6) as manager,
    ):
        state = {"A": {"price": 1}}
        await manager.save_snapshot(state)
        updates: Any = SnapshotReader(client).follow()
        await anext(updates)
        for price in range(2, 30):
            await manager.save_snapshot({"A": {"price": price}})
        await manager.save_snapshot(state)
        async with asyncio.timeout(LIMIT):
            update = await anext(updates)
        await updates.aclose()
    assert update.sequence == 30
    assert (update.resynced, update.reason) == (True, "gap")


# --- a writer that never rests


class Hurried(Redis):
    """A client in front of which somebody saves before every read of entries, up to `most` times."""

    manager: SnapshotManager
    most = 200
    saved = 0

    async def execute_command(self, *command: Any, **options: Any) -> Any:
        if command[0] in ("XREAD", "XRANGE") and self.saved < self.most:
            self.saved += 1
            await self.manager.save_snapshot({"A": {"price": self.saved}})
        return await super().execute_command(*command, **options)  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("way", ["latest", "follow"])
async def test_a_reader_gets_there_though_saves_come_faster_than_its_reads(valkey: Server, way: str) -> None:
    async with (
        client_of(valkey) as client,
        SnapshotManager(client) as manager,
        Hurried(port=valkey.port) as hurried,
    ):
        await manager.save_snapshot({"A": {"price": 0}})
        hurried.manager = manager
        reader = SnapshotReader(hurried)
        async with asyncio.timeout(LIMIT):
            if way == "latest":
                assert await reader.latest() is not None
                hurried.saved = 0
                # From where it was, too.
                assert await reader.latest() is not None
            else:
                updates: Any = reader.follow()
                await anext(updates)
                await updates.aclose()
        assert hurried.saved < hurried.most // 2


# --- damage, read over


async def test_replay_over_damage_costs_no_more_than_a_few_readings(valkey: Server) -> None:
    async with client_of(valkey) as client, SnapshotManager(client, chain_ratio=1000) as manager:
        state = dict(MANY)
        for price in range(200):
            state["S1"] = {"price": price}
            await manager.save_snapshot(state, force_full=price == 150)
        entries: Any = await client.xrange(KEYS.delta)
        await client.delete(KEYS.delta)
        for number, (entry_id, fields) in enumerate(entries):
            if number == 50:
                fields[b"f"] = fields[b"f"][:-1] + bytes([fields[b"f"][-1] ^ 1])
            values: Any = {key: fields[key] for key in (b"t", b"d", b"f", b"r") if key in fields}
            await client.xadd(KEYS.delta, values, id=entry_id)
        await client.config_resetstat()
        seen = [update.sequence async for update in SnapshotReader(client).replay()]
        calls = (await client.info("commandstats"))["cmdstat_xrange"]["calls"]
    assert seen == [*range(1, 51), *range(151, 201)]
    # 200 entries are 13 pages.
    assert calls < 60, calls


# --- what is passed in


async def test_a_replay_that_ends_before_it_begins_is_empty(valkey: Server) -> None:
    async with client_of(valkey) as client, SnapshotManager(client) as manager:
        reader = SnapshotReader(client)
        times = []
        for price in range(3):
            await manager.save_snapshot({"A": {"price": price}})
            update = await reader.latest()
            assert update is not None
            times.append(update.timestamp)
            await asyncio.sleep(0.005)
        assert [u.sequence async for u in reader.replay(times[0], times[-1])] == [1, 2, 3]
        with suppress(SnapshotSettingError):
            assert [u.sequence async for u in reader.replay(times[-1], times[0])] == []


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"history": 1e306}, "history"),
        ({"history": 10**400}, "history"),
        ({"full_snapshot_interval": 10**400}, "full_snapshot_interval"),
        ({"ttl": 1e17}, "ttl"),
        ({"command_timeout": 10**400}, "command_timeout"),
        ({"clock": lambda: None}, "clock"),
        ({"key_prefix": "\ud800"}, "key_prefix"),
    ],
    ids=lambda value: value if isinstance(value, str) else "of",
)
async def test_settings_beyond_all_bounds(settings: dict[str, Any], named: str) -> None:
    client = Redis()
    with pytest.raises(SnapshotSettingError, match=named):
        SnapshotManager(client, **settings)


@pytest.mark.parametrize(
    "client", [sync_redis.Redis(), None, "redis://", object()], ids=lambda c: type(c).__name__
)
@pytest.mark.parametrize("kind", [SnapshotManager, SnapshotReader])
async def test_what_is_no_asynchronous_client(kind: Any, client: Any) -> None:
    with pytest.raises(SnapshotSettingError, match="redis_client"):
        kind(client)


async def test_an_unhashable_name() -> None:
    async with SnapshotManager(Redis()) as manager:
        with pytest.raises(SnapshotSettingError, match="name"):
            await manager.save_snapshot({}, [])  # type: ignore[arg-type]


class Listing(str, enum.Enum):  # noqa: UP042  # the older way, whose format() is not its value
    GAINERS = "gainers"


async def test_an_enum_as_name_is_its_value(valkey: Server) -> None:
    async with client_of(valkey) as client, SnapshotManager(client) as manager:
        await manager.save_snapshot({"A": {"price": 1}}, Listing.GAINERS)
        await manager.save_snapshot({"A": {"price": 2}}, "gainers")
        for name in ("gainers", Listing.GAINERS):
            update = await SnapshotReader(client, name).latest()
            assert update is not None
            assert update.snapshot == {"A": {"price": 2}}


@pytest.mark.parametrize(
    "options",
    [
        {"encoding": "latin-1"},
        {"encoding": "ascii", "encoding_errors": "ignore"},
        {"encoding": "latin-1", "decode_responses": True, "protocol": 3},
    ],
    ids=str,
)
async def test_the_clients_encoding_does_not_matter(valkey: Server, options: dict[str, Any]) -> None:
    async with (
        client_of(valkey) as plain,
        client_of(valkey, **options) as odd,
        SnapshotManager(odd) as manager,
    ):
        for name in ("default", "é", "è", "日本"):
            await manager.save_snapshot({"A": {"name": name}}, name)
        for name in ("default", "é", "è", "日本"):
            for client in (plain, odd):
                update = await SnapshotReader(client, name).latest()
                assert update is not None
                assert update.snapshot == {"A": {"name": name}}
        # What stands in the way is told, whatever it is called.
        head = keys_of("ü").head
        await plain.set(head, "mine")
        with pytest.raises(SnapshotError, match="holds a string"):
            await manager.save_snapshot({}, "ü")


class Nowhere(tzinfo):
    """A time zone that does not say where it is: its times are naive."""

    def utcoffset(self, moment: datetime | None) -> None:
        return None

    dst = tzname = utcoffset


async def test_a_zone_without_an_offset_is_no_zone(valkey: Server) -> None:
    async with client_of(valkey) as client, SnapshotManager(client) as manager:
        await manager.save_snapshot({})
        with pytest.raises(SnapshotSettingError, match="zone"):
            await SnapshotReader(client).at(datetime(2026, 1, 1, tzinfo=Nowhere()))


# --- tasks


async def test_a_reader_that_is_cancelled_over_a_damaged_frame_leaves_nothing(valkey: Server) -> None:
    loop = asyncio.get_running_loop()
    told: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: told.append(context))
    async with client_of(valkey) as client, SnapshotManager(client) as manager:
        await manager.save_snapshot(MANY)
        entries: Any = await client.xrange(KEYS.full)
        ((entry_id, fields),) = entries
        frame = fields[b"f"]
        await client.delete(KEYS.full)
        damaged: Any = {b"t": fields[b"t"], b"d": fields[b"d"], b"f": frame[:-1] + bytes([frame[-1] ^ 1])}
        await client.xadd(KEYS.full, damaged, id=entry_id)
        for nth in range(1, 20):
            reading = CancelAt(SnapshotReader(client).latest(), nth)
            with suppress(SnapshotError, asyncio.CancelledError):
                await asyncio.ensure_future(awaited(reading))
            del reading
            await asyncio.sleep(0.01)
    gc.collect()
    assert not told, told[0]


async def awaited(what: Any) -> Any:
    return await what


async def test_a_time_out_around_anext_does_not_end_following(valkey: Server) -> None:
    async with client_of(valkey) as client, SnapshotManager(client) as manager:
        updates: Any = SnapshotReader(client).follow()
        market = Market()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(updates), 0.05)
        for number in range(1, 4):
            await manager.save_snapshot(market.next())
            assert (await asyncio.wait_for(anext(updates), LIMIT)).sequence == number
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(updates), 0.05)


async def test_an_abandoned_save_that_fails_in_any_way_is_logged(
    valkey: Server, caplog: pytest.LogCaptureFixture
) -> None:
    broken = False

    def clock() -> float:
        if broken:
            raise ZeroDivisionError("the clock is broken")
        return 0.0

    async with client_of(valkey) as client, SnapshotManager(client, clock=clock) as manager:
        await manager.save_snapshot(MANY)
        broken = True
        saving = asyncio.ensure_future(manager.save_snapshot({**MANY, "A": {"price": 1}}))
        await asyncio.sleep(0)
        saving.cancel()
        with caplog.at_level(logging.WARNING), pytest.raises(asyncio.CancelledError):
            await saving
        with caplog.at_level(logging.WARNING):
            await manager.close()
            await asyncio.sleep(0)
    assert manager.stats().failed == 1
    assert "the clock is broken" in caplog.text


@pytest.mark.parametrize("rounds", range(8))
async def test_a_cancellation_is_not_lost_when_the_manager_is_closed(valkey: Server, rounds: int) -> None:
    async with client_of(valkey, retries=False) as client:
        manager = SnapshotManager(client)
        await manager.save_snapshot(MANY)
        valkey.pause()
        try:
            saving = asyncio.ensure_future(manager.save_snapshot({**MANY, "A": {}}))
            await asyncio.sleep(0.02)
            closing = asyncio.ensure_future(manager.close(0))
            for _ in range(rounds):
                await asyncio.sleep(0)
            asked = saving.cancel()
            (outcome,) = await asyncio.gather(saving, return_exceptions=True)
            await closing
        finally:
            valkey.resume()
        assert isinstance(outcome, asyncio.CancelledError if asked else SnapshotClosedError), outcome


async def test_a_cancellation_keeps_its_message(valkey: Server) -> None:
    """Libraries above asyncio tell their own cancellations by it."""
    async with client_of(valkey) as client, SnapshotManager(client) as manager:
        await manager.save_snapshot(MANY)
        ended = False
        nth = 0
        while not ended:
            nth += 1
            task = asyncio.ensure_future(awaited(CancelAt(SnapshotReader(client).latest(), nth)))
            try:
                await task
                ended = True
            except asyncio.CancelledError as error:
                assert error.args == ("by a test",), nth  # noqa: PT017  # raises() cannot count on it
        assert nth > 3


async def test_what_somebody_else_wrote_does_not_hide_the_past(valkey: Server) -> None:
    async with client_of(valkey) as client, SnapshotManager(client) as manager:
        reader = SnapshotReader(client)
        times = []
        for price in range(5):
            await manager.save_snapshot({"A": {"price": price}})
            update = await reader.latest()
            assert update is not None
            times.append(update.timestamp)
            await asyncio.sleep(0.005)
        await client.xadd(KEYS.delta, {"mine": 1}, id=f"{10**14}-1")
        for number, time in enumerate(times, 1):
            assert (await reader.at(time)).sequence == number
        assert (await reader.at(times[-1] + 3600)).sequence == 5
        assert [update.sequence async for update in reader.replay()] == [1, 2, 3, 4, 5]


async def test_a_cancelled_latest_does_not_forget_what_it_missed(valkey: Server) -> None:
    nth = 0
    ended = False
    while not ended:
        nth += 1
        valkey.reset()
        async with (
            client_of(valkey) as client,
            SnapshotManager(client, history=0, history_frames=6) as manager,
        ):
            await manager.save_snapshot({"A": {"price": 1}})
            reader = SnapshotReader(client)
            await reader.latest()
            for price in range(2, 21):
                await manager.save_snapshot({**MANY, "A": {"price": price}})
            outcome: Any
            task = asyncio.ensure_future(awaited(CancelAt(reader.latest(), nth)))
            (outcome,) = await asyncio.gather(task, return_exceptions=True)
            ended = not isinstance(outcome, asyncio.CancelledError)
            if not ended:
                assert (await manager.save_snapshot({"A": {"price": 1}}))["reason"] == "larger"
                outcome = await reader.latest()
            assert isinstance(outcome, Update), outcome
            assert outcome.resynced, (nth, outcome.reason)
    assert nth > 5
