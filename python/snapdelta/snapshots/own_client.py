"""A client like the caller's, with its own connections, because a follower keeps one busy nearly always."""

from __future__ import annotations

import copy
import inspect
from typing import Any

from redis.asyncio import ConnectionPool, Redis, RedisCluster, SSLConnection

from snapdelta._redis import AsyncRedis

# What redis-py notes for one pool among the arguments of its connections.
_OF_THE_POOL = (
    "maint_notifications_pool_handler",
    "oss_cluster_maint_notifications_handler",
    "orig_host_address",
    "orig_socket_timeout",
    "orig_socket_connect_timeout",
)


def own_client(client: AsyncRedis) -> AsyncRedis:
    """Returns a client with the same settings that shares no connection; sends nothing yet. To be closed."""
    return _own_cluster(client) if isinstance(client, RedisCluster) else _own(client)


def _own(client: Redis) -> Redis:
    pool = client.connection_pool
    arguments = {name: value for name, value in pool.connection_kwargs.items() if name not in _OF_THE_POOL}
    # A copy, as a subclass may send commands in its own way.
    own = copy.copy(client)
    # A connection for each read that runs; what bounds the caller's pool is for the caller's calls.
    own.connection_pool = ConnectionPool(
        connection_class=pool.connection_class, max_connections=2**31, **arguments
    )
    own.auto_close_connection_pool = True
    own.single_connection_client = False
    own.connection = None
    return own


def _own_cluster(client: RedisCluster) -> RedisCluster:
    arguments: dict[str, Any] = dict(client.connection_kwargs)
    arguments["ssl"] = issubclass(arguments["connection_class"], SSLConnection)
    nodes = client.nodes_manager
    for holder, names in (
        (client, ("load_balancing_strategy", "read_from_replicas", "reinitialize_steps", "retry")),
        (nodes, ("require_full_coverage", "address_remap")),
    ):
        # Older clients have not all of them, and some warn when they are given at all.
        arguments |= {name: getattr(holder, name) for name in names if getattr(holder, name, None)}
    known = inspect.signature(RedisCluster).parameters.keys() - {"max_connections"}
    return RedisCluster(
        startup_nodes=list(nodes.startup_nodes.values()),
        **{name: value for name, value in arguments.items() if name in known},
    )
