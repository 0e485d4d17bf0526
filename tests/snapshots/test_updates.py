"""What an update says of its symbols."""

from __future__ import annotations

from snapdelta.snapshot_manager import SnapshotManager, SnapshotReader
from snapdelta.snapshots.update import ChangeLog
from support.servers import Server


async def test_changed_holds_what_the_snapshot_has(server: Server) -> None:
    before = {f"S{n}": {"x": n} for n in range(50)}
    after = {symbol: record for symbol, record in before.items() if symbol != "S7"}
    after |= {"S1": {"x": 100}, "NEW": {"x": 1}}
    async with server.client() as redis, SnapshotManager(redis) as manager:
        updates = SnapshotReader(redis).follow()
        await manager.save_snapshot(before)
        first = await anext(updates)
        assert (first.added, first.updated, first.removed) == (list(before), [], [])
        await manager.save_snapshot(after)
        update = await anext(updates)
        await updates.aclose()
    assert (update.added, update.updated, update.removed) == (["NEW"], ["S1"], ["S7"])
    assert {symbol: update.snapshot[symbol] for symbol in update.changed} == {
        "NEW": {"x": 1},
        "S1": {"x": 100},
    }


async def test_a_ranking_that_only_moves_has_no_changed_record(server: Server) -> None:
    before = {f"S{n}": {"x": n} for n in range(20)}
    after = dict(reversed(before.items()))
    async with server.client() as redis, SnapshotManager(redis) as manager:
        updates = SnapshotReader(redis).follow()
        await manager.save_snapshot(before)
        await anext(updates)
        await manager.save_snapshot(after)
        update = await anext(updates)
        await updates.aclose()
    assert list(update.snapshot) == list(after)
    assert (update.changed, update.removed) == ([], [])
    assert len(update.moved) == 19


def test_changes_of_several_frames_add_up() -> None:
    log = ChangeLog()
    log.add(["new", "brief"], ["other"], ["gone", "back"], ["moved", "gone later"])
    log.add(["back"], ["new", "again"], ["brief", "gone later"], ["new", "again"])
    added, updated, removed, moved = log.drain()
    assert (added, removed) == (["new"], ["gone", "gone later"])
    assert updated == ["other", "back", "again"]
    assert moved == ["moved", "back", "again"]
    assert log.drain() == ([], [], [], [])
