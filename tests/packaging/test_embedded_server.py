"""snapdelta.testing.server: the server comes up, answers, and goes with its process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import redis as sync_redis

from snapdelta.errors import EmbeddedServerError
from snapdelta.testing.server import EmbeddedServer, free_port
from support.servers import KINDS, Server, wait_until


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # A process that nobody has waited for yet is a zombie, not a server.
    return ") Z " not in Path(f"/proc/{pid}/stat").read_text()


@pytest.mark.parametrize("unix_socket", [False, True])
def test_starts_serves_and_cleans_up(unix_socket: bool) -> None:
    with EmbeddedServer(unix_socket=unix_socket) as server:
        with sync_redis.from_url(server.url) as client:
            assert client.set("key", "value")
        directory, pid = server.directory, server.pid
        assert server.running
        assert directory.exists()
    assert not server.running
    assert not _alive(pid)
    assert not directory.exists()


@pytest.mark.parametrize(("persist", "kept"), [(True, b"value"), (False, None)])
def test_data_outlives_a_crash_only_with_persist(persist: bool, kept: bytes | None) -> None:
    with EmbeddedServer(persist=persist) as server:
        port = server.port
        with sync_redis.from_url(server.url) as client:
            client.set("key", "value")
        server.kill()
        server.start()
        assert server.port == port
        with sync_redis.from_url(server.url) as client:
            assert client.get("key") == kept


def test_has_loaded_its_data_when_it_has_started() -> None:
    with EmbeddedServer(persist=True, settings={"key-load-delay": 300}) as server:
        with sync_redis.from_url(server.url) as client, client.pipeline() as pipeline:
            for number in range(3_000):
                pipeline.set(f"key{number}", number)
            pipeline.execute()
        server.kill()
        server.start()
        with sync_redis.from_url(server.url) as client:
            assert client.get("key2999") == b"2999"


def test_ends_with_its_process_even_when_that_is_killed() -> None:
    program = (
        "import sys, time; from snapdelta.testing.server import EmbeddedServer\n"
        "server = EmbeddedServer().start(); print(server.pid, server.directory, flush=True); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid, directory = owner.stdout.readline().split()
        assert _alive(int(pid))
        owner.send_signal(signal.SIGKILL)
    wait_until(lambda: not _alive(int(pid)), what="the server's end")
    # Nobody was left to remove it.
    for path in Path(directory).iterdir():
        path.unlink()
    Path(directory).rmdir()


def test_settings_reach_the_server() -> None:
    with EmbeddedServer(settings={"maxmemory": "50mb"}) as server, sync_redis.from_url(server.url) as client:
        assert client.config_get("maxmemory")["maxmemory"] == str(50 * 1024 * 1024)


def test_a_server_that_cannot_start_says_why() -> None:
    server = EmbeddedServer(settings={"no-such-setting": "1"})
    with pytest.raises(EmbeddedServerError, match="no-such-setting"):
        server.start()
    assert not server.running
    server.close()


def test_a_taken_port_is_an_error_that_names_it() -> None:
    with EmbeddedServer() as first:
        second = EmbeddedServer(port=first.port)
        with pytest.raises(EmbeddedServerError, match="Address already in use"):
            second.start()
        second.close()


def test_port_and_socket_exclude_each_other() -> None:
    with pytest.raises(EmbeddedServerError, match="exclude"):
        EmbeddedServer(port=free_port(), unix_socket=True)


def test_pid_before_start_is_an_error() -> None:
    with pytest.raises(EmbeddedServerError, match="start"):
        _ = EmbeddedServer().pid


def test_wiping_a_running_server_is_refused(tmp_path: Path) -> None:
    with EmbeddedServer(directory=tmp_path, persist=True) as server:
        with pytest.raises(EmbeddedServerError, match="stop it"):
            server.wipe()
        server.stop()
        server.wipe()
    assert [path.name for path in tmp_path.iterdir()] == ["server.log"]


@pytest.mark.parametrize("kind", list(KINDS))
def test_other_servers_run_the_same_way(kind: str) -> None:
    with Server(kind) as server, server.admin() as client:
        version = client.info("server").get("valkey_version", client.info("server")["redis_version"])
        assert kind.rpartition("-")[2] == ".".join(version.split(".")[:2])
