"""`snapdelta export NAME DIRECTORY`: a name's history as Parquet files."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from snapdelta.cli.console import console, fail
from snapdelta.cli.moments import Since, Until, time_bound
from snapdelta.cli.redis import PREFIX, URL, Json, Name, Prefix, Url, connected, run, store_of

if TYPE_CHECKING:
    from snapdelta.export.parquet import ExportReport

_PASSES = {1: "reading types", 2: "writing rows"}


def export(
    name: Name,
    directory: Annotated[
        Path, typer.Argument(help="The folder for the folders by date and hour.", file_okay=False)
    ],
    url: Url = URL,
    key_prefix: Prefix = PREFIX,
    since: Since = None,
    until: Until = None,
    as_json: Json = False,
) -> None:
    """Write every state in the history as Parquet: one row for each symbol and state.

    A second run adds new states.
    """
    errors = console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=errors,
        disable=not errors.is_terminal,
    )

    async def write() -> tuple[ExportReport, int]:
        from snapdelta.export.parquet import export_snapshots
        from snapdelta.snapshots.reader import SnapshotReader

        async with connected(url) as redis:
            store = store_of(redis, key_prefix, name)
            start = await time_bound(redis, store, "--since", since)
            end = await time_bound(redis, store, "--until", until)
            kept = int(await store.run(store.keys.delta, "XLEN", store.keys.delta))
            tasks = {number: bar.add_task(what, total=kept) for number, what in _PASSES.items()}
            reader = SnapshotReader(redis, name, key_prefix=key_prefix, shared=True)
            report = await export_snapshots(
                reader,
                directory,
                start=start,
                end=end,
                progress=lambda number, done: bar.update(tasks[number], completed=done),
            )
            return report, kept

    try:
        with bar:
            report, kept = run(write())
    except OSError as error:
        fail(f"{directory}: {error}")
    nothing = not report.states and not report.skipped
    if nothing and not kept:
        errors.print(f"nothing was saved under {name!r}", markup=False)
    elif as_json:
        print(json.dumps(asdict(report)))
    else:
        console().print(
            f"{report.states:,} states, {report.rows:,} rows, {report.files:,} files, "
            f"{decimal(report.bytes)}; {report.skipped:,} states were exported before",
            highlight=False,
        )
    if nothing:
        raise typer.Exit(1)
