"""The fixtures' own tools: what the fault tests rely on does happen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import redis as sync_redis
from redis.exceptions import AskError, MovedError

from support.servers import KINDS, Cluster, Deployment, Server


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_slot_moves_with_its_keys(kind: str, deployments: Callable[[str], Deployment]) -> None:
    cluster = deployments(f"cluster-{kind}")
    assert isinstance(cluster, Cluster)
    cluster.reset()
    before = cluster.node_of("key")
    before.execute("SET", "key", "value")
    after = cluster.move_slot_of("key")
    assert after is cluster.node_of("key")
    assert after is not before
    assert after.execute("GET", "key") == "value"
    with pytest.raises(MovedError, match=f":{after.port}"):
        before.execute("GET", "key")


def test_a_half_moved_slot_answers_ask(deployments: Callable[[str], Deployment]) -> None:
    cluster = deployments("cluster-valkey-9.1")
    assert isinstance(cluster, Cluster)
    cluster.reset()
    source = cluster.node_of("half")
    target = next(node for node in cluster.nodes if node is not source)
    slot = cluster.slot_of("half")
    cluster.begin_move(slot, source, target)
    with pytest.raises(AskError, match=f":{target.port}"):
        source.execute("GET", "half")
    cluster.finish_move(slot, source, target)
    assert cluster.node_of("half") is target


@pytest.mark.parametrize("empty", [False, True])
def test_restart_with_and_without_data(empty: bool, fresh_server: Callable[..., Server]) -> None:
    server = fresh_server(persist=True)
    server.execute("SET", "key", "value")
    server.restart(empty=empty)
    assert server.execute("EXISTS", "key") == (0 if empty else 1)


def test_a_replica_is_read_only_until_it_is_master_again(fresh_server: Callable[..., Server]) -> None:
    master, replica = fresh_server(), fresh_server()
    master.execute("SET", "key", "value")
    replica.replicate(master)
    assert replica.execute("GET", "key") == "value"
    with pytest.raises(sync_redis.ReadOnlyError):
        replica.execute("SET", "key", "other")
    replica.replicate(None)
    assert replica.execute("SET", "key", "other")


def test_reset_puts_settings_and_keys_back(fresh_server: Callable[..., Server]) -> None:
    server = fresh_server()
    server.config_set("stream-node-max-entries", 7)
    server.execute("SET", "key", "value")
    server.reset()
    with server.admin() as client:
        assert client.config_get("stream-node-max-entries")["stream-node-max-entries"] == "100"
        assert client.dbsize() == 0
