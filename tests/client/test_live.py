"""examples/live: what its page shows is what was saved, and its thread has next to nothing to do."""

from __future__ import annotations

import asyncio
import re
import signal
import socket
import statistics
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from decimal import ROUND_HALF_UP, Decimal
from functools import partial
from itertools import islice
from math import inf
from operator import itemgetter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from redis.asyncio import Redis

import snapdelta
from client.chromium import Page, page
from client.node import require_client
from client.socket_server import socket_server
from examples.live.__main__ import main
from examples.live.market import NAME, changes
from snapdelta import SnapshotReader
from snapdelta.testing.feed import Feed
from support.documents import ROOT
from support.frames import at_version
from support.stream_harness import until

_SHOWN = 20
Records = dict[str, dict[str, Any]]
Rows = list[list[str]]

_ROWS = """
({
  sequence: Number(document.getElementById("table").dataset.sequence ?? 0),
  rows: [...document.querySelectorAll("#rows tr:not([hidden])")].slice(0, 20)
    .map((row) => [...row.children].map((cell) => cell.textContent)),
})
"""
_LONG_TASKS = """
globalThis.longTasks = [];
new PerformanceObserver((list) => {
  for (const { duration } of list.getEntries()) longTasks.push(duration);
}).observe({ type: "longtask" });
"""


class Example(NamedTuple):
    """What runs: the addresses of its page and of its Redis."""

    page: str
    redis: str
    process: asyncio.subprocess.Process


@asynccontextmanager
async def live(symbols: int, rate: float = 5.0) -> AsyncIterator[Example]:
    """`python -m examples.live`; ends it as Ctrl-C does."""
    command = ["-m", "examples.live", "--symbols", str(symbols), "--rate", str(rate)]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=ROOT, stdout=pipe, stderr=pipe, start_new_session=True
    )
    try:
        assert process.stdout is not None
        line = (await process.stdout.readline()).decode()
        match = re.fullmatch(r"(http://127\.0\.0\.1:\d+/) shows 'market' of (redis://\S+)\n", line)
        assert match is not None, line
        yield Example(match[1], match[2], process)
        if process.returncode is None:
            process.send_signal(signal.SIGINT)
            _, said = await asyncio.wait_for(process.communicate(), 60)
            assert await process.wait() == 0
            assert b"Traceback" not in said, said
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def top(snapshot: Records, word: str = "", by: str = "turnover", first: int = 0) -> Rows:
    """The rows from `first` on that the page must show of a state: what is written in their cells."""
    ranked = sorted(snapshot.values(), key=_ORDERS[by], reverse=True)
    matching = ((rank, record) for rank, record in enumerate(ranked, 1) if word in record["ticker"])
    return [
        [str(rank), record["ticker"], *_texts(record)]
        for rank, record in islice(matching, first, first + _SHOWN)
    ]


def _turnover(record: dict[str, Any]) -> float:
    return float(record["day"]["v"] * record["day"]["vw"])


_ORDERS: dict[str, Callable[[dict[str, Any]], float]] = {"turnover": _turnover, "score": itemgetter("score")}


def _values(record: dict[str, Any]) -> dict[str, float]:
    """By column, in the order of the page; -inf where there is none."""
    values = {
        "price": record["lastTrade"]["p"],
        "change": record["todaysChangePerc"],
        "turnover": _turnover(record),
        "volume": record["day"]["v"],
        "rvol": record["rvol"],
        "high": record["from_high"],
        "spread": record["spread_pct"],
        "cap": record["market_cap"],
        "score": record["score"],
    }
    return {name: -inf if value is None else value for name, value in values.items()}


def _texts(record: dict[str, Any]) -> list[str]:
    values = _values(record)
    written: dict[str, Callable[[float], str]] = {
        "price": partial(_fixed, digits=4 if values["price"] < 1 else 2),
        "change": _percent,
        "turnover": _short,
        "volume": _short,
        "rvol": partial(_fixed, digits=2),
        "high": _percent,
        "spread": partial(_fixed, digits=3),
        "cap": _short,
        "score": partial(_fixed, digits=2),
    }
    return ["–" if values[name] == -inf else write(values[name]) for name, write in written.items()]


def _fixed(value: float, digits: int) -> str:
    # JavaScript rounds half up, and writes the sign of all but zero.
    rounded = Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{abs(rounded) if value == 0 else rounded}".replace("-", "−")


def _percent(value: float) -> str:
    return ("+" if value > 0 else "") + _fixed(value, 2)


def _short(value: float) -> str:
    for unit, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "K")):
        if value >= unit:
            return _fixed(value / unit, 2 if value < 10 * unit else 1) + letter
    return _fixed(value, 0)


class Truth:
    """What Python reads: the rows that the page must show of each state, made by `shown`."""

    def __init__(self, url: str, shown: Callable[[Records], Any]) -> None:
        self.states: dict[int, Any] = {}
        self._shown = shown
        self._following = asyncio.create_task(self._follow(url))

    async def _follow(self, url: str) -> None:
        async with Redis.from_url(url) as redis:
            async for update in SnapshotReader(redis, NAME, shared=True).follow():
                self.states[update.sequence] = await asyncio.to_thread(self._shown, update.snapshot)

    async def of(self, sequence: int) -> Any:
        await until(lambda: sequence in self.states or self._following.done())
        if self._following.done():
            self._following.result()
        return self.states[sequence]

    async def aclose(self) -> None:
        self._following.cancel()
        await asyncio.wait({self._following})


async def shown(browser: Page) -> tuple[int, Rows]:
    """The sequence and the first rows that the page shows; 0 before the first."""
    said = await browser.evaluate(_ROWS)
    return int(said["sequence"]), said["rows"]


@asynccontextmanager
async def opened(
    symbols: int, shown: Callable[[Records], Any], profile: Path
) -> AsyncIterator[tuple[Truth, Page]]:
    """The example's page in a browser, and what it must show."""
    require_client()
    async with (
        live(symbols) as example,
        aclosing(Truth(example.redis, shown)) as truth,
        page(profile) as browser,
    ):
        await browser.open(example.page)
        yield truth, browser


async def test_the_page_shows_what_was_saved(tmp_path: Path) -> None:
    async with opened(600, dict, tmp_path) as (truth, browser):
        checked: set[int] = set()

        async def rows_are_those_of(word: str = "", by: str = "turnover", first: int = 0) -> bool:
            sequence, rows = await shown(browser)
            if rows == top(await truth.of(sequence), word, by, first):
                checked.add(sequence)
                return True
            return False

        await browser.wait_for("document.getElementById('table').dataset.sequence > 0")
        for _ in range(60):
            assert await rows_are_those_of()
            if len(checked) > 5:
                break
            await asyncio.sleep(0.2)
        assert len(checked) > 1
        await browser.evaluate('document.querySelector("th.score button").click()')
        await until(lambda: rows_are_those_of(by="score"))
        await browser.press("/", "/")
        assert await browser.evaluate("document.activeElement.id") == "filter"
        await browser.ask("Input.insertText", text="ab")
        await until(lambda: rows_are_those_of("AB", "score"))
        await browser.press("Escape")
        await until(lambda: rows_are_those_of(by="score"))
        height = 'parseFloat(getComputedStyle(scroller).getPropertyValue("--row"))'
        await browser.evaluate(f"scroller.scrollTop = 100 * {height}")
        await until(lambda: rows_are_those_of(by="score", first=100))
        # At the first cell of the map.
        await browser.evaluate("map.click()")
        await until(lambda: rows_are_those_of(by="score"))
        # What is paused stays, while the market goes on; one update may have been on its way.
        await browser.press("p", "p")
        await browser.wait_for('document.body.dataset.state === "paused"')
        paused, _ = await shown(browser)
        await truth.of(paused + 8)
        assert (await shown(browser))[0] <= paused + 2
        await browser.press("p", "p")
        await browser.wait_for(f"document.getElementById('table').dataset.sequence > {paused + 2}")


async def test_the_page_says_how_the_connection_is(tmp_path: Path) -> None:
    require_client()

    async def state(wanted: str) -> None:
        async def is_shown() -> bool:
            await asyncio.sleep(0.05)
            said = await browser.evaluate('document.getElementById("state").innerText')
            return re.fullmatch(wanted, " ".join(said.split())) is not None

        await until(is_shown)

    async with live(20) as example, socket_server() as server, page(tmp_path) as browser:
        await server.stop()
        calm = [{"name": "prefers-reduced-motion", "value": "reduce"}]
        await browser.ask("Emulation.setEmulatedMedia", features=calm)
        elsewhere = f'document.body.dataset.stream = "{server.url}"'
        await browser.open(
            example.page, before=f"document.addEventListener('readystatechange', () => {elsewhere})"
        )
        await state("connecting .*connection.*")
        await server.start()
        await state("live")
        await state(r"stale no update for \d+ s")
        await server.publish()
        await state("live")
        await server.stop()
        await state("reconnecting .*connection.*")
        turning = "getComputedStyle(document.querySelector('#state i')).animationName"
        assert await browser.evaluate(turning) == "none"
        await server.start()
        await until(lambda: bool(server.connections))
        await server.publish()
        await state("live")
        await server.send(at_version(snapdelta.dumps({"A": {"x": 1}}), 9))
        await state("ended UnsupportedVersionError: .*")


def test_the_changes_lead_from_state_to_state() -> None:
    feed = Feed("enriched", 300, interval=1.0)
    current: Records = {}
    for parts in islice(changes(300, 5), 8):
        for records, removed in parts:
            current.update(records)
            for symbol in removed:
                del current[symbol]
        assert current == next(feed)


async def test_a_market_that_cannot_be_saved_ends_it() -> None:
    async with live(20) as example:
        async with Redis.from_url(example.redis) as client:
            await client.shutdown(nosave=True)
        _, said = await asyncio.wait_for(example.process.communicate(), 120)
        assert example.process.returncode == 2
        assert re.match(r"error: .*'market'", said.decode().splitlines()[-1]), said


def test_what_makes_no_sense_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--rate", "0"], ["--rate", "nan"], ["--symbols", "0"], ["--port", "70000"]):
        with pytest.raises(SystemExit):
            main(arguments)
        assert "error: argument" in capsys.readouterr().err
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert main(["--port", str(taken.getsockname()[1])]) == 2
    assert re.match(r"error: port \d+: ", capsys.readouterr().err)


@pytest.mark.long
async def test_a_minute_of_the_whole_market(tmp_path: Path) -> None:
    async with opened(11_905, top, tmp_path) as (truth, browser):
        await browser.wait_for("document.getElementById('table').dataset.sequence > 0")
        # Engines compile and caches fill in the first seconds.
        await asyncio.sleep(10)
        await browser.evaluate(_LONG_TASKS)
        await browser.trace()
        clock = asyncio.get_running_loop().time
        began = clock()
        heaps: list[int] = []
        resident: list[int] = []
        seen: dict[int, Rows] = {}
        while clock() < began + 60:
            sequence, rows = await shown(browser)
            seen[sequence] = rows
            # A collection is a pause of the page: not too many.
            if clock() > began + 5 * len(heaps):
                heaps.append(await browser.heap())
                resident.append(browser.resident())
            await asyncio.sleep(0.15)
        observed = await browser.evaluate("longTasks")
        tasks = await browser.traced()
        print(f"\n{max(seen) - min(seen)} updates, {len(seen)} compared; {len(browser.sessions) - 1} worker")
        print(f"PerformanceObserver, tasks over 50 ms: {observed}")
        longest, busiest = (max(times) for times in zip(*tasks, strict=True))
        used = sum(processor for _, processor in tasks)
        print(f"{len(tasks)} tasks, the longest {longest:.1f} ms")
        print(f"processor time: the most of a task {busiest:.1f} ms, of all {used:.0f} ms")
        print(f"heap, MB: {[round(each / 1e6, 2) for each in heaps]}")
        print(f"resident, MB: {[round(each / 1e6) for each in resident]}")
        # Python reads more slowly than the page, which makes no records.
        for sequence, rows in seen.items():
            assert rows == await truth.of(sequence), sequence
        assert len(seen) > 60
        # By the clock, other processes of a busy machine make tasks long.
        assert busiest < 50
        for measured in (heaps, resident):
            third = len(measured) // 3
            assert statistics.median(measured[-third:]) < 1.1 * statistics.median(measured[:third])
