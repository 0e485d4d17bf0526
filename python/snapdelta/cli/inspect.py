"""`snapdelta inspect`: what is in a frame, column by column."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from snapdelta import FrameInfo
from snapdelta import inspect as inspect_frame
from snapdelta.cli.console import console, reported_errors
from snapdelta.cli.moments import position_of
from snapdelta.cli.redis import PREFIX, URL, Json, Prefix, Url, connected, run, store_of
from snapdelta.errors import SnapshotHistoryError, UsageError

if TYPE_CHECKING:
    from snapdelta.snapshots.store import SnapshotStore


def inspect(
    source: Annotated[
        str, typer.Argument(help="A file with one frame, - for standard input, or a name in Redis.")
    ],
    url: Url = URL,
    key_prefix: Prefix = PREFIX,
    at: Annotated[
        str,
        typer.Option("--id", metavar="ID", help="In Redis: a sequence or EPOCH-SEQUENCE; else the newest."),
    ] = "",
    full: Annotated[bool, typer.Option("--full", help="In Redis: the full frame at or before it.")] = False,
    as_json: Json = False,
) -> None:
    """Show what is in a frame: its kind, its symbols, and each column's encoding and bytes."""
    if source == "-" or Path(source).is_file():
        with reported_errors():
            info = inspect_frame(sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes())
    else:
        info = run(_from_redis(url, key_prefix, source, at, full))
    if as_json:
        print(json.dumps(_as_dict(info), indent=2))
    else:
        _print(info)


async def _from_redis(url: str, key_prefix: str, name: str, at: str, full: bool) -> FrameInfo:
    async with connected(url) as redis:
        # A key of its streams means the name, too.
        if name.startswith(key_prefix + "{"):
            name, _, part = name.removeprefix(key_prefix + "{").partition("}:")
            if part not in ("full", "delta"):
                raise UsageError(f"key {part!r} of {name!r} holds no frames: name :full or :delta")
            full = full or part == "full"
        store = store_of(redis, key_prefix, name)
        end = str(await position_of(store, at)) if at else "+"
        entry = await (store.full_before(end) if full else store.delta_at(end))
        if entry is not None and entry.frame is None:
            # A marker: the frame of this id is the full one.
            full, entry = True, await store.full_before(str(entry.position))
        if entry is None or entry.frame is None:
            raise SnapshotHistoryError(f"snapshots {name!r}: there is no such frame")
        base = None if full else await _base(store, str(entry.position))
        return inspect_frame(entry.frame, base=base)


async def _base(store: SnapshotStore, position: str) -> dict[str, Any] | None:
    """The state that a delta starts from, which knows the names of its columns; None if it is not kept."""
    from snapdelta.snapshots.replica import Replica
    from snapdelta.snapshots.view import View

    before = await store.delta_at(f"({position}")
    replica = Replica(store, None, View())
    if before is None or not await replica.seek(before.position):
        return None
    return (await replica.update()).snapshot


def _as_dict(info: FrameInfo) -> dict[str, Any]:
    plain = (
        "kind", "version", "epoch", "sequence", "base_epoch", "base_sequence", "required_bytes",
        "within_tolerance", "held_cells", "size", "body_size", "base_symbols", "target_symbols", "removed",
        "updated", "moved", "sections", "sparse_cells",
    )  # fmt: skip
    return {
        **{name: getattr(info, name) for name in plain},
        "added": None if info.added is None else list(info.added),
        "base_digest": f"{info.base_digest:016x}",
        "target_digest": f"{info.target_digest:016x}",
        "columns": [
            {
                "path": None if column.path is None else list(column.path),
                "name": column.name,
                "cells": column.cells,
                "inserts": column.inserts,
                "encoding": column.encoding,
                "bytes": column.size,
            }
            for column in info.columns
        ],
    }


def _print(info: FrameInfo) -> None:
    shown = console()
    added = info.target_symbols - info.base_symbols + info.removed
    for line in (
        f"{info.kind} frame, format {info.version}, {info.epoch}-{info.sequence}, "
        f"digest {info.target_digest:016x}",
        f"{decimal(info.size)}, {decimal(info.body_size)} before zstd",
        f"{info.target_symbols:,} symbols: {added:,} added, {info.removed:,} removed, "
        f"{info.updated:,} updated, {info.moved:,} moved",
        "sections: " + ", ".join(f"{name} {decimal(size)}" for name, size in info.sections.items()),
        *([f"published within a tolerance: {info.held_cells:,} cells held"] if info.within_tolerance else []),
    ):
        shown.print(line, highlight=False, markup=False)
    table = Table("column", "encoding", title_justify="left")
    table.add_column("cells", justify="right")
    table.add_column("bytes", justify="right")
    for column in sorted(info.columns, key=lambda column: -column.size):
        cells = f"{column.cells:,}" if column.cells else "new rows" if column.inserts else ""
        table.add_row(escape(column.name or "(record)"), escape(column.encoding), cells, f"{column.size:,}")
    if info.sparse_cells:
        table.add_row(
            "(sparse cells)", "one by one", f"{info.sparse_cells:,}", f"{info.sections.get('sparse', 0):,}"
        )
    shown.print(table)
