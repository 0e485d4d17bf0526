"""RedisStreamManager: every write bounded, whoever else writes; counters that count what they say."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import ConnectionPool, Redis

import snapdelta
import snapdelta.streams.manager as module
import snapdelta.streams.registry as registry
from snapdelta import decode_fields
from snapdelta.errors import (
    ProtectedStreamError,
    StreamAccessError,
    StreamError,
    StreamManagerError,
    StreamPolicyError,
    UnlistedStreamError,
    UnsupportedTypeError,
)
from snapdelta.redis_stream_manager import (
    RedisStreamManager,
    StreamPolicy,
    get_stream_manager,
    initialize_stream_manager,
)
from support.servers import AsyncClient, Deployment, Server
from support.stream_harness import Looks, fill, ids_of, manager, quick, read, until

NODE = 100


class Watcher:
    """Looks at a stream's length as often as it can, on a connection of its own."""

    def __init__(self, redis: AsyncClient, stream: str) -> None:
        self._redis = redis
        self._stream = stream
        self.highest = 0
        self.looks = 0

    async def __aenter__(self) -> Watcher:
        self._ended = False
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._ended = True
        await self._task

    async def _watch(self) -> None:
        while not self._ended:
            self.highest = max(self.highest, await self._redis.xlen(self._stream))
            self.looks += 1


@pytest.fixture
async def watcher(deployment: Deployment) -> AsyncIterator[Watcher]:
    client = deployment.client()
    yield Watcher(client, "s")
    await client.aclose()


# --- bounds


async def test_exact_never_exceeds(redis: AsyncClient, watcher: Watcher) -> None:
    # Two managers that know nothing of each other, each with its task, several writers each.
    policy = {"s": quick(maxlen=50, approximate=False)}
    async with manager(redis, policy) as first, manager(redis, policy) as second, watcher:

        async def write(which: RedisStreamManager) -> None:
            for number in range(60):
                await which.xadd("s", {"number": number})
            await which.xadd_many("s", [{"number": number} for number in range(100)])

        await asyncio.gather(*(write(which) for which in (first, second) for _ in range(3)))
    assert watcher.highest == 50
    assert watcher.looks > 50
    assert await redis.xlen("s") == 50


async def test_fifty_thousand_entries_go_to_a_thousand_and_stay_there(
    redis: AsyncClient, watcher: Watcher
) -> None:
    await fill(redis, "s", 50_003)
    async with manager(redis, {"s": StreamPolicy()}) as streams:

        async def down() -> bool:
            return await redis.xlen("s") <= 1000 + NODE

        await until(down)
        async with watcher:
            for number in range(300):
                await streams.xadd("s", {"number": number})
            await streams.xadd_many("s", [{"number": number} for number in range(3000)])
    assert 1000 <= watcher.highest <= 1000 + NODE
    assert await redis.xlen("s") >= 1000


@pytest.mark.parametrize("size", [10, 6000])
async def test_approximate_stays_within_a_node(redis: AsyncClient, watcher: Watcher, size: int) -> None:
    streams = manager(redis, {"s": StreamPolicy(maxlen=50)})
    async with watcher:
        for _ in range(400):
            await streams.xadd("s", {"f": b"x" * size})
        await streams.xadd_many("s", [{"f": b"x" * size}] * 400)
    # An entry larger than a node has one of its own.
    assert 50 <= watcher.highest <= (50 + NODE if size < 4096 else 51)


async def test_the_default_bounds_what_nothing_lists(redis: AsyncClient) -> None:
    await RedisStreamManager(redis).xadd_many("unlisted", [{"n": n} for n in range(5000)])
    assert 1000 <= await redis.xlen("unlisted") <= 1000 + NODE


async def test_a_write_may_set_another_length(redis: AsyncClient) -> None:
    streams = RedisStreamManager(redis, {"s": StreamPolicy(maxlen=100, approximate=False)})
    await streams.xadd_many("s", [{"n": n} for n in range(100)])
    await streams.xadd("s", {"n": 1}, maxlen=150)
    assert await redis.xlen("s") == 101
    await streams.xadd("s", {"n": 1}, maxlen=10)
    assert await redis.xlen("s") == 10
    with pytest.raises(StreamPolicyError, match="maxlen"):
        await streams.xadd("s", {"n": 1}, maxlen=0)
    keeping = RedisStreamManager(redis, {"s": StreamPolicy(keep_unread=True)})
    with pytest.raises(StreamPolicyError, match="keep_unread"):
        await keeping.xadd("s", {"n": 1}, maxlen=1)
    assert await redis.xlen("s") == 10


async def test_an_exact_write_does_not_drop_a_backlog_at_once(server: Server) -> None:
    async with server.client() as redis:
        await fill(redis, "s", 50_003)
        streams = RedisStreamManager(redis, {"s": StreamPolicy(maxlen=1000, approximate=False)})
        lengths: list[int] = []
        while not lengths or lengths[-1] > 1000:
            await streams.xadd("s", {"n": 1})
            lengths.append(await redis.xlen("s"))
        assert lengths == [40_003, 30_003, 20_003, 10_003, 1000]


async def test_a_snapshot_chain_beside_them_is_never_cut(redis: AsyncClient) -> None:
    chain = [f"snapdelta:{{market}}:{part}" for part in ("full", "delta")]
    for key in chain:
        for sequence in range(300):
            # EPOCH-SEQUENCE: not a time of the entry.
            await redis.xadd(key, {"frame": b"x" * 50}, id=f"1795000000000-{sequence}")
    await redis.hset("snapdelta:{market}:head", mapping={"epoch": 1795000000000})
    await fill(redis, "plain", 3000)
    looks = Looks()
    default = quick(maxlen=10, max_age=0.001, max_bytes=20_000, approximate=False)
    # Patterns that do match the chain.
    async with manager(redis, {"*delta*": default}, default=default, discover="*", on_trim=looks) as streams:
        await looks.more("plain", 3)
        for key in chain:
            with pytest.raises(ProtectedStreamError, match="chain"):
                await streams.xadd(key, {"n": 1})
            with pytest.raises(ProtectedStreamError):
                await streams.trim(key)
    assert {report.stream for report in looks.reports} == {"plain"}
    assert [await redis.xlen(key) for key in chain] == [300, 300]
    assert await redis.hgetall("snapdelta:{market}:head")


async def test_listing_a_protected_stream_is_an_error(redis: AsyncClient) -> None:
    with pytest.raises(ProtectedStreamError):
        RedisStreamManager(redis, {"snapdelta:{market}:delta": StreamPolicy()})
    with pytest.raises(ProtectedStreamError):
        RedisStreamManager(redis, {"mine:{a}:full": StreamPolicy()}, protected=["mine:"])


# --- writing


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("decode_responses", [False, True])
@pytest.mark.parametrize("parser", ["hiredis", "python"])
async def test_every_kind_of_client(
    server: Server, protocol: int, decode_responses: bool, parser: str
) -> None:
    from redis._parsers import _AsyncHiredisParser, _AsyncRESP2Parser, _AsyncRESP3Parser

    kind = (
        _AsyncHiredisParser if parser == "hiredis" else {2: _AsyncRESP2Parser, 3: _AsyncRESP3Parser}[protocol]
    )
    pool = ConnectionPool(
        host="127.0.0.1",
        port=server.port,
        protocol=protocol,
        decode_responses=decode_responses,
        parser_class=kind,
    )
    async with Redis.from_pool(pool) as redis:
        looks = Looks()
        policies = {
            "s": quick(maxlen=50, max_age=60.0, max_bytes=50_000),
            "k*": quick(maxlen=50, keep_unread=True),
        }
        async with manager(redis, policies, on_trim=looks) as streams:
            entry = await streams.xadd("s", {"n": 1, "d": {"a": None}})
            assert type(entry) is (str if decode_responses else bytes)
            many = await streams.xadd_many("keep", [{"n": n} for n in range(200)])
            assert [type(item) for item in many] == [type(entry)] * 200
            await redis.xgroup_create("keep", "grüppe", id="0")
            await looks.more("s")
            await looks.more("keep")
            info = await streams.info("keep")
            assert (info.stream, info.groups[0].name, info.oldest_id is not None) == ("keep", "grüppe", True)
            ((_, fields),) = await redis.xrange("s") or []
            assert decode_fields(fields or {})["d"] == {"a": None}
            assert streams.health().ok


async def test_ids_are_the_callers_if_given(redis: AsyncClient) -> None:
    streams = RedisStreamManager(redis)
    assert await streams.xadd("s", {"n": 1}, id="5-1") == b"5-1"
    with pytest.raises(StreamError, match=r"'s'.*smaller"):
        await streams.xadd("s", {"n": 1}, id="4-1")
    assert streams.stats().counters.write_errors == 1


async def test_what_cannot_be_carried_writes_nothing(redis: AsyncClient) -> None:
    streams = RedisStreamManager(redis)
    with pytest.raises(UnsupportedTypeError, match="'s', field bad"):
        await streams.xadd_many("s", [{"good": 1}, {"bad": object()}])
    assert not await redis.exists("s")
    assert await streams.xadd_many("s", []) == []
    counters = streams.stats().counters
    assert (counters.entries_written, counters.write_errors) == (0, 0)


async def test_the_entry_is_read_before_the_first_await(redis: AsyncClient) -> None:
    streams = RedisStreamManager(redis, {"s": StreamPolicy(approximate=False)})
    fields: dict[str, Any] = {"n": 1, "nested": {"a": 1}}
    writing = asyncio.create_task(streams.xadd("s", fields))
    await asyncio.sleep(0)
    fields["nested"]["a"] = 2
    fields.clear()
    await writing
    ((_, read_back),) = await redis.xrange("s") or []
    assert decode_fields(read_back or {}) == {"n": b"1", "nested": {"a": 1}}


async def test_rows_are_written_in_order(redis: AsyncClient) -> None:
    ids = await RedisStreamManager(redis).xadd_many("s", ({"n": n} for n in range(500)))
    assert await ids_of(redis, "s") == ids
    assert ids == sorted(ids, key=lambda item: tuple(map(int, item.split(b"-"))))


async def test_writes_under_keep_unread_hold_the_ceiling(redis: AsyncClient, watcher: Watcher) -> None:
    streams = manager(redis, {"s": StreamPolicy(maxlen=50, keep_unread=True, hard_maxlen=200)})
    await streams.xadd("s", {"n": 0})
    await redis.xgroup_create("s", "g", id="0")
    async with watcher:
        for number in range(199):
            await streams.xadd("s", {"n": number})
        assert await redis.xlen("s") == 200
        await read(redis, "s", "g", 30)
        # The 30 acknowledged ones go first, and are no loss; then 20 unread ones must.
        await streams.xadd_many("s", [{"n": number} for number in range(50)])
    assert watcher.highest == 200
    counters = streams.stats().counters
    assert (counters.entries_written, counters.entries_trimmed, counters.unread_dropped) == (250, 50, 20)


async def test_a_ceiling_far_below_the_backlog_is_approached_by_writes_too(redis: AsyncClient) -> None:
    await fill(redis, "s", 1000)
    await redis.xgroup_create("s", "g", id="0")
    streams = RedisStreamManager(redis, {"s": StreamPolicy(maxlen=50, keep_unread=True, hard_maxlen=200)})
    for _ in range(10):
        await streams.xadd("s", {"n": 1})
    assert await redis.xlen("s") == 200
    assert streams.stats().counters.unread_dropped == 810


async def test_strict_refuses_what_nothing_lists(redis: AsyncClient) -> None:
    streams = RedisStreamManager(redis, {"known:*": StreamPolicy()}, strict=True)
    await streams.xadd("known:a", {"n": 1})
    for call in (
        streams.xadd("other", {"n": 1}),
        streams.xadd_many("other", [{"n": 1}]),
        streams.trim("other"),
    ):
        with pytest.raises(UnlistedStreamError, match="'other'"):
            await call
    with pytest.raises(UnlistedStreamError):
        await streams.info("other")
    assert not await redis.exists("other")


async def test_many_unlisted_streams_do_not_stay_in_memory(
    redis: AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_MOST_UNLISTED", 20)
    streams = RedisStreamManager(redis, {"listed:*": StreamPolicy()})
    await streams.xadd("listed:1", {"n": 1})
    for number in range(50):
        await streams.xadd(f"session:{number}", {"n": 1})
    assert streams.stats().streams == 21
    assert set(await streams.info_all()) == {"listed:1", *(f"session:{number}" for number in range(30, 50))}


# --- settings


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"discover_interval": 0}, "discover_interval"),
        ({"command_timeout": None}, "command_timeout"),
        ({"time_budget": "1"}, "time_budget"),
        ({"protected": "snapdelta:"}, "protected"),
        ({"protected": [""]}, "protected"),
        ({"strict": True, "discover": "*"}, "discover"),
        ({"default": 5}, "default"),
        ({"policies": {"a": 5}}, "'a'"),
        ({"policies": [StreamPolicy()]}, "policies"),
        ({"discover": "["}, "pattern"),
    ],
)
async def test_a_wrong_setting_fails_in_the_constructor(options: dict[str, Any], named: str) -> None:
    async with Redis() as redis:
        with pytest.raises(StreamPolicyError, match=named):
            RedisStreamManager(redis, **options)


async def test_policies_from_a_file(redis: AsyncClient, tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text('[tool.snapdelta.streams.policies."s*"]\nmaxlen = 5\napproximate = false\n')
    await RedisStreamManager(redis, path).xadd_many("s1", [{"n": n} for n in range(9)])
    assert await redis.xlen("s1") == 5


# --- the process's manager


@pytest.fixture
def no_manager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_manager", None)


@pytest.mark.usefixtures("no_manager")
async def test_one_manager_a_process() -> None:
    with pytest.raises(StreamManagerError, match="initialize_stream_manager"):
        get_stream_manager()
    async with Redis() as redis, Redis() as other:
        first = initialize_stream_manager(redis, {"s": StreamPolicy(maxlen=5)})
        assert get_stream_manager() is first
        assert initialize_stream_manager(redis, {"s": StreamPolicy(maxlen=5)}) is first
        await first.start()
        for arguments in [(redis, {"s": StreamPolicy(maxlen=6)}), (other, {"s": StreamPolicy(maxlen=5)})]:
            with pytest.raises(StreamManagerError, match="before"):
                initialize_stream_manager(*arguments)
        with pytest.raises(StreamPolicyError):
            initialize_stream_manager(redis, {"s": 5})  # type: ignore[dict-item]
        assert get_stream_manager() is first
        await first.stop()
        second = initialize_stream_manager(other)
        assert get_stream_manager() is second
        assert second is not first


@pytest.mark.usefixtures("no_manager")
async def test_a_start_up_that_failed_leaves_the_module_usable(server: Server) -> None:
    gone = server.client()
    initialize_stream_manager(gone, {"s": StreamPolicy(maxlen=5)})
    await gone.aclose()
    async with server.client() as redis:
        second = initialize_stream_manager(redis, {"s": StreamPolicy(maxlen=6)})
        assert get_stream_manager() is second
        await second.start()
        await second.xadd("s", {"n": 1})
        await second.stop()


@pytest.mark.usefixtures("no_manager")
def test_a_manager_whose_loop_has_ended_is_replaced(deployments: Callable[[str], Deployment]) -> None:
    server = deployments("valkey-9.1")

    async def life() -> RedisStreamManager:
        async with server.client() as redis:
            made = initialize_stream_manager(redis)
            await made.start()
            await made.xadd("s", {"n": 1})
            return made

    assert len({id(made) for made in [asyncio.run(life()) for _ in range(3)]}) == 3


def test_the_names_are_lazy() -> None:
    program = (
        "import sys, snapdelta\n"
        "assert 'redis' not in sys.modules and 'snapdelta.redis_stream_manager' not in sys.modules\n"
        "snapdelta.RedisStreamManager, snapdelta.get_stream_manager\n"
        "assert 'redis' in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert snapdelta.StreamPolicy is StreamPolicy


# --- wide entries, and clients that decode


@pytest.mark.parametrize("fields", [3_000, 3_950, 3_951, 11_905])
async def test_wide_entries_wait_for_their_readers(redis: AsyncClient, fields: int) -> None:
    """A script can pass 8,000 values on, and a snapshot with a field a symbol has more."""
    streams = RedisStreamManager(redis, {"s": StreamPolicy(maxlen=2, keep_unread=True, hard_maxlen=3)})
    entry = {f"s{number}": number for number in range(fields)}
    await redis.xgroup_create("s", "g", id="0", mkstream=True)
    ids = [await streams.xadd("s", entry)]
    ids += await streams.xadd_many("s", [entry, {"narrow": 1}, entry])
    assert await ids_of(redis, "s") == ids[1:]
    ((_, found), *_) = await redis.xrange("s", min=ids[1]) or []
    assert len(found or {}) == fields
    counters = streams.stats().counters
    assert (counters.entries_written, counters.entries_trimmed, counters.unread_dropped) == (4, 1, 1)
    await read(redis, "s", "g", 3)
    await streams.xadd("s", entry)
    assert await redis.xlen("s") == 3
    assert streams.stats().counters.unread_dropped == 1
    assert (await streams.trim("s")).length == 2


async def test_a_wide_entry_that_is_refused_drops_nothing(redis: AsyncClient) -> None:
    streams = RedisStreamManager(redis, {"s": StreamPolicy(maxlen=2, keep_unread=True, hard_maxlen=2)})
    entry = {f"s{number}": number for number in range(5_000)}
    ids = [await streams.xadd("s", entry) for _ in range(2)]
    with pytest.raises(StreamAccessError, match="equal or smaller") as raised:
        await streams.xadd("s", entry, id="1-1")
    assert raised.value.ids == [None]
    assert await ids_of(redis, "s") == ids
    assert streams.stats().counters.write_errors == 1


async def test_text_goes_through_a_client_of_another_encoding(
    deployments: Callable[[str], Deployment],
) -> None:
    server = deployments("valkey-9.1")
    server.reset()
    fields = {"name": "значение", "plain": "grün", "nested": ["значение"]}
    async with server.client(encoding="latin-1", decode_responses=True) as redis:
        streams = RedisStreamManager(redis)
        await streams.xadd("s", fields)
        await streams.xadd_many("s", [fields])
        read = await redis.xrange("s") or []
        assert [decode_fields(found or {}) for _, found in read] == [fields, fields]
        with pytest.raises(UnsupportedTypeError, match=r"'s'.*latin-1.*'имя'"):
            await streams.xadd("s", {"имя": 1})


async def test_a_client_that_decodes_is_told_what_it_cannot_read(
    deployments: Callable[[str], Deployment], caplog: pytest.LogCaptureFixture
) -> None:
    server = deployments("valkey-9.1")
    server.reset()
    frame = snapdelta.dumps({"A": {"x": 1}})
    async with server.client(decode_responses=True) as redis, server.client() as exact:
        for _ in range(2):
            await RedisStreamManager(exact).xadd("s", {"frame": frame})
        assert caplog.records == []
        streams = RedisStreamManager(redis)
        await streams.xadd("s", {"text": b"text", "name": "значение"})
        assert caplog.records == []
        for _ in range(2):
            await streams.xadd("s", {"text": b"text", "frame": frame})
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert "stream 's', field 'frame'" in record.getMessage()
        assert "NEVER_DECODE" in record.getMessage()


# --- what it says


async def test_info_says_how_full_a_stream_is(redis: AsyncClient) -> None:
    streams = RedisStreamManager(redis, {"s": StreamPolicy(maxlen=1000, max_bytes=1_000_000, max_age=3600.0)})
    empty = await streams.info("s")
    assert (empty.length, empty.bytes, empty.oldest_id, empty.usage, empty.groups) == (0, 0, None, 0.0, [])
    await streams.xadd_many("s", [{"n": n} for n in range(250)])
    await redis.xgroup_create("s", "g", id="0")
    await read(redis, "s", "g", 40)
    await read(redis, "s", "g", 10, acknowledge=False)
    info = await streams.info("s")
    assert (info.length, info.usage) == (250, 25.0)
    assert 0 < info.bytes < 100_000
    ids = await ids_of(redis, "s")
    assert (info.oldest_id, info.newest_id) == (ids[0].decode(), ids[-1].decode())
    assert info.oldest_age is not None
    assert info.newest_age is not None
    assert info.oldest_age >= info.newest_age >= 0
    (group,) = info.groups
    assert (group.name, group.consumers, group.pending, group.last_delivered_id) == (
        "g",
        1,
        10,
        ids[49].decode(),
    )
    # Redis 6.2 does not know the lag.
    assert group.lag in (200, None)
    assert list(await streams.info_all()) == ["s"]


async def test_ids_that_are_no_times_have_no_age(redis: AsyncClient) -> None:
    streams = RedisStreamManager(redis)
    await streams.xadd("s", {"n": 1}, id="7-1")
    info = await streams.info("s")
    assert (info.oldest_id, info.oldest_age, info.newest_age) == ("7-1", None, None)


async def test_names_that_are_not_utf8_are_found_and_kept(server: Server) -> None:
    looks = Looks()
    async with server.client(decode_responses=True) as redis:
        await redis.xadd(b"odd:\xff", {"n": "1"})
        async with manager(redis, {"odd:*": quick(maxlen=5)}, on_trim=looks) as streams:
            await until(lambda: bool(looks.reports))
            assert looks.reports[0].length == 1
            assert (await streams.info(looks.reports[0].stream)).length == 1


async def test_trim_all_goes_on_after_a_failure(redis: AsyncClient) -> None:
    policies = {name: StreamPolicy(maxlen=10, approximate=False) for name in ("a", "text", "z")}
    streams = RedisStreamManager(redis, policies)
    await fill(redis, "a", 50)
    await redis.set("text", "x")
    await fill(redis, "z", 50)
    results = await streams.trim_all()
    assert isinstance(results["text"], StreamError)
    assert [await redis.xlen(name) for name in "az"] == [10, 10]
    counters = streams.stats().counters
    assert (counters.trims, counters.trim_errors, counters.entries_trimmed) == (2, 1, 80)
