"""Writers that die, wake up too late, repeat themselves or are not sure: a save is written once or never."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest

from snapdelta.errors import SnapshotError, SnapshotUnavailableError, WriterSupersededError
from support.documents import TESTS
from support.market import Market
from support.proxy import Kind, Proxy
from support.servers import Server, on_one_server, patience
from support.snapshot_harness import LIMIT, Stage, Writer, client_of, keys_of, staged

# Set-up of a connection, claim, and the first saves: the commands of a new writer, and some more.
COMMANDS = range(1, 11)


# --- a process that is killed


class WriterProcess:
    """A writer in a process of its own, whose outcomes go to the oracle as they come."""

    def __init__(self, process: asyncio.subprocess.Process, stage: Stage, name: str) -> None:
        self._process = process
        self._stage = stage
        self._name = name
        self.outcomes: list[dict[str, Any]] = []
        self.reading = asyncio.create_task(self._read(), name="outcomes")

    async def kill(self) -> None:
        """SIGKILL; what it said before is known afterwards."""
        if self._process.returncode is None:
            self._process.kill()
        await self._process.wait()
        await self.reading

    async def saves(self, count: int) -> None:
        async with asyncio.timeout(LIMIT):
            while len(self.outcomes) < count:
                assert not self.reading.done(), "the writer's process ended"
                await asyncio.sleep(0.005)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            outcome = json.loads(line)
            if "result" in outcome:
                self._stage.oracle.saved(outcome["result"], (self._name, outcome["n"]))
            elif outcome["error"] == "WriterSupersededError":
                self._stage.oracle.refused(self._name, outcome["n"])
            self.outcomes.append(outcome)


@asynccontextmanager
async def writing(
    stage: Stage, port: int, name: str, *, between: float = 0.0
) -> AsyncIterator[WriterProcess]:
    """A process that saves without end."""
    stage.oracle.markets[name] = Market(name)
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "support.writer_process"),
        *(str(port), name, "1000000", str(between)),
        cwd=TESTS,
        stdout=asyncio.subprocess.PIPE,
    )
    writer = WriterProcess(process, stage, name)
    try:
        yield writer
    finally:
        await writer.kill()


@on_one_server
@pytest.mark.parametrize("nth", COMMANDS)
@pytest.mark.parametrize(
    "fate",
    [*(pytest.param(fate, marks=pytest.mark.long) for fate in ("lost", "late")), "very-late", "answered"],
)
async def test_a_writer_is_killed_between_two_commands(server: Server, nth: int, fate: str) -> None:
    """With its nth command on the way: lost, there before or after the next writer's first save, or carried
    out and not answered."""
    async with Proxy(server.port) as proxy, Stage(server.client) as stage:
        follower = await stage.follow()
        fault = proxy.plan("swallow" if fate == "answered" else "hold", nth)
        async with writing(stage, proxy.port, "A") as process:
            async with asyncio.timeout(LIMIT):
                await (fault.done if fate == "answered" else fault.hit).wait()
            await process.kill()
        next_writer = await stage.writer("B")
        if fate == "late":
            fault.deliver()
            await fault.done.wait()
        await next_writer.save()
        if fate == "very-late":
            fault.deliver()
            await fault.done.wait()
        await stage.recover(next_writer)
        assert set(follower.resyncs) <= {"takeover", "first"}


@on_one_server
async def test_a_writer_is_killed_again_and_again(server: Server) -> None:
    """Each one at another moment of its work, and the next one goes on; no reader starts again."""
    async with Stage(server.client) as stage:
        for _ in range(2):
            await stage.follow()
        for life in range(6):
            async with writing(stage, server.port, f"W{life}", between=0.002) as process:
                await process.saves(5 + 3 * life)
            assert all("result" in outcome for outcome in process.outcomes)
        await stage.recover(await stage.writer("last"))
        for follower in stage.followers:
            assert not follower.resyncs


async def test_an_old_process_is_told_that_it_is_superseded(server: Server) -> None:
    async with Stage(server.client) as stage:
        await stage.follow()
        async with writing(stage, server.port, "A", between=0.002) as process:
            await process.saves(5)
            writer = await stage.writer("B")
            await writer.save()
            known = len(process.outcomes)
            await process.saves(known + 3)
            await stage.recover(writer)
            await process.kill()
        assert process.outcomes[-1] == {"n": len(process.outcomes), "error": "WriterSupersededError"}


# --- connections that are cut


@on_one_server
@pytest.mark.parametrize("retries", [True, False], ids=["retries", "no-retries"])
@pytest.mark.parametrize("kind", ["cut_before", "cut_after", "cut_within"])
async def test_the_connection_is_cut_at_every_command(server: Server, kind: Kind, retries: bool) -> None:
    for nth in COMMANDS:
        server.execute("FLUSHALL")
        async with Proxy(server.port) as proxy, Stage(server.client) as stage:
            follower = await stage.follow()
            fault = proxy.plan(kind, nth)
            client = stage.own(client_of(proxy, retries=retries))
            writer = await stage.writer(client=client)
            failed = await _saves_of(writer, 8)
            assert fault.done.is_set()
            # A client that repeats itself hides the fault; the head tells that from a second save.
            assert not (retries and failed), failed
            await stage.recover(writer)
            if retries or kind == "cut_after":
                # What was written and not confirmed is followed by a delta.
                assert not follower.resyncs
            assert set(follower.resyncs) <= {"outcome_unknown"}


@pytest.mark.parametrize("nth", [1, 2, 3, 4])
async def test_replies_are_swallowed(server: Server, nth: int) -> None:
    async with Proxy(server.port) as proxy, Stage(server.client, command_timeout=patience(0.2)) as stage:
        follower = await stage.follow()
        fault = proxy.plan("swallow", nth, "EVALSHA")
        client = stage.own(client_of(proxy))
        writer = await stage.writer(client=client)
        failed = await _saves_of(writer, 6)
        assert fault.done.is_set()
        assert [type(error) for error in failed] == [SnapshotUnavailableError]
        await stage.recover(writer)
        assert set(follower.resyncs) <= {"outcome_unknown"}


async def test_connections_are_refused_for_a_time(server: Server) -> None:
    async with Proxy(server.port) as proxy, Stage(server.client, command_timeout=patience(0.3)) as stage:
        client, reading = stage.own(client_of(proxy)), stage.own(client_of(proxy))
        writer = await stage.writer(client=client)
        follower = await stage.follow(reading)
        await writer.saves(3)
        await stage.together()
        await proxy.refuse()
        await proxy.cut()
        for _ in range(3):
            with pytest.raises(SnapshotUnavailableError):
                await writer.save()
        await proxy.accept()
        await stage.recover(writer)
        assert follower.resyncs == ["outcome_unknown"]


@on_one_server
@pytest.mark.parametrize("kind", ["cut_before", "cut_after", "cut_within", "swallow"])
async def test_a_readers_connection_is_cut_at_every_command(server: Server, kind: Kind) -> None:
    """Nothing is lost, so nobody starts again."""
    async with staged(server.client) as (stage, writer):
        for nth in range(1, 13):
            async with Proxy(server.port) as proxy:
                client = stage.own(client_of(proxy, retries=False, socket_timeout=patience(0.3)))
                fault = proxy.plan(kind, nth)
                reader = stage.reader(client)
                follower = await stage.follow(client)
                async with asyncio.timeout(LIMIT):
                    while not fault.done.is_set():
                        await writer.save()
                        await asyncio.sleep(0.005)
                await stage.recover(writer)
                assert not follower.resyncs
                latest = await reader.latest()
                assert latest is not None
                assert (latest.epoch, latest.sequence) == stage.oracle.newest
                stage.followers.remove(follower)
                await follower.stop()


# --- commands that come late


@pytest.mark.parametrize("before_the_next", [True, False])
@pytest.mark.parametrize("nth", [2, 3, 4])
async def test_a_save_arrives_after_its_writer_has_given_up(
    server: Server, nth: int, before_the_next: bool
) -> None:
    async with Proxy(server.port) as proxy, Stage(server.client, command_timeout=patience(0.3)) as stage:
        follower = await stage.follow()
        client = stage.own(client_of(proxy, retries=False))
        writer = await stage.writer(client=client)
        held = proxy.plan("hold", nth, "EVALSHA")
        failed = await _saves_of(writer, nth - 1)
        assert [type(error) for error in failed] == [SnapshotUnavailableError]
        if before_the_next:
            held.deliver()
            await held.done.wait()
            assert (await writer.save())["type"] == "delta"
        else:
            await writer.save()
            held.deliver()
            await held.done.wait()
            assert b"SUPERSEDED" in held.reply
        await stage.recover(writer)
        assert not before_the_next or not follower.resyncs


async def test_an_old_writers_save_arrives_after_a_takeover(server: Server) -> None:
    async with Proxy(server.port) as proxy, Stage(server.client) as stage:
        client = stage.own(client_of(proxy, retries=False))
        old = await stage.writer("A", client, command_timeout=LIMIT)
        await stage.follow()
        await old.saves(3)
        held = proxy.plan("hold", 1, "EVALSHA")
        saving = asyncio.create_task(old.save())
        await held.hit.wait()
        new = await stage.writer("B")
        assert (await new.save())["reason"] == "handover"
        held.deliver()
        with pytest.raises(WriterSupersededError, match="default"):
            await saving
        await stage.recover(new)
        # For good: it does not come back when the new one ends.
        await new.manager.close()
        with pytest.raises(WriterSupersededError):
            await old.save()
        assert not stage.resyncs


async def test_an_old_writer_wakes_up(server: Server) -> None:
    async with staged(server.client, followers=2) as (stage, old):
        new = await stage.writer("B")
        await new.saves(3)
        for _ in range(3):
            with pytest.raises(WriterSupersededError, match="default"):
                await old.save()
            await stage.recover(new)
        for follower in stage.followers:
            assert not follower.resyncs


async def test_an_old_writer_wakes_up_on_a_server_that_lost_everything(server: Server) -> None:
    """It cannot know that there was a later one: whoever comes first has it, and the later one wins."""
    async with staged(server.client) as (stage, old):
        new = await stage.writer("B")
        await new.saves(3)
        server.execute("FLUSHALL")
        stage.oracle.may_go_back = True
        with suppress(WriterSupersededError):
            await old.save()
        await stage.recover(new)
        with pytest.raises(WriterSupersededError):
            await old.save()


async def test_an_old_writer_wakes_up_where_only_the_head_was_lost(server: Server) -> None:
    """The streams' newest entries tell that there was a later one."""
    async with staged(server.client, followers=2) as (stage, old):
        new = await stage.writer("B")
        await new.saves(3)
        server.execute("DEL", keys_of().head)
        with pytest.raises(WriterSupersededError, match="default"):
            await old.save()
        assert (await new.save())["reason"] == "head_lost"
        await stage.recover(new)
        assert stage.resyncs == {"head_lost"}


async def test_the_head_names_another_writer(server: Server) -> None:
    """Of the same epoch, as no two can be; whoever is not in the head is not the one."""
    async with staged(server.client) as (stage, writer):
        server.execute("HSET", keys_of().head, "writer", "f" * 32)
        with pytest.raises(WriterSupersededError, match="default"):
            await writer.save()
        await stage.recover(await stage.writer("B"))


async def test_a_save_that_was_refused_comes_back_unseen(server: Server) -> None:
    """A restart held back, and delivered when a later save is there: it is not one more restart."""
    async with Proxy(server.port) as proxy, Stage(server.client, command_timeout=patience(0.3)) as stage:
        client = stage.own(client_of(proxy, retries=False))
        writer = await stage.writer(client=client)
        follower = await stage.follow()
        await writer.saves(2)
        await stage.together()
        server.execute("DEL", *keys_of())
        # NEEDFULL, and then the full frame.
        held = proxy.plan("hold", 2, "EVALSHA")
        with pytest.raises(SnapshotUnavailableError):
            await writer.save()
        assert (await writer.save())["reason"] == "head_lost"
        await writer.save()
        held.deliver()
        await held.done.wait()
        assert b"SUPERSEDED" in held.reply
        await stage.recover(writer)
        assert follower.resyncs == ["head_lost"]


async def test_writers_that_start_together(server: Server) -> None:
    """Each has an epoch of its own; the one with the highest remains, and every other is told."""
    async with staged(server.client, followers=2) as (stage, old):
        writers = [await stage.writer(f"W{n}") for n in range(8)]
        outcomes = await asyncio.gather(*(_until_superseded(writer, 20) for writer in [old, *writers]))
        rightful = [writer for writer, done in zip([old, *writers], outcomes, strict=True) if done]
        assert len(rightful) == 1
        await stage.recover(rightful[0])
        for writer in [old, *writers]:
            if writer is not rightful[0]:
                with pytest.raises(WriterSupersededError):
                    await writer.save()
        assert stage.resyncs <= {"takeover"}


async def _until_superseded(writer: Writer, saves: int) -> bool:
    """Whether all saves succeeded."""
    for _ in range(saves):
        try:
            await writer.save()
        except WriterSupersededError:
            return False
    return True


async def _saves_of(writer: Writer, count: int) -> list[SnapshotError]:
    """Save so many times; the errors."""
    failed: list[SnapshotError] = []
    for _ in range(count):
        try:
            await writer.save()
        except SnapshotUnavailableError as error:
            failed.append(error)
    return failed
