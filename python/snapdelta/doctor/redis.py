"""Checks of Redis servers, their streams and names of snapshots: one finding for each fault."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from snapdelta import Limits
from snapdelta._entry_id import parse_id
from snapdelta._redis import AsyncRedis, key_of, name_of, pairs, socket_timeout
from snapdelta.doctor.second_bounds import second_bounds
from snapdelta.errors import (
    LimitExceededError,
    SnapshotError,
    StreamAccessError,
    StreamTypeError,
    UnsupportedVersionError,
)
from snapdelta.snapshots.keys import Keys
from snapdelta.snapshots.replica import Replica
from snapdelta.snapshots.store import SnapshotStore
from snapdelta.snapshots.survey import names_of, survey
from snapdelta.snapshots.view import View
from snapdelta.streams.policy import StreamPolicy
from snapdelta.streams.report import GroupInfo, StreamInfo, describe, is_gone
from snapdelta.streams.store import StreamStore
from snapdelta.timescale.findings import Finding, Severity

# A follower's read blocks for 2 s, or for half of the client's time limit.
_SHORTEST_SOCKET_TIMEOUT = 4.0
# Saves of a scanner are some seconds apart; a server that closes connections sooner breaks each of them.
_SHORTEST_IDLE = 30


@dataclass(frozen=True, slots=True)
class Bounds:
    """The bounds beyond which a value is a fault. Times in seconds, sizes in bytes.

    policies whose streams it watches for a second bound, for `watch` seconds
    """

    stale_after: float | None = None
    replica_lag: float = 10.0
    entries: int = 20_000
    stream_bytes: int = 200_000_000
    group_idle: float = 3600.0
    policies: Mapping[str, StreamPolicy] = field(default_factory=dict)
    watch: float = 5.0
    limits: int = Limits().max_bytes


async def examine(
    redis: AsyncRedis, key_prefix: str, bounds: Bounds, time_limit: float = 30.0
) -> list[Finding]:
    """All findings about a server or cluster. Raises StreamAccessError, SnapshotAccessError, their kinds."""
    found = list(_client(redis))
    store = StreamStore(redis, time_limit)
    for server, target in (await store.masters()).items():
        found += [finding async for finding in _server(store, server or "server", target, bounds)]
        async for names in store.scan_streams(target):
            for name in names:
                if not name.startswith(key_prefix):
                    found += await _stream(store, name, bounds)
    if bounds.policies:
        found += await second_bounds(store, bounds.policies, key_prefix, bounds.watch)
    for name in await names_of(redis, key_prefix):
        found += await _name(redis, Keys.of(key_prefix, name), bounds, time_limit)
    return found


def _client(redis: AsyncRedis) -> Iterator[Finding]:
    limit = socket_timeout(redis)
    if limit is not None and limit < _SHORTEST_SOCKET_TIMEOUT:
        yield Finding.fault(
            "client",
            "time-out",
            f"socket_timeout of {_SHORTEST_SOCKET_TIMEOUT:g} s or more",
            f"{limit:g} s",
            "followers block for half of it, and slow answers count as failures: raise socket_timeout",
        )


# --- the server


async def _server(
    store: StreamStore, server: str, target: dict[str, Any], bounds: Bounds
) -> AsyncIterator[Finding]:
    memory = await store.info("*", "memory", target)
    policy, most = str(memory.get("maxmemory_policy", "")), int(memory.get("maxmemory", 0))
    if policy.startswith("allkeys-"):
        bound = f"maxmemory is {most:,} bytes" if most else "maxmemory is not set"
        yield Finding.fault(
            server,
            "eviction",
            "noeviction or volatile-*",
            f"{policy}; {bound}",
            "the server may drop any key, which costs a resync: CONFIG SET maxmemory-policy noeviction",
        )
    for finding in _persistence(server, await store.info("*", "persistence", target)):
        yield finding
    for finding in _replication(server, await store.info("*", "replication", target), bounds):
        yield finding
    try:
        # Before Redis 7 a call takes one pattern.
        answer = {
            key: value
            for setting in ("stream-node-max-*", "timeout")
            for key, value in pairs(await store.run("*", "CONFIG", "GET", setting, **target)).items()
        }
    except StreamAccessError as error:
        yield Finding(
            server,
            "CONFIG",
            "readable",
            str(error).partition(": ")[2],
            Severity.WARNING,
            "stream-node-max-* and timeout are not checked, and snapdelta assumes the defaults",
        )
        return
    for finding in _config(server, {name_of(key): name_of(_bytes(value)) for key, value in answer.items()}):
        yield finding


def _config(server: str, config: dict[str, str]) -> Iterator[Finding]:
    sizes = [config.get(f"stream-node-max-{what}") for what in ("entries", "bytes")]
    if sizes == ["0", "0"]:
        yield Finding.fault(
            server,
            "stream-node-max-*",
            "entries or bytes above 0",
            "both 0: a stream is one node",
            "trimming frees no memory and gets slower: CONFIG SET stream-node-max-entries 100",
        )
    idle = int(config.get("timeout", "0") or 0)
    if 0 < idle < _SHORTEST_IDLE:
        yield Finding.fault(
            server,
            "timeout",
            f"0, or {_SHORTEST_IDLE} s and more",
            f"{idle} s",
            "the server closes connections between two saves or reads: CONFIG SET timeout 0",
        )


def _persistence(server: str, info: dict[str, Any]) -> Iterator[Finding]:
    for key, what in (
        ("rdb_last_bgsave_status", "the last snapshot of the data (RDB)"),
        ("aof_last_write_status", "the last write to the append-only file"),
        ("aof_last_bgrewrite_status", "the last rewrite of the append-only file"),
    ):
        if info.get(key, "ok") != "ok":
            yield Finding.fault(
                server,
                "persistence",
                "ok",
                f"{what} failed",
                "the server may refuse writes, or lose saves at a restart: read its log, check its disk",
            )


def _replication(server: str, info: dict[str, Any], bounds: Bounds) -> Iterator[Finding]:
    if info.get("role") == "slave" and info.get("master_link_status") != "up":
        yield Finding.fault(
            server,
            "replication",
            "linked to its master",
            "a replica that has lost its master",
            "readers see old states: check the master and the network",
        )
    for number in range(int(info.get("connected_slaves", 0))):
        replica = _replica(info.get(f"slave{number}"))
        lag = float(replica.get("lag", 0))
        if replica.get("state") == "online" and lag > bounds.replica_lag:
            yield Finding.fault(
                server,
                "replication",
                f"replicas within {bounds.replica_lag:g} s",
                f"{replica.get('ip')}:{replica.get('port')} is {lag:g} s behind",
                "a failover to it loses saves: check that replica",
            )


def _replica(value: Any) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    return dict(part.split("=", 1) for part in str(value or "").split(",") if "=" in part)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode()


# --- streams


async def _stream(store: StreamStore, stream: str, bounds: Bounds) -> list[Finding]:
    try:
        info = await describe(store, stream, StreamPolicy(maxlen=bounds.entries))
    except StreamTypeError:
        # Replaced since the scan.
        return []
    found = []
    if info.length > bounds.entries or info.bytes > bounds.stream_bytes:
        found.append(
            Finding.fault(
                stream,
                "bound",
                f"up to {bounds.entries:,} entries and {bounds.stream_bytes / 1e6:,.0f} MB",
                f"{info.length:,} entries, {info.bytes / 1e6:,.1f} MB",
                "no policy seems to bound it: give it one (docs/streams.md)",
            )
        )
    for group in info.groups:
        found += await _group(store, info, group, bounds)
    return found


async def _group(store: StreamStore, info: StreamInfo, group: GroupInfo, bounds: Bounds) -> list[Finding]:
    unread = info.newest_id is not None and parse_id(group.last_delivered_id) < parse_id(info.newest_id)
    if not unread and not group.pending:
        return []
    try:
        rows = await store.run(info.stream, "XINFO", "CONSUMERS", key_of(info.stream), key_of(group.name))
    except StreamAccessError as error:
        if is_gone(error):
            return []
        raise
    idle = [int(pairs(row)[b"idle"]) / 1000 for row in rows]
    if idle and min(idle) <= bounds.group_idle:
        return []
    waits = f"{group.pending:,} entries pending" + (", newer ones unread" if unread else "")
    since = f"its last consumer was active {min(idle):,.0f} s ago" if idle else "it has no consumer"
    return [
        Finding.fault(
            info.stream,
            f"group {group.name}",
            "somebody reads it",
            f"{since}; {waits}",
            f"start its consumer, or remove it: XGROUP DESTROY {info.stream} {group.name}",
        )
    ]


# --- names of snapshots


async def _name(redis: AsyncRedis, keys: Keys, bounds: Bounds, time_limit: float) -> list[Finding]:
    status = await survey(redis, keys, stale_after=bounds.stale_after)
    if status.faults:
        # What is missing in the keys is said best by that.
        return [
            Finding.fault(keys.name, "keys", "complete and fresh", *_said(fault)) for fault in status.faults
        ]
    store = SnapshotStore(redis, keys, time_limit)
    head = await store.head()
    if head is None:
        return []
    replica = Replica(store, Limits(bounds.limits), View())
    try:
        if await replica.seek(head.position) and replica.matches(head):
            return []
        problem = f"the frames in Redis do not lead to {head.position}"
        advice = "readers wait for the writer's next full frame: save_snapshot(..., force_full=True)"
    except LimitExceededError as error:
        problem = str(error).removeprefix(f"snapshots {keys.name!r}: ")
        advice = f"readers with the limit of {bounds.limits:,} bytes cannot read it: give them limits="
    except UnsupportedVersionError as error:
        problem, advice = str(error), "upgrade snapdelta-rs in the readers"
    except SnapshotError as error:
        problem, advice = str(error), "check the server"
    newest = await store.head()
    if newest is None or newest.position != head.position:
        # Trimmed or replaced while it was read.
        return []
    return [Finding.fault(keys.name, "chain", "leads to the head", problem, advice)]


def _said(fault: str) -> tuple[str, str]:
    """What is, and what to do about it."""
    problem, _, advice = fault.rpartition(": ")
    return (problem, advice) if problem else (advice, "")
