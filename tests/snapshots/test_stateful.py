"""Any sequence of saves and faults on a real server, beside the model: Redis holds what the model says, every
update is a state that was accepted, and everybody recovers within two saves."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    rule,
    run_state_machine_as_test,
)

from snapdelta.errors import (
    SnapshotDamagedError,
    SnapshotMemoryError,
    SnapshotReadOnlyError,
    SnapshotTypeError,
    SnapshotUnavailableError,
    WriterSupersededError,
)
from support.conformance import Fate, Key, some_id
from support.proxy import Kind
from support.servers import KINDS, Server
from support.snapshot_harness import LIMIT
from support.state_machine import INTERVAL, Manager, Play
from support.strategies import STEPS

STREAMS: st.SearchStrategy[Any] = st.sampled_from(["full", "delta"])
# What the client hears of is never known to it: the proxy's word for it, and what became of the command.
CUTS: dict[str, tuple[Kind, Fate]] = {
    "before": ("cut_before", "cut"),
    "after": ("cut_after", "lost"),
    "within": ("cut_within", "lost"),
}


class Snapshots(Play):
    # --- rules without a fault

    @rule(step=st.sampled_from(list(STEPS)), data=st.data(), which=st.integers(0, 3), forced=st.booleans())
    def save_a_change(self, step: str, data: st.DataObject, which: int, forced: bool) -> None:
        self.rows = STEPS[step](data.draw, self.rows)
        self.run(self.saves(self.pick(which if which < 3 else 0), 1, forced=forced))

    @rule(count=st.integers(2, 6))
    def save_some(self, count: int) -> None:
        self.run(self.saves(self.pick(0), count))

    @rule()
    def save_another_market(self) -> None:
        """A delta from which is as large as a full frame."""
        self.new_ballast()
        self.run(self.saves(self.pick(0), 1))

    @rule(which=st.integers(0, 2))
    def save_two_at_once(self, which: int) -> None:
        """The second waits for the first; the model does one after the other."""

        async def both() -> None:
            manager = self.pick(which)
            first, digest = self.next_state()
            self.rows = {**self.rows, "two": {"at": "once", "n": self.random.random()}}
            second, later = self.next_state()
            if not manager.certain or manager.pair.epoch is None or manager.pair.superseded:
                return
            saves = [manager.manager.save_snapshot(snapshot) for snapshot in (first, second)]
            results = await asyncio.gather(*saves, return_exceptions=True)
            self.look_for_requests()
            for result, saved in zip(results, (digest, later), strict=True):
                if manager.pair.superseded:
                    assert isinstance(result, WriterSupersededError)
                    continue
                reason = self.pair.save(
                    manager.pair, saved, self.clock, [], certain=manager.certain, large=self.larger(result)
                )
                if manager.pair.superseded:
                    assert isinstance(result, WriterSupersededError)
                    continue
                assert isinstance(result, dict), result
                assert (result["epoch"], result["sequence"]) == (manager.pair.epoch, manager.pair.sequence)
                assert result["reason"] == reason or not manager.certain
                for follower in self.followers:
                    if follower.calm is not None:
                        follower.calm.append((result["epoch"], result["sequence"]))
            await self.see()

        self.run(both())

    @staticmethod
    def larger(result: object) -> bool:
        return isinstance(result, dict) and result["reason"] == "larger"

    async def saves(self, manager: Manager, count: int, *, forced: bool = False) -> None:
        for _ in range(count):
            if not manager.pair.superseded:
                await self.save(manager, forced=forced)
            else:
                with pytest.raises(WriterSupersededError):
                    await manager.manager.save_snapshot({})
            await self.see()

    @rule(seconds=st.sampled_from([1.0, INTERVAL]))
    def time_passes(self, seconds: float) -> None:
        self.clock += seconds

    @rule()
    def join(self) -> None:
        async def join() -> None:
            await self.add_follower()
            late = self.followers[-1]
            # Nobody writes meanwhile: the newest state, or none.
            with suppress(SnapshotDamagedError, SnapshotUnavailableError):
                latest = await late.reader.latest()
                if latest is not None:
                    self.check_update(latest)
                    assert (latest.epoch, latest.sequence) == self.pair.newest
            if self.followers[0].calm is not None:
                await self.reaches_the_newest(late)
            await self.see()

        self.run(join())

    @rule(which=st.integers(0, 2))
    def pause_or_go_on(self, which: int) -> None:
        follower = self.followers[which % len(self.followers)]
        if follower.open.is_set():
            follower.open.clear()
        else:
            follower.open.set()
        # It may have fallen out of what is kept.
        follower.calm = None
        self.run(self.see())

    @rule()
    def recover(self) -> None:
        self.run(self.heal())

    # --- managers and the network

    # No preconditions: what the followers have come to is a matter of time, and draws must not depend on it.

    @rule(retries=st.booleans(), saves=st.integers(0, 1))
    def another_manager(self, retries: bool, saves: int) -> None:
        async def another() -> None:
            if len(self.managers) < 4:
                await self.saves(await self.add_manager(retries=retries), saves)

        self.run(another())

    @rule(saves=st.integers(1, 2), early=st.booleans())
    def restart(self, saves: int, early: bool) -> None:
        """The newest manager ends; the next one goes on, or ends before its first publish."""

        async def restart() -> None:
            await self.close(self.pick(0))
            manager = await self.add_manager(retries=False)
            if early:
                self.proxy.plan("cut_before", 1, "HMGET")
                with pytest.raises(SnapshotUnavailableError):
                    await self.save(manager, unanswered=True)
                await self.close(manager)
                manager = await self.add_manager(retries=False)
            await self.saves(manager, saves)

        self.run(restart())

    @rule()
    def the_oldest_wakes_up(self) -> None:
        self.run(self.saves(self.managers[0], 1))

    @rule(which=st.integers(0, 3))
    def end_a_manager(self, which: int) -> None:
        async def end() -> None:
            await self.close(self.pick(which))
            if not self.managers:
                await self.add_manager(retries=False)

        self.run(end())

    @rule(which=st.integers(0, 2), cut=st.sampled_from(list(CUTS)), nth=st.integers(1, 2))
    def cut_a_save(self, which: int, cut: str, nth: int) -> None:
        """Before a command, after it, or in the middle of its reply; some clients try again by themselves."""

        async def save() -> None:
            manager = self.pick(which)
            if manager.pair.superseded or not manager.certain:
                return
            self.fault()
            kind, fate = CUTS[cut]
            if manager.retries:
                fate = "done" if fate == "cut" else "twice"
            planned = self.proxy.plan(kind, nth, "EVALSHA")
            fates: list[Fate] = [fate] if nth == 1 else ["done", fate]
            with suppress(SnapshotUnavailableError):
                await self.save(manager, fates)
            assert planned.hit.is_set() or nth == 2
            self.proxy.forget()
            await self.see()

        self.run(save())

    @rule(which=st.integers(0, 2))
    def hold_a_save_back(self, which: int) -> None:
        """The client gives up, the command is still under way."""

        async def save() -> None:
            manager = self.pick(which)
            unfit = manager.pair.superseded or not manager.certain or manager.retries
            if unfit or self.pair.held:
                return
            self.fault()
            self.held = self.proxy.plan("hold", 1, "EVALSHA")
            saving = asyncio.create_task(self.save(manager, ["held"]))
            await self.held.hit.wait()
            await manager.client.connection_pool.disconnect()
            with pytest.raises(SnapshotUnavailableError):
                await saving
            await self.see()

        self.run(save())

    @rule()
    def deliver(self) -> None:
        async def deliver() -> None:
            if not self.pair.held:
                return
            self.fault()
            self.held.deliver()
            async with asyncio.timeout(LIMIT):
                await self.held.done.wait()
            self.pair.deliver()
            await self.see()

        self.run(deliver())

    # --- the server

    @rule(refused=st.sampled_from(["memory", "replica", "full", "delta", "head"]), which=st.integers(0, 2))
    def refuse(self, refused: Literal["memory", "replica"] | Key, which: int) -> None:
        """Writes fail for a while; what can be answered without one is."""

        async def save() -> None:
            manager = self.pick(which)
            if manager.pair.superseded or not manager.certain:
                return
            self.fault()
            fate: Fate = "refused"
            if refused == "memory":
                self.server.config_set("maxmemory", 1)
                error: type[Exception] = SnapshotMemoryError
            elif refused == "replica":
                self.server.execute("REPLICAOF", "127.0.0.1", 1)
                error = SnapshotReadOnlyError
            else:
                await self.stop_the_followers()
                self.pair.set_wrong_type(refused)
                # This comes before anything else.
                fate, error = "cut", SnapshotTypeError
            with suppress(error):
                assert await self.save(manager, [fate] * 3) is None
            if refused == "memory":
                self.server.config_set("maxmemory", 0)
            elif refused == "replica":
                self.server.execute("REPLICAOF", "NO", "ONE")
            else:
                self.pair.lose(refused)
                await self.add_follower()
            await self.see()

        self.run(save())

    async def stop_the_followers(self) -> None:
        """A wrong type ends them, at a moment of its own."""
        for follower in self.followers:
            self.check(follower)
            await follower.stop()
        self.followers.clear()

    @rule(keys=st.sampled_from([["full"], ["delta"], ["head"], ["full", "delta"], ["full", "delta", "head"]]))
    def evict(self, keys: list[Key]) -> None:
        self.fault()
        self.pair.lose(*keys)
        self.run(self.see())

    @rule()
    def remember(self) -> None:
        self.pair.remember()

    @rule()
    def fall_back(self) -> None:
        """The server comes back with older data."""
        self.fault()
        if self.pair.fall_back():
            self.run(self.see())

    @rule()
    def restart_empty(self) -> None:
        async def restart() -> None:
            self.fault()
            self.drop_what_is_held()
            self.server.restart(empty=True)
            self.server.load_scripts()
            self.pair.reconnect()
            self.pair.lose("full", "delta", "head")
            await self.proxy.cut()
            for manager in self.managers:
                await manager.client.connection_pool.disconnect()
            await self.see()

        self.run(restart())

    # --- entries

    @rule(
        key=STREAMS,
        kind=st.sampled_from(["next", "newer", "outrageous"]),
        copied=st.booleans(),
        removed=st.booleans(),
        count=st.integers(1, 2),
    )
    def add_foreign(
        self, key: Literal["full", "delta"], kind: str, copied: bool, removed: bool, count: int
    ) -> None:
        self.fault()
        seconds = int(self.server.execute("TIME")[0])
        for _ in range(count):
            at = some_id(self.random, seconds * 1000, kind)
            self.pair.add_foreign(key, at, copied=copied, removed=removed)
        self.run(self.see())

    @rule(key=STREAMS, which=st.integers(-3, 3))
    def delete_an_entry(self, key: Literal["full", "delta"], which: int) -> None:
        self.fault()
        self.pair.delete_entry(key, which)
        self.run(self.see())

    @rule(key=STREAMS, which=st.integers(0, 2**20))
    def damage(self, key: Literal["full", "delta"], which: int) -> None:
        self.fault()
        self.pair.damage(key, which)
        self.run(self.see())


def run(server: Server, examples: int, steps: int) -> None:
    run_state_machine_as_test(
        type("SnapshotsOnServer", (Snapshots,), {"server": server}),
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_any_sequence(fresh_server: Callable[..., Server]) -> None:
    run(fresh_server("valkey-9.1"), examples=18, steps=25)


@pytest.mark.long
@pytest.mark.parametrize("kind", list(KINDS))
def test_any_sequence_at_length(fresh_server: Callable[..., Server], kind: str) -> None:
    run(fresh_server(kind), examples=300, steps=40)
