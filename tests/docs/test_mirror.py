"""What docs/mirror.md shows runs, and the rights that it lists are enough."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable
from dataclasses import fields
from typing import Any

from snapdelta import SnapshotManager, SnapshotMirror
from snapdelta.snapshots.scripts import MIRROR
from snapdelta.snapshots.stats import MirrorCounters
from support.documents import ROOT, blocks, run
from support.servers import Server
from support.stream_harness import until

_DOCUMENT = "docs/mirror.md"
_TEXT = (ROOT / _DOCUMENT).read_text(encoding="utf-8")
_ROWS = "snapdelta:{ranking}:rows"


async def test_the_examples(server: Server) -> None:
    writing, rows, getting = blocks(_DOCUMENT, "python")
    names: dict[str, Any] = await run(writing.replace("Redis()", f"Redis(port={server.port})"), _DOCUMENT)
    redis = names["redis"]
    await until(lambda: _exists(redis))
    await run(rows, _DOCUMENT, names)
    await run(getting, _DOCUMENT, names)
    names["mirroring"].cancel()
    await asyncio.gather(names["mirroring"], return_exceptions=True)
    await redis.aclose()


def _exists(redis: Any) -> Awaitable[bool]:
    exists: Awaitable[bool] = redis.hexists(_ROWS, "__meta__")
    return exists


async def test_the_rights_are_enough(server: Server) -> None:
    (line,) = re.findall(r"^ACL SETUSER mirror.*$", _TEXT, re.M)
    server.execute(*line.split(), "~plain")
    try:
        async with (
            server.client() as redis,
            server.client(username="mirror", password="password") as own,
            SnapshotManager(redis) as manager,
        ):
            mirroring = asyncio.create_task(SnapshotMirror(own, "ranking", plain_key="plain").run())
            for number in range(3):
                await manager.save_snapshot({f"S{number}": number, "A": number}, name="ranking")
            await until(lambda: _is(redis, b'{"S2":2,"A":2}'))
            await redis.set(_ROWS, "not ours")
            await manager.save_snapshot({"A": 3}, name="ranking")
            await until(lambda: _is(redis, b'{"A":3}'))
            mirroring.cancel()
            await asyncio.gather(mirroring, return_exceptions=True)
    finally:
        server.execute("ACL", "DELUSER", "mirror")


async def _is(redis: Any, expected: bytes) -> bool:
    return bool(await redis.get("plain") == expected)


def test_the_rights_are_those_of_the_script() -> None:
    (granted,) = re.findall(r"^ACL SETUSER mirror (.*)$", _TEXT, re.M)
    rights = {right[1:] for right in granted.split() if right.startswith("+")}
    used = {command.lower() for command in re.findall(r"(?:redis\.p?call|in_batches)\('(\w+)'", MIRROR.text)}
    reads = {"hmget", "xread", "xrange", "xrevrange", "time"}
    assert rights == used | reads | {"evalsha", "eval"}


def test_every_counter_is_explained() -> None:
    for counter in fields(MirrorCounters):
        assert f"`{counter.name}`" in _TEXT
