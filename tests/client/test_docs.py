"""What docs/javascript.md shows runs."""

from __future__ import annotations

import asyncio
import json
import subprocess
from pathlib import Path

import snapdelta
from client.node import CLIENT, require_client
from client.socket_server import socket_server
from snapdelta.snapshot_manager import SnapshotManager
from support.documents import blocks
from support.servers import Server, on_one_server

SNAPSHOT = {"AAPL": {"price": 187.12, "volume": 1000}, "MSFT": {"price": 410.5, "volume": 7}}
DECODER, REDIS, SOCKET = blocks("docs/javascript.md", "js")


def run(code: str) -> object:
    """What the module writes, as JSON."""
    require_client()
    command = ["node", "--input-type=module", "--eval", code]
    done = subprocess.run(command, cwd=CLIENT, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_decoder(tmp_path: Path) -> None:
    frame = tmp_path / "frame"
    frame.write_bytes(snapdelta.dumps(SNAPSHOT))
    read = f'import {{ readFileSync }} from "node:fs"; const frame = readFileSync({json.dumps(str(frame))});'
    said = "console.log(JSON.stringify([decoder.get('AAPL'), [...decoder.column('price')]]));"
    assert run(f"{read}\n{DECODER}\n{said}") == [SNAPSHOT["AAPL"], [187.12, 410.5]]


@on_one_server
async def test_redis(server: Server) -> None:
    async with server.client() as redis, SnapshotManager(redis) as manager:
        await manager.save_snapshot(SNAPSHOT, name="ranking")
    show = """
        const shown = [];
        const hide = () => {};
        function show(symbol, record) {
          shown.push([symbol, record]);
          if (shown.length === 2) {
            console.log(JSON.stringify(shown));
            process.exit();
          }
        }"""
    code = REDIS.replace("new Redis()", f"new Redis({server.port})")
    shown = await asyncio.to_thread(run, show + code)
    assert shown == [[symbol, record] for symbol, record in SNAPSHOT.items()]


async def test_websocket() -> None:
    draw = """
        import { WebSocket } from "ws";
        import { followWebSocket } from "snapdelta";
        globalThis.WebSocket = WebSocket;
        function draw(column) {
          console.log(JSON.stringify([...column]));
          process.exit();
        }"""
    async with socket_server() as server:
        (state,) = server.states.values()
        code = SOCKET.replace("wss://example.org/snapshots/ranking/stream", server.url)
        drawn = await asyncio.to_thread(run, draw + code)
    # The mark has no price, and JSON no NaN.
    assert drawn == [record.get("price") for record in state.values()]
