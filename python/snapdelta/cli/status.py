"""`snapdelta status`: all names at a glance, and their faults."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer
from rich.cells import cell_len
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table

from snapdelta.cli.console import console
from snapdelta.cli.redis import PREFIX, URL, Json, Prefix, Url, connected, run, store_of

if TYPE_CHECKING:
    from snapdelta.snapshots.survey import NameStatus


# Left out first where the terminal has no room.
_LEFT_OUT = ("fulls", "back", "every", "saves", "chain", "mirror", "memory", "age")


def status(
    names: Annotated[list[str] | None, typer.Argument(help="Names; default: all on the server.")] = None,
    url: Url = URL,
    key_prefix: Prefix = PREFIX,
    stale_after: Annotated[
        float | None, typer.Option(help="Most seconds without a save; default: by the usual interval.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show each name's newest save, its chain and its memory; exit status 1 on a fault."""

    async def read() -> list[NameStatus]:
        from snapdelta.snapshots.survey import NameStatus, names_of, survey

        async with connected(url) as redis:
            found = []
            for name in names or await names_of(redis, key_prefix):
                keys = store_of(redis, key_prefix, name).keys
                found.append(await survey(redis, keys, stale_after=stale_after))
                if names and found[-1] == NameStatus(name):
                    found[-1].faults.append("nothing was saved under this name")
            return found

    found = run(read())
    faults = [(one.name, fault) for one in found for fault in one.faults]
    if as_json:
        print(json.dumps({"faults": len(faults), "names": [asdict(one) for one in found]}, indent=2))
    else:
        _print(found, faults)
    if faults:
        raise typer.Exit(1)


def _print(found: list[NameStatus], faults: list[tuple[str, str]]) -> None:
    shown = console()
    columns = {
        "name": [one.name for one in found],
        "newest": ["" if one.position is None else str(one.position) for one in found],
        "age": [_seconds(one.age) for one in found],
        "every": [_seconds(one.interval) for one in found],
        "chain": ["" if one.chain is None else f"{one.chain:,}" for one in found],
        "fulls": [f"{one.fulls:,}" for one in found],
        "saves": [f"{one.deltas:,}" for one in found],
        "back": [_seconds(one.reaches) for one in found],
        "memory": [decimal(one.bytes) for one in found],
        "mirror": ["" if one.mirror is None else f"{one.mirror:,}" for one in found],
    }
    if not any(columns["mirror"]):
        del columns["mirror"]
    left_out = []
    for title in _LEFT_OUT:
        if title in columns and _width(columns) > shown.width:
            del columns[title]
            left_out.append(title)
    table = Table()
    for title in columns:
        # A terminal that is narrower still wraps these two: nothing of them is lost.
        table.add_column(title, justify="left" if title in ("name", "newest") else "right", overflow="fold")
    for row in zip(*columns.values(), strict=True):
        table.add_row(*map(escape, row))
    shown.print(table)
    if left_out:
        shown.print(f"left out on this narrow terminal: {', '.join(left_out)}")
    for name, fault in faults:
        shown.print(f"[bold red]fault:[/] {escape(f'{name}: {fault}')}", soft_wrap=True, highlight=False)
    if not faults:
        shown.print("no faults" if found else "nothing was saved on this server")


def _width(columns: dict[str, list[str]]) -> int:
    """Of the table, borders included."""
    return 1 + sum(3 + max(map(cell_len, (title, *cells))) for title, cells in columns.items())


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.3g} s" if value < 100 else f"{value / 60:,.0f} min"
