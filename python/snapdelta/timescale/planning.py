"""Computes the effect of the periods without a database."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import timedelta

from snapdelta.timescale.findings import Finding, Severity
from snapdelta.timescale.levels import SCANNER, Level, rules
from snapdelta.timescale.settings import spell
from snapdelta.timescale.tables import Tables

# Fewer rows a segment than this, and what compression stores beside them outweighs what it saves.
ROWS_PER_SEGMENT = 100
MANY_CHUNKS = 1000


def plan(
    settings: Mapping[str, str] | None = None,
    *,
    tables: Tables | None = None,
    rows_per_day: float | None = None,
    symbols: int | None = None,
) -> list[Finding]:
    """Checks the rules, and computes the age of rows, the number of chunks and the cost of an outage.

    It includes `tables`. With `rows_per_day` (raw rows) and `symbols` (that share them) it also computes
    whether compression pays. Raises MigrationSettingError for an unknown setting or a text that is not a
    period; a broken rule is a fault in the answer.
    """
    tables = tables or Tables()
    periods = {**tables.chosen(settings).periods, **tables.periods}
    levels = (*(SCANNER if tables.scanner else ()), *tables.levels)
    return [
        *_rules(levels, periods),
        *_ages(levels, periods),
        *_windows(levels, periods),
        *_compression(levels, periods),
        *(_segments(periods, rows_per_day, symbols) if rows_per_day and symbols and tables.scanner else ()),
        _workers(sum(len(list(level.policies())) for level in levels)),
    ]


def _rules(levels: Sequence[Level], periods: Mapping[str, timedelta]) -> Iterator[Finding]:
    for rule in rules(levels):
        slack = f" + {spell(rule.slack)}" if rule.slack else ""
        broken = rule.broken(periods)
        yield Finding(
            "settings",
            f"{rule.left} {rule.operator} {rule.right}{slack}",
            f"{rule.operator} {spell(periods[rule.right] + rule.slack)}",
            spell(periods[rule.left]),
            Severity.FAULT if broken else Severity.OK,
            rule.reason if broken else "",
        )


def _ages(levels: Sequence[Level], periods: Mapping[str, timedelta]) -> Iterator[Finding]:
    for level in levels:
        chunk = periods[level.chunk]
        if level.drop_after is None:
            advice = f"nothing is dropped: {level.name} grows every day"
            severity = Severity.WARNING if level.refresh is None else Severity.INFO
            yield Finding(level.name, "oldest row, at most", "", "any age", severity, advice)
            continue
        retention = periods[level.drop_after]
        oldest = retention + chunk + periods[level.drop_every]
        wide = chunk > retention / 2
        yield Finding(
            level.name,
            "oldest row, at most",
            spell(retention),
            spell(oldest),
            Severity.WARNING if wide else Severity.INFO,
            f"use a {level.chunk} well under {level.drop_after}: only whole chunks are dropped"
            if wide
            else "",
        )
        count = math.ceil(oldest / chunk) + 1
        many = count > MANY_CHUNKS
        yield Finding(
            level.name,
            "chunks",
            f"{spell(chunk)} wide",
            f"at most {count}",
            Severity.WARNING if many else Severity.INFO,
            f"planning a query reads every chunk: use a wider {level.chunk}" if many else "",
        )


def _windows(levels: Sequence[Level], periods: Mapping[str, timedelta]) -> Iterator[Finding]:
    for level in levels:
        refresh = level.refresh
        if refresh is None:
            continue
        start, every = periods[refresh.start], periods[refresh.every]
        yield Finding(
            level.name,
            "job outage without a hole",
            "",
            f"up to {spell(start - every)}",
            Severity.INFO,
            "after a longer outage run `snapdelta migrate up` again, while the raw rows exist",
        )
        late = f"up to {spell(start)} late"
        yield Finding(level.name, "lateness of rows that still count", "", late, Severity.INFO)
        behind = periods[refresh.end] + every + refresh.bucket
        yield Finding(level.name, "materialized up to", "", f"{spell(behind)} ago", Severity.INFO)


def _compression(levels: Sequence[Level], periods: Mapping[str, timedelta]) -> Iterator[Finding]:
    for level in levels:
        if level.compress_after is None or level.drop_after is None:
            continue
        after, chunk = periods[level.compress_after], periods[level.chunk]
        wide, kept = after + chunk + periods[level.compress_every], periods[level.drop_after] + chunk
        little = wide > kept / 2
        yield Finding(
            level.name,
            "not compressed yet",
            f"older than {spell(after)}",
            f"the newest {spell(wide)} of {spell(kept)}",
            Severity.WARNING if little else Severity.INFO,
            f"less than half is ever compressed: use a smaller {level.chunk} or {level.compress_after}"
            if little
            else "",
        )


def _segments(periods: Mapping[str, timedelta], rows_per_day: float, symbols: int) -> Iterator[Finding]:
    segment = rows_per_day * (periods["raw_chunk"] / timedelta(days=1)) / symbols
    few = segment < ROWS_PER_SEGMENT
    yield Finding(
        "scan_results",
        "rows of a symbol in a chunk",
        f"at least {ROWS_PER_SEGMENT}",
        f"{segment:.0f}",
        Severity.WARNING if few else Severity.OK,
        "so few rows compress badly or even grow: use a wider raw_chunk" if few else "",
    )


def _workers(jobs: int) -> Finding:
    return Finding(
        "server",
        "background jobs",
        "",
        f"{jobs}",
        Severity.INFO,
        f"timescaledb.max_background_workers of at least {jobs + 1} lets all of them run at once; "
        "max_worker_processes must be that plus max_parallel_workers plus 3",
    )
