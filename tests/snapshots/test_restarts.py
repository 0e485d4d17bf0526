"""A writer that restarts is no event: it goes on from the state before, and followers go with it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from itertools import combinations
from statistics import median
from typing import Any

import pytest
import redis as sync_redis

from snapdelta import Decoder, SnapshotManager
from snapdelta.errors import (
    SnapshotMemoryError,
    SnapshotReadOnlyError,
    SnapshotUnavailableError,
    WriterSupersededError,
)
from snapdelta.snapshots.handover import newest_state
from snapdelta.snapshots.keys import Keys
from snapdelta.snapshots.store import SnapshotStore
from support.corruption import entries, flipped, tamper
from support.market import MARK, Market, State
from support.proxy import Proxy
from support.servers import Server, on_one_server, patience
from support.snapshot_harness import FollowedReader, Id, Stage, Writer, client_of, keys_of, staged
from support.stream_harness import until

KEYS = keys_of()
LOST = [chosen for count in (1, 2, 3) for chosen in combinations(("full", "delta", "head"), count)]
# The commands of a first save: claim, head, full frame, deltas, clock, publish.
START = ("EVALSHA", "HMGET", "XREVRANGE", "XRANGE", "TIME")


async def restarted(stage: Stage, writer: Writer, **settings: Any) -> Writer:
    """The process ends, and another one goes on with the same market."""
    await writer.manager.close()
    new = await stage.writer(writer.market.writer, **settings)
    assert new.market is writer.market
    return new


def position(result: dict[str, Any]) -> Id:
    return result["epoch"], result["sequence"]


# --- what an ordinary restart is


async def test_followers_cross_a_restart(server: Server) -> None:
    async with staged(server.client, followers=2) as (stage, old):
        before = stage.oracle.newest
        writer = await restarted(stage, old)
        result = await writer.save()
        assert (result["type"], result["reason"], result["sequence"]) == ("full", "handover", 1)
        # Against the save of the writer before.
        assert 0 < result["updated"] < 10
        assert result["added"] + result["removed"] < 5
        assert (await writer.save())["reason"] is None
        await stage.together()
        await stage.join()
        assert not stage.resyncs
        for follower in stage.followers:
            at = [seen.id for seen in follower.seen].index(position(result))
            assert follower.seen[at - 1].id == before
            assert follower.seen[at].reason is None


async def test_the_entry_names_its_base(server: Server) -> None:
    async with staged(server.client) as (stage, old):
        epoch, sequence = stage.oracle.newest
        digest = server.execute("HGET", KEYS.head, "digest")
        await (await restarted(stage, old)).save()
        entry_id, fields = entries(server, KEYS.delta)[-1]
        assert list(fields) == [b"t", b"d", b"f", b"b"]
        assert fields[b"b"].decode() == f"{epoch}-{sequence}-{digest}"
        full_id, full = entries(server, KEYS.full)[-1]
        assert (full_id, full[b"r"]) == (entry_id, b"handover")
        assert full[b"d"] == fields[b"d"]


async def test_a_state_is_the_same_after_it_was_handed_over(server: Server) -> None:
    """Read by a new writer and encoded again, it has the digest that it had."""
    async with staged(server.client) as (stage, old):
        state = old.market.state(old.market.saved)
        writer = await stage.writer("again")
        result = await writer.manager.save_snapshot(state)
        assert result["reason"] == "handover"
        assert (result["added"], result["removed"], result["updated"]) == (0, 0, 0)
        deltas = entries(server, KEYS.delta)
        assert deltas[-1][1][b"d"] == deltas[-2][1][b"d"]
        stage.oracle.saved(dict(result), (old.market.writer, old.market.saved))
        await stage.together()
        assert not stage.resyncs


@pytest.mark.parametrize("kept", ["bridge", "base"])
async def test_a_late_reader_may_begin_in_an_old_epoch(server: Server, kept: str) -> None:
    """Where the full frame beside the bridge is damaged, from one of the epoch before."""
    async with staged(server.client) as (stage, old):
        writer = await restarted(stage, old)
        await writer.saves(2)
        if kept == "base":
            tamper(server, KEYS.full, flipped)
        await stage.join()
        seen = []
        async for update in stage.reader().replay():
            stage.oracle.check(update)
            seen.append(update.resynced)
            at = await stage.reader().at(update.timestamp)
            stage.oracle.check(at)
        assert seen == [False] * 5
        await stage.together()
        assert not stage.resyncs


class Changing(Market):
    """States that share nothing but the mark: a delta is larger than a full frame."""

    def state(self, number: int) -> State:
        rng = random.Random(number)
        others = {rng.randbytes(4).hex(): rng.randbytes(9) for _ in range(30)}
        return {MARK: {"writer": self.writer, "n": number}, **others}


@pytest.mark.parametrize("restarts", [True, False])
async def test_a_marker_in_place_of_a_delta_names_its_base(server: Server, restarts: bool) -> None:
    """Only the full frame goes, also over the border of two epochs; followers miss nothing."""
    async with Stage(server.client) as stage:
        follower = await stage.follow()
        stage.oracle.markets["A"] = Changing("A")
        writer = await stage.writer("A")
        await writer.saves(2)
        await stage.together()
        (epoch, sequence), digest = stage.oracle.newest, server.execute("HGET", KEYS.head, "digest")
        if restarts:
            writer = await restarted(stage, writer)
        assert (await writer.save())["reason"] == "larger"
        fields = entries(server, KEYS.delta)[-1][1]
        assert list(fields) == [b"t", b"d", b"r", b"b"]
        assert fields[b"b"].decode() == f"{epoch}-{sequence}-{digest}"
        await stage.together()
        assert follower.seen[-1].reason == "larger"
        await stage.recover(writer)
        assert not stage.resyncs


async def test_two_saves_at_once_begin_a_writer(server: Server) -> None:
    async with staged(server.client) as (stage, old):
        writer = await restarted(stage, old)
        first, second = await asyncio.gather(writer.save(), writer.save())
        assert (first["reason"], second["reason"]) == ("handover", None)
        stage.oracle.newest = max(position(first), position(second))
        await stage.together()
        assert not stage.resyncs


async def test_a_save_that_is_forced_hands_over_as_well(server: Server) -> None:
    async with staged(server.client) as (stage, old):
        writer = await restarted(stage, old)
        assert (await writer.save(force_full=True))["reason"] == "handover"
        assert (await writer.save(force_full=True))["reason"] == "forced"
        await stage.together()
        assert not stage.resyncs


# --- what stands in the way


async def test_the_old_writer_saves_while_the_new_one_starts(server: Server) -> None:
    """What the new one has read is no longer the head: a takeover, as ever."""
    async with Proxy(server.port) as proxy, staged(server.client) as (stage, old):
        client = stage.own(client_of(proxy))
        writer = await stage.writer("B", client, command_timeout=120.0)
        held = proxy.plan("hold", 2, "EVALSHA")
        saving = asyncio.create_task(writer.save())
        await held.hit.wait()
        await old.save()
        await stage.together()
        held.deliver()
        assert (await saving)["reason"] == "takeover"
        with pytest.raises(WriterSupersededError):
            await old.save()
        await stage.recover(writer)
        assert stage.resyncs == {"takeover"}


@pytest.mark.parametrize("left", ["delta", "foreign"])
async def test_an_entry_behind_the_head(server: Server, left: str) -> None:
    """Of a save that was half done, or of another program: no reader would get over it."""
    async with staged(server.client) as (stage, old):
        epoch, sequence = stage.oracle.newest
        fields = entries(server, KEYS.delta)[-1][1] if left == "delta" else {b"x": b"y"}
        flat = [part for field in fields.items() for part in field]
        server.execute("XADD", KEYS.delta, f"{epoch}-{sequence + 1}", *flat)
        writer = await restarted(stage, old)
        assert (await writer.save())["reason"] == "takeover"
        await stage.recover(writer)


@pytest.mark.parametrize("damaged", ["full", "delta"])
async def test_a_chain_that_cannot_be_read(server: Server, damaged: str) -> None:
    async with staged(server.client) as (stage, old):
        tamper(server, getattr(KEYS, damaged), flipped)
        writer = await restarted(stage, old)
        assert (await writer.save())["reason"] == "takeover"
        # A new writer asks nobody for help.
        assert server.execute("HGET", KEYS.head, "resync_request") is None
        await stage.recover(writer)
        assert stage.resyncs == {"takeover"}


async def test_a_damaged_full_frame_with_one_before_it(server: Server) -> None:
    async with staged(server.client) as (stage, old):
        await old.save(force_full=True)
        tamper(server, KEYS.full, flipped)
        writer = await restarted(stage, old)
        assert (await writer.save())["reason"] == "handover"
        await stage.recover(writer)
        assert not stage.resyncs


@pytest.mark.parametrize("may_read", [True, False])
async def test_the_rights_of_a_writer(server: Server, may_read: bool) -> None:
    """Without XRANGE it writes as ever, with a resync at its start."""
    rights = (
        "+evalsha +eval +type +hmget +hset +hdel +xadd +xtrim +xlen +xrevrange +del +time +pexpire +persist"
    )
    server.execute(
        *("ACL", "SETUSER", "scanner", "on", ">secret", "resetkeys", "~snapdelta:*", "-@all"),
        *(*rights.split(), "+hello", "+client", "+ping", "+auth", *["+xrange"] * may_read),
    )
    try:
        async with staged(server.client) as (stage, old):
            client = stage.own(client_of(server, username="scanner", password="secret"))
            await old.manager.close()
            writer = await stage.writer("A", client)
            assert (await writer.save())["reason"] == ("handover" if may_read else "takeover")
            await stage.recover(writer)
            assert stage.resyncs == (set() if may_read else {"takeover"})
    finally:
        server.execute("ACL", "DELUSER", "scanner")


@pytest.mark.parametrize("command", START)
async def test_no_answer_at_the_start(server: Server, command: str) -> None:
    """The save fails, nothing was sent, and the next one goes on from the state before."""
    async with Proxy(server.port) as proxy, staged(server.client) as (stage, old):
        await old.manager.close()
        client = stage.own(client_of(proxy, retries=False))
        writer = await stage.writer("A", client, command_timeout=patience(0.3))
        cut = proxy.plan("cut_before", 1, command)
        with pytest.raises(SnapshotUnavailableError):
            await writer.save()
        assert cut.hit.is_set()
        assert (await writer.save())["reason"] == "handover"
        await stage.recover(writer)
        assert not stage.resyncs


@on_one_server
async def test_a_chain_that_is_never_answered(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    """The server is there, but the frames do not come in time: some day the writer goes on without them."""
    async with Proxy(server.port) as proxy, staged(server.client) as (stage, old):
        await old.manager.close()
        writer = await stage.writer("A", stage.own(client_of(proxy, retries=False)))

        async def fails() -> None:
            with pytest.raises(SnapshotUnavailableError):
                await writer.save()

        proxy.plan("cut_before", 1, "XRANGE")
        await fails()
        # The whole server is away: that passes, and does not count.
        await proxy.refuse()
        await proxy.cut()
        for _ in range(4):
            await fails()
        await proxy.accept()
        proxy.plan("cut_before", 1, "XRANGE")
        await fails()
        assert not [record for record in caplog.records if "takes over" in record.message]
        proxy.plan("cut_before", 1, "XRANGE")
        assert (await writer.save())["reason"] == "takeover"
        (warning,) = [record for record in caplog.records if "takes over" in record.message]
        assert (warning.levelname, warning.__dict__["event"]) == ("WARNING", "chain_unread")
        assert (await writer.save())["reason"] is None
        await stage.recover(writer)
        assert stage.resyncs == {"takeover"}


@pytest.mark.serial
@on_one_server
async def test_the_loop_is_held_twice_by_a_handover(server: Server) -> None:
    """The walk is done again from the state that was read; `capture_ms` has both."""
    state = {f"S{number}": {"n": number, "text": str(number)} for number in range(20_000)}
    async with Stage(server.client) as stage:
        client = stage.client()
        first = SnapshotManager(client)
        await first.save_snapshot(state)
        again = [(await first.save_snapshot(state))["capture_ms"] for _ in range(5)]
        await first.close()
        handed = []
        for _ in range(5):
            async with SnapshotManager(client) as manager:
                result = await manager.save_snapshot(state)
                assert result["reason"] == "handover"
                handed.append(result["capture_ms"])
        fresh = []
        for number in range(5):
            async with SnapshotManager(client) as manager:
                fresh.append((await manager.save_snapshot(state, f"new{number}"))["capture_ms"])
        # A third of what another walk costs is more than noise.
        assert median(handed) > median(fresh) + median(again) / 3, (again, handed, fresh)


@pytest.mark.parametrize("kind", ["cut_before", "cut_after", "cut_within"])
async def test_the_first_publish_has_no_answer(server: Server, kind: Any) -> None:
    """Written, the next delta follows it; if not, nobody knows, and the next save takes over."""
    async with Proxy(server.port) as proxy, staged(server.client) as (stage, old):
        await old.manager.close()
        client = stage.own(client_of(proxy, retries=False))
        writer = await stage.writer("A", client)
        proxy.plan(kind, 2, "EVALSHA")
        with pytest.raises(SnapshotUnavailableError):
            await writer.save()
        result = await writer.save()
        assert result["reason"] == ("takeover" if kind == "cut_before" else None)
        await stage.recover(writer)
        assert stage.resyncs == ({"takeover"} if kind == "cut_before" else set())


async def test_a_checkpoint_that_is_due_after_an_outage(server: Server) -> None:
    """It says that the save before it has an unknown outcome, not that Redis went back."""
    async with Proxy(server.port) as proxy, Stage(server.client) as stage:
        client = stage.own(client_of(proxy, retries=False))
        writer = await stage.writer("A", client)
        follower = await stage.follow()
        await writer.saves(2)
        await stage.together()
        proxy.plan("cut_before", 1, "EVALSHA")
        with pytest.raises(SnapshotUnavailableError):
            await writer.save()
        assert (await writer.save(force_full=True))["reason"] == "outcome_unknown"
        assert entries(server, KEYS.full)[-1][1][b"r"] == b"outcome_unknown"
        await stage.recover(writer)
        assert follower.resyncs == ["outcome_unknown"]


async def test_what_is_read_is_the_heads_state(server: Server) -> None:
    async with staged(server.client) as (stage, old):
        store = SnapshotStore(stage.client(), Keys.of("snapdelta:", "default"), 5.0)
        found = await newest_state(store)
        assert isinstance(found, Decoder)
        assert found.snapshot() == old.market.state(old.market.saved)
        server.execute("HSET", KEYS.head, "digest", "0" * 16)
        assert await newest_state(store) is None
        server.execute("DEL", *KEYS)
        assert await newest_state(store) is None


# --- the faults of servers and keys, with a restart behind them


@pytest.mark.parametrize("lost", LOST, ids="-".join)
async def test_a_writer_restarts_where_keys_were_lost(server: Server, lost: tuple[str, ...]) -> None:
    async with staged(server.client, followers=2) as (stage, old):
        server.execute("DEL", *(getattr(KEYS, part) for part in lost))
        stage.oracle.may_go_back = True
        writer = await restarted(stage, old)
        await writer.save()
        assert not (await writer.save())["reason"]
        await stage.recover(writer)


@pytest.mark.parametrize("empty", [False, True], ids=["with-data", "empty"])
async def test_server_and_writer_restart(empty: bool, fresh_server: Callable[..., Server]) -> None:
    server = fresh_server(persist=True)
    async with staged(server.client, followers=2) as (stage, old):
        # While the disk is busy, Redis answers before it has written.
        await until(lambda: not server.execute("INFO", "persistence")["aof_buffer_length"])
        server.restart(empty=empty)
        writer = await restarted(stage, old)
        first, second = await stage.recover(writer)
        assert (first["reason"], second["reason"]) == ("first" if empty else "handover", None)
        assert stage.resyncs == ({"first"} if empty else set())


@pytest.mark.parametrize("refusal", ["memory", "replica"])
async def test_a_first_publish_that_is_refused(server: Server, refusal: str) -> None:
    async with Proxy(server.port) as proxy, staged(server.client) as (stage, old):
        await old.manager.close()
        writer = await stage.writer("A", stage.own(client_of(proxy)), command_timeout=120.0)
        held = proxy.plan("hold", 2, "EVALSHA")
        saving = asyncio.create_task(writer.save())
        await held.hit.wait()
        try:
            if refusal == "memory":
                server.config_set("maxmemory", 1)
            else:
                server.execute("REPLICAOF", "127.0.0.1", 1)
            held.deliver()
            with pytest.raises((SnapshotMemoryError, SnapshotReadOnlyError)):
                await saving
        finally:
            server.config_set("maxmemory", 0)
            server.execute("REPLICAOF", "NO", "ONE")
        if refusal == "memory":
            # Nothing was written, and that is known.
            assert (await writer.save())["reason"] == "handover"
        await stage.recover(writer)
        assert stage.resyncs <= (set() if refusal == "memory" else {"takeover"})


# --- many


async def _many_restarts(server: Server, restarts: int, *, seed: int) -> None:
    """Under a follower and a late reader; some end between claim and first publish."""
    rng = random.Random(seed)
    reasons: list[str | None] = []
    killed = 0
    async with staged(server.client, history_frames=10_000, history_bytes=10**9) as (stage, writer):
        late: FollowedReader | None = None
        for number in range(restarts):
            await writer.manager.close()
            if rng.random() < 0.3:
                killed += await _ends_before_its_first_publish(server, stage)
            writer = await stage.writer("A")
            results = await writer.saves(rng.randrange(1, 5))
            reasons += [result["reason"] for result in results]
            if number == restarts // 2:
                late = await stage.follow()
            if rng.random() < 0.2:
                await stage.join()
            if rng.random() < 0.5:
                await stage.together()
        await stage.recover(writer)
        assert late is not None
        assert killed >= 1
        assert reasons.count("handover") == restarts
        assert set(reasons) == {None, "handover"}
        with sync_redis.Redis(port=server.port) as client:
            fulls: list[Any] = client.xrange(KEYS.full)
            deltas: list[Any] = client.xrange(KEYS.delta)
        # No full frame but the first one and those beside bridges, as far as they are kept.
        bridges = {at for at, fields in deltas if b"b" in fields}
        assert {at for at, fields in fulls if fields[b"r"] != b"first"} <= bridges
        assert not stage.resyncs
        # None was missed.
        first, *_ = stage.followers
        seen = [each.mark[1] for each in first.seen]
        assert seen == list(range(seen[0], writer.market.saved + 1))


async def _ends_before_its_first_publish(server: Server, stage: Stage) -> bool:
    """A writer whose publish never comes to the server."""
    async with Proxy(server.port) as proxy:
        held = proxy.plan("hold", 2, "EVALSHA")
        writer = await stage.writer("ended", stage.own(client_of(proxy, retries=False)))
        saving = asyncio.create_task(writer.save())
        await held.hit.wait()
        held.drop()
        with pytest.raises(SnapshotUnavailableError):
            await saving
        await writer.manager.close()
        return True


@on_one_server
async def test_restarts_under_readers(server: Server) -> None:
    await _many_restarts(server, 10, seed=1)


@pytest.mark.long
async def test_a_hundred_restarts_under_readers(server: Server) -> None:
    await _many_restarts(server, 100, seed=2)
