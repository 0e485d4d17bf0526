"""`snapdelta diff NAME A B`: what differs between two states."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from snapdelta.cli.console import console
from snapdelta.cli.history import changed_fields
from snapdelta.cli.moments import HELP, state_at
from snapdelta.cli.redis import PREFIX, URL, Json, Name, Prefix, Url, connected, run, store_of
from snapdelta.cli.values import as_json, ends, moment, short
from snapdelta.errors import SnapshotHistoryError
from snapdelta.snapshots.leaves import leaves
from snapdelta.snapshots.update import Update


def diff(
    name: Name,
    earlier: Annotated[str, typer.Argument(metavar="A", help=HELP)],
    later: Annotated[str, typer.Argument(metavar="B", help="The same.")] = "now",
    url: Url = URL,
    key_prefix: Prefix = PREFIX,
    limit: Annotated[int, typer.Option(min=1, help="Rows of the table.")] = 50,
    as_json_text: Json = False,
) -> None:
    """Show what differs between two states of a name."""

    async def read() -> list[Update]:
        async with connected(url) as redis:
            states = []
            for text in (earlier, later):
                update = await state_at(redis, store_of(redis, key_prefix, name), text)
                if update is None:
                    raise SnapshotHistoryError(f"snapshots {name!r}: nothing is saved")
                states.append(update)
            return states

    before, after = run(read())
    found = compare(before.snapshot, after.snapshot)
    if as_json_text:
        states = {
            side: {"epoch": update.epoch, "sequence": update.sequence, "time": update.timestamp}
            for side, update in (("a", before), ("b", after))
        }
        updated = {
            symbol: {path: ends(*pair) for path, pair in fields.items()}
            for symbol, fields in found["updated"].items()
        }
        print(as_json({**states, **found, "updated": updated}))
        return
    shown = console()
    for side, update in (("A", before), ("B", after)):
        shown.print(f"{side}: {update.epoch}-{update.sequence}, {moment(update.timestamp)}", highlight=False)
    rows = [
        *((symbol, "added", "", "") for symbol in found["added"]),
        *((symbol, "removed", "", "") for symbol in found["removed"]),
        *(
            (symbol, path, *pair)
            for symbol, fields in found["updated"].items()
            for path, pair in fields.items()
        ),
    ]
    if rows:
        table = Table("symbol", "field", "A", "B")
        for row in rows[:limit]:
            table.add_row(*(escape(short(cell, 40)) for cell in row))
        shown.print(table)
    counts = ", ".join(f"{len(found[what]):,} {what}" for what in ("added", "removed", "updated"))
    order = "another order" if found["reordered"] else "the same order"
    more = f"; {len(rows) - limit:,} more rows" if len(rows) > limit else ""
    shown.print(f"{counts}, {order}{more}", highlight=False)


def compare(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Symbols added and removed, fields of updated symbols, and whether the others changed their order."""
    updated: dict[str, Any] = {}
    for symbol, record in after.items():
        if symbol in before:
            fields = changed_fields(leaves(before[symbol]), leaves(record))
            if fields:
                updated[symbol] = fields
    return {
        "added": [symbol for symbol in after if symbol not in before],
        "removed": [symbol for symbol in before if symbol not in after],
        "updated": updated,
        "reordered": [symbol for symbol in before if symbol in after]
        != [symbol for symbol in after if symbol in before],
    }
