"""What a name holds stays within the configured history, and neither the server nor a process grows."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import pytest
from redis.asyncio import Redis

from snapdelta import SnapshotManager, SnapshotReader
from snapdelta.errors import ProtectedStreamError, SnapshotDamagedError, SnapshotHistoryError
from snapdelta.redis_stream_manager import RedisStreamManager, StreamPolicy
from snapdelta.snapshots.replica import PAGE
from support.clock import Clock
from support.documents import TESTS
from support.servers import Server, on_one_server
from support.snapshot_harness import LIMIT, keys_of
from support.soak import CYCLE, HISTORY_FRAMES, Tape
from support.stream_harness import until


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Redis]:
    client = server.client()
    yield client
    await client.aclose()


# --- what a name holds


@dataclass(frozen=True)
class Held:
    """What is kept of a name at one moment: times (ms) and sizes of frames, by id."""

    times: dict[bytes, int]
    deltas: dict[bytes, int]
    fulls: dict[bytes, int]

    @property
    def bytes(self) -> int:
        return sum(self.deltas.values()) + sum(self.fulls.values())


async def held(redis: Redis, name: str = "default") -> Held:
    keys = keys_of(name)
    async with redis.pipeline(transaction=True) as pipeline:
        pipeline.xrange(keys.delta)
        pipeline.xrange(keys.full)
        deltas, fulls = await pipeline.execute()
    return Held(
        {entry: int(fields[b"t"]) for entry, fields in deltas},
        {entry: len(fields.get(b"f", b"")) for entry, fields in deltas},
        {entry: len(fields.get(b"f", b"")) for entry, fields in fulls},
    )


async def saves(
    manager: SnapshotManager, tape: Tape, count: int, name: str = "default"
) -> AsyncIterator[str]:
    """Save, and yield the type after every save."""
    for _ in range(count):
        yield (await manager.save_snapshot(tape.next(), name))["type"]


@pytest.mark.parametrize(("retained", "frames"), [(2, 6), (2, 7), (2, 20), (3, 8), (5, 31)])
async def test_no_more_saves_are_kept_than_history_frames(client: Redis, retained: int, frames: int) -> None:
    tape = Tape(20)
    async with SnapshotManager(client, retained_fulls=retained, history_frames=frames) as manager:
        async for _ in saves(manager, tape, 4 * frames):
            kept = await held(client)
            assert len(kept.deltas) <= frames
            assert len(kept.fulls) <= retained + 1
        # It is made use of, too: all but the part that the next chain needs.
        assert len(kept.deltas) >= frames - 2 * (frames // (retained + 1))
    first = await anext(SnapshotReader(client).replay())
    assert first.sequence == 4 * frames - len(kept.deltas) + 1


async def test_no_more_bytes_are_kept_than_history_bytes(client: Redis) -> None:
    tape = Tape(100)
    limit = 150_000
    # A chain of any length would be made, but for the bytes.
    async with SnapshotManager(client, history_bytes=limit, chain_ratio=1e9) as manager:
        most = 0
        async for _ in saves(manager, tape, 300):
            kept = await held(client)
            assert kept.bytes <= limit
            most = max(most, kept.bytes)
    assert most > limit / 2
    assert len(kept.deltas) < 200


async def test_a_history_too_small_for_the_full_frames_keeps_those_and_no_more(client: Redis) -> None:
    tape = Tape(100)
    async with SnapshotManager(client, history_bytes=1, chain_ratio=1e9) as manager:
        seen = set()
        async for kind in saves(manager, tape, 60):
            seen.add(kind)
            kept = await held(client)
            assert len(kept.fulls) <= 2
            largest = max(kept.fulls.values())
            # A full frame is not made for every save: the deltas behind one may be as large as it is.
            assert kept.bytes <= 2 * (2 * largest + max(kept.deltas.values()))
    assert seen == {"full", "delta"}


async def test_as_much_time_is_kept_as_the_history_and_no_more(client: Redis) -> None:
    tape, clock, history = Tape(20), Clock(), 0.3
    dropped = 0
    async with (
        asyncio.timeout(LIMIT),
        SnapshotManager(client, 5.0, clock=clock, history=history, chain_ratio=1e9) as manager,
    ):
        while dropped < 20:
            result = await manager.save_snapshot(tape.next())
            clock.now += 1
            if result["type"] == "delta":
                continue
            kept = await held(client)
            assert kept.deltas.keys() >= kept.fulls.keys()
            ages = [kept.times[next(reversed(kept.fulls))] - kept.times[entry] for entry in kept.fulls]
            # The oldest is there because the second is too young to stand for the whole history.
            assert len(ages) <= 2 or ages[1] < history * 1000
            if next(iter(kept.fulls)).partition(b"-")[2] != b"1":
                assert ages[0] >= history * 1000
                dropped += 1


@on_one_server
async def test_fifty_names_are_each_within_bounds(client: Redis) -> None:
    names = {f"name {number}": Tape(5 + number) for number in range(50)}
    async with SnapshotManager(client, history_frames=9) as manager:

        async def save(name: str, tape: Tape) -> None:
            for _ in range(30):
                await manager.save_snapshot(tape.next(), name)
                kept = await held(client, name)
                assert len(kept.deltas) <= 9
                assert len(kept.fulls) <= 3

        await asyncio.gather(*(save(name, tape) for name, tape in names.items()))
        assert {manager.stats(name).saved for name in names} == {30}
    # Their three keys are all that there is.
    assert await client.dbsize() == 3 * len(names)
    for name, tape in names.items():
        latest = await SnapshotReader(client, name).latest()
        assert latest is not None
        assert latest.snapshot == tape.records


async def test_with_a_ttl_everything_goes_after_the_last_save(client: Redis) -> None:
    tape, ttl, keys = Tape(20), 1.5, keys_of()
    async with SnapshotManager(client, 0.2, ttl=ttl, history_frames=12) as manager:
        async for _ in saves(manager, tape, 100):
            assert len((await held(client)).deltas) <= 12
            async with client.pipeline(transaction=True) as pipeline:
                for key in keys:
                    pipeline.pttl(key)
                left = await pipeline.execute()
            assert all(0 < milliseconds <= ttl * 1000 for milliseconds in left)
            assert max(left) - min(left) <= 1

        async def nothing_is_left() -> bool:
            return not await client.dbsize()

        await until(nothing_is_left)
        assert await SnapshotReader(client).latest() is None
        # And the name goes on.
        assert (await manager.save_snapshot(tape.next()))["reason"] == "head_lost"
        latest = await SnapshotReader(client).latest()
    assert latest is not None
    assert latest.snapshot == tape.records


async def test_a_stream_manager_that_trims_everything_leaves_snapshots_alone(client: Redis) -> None:
    tape = Tape(20)
    trims_all = StreamPolicy(maxlen=1, approximate=False, trim_interval=0.05)
    async with (
        SnapshotManager(client) as manager,
        RedisStreamManager(client, default=trims_all, discover="*", discover_interval=0.05) as streams,
    ):
        for _ in range(40):
            await manager.save_snapshot(tape.next())
            # Written around the stream manager, so that only its task can trim it.
            await client.xadd("other", {"n": 1})

        async def other_is_trimmed() -> bool:
            return await client.xlen("other") == 1

        await until(other_is_trimmed)
        before = streams.stats().counters.discoveries
        await until(lambda: streams.stats().counters.discoveries >= before + 3)
        with pytest.raises(ProtectedStreamError, match="hold snapshots"):
            await streams.trim(keys_of().delta)
    assert len((await held(client)).deltas) == 40
    assert [update.sequence async for update in SnapshotReader(client).replay()] == list(range(1, 41))


@pytest.mark.parametrize("to_come", [None, 3600.0])
async def test_a_replay_ends_while_a_writer_saves_faster(client: Redis, to_come: float | None) -> None:
    """At the state that was the newest when it began, also with an end that is still to come."""
    tape, reader = Tape(20), SnapshotReader(client)
    async with SnapshotManager(client) as manager:
        async for _ in saves(manager, tape, 3):
            pass
        newest = await reader.latest()
        assert newest is not None
        end = None if to_come is None else newest.timestamp + to_come
        seen = []
        async for past in reader.replay(end=end):
            seen.append(past.sequence)
            assert len(seen) <= 3
            async for _ in saves(manager, tape, 2):
                pass
        assert seen == [1, 2, 3]
        # `follow` gives those that came meanwhile, too.
        updates = reader.follow()
        assert (await anext(updates)).sequence == 9
        await updates.aclose()


async def test_a_replay_of_what_is_trimmed_meanwhile_says_so(client: Redis) -> None:
    """The writer removes all that was there when it began: it continues at a later full frame, and ends."""
    tape, reader = Tape(20), SnapshotReader(client)
    async with SnapshotManager(client, history=0, history_frames=6) as manager:
        async for _ in saves(manager, tape, 30):
            pass
        seen = []
        async for past in reader.replay():
            seen.append((past.sequence, past.resynced))
            async for _ in saves(manager, tape, 40):
                pass
    (first, _), *later = seen
    assert first < 30
    assert [resynced for _, resynced in later] == [True]
    assert later[0][0] > 30


async def test_a_replay_of_what_is_deleted_meanwhile_raises(client: Redis) -> None:
    """It gives what it had read, and does not end as if that were all."""
    replay = SnapshotReader(client).replay()
    async with SnapshotManager(client) as manager:
        # More than a replay reads at once.
        async for _ in saves(manager, Tape(PAGE + 20), PAGE + 20):
            pass
        seen = [(await anext(replay)).sequence]
        await client.flushdb()

        async def read_on() -> None:
            async for past in replay:
                seen.append(past.sequence)

        with pytest.raises(SnapshotDamagedError, match="do not lead to the state"):
            await read_on()
    assert seen == list(range(1, len(seen) + 1))
    assert len(seen) < PAGE + 20


# --- memory over a long time


@asynccontextmanager
async def program(*arguments: object) -> AsyncIterator[asyncio.subprocess.Process]:
    command = [sys.executable, "-m", "support.soak", *map(str, arguments)]
    process = await asyncio.create_subprocess_exec(*command, cwd=TESTS, stdout=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def cycles_of(process: asyncio.subprocess.Process) -> list[dict[str, float]]:
    """What the process said of every cycle; it must end well."""
    output, _ = await process.communicate()
    assert process.returncode == 0
    return [json.loads(line) for line in output.splitlines()]


async def endure(server: Server, total: int) -> dict[str, list[float]]:
    """Quarter means of what writer, follower and server take up over `total` saves; what is held is checked
    at many moments."""
    moments, keys = 0, keys_of()
    async with (
        server.client() as redis,
        program("follow", server.port, total) as follower,
        program("write", server.port, total) as writer,
    ):
        both = asyncio.gather(cycles_of(writer), cycles_of(follower))
        while not both.done():
            # Only counted: the server subtracts its buffers from the data set with a delay, large ones show.
            async with redis.pipeline(transaction=True) as pipeline:
                pipeline.xlen(keys.delta)
                pipeline.xlen(keys.full)
                deltas, fulls = await pipeline.execute()
            assert deltas <= HISTORY_FRAMES
            assert fulls <= HISTORY_FRAMES // CYCLE
            moments += fulls > 2
            await asyncio.wait([both], timeout=0.05)
        written, followed = await both
    assert moments >= total / 200
    return {
        "writer's RSS": quarters([cycle["rss"] for cycle in written]),
        "dataset": quarters([cycle["dataset"] for cycle in written]),
        "follower's RSS": quarters([cycle["rss"] for cycle in followed]),
    }


def quarters(cycles: list[float]) -> list[float]:
    """The means of the first, second, third and last quarter of the cycles."""
    length = len(cycles) // 4
    return [fmean(cycles[start : start + length]) for start in range(0, 4 * length, length)]


# Why resident memory can be compared so closely. A process takes memory once for what it does again and again
# (arenas, free lists, threads, buffers of the codec and the sockets; the history fills for the first cycles):
# that is in the first quarter, which is not compared. What hangs on the phase within a cycle is the same in
# each mean, as they are over whole cycles with a sample after every save, and the processes keep sums only. A
# large piece that the allocator gives back late moves one sample, and hardly the mean. What is left is growth
# with the number of saves.


@pytest.mark.long
async def test_nothing_grows_in_a_day_of_saves(fresh_server: Callable[..., Server]) -> None:
    # 2 % of these processes, over half a day, are some 100 bytes a save.
    means = await endure(fresh_server(), 24 * 3600 // 5)
    for what, (_, second, _, last) in means.items():
        assert abs(last / second - 1) <= 0.02, (what, means)


async def test_nothing_grows_in_two_hours_of_saves(fresh_server: Callable[..., Server]) -> None:
    # The data set comes to its size in the first quarter. A process may warm up a little longer; 5 %, some
    # 3 kB a save, is still less than one frame left behind at every save.
    means = await endure(fresh_server(), 2 * 3600 // 5)
    for what, (_, second, _, last) in means.items():
        assert abs(last / second - 1) <= (0.02 if what == "dataset" else 0.05), (what, means)


# --- entries that are much older


async def test_entries_of_two_months_ago_take_no_newer_ones_with_them(server: Server, client: Redis) -> None:
    """Redis before 6.2.7 removes the newest entries as well, where ids of a node are 25 days apart."""
    keys = keys_of("default")
    old = (await client.time())[0] * 1000 - 60 * 86_400_000
    for key in (keys.delta, keys.full):
        await client.xadd(key, {"x": "y"}, id=f"{old}-1")
    reader = SnapshotReader(client)
    updates = reader.follow()
    async with SnapshotManager(client, retained_fulls=2, history=0) as manager:
        for n in range(6):
            await manager.save_snapshot({"A": {"n": n}}, force_full=n % 2 == 0)
            update = await asyncio.wait_for(anext(updates), LIMIT)
            assert update.snapshot == {"A": {"n": n}}
            latest = await SnapshotReader(client).latest()
            assert latest is not None
            assert latest.snapshot == {"A": {"n": n}}
            kept = await held(client)
            newest = f"{update.epoch}-{update.sequence}".encode()
            assert newest in kept.times
            assert kept.fulls.keys() - {f"{old}-1".encode()}
    await updates.aclose()
    assert f"{old}-1".encode() not in kept.times


async def test_no_hole_is_left_in_what_stays(server: Server, client: Redis) -> None:
    """The same fault between two epochs, where the newest entry is in another node, and so stays."""
    server.config_set("stream-node-max-entries", 4)
    times: list[float] = []

    async def save(manager: SnapshotManager, *, full: bool) -> None:
        state = {f"S{n}": {"n": n, "save": len(times), "text": str(n * n)} for n in range(50)}
        await manager.save_snapshot(state, force_full=full)
        update = await SnapshotReader(client).latest()
        assert update is not None
        times.append(update.timestamp)
        await asyncio.sleep(0.002)

    # Kept are six frames, besides the chain that is being written.
    async with SnapshotManager(client, history_frames=9) as manager:
        for full in (True, True, False, False):
            await save(manager, full=full)
    month = (await client.time())[0] * 1000 + 30 * 86_400_000
    await client.hset(keys_of().head, "claim", month)
    async with SnapshotManager(client, history_frames=9) as manager:
        for full in (False, False, True, True):
            await save(manager, full=full)
    fulls: Any = await client.xrange(keys_of().full)
    assert fulls[-1][0] == f"{month + 1}-4".encode()

    reader = SnapshotReader(client)
    for number, time in enumerate(times):
        # What is not kept is said so; nothing is damaged.
        with suppress(SnapshotHistoryError):
            assert (await reader.at(time)).snapshot["S0"]["save"] == number
    assert (await reader.at(times[-1])).snapshot["S0"]["save"] == 7
    replayed = [past.snapshot["S0"]["save"] async for past in reader.replay()]
    assert replayed == ([7] if server.kind == "redis-6.2" else [4, 5, 6, 7])
    text: Any = await client.hget(keys_of().head, "fulls")
    listed = {part.split()[0] for part in text.split(b";")}
    assert listed == {row[0] for row in fulls}
