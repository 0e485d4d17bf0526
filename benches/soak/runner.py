"""A run of the soak: a server, a writer and a reader process a way, samples, and reads that are compared."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, Self

import orjson
import redis as sync_redis
from redis.asyncio import Redis

from benches.soak import actors
from benches.soak.actors import Report
from benches.soak.plan import INTERVAL, Plan, Records, SoakError
from benches.soak.saved import Run, Series
from benches.soak.ways import DELTAS, MARKET, RAW, WAYS
from snapdelta import EmbeddedServer
from snapdelta.testing.compare import first_difference

# Seconds without an answer after which a process must have failed.
_SILENCE = 120.0
_PAGE = os.sysconf("SC_PAGE_SIZE")
_spawn = multiprocessing.get_context("spawn")


class Actor:
    """A process and the pipe to it."""

    def __init__(self, name: str, target: Callable[..., None], way: str, plan: Plan, url: str) -> None:
        self.name = f"the {name} of {way!r}"
        self.pipe, theirs = _spawn.Pipe()
        self._process = _spawn.Process(target=target, args=(way, plan, url, theirs), daemon=True)
        self._process.start()
        theirs.close()
        self.answer()

    @property
    def resident(self) -> int:
        """Bytes of the process that are in memory."""
        with open(f"/proc/{self._process.pid}/statm") as file:
            return int(file.read().split()[1]) * _PAGE

    def answer(self) -> Report:
        """Raises SoakError when the process has ended or is silent."""
        pipe: Connection = self.pipe
        try:
            if not pipe.poll(_SILENCE):
                raise SoakError(f"{self.name} has not answered for {_SILENCE:g} s")
            report: Report = pipe.recv()
        except (EOFError, ConnectionError) as error:
            raise SoakError(f"{self.name} has failed; its error is above") from error
        return report

    def kill(self) -> None:
        self._process.kill()
        self._process.join()
        self.pipe.close()


class Stage:
    """One way: its server, its processes, and what was measured of them since the last sample."""

    def __init__(self, way: str, plan: Plan) -> None:
        self.way = way
        self._exit = ExitStack()
        self._saves: list[Report] = []
        self._reads: list[Report] = []
        self.series: Series = {}
        try:
            server = self._exit.enter_context(EmbeddedServer())
            self.url = server.url
            self._pid = server.pid
            self._redis = self._exit.enter_context(sync_redis.Redis.from_url(server.url))
            self._writer = Actor("writer", actors.write, way, plan, server.url)
            self._exit.callback(self._writer.kill)
            self._reader = Actor("reader", actors.read, way, plan, server.url)
            self._exit.callback(self._reader.kill)
        except BaseException:
            self._exit.close()
            raise
        self._before = self._counters()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def send(self, text: bytes) -> None:
        """Let the writer begin to save a frame."""
        self._writer.pipe.send_bytes(text)

    def saved(self) -> None:
        """Wait until it has."""
        self._saves.append(self._writer.answer())

    def read(self, number: int) -> None:
        """Let the reader come to the frame, and wait until it has."""
        self._reader.pipe.send(number)
        self._reads.append(self._reader.answer())

    def check(self, plan: Plan, market: Records) -> None:
        """Raises SoakError if the market or a list reads otherwise than it was saved."""
        begun = self._counters()
        asyncio.run(self._check(plan, market))
        # What the check itself costs the server is no part of the way.
        self._before = {name: self._before[name] + v - begun[name] for name, v in self._counters().items()}

    async def _check(self, plan: Plan, market: Records) -> None:
        async with Redis.from_url(self.url) as redis:
            way = WAYS[self.way](redis, plan.kind)
            for name, saved in {MARKET: market, **plan.lists(market)}.items():
                if difference := first_difference(saved, await way.read(name)):
                    raise SoakError(f"{self.way}: {name} is not what was saved: {difference}")

    def sample(self, frame: int) -> None:
        """One more value of each series. Sizes in bytes; costs are those of a frame since the last sample."""
        counters = self._counters()
        frames = len(self._saves)
        spent = {name: (value - self._before[name]) / frames for name, value in counters.items()}
        self._before = counters
        memory: Any = self._redis.info("memory")
        with open(f"/proc/{self._pid}/statm") as file:
            server = int(file.read().split()[1]) * _PAGE
        values = {
            "hours": frame * INTERVAL / 3600,
            "redis": memory["used_memory"],
            "server_rss": server,
            "writer_rss": self._writer.resident,
            "reader_rss": self._reader.resident,
            "redis_cpu_ms": spent["cpu"] * 1e3,
            "received": spent["received"],
            "sent": spent["sent"],
            "writer_cpu_ms": sum(save.cpu_ms for save in self._saves) / frames,
            "writer_stall_ms": max(save.stall_ms for save in self._saves),
            "reader_cpu_ms": sum(read.cpu_ms for read in self._reads) / frames,
            "reader_stall_ms": max((read.stall_ms for read in self._reads), default=0.0),
            "snapshot": sum(save.size for save in self._saves) / frames,
            "snapshot_most": max(save.size for save in self._saves),
            "raw_entries": self._redis.xlen(RAW),
            "delta_entries": self._redis.xlen(DELTAS),
        }
        for name, value in values.items():
            self.series.setdefault(name, []).append(round(value, 4))
        self._saves.clear()
        self._reads.clear()

    def _counters(self) -> dict[str, float]:
        info: Any = self._redis.info("everything")
        return {
            "cpu": info["used_cpu_user"] + info["used_cpu_sys"],
            "received": info["total_net_input_bytes"],
            "sent": info["total_net_output_bytes"],
        }


def play(plan: Plan, progress: Callable[[str], None]) -> Run:
    """Raises SoakError and EmbeddedServerError."""
    with ExitStack() as exits:
        stages = [exits.enter_context(Stage(way, plan)) for way in WAYS]
        begin = start = time.monotonic()
        checked = late = number = 0
        for number, market in enumerate(plan.feed(), 1):
            text = orjson.dumps(market)
            if plan.kind == "cadence":
                behind = _paced(stages, text, start + (number - 1) * INTERVAL)
                late += sum(seconds > INTERVAL / 10 for seconds in behind)
                # A frame that came late is the only one: those after it come 5 s apart again.
                start += max(behind)
            else:
                _at_once(stages, text)
            elapsed = time.monotonic() - begin
            last = number == plan.frames or elapsed > plan.seconds
            for stage in stages:
                if number % plan.frames_a_read == 0 or last:
                    stage.read(number)
                if number % plan.frames_a_sample == 0 or last:
                    stage.sample(number)
            if number % plan.frames_a_check == 0 or number == 1 or last:
                begun = time.monotonic()
                for stage in stages:
                    stage.check(plan, market)
                checked += len(stages)
                # No frame is late because of a check.
                start += time.monotonic() - begun
                progress(f"{plan.kind}: frame {number:,} of {plan.frames:,}, {elapsed:.0f} s, reads equal")
            if last:
                break
        return Run.of(
            plan,
            frames=number,
            seconds=round(time.monotonic() - begin, 1),
            late=late,
            checks=checked,
            series={stage.way: stage.series for stage in stages},
        )


def _paced(stages: list[Stage], text: bytes, due: float) -> list[float]:
    """Save one frame, each way in its own third of the interval; the seconds by which each began late."""
    behind = []
    for place, stage in enumerate(stages):
        begin = due + place * INTERVAL / len(stages)
        now = time.monotonic()
        behind.append(max(0.0, now - begin))
        time.sleep(max(0.0, begin - now))
        stage.send(text)
        stage.saved()
    return behind


def _at_once(stages: list[Stage], text: bytes) -> None:
    """Save one frame, all ways at the same time."""
    for stage in stages:
        stage.send(text)
    for stage in stages:
        stage.saved()
