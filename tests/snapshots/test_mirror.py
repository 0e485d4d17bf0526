"""A mirror's rows and plain key: always one whole saved state, whatever happens to them and to it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest

from snapdelta import Health, SnapshotManager, SnapshotMirror, SnapshotReader, overall_health
from snapdelta.errors import (
    SnapshotAccessError,
    SnapshotBusyError,
    SnapshotMirrorError,
    SnapshotSettingError,
    UnsupportedVersionError,
)
from support.assert_exact import assert_same
from support.mirror_harness import META, MirrorWatch, check_rows, digest_of, parsed, whole
from support.proxy import Kind, Proxy
from support.servers import AsyncClient, Cluster, Deployment, Server, on_one_server, patience
from support.snapshot_harness import LIMIT, CancelAt, Stage, Writer, client_of, staged
from support.stream_harness import until

ROWS = "snapdelta:{default}:rows"
PLAIN = "plain:{default}"
TESTS = Path(__file__).resolve().parents[1]


@asynccontextmanager
async def mirrored(
    connect: Callable[[], AsyncClient], mirrors: int = 1, **settings: Any
) -> AsyncIterator[tuple[Stage, Writer, MirrorWatch]]:
    """A writer three saves old, and mirrors that have them; the first of the mirrors."""
    async with staged(connect, followers=0, **settings) as (stage, writer):
        for _ in range(mirrors):
            await stage.mirror(plain_key=PLAIN)
        await stage.together()
        yield stage, writer, stage.mirrors[0]


# --- what is written


async def test_rows_and_plain_key_are_each_state(deployment: Deployment) -> None:
    async with mirrored(deployment.client) as (stage, writer, watch):
        for _ in range(10):
            await writer.save(force_full=writer.market.saved % 4 == 0)
            await stage.together()
        counters = watch.mirror.stats()
        assert (counters.rebuilds, counters.failed) == (1, 0)
        assert counters.updates == 10
        # Only what changed: about four records a state, against 40 in each.
        assert counters.rows_written < 150
        assert counters.rows_removed
        # Readers of the plain key get the order, too.
        assert list(await whole(watch.client, PLAIN)) == list(writer.market.state(writer.market.saved))
        head: dict[Any, Any] = await watch.client.hgetall(watch.mirror.rows_key.replace("rows", "head"))
        _, meta = parsed(await watch.rows())
        assert meta["time"] == int(head[b"time"])
        assert meta["digest"] == head[b"digest"].decode()


async def test_an_empty_snapshot_has_only_its_meta(server: Server) -> None:
    async with server.client() as redis, SnapshotManager(redis) as manager:
        await manager.save_snapshot({})
        assert await SnapshotMirror(redis, plain_key="whole").sync()
        records, meta = parsed(await redis.hgetall(ROWS))
        assert (records, meta["symbols"], await redis.get("whole")) == ({}, 0, b"{}")


async def test_nothing_was_saved(server: Server) -> None:
    async with server.client() as redis:
        assert not await SnapshotMirror(redis).sync()
        assert not await redis.exists(ROWS)


async def test_more_rows_than_one_command_takes(server: Server) -> None:
    """Lua's stack bounds the arguments of one call inside a script."""
    async with server.client() as redis, SnapshotManager(redis) as manager:
        state = {f"S{number}": {"n": number} for number in range(20_000)}
        await manager.save_snapshot(state)
        mirror = SnapshotMirror(redis)
        await mirror.sync()
        assert parsed(await redis.hgetall(ROWS))[0] == state
        running = asyncio.create_task(mirror.run())
        await manager.save_snapshot({})
        await until(lambda: _length(redis, 1))
        await manager.save_snapshot(state)
        await until(lambda: _length(redis, 20_001))
        assert parsed(await redis.hgetall(ROWS))[0] == state
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def _length(redis: AsyncClient, expected: int) -> bool:
    return bool(await redis.hlen(ROWS) == expected)


BERLIN = ZoneInfo("Europe/Berlin")
# value, its JSON text
TEXTS: list[tuple[Any, str]] = [
    (None, "null"),
    (True, "true"),
    (1, "1"),
    (1.0, "1.0"),
    (-0.0, "-0.0"),
    (0.1, "0.1"),
    (float("nan"), "null"),
    (float("inf"), "null"),
    (float("-inf"), "null"),
    (2**63, "9223372036854775808"),
    (-(2**64), "-18446744073709551616"),
    (10**30, "1" + "0" * 30),
    ("Zürich", '"Zürich"'),
    ("\ud800", '"\\ud800"'),
    ({"\udc00": 1}, '{"\\udc00":1}'),
    (b"\x00\xff", '"AP8="'),
    ([1, (2, [None])], "[1,[2,[null]]]"),
    ({}, "{}"),
    ({"a": {"b": []}}, '{"a":{"b":[]}}'),
    (date(2026, 3, 2), '"2026-03-02"'),
    (datetime(2026, 3, 2, 9, 30), '"2026-03-02T09:30:00"'),
    (datetime(2026, 3, 2, 9, 30, 0, 125_000, tzinfo=UTC), '"2026-03-02T09:30:00.125000+00:00"'),
    (datetime(2026, 7, 2, 9, 30, tzinfo=BERLIN), '"2026-07-02T09:30:00+02:00"'),
    (datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1), '"2026-10-25T02:30:00+01:00"'),
    (datetime(2026, 3, 2, tzinfo=timezone(timedelta(hours=1, seconds=1))), '"2026-03-02T00:00:00+01:00"'),
    (time(9, 30, 0, 5), '"09:30:00.000005"'),
    (time(9, 30, tzinfo=UTC), '"09:30:00+00:00"'),
    (timedelta(days=1, microseconds=1), "86400.000001"),
    (Decimal("1.10"), '"1.10"'),
    (Decimal("1E+3"), '"1E+3"'),
    (Decimal("NaN"), '"NaN"'),
    (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
]


async def test_the_text_of_every_type(server: Server) -> None:
    """As a record, as a field, and as a field beside one that only the slow way can write."""
    async with server.client() as redis, SnapshotManager(redis) as manager:
        snapshot: dict[str, Any] = {}
        for number, (value, _) in enumerate(TEXTS):
            snapshot |= {
                f"r{number}": value,
                f"f{number}": {"x": value},
                f"s{number}": {"x": value, "y": 2**70},
            }
        await manager.save_snapshot(snapshot)
        await SnapshotMirror(redis, plain_key=PLAIN).sync()
        rows: dict[Any, Any] = await redis.hgetall(ROWS)
        for number, (_, text) in enumerate(TEXTS):
            assert rows[b"r%d" % number].decode() == text
            assert rows[b"f%d" % number].decode() == f'{{"x":{text}}}'
            # The standard library escapes all that is not ASCII.
            assert json.loads(rows[b"s%d" % number]) == {"x": json.loads(text), "y": 2**70}
        records, meta = parsed(rows)
        assert meta["digest"] == digest_of(snapshot)
        assert await whole(redis, PLAIN) == records


@pytest.mark.parametrize("symbol", ["", "BRK.B", "Zürich", "\ud800", "a b", "__meta", "{x}", "\x00"])
async def test_symbols_of_any_text(server: Server, symbol: str) -> None:
    async with server.client() as redis, SnapshotManager(redis) as manager:
        await manager.save_snapshot({symbol: 1, "A": 2})
        await SnapshotMirror(redis, plain_key=PLAIN).sync()
        assert parsed(await redis.hgetall(ROWS))[0] == {symbol: 1, "A": 2}
        assert await whole(redis, PLAIN) == {symbol: 1, "A": 2}


async def test_a_symbol_named_meta_is_refused(server: Server) -> None:
    async with mirrored(server.client) as (stage, writer, watch):
        await watch.stop()
        before = await watch.rows()
        await writer.manager.save_snapshot({META: {"price": 1}, "A": {"price": 2}})
        with pytest.raises(SnapshotMirrorError, match=r"'default'.*'__meta__'"):
            await watch.mirror.run()
        with pytest.raises(SnapshotMirrorError, match="rename the symbol"):
            await watch.mirror.sync()
        assert await watch.rows() == before
        # The others read it, and the mirror goes on when it has gone.
        assert await stage.reader().get(META) == {"price": 1}
        await writer.save()
        await watch.mirror.sync()
        assert check_rows(await watch.rows(), stage.oracle) == stage.oracle.newest


async def test_rows_expire_with_the_head(server: Server) -> None:
    async with server.client() as redis:
        async with SnapshotManager(redis, ttl=1_000) as manager:
            await manager.save_snapshot({"A": 1})
            await SnapshotMirror(redis, plain_key=PLAIN).sync()
            assert 0 < await redis.pttl(ROWS) <= 1_000_000
            assert 0 < await redis.pttl(PLAIN) <= 1_000_000
        async with SnapshotManager(redis) as manager:
            await manager.save_snapshot({"A": 2})
            await SnapshotMirror(redis, plain_key=PLAIN).sync()
            assert await redis.pttl(ROWS) == await redis.pttl(PLAIN) == -1


async def test_a_name_that_is_deleted_takes_its_rows_along(deployment: Deployment) -> None:
    async with mirrored(deployment.client) as (stage, writer, watch):
        assert await writer.manager.delete("default")
        # The mirror looks after its keys, and leaves it so.
        await asyncio.sleep(0.3)
        assert await watch.client.exists(watch.mirror.rows_key) == 0
        await writer.save()
        await stage.together()


# --- somebody else writes


@pytest.mark.parametrize(
    "command",
    [
        ("DEL", ROWS),
        ("SET", ROWS, "not ours"),
        ("DEL", PLAIN),
        ("SET", PLAIN, "{}"),
        ("HDEL", ROWS, "S1"),
        ("HSET", ROWS, "new", "1"),
        ("HDEL", ROWS, META),
        ("HSET", ROWS, META, "no JSON"),
        ("HSET", ROWS, META, "[1]"),
        ("HSET", ROWS, META, '{"layout":1}'),
        ("HSET", ROWS, META, '{"layout":1,"epoch":[],"sequence":{},"digest":null,"symbols":true}'),
        ("HSET", ROWS, META, '{"layout":1,"epoch":9e15,"sequence":1,"digest":"00","symbols":41}'),
        ("HINCRBY", ROWS, "#n", 1),
    ],
    ids=lambda command: "-".join(map(str, command))[:40],
)
@pytest.mark.parametrize("saves", [0, 1], ids=["quiet", "saving"])
async def test_keys_that_others_change_are_mended(
    server: Server, command: tuple[str, ...], saves: int
) -> None:
    """At the next save, or without one when the mirror looks."""
    async with mirrored(server.client, mirrors=2) as (stage, writer, _):
        for watch in stage.mirrors:
            watch.tampered = True
        server.execute(*command)
        await writer.saves(saves)
        await stage.together()


async def test_a_row_that_others_overwrite_is_mended_by_its_next_change_or_a_restart(server: Server) -> None:
    async with mirrored(server.client) as (stage, _, watch):
        server.execute("HSET", ROWS, "S1", "{}")
        await watch.stop()
        watch.tampered = True
        async with watch:
            await stage.together()


async def test_a_newer_layout_is_left_alone(server: Server) -> None:
    async with mirrored(server.client) as (_, _, watch):
        await watch.stop()
        server.execute("HSET", ROWS, META, '{"layout":2}')
        before = await watch.rows()
        with pytest.raises(UnsupportedVersionError, match="layout 2"):
            await watch.mirror.run()
        assert await watch.rows() == before


async def test_rights_that_are_missing_end_it(server: Server) -> None:
    server.execute("ACL", "SETUSER", "mirror", "on", ">p", "~*", "+@all", "-hset")
    try:
        async with staged(server.client) as (stage, _):
            client = stage.own(server.client(username="mirror", password="p"))
            with pytest.raises(SnapshotAccessError, match=r"snapdelta:.default.*script"):
                await SnapshotMirror(client).run()
    finally:
        server.execute("ACL", "DELUSER", "mirror")


# --- connections, cancellations


@pytest.mark.parametrize("kind", ["cut_before", "cut_after", "cut_within", "swallow"])
@pytest.mark.parametrize("nth", [1, 2, 3])
@pytest.mark.parametrize("retries", [True, False], ids=["retries", "no-retries"])
async def test_its_connection_is_cut_at_a_script(
    fresh_server: Callable[..., Server], kind: Kind, nth: int, retries: bool
) -> None:
    server = fresh_server()
    server.load_scripts()
    async with Proxy(server.port) as proxy, staged(server.client, followers=0) as (stage, writer):
        fault = proxy.plan(kind, nth, "EVALSHA")
        client = stage.own(client_of(proxy, retries=retries))
        watch = await stage.mirror(client, plain_key=PLAIN, command_timeout=patience(0.3))
        watch.client = stage.client()
        for _ in range(4):
            await writer.save()
            check_rows(await watch.rows() or await _first_rows(watch), stage.oracle)
        await asyncio.wait_for(fault.hit.wait(), LIMIT)
        await stage.together()


async def _first_rows(watch: MirrorWatch) -> dict[Any, Any]:
    await until(lambda: _length_above(watch))
    return await watch.rows()


async def _length_above(watch: MirrorWatch) -> bool:
    return bool(await watch.client.exists(ROWS))


async def test_a_write_that_arrives_late_changes_nothing(fresh_server: Callable[..., Server]) -> None:
    """It was given up and repeated, and newer states were written, before the server gets it."""
    server = fresh_server()
    server.load_scripts()
    async with Proxy(server.port) as proxy, mirrored(server.client) as (stage, writer, watch):
        await watch.stop()
        stage.mirrors.clear()
        held = proxy.plan("hold", 2, "EVALSHA")
        late = await stage.mirror(
            stage.own(client_of(proxy, retries=False)), plain_key=PLAIN, command_timeout=patience(0.3)
        )
        late.client = watch.client
        await stage.together()
        await writer.save()
        await asyncio.wait_for(held.hit.wait(), LIMIT)
        await stage.together()
        await writer.saves(3)
        await stage.together()
        held.deliver()
        await asyncio.wait_for(held.done.wait(), LIMIT)
        await stage.together()


async def test_cancelled_at_every_await(fresh_server: Callable[..., Server]) -> None:
    """What it had begun is carried out as a whole or not at all, and it can go on."""
    server = fresh_server()
    async with staged(server.client, followers=0) as (stage, writer):
        watch = MirrorWatch(SnapshotMirror(stage.client(), plain_key=PLAIN), stage.client(), stage.oracle)
        nth = ended = 0
        while not ended:
            nth += 1
            cancelled = CancelAt(watch.mirror.sync(), nth)
            try:
                ended = int(await cancelled)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                assert task is not None
                task.uncancel()
            rows = await watch.rows()
            assert not rows or check_rows(rows, stage.oracle)
            await writer.save()
        assert nth > 5
        async with watch:
            stage.mirrors.append(watch)
            await writer.save()
            await stage.together()


async def test_it_ends_when_it_is_cancelled_and_runs_only_once(server: Server) -> None:
    async with mirrored(server.client) as (stage, writer, watch):
        with pytest.raises(SnapshotBusyError, match="runs already"):
            await watch.mirror.run()
        await watch.stop()
        async with watch:
            await writer.save()
            await stage.together()


# --- several mirrors


async def test_mirrors_of_one_name_do_not_fight(server: Server) -> None:
    """Three of them, one slow by a proxy, in every order: no state is written twice but at their starts."""
    async with Proxy(server.port) as proxy, mirrored(server.client, mirrors=2) as (stage, writer, watch):
        slow = await stage.mirror(stage.own(client_of(proxy)), plain_key=PLAIN)
        slow.client = watch.client
        seen = set()
        for number in range(30):
            if number % 10 == 5:
                await proxy.cut()
            await writer.save()
            seen.add(check_rows(await watch.rows(), stage.oracle))
        await stage.together()
        # A quiet time, in which each looks after the keys.
        await asyncio.sleep(0.5)
        await stage.together()
        counters = [mirror.mirror.stats() for mirror in stage.mirrors]
        # None at all for one that came when another was ahead.
        assert {one.rebuilds for one in counters} <= {0, 1}
        assert sum(one.updates for one in counters) <= 30
        assert len(seen) > 1


async def test_mirrors_after_the_server_went_back(fresh_server: Callable[..., Server]) -> None:
    """One has followed the older chain already, the other still is on the state that was lost."""
    server = fresh_server(persist=True)
    async with mirrored(server.client, mirrors=2) as (stage, writer, watch):
        await writer.saves(5)
        await stage.together()
        server.execute("HSET", "snapdelta:{default}:head", "sequence", 5)
        stage.oracle.may_go_back = True
        await asyncio.sleep(0.3)
        check_rows(await watch.rows(), stage.oracle)
        await stage.recover(writer)


# --- sync


@on_one_server
async def test_sync_beside_run(server: Server) -> None:
    """Both write the same keys from states of their own; symbols come and go in each."""
    async with mirrored(server.client) as (stage, writer, watch):
        done = asyncio.Event()

        async def sync() -> None:
            while not done.is_set():
                assert await watch.mirror.sync()
                assert check_rows(await watch.rows(), stage.oracle)

        syncing = [asyncio.create_task(sync()) for _ in range(2)]
        try:
            for _ in range(60):
                await writer.save()
        finally:
            done.set()
            await asyncio.gather(*syncing)
        await stage.together()
        assert not watch.errors
        assert watch.mirror.health() == Health()


@on_one_server
async def test_sync_says_what_is_true(server: Server) -> None:
    """The name changes between the reading of the state and the writing of the rows."""
    async with server.client() as redis, SnapshotManager(redis) as manager:
        for number in range(3):
            await manager.save_snapshot({"A": number})
        mirror = SnapshotMirror(redis)
        changes: list[tuple[Callable[[], Any], bool]] = [
            (lambda: redis.delete("snapdelta:{default}:head"), False),
            (lambda: redis.hincrby("snapdelta:{default}:head", "sequence", -1), False),
            (partial(_write_later_rows, redis, manager), True),
            (lambda: redis.ping(), True),
        ]
        for change, expected in changes:
            await manager.save_snapshot({"A": 5})
            update = await mirror._reader.latest()

            async def latest(state: Any = update, change: Callable[[], Any] = change) -> Any:
                await change()
                return state

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(mirror._reader, "latest", latest)
                assert await mirror.sync() is expected
            assert bool(await redis.hexists(ROWS, META)) == expected


async def _write_later_rows(redis: AsyncClient, manager: SnapshotManager) -> None:
    await manager.save_snapshot({"A": 6})
    await SnapshotMirror(redis).sync()


@on_one_server
async def test_health_stats_and_log(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "snapdelta")
    async with server.client() as redis, SnapshotManager(redis) as manager:
        mirror = SnapshotMirror(redis)
        assert mirror.health(0.0) == Health()
        await manager.save_snapshot({"A": 1})
        running = asyncio.create_task(mirror.run())
        await until(lambda: _length(redis, 2))
        result = await manager.save_snapshot({"B": 1})
        await until(lambda: mirror.stats().updates == 1)
        assert overall_health(mirror) == Health()
        stale = mirror.health(max_age=0.0)
        assert stale.status == "degraded"
        assert "the state of the rows is" in stale.reasons[0]
        server.execute("CONFIG", "SET", "maxmemory", 1)
        await redis.delete(ROWS)
        await until(lambda: not mirror.health().ok, 60)
        assert mirror.health().status == "degraded"
        assert "SnapshotMemoryError" in mirror.health().reasons[0]
        server.execute("CONFIG", "SET", "maxmemory", 0)
        await until(lambda: _length(redis, 2))
        await until(lambda: mirror.health().ok)
        await manager.save_snapshot({META: 1})
        with pytest.raises(SnapshotMirrorError):
            await running
        assert mirror.health().status == "failed"
        assert "SnapshotMirrorError" in mirror.health().reasons[0]
    records = [record.__dict__ for record in caplog.records]
    mirrored = [record for record in records if str(record.get("event")).startswith("mirror_")]
    assert [record["event"] for record in mirrored] == ["mirror_rebuild", "mirror_update", "mirror_rebuild"]
    assert {(record["snapshots"], record["rows_written"]) for record in mirrored} == {("default", 1)}
    assert (mirrored[1]["rows_removed"], mirrored[1]["sequence"]) == (1, result["sequence"])
    assert mirrored[0]["reason"] == "start"


# --- the process is killed


@pytest.mark.parametrize("kills", [6, pytest.param(60, marks=pytest.mark.long)])
async def test_its_process_is_killed_at_random_moments(
    fresh_server: Callable[..., Server], kills: int
) -> None:
    """Under saves without a pause: the rows are one saved state each time, and the newest in the end."""
    server = fresh_server()
    rng = random.Random(kills)
    async with staged(server.client, followers=0, history_frames=100_000) as (stage, writer):
        redis = stage.client()
        saving = asyncio.create_task(_save_on(writer))
        states = set()
        for _ in range(kills):
            process = await _start_mirror(server)
            before = await redis.hget(ROWS, META)
            await until(partial(_meta_moves, redis, before))
            await asyncio.sleep(rng.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            await process.wait()
            rows = await redis.hgetall(ROWS)
            states.add(check_rows(rows, stage.oracle))
            assert await whole(redis, PLAIN) == parsed(rows)[0]
        saving.cancel()
        await asyncio.gather(saving, return_exceptions=True)
        await writer.save()
        await stage.mirror(plain_key=PLAIN)
        await stage.together()
        assert len(states) == kills


async def _save_on(writer: Writer) -> None:
    while True:
        await writer.save()
        await asyncio.sleep(0.001)


async def _meta_moves(redis: AsyncClient, before: object) -> bool:
    return bool(await redis.hget(ROWS, META) != before)


async def _start_mirror(server: Server) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "support.mirror_process",
        str(server.port),
        PLAIN,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])},
    )


# --- settings


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"plain_key": ""}, "plain_key"),
        ({"plain_key": 5}, "plain_key"),
        ({"plain_key": ROWS}, "is a key of the snapshots"),
        ({"check_interval": 0}, "check_interval"),
        ({"command_timeout": -1}, "command_timeout"),
        ({"name": "a{b"}, "braces"),
        ({"limits": 5}, "limits"),
    ],
)
async def test_impossible_settings(server: Server, settings: dict[str, Any], said: str) -> None:
    async with server.client() as redis:
        with pytest.raises(SnapshotSettingError, match=said):
            SnapshotMirror(redis, **settings)


async def test_a_plain_key_of_another_slot(deployment: Deployment) -> None:
    redis = deployment.client()
    try:
        if isinstance(deployment, Cluster):
            with pytest.raises(SnapshotSettingError, match=r"\{default\}"):
                SnapshotMirror(redis, plain_key="elsewhere")
        else:
            assert SnapshotMirror(redis, plain_key="elsewhere").plain_key == "elsewhere"
    finally:
        await redis.aclose()


# --- one symbol


async def test_get_reads_one_record_of_the_newest_state(deployment: Deployment) -> None:
    redis = deployment.client()
    try:
        async with SnapshotManager(redis) as manager:
            reader = SnapshotReader(redis)
            assert await reader.get("A") is None
            assert await reader.get("A", 0) == 0
            records: dict[str, Any] = {
                "A": {"at": datetime(2026, 3, 2, tzinfo=BERLIN)},
                "N": None,
                "\ud800": (1,),
            }
            await manager.save_snapshot(records)
            for symbol, record in records.items():
                assert_same(await reader.get(symbol), record)
            missing = object()
            assert await reader.get("Z") is None
            assert await reader.get("Z", missing) is missing
            assert await reader.get("N", missing) is None
            update = await reader.latest()
            assert update is not None
            await manager.save_snapshot({"A": 1, "B": 2})
            assert await reader.get("B") == 2
            later = await reader.latest()
            # `latest` counts from its own last call.
            assert later is not None
            assert (later.added, later.updated, sorted(later.removed)) == (["B"], ["A"], ["N", "\ud800"])
    finally:
        await redis.aclose()


async def test_get_gives_a_record_of_its_own(server: Server) -> None:
    async with server.client() as redis, SnapshotManager(redis) as manager:
        await manager.save_snapshot({"A": {"x": [1]}})
        reader = SnapshotReader(redis)
        first = await reader.get("A")
        first["x"].append(2)
        assert await reader.get("A") == {"x": [1]}
