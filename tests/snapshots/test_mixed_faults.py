"""Faults in any order, one upon the other: still nobody is misled, and nothing grows."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from snapdelta.errors import SnapshotDamagedError, SnapshotError, SnapshotMemoryError, WriterSupersededError
from support.corruption import DAMAGE, entries, tamper
from support.servers import Server, on_one_server
from support.snapshot_harness import Stage, Writer, keys_of, staged

KEYS = keys_of()
MOST = 60


class Mischief:
    """Does one thing or another to the server, the keys and those who use them."""

    def __init__(self, server: Server, stage: Stage, writer: Writer, seed: int) -> None:
        self.writer = writer
        self._server = server
        self._stage = stage
        self._random = random.Random(seed)
        self._writers = 0
        self._kinds: list[Callable[[], Awaitable[None]]] = [
            *(self._deletes, self._damages, self._intrudes, self._cuts),
            *(self._fills_up, self._takes_over, self._pauses, self._resumes),
        ]

    async def happens(self) -> None:
        await self._random.choice(self._kinds)()

    async def ends(self) -> None:
        await self._resumes()

    async def _deletes(self) -> None:
        self._server.execute("DEL", *self._random.sample(list(KEYS), self._random.randint(1, 3)))

    async def _damages(self) -> None:
        key = self._random.choice([KEYS.full, KEYS.delta])
        rows = entries(self._server, key)
        behind = self._random.randint(1, 4)
        if len(rows) >= behind and b"f" in rows[-behind][1]:
            tamper(self._server, key, DAMAGE[self._random.choice(list(DAMAGE))], behind)

    async def _intrudes(self) -> None:
        self._server.execute("XADD", self._random.choice([KEYS.full, KEYS.delta]), "*", "event", "not ours")

    async def _cuts(self) -> None:
        self._server.execute("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")

    async def _fills_up(self) -> None:
        self._server.config_set("maxmemory", 1)
        with pytest.raises(SnapshotMemoryError):
            await self.writer.save()
        self._server.config_set("maxmemory", 0)

    async def _takes_over(self) -> None:
        self._writers += 1
        old, self.writer = self.writer, await self._stage.writer(f"W{self._writers}")
        await self.writer.save()
        with pytest.raises(WriterSupersededError):
            await old.save()
        await old.manager.close()

    async def _pauses(self) -> None:
        self._random.choice(self._stage.followers).pause()

    async def _resumes(self) -> None:
        for follower in self._stage.followers:
            follower.resume()


@on_one_server
@pytest.mark.parametrize("seed", range(3))
async def test_faults_in_any_order(server: Server, seed: int) -> None:
    await _faults(server, seed, rounds=40)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(100, 120))
async def test_many_faults_in_any_order(server: Server, seed: int) -> None:
    await _faults(server, seed, rounds=400)


async def _faults(server: Server, seed: int, rounds: int) -> None:
    async with staged(server.client, followers=3, history=0.0, history_frames=30) as (stage, writer):
        mischief = Mischief(server, stage, writer, seed)
        for number in range(rounds):
            await mischief.happens()
            with suppress(SnapshotError):
                await mischief.writer.save()
            await stage.nobody_is_misled()
            if number % 10 == 9:
                await mischief.ends()
                # A request is granted at most once in ten saves; damage upon damage may have to wait.
                for _ in range(9):
                    await mischief.writer.save()
                with suppress(SnapshotDamagedError):
                    await stage.reader().latest()
                await stage.recover(mischief.writer)
        with server.admin() as admin:
            assert admin.dbsize() == 3
            assert admin.xlen(KEYS.full) <= MOST
            assert admin.xlen(KEYS.delta) <= MOST
            # A connection or two of each client.
            assert admin.info("clients")["connected_clients"] < 2 * stage.clients
