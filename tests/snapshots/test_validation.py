"""Snapshots of a broken feed are refused: nothing is written, and the next good save is a small delta."""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import Any

import pytest
from redis.asyncio import Redis

from snapdelta.errors import SnapshotRejectedError, SnapshotSettingError
from snapdelta.snapshot_manager import SnapshotManager, SnapshotReader
from support.servers import Server, on_one_server
from support.snapshot_harness import keys_of
from support.stream_harness import until

SYMBOLS = 400


def market(number: int, symbols: int = SYMBOLS) -> dict[str, Any]:
    return {
        f"S{row}": {"price": 100.0 + row + (number if row < 5 else 0), "n": row} for row in range(symbols)
    }


def positive(snapshot: dict[str, Any]) -> None:
    for symbol, record in snapshot.items():
        if record["price"] <= 0:
            raise ValueError(f"{symbol} has a price of {record['price']}")


BROKEN: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("validate", {"validate": positive}, market(1) | {"S3": {"price": 0.0, "n": 3}}, "S3 has a price of 0.0"),
    ("validate", {"validate": lambda _: "the feed is stale"}, market(1), "the feed is stale"),
    ("validate", {"validate": lambda snapshot: len(snapshot) % 2 == 0}, market(1, 399), "returned False"),
    ("min_symbols", {"min_symbols": 300}, market(1, 299), "299 symbols"),
    ("min_symbols", {"min_symbols": 1}, {}, "0 symbols"),
    ("max_removed_share", {"max_removed_share": 0.25}, market(1, 299), "removes 101 of 400"),
    ("max_removed_share", {"max_removed_share": 0.25}, {}, "removes 400 of 400"),
    ("max_removed_share", {"max_removed_share": 0.0}, market(1, 399), "removes 1 of 400"),
    (
        "max_removed_share",
        {"max_removed_share": 0.5},
        {f"T{row}": {"price": 1.0} for row in range(SYMBOLS)},
        "removes 400",
    ),
]


def relaxed(settings: dict[str, Any], accept: list[bool]) -> dict[str, Any]:
    """The same settings; `validate` accepts while the list is not empty."""
    validate = settings.get("validate")
    if validate is None:
        return settings
    return {"validate": lambda snapshot: True if accept else validate(snapshot)}


async def contents(redis: Redis) -> list[Any]:
    """All that Redis has of the name."""
    keys = keys_of()
    return [await redis.hgetall(keys.head), await redis.xrange(keys.full), await redis.xrange(keys.delta)]


@pytest.mark.parametrize(("reason", "settings", "broken", "said"), BROKEN)
@on_one_server
async def test_a_refused_snapshot_leaves_no_trace(
    server: Server,
    caplog: pytest.LogCaptureFixture,
    reason: str,
    settings: dict[str, Any],
    broken: dict[str, Any],
    said: str,
) -> None:
    accept = [True]
    async with (
        server.client() as redis,
        SnapshotManager(redis, **relaxed(settings, accept)) as manager,
        SnapshotManager(redis) as other,
    ):
        reader = SnapshotReader(redis)
        for number in range(3):
            await manager.save_snapshot(market(number))
            await other.save_snapshot(market(number), name="peer")
        accept.clear()
        before = await contents(redis)
        for count in (1, 2):
            with pytest.raises(SnapshotRejectedError, match=said) as refused:
                await manager.save_snapshot(broken, force_full=count == 2)
            assert refused.value.reason == reason
            assert manager.stats().rejected == {reason: count}
            assert manager.stats().failed == count
        assert await contents(redis) == before
        assert [record.levelname for record in caplog.records] == ["WARNING"] * 2
        assert said in caplog.records[0].getMessage()
        update = await reader.latest()
        assert update is not None
        assert update.snapshot == market(2)

        accept.append(True)
        result = await manager.save_snapshot(market(3))
        peer = await other.save_snapshot(market(3), name="peer")
        # What it would have been without the refusals: the same delta, the next number.
        assert {key: result[key] for key in ("type", "reason", "sequence", "compressed_size", "updated")} == {
            key: peer[key] for key in ("type", "reason", "sequence", "compressed_size", "updated")
        }
        assert result["type"] == "delta"
        update = await reader.latest()
        assert update is not None
        assert (update.snapshot, update.resynced) == (market(3), False)


@on_one_server
async def test_the_first_save_is_checked_before_anything_is_sent(server: Server) -> None:
    async with server.client() as redis, SnapshotManager(redis, min_symbols=10) as manager:
        with pytest.raises(SnapshotRejectedError):
            await manager.save_snapshot(market(0, 9))
        assert await redis.keys("*") == []
        assert (await manager.save_snapshot(market(0, 10)))["reason"] == "first"


@on_one_server
async def test_saves_that_overlap_are_checked_against_the_save_before(server: Server) -> None:
    """The second of two is captured by an encoder of its own, which knows no base."""
    async with (
        server.client() as redis,
        SnapshotManager(redis, max_removed_share=0.5, min_symbols=2) as manager,
    ):
        await manager.save_snapshot(market(0))
        for number in range(1, 4):
            saves = [
                asyncio.ensure_future(manager.save_snapshot(market(number))),
                asyncio.ensure_future(manager.save_snapshot(market(number, 100))),
            ]
            good, refused = await asyncio.gather(*saves, return_exceptions=True)
            assert isinstance(good, dict)
            assert good["type"] == "delta"
            assert isinstance(refused, SnapshotRejectedError)
            assert refused.reason == "max_removed_share"
            # Refused at the call already: it needs no base.
            saves = [
                asyncio.ensure_future(manager.save_snapshot(market(number + 10))),
                asyncio.ensure_future(manager.save_snapshot(market(number, 1))),
                asyncio.ensure_future(manager.save_snapshot(market(number + 20))),
            ]
            first, refused, last = await asyncio.gather(*saves, return_exceptions=True)
            assert isinstance(refused, SnapshotRejectedError)
            assert isinstance(first, dict)
            assert isinstance(last, dict)
            assert (first["type"], last["type"]) == ("delta", "delta")
        assert manager.stats().rejected == {"max_removed_share": 3, "min_symbols": 3}
        update = await SnapshotReader(redis).latest()
        assert update is not None
        assert update.snapshot == market(23)
        assert manager.stats().fulls == {"first": 1}


@on_one_server
async def test_a_follower_keeps_the_last_state_and_goes_on(server: Server) -> None:
    async with server.client() as redis, SnapshotManager(redis, max_removed_share=0.1) as manager:
        await manager.save_snapshot(market(0))
        seen = []

        async def follow() -> None:
            async for update in SnapshotReader(redis).follow():
                seen.append((update.sequence, len(update.snapshot), update.resynced))

        task = asyncio.create_task(follow())
        await until(lambda: len(seen) == 1)
        with pytest.raises(SnapshotRejectedError):
            await manager.save_snapshot(market(1, 10))
        await manager.save_snapshot(market(1))
        await until(lambda: len(seen) == 2)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        first, second = seen
        assert second == (first[0] + 1, SYMBOLS, False)


@on_one_server
async def test_a_removal_that_is_right_goes_through_without_the_check(server: Server) -> None:
    async with server.client() as redis, SnapshotManager(redis, max_removed_share=0.1) as manager:
        await manager.save_snapshot(market(0))
        with pytest.raises(SnapshotRejectedError, match="check=False"):
            await manager.save_snapshot(market(1, 10))
        assert (await manager.save_snapshot(market(1, 10), check=False))["symbols"] == 10
        # A tenth may go.
        assert (await manager.save_snapshot(market(1, 9)))["removed"] == 1


@on_one_server
async def test_no_check_lets_everything_through(server: Server) -> None:
    async with (
        server.client() as redis,
        SnapshotManager(redis, min_symbols=5, validate=lambda snapshot: "dead") as manager,
    ):
        with pytest.raises(SnapshotRejectedError):
            await manager.save_snapshot(market(0))
        assert (await manager.save_snapshot(market(0, 3), check=False))["type"] == "full"


@on_one_server
async def test_the_first_save_after_a_restart_is_compared_with_the_state_before(server: Server) -> None:
    async with server.client() as redis:
        async with SnapshotManager(redis) as manager:
            await manager.save_snapshot(market(0))
        async with SnapshotManager(redis, max_removed_share=0.1) as manager:
            with pytest.raises(SnapshotRejectedError, match="removes"):
                await manager.save_snapshot(market(1, 10))
            latest = await SnapshotReader(redis).latest()
            assert latest is not None
            assert latest.snapshot == market(0)
            result = await manager.save_snapshot(market(1))
            assert (result["reason"], result["removed"]) == ("handover", 0)


@on_one_server
async def test_what_validate_must_not_do(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    async def later(_: dict[str, Any]) -> bool:
        return False

    async with server.client() as redis:
        for settings, said in (
            ({"validate": later}, "asynchronous"),
            ({"validate": 5}, "callable"),
            ({"min_symbols": -1}, "min_symbols"),
            ({"max_removed_share": 1.5}, "share"),
            ({"max_removed_share": -0.1}, "max_removed_share"),
        ):
            with pytest.raises(SnapshotSettingError, match=said):
                SnapshotManager(redis, **settings)
        async with SnapshotManager(redis, validate=lambda snapshot: later(snapshot)) as manager:
            with pytest.raises(SnapshotSettingError, match="asynchronous"):
                await manager.save_snapshot(market(0))
        assert await redis.keys("*") == []
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@on_one_server
@pytest.mark.parametrize("answer", [[], ["price is zero"], "", 0, 1, {}])
async def test_an_answer_that_may_mean_either(server: Server, answer: Any) -> None:
    async with server.client() as redis:
        async with SnapshotManager(redis, validate=lambda _: answer) as manager:
            with pytest.raises(SnapshotSettingError, match="validate must return None or True"):
                await manager.save_snapshot(market(0))
        for good in (None, True):
            async with SnapshotManager(redis, validate=partial(_always, good)) as manager:
                await manager.save_snapshot(market(0))


def _always(answer: bool | None, _: dict[str, Any]) -> bool | None:
    return answer
