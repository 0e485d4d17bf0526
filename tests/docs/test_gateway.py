"""What docs/gateway.md shows runs, and its settings are those of the code."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

from snapdelta import Decoder, SnapshotManager
from snapdelta.gateway import GatewaySettings
from snapdelta.gateway.settings import GatewayOptions
from support.documents import ROOT, blocks
from support.servers import Server
from support.stream_harness import until
from support.uvicorn import get, serving

_DOCUMENT = "docs/gateway.md"
_TEXT = (ROOT / _DOCUMENT).read_text(encoding="utf-8")


async def test_the_example(fresh_server: Callable[..., Server], tmp_path: Path) -> None:
    server = fresh_server()
    (code,) = blocks(_DOCUMENT, "python")
    (tmp_path / "example.py").write_text(code.replace("Redis()", f"Redis(port={server.port})"))
    with serving(tmp_path, "example") as (_, port):
        async with server.client() as redis, SnapshotManager(redis) as manager:
            for name in ("ranking", "gainers"):
                await manager.save_snapshot({"AAPL": {"price": 187.12}}, name)

            async def is_ready() -> bool:
                return (await get(port, "/live/readyz"))[0] == 200

            await until(is_ready)
            assert (await get(port, "/live/snapshots/ranking"))[0] == 403
            url = f"ws://127.0.0.1:{port}/live/snapshots/ranking/stream"
            with pytest.raises(InvalidStatus):
                await connect(url)
            decoder = Decoder()
            async with connect(url, additional_headers={"authorization": "Bearer secret"}) as socket:
                async for message in socket:
                    if isinstance(message, bytes):
                        decoder.apply(message)
                        break
            assert decoder.snapshot() == {"AAPL": {"price": 187.12}}


def test_the_settings_are_those_of_the_code() -> None:
    names = {field.name for field in fields(GatewaySettings)}
    table = _TEXT.partition("## Limits")[2].partition("An impossible setting")[0]
    named = (line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    assert {name for cell in named for name in re.findall(r"`(\w+)`", cell)} == names
    assert GatewayOptions.__annotations__.keys() == names
