"""What the periods come to, worked out without a database."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from datetime import timedelta

from snapdelta.timescale.findings import Finding, Severity
from snapdelta.timescale.settings import RULES, Settings, spell

# relation -> the prefix of its settings
PREFIXES = {
    "scan_results": "raw",
    "volume_slots": "slots",
    "market_data_daily": "daily",
    "scan_results_1min": "minute",
    "scan_results_1hour": "hour",
}
# Jobs that the migration makes: 5 retentions, 3 compressions, 2 refreshes.
JOBS = 10
# Fewer rows a segment than this, and what compression stores beside them outweighs what it saves.
ROWS_PER_SEGMENT = 100
MANY_CHUNKS = 1000


def plan(
    settings: Mapping[str, str] | None = None,
    *,
    rows_per_day: float | None = None,
    symbols: int | None = None,
) -> list[Finding]:
    """The rules and what follows from the periods: how old rows get, how many chunks there are, what an
    outage costs.

    With `rows_per_day` (raw rows) and `symbols` (that share them) also whether compression pays. Raises
    MigrationSettingError for an unknown setting or a text that is no period; a broken rule is a fault in
    the answer.
    """
    chosen = Settings(settings)
    return [
        *_rules(chosen),
        *_ages(chosen),
        *_windows(chosen),
        *_compression(chosen, rows_per_day, symbols),
        _workers(),
    ]


def _rules(settings: Settings) -> Iterator[Finding]:
    broken = set(settings.broken_rules())
    for rule in RULES:
        slack = f" + {spell(rule.slack)}" if rule.slack else ""
        yield Finding(
            "settings",
            f"{rule.left} {rule.operator} {rule.right}{slack}",
            f"{rule.operator} {spell(settings[rule.right] + rule.slack)}",
            spell(settings[rule.left]),
            Severity.FAULT if rule in broken else Severity.OK,
            rule.reason if rule in broken else "",
        )


def _ages(settings: Settings) -> Iterator[Finding]:
    for relation, prefix in PREFIXES.items():
        retention, chunk = settings[f"{prefix}_retention"], settings[f"{prefix}_chunk"]
        oldest = retention + chunk + settings["retention_every"]
        wide = chunk > retention / 2
        yield Finding(
            relation,
            "oldest row, at most",
            spell(retention),
            spell(oldest),
            Severity.WARNING if wide else Severity.INFO,
            f"take a {prefix}_chunk well under {prefix}_retention: only whole chunks are dropped"
            if wide
            else "",
        )
        count = math.ceil(oldest / chunk) + 1
        many = count > MANY_CHUNKS
        yield Finding(
            relation,
            "chunks",
            f"{spell(chunk)} wide",
            f"at most {count}",
            Severity.WARNING if many else Severity.INFO,
            f"planning a query touches every chunk: take a wider {prefix}_chunk" if many else "",
        )


def _windows(settings: Settings) -> Iterator[Finding]:
    tolerated = settings["minute_refresh_start"] - settings["minute_refresh_every"]
    yield Finding(
        "scan_results_1min",
        "job outage without a hole",
        "",
        f"up to {spell(tolerated)}",
        Severity.INFO,
        "after a longer one run `snapdelta migrate up` again, while the raw rows are there",
    )
    yield Finding(
        "scan_results_1min",
        "late rows that still count",
        "",
        f"up to {spell(settings['minute_refresh_start'])} late",
        Severity.INFO,
    )
    behind = settings["minute_refresh_end"] + settings["minute_refresh_every"] + timedelta(minutes=1)
    yield Finding("scan_results_1min", "materialized up to", "", f"{spell(behind)} ago", Severity.INFO)


def _compression(settings: Settings, rows_per_day: float | None, symbols: int | None) -> Iterator[Finding]:
    for relation, prefix in PREFIXES.items():
        if f"{prefix}_compress_after" not in settings.periods:
            continue
        after, chunk = settings[f"{prefix}_compress_after"], settings[f"{prefix}_chunk"]
        wide, kept = after + chunk + settings["compress_every"], settings[f"{prefix}_retention"] + chunk
        little = wide > kept / 2
        yield Finding(
            relation,
            "not compressed yet",
            f"older than {spell(after)}",
            f"the newest {spell(wide)} of {spell(kept)}",
            Severity.WARNING if little else Severity.INFO,
            f"less than half is ever compressed: take a smaller {prefix}_chunk or {prefix}_compress_after"
            if little
            else "",
        )
    if rows_per_day is not None and symbols is not None:
        segment = rows_per_day * (settings["raw_chunk"] / timedelta(days=1)) / symbols
        few = segment < ROWS_PER_SEGMENT
        yield Finding(
            "scan_results",
            "rows of a symbol in a chunk",
            f"at least {ROWS_PER_SEGMENT}",
            f"{segment:.0f}",
            Severity.WARNING if few else Severity.OK,
            "so few rows compress badly or even grow: take a wider raw_chunk" if few else "",
        )


def _workers() -> Finding:
    return Finding(
        "server",
        "background jobs",
        "",
        f"{JOBS}",
        Severity.INFO,
        f"timescaledb.max_background_workers of at least {JOBS + 1} lets all of them run at once; "
        "max_worker_processes must be that plus max_parallel_workers plus 3",
    )
