"""docs/errors.md: each error class is provoked once, and its text is the one on the page."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime
from importlib.resources import files
from io import BytesIO
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
import zstandard
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

import snapdelta
import snapdelta.streams.registry as registry
from snapdelta import RedisStreamManager, SnapshotManager, SnapshotMirror, SnapshotReader, errors, timescale
from snapdelta.testing.feed import Feed
from snapdelta.testing.recordings import read_recording
from snapdelta.testing.server import EmbeddedServer, free_port
from support.corruption import flipped, tamper
from support.documents import ROOT, shown_errors
from support.frames import at_version
from support.servers import Server

SHOWN = shown_errors()
# Nothing raises the roots. A Rust test and a PostgreSQL provoke the others.
ELSEWHERE = {"SnapdeltaError", "StreamError", "SnapshotError", "EncodingError", "MigrationLockedError"}
AAPL = {"AAPL": {"price": 187.12}}
NVDA = {"AAPL": {"price": 187.12}, "NVDA": {"price": 131.2}}


class Stage:
    """A server without keys, and the clients of one attempt."""

    def __init__(self, server: Server, folder: Path, opened: AsyncExitStack) -> None:
        self.server, self.folder, self.opened = server, folder, opened
        self.closed_port = free_port()

    def client(self, **options: Any) -> Redis:
        client = self.server.client(**options)
        self.opened.push_async_callback(client.aclose)
        return client

    def nobody(self) -> Redis:
        """A client whose user has no right to any command of snapdelta."""
        self.server.execute("ACL", "SETUSER", "nobody", "reset", "on", ">password", "~*", "+client", "+hello")
        return self.client(username="nobody", password="password")

    def unreachable(self) -> Redis:
        client = Redis(port=self.closed_port, retry=Retry(NoBackoff(), 0))
        self.opened.push_async_callback(client.aclose)
        return client

    async def exhausted(self) -> Redis:
        """A client whose only connection is in use."""
        client = self.client(max_connections=1)
        connection = await client.connection_pool.get_connection()  # type: ignore[no-untyped-call]
        self.opened.push_async_callback(client.connection_pool.release, connection)
        return client

    async def manager(self, client: Redis | None = None, **settings: Any) -> SnapshotManager:
        return await self.opened.enter_async_context(
            SnapshotManager(self.client() if client is None else client, **settings)
        )

    async def saved(self) -> SnapshotReader:
        """A reader of a name that was saved once."""
        await (await self.manager()).save_snapshot(AAPL, name="ranking")
        return SnapshotReader(self.client(), "ranking")

    def text(self, error: BaseException) -> str:
        """The error's text in one line; what differs from run to run is as the page has it."""
        text = str(error).replace(str(self.server.port), "6379").replace(str(self.closed_port), "6380")
        text = re.sub(r"\b1[7-9]\d{11}\b", "1772443800000", text.replace(str(self.folder), "/data"))
        moment = r"\b1[7-9]\d{8}\.\d{3} \(\S+ \S+ UTC\)"
        return " ".join(re.sub(moment, "1772443800.000 (2026-03-02 09:30:00 UTC)", text).split())


async def usage(stage: Stage) -> None:
    snapdelta.diff(AAPL, NVDA, level=0)


async def unsupported_type(stage: Stage) -> None:
    snapdelta.dumps({"AAPL": {"tags": {1}}})


async def corrupt_delta(stage: Stage) -> None:
    snapdelta.loads(b'{"AAPL": {"price": 187.12}}')


async def limit_exceeded(stage: Stage) -> None:
    snapdelta.loads(snapdelta.dumps(next(Feed("enriched", 50))), limits=snapdelta.Limits(1000))


async def unsupported_version(stage: Stage) -> None:
    snapdelta.loads(at_version(snapdelta.dumps(AAPL), 2))


async def base_mismatch(stage: Stage) -> None:
    snapdelta.apply({"NVDA": {"price": 0.5}}, snapdelta.diff(AAPL, NVDA))


async def unknown_zone(stage: Stage) -> None:
    rules = BytesIO((files("tzdata.zoneinfo") / "UTC").read_bytes())
    zone = ZoneInfo.from_file(rules, key="Mars/Olympus")
    snapdelta.loads(snapdelta.dumps({"AAPL": {"at": datetime(2026, 3, 2, tzinfo=zone)}}))


async def encoder_busy(stage: Stage) -> None:
    encoder = snapdelta.Encoder()
    pending = encoder.capture(AAPL)
    try:
        encoder.encode(NVDA)
    finally:
        pending.finish()


async def feed_setting(stage: Stage) -> None:
    Feed("enriched", symbols=-1)


async def recording(stage: Stage) -> None:
    path = stage.folder / "market.ndjson.zst"
    path.write_bytes(zstandard.compress(b'{"t": "09:30", "snapshot": {}}\n'))
    next(read_recording(path))


async def missing_extra(stage: Stage) -> None:
    code = (
        "import sys; sys.modules['redis'] = None\n"
        "import snapdelta\n"
        "try: snapdelta.SnapshotManager\n"
        "except snapdelta.errors.MissingExtraError as error: print(error)"
    )
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=subprocess.PIPE)
    said, _ = await process.communicate()
    raise errors.MissingExtraError(said.decode().strip())


async def stream_policy(stage: Stage) -> None:
    snapdelta.StreamPolicy(maxlen=0)


async def stream_argument(stage: Stage) -> None:
    await RedisStreamManager(stage.client(), {}).xadd("orders", {})


async def stream_manager(stage: Stage) -> None:
    snapdelta.get_stream_manager()


async def unlisted_stream(stage: Stage) -> None:
    await RedisStreamManager(stage.client(), {}, strict=True).xadd("orders", {"id": 1})


async def protected_stream(stage: Stage) -> None:
    await RedisStreamManager(stage.client(), {}).xadd("snapdelta:{ranking}:delta", {"id": 1})


async def stream_access(stage: Stage) -> None:
    await RedisStreamManager(stage.nobody(), {}).xadd("orders", {"id": 1})


async def stream_unavailable(stage: Stage) -> None:
    await RedisStreamManager(stage.unreachable(), {}).xadd("orders", {"id": 1})


async def stream_pool_exhausted(stage: Stage) -> None:
    await RedisStreamManager(await stage.exhausted(), {}).xadd("orders", {"id": 1})


async def stream_type(stage: Stage) -> None:
    stage.server.execute("SET", "orders", "text")
    await RedisStreamManager(stage.client(), {}).xadd("orders", {"id": 1})


async def stream_memory(stage: Stage) -> None:
    stage.server.config_set("maxmemory", 1)
    await RedisStreamManager(stage.client(), {}).xadd("orders", {"id": 1})


async def embedded_server(stage: Stage) -> None:
    EmbeddedServer(binary="/opt/valkey-server").start()


async def snapshot_setting(stage: Stage) -> None:
    await stage.manager(retained_fulls=1)


async def snapshot_closed(stage: Stage) -> None:
    manager = await stage.manager()
    await manager.close()
    await manager.save_snapshot(AAPL, name="ranking")


async def snapshot_busy(stage: Stage) -> None:
    manager = await stage.manager()
    saves = [manager.save_snapshot(AAPL, name="ranking") for _ in range(3)]
    done = await asyncio.gather(*saves, return_exceptions=True)
    (refused,) = (error for error in done if isinstance(error, BaseException))
    raise refused


async def snapshot_update(stage: Stage) -> None:
    await (await stage.manager()).update(AAPL, name="ranking")


async def snapshot_rejected(stage: Stage) -> None:
    await (await stage.manager(min_symbols=1)).save_snapshot({}, name="ranking")


async def writer_superseded(stage: Stage) -> None:
    earlier, later = await stage.manager(), await stage.manager()
    for manager in (earlier, later, earlier):
        await manager.save_snapshot(AAPL, name="ranking")


async def snapshot_history(stage: Stage) -> None:
    await (await stage.saved()).at(1_000_000_000)


async def snapshot_damaged(stage: Stage) -> None:
    reader = await stage.saved()
    tamper(stage.server, "snapdelta:{ranking}:full", flipped)
    await reader.latest()


async def snapshot_mirror(stage: Stage) -> None:
    await (await stage.manager()).save_snapshot({"__meta__": {}}, name="ranking")
    await SnapshotMirror(stage.client(), "ranking").sync()


async def snapshot_access(stage: Stage) -> None:
    await SnapshotReader(stage.nobody(), "ranking").latest()


async def snapshot_unavailable(stage: Stage) -> None:
    await SnapshotReader(stage.unreachable(), "ranking").latest()


async def snapshot_pool_exhausted(stage: Stage) -> None:
    await SnapshotReader(await stage.exhausted(), "ranking").latest()


async def snapshot_type(stage: Stage) -> None:
    stage.server.execute("SET", "snapdelta:{ranking}:head", "text")
    await SnapshotReader(stage.client(), "ranking").latest()


async def snapshot_memory(stage: Stage) -> None:
    stage.server.config_set("maxmemory", 1)
    await (await stage.manager()).save_snapshot(AAPL, name="ranking")


async def snapshot_read_only(stage: Stage) -> None:
    stage.server.execute("REPLICAOF", "127.0.0.1", stage.closed_port)
    await (await stage.manager()).save_snapshot(AAPL, name="ranking")


async def migration(stage: Stage) -> None:
    timescale.status(f"postgresql://scanner@127.0.0.1:{stage.closed_port}/scanner")


async def migration_setting(stage: Stage) -> None:
    timescale.plan({"raw_retention": "soon"})


ATTEMPTS: dict[str, Callable[[Stage], Awaitable[None]]] = {
    "".join(map(str.title, attempt.__name__.split("_"))) + "Error": attempt
    for attempt in (
        *(usage, unsupported_type, corrupt_delta, limit_exceeded, unsupported_version, base_mismatch),
        *(unknown_zone, encoder_busy, feed_setting, recording, missing_extra),
        *(stream_policy, stream_argument, stream_manager, unlisted_stream, protected_stream, stream_access),
        *(stream_unavailable, stream_pool_exhausted, stream_type, stream_memory, embedded_server),
        *(snapshot_setting, snapshot_closed, snapshot_busy, snapshot_update, snapshot_rejected),
        *(writer_superseded, snapshot_history, snapshot_damaged, snapshot_mirror, snapshot_access),
        *(snapshot_unavailable, snapshot_pool_exhausted, snapshot_type, snapshot_memory),
        *(snapshot_read_only, migration, migration_setting),
    )
}


@pytest.fixture
async def stage(deployments: Any, tmp_path: Path) -> AsyncIterator[Stage]:
    server = deployments("valkey-9.1")
    server.reset()
    async with AsyncExitStack() as opened:
        yield Stage(server, tmp_path, opened)
        server.reset()  # before the managers close


def test_every_class_is_on_the_page_and_provoked() -> None:
    classes = {name for name, value in vars(errors).items() if isinstance(value, type)}
    assert SHOWN.keys() == classes
    assert ATTEMPTS.keys() == classes - ELSEWHERE


@pytest.mark.parametrize("name", ATTEMPTS)
async def test_the_text_is_the_one_on_the_page(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(registry, "_manager", None)
    with pytest.raises(getattr(errors, name)) as caught:
        await ATTEMPTS[name](stage)
    assert type(caught.value) is getattr(errors, name)
    assert stage.text(caught.value) == SHOWN[name]


def test_the_text_of_a_frame_that_does_not_read_back() -> None:
    """Nothing but a fault that a Rust test puts in provokes it."""
    source = (ROOT / "rust/src/codec/encoder.rs").read_text(encoding="utf-8")
    text = re.sub(r"\\\n\s*", "", source)
    words = SHOWN["EncodingError"].replace("full", "{kind}").replace("17", "{sequence}")
    assert words.replace("digest mismatch", "{error}") in text
