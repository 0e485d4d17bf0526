"""`snapdelta doctor`: each fault is planted in a real server and named; on healthy servers nothing is."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from snapdelta import SnapshotManager, SnapshotMirror
from snapdelta.doctor.redis import Bounds, _group
from snapdelta.streams.policy import StreamPolicy
from snapdelta.streams.report import describe
from snapdelta.streams.store import StreamStore
from support.cli import execute
from support.corruption import DAMAGE, tamper
from support.servers import Deployment, Server, on_one_server, wait_until
from support.stream_harness import fill, read

HEAD, FULL, DELTA = (f"snapdelta:{{x}}:{part}" for part in ("head", "full", "delta"))


async def doctor(url: str, *arguments: str) -> tuple[int, list[dict[str, str]]]:
    ran = await asyncio.to_thread(execute, "doctor", *arguments, "--json", "--redis", url)
    assert not ran.stderr
    return ran.returncode, json.loads(ran.stdout)["findings"]


async def use(deployment: Deployment) -> None:
    """Snapshots, a mirror, and a bounded stream whose group is read."""
    redis = deployment.client()
    async with SnapshotManager(redis) as manager:
        for number in range(4):
            await manager.save_snapshot({f"S{n}": {"n": n * number} for n in range(100)}, "x")
    await SnapshotMirror(redis, "x").sync()
    await fill(redis, "events", 500)
    await redis.xgroup_create("events", "g", "0")
    await read(redis, "events", "g", 100)
    await redis.aclose()


async def test_nothing_is_named_on_healthy_servers(deployment: Deployment) -> None:
    node = deployment if isinstance(deployment, Server) else deployment.nodes[0]
    assert await doctor(node.url) == (0, [])
    await use(deployment)
    assert await doctor(node.url) == (0, [])


def _damage(server: Server) -> None:
    tamper(server, DELTA, DAMAGE["flipped"], behind=1)


def _one_node(server: Server) -> None:
    for what in ("entries", "bytes"):
        server.config_set(f"stream-node-max-{what}", 0)


def _disk(server: Server) -> None:
    # The file cannot take the place of a folder.
    (server.directory / "dump.rdb").mkdir()
    server.execute("BGSAVE")
    wait_until(lambda: server._info("persistence")["rdb_last_bgsave_status"] == "err")


PLANTED: list[tuple[str, Callable[[Server], object], tuple[str, ...], tuple[str, str, str]]] = [
    (
        "eviction",
        lambda s: s.config_set("maxmemory-policy", "allkeys-lru"),
        (),
        ("server", "eviction", "allkeys-lru"),
    ),
    ("one-node", _one_node, (), ("server", "stream-node-max-*", "both 0")),
    ("timeout", lambda s: s.config_set("timeout", 5), (), ("server", "timeout", "5 s")),
    ("disk", _disk, (), ("server", "persistence", "RDB")),
    ("entries", lambda s: None, ("--max-entries", "400"), ("events", "bound", "500 entries")),
    ("idle", lambda s: None, ("--group-idle", "0.001"), ("events", "group g", "last consumer was active")),
    (
        "nobody",
        lambda s: s.execute("XGROUP", "CREATE", "events", "other", "0"),
        (),
        ("events", "group other", "it has no consumer"),
    ),
    ("chain", _damage, (), ("x", "chain", "do not lead to")),
    ("limits", lambda s: None, ("--limits", "1000"), ("x", "chain", "the limit is 1,000 bytes")),
    ("head", lambda s: s.execute("DEL", HEAD), (), ("x", "keys", f"{HEAD} is gone")),
    (
        "type",
        lambda s: (s.execute("DEL", FULL), s.execute("SET", FULL, 1)),
        (),
        ("x", "keys", "holds a string"),
    ),
    ("stale", lambda s: None, ("--stale-after", "0.001"), ("x", "keys", "no save for")),
]


@on_one_server
@pytest.mark.parametrize(
    ("plant", "arguments", "named"), [case[1:] for case in PLANTED], ids=[c[0] for c in PLANTED]
)
async def test_a_fault_is_named(
    server: Server, plant: Callable[[Server], object], arguments: tuple[str, ...], named: tuple[str, str, str]
) -> None:
    await use(server)
    try:
        plant(server)
        code, findings = await doctor(server.url, *arguments)
    finally:
        folder = server.directory / "dump.rdb"
        if folder.is_dir():
            folder.rmdir()
            server.execute("SAVE")
    assert code == 1
    (finding,) = findings
    assert (finding["subject"], finding["check"]) == named[:2]
    assert named[2] in finding["actual"]
    assert finding["advice"]
    assert finding["severity"] == "fault"


@on_one_server
async def test_a_client_that_gives_up_too_soon(server: Server) -> None:
    code, (finding,) = await doctor(f"{server.url}?socket_timeout=1")
    assert (code, finding["subject"], finding["actual"]) == (1, "client", "1 s")


@on_one_server
async def test_it_asks_for_the_settings_that_it_needs(server: Server) -> None:
    """Not for all: they may hold passwords."""
    server.config_set("slowlog-log-slower-than", 0)
    server.config_set("slowlog-max-len", 1000)
    server.execute("SLOWLOG", "RESET")
    await doctor(server.url)
    with server.admin() as client:
        asked = {entry["command"] for entry in client.slowlog_get(1000)}
    configs = {text for text in asked if text.upper().startswith(b"CONFIG GET")}
    assert configs == {b"CONFIG GET stream-node-max-*", b"CONFIG GET timeout"}


@on_one_server
async def test_a_stream_that_goes_while_it_looks(server: Server) -> None:
    async with server.client() as redis:
        await fill(redis, "events", 5)
        await redis.xgroup_create("events", "g", "0")
        store = StreamStore(redis, 30.0)
        info = await describe(store, "events", StreamPolicy(maxlen=10))
        (group,) = info.groups
        assert await _group(store, info, group, Bounds())
        await redis.xgroup_destroy("events", "g")
        assert not await _group(store, info, group, Bounds())
        await redis.delete("events")
        assert not await _group(store, info, group, Bounds())
        await redis.set("events", "x")
        assert not await _group(store, info, group, Bounds())


@on_one_server
async def test_two_bounds_on_one_stream(server: Server, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(
        '[streams.policies."stream:*"]\nmaxlen = 5000\n[streams.policies.events]\nmaxlen = 1000\n'
    )
    await use(server)
    watched = ("--policies", str(file))
    assert await doctor(server.url, *watched, "--watch", "0.5") == (0, [])
    async with server.client() as redis:
        done = False

        async def write() -> None:
            number = 0
            while not done:
                number += 1
                # One program keeps 200, by hand, where the file says 5000; the other stream has one bound.
                await redis.xadd("stream:alerts", {"n": number}, maxlen=200, approximate=False)
                await redis.xadd("events", {"n": number}, maxlen=1000, approximate=False)
                await redis.xreadgroup("g", "consumer", {"events": ">"}, noack=True)
                await asyncio.sleep(0.002)

        await fill(redis, "stream:alerts", 200)
        await fill(redis, "events", 600)
        writing = asyncio.create_task(write())
        try:
            code, findings = await doctor(server.url, *watched, "--watch", "3")
        finally:
            done = True
            await writing
    assert code == 1
    (finding,) = findings
    assert (finding["subject"], finding["check"]) == ("stream:alerts", "second bound")
    assert "about 200 remain, but this policy keeps 5000" in finding["actual"]
    assert "bound the stream in one program" in finding["advice"]
    no_file = await asyncio.to_thread(
        execute, "doctor", "--policies", str(tmp_path / "none"), "--redis", server.url
    )
    assert (no_file.returncode, "cannot be read" in no_file.stderr) == (2, True)


async def test_config_is_not_available(fresh_server: Callable[..., Server], server: Server) -> None:
    """Forbidden, or renamed: a warning, as snapdelta works without it."""
    server.execute("ACL", "SETUSER", "plain", "on", ">p", "~*", "+@all", "-config")
    renamed = fresh_server(server.kind, **{"rename-command CONFIG": "HIDDEN"})
    try:
        for url in (server.url.replace("//", "//plain:p@"), renamed.url):
            code, (finding,) = await doctor(url)
            assert (code, finding["check"], finding["severity"]) == (0, "CONFIG", "warning")
    finally:
        server.execute("ACL", "DELUSER", "plain")


async def test_replicas(fresh_server: Callable[..., Server]) -> None:
    master, replica = fresh_server(), fresh_server()
    replica.replicate(master)
    await use(master)
    assert await doctor(master.url) == (0, [])
    assert await doctor(replica.url) == (0, [])
    replica.pause()
    try:
        wait_until(lambda: int(master._info("replication")["slave0"]["lag"]) >= 2)
        code, (finding,) = await doctor(master.url, "--replica-lag", "1")
    finally:
        replica.resume()
    assert (code, finding["check"]) == (1, "replication")
    assert "behind" in finding["actual"]
    master.kill()
    wait_until(lambda: replica._info("replication")["master_link_status"] == "down")
    code, (finding,) = await doctor(replica.url)
    assert (code, finding["actual"]) == (1, "a replica that has lost its master")


@on_one_server
async def test_what_a_person_sees(server: Server) -> None:
    healthy = await asyncio.to_thread(execute, "doctor", "--redis", server.url)
    assert (healthy.returncode, healthy.stdout) == (0, "no faults\n")
    server.config_set("timeout", 5)
    seen = await asyncio.to_thread(execute, "doctor", "--redis", server.url, columns=60)
    assert seen.returncode == 1
    (line, count) = seen.stdout.splitlines()
    assert line.startswith("fault: server: timeout: 5 s; the server closes")
    assert count == "1 fault"
    away = await asyncio.to_thread(execute, "doctor", "--redis", "redis://127.0.0.1:1")
    assert (away.returncode, away.stdout) == (2, "")
