"""Any sequence of saves and faults on a real server, beside the model: Redis holds what the model says, every
update is a state that was accepted, and everybody recovers within two saves."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    rule,
    run_state_machine_as_test,
)
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

import snapdelta
from exact import assert_same
from normal import N
from proxy import Kind, Proxy
from servers import KINDS, Server
from snapdelta.errors import (
    SnapshotAccessError,
    SnapshotDamagedError,
    SnapshotMemoryError,
    SnapshotReadOnlyError,
    SnapshotTypeError,
    SnapshotUnavailableError,
    WriterSupersededError,
)
from snapdelta.snapshot_manager import SnapshotManager, SnapshotReader, Update
from snapshot_helpers import LIMIT
from snapshot_model import Id, NoReplyError, Settings
from snapshot_model_ends import BETWEEN_WISHES, Writer
from snapshot_twin import Fate, Key, Twin, some_id
from strategies import STEPS, Snapshot, tables
from stream_helpers import until

INTERVAL = 60.0
HISTORY_FRAMES = 12
# Readers look at the head after half of this.
READER_TIMEOUT = 0.6
STREAMS: st.SearchStrategy[Any] = st.sampled_from(["full", "delta"])
# What the client hears of is never known to it: the proxy's word for it, and what became of the command.
CUTS: dict[str, tuple[Kind, Fate]] = {
    "before": ("cut_before", "cut"),
    "after": ("cut_after", "lost"),
    "within": ("cut_within", "lost"),
}


@dataclass(eq=False)
class Manager:
    """A real manager and the model's writer."""

    manager: SnapshotManager
    client: Redis
    twin: Writer
    retries: bool
    # It may have heard of a wish for a full frame, which the model has not.
    certain: bool = True
    since_granted: int = BETWEEN_WISHES


@dataclass(eq=False)
class Following:
    """A follower in a task of its own, which keeps what it is given."""

    reader: SnapshotReader
    client: Redis
    open: asyncio.Event = field(default_factory=asyncio.Event)
    updates: list[Update] = field(default_factory=list)
    checked: int = 0
    # While there is no fault: what must have come, all of it and in this order.
    calm: list[Id] | None = None
    task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self.open.set()
        self.task = asyncio.create_task(self._follow(), name="follower")

    async def _follow(self) -> None:
        async for update in self.reader.follow():
            self.updates.append(update)
            await self.open.wait()

    @property
    def at(self) -> Id | None:
        return (self.updates[-1].epoch, self.updates[-1].sequence) if self.updates else None

    async def stop(self) -> None:
        if self.task is not None:
            self.task.cancel()
            with suppress(asyncio.CancelledError):
                await self.task
        await self.client.aclose()


class Snapshots(RuleBasedStateMachine):
    server: Server

    # --- beginning and end

    @initialize(history=st.sampled_from([0.0, 1e6]), rows=tables(4), seed=st.integers(0, 2**32))
    def begin(self, history: float, rows: Snapshot, seed: int) -> None:
        self.server.reset()
        self.random = random.Random(seed)
        self.clock = 0.0
        self.history = history
        self.rows = rows
        self.states: dict[int, Snapshot] = {}
        self.managers: list[Manager] = []
        self.followers: list[Following] = []
        self.wrong: Key | None = None
        self.twin = Twin(
            self.server,
            Settings(
                history=int(history * 1000),
                history_frames=HISTORY_FRAMES,
                history_bytes=10**9,
                interval=int(INTERVAL * 1000),
            ),
        )
        self.runner = asyncio.Runner()
        self.proxy = self.run(self.open_proxy())
        self.new_ballast()
        self.run(self.add_manager(retries=False))
        self.run(self.add_follower())

    def run(self, steps: Coroutine[Any, Any, Any]) -> Any:
        self.failed = True
        result = self.runner.run(steps)
        self.failed = False
        return result

    async def open_proxy(self) -> Proxy:
        proxy = Proxy(self.server.port)
        await proxy.accept()
        return proxy

    def teardown(self) -> None:
        if not hasattr(self, "runner"):
            return
        try:
            if not self.failed:
                self.run(self.heal())
        finally:
            self.run(self.end())
            self.twin.close()
            self.runner.close()

    async def end(self) -> None:
        for follower in self.followers:
            await follower.stop()
        for manager in list(self.managers):
            await self.close(manager)
        self.drop_what_is_held()
        await self.proxy.refuse()
        await self.proxy.cut()

    async def add_manager(self, *, retries: bool) -> Manager:
        client = Redis(port=self.proxy.port, retry=Retry(NoBackoff(), 2 if retries else 0))
        manager = SnapshotManager(
            client,
            full_snapshot_interval=INTERVAL,
            history=self.history,
            history_frames=HISTORY_FRAMES,
            history_bytes=10**9,
            chain_ratio=1e6,
            clock=lambda: self.clock,
        )
        twin = Writer(f"writer {len(self.managers)}", self.twin.model.rules, self.twin.model.settings)
        self.managers.append(Manager(manager, client, twin, retries))
        return self.managers[-1]

    async def close(self, manager: Manager) -> None:
        self.managers.remove(manager)
        await manager.manager.close()
        await manager.client.aclose()

    async def add_follower(self) -> None:
        client = Redis(port=self.server.port)
        reader = SnapshotReader(client, command_timeout=READER_TIMEOUT)
        self.followers.append(Following(reader, client))
        self.followers[-1].start()
        if len(self.followers) > 3:
            await self.followers.pop(0).stop()

    # --- states

    def new_ballast(self) -> None:
        """Records that make every full frame larger than a delta."""
        self.ballast = {f"ballast {n}": {"text": self.random.randbytes(24).hex()} for n in range(40)}

    def next_state(self) -> tuple[Snapshot, int]:
        snapshot = {**self.ballast, **self.rows}
        frame = snapdelta.dumps(snapshot)
        digest = snapdelta.inspect(frame).target_digest
        self.states[digest] = N(snapshot)
        return snapshot, digest

    # --- saves

    async def save(
        self, manager: Manager, fates: list[Fate] | None = None, *, forced: bool = False
    ) -> dict[str, Any] | None:
        """One save, by the manager and by the model; None where it gives up. Raises what redis refused."""
        snapshot, digest = self.next_state()
        self.look_for_wishes()
        wanted = self.twin.wanted or not manager.certain
        if manager.twin.epoch is None:
            self.fault()
        result: dict[str, Any] | None = None
        error: Exception | None = None
        try:
            result = dict(await manager.manager.save_snapshot(snapshot, force_full=forced))
        except (SnapshotAccessError, WriterSupersededError) as raised:
            error = raised
        self.look_for_wishes()
        large = result is not None and result["reason"] == "larger"
        reason: str | None = None
        lost = False
        try:
            reason = self.twin.save(
                manager.twin,
                digest,
                self.clock,
                fates or [],
                certain=manager.certain,
                forced=forced,
                large=large,
            )
        except NoReplyError:
            lost = True
        assert lost == isinstance(error, SnapshotAccessError), error
        assert manager.twin.superseded == isinstance(error, WriterSupersededError), error
        if error is not None:
            if lost:
                raise error
            return None
        assert result is not None
        assert (result["epoch"], result["sequence"]) == (manager.twin.epoch, manager.twin.sequence)
        if manager.certain:
            assert result["reason"] == reason, f"{result['reason']}, not {reason}"
            assert result["type"] == ("full" if reason else "delta")
        granted = wanted and result["type"] == "full"
        manager.since_granted = 0 if granted else manager.since_granted + 1
        for follower in self.followers:
            if follower.calm is not None:
                follower.calm.append((result["epoch"], result["sequence"]))
        return result

    def look_for_wishes(self) -> None:
        if self.twin.wanted:
            for manager in self.managers:
                manager.certain = False

    def fault(self) -> None:
        """From now on followers may lose their way."""
        for follower in self.followers:
            follower.calm = None

    async def see(self) -> None:
        """After every rule: what is in Redis, and what the followers were given."""
        self.twin.compare()
        for follower in self.followers:
            if follower.calm is not None and follower.open.is_set():
                await self.reaches_the_newest(follower)
            self.check(follower)

    def check(self, follower: Following) -> None:
        if follower.task is not None and follower.task.done():
            follower.task.result()
        new = follower.updates[follower.checked :]
        follower.checked = len(follower.updates)
        for update in new:
            self.check_update(update)
            if follower.calm is not None:
                assert not update.resynced, f"resynced without a fault: {update.reason}"
                assert (update.epoch, update.sequence) == follower.calm.pop(0)

    def check_update(self, update: Update) -> None:
        at = (update.epoch, update.sequence)
        assert at in self.twin.accepted, f"{at} was never accepted"
        assert update.digest == self.twin.accepted[at]
        assert_same(update.snapshot, self.states[update.digest])

    async def reaches_the_newest(self, follower: Following) -> None:
        with suppress(TimeoutError):
            await until(lambda: follower.at == self.twin.newest)
        assert follower.at == self.twin.newest, f"at {follower.at}, not {self.twin.newest}"

    async def let_followers_look(self) -> None:
        """Give them the time to find their way, or to find out that there is none and to ask for help."""
        head = self.twin.newest
        if head is not None:
            with suppress(TimeoutError):
                await until(
                    lambda: self.twin.wanted or all(follower.at == head for follower in self.followers),
                    2 * READER_TIMEOUT,
                )

    def pick(self, which: int) -> Manager:
        return self.managers[-1 - which % len(self.managers)]

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
            if not manager.certain or manager.twin.epoch is None or manager.twin.superseded:
                return
            saves = [manager.manager.save_snapshot(snapshot) for snapshot in (first, second)]
            results = await asyncio.gather(*saves, return_exceptions=True)
            self.look_for_wishes()
            for result, saved in zip(results, (digest, later), strict=True):
                if manager.twin.superseded:
                    assert isinstance(result, WriterSupersededError)
                    continue
                reason = self.twin.save(
                    manager.twin, saved, self.clock, [], certain=manager.certain, large=self.larger(result)
                )
                if manager.twin.superseded:
                    assert isinstance(result, WriterSupersededError)
                    continue
                assert isinstance(result, dict), result
                assert (result["epoch"], result["sequence"]) == (manager.twin.epoch, manager.twin.sequence)
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
            if not manager.twin.superseded:
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
                    assert (latest.epoch, latest.sequence) == self.twin.newest
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

    async def heal(self) -> None:
        """No faults any more; a reader joins; two saves later everybody is on the newest state."""
        self.fault()
        self.drop_what_is_held()
        for follower in self.followers:
            follower.open.set()
        await self.add_follower()
        successes = 0
        needed = 2
        for _ in range(2 * BETWEEN_WISHES):
            await self.let_followers_look()
            live = [manager for manager in self.managers if not manager.twin.superseded]
            latest = max(live, key=lambda manager: manager.twin.epoch or 0, default=None)
            manager = latest or await self.add_manager(retries=False)
            if not successes:
                # A wish is granted at most once in so many saves.
                needed = 2 + max(0, BETWEEN_WISHES - manager.since_granted)
            successes += await self.save(manager) is not None
            if successes == needed:
                break
        assert successes == needed, "saves do not succeed"
        for follower in self.followers:
            await self.reaches_the_newest(follower)
            self.check(follower)
            follower.calm = []
        late = await self.followers[-1].reader.latest()
        assert late is not None
        self.check_update(late)
        assert (late.epoch, late.sequence) == self.twin.newest
        await self.see()

    def drop_what_is_held(self) -> None:
        if self.twin.held:
            self.held.drop()
            self.twin.held.clear()

    # --- managers and the network

    # No preconditions: what the followers have come to is a matter of time, and draws must not depend on it.

    @rule(retries=st.booleans(), saves=st.integers(0, 1))
    def another_manager(self, retries: bool, saves: int) -> None:
        async def another() -> None:
            if len(self.managers) < 4:
                await self.saves(await self.add_manager(retries=retries), saves)

        self.run(another())

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
            if manager.twin.superseded or not manager.certain:
                return
            self.fault()
            kind, fate = CUTS[cut]
            if manager.retries:
                fate = "done" if fate == "cut" else "twice"
            planned = self.proxy.plan(kind, nth, "EVAL")
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
            unfit = manager.twin.superseded or not manager.certain or manager.retries
            if unfit or self.twin.held:
                return
            self.fault()
            self.held = self.proxy.plan("hold", 1, "EVAL")
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
            if not self.twin.held:
                return
            self.fault()
            self.held.deliver()
            async with asyncio.timeout(LIMIT):
                await self.held.done.wait()
            self.twin.deliver()
            await self.see()

        self.run(deliver())

    # --- the server

    @rule(refused=st.sampled_from(["memory", "replica", "full", "delta", "head"]), which=st.integers(0, 2))
    def refuse(self, refused: Literal["memory", "replica"] | Key, which: int) -> None:
        """Writes fail for a while; what can be answered without one is."""

        async def save() -> None:
            manager = self.pick(which)
            if manager.twin.superseded or not manager.certain:
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
                self.twin.set_wrong_type(refused)
                # This comes before anything else.
                fate, error = "cut", SnapshotTypeError
            with suppress(error):
                assert await self.save(manager, [fate] * 3) is None
            if refused == "memory":
                self.server.config_set("maxmemory", 0)
            elif refused == "replica":
                self.server.execute("REPLICAOF", "NO", "ONE")
            else:
                self.twin.lose(refused)
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
        self.twin.lose(*keys)
        self.run(self.see())

    @rule()
    def remember(self) -> None:
        self.twin.remember()

    @rule()
    def fall_back(self) -> None:
        """The server comes back with older data."""
        self.fault()
        if self.twin.fall_back():
            self.run(self.see())

    @rule()
    def restart_empty(self) -> None:
        async def restart() -> None:
            self.fault()
            self.drop_what_is_held()
            self.server.restart(empty=True)
            self.twin.reconnect()
            self.twin.lose("full", "delta", "head")
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
            self.twin.add_foreign(key, at, copied=copied, removed=removed)
        self.run(self.see())

    @rule(key=STREAMS, which=st.integers(-3, 3))
    def delete_an_entry(self, key: Literal["full", "delta"], which: int) -> None:
        self.fault()
        self.twin.delete_entry(key, which)
        self.run(self.see())

    @rule(key=STREAMS, which=st.integers(0, 2**20))
    def damage(self, key: Literal["full", "delta"], which: int) -> None:
        self.fault()
        self.twin.damage(key, which)
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
    run(fresh_server("valkey-9.1"), examples=40, steps=25)


@pytest.mark.long
@pytest.mark.parametrize("kind", list(KINDS))
def test_any_sequence_at_length(fresh_server: Callable[..., Server], kind: str) -> None:
    run(fresh_server(kind), examples=300, steps=40)
