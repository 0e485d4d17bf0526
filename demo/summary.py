"""The table at the end: a save through snapdelta beside a plain SET of the JSON."""

from __future__ import annotations

import os
from collections.abc import Callable
from statistics import mean, median

from rich.table import Table

from demo.plan import Plan
from demo.reports import Cost, Saved
from demo.runner import Outcome


def summary(plan: Plan, outcome: Outcome) -> Table:
    """What the run came to."""
    checker, held, saves = outcome.checker, outcome.held, outcome.checker.saves
    symbols = median(save.symbols for save in saves)
    table = Table(
        title=f"{plan.source.title}: {len(saves)} saves of {symbols:,.0f} symbols",
        caption=_caption(plan, held.states),
        caption_justify="left",
    )
    for heading in ("", "snapdelta", "SET of the JSON", "ratio"):
        table.add_column(heading, justify="right" if heading else "left")
    deltas = [save for save in saves if save.reason is None]
    fulls = [save for save in saves if save.reason is not None]
    _compare(table, "bytes a delta, median", deltas, _size, median, _bytes)
    _compare(table, "bytes a save, mean with fulls", saves, _size, mean, _bytes)
    _row(table, "Redis memory, as it is", held.ours, held.plain, _megabytes)
    _row(table, f"Redis memory, {held.states} states", held.ours, held.states * held.plain, _megabytes)
    _compare(table, "writer CPU a save, median", saves, _cpu, median, _milliseconds)
    _compare(table, "longest loop stall, deltas", deltas, _stall, max, _milliseconds)
    _compare(table, "longest loop stall, fulls", fulls, _stall, max, _milliseconds)
    table.add_section()
    for reader, checks in checker.checks.items():
        table.add_row(f"{reader}: frames, all exact", f"{len(checks)}")
        table.add_row(f"{reader}: resyncs", ", ".join(checker.resyncs(reader)) or "none")
    return table


def _caption(plan: Plan, states: int) -> str:
    return (
        f"Saves come {plan.interval:g} s apart, or as fast as this machine makes frames; a scanner's come "
        "every 5 s. JSON is made by the standard library's json, as a scanner without other packages does "
        f"(orjson is quicker). Memory of {states} states: the three keys hold them all; of plain JSON, "
        f"{states} times the one key, which is what a stream of such frames would take (computed). "
        "CPU: of the writer process, all threads. Stall: how late a task of the writer that wakes up every "
        f"millisecond was, while the readers keep the {os.cpu_count()} cores of this machine busy."
    )


def _compare(
    table: Table,
    name: str,
    saves: list[Saved],
    figure: Callable[[Cost], float],
    by: Callable[[list[float]], float],
    shown: Callable[[float], str],
) -> None:
    if saves:
        ours = by([figure(save.ours) for save in saves])
        plain = by([figure(save.plain) for save in saves])
        _row(table, name, ours, plain, shown)


def _row(table: Table, name: str, ours: float, plain: float, shown: Callable[[float], str]) -> None:
    table.add_row(name, shown(ours), shown(plain), f"{plain / ours:,.1f} x" if ours else "")


def _size(cost: Cost) -> float:
    return cost.size


def _cpu(cost: Cost) -> float:
    return cost.cpu_ms


def _stall(cost: Cost) -> float:
    return cost.stall_ms


def _bytes(value: float) -> str:
    return f"{value:,.0f} B"


def _megabytes(value: float) -> str:
    return f"{value / 1e6:,.1f} MB"


def _milliseconds(value: float) -> str:
    return f"{value:,.1f} ms"
