"""`SnapshotManager(tolerance=)`: readers have what the model publishes, whichever way they come to it."""

from __future__ import annotations

import asyncio
import logging
from decimal import Decimal
from random import Random
from typing import Any

import pytest

from snapdelta import Absolute, Relative, inspect
from snapdelta.errors import SnapshotRejectedError, SnapshotSettingError
from snapdelta.metrics import MetricsCollector
from snapdelta.snapshot_manager import SnapshotManager, SnapshotReader
from snapdelta.snapshots.keys import Keys
from snapdelta.snapshots.store import SnapshotStore
from support.assert_exact import assert_same
from support.servers import Server, on_one_server
from support.tolerance_model import PublishedModel, Snapshot, Tolerances

TOLERANCES: Tolerances = {("p",): Relative(0.001), ("day", "v"): Absolute(50), ("d",): Absolute(0.02)}


class Drifting:
    """A market whose numbers drift."""

    def __init__(self, seed: int, rows: int = 40) -> None:
        self.rng = Random(seed)
        self.rows: Snapshot = {
            f"S{n}": {"p": 10.0 + n, "day": {"v": 1000 * n}, "d": Decimal(n), "exact": 0} for n in range(rows)
        }

    def next(self) -> Snapshot:
        for symbol, record in list(self.rows.items()):
            self.rows[symbol] = {
                "p": record["p"] * (1 + self.rng.uniform(0, 0.0006)),
                "day": {"v": record["day"]["v"] + self.rng.randrange(30)},
                "d": record["d"] + Decimal(self.rng.randrange(3)).scaleb(-2),
                "exact": record["exact"] + (self.rng.random() < 0.1),
            }
        return self.rows


async def test_every_reader_has_what_was_published(server: Server) -> None:
    """Followers, late readers, readers of the past; over checkpoints, updates, refusals and a restart."""
    market, model = Drifting(1), PublishedModel(TOLERANCES)
    states: list[tuple[float, Snapshot]] = []
    settings: dict[str, Any] = {"tolerance": TOLERANCES, "max_removed_share": 0.5}
    async with server.client() as redis:
        reader = SnapshotReader(redis)
        updates = reader.follow()
        held = 0
        for writer in range(2):
            async with SnapshotManager(redis, **settings) as manager:
                for number in range(12):
                    snapshot = market.next()
                    if number == 5:
                        with pytest.raises(SnapshotRejectedError):
                            await manager.save_snapshot(dict(list(snapshot.items())[:3]))
                    if number % 4 == 3:
                        changes = {s: snapshot[s] for s in market.rng.sample(list(snapshot), 10)}
                        model.update(changes, [])
                        result = await manager.update(changes)
                    else:
                        model.capture(snapshot)
                        result = await manager.save_snapshot(snapshot, force_full=number % 4 == 2)
                    assert result["held_cells"] == model.held_cells
                    held += result["held_cells"]
                    update = await anext(updates)
                    assert not update.resynced or (writer, number) == (0, 0)
                    late = await SnapshotReader(redis).latest()
                    assert late is not None
                    for read in (update, late):
                        assert_same(read.snapshot, model.state)
                        assert f"{read.epoch}-{read.sequence}" == f"{result['epoch']}-{result['sequence']}"
                    states.append((update.timestamp, dict(model.state)))
                assert manager.stats().held_cells == held > 100
                held = 0
        await updates.aclose()
        past = [update async for update in reader.replay()]
        assert len(past) == len(states)
        for update, (_, state) in zip(past, states, strict=True):
            assert_same(update.snapshot, state)
        store = SnapshotStore(redis, Keys.of("snapdelta:", "default"), 5)
        for entry in (await store.delta_at("+"), await store.full_before("+")):
            assert entry is not None
            assert entry.frame is not None
            assert inspect(entry.frame).within_tolerance


@on_one_server
async def test_slow_drifts_stay_within_the_tolerance(server: Server) -> None:
    market = Drifting(2, rows=100)
    async with server.client() as redis, SnapshotManager(redis, tolerance=TOLERANCES) as manager:
        updates = SnapshotReader(redis).follow()
        first: Snapshot | None = None
        for _ in range(60):
            given = dict(market.next())
            await manager.save_snapshot(given)
            read = (await anext(updates)).snapshot
            first = first or read
            for symbol, record in given.items():
                other = read[symbol]
                assert abs(record["p"] - other["p"]) <= 0.001 * abs(other["p"])
                assert abs(record["day"]["v"] - other["day"]["v"]) <= 50
                assert abs(record["d"] - other["d"]) <= Decimal("0.02")
                assert record["exact"] == other["exact"]
        await updates.aclose()
        assert first is not None
        assert all(read[symbol]["p"] > 1.01 * first[symbol]["p"] for symbol in read)


@on_one_server
async def test_saves_that_overlap(server: Server) -> None:
    """The second is captured by an encoder without the state, and once more by the one that has it."""
    market, model = Drifting(3), PublishedModel(TOLERANCES)
    async with server.client() as redis, SnapshotManager(redis, tolerance=TOLERANCES) as manager:
        await manager.save_snapshot(model.capture(dict(market.next())))
        for _ in range(4):
            given = [dict(market.next()), dict(market.next())]
            results = await asyncio.gather(*(manager.save_snapshot(each) for each in given))
            for each, result in zip(given, results, strict=True):
                model.capture(each)
                assert result["held_cells"] == model.held_cells > 0
            update = await SnapshotReader(redis).latest()
            assert update is not None
            assert_same(update.snapshot, model.state)


@on_one_server
async def test_what_is_held_is_counted_and_logged(server: Server, caplog: pytest.LogCaptureFixture) -> None:
    from prometheus_client import CollectorRegistry

    registry = CollectorRegistry()
    caplog.set_level(logging.DEBUG, "snapdelta.snapshots")
    async with server.client() as redis, SnapshotManager(redis, tolerance={"p": Absolute(1)}) as manager:
        MetricsCollector(manager, registry=registry)
        for p in (1.0, 1.5, 1.75, 3.0):
            await manager.save_snapshot({"A": {"p": p}, "B": {"p": p}})
        assert registry.get_sample_value("snapdelta_snapshot_held_cells_total", {"name": "default"}) == 4
    held = [vars(r)["held_cells"] for r in caplog.records if vars(r).get("event") == "save"]
    assert held == [0, 2, 2, 0]


async def test_a_later_writer_without_a_tolerance_publishes_exactly(server: Server) -> None:
    async with server.client() as redis:
        async with SnapshotManager(redis, tolerance={"p": Absolute(1)}) as manager:
            await manager.save_snapshot({"A": {"p": 1.0}})
            await manager.save_snapshot({"A": {"p": 1.5}})
        reader = SnapshotReader(redis)
        update = await reader.latest()
        assert update is not None
        assert update.snapshot == {"A": {"p": 1.0}}
        async with SnapshotManager(redis) as manager:
            result = await manager.save_snapshot({"A": {"p": 1.5}})
        assert (result["reason"], result["held_cells"], result["updated"]) == ("handover", 0, 1)
        update = await reader.latest()
        assert update is not None
        assert update.snapshot == {"A": {"p": 1.5}}


async def test_impossible_tolerances(server: Server) -> None:
    async with server.client() as redis:
        twice = {"a.b": Absolute(1), ("a", "b"): Absolute(1)}
        impossible: list[Any] = [[], {"p": 0.5}, {1: Absolute(1)}, twice]
        for wrong in impossible:
            with pytest.raises(SnapshotSettingError, match=r"^tolerance: "):
                SnapshotManager(redis, tolerance=wrong)
        mine: dict[str, Absolute | Relative] = {"p": Absolute(1)}
        async with SnapshotManager(redis, tolerance=mine) as manager:
            mine.clear()
            await manager.save_snapshot({"A": {"p": 1.0}})
            assert (await manager.save_snapshot({"A": {"p": 1.5}}))["held_cells"] == 1
