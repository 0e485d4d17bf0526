"""Damaged, newer and foreign entries, and clocks that jump: readers yield what was saved, or nothing."""

from __future__ import annotations

import asyncio

import pytest

from snapdelta.errors import SnapshotDamagedError, UnsupportedVersionError, WriterSupersededError
from support.corruption import DAMAGE, entries, tamper
from support.frames import at_version
from support.proxy import Proxy
from support.servers import Server, on_one_server
from support.snapshot_harness import LIMIT, FollowedReader, Stage, client_of, keys_of, staged
from support.stream_harness import until

KEYS = keys_of()
# Of entries that count, and of a head that does.
LARGEST_EPOCH = 10**14
LARGEST_CLAIM = 2 * LARGEST_EPOCH


# --- entries that are damaged


@on_one_server
@pytest.mark.parametrize("how", DAMAGE)
async def test_a_damaged_delta_under_a_follower_and_a_late_reader(server: Server, how: str) -> None:
    async with staged(server.client) as (stage, writer):
        (follower,) = stage.followers
        await _pause(stage, follower)
        await writer.saves(3)
        tamper(server, KEYS.delta, DAMAGE[how], behind=2)
        with pytest.raises(SnapshotDamagedError, match="default"):
            await stage.reader().latest()
        follower.resume()
        # Whoever finds it asks for a full frame.
        await until(lambda: server.execute("HGET", KEYS.head, "resync_request") is not None)
        results = await stage.recover(writer)
        assert "requested" in [result["reason"] for result in results]
        assert len(follower.resyncs) == 1
        assert follower.resyncs[0] in ("damaged", "gap", "requested")


@on_one_server
@pytest.mark.parametrize("how", DAMAGE)
async def test_a_damaged_checkpoint_costs_nobody_anything(server: Server, how: str) -> None:
    """Who comes late starts from the full frame before; who follows does not read it."""
    async with staged(server.client) as (stage, writer):
        assert (await writer.save(force_full=True))["reason"] == "forced"
        await writer.saves(2)
        await stage.together()
        tamper(server, KEYS.full, DAMAGE[how])
        await stage.join()
        await stage.recover(writer)
        assert not stage.resyncs


@on_one_server
@pytest.mark.parametrize("how", DAMAGE)
async def test_the_only_full_frame_is_damaged(server: Server, how: str) -> None:
    async with staged(server.client) as (stage, writer):
        tamper(server, KEYS.full, DAMAGE[how])
        if how == "gone":
            # The stream is, too, and the writer sees that by itself.
            await stage.nobody_is_misled()
        else:
            with pytest.raises(SnapshotDamagedError, match="default"):
                await stage.reader().latest()
            assert server.execute("HGET", KEYS.head, "resync_request") is not None
        results = await stage.recover(writer)
        assert {result["reason"] for result in results} & {"requested", "stream_lost"}
        assert stage.resyncs <= {"stream_lost"}


async def test_damage_again_and_again_makes_few_full_frames(server: Server) -> None:
    """A reader's request is granted at most once in ten saves."""
    async with staged(server.client) as (stage, writer):
        results = []
        for _ in range(40):
            server.execute("HSET", KEYS.head, "resync_request", "1-1")
            results.append(await writer.save())
        assert 2 <= [result["reason"] for result in results].count("requested") <= 4
        await stage.recover(writer)
        assert not stage.resyncs


async def test_two_entries_swap_their_frames(server: Server) -> None:
    async with staged(server.client) as (stage, writer):
        (follower,) = stage.followers
        await _pause(stage, follower)
        await writer.saves(4)
        frames = [fields[b"f"] for _, fields in entries(server, KEYS.delta)[-3:-1]]
        tamper(server, KEYS.delta, lambda fields: {**fields, b"f": frames[1]}, behind=3)
        tamper(server, KEYS.delta, lambda fields: {**fields, b"f": frames[0]}, behind=2)
        follower.resume()
        await until(lambda: server.execute("HGET", KEYS.head, "resync_request") is not None)
        await stage.recover(writer)
        assert len(follower.resyncs) == 1


async def test_frames_of_another_name(server: Server) -> None:
    """Whole and undamaged, but not this name's."""
    async with (
        staged(server.client) as (stage, writer),
        staged(server.client, name="other") as (_, other),
    ):
        (follower,) = stage.followers
        await _pause(stage, follower)
        await writer.saves(2)
        await other.saves(2)
        stranger = entries(server, keys_of("other").delta)[-1][1]
        tamper(server, KEYS.delta, lambda fields: stranger)
        follower.resume()
        await until(lambda: server.execute("HGET", KEYS.head, "resync_request") is not None)
        await stage.recover(writer)
        assert len(follower.resyncs) == 1


# --- a newer format, a newer layout


@pytest.mark.parametrize("part", ["full", "delta"])
async def test_a_frame_of_a_newer_format(server: Server, part: str) -> None:
    async with staged(server.client) as (stage, writer):
        (follower,) = stage.followers
        await _pause(stage, follower)
        await writer.saves(2)
        if part == "full":
            await writer.save(force_full=True)
        tamper(server, getattr(KEYS, part), lambda fields: {**fields, b"f": at_version(fields[b"f"], 2)})
        with pytest.raises(UnsupportedVersionError, match=r"default.*upgrade snapdelta-rs"):
            await stage.reader().latest()
        follower.resume()
        if part == "delta":
            assert isinstance(await follower.fails(), UnsupportedVersionError)
            stage.followers.clear()
        else:
            await stage.recover(writer, late=False)
        # The writer of the newer format is replaced by one of ours.
        other = await stage.writer("B")
        await other.save()
        await stage.follow()
        await stage.recover(other)


async def test_a_head_of_a_newer_layout(server: Server) -> None:
    async with staged(server.client) as (stage, writer):
        follower = stage.followers.pop()
        server.execute("HSET", KEYS.head, "layout", 2)
        before = entries(server, KEYS.full), entries(server, KEYS.delta)
        for each in (writer, await stage.writer("B")):
            with pytest.raises(UnsupportedVersionError, match="layout 2"):
                await each.save()
        assert (entries(server, KEYS.full), entries(server, KEYS.delta)) == before
        with pytest.raises(UnsupportedVersionError, match="upgrade snapdelta-rs"):
            await stage.reader().latest()
        assert isinstance(await follower.fails(), UnsupportedVersionError)
        server.execute("HSET", KEYS.head, "layout", 1)
        await stage.follow()
        await stage.recover(writer)


# --- entries that no writer made

HIGHEST = 2**64 - 1


@pytest.mark.parametrize("entry_id", ["*", f"{LARGEST_EPOCH}-1", f"{HIGHEST}-5", f"{HIGHEST}-{HIGHEST}"])
@pytest.mark.parametrize("part", ["full", "delta"])
async def test_an_entry_that_no_writer_made(server: Server, part: str, entry_id: str) -> None:
    async with staged(server.client, followers=2) as (stage, writer):
        server.execute("XADD", getattr(KEYS, part), entry_id, "event", "not ours")
        await stage.nobody_is_misled()
        await stage.recover(writer)
        await writer.save(force_full=True)
        for key in (KEYS.full, KEYS.delta):
            assert entries(server, key)[-1][1].keys() >= {b"t", b"d"}
        await stage.together()
        await stage.join()
        assert stage.resyncs <= {"foreign_entry", "damaged", "gap", "head"}
        # And under a new writer.
        server.execute("DEL", getattr(KEYS, part))
        server.execute("XADD", getattr(KEYS, part), entry_id, "event", "not ours")
        await stage.recover(await stage.writer("B"))


@pytest.mark.parametrize("part", ["full", "delta"])
async def test_foreign_entries_between_ours(server: Server, part: str) -> None:
    """Somebody appends to our stream for as long as it goes; each save makes its way."""
    async with staged(server.client, followers=2) as (stage, writer):
        for _ in range(30):
            server.execute("XADD", getattr(KEYS, part), "*", "event", "not ours")
            await writer.save()
        await stage.recover(writer)
        assert server.execute("XLEN", KEYS.full) < 40


@pytest.mark.parametrize("entry_id", ["*", f"{LARGEST_EPOCH - 1}-1"])
@pytest.mark.parametrize("count", [1, 100])
async def test_foreign_entries_are_nobodys_later_writer(server: Server, entry_id: str, count: int) -> None:
    """Not even where the head is lost, and only the streams tell of a later one."""
    async with staged(server.client) as (stage, writer):
        for key in (KEYS.full, KEYS.delta):
            for number in range(count):
                at = entry_id if entry_id == "*" else f"{entry_id}{number:03}"
                server.execute("XADD", key, at, "event", "not ours")
        server.execute("DEL", KEYS.head)
        assert (await writer.save())["reason"] in ("head_lost", "foreign_entry")
        await stage.recover(writer)
        other = await stage.writer("B")
        assert (await other.save())["epoch"] < _now_ms(server) + 3_600_000
        await stage.recover(other)


async def test_a_stream_without_a_head_before_the_first_save(server: Server) -> None:
    """Only foreign entries: nothing to read, and a writer makes its way."""
    for key in (KEYS.full, KEYS.delta):
        server.execute("XADD", key, "*", "event", "not ours")
    async with Stage(server.client) as stage:
        assert await stage.reader().latest() is None
        follower = await stage.follow()
        await stage.recover(await stage.writer())
        assert not follower.resyncs


# --- clocks


def _now_ms(server: Server) -> int:
    return int(server.execute("TIME")[0] * 1000)


async def test_the_clock_goes_back_by_less_than_an_hour(server: Server) -> None:
    """Times stand still until it has caught up."""
    async with staged(server.client, followers=2) as (stage, writer):
        ahead = _now_ms(server) + 1_800_000
        server.execute("HSET", KEYS.head, "time", ahead)
        results = await stage.recover(writer)
        assert [result["type"] for result in results] == ["delta", "delta"]
        assert not stage.resyncs
        times = [int(fields[b"t"]) for _, fields in entries(server, KEYS.delta)]
        assert times == sorted(times)
        assert times[-1] == ahead


async def test_the_clock_goes_back_by_more_than_an_hour(server: Server) -> None:
    async with staged(server.client, followers=2) as (stage, writer):
        server.execute("HSET", KEYS.head, "time", _now_ms(server) + 7_200_000)
        first, second = await stage.recover(writer)
        assert (first["reason"], second["type"]) == ("clock", "delta")
        assert stage.resyncs == {"clock"}
        assert int(server.execute("HGET", KEYS.head, "time")) < _now_ms(server) + 60_000


@pytest.mark.parametrize(
    "claim", [LARGEST_EPOCH - 10**13, LARGEST_EPOCH - 1, LARGEST_EPOCH, LARGEST_CLAIM - 10]
)
async def test_claims_of_the_future(server: Server, claim: int) -> None:
    """Each writer takes one more, also where the one before it has published nothing."""
    async with staged(server.client) as (stage, _), Proxy(server.port) as proxy:
        server.execute("HSET", KEYS.head, "claim", claim)
        client = stage.own(client_of(proxy))
        claims = proxy.plan("hold", 2, "EVALSHA")
        other = await stage.writer("B", client, command_timeout=LIMIT)
        saving = asyncio.create_task(other.save())
        await claims.hit.wait()
        writer = await stage.writer("C")
        assert (await writer.save())["epoch"] == claim + 2
        claims.deliver()
        with pytest.raises(WriterSupersededError):
            await saving
        await stage.recover(writer)
        assert not stage.resyncs


@pytest.mark.parametrize("claim", [LARGEST_CLAIM, 10**18, HIGHEST, -5, "x", "inf", "nan", ""])
async def test_claims_of_nobody(server: Server, claim: int | str) -> None:
    async with staged(server.client) as (stage, _):
        server.execute("HSET", KEYS.head, "claim", claim)
        for name in ("B", "C"):
            writer = await stage.writer(name)
            result = await writer.save()
            assert result["reason"] == "handover"
            assert result["epoch"] < _now_ms(server) + 3_600_000
            await stage.recover(writer)
        assert not stage.resyncs


async def test_a_new_writer_of_a_server_whose_clock_went_back(server: Server) -> None:
    """The head's epoch lies in the future."""
    server.execute("HSET", KEYS.head, "layout", 1, "claim", _now_ms(server) + 10**10)
    async with staged(server.client, followers=2) as (stage, old):
        new, before = await stage.writer("B"), stage.followers[0].last[0]
        assert (await new.save())["epoch"] > before
        with pytest.raises(WriterSupersededError):
            await old.save()
        await stage.recover(new)
        assert not stage.resyncs


@pytest.mark.parametrize("part", ["head", "all"])
async def test_everything_is_lost_and_the_clock_went_back(server: Server, part: str) -> None:
    """Ids begin lower than where the readers are: they find out by the head."""
    server.execute("HSET", KEYS.head, "layout", 1, "claim", _now_ms(server) + 10**10)
    async with staged(server.client, followers=2) as (stage, _):
        server.execute("DEL", *(KEYS if part == "all" else (KEYS.head,)))
        stage.oracle.may_go_back = True
        await stage.recover(await stage.writer("B"))
        for follower in stage.followers:
            assert len(follower.resyncs) == 1


async def test_a_head_that_nobody_made(server: Server) -> None:
    """With an epoch beyond all that a writer takes."""
    async with staged(server.client) as (stage, _):
        server.execute("HSET", KEYS.head, "epoch", LARGEST_EPOCH * 10)
        await stage.nobody_is_misled()
        await stage.recover(await stage.writer("B"))


async def _pause(stage: Stage, follower: FollowedReader) -> None:
    """Let it take one more, and then none until it is resumed."""
    follower.pause()
    await stage.together()


@pytest.mark.parametrize("count", [1, 2, 20])
async def test_a_follower_reads_what_is_nobodys_only_a_few_times(server: Server, count: int) -> None:
    async with staged(server.client) as (stage, writer):
        for number in range(count):
            server.execute("XADD", KEYS.delta, f"{LARGEST_EPOCH}-{number}", "not", "ours")
        before = _reads(server)
        await asyncio.sleep(1.0)
        # Each entry by itself at most, and one read after another that finds nothing.
        assert _reads(server) - before <= 2 * count + 10
        await stage.recover(writer)


def _reads(server: Server) -> int:
    """XREADs that the server has answered."""
    return int(server.execute("INFO", "commandstats").get("cmdstat_xread", {"calls": 0})["calls"])
