"""What docs/faq.md shows runs."""

from __future__ import annotations

import asyncio

from snapdelta import SnapshotManager
from support.documents import blocks
from support.servers import Server, on_one_server

_DOCUMENT = "docs/faq.md"
_TO_DICT, _TO_PANDAS, _SYNC = blocks(_DOCUMENT, "python")


def test_data_frames() -> None:
    names: dict[str, object] = {}
    exec(compile(_TO_DICT, _DOCUMENT, "exec"), names)
    exec(compile(_TO_PANDAS, _DOCUMENT, "exec"), names)
    assert "restored" in names


@on_one_server
async def test_a_script_without_a_loop(server: Server) -> None:
    async with server.client() as redis, SnapshotManager(redis) as manager:
        await manager.save_snapshot({"AAPL": {"price": 187.12}}, name="ranking")
    code = _SYNC.replace("Redis()", f"Redis(port={server.port})")
    names: dict[str, object] = {}
    await asyncio.to_thread(exec, compile(code, _DOCUMENT, "exec"), names)
    assert names["market"] == {"AAPL": {"price": 187.12}}
