"""What docs/streams.md shows runs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from redis.asyncio import Redis

import snapdelta.redis_stream_manager as module
import snapdelta.streams.registry as registry
from snapdelta import decode_fields, dumps, loads
from snapdelta.redis_stream_manager import RedisStreamManager, StreamPolicy
from snapdelta.streams.settings_file import load_settings
from support.documents import ROOT, blocks, run
from support.servers import Deployment, Server

_DOCUMENT = "docs/streams.md"
_TEXT = (ROOT / _DOCUMENT).read_text(encoding="utf-8")


async def test_the_first_example(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_manager", None)
    code = blocks(_DOCUMENT, "python")[0].replace("Redis()", f"Redis(port={server.port})")
    names = await run(code, _DOCUMENT, {"frame": b"x" * 60_000})
    assert not names["stream_manager"].health().running
    assert await names["redis"].xlen("ranking:deltas") == await names["redis"].xlen("session:42") == 1
    await names["redis"].aclose()


@pytest.mark.parametrize("kind", ["redis-6.2", "redis-8.2"])
async def test_a_consumer_that_decodes(deployments: Callable[[str], Deployment], kind: str) -> None:
    server = deployments(kind)
    assert isinstance(server, Server)
    server.reset()
    async with server.client(decode_responses=True) as redis:
        await RedisStreamManager(redis).xadd("ranking:deltas", {"frame": dumps({"A": {"x": 1}})})
        await redis.xgroup_create("ranking:deltas", "scanner", id="0")
        # redis-py loses the entry, which stays pending; that is what the document is about.
        with pytest.raises(UnicodeDecodeError):
            await redis.xreadgroup("scanner", "consumer-1", {"ranking:deltas": ">"})
    code = blocks(_DOCUMENT, "python")[1].replace("Redis(", f"Redis(port={server.port}, protocol=2, ")
    names = await run(code, _DOCUMENT, {"Redis": Redis, "loads": loads, "decode_fields": decode_fields})
    assert names["snapshot"] == {"A": {"x": 1}}
    await names["consumer"].aclose()


def test_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(blocks(_DOCUMENT, "toml")[0])
    settings = load_settings(path)
    assert settings.policies == {"snapshots:raw": StreamPolicy(maxlen=3, max_bytes=40_000_000)}
    assert settings.discover == "session:*"


def test_the_policies_of_the_table() -> None:
    shown = re.findall(r"\| `((?:maxlen|max_)[a-z_]*=[^`]*)` \|", _TEXT)
    assert len(shown) == 4
    for policy in shown:
        assert eval(f"StreamPolicy({policy})") != StreamPolicy()


def test_every_counter_is_explained() -> None:
    for name in module.Counters.__dataclass_fields__:
        assert f"`{name}`" in _TEXT
