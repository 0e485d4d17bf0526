"""The promised table of one run: before, by hand, after, promised, met or missed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, median
from typing import NamedTuple

from benches.soak.growth import WARM_UP, Growth, growth
from benches.soak.plan import INTERVAL
from benches.soak.saved import Run, Series

_SYSTEM = 2.5e9
_REDIS = 150e6
_SNAPSHOT = 200e3
# About 1,000 entries: a node of the server more than 1,000.
_ENTRIES = 1_100
_DATABASE = 2.0
_DATABASE_SIZES = Path(__file__).parents[2] / "docs" / "timescaledb.md"
_DAYS = (7, 30, 90)
NOT_HERE = "not measured here"
_SHORT = "run too short"
_OUTCOMES = {True: "met", False: "**missed**", None: NOT_HERE}
_MEMORY = {"Redis": "redis", "the writer": "writer_rss", "a reader": "reader_rss"}


class Row(NamedTuple):
    name: str
    before: str
    by_hand: str
    after: str
    promised: str = ""
    met: str = ""


def rows(run: Run) -> list[Row]:
    """The table, line by line."""
    lasted = _duration(run.frames * INTERVAL / 3600)
    measured = [
        _Line("RAM of Redis, writer and reader, at first", lambda s: _mb(_ram(s)[0])),
        _Line(
            f"RAM of Redis, writer and reader, after {lasted}",
            lambda s: _mb(_ram(s)[-1]),
            "2.5 GB",
            _fits_system,
        ),
        *(_growth_line(name, key) for name, key in _MEMORY.items()),
        *(_late_growth_line(name, key) for name, key in _MEMORY.items()),
        _Line("Redis memory, most", lambda s: _mb(max(s["redis"])), "150 MB", _fits_redis),
        _Line("Redis CPU, of a core at a frame in 5 s", lambda s: f"{_redis_share(s):.2f} %"),
        _Line("bytes to Redis a frame", lambda s: _kb(mean(s["received"]))),
        _Line("size of a snapshot, mean", lambda s: _kb(mean(s["snapshot"])), "50-200 kB", _small),
        _entries_line("raw stream", "raw_entries"),
        _entries_line("ranking deltas", "delta_entries"),
        _Line("writer CPU a frame", lambda s: f"{mean(s['writer_cpu_ms']):,.1f} ms"),
        _Line("stall of the writer's loop, median (longest)", lambda s: _stall(s["writer_stall_ms"])),
        _Line("reader CPU a frame", lambda s: f"{mean(s['reader_cpu_ms']):,.1f} ms"),
        *(_projection_line(days) for days in _DAYS),
    ]
    return [*(line.row(run) for line in measured), *_database_rows()]


@dataclass(frozen=True)
class _Line:
    """A row of the table, made from each way's series; `met` is asked of the last way's."""

    name: str
    shown: Callable[[Series], str]
    promised: str = ""
    met: Callable[[Series], bool | None] | None = None

    def row(self, run: Run) -> Row:
        before, by_hand, after = (self.shown(run.series[way]) for way in ("before", "by hand", "after"))
        met = "" if self.met is None else _OUTCOMES[self.met(run.series["after"])]
        return Row(self.name, before, by_hand, after, self.promised, met)


def _growth_line(name: str, key: str) -> _Line:
    def of(series: Series) -> Growth | None:
        return growth(series["hours"], series[key])

    def met(series: Series) -> bool | None:
        found = of(series)
        return None if found is None else found.is_none

    return _Line(f"growth an hour of {name}", lambda series: _growth(of(series)), "0 within ±", met)


def _late_growth_line(name: str, key: str) -> _Line:
    """Whether what grows slows down: caches and allocators take longer than the warm-up to fill."""

    def shown(series: Series) -> str:
        hours = series["hours"]
        return _growth(growth(hours, series[key], max(WARM_UP, hours[-1] / 2)))

    return _Line(f"the same of {name}, second half of the run", shown)


def _growth(found: Growth | None) -> str:
    return _SHORT if found is None else f"{found.an_hour / 1e6:+,.2f} ± {found.margin / 1e6:,.2f} MB"


def _entries_line(name: str, key: str) -> _Line:
    return _Line(
        f"entries of the {name}, at the end",
        lambda series: f"{series[key][-1]:,.0f}",
        "about 1,000",
        lambda series: max(series[key]) <= _ENTRIES,
    )


def _projection_line(days: int) -> _Line:
    def shown(series: Series) -> str:
        found = growth(series["hours"], series["redis"])
        if found is None:
            return _SHORT
        return _mb(found.after(series["redis"][-1], days * 24 - series["hours"][-1]))

    return _Line(f"Redis memory after {days} days, projected", shown)


def _fits_system(series: Series) -> bool:
    return _ram(series)[-1] <= _SYSTEM


def _fits_redis(series: Series) -> bool:
    return max(series["redis"]) <= _REDIS


def _small(series: Series) -> bool:
    return mean(series["snapshot"]) <= _SNAPSHOT


def _redis_share(series: Series) -> float:
    """Percent of a core, if a frame comes every 5 s."""
    return mean(series["redis_cpu_ms"]) / INTERVAL / 10


def _ram(series: Series) -> list[float]:
    parts = (series["server_rss"], series["writer_rss"], series["reader_rss"])
    return [sum(values) for values in zip(*parts, strict=True)]


def report(run: Run) -> str:
    """Markdown: what was run, and its table."""
    lines = [title(run), "", "| | before | by hand | after | promised | met? |", "|---|--:|--:|--:|---|---|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows(run))])


def title(run: Run) -> str:
    """What was run, and that it was compared."""
    what = "the enriched feed" if run.fields is None else f"records of {run.fields} numbers"
    pace = (
        f"one every 5 s; {run.late} of {3 * run.frames:,} saves began late"
        if run.kind == "cadence"
        else "as fast as they go, with the market's clock"
    )
    planned = "" if run.frames == run.planned else f" ({run.planned:,} were planned)"
    return (
        f"**{run.kind}**: {run.frames:,} frames{planned} of {run.symbols:,} symbols, {what}, {pace}; "
        f"{run.seconds:,.0f} s in all. "
        f"{run.checks} comparisons of all that each way holds with what was saved found no difference."
    )


def _database_rows() -> list[Row]:
    """What `make sizes` measured and projected, as docs/timescaledb.md has it."""
    text = _DATABASE_SIZES.read_text(encoding="utf-8")
    found = re.findall(r"^\| after (\d+) days.*\| ([\d.]+) GB \| \*\*([\d.]+) GB\*\* \|$", text, re.M)
    return [
        *(
            Row(
                f"TimescaleDB after {days} days, projected by `make sizes`",
                f"{before} GB",
                "-",
                f"{after} GB",
                "1.5-2 GB",
                _OUTCOMES[float(after) <= _DATABASE],
            )
            for days, before, after in found
        ),
        Row("TimescaleDB CPU", NOT_HERE, "-", NOT_HERE, "", NOT_HERE),
    ]


def _mb(size: float) -> str:
    return f"{size / 1e9:,.2f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"


def _kb(size: float) -> str:
    return f"{size / 1e6:,.2f} MB" if size >= 1e6 else f"{size / 1e3:,.1f} kB"


def _stall(times: list[float]) -> str:
    return f"{median(times):,.1f} ({max(times):,.1f}) ms"


def _duration(hours: float) -> str:
    return f"{hours:.1f} h" if hours >= 1 else f"{hours * 60:.0f} min"
