"""Cancelled at every await, and closed at any moment: nothing is half done, and nothing runs on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import suppress
from typing import Any

import pytest

from snapdelta.errors import SnapshotBusyError, SnapshotClosedError, SnapshotError
from snapdelta.snapshot_manager import SnapshotManager
from support.market import Market
from support.proxy import Proxy
from support.servers import Server, on_one_server, patience
from support.snapshot_harness import CancelAt, Stage, check_symbols, client_of, keys_of, staged
from support.stream_harness import until

# More suspensions than anything here has.
ENOUGH = 300


@pytest.fixture
async def in_task() -> AsyncIterator[Callable[[str, int], list[CancelAt]]]:
    """`in_task(name, nth)`: the next task whose name begins so is cancelled at its nth suspension."""
    loop = asyncio.get_running_loop()
    planned: list[tuple[str, int]] = []
    driven: list[CancelAt] = []

    async def drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
        task = asyncio.current_task()
        assert task is not None
        if not planned or not task.get_name().startswith(planned[0][0]):
            return await coroutine
        cancelled = CancelAt(coroutine, planned.pop()[1])
        driven.append(cancelled)
        return await cancelled

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        # What is cancelled before its first step never gets to the coroutine that it drives.
        return asyncio.Task(drive(coroutine) if planned else coroutine, loop=loop, **options)

    def plan(name: str, nth: int) -> list[CancelAt]:
        planned[:] = [(name, nth)]
        driven.clear()
        return driven

    loop.set_task_factory(make)
    yield plan
    loop.set_task_factory(None)


# --- the one who calls


@pytest.mark.parametrize("first", [True, False], ids=["first-save", "later-save"])
async def test_a_save_is_cancelled_at_every_await(server: Server, first: bool) -> None:
    """It may become visible or not; if so, as what it is, and the next delta follows it."""
    nth = 0
    async with Stage(server.client) as stage:
        await stage.follow()
        writer = await stage.writer()
        while True:
            nth += 1
            assert nth < ENOUGH
            if first:
                writer = await stage.writer()
            saving = CancelAt(writer.save(), nth)
            try:
                await saving
            except asyncio.CancelledError:
                _uncancel()
            if saving.suspensions < nth:
                break
            await stage.recover(writer)
        assert nth > 1
        assert stage.resyncs <= ({"takeover", "outcome_unknown"} if first else set())


@pytest.mark.parametrize("first", [True, False], ids=["first-save", "later-save"])
async def test_the_saving_task_is_cancelled_at_every_await(
    server: Server, first: bool, in_task: Callable[[str, int], list[CancelAt]]
) -> None:
    """Only a loop that shuts down does that; the manager stays of use all the same."""
    nth = 0
    async with Stage(server.client) as stage:
        await stage.follow()
        writer = await stage.writer()
        while True:
            nth += 1
            assert nth < ENOUGH
            if first:
                writer = await stage.writer()
            driven = in_task("snapdelta-save-default", nth)
            with suppress(asyncio.CancelledError, SnapshotError):
                await writer.save()
            assert len(driven) == 1
            if driven[0].suspensions < nth:
                break
            await stage.recover(writer)
        assert nth > 2
        assert stage.resyncs <= {"takeover", "outcome_unknown"}


@on_one_server
async def test_a_save_is_ended_while_its_frame_is_made(server: Server) -> None:
    """The thread cannot be stopped, and the next save does not wait for it."""
    async with Stage(server.client, level=22) as stage:
        market = stage.oracle.markets["big"] = Market("big", symbols=10_000)
        # Made before, so that the second save comes while the first frame is being made.
        market.state(10)
        writer = await stage.writer("big")
        await writer.save()
        follower = await stage.follow()
        saving = asyncio.create_task(writer.save(force_full=True))
        await until(lambda: bool(_tasks_of("snapdelta-save-")))
        for task in _tasks_of("snapdelta-save-"):
            task.cancel()
        await asyncio.gather(saving, return_exceptions=True)
        await writer.save()
        await stage.recover(writer)
        assert set(follower.resyncs) <= {"outcome_unknown", "head_behind"}


async def test_latest_is_cancelled_at_every_await(server: Server) -> None:
    async with staged(server.client) as (stage, writer):
        nth = 0
        while True:
            nth += 1
            assert nth < ENOUGH
            # A new client: connecting has awaits of its own.
            reader = stage.reader()
            reading = CancelAt(reader.latest(), nth)
            try:
                await reading
            except asyncio.CancelledError:
                _uncancel()
            latest = await reader.latest()
            assert latest is not None
            stage.oracle.check(latest)
            assert (latest.epoch, latest.sequence) == stage.oracle.newest
            if reading.suspensions < nth:
                break
        assert nth > 3
        await stage.recover(writer)
        assert not stage.resyncs


async def test_the_start_of_following_is_cancelled_at_every_await(server: Server) -> None:
    """The next wait goes on, and has the newest state."""
    async with staged(server.client) as (stage, writer):
        nth = 0
        while True:
            nth += 1
            assert nth < ENOUGH
            # A new client: connecting has awaits of its own.
            updates = stage.reader().follow()
            reading = CancelAt(anext(updates), nth)
            try:
                update = await reading
            except asyncio.CancelledError:
                _uncancel()
                update = await anext(updates)
            stage.oracle.check(update)
            assert (update.epoch, update.sequence, update.reason) == (*stage.oracle.newest, "start")
            if reading.suspensions < nth:
                break
        assert nth > 1
        await stage.recover(writer)
        await _no_more_connections_than(server, nth + 10)


async def test_the_following_task_is_cancelled_at_every_await(
    server: Server, in_task: Callable[[str, int], list[CancelAt]]
) -> None:
    """Only a loop that shuts down does that; who follows is served by the next one all the same."""
    async with staged(server.client, followers=0) as (stage, writer):
        nth = 0
        while True:
            nth += 1
            assert nth < ENOUGH
            driven = in_task("snapdelta-follow-default", nth)
            follower = await stage.follow()
            await stage.together()
            await writer.save()
            await stage.together()
            assert not follower.resyncs
            stage.followers.remove(follower)
            await follower.stop()
            await until(lambda: not _tasks_of("snapdelta-follow-"))
            if driven[0].suspensions < nth:
                break
        assert nth > 10
        await stage.recover(writer)


@pytest.mark.parametrize("waits", [True, False], ids=["before-the-save", "after-the-save"])
async def test_a_wait_for_the_next_update_is_cancelled_at_every_await(server: Server, waits: bool) -> None:
    """No update is lost, none comes twice, and nobody starts again."""
    async with staged(server.client) as (stage, writer):
        updates = stage.reader().follow()
        before = await anext(updates)
        nth = 0
        while True:
            nth += 1
            assert nth < ENOUGH
            if not waits:
                await writer.save()
            reading = CancelAt(anext(updates), nth)
            # Where it waits for what does not come, it ends by the cancellation or not at all.
            task = asyncio.create_task(_awaited(reading))
            if waits:
                await asyncio.wait({task}, timeout=0.05)
                await writer.save()
            update = await task
            if update is None:
                update = await anext(updates)
            stage.oracle.check(update)
            assert (update.epoch, update.sequence) == stage.oracle.newest
            assert (update.resynced, update.reason) == (False, None)
            check_symbols(update, before.snapshot)
            before = update
            if reading.suspensions < nth:
                break
        assert nth > 1
        await stage.recover(writer)


async def _awaited(reading: CancelAt) -> Any:
    """None if it was cancelled."""
    try:
        return await reading
    except asyncio.CancelledError:
        _uncancel()
        return None


async def test_cancelled_saves_leave_nothing_behind(server: Server) -> None:
    """Neither entries beyond the history, nor connections, nor tasks."""
    async with staged(server.client, history_frames=30, history=0.0) as (stage, writer):
        for _ in range(100):
            saving = asyncio.create_task(writer.save())
            await asyncio.sleep(0)
            saving.cancel()
            await asyncio.gather(saving, return_exceptions=True)
            await writer.save()
        await stage.recover(writer)
        assert not stage.resyncs
        assert server.execute("XLEN", keys_of().delta) <= 30
        await _no_more_connections_than(server, 10)


# --- busy and closed


async def test_a_third_save_is_refused_and_leaves_no_trace(server: Server) -> None:
    async with Proxy(server.port) as proxy, Stage(server.client) as stage:
        client = stage.own(client_of(proxy))
        writer = await stage.writer(client=client, command_timeout=20.0)
        await stage.follow()
        await writer.saves(2)
        held = proxy.plan("hold", 1, "EVALSHA")
        one = asyncio.create_task(writer.save())
        await held.hit.wait()
        two = asyncio.create_task(writer.save())
        await asyncio.sleep(0)
        with pytest.raises(SnapshotBusyError, match="default"):
            await writer.save()
        held.deliver()
        results = await asyncio.gather(one, two)
        assert [result["type"] for result in results] == ["delta", "delta"]
        assert results[1]["sequence"] == results[0]["sequence"] + 1
        await stage.recover(writer)
        assert not stage.resyncs


@pytest.mark.parametrize("arrives", [True, False])
async def test_the_manager_is_closed_during_a_save(server: Server, arrives: bool) -> None:
    """Closing ends in bounded time, with or without an answer."""
    async with Proxy(server.port) as proxy, Stage(server.client) as stage:
        client = stage.own(client_of(proxy))
        writer = await stage.writer("A", client, command_timeout=patience(0.5))
        await stage.follow()
        await writer.saves(2)
        held = proxy.plan("hold", 1, "EVALSHA")
        saving = [asyncio.create_task(writer.save()) for _ in range(2)]
        await held.hit.wait()
        closing = asyncio.create_task(writer.manager.close())
        if arrives:
            held.deliver()
        await closing
        done = await asyncio.gather(*saving, return_exceptions=True)
        for outcome in done:
            assert isinstance(outcome, dict | SnapshotError | asyncio.CancelledError), outcome
        assert not arrives or isinstance(done[0], dict), "what has begun is brought to its end"
        with pytest.raises(SnapshotClosedError):
            await writer.save()
        held.drop()
        await stage.recover(await stage.writer("B"))
        # The second one may have begun, in doubt about the first.
        assert stage.resyncs <= {"outcome_unknown"}


async def test_closed_twice_and_before_the_first_save(server: Server) -> None:
    async with server.client() as redis:
        manager = SnapshotManager(redis)
        await manager.close()
        await manager.close()
        with pytest.raises(SnapshotClosedError):
            await manager.save_snapshot(Market().next())
        assert await redis.ping(), "the client is the caller's, and stays open"
        assert await redis.dbsize() == 0


def _tasks_of(name: str) -> list[asyncio.Task[Any]]:
    return [task for task in asyncio.all_tasks() if task.get_name().startswith(name)]


def _uncancel() -> None:
    """The cancellation of this task was meant for what it awaited, and has arrived there."""
    task = asyncio.current_task()
    assert task is not None
    task.uncancel()


async def _no_more_connections_than(server: Server, count: int) -> None:
    with server.admin() as admin:
        assert admin.info("clients")["connected_clients"] <= count
