"""What the tests of the snapshots share: what was saved, readers in tasks of their own, who recovers when."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from types import TracebackType
from typing import Any, Self

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from snapdelta.errors import (
    SnapshotBusyError,
    SnapshotClosedError,
    SnapshotError,
    SnapshotMemoryError,
    SnapshotReadOnlyError,
    SnapshotTypeError,
    SnapshotUnavailableError,
    WriterSupersededError,
)
from snapdelta.snapshot_manager import SnapshotManager, SnapshotReader, Update
from snapdelta.snapshots.mirror import SnapshotMirror
from support.assert_exact import assert_same
from support.market import MARK, Market, State, copied
from support.mirror_harness import MirrorWatch
from support.proxy import Proxy
from support.servers import AsyncClient, Server, patience
from support.stream_harness import Watched, until

Id = tuple[int, int]
# After one of these the state was not written, and never will be.
REFUSED = (
    SnapshotBusyError,
    SnapshotClosedError,
    SnapshotMemoryError,
    SnapshotReadOnlyError,
    SnapshotTypeError,
    WriterSupersededError,
)
# Seconds that end a test that has failed.
LIMIT = 120.0
# Mirrors of every stage; a module of tests may set another number.
MIRRORS = 0
# Seconds that a save may take where the server is away; see `patience`.
COMMAND_TIMEOUT = 1.0


@dataclass(frozen=True)
class Keys:
    """The three keys of a name."""

    full: str
    delta: str
    head: str

    def __iter__(self) -> Any:
        return iter((self.full, self.delta, self.head))


def keys_of(name: str = "default", prefix: str = "snapdelta:") -> Keys:
    return Keys(*(f"{prefix}{{{name}}}:{part}" for part in ("full", "delta", "head")))


class Oracle:
    """Knows what every writer tried to save under a name, and what became of it."""

    def __init__(self, *markets: Market) -> None:
        self.markets = {market.writer: market for market in markets}
        self.newest: Id = (0, 0)
        # Set where a server lost data between two writers: then the older one may come once more.
        self.may_go_back = False
        self._marks: dict[Id, tuple[str, int]] = {}
        self._refused: set[tuple[str, int]] = set()

    async def save(
        self, manager: SnapshotManager, market: Market, name: str = "default", *, force_full: bool = False
    ) -> dict[str, Any]:
        """Save the market's next state; keeps the outcome and passes errors on."""
        state = market.next()
        mark = market.writer, market.saved
        saving = manager.save_snapshot(state, name, force_full=force_full)
        try:
            result = dict(await saving)
        except REFUSED:
            self._refused.add(mark)
            raise
        self.saved(result, mark)
        return result

    def saved(self, result: dict[str, Any], mark: tuple[str, int]) -> None:
        """Keep that a save succeeded."""
        self.newest = result["epoch"], result["sequence"]
        self._know(self.newest, mark)

    def refused(self, writer: str, number: int) -> None:
        """Keep that a save failed for good."""
        self._refused.add((writer, number))

    def check(self, update: Update) -> tuple[str, int]:
        """AssertionError unless it is exactly what its writer saved under this id; whose, and which."""
        mark = update.snapshot[MARK]["writer"], update.snapshot[MARK]["n"]
        assert mark[0] in self.markets, f"nobody saved {mark}"
        market = self.markets[mark[0]]
        assert_same(update.snapshot, market.state(mark[1]))
        assert mark not in self._refused, (
            f"{mark} was refused and is read as {update.epoch}-{update.sequence}"
        )
        self._know((update.epoch, update.sequence), mark)
        return mark

    def nothing_between(self, before: Id, after: Id) -> None:
        """AssertionError if a state is known to be accepted between the two."""
        missed = sorted(position for position in self._marks if before < position < after)
        assert not missed or self.may_go_back, f"{after} after {before}, without {missed}"

    def saved_as(self, position: Id, mark: tuple[str, int]) -> None:
        """AssertionError if another state was saved, or read, under this id."""
        assert mark not in self._refused, f"{mark} was refused and is mirrored as {position}"
        self._know(position, mark)

    def _know(self, position: Id, mark: tuple[str, int]) -> None:
        assert self._marks.setdefault(position, mark) == mark, f"two states under {position}"


@dataclass(frozen=True)
class Seen:
    """What is kept of an update: all but the state, which has been checked."""

    id: Id
    mark: tuple[str, int]
    resynced: bool
    reason: str | None
    timestamp: float
    lag: float


@dataclass
class FollowedReader(Watched):
    """Follows a name in a task of its own; checks every update. An asynchronous context manager."""

    reader: SnapshotReader
    oracle: Oracle
    seen: list[Seen] = field(default_factory=list)
    _state: State | None = None
    _running: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self._running.set()

    @property
    def last(self) -> Id:
        return self.seen[-1].id if self.seen else (0, 0)

    def check_handovers(self) -> None:
        """Once more, as of all that has become known: at the border of two epochs nothing was missed."""
        for before, after in pairwise(self.seen):
            if not after.resynced:
                self.oracle.nothing_between(before.id, after.id)

    @property
    def resyncs(self) -> list[str | None]:
        """The reasons of all resyncs, in their order."""
        return [seen.reason for seen in self.seen if seen.resynced]

    def pause(self) -> None:
        """Ask for no more updates until `resume`, as a slow consumer."""
        self._running.clear()

    def resume(self) -> None:
        self._running.set()

    async def reaches(self, position: Id) -> None:
        """Wait until it has read this save."""
        await self.until(lambda: self.last == position, f"{position}")

    async def until(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something that comes with an update; what ended the following ends the waiting."""
        assert self._task is not None
        try:
            async with asyncio.timeout(LIMIT):
                while not condition():
                    if self._task.done():
                        await self._task
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"the reader is at {self.seen[-1:]}, not at {what}") from None

    async def fails(self) -> BaseException:
        """Wait until following has ended with an error."""
        assert self._task is not None
        done, _ = await asyncio.wait({self._task}, timeout=LIMIT)
        assert done, f"the reader goes on, and is at {self.seen[-1:]}"
        error = self._task.exception()
        assert error is not None
        self._task = None
        return error

    async def _run(self) -> None:
        async for update in self.reader.follow():
            self._take(update)
            await self._running.wait()
        raise AssertionError("following ended by itself")

    def _take(self, update: Update) -> None:
        mark = self.oracle.check(update)
        position = update.epoch, update.sequence
        if self.seen:
            before = self.seen[-1]
            assert position > before.id or self.oracle.may_go_back, f"{position} after {before.id}"
            if not update.resynced:
                follows = position == (before.id[0], before.id[1] + 1)
                assert follows or position[0] > before.id[0], f"{position} after {before.id}, not resynced"
                self.oracle.nothing_between(before.id, position)
                assert update.reason in (None, "larger", "verify_failed")
            assert update.timestamp >= before.timestamp or update.resynced
        else:
            assert (update.resynced, update.reason) == (False, "start")
        check_symbols(update, self._state)
        self._state = copied(update.snapshot)
        self.seen.append(Seen(position, mark, update.resynced, update.reason, update.timestamp, update.lag))


def check_symbols(update: Update, before: State | None) -> None:
    """What an update says of its symbols is so."""
    old, new = before or {}, update.snapshot
    assert set(update.added) == new.keys() - old.keys()
    assert set(update.removed) == old.keys() - new.keys()
    differ = {symbol for symbol in new.keys() & old.keys() if new[symbol] != old[symbol]}
    # After several frames some may be back to what they were.
    assert differ == set(update.updated) or (update.resynced and differ < set(update.updated))
    assert update.changed == [*update.added, *update.updated]
    assert len({*update.changed, *update.removed}) == len(update.changed) + len(update.removed)
    assert set(update.moved) <= new.keys() & old.keys()


class Stage:
    """Writers and readers of one name, each with a client of its own; all end with this context manager."""

    def __init__(self, connect: Callable[[], AsyncClient], name: str = "default", **settings: Any) -> None:
        self.oracle = Oracle()
        self.followers: list[FollowedReader] = []
        self.mirrors: list[MirrorWatch] = []
        self.clients = 0
        self.name = name
        self._connect = connect
        self._settings = {"command_timeout": patience(COMMAND_TIMEOUT), **settings}
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)
        # What followers share ends a moment after the last of them.
        await until(lambda: not _tasks_left(self.name))

    def own(self, client: AsyncClient) -> AsyncClient:
        """Close it at the end."""
        self.clients += 1
        self._stack.push_async_callback(client.aclose)
        return client

    def client(self) -> AsyncClient:
        return self.own(self._connect())

    async def writer(self, name: str = "A", client: AsyncClient | None = None, **settings: Any) -> Writer:
        """A manager that saves a market of its own."""
        market = self.oracle.markets.setdefault(name, Market(name))
        manager = SnapshotManager(client or self.client(), **{**self._settings, **settings})
        await self._stack.enter_async_context(manager)
        return Writer(manager, market, self)

    def reader(self, client: AsyncClient | None = None) -> SnapshotReader:
        return SnapshotReader(client or self.client(), self.name, command_timeout=patience(COMMAND_TIMEOUT))

    async def follow(self, client: AsyncClient | None = None) -> FollowedReader:
        """A reader that follows from now on."""
        follower = FollowedReader(self.reader(client), self.oracle)
        self.followers.append(await self._stack.enter_async_context(follower))
        return follower

    async def mirror(self, client: AsyncClient | None = None, **settings: Any) -> MirrorWatch:
        """A mirror that runs from now on."""
        client = client or self.client()
        options = {"command_timeout": patience(COMMAND_TIMEOUT), "check_interval": 0.1, **settings}
        watch = MirrorWatch(SnapshotMirror(client, self.name, **options), client, self.oracle)
        self.mirrors.append(await self._stack.enter_async_context(watch))
        return watch

    async def together(self) -> None:
        """Wait until every follower, and every mirror's rows, have the newest state."""
        for follower in self.followers:
            await follower.reaches(self.oracle.newest)
            follower.check_handovers()

        for mirror in self.mirrors:
            await mirror.reaches(self.oracle.newest)

    async def join(self) -> None:
        """Who comes now is on the newest state at once, by either way."""
        reader = self.reader()
        latest = await reader.latest()
        assert latest is not None
        self.oracle.check(latest)
        assert (latest.epoch, latest.sequence) == self.oracle.newest
        async with FollowedReader(reader, self.oracle) as late:
            await late.reaches(self.oracle.newest)
            assert [seen.reason for seen in late.seen] == ["start"]

    async def nobody_is_misled(self) -> None:
        """Who comes in the middle of a fault is told so, or reads what was saved."""
        try:
            latest = await (self.reader()).latest()
        except SnapshotError:
            return
        if latest is not None:
            self.oracle.check(latest)

    async def recover(self, writer: Writer, *, late: bool = True) -> list[dict[str, Any]]:
        """What is promised after every fault: two successful saves, and everybody has the newest state.

        `late`: who joins then, too. Returns the results of the two.
        """
        results: list[dict[str, Any]] = []
        async with asyncio.timeout(LIMIT):
            while len(results) < 2:
                try:
                    results.append(await writer.save())
                except SnapshotUnavailableError:
                    await asyncio.sleep(0.05)
        await self.together()
        if late:
            await self.join()
        return results

    @property
    def resyncs(self) -> set[str | None]:
        """The reasons of all resyncs of all followers."""
        return {reason for follower in self.followers for reason in follower.resyncs}


def _tasks_left(name: str) -> list[str]:
    """Tasks of the package for this name; those of another stage go on."""
    tasks = {f"snapdelta-{task}-{name}" for task in ("follow", "save")}
    return [task.get_name() for task in asyncio.all_tasks() if task.get_name() in tasks]


@dataclass
class Writer:
    """A manager and what it saves."""

    manager: SnapshotManager
    market: Market
    stage: Stage

    async def save(self, *, force_full: bool = False) -> dict[str, Any]:
        return await self.stage.oracle.save(self.manager, self.market, self.stage.name, force_full=force_full)

    async def saves(self, count: int) -> list[dict[str, Any]]:
        return [await self.save() for _ in range(count)]


@asynccontextmanager
async def staged(
    connect: Callable[[], AsyncClient], *, followers: int = 1, name: str = "default", **settings: Any
) -> AsyncIterator[tuple[Stage, Writer]]:
    """A stage with a writer `A`, three saves old, followers that have them all, and `MIRRORS` mirrors."""
    async with Stage(connect, name, **settings) as stage:
        writer = await stage.writer()
        for _ in range(followers):
            await stage.follow()
        for _ in range(MIRRORS):
            await stage.mirror(plain_key=f"plain:{{{name}}}")
        await writer.saves(3)
        await stage.together()
        yield stage, writer


def client_of(at: Server | Proxy, *, retries: bool = True, **options: Any) -> Redis:
    """A client with redis-py's own retries as they are by default, or one that tries every command once."""
    if not retries:
        options["retry"] = Retry(NoBackoff(), 0)
    return Redis(port=at.port, **options)


class CancelAt:
    """Awaits something, and cancels the task that does so at its `nth` suspension.

    `suspensions` counts them; fewer than `nth` means that it ended before.
    """

    def __init__(self, inner: Awaitable[Any], nth: int) -> None:
        self.suspensions = 0
        self._inner = inner
        self._nth = nth

    def __await__(self) -> Any:
        steps = self._inner.__await__()
        try:
            waits_for = steps.send(None)
            while True:
                self.suspensions += 1
                if self.suspensions == self._nth:
                    task = asyncio.current_task()
                    assert task is not None
                    task.cancel("by a test")
                try:
                    got = yield waits_for
                except BaseException as error:  # noqa: BLE001  # handed to the one that is driven, whatever it is
                    waits_for = steps.throw(error)
                else:
                    waits_for = steps.send(got)
        except StopIteration as stop:
            return stop.value
