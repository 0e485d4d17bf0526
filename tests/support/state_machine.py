"""Real managers and followers beside the model: saves by both, and what must hold after each."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
)
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

import snapdelta
from snapdelta.errors import (
    SnapshotAccessError,
    WriterSupersededError,
)
from snapdelta.snapshot_manager import SnapshotManager, SnapshotReader, Update
from support.assert_exact import assert_same
from support.conformance import Fate, Key, Twin
from support.expected import N
from support.protocol_clients import SAVES_BETWEEN_REQUESTS, Writer
from support.protocol_model import Id, NoReplyError, Settings
from support.proxy import Fault, Proxy
from support.servers import Server, patience
from support.strategies import Snapshot, tables
from support.stream_harness import until

INTERVAL = 60.0
HISTORY_FRAMES = 12
# Readers look at the head after half of this.
READER_TIMEOUT = 0.6


@dataclass(eq=False)
class Manager:
    """A real manager and the model's writer."""

    manager: SnapshotManager
    client: Redis
    pair: Writer
    retries: bool
    # It may have heard of a request for a full frame, which the model has not.
    certain: bool = True
    since_granted: int = SAVES_BETWEEN_REQUESTS


@dataclass(eq=False)
class PlayedReader:
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


class Play(RuleBasedStateMachine):
    """The rules are in tests/snapshots/test_stateful.py."""

    server: Server
    # The command that is under way, while the twin has it too.
    held: Fault

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
        self.followers: list[PlayedReader] = []
        self.wrong: Key | None = None
        self.pair = Twin(
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
            self.pair.close()
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
        pair = Writer(f"writer {len(self.managers)}", self.pair.model.rules, self.pair.model.settings)
        self.managers.append(Manager(manager, client, pair, retries))
        return self.managers[-1]

    async def close(self, manager: Manager) -> None:
        self.managers.remove(manager)
        await manager.manager.close()
        await manager.client.aclose()

    async def add_follower(self) -> None:
        client = Redis(port=self.server.port)
        reader = SnapshotReader(client, command_timeout=patience(READER_TIMEOUT))
        self.followers.append(PlayedReader(reader, client))
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
        self,
        manager: Manager,
        fates: list[Fate] | None = None,
        *,
        forced: bool = False,
        unanswered: bool = False,
    ) -> dict[str, Any] | None:
        """One save, by the manager and by the model; None where it gives up. Raises what redis refused.

        `unanswered`: a first save whose reading, behind its claim, gets no answer.
        """
        snapshot, digest = self.next_state()
        self.look_for_requests()
        wanted = self.pair.wanted or not manager.certain
        first = not manager.pair.has_sent
        result: dict[str, Any] | None = None
        error: Exception | None = None
        try:
            result = dict(await manager.manager.save_snapshot(snapshot, force_full=forced))
        except (SnapshotAccessError, WriterSupersededError) as raised:
            error = raised
        self.look_for_requests()
        large = result is not None and result["reason"] == "larger"
        reason: str | None = None
        lost = False
        try:
            reason = self.pair.save(
                manager.pair,
                digest,
                self.clock,
                fates or [],
                certain=manager.certain,
                forced=forced,
                large=large,
                unanswered=unanswered,
            )
        except NoReplyError:
            lost = True
        if first and not unanswered and reason not in ("handover", "larger"):
            self.fault()
        assert lost == isinstance(error, SnapshotAccessError), error
        assert manager.pair.superseded == isinstance(error, WriterSupersededError), error
        if error is not None:
            if lost:
                raise error
            return None
        assert result is not None
        assert (result["epoch"], result["sequence"]) == (manager.pair.epoch, manager.pair.sequence)
        if manager.certain:
            assert result["reason"] == reason, f"{result['reason']}, not {reason}"
            assert result["type"] == ("full" if reason else "delta")
        granted = wanted and result["type"] == "full"
        manager.since_granted = 0 if granted else manager.since_granted + 1
        for follower in self.followers:
            if follower.calm is not None:
                follower.calm.append((result["epoch"], result["sequence"]))
        return result

    def look_for_requests(self) -> None:
        if self.pair.wanted:
            for manager in self.managers:
                manager.certain = False

    def fault(self) -> None:
        """From now on followers may lose their way."""
        for follower in self.followers:
            follower.calm = None

    async def see(self) -> None:
        """After every rule: what is in Redis, and what the followers were given."""
        self.pair.compare()
        for follower in self.followers:
            if follower.calm is not None and follower.open.is_set():
                await self.reaches_the_newest(follower)
            self.check(follower)

    def check(self, follower: PlayedReader) -> None:
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
        assert at in self.pair.accepted, f"{at} was never accepted"
        assert update.digest == self.pair.accepted[at]
        assert_same(update.snapshot, self.states[update.digest])

    async def reaches_the_newest(self, follower: PlayedReader) -> None:
        with suppress(TimeoutError):
            await until(lambda: follower.at == self.pair.newest)
        assert follower.at == self.pair.newest, f"at {follower.at}, not {self.pair.newest}"

    async def let_followers_look(self) -> None:
        """Give them the time to find their way, or to find out that there is none and to ask for help."""
        head = self.pair.newest
        if head is not None:
            with suppress(TimeoutError):
                await until(
                    lambda: self.pair.wanted or all(follower.at == head for follower in self.followers),
                    2 * patience(READER_TIMEOUT),
                )

    def pick(self, which: int) -> Manager:
        return self.managers[-1 - which % len(self.managers)]

    # --- recovery

    async def heal(self) -> None:
        """No faults any more; a reader joins; two saves later everybody is on the newest state."""
        self.fault()
        self.drop_what_is_held()
        for follower in self.followers:
            follower.open.set()
        await self.add_follower()
        successes = 0
        needed = 2
        for _ in range(2 * SAVES_BETWEEN_REQUESTS):
            await self.let_followers_look()
            live = [manager for manager in self.managers if not manager.pair.superseded]
            latest = max(live, key=lambda manager: manager.pair.epoch or 0, default=None)
            manager = latest or await self.add_manager(retries=False)
            if not successes:
                # A request is granted at most once in so many saves.
                needed = 2 + max(0, SAVES_BETWEEN_REQUESTS - manager.since_granted)
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
        assert (late.epoch, late.sequence) == self.pair.newest
        await self.see()

    def drop_what_is_held(self) -> None:
        if self.pair.held:
            self.held.drop()
            self.pair.held.clear()
