"""`snapdelta streams ...`: trim streams, or count what a trim would remove."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from snapdelta.cli.console import console
from snapdelta.cli.redis import COMMAND_TIMEOUT, PREFIX, URL, Json, Prefix, Url, connected, run
from snapdelta.errors import ProtectedStreamError, StreamTypeError, UsageError
from snapdelta.snapshots.keys import head_beside

if TYPE_CHECKING:
    from snapdelta._redis import AsyncRedis
    from snapdelta.streams.policy import StreamPolicy
    from snapdelta.streams.store import StreamStore

_SMALLER = "to shrink a name, lower the manager's history or history_bytes"
_APPROXIMATE = "an approximate trim removes whole nodes only, and none is full; use --exact"

app = typer.Typer(no_args_is_help=True, help="Redis streams: trim them to their bounds.")


@app.callback()
def _group() -> None:
    """Redis streams: trim them to their bounds."""


@app.command()
def trim(
    pattern: Annotated[str | None, typer.Argument(help="A stream, or a pattern such as 'stream:*'.")] = None,
    url: Url = URL,
    key_prefix: Prefix = PREFIX,
    policies: Annotated[
        Path | None, typer.Option(help="A file with \\[tool.snapdelta.streams], instead of the bounds below.")
    ] = None,
    maxlen: Annotated[int | None, typer.Option(help="Entries.")] = None,
    max_age: Annotated[float | None, typer.Option(help="Seconds.")] = None,
    max_bytes: Annotated[int | None, typer.Option(help="Bytes of memory.")] = None,
    exact: Annotated[bool, typer.Option("--exact", help="Trim exactly, not by whole nodes.")] = False,
    keep_unread: Annotated[
        bool, typer.Option("--keep-unread", help="Keep entries that a consumer group has not acknowledged.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count the entries, remove nothing.")] = False,
    as_json: Json = False,
) -> None:
    """Trim streams to their bounds, now. It never trims keys of snapshots."""

    async def act() -> list[dict[str, Any]]:
        from snapdelta.streams.policy import StreamPolicy

        if (pattern is None) == (policies is None):
            raise UsageError("which streams? give a name or pattern with bounds, or --policies FILE")
        given: Mapping[str, StreamPolicy] | Path
        if policies is not None:
            given = policies
        else:
            assert pattern is not None
            given = {
                pattern: StreamPolicy(
                    maxlen, max_age, max_bytes, approximate=not exact, keep_unread=keep_unread
                )
            }
        async with connected(url) as redis:
            return await _act(redis, given, key_prefix, dry_run)

    rows = run(act())
    if as_json:
        print(json.dumps({"dry_run": dry_run, "streams": rows}, indent=2))
        return
    shown = console()
    if not rows:
        shown.print("nothing to trim; snapshot keys are excluded")
        return
    table = Table("stream")
    for column in ("entries", "memory", "would go" if dry_run else "removed", "unread", "held back"):
        table.add_column(column, justify="right")
    for row in rows:
        size = "" if row["bytes"] is None else decimal(row["bytes"])
        counts = (f"{row[key]:,}" for key in ("removed", "unread", "held_back"))
        table.add_row(escape(row["stream"]), f"{row['length']:,}", size, *counts)
    shown.print(table)
    for row in rows:
        for note in row["notes"]:
            shown.print(f"{row['stream']}: {note}", markup=False, highlight=False, soft_wrap=True)


async def _act(
    redis: AsyncRedis, given: Mapping[str, StreamPolicy] | Path, key_prefix: str, dry_run: bool
) -> list[dict[str, Any]]:
    """What went from each stream, or would."""
    from snapdelta.streams.manager import RedisStreamManager
    from snapdelta.streams.preview import listed_streams, preview
    from snapdelta.streams.settings_file import load_settings
    from snapdelta.streams.store import StreamStore

    bounds = load_settings(given).policies if isinstance(given, Path) else given
    protected = (PREFIX, key_prefix)
    store = StreamStore(redis, COMMAND_TIMEOUT)
    listed = await listed_streams(store, bounds, protected)
    # All of them before the first is trimmed.
    for stream in list(listed):
        # Patterns leave these keys out.
        if stream.startswith(protected):
            raise ProtectedStreamError(
                f"stream {stream!r}: keys that begin with {PREFIX!r} or --key-prefix belong to the snapshots "
                f"and are never trimmed; {_SMALLER}"
            )
        if await _is_chain(store, stream):
            if stream in bounds:
                raise ProtectedStreamError(
                    f"stream {stream!r} belongs to the snapshots of {head_beside(stream)} and is never "
                    f"trimmed; {_SMALLER}"
                )
            del listed[stream]
    manager = RedisStreamManager(redis, bounds, protected=protected, command_timeout=COMMAND_TIMEOUT)
    rows = []
    for stream, policy in sorted(listed.items()):
        if dry_run:
            rows.append(asdict(await preview(store, stream, policy)))
        else:
            report = asdict(await manager.trim(stream))
            report["unread"] = report.pop("unread_dropped")
            if not report["removed"] and policy.approximate and not policy.keep_unread:
                left = await preview(store, stream, policy)
                report["bytes"] = left.bytes
                if left.removed:
                    report["notes"].append(_APPROXIMATE)
            rows.append(report)
    return rows


async def _is_chain(store: StreamStore, stream: str) -> bool:
    """Whether a head of snapshots, of any key_prefix, stands beside the stream."""
    head = head_beside(stream)
    if head is None:
        return False
    try:
        return bool(await store.run(head, "HEXISTS", head, "layout"))
    except StreamTypeError:
        return False
