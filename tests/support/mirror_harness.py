"""Mirrors under test: supervised as a service would be, and compared with what was saved."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from redis.exceptions import RedisError

from snapdelta import Encoder
from snapdelta.errors import SnapdeltaError
from snapdelta.snapshots.mirror import SnapshotMirror
from support.market import MARK
from support.servers import AsyncClient
from support.stream_harness import Watched

if TYPE_CHECKING:
    from support.snapshot_harness import Id, Oracle

LIMIT = 120.0
META = "__meta__"


def digest_of(state: dict[str, Any]) -> str:
    """The digest of a snapshot, by another way than through Redis."""
    encoder = Encoder()
    encoder.encode(state)
    return f"{encoder.digest:016x}"


def parsed(rows: Mapping[Any, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Records and `__meta__` of a HGETALL."""
    records = {field.decode("utf-8", "surrogatepass"): json.loads(text) for field, text in rows.items()}
    return records, records.pop(META)


async def whole(client: AsyncClient, plain_key: str) -> dict[str, Any]:
    """What the plain key holds, its symbols in order."""
    text: Any = await client.get(plain_key)
    return dict(json.loads(text))


def check_rows(rows: Mapping[Any, Any], oracle: Oracle) -> Id:
    """AssertionError unless the rows are exactly one saved state, as `__meta__` says; its position."""
    records, meta = parsed(rows)
    mark = records[MARK]["writer"], records[MARK]["n"]
    state = oracle.markets[mark[0]].state(mark[1])
    assert records == state, f"the rows are not {mark}"
    assert meta["digest"] == digest_of(state)
    assert meta["symbols"] == len(state)
    position = meta["epoch"], meta["sequence"]
    oracle.saved_as(position, mark)
    return position


@dataclass
class MirrorWatch(Watched):
    """A mirror in a task that begins again when an error has ended it. An asynchronous context manager."""

    mirror: SnapshotMirror
    client: AsyncClient
    oracle: Oracle
    errors: list[SnapdeltaError] = field(default_factory=list)
    # Others have written to the rows: until the mirror has seen that they may be anything.
    tampered: bool = False

    async def rows(self) -> dict[Any, Any]:
        return dict(await self.client.hgetall(self.mirror.rows_key))

    async def reaches(self, position: Id) -> None:
        """Wait until the rows are this state; whatever they are meanwhile is a state that was saved."""
        at: object = None
        try:
            async with asyncio.timeout(LIMIT):
                while at != position:
                    assert self._task is not None
                    if self._task.done():
                        await self._task
                    try:
                        rows = await self.rows()
                        at = check_rows(rows, self.oracle) if rows else None
                        if at == position:
                            await self._check_plain(rows)
                    except RedisError as error:
                        # A key of another type, a server that is away.
                        at = error
                    except (AssertionError, LookupError, TypeError, ValueError) as error:
                        if not self.tampered:
                            raise
                        at = error
                    await asyncio.sleep(0.005)
        except TimeoutError:
            raise AssertionError(f"the rows are at {at}, not at {position}; {self.errors}") from None

    async def _check_plain(self, rows: dict[Any, Any]) -> None:
        if self.mirror.plain_key is not None:
            assert await whole(self.client, self.mirror.plain_key) == parsed(rows)[0]

    async def _run(self) -> None:
        while True:
            try:
                await self.mirror.run()
            except SnapdeltaError as error:
                self.errors.append(error)
                await asyncio.sleep(0.05)
