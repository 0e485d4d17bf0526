"""`snapdelta show NAME [SYMBOL]`: a state, or one record of it."""

from __future__ import annotations

from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from snapdelta.cli.console import console
from snapdelta.cli.moments import HELP, state_at
from snapdelta.cli.redis import PREFIX, URL, Json, Name, Prefix, Url, connected, run, store_of
from snapdelta.cli.values import ABSENT, as_json, moment, short
from snapdelta.snapshots.leaves import leaves
from snapdelta.snapshots.update import Update

# Characters that one column of a table takes.
_COLUMN = 14


def show(
    name: Name,
    symbol: Annotated[str | None, typer.Argument(help="One symbol; default: a table of all.")] = None,
    url: Url = URL,
    key_prefix: Prefix = PREFIX,
    at: Annotated[str, typer.Option(metavar="MOMENT", help=HELP)] = "now",
    limit: Annotated[int, typer.Option(min=1, help="Rows of the table.")] = 20,
    as_json_text: Json = False,
) -> None:
    """Show a state, or one record of it; exit status 1 if there is no such state or symbol."""

    async def read() -> Update | None:
        async with connected(url) as redis:
            return await state_at(redis, store_of(redis, key_prefix, name), at)

    update = run(read())
    if update is None:
        console(stderr=True).print(f"nothing was saved under {name!r}", markup=False)
        raise typer.Exit(1)
    if symbol is not None and symbol not in update.snapshot:
        console(stderr=True).print(f"{name!r} has no symbol {symbol!r} at that moment", markup=False)
        raise typer.Exit(1)
    if as_json_text:
        print(_json(update, symbol))
    elif symbol is not None:
        table = Table("field", "value", title=escape(_title(update, symbol)), title_justify="left")
        for path, value in leaves(update.snapshot[symbol]).items():
            table.add_row(escape(short(path)), escape(short(value, 200)))
        console().print(table)
    else:
        _table(update, name, limit)


def _json(update: Update, symbol: str | None) -> str:
    found: dict[str, Any] = {
        "epoch": update.epoch,
        "sequence": update.sequence,
        "digest": f"{update.digest:016x}",
        "time": update.timestamp,
    }
    if symbol is None:
        return as_json({**found, "snapshot": update.snapshot})
    return as_json({**found, "symbol": symbol, "record": update.snapshot[symbol]})


def _title(update: Update, what: str) -> str:
    return f"{what}: {update.epoch}-{update.sequence}, {moment(update.timestamp)}"


def _table(update: Update, name: str, limit: int) -> None:
    shown = console()
    rows = [(symbol, leaves(record)) for symbol, record in list(update.snapshot.items())[:limit]]
    paths = list(dict.fromkeys(path for _, record in rows for path in record))
    # As many columns as the terminal has room for.
    columns = paths[: max(1, (shown.width - _COLUMN) // _COLUMN)]
    table = Table("symbol", title=escape(_title(update, name)), title_justify="left")
    for path in columns:
        table.add_column(escape(short(path, _COLUMN) or "value"), overflow="ellipsis", no_wrap=True)
    for symbol, record in rows:
        cells = (short(record.get(path, ABSENT), _COLUMN) for path in columns)
        table.add_row(escape(short(symbol)), *map(escape, cells))
    shown.print(table)
    missing = len(update.snapshot) - len(rows), len(paths) - len(columns)
    shown.print(f"{len(update.snapshot):,} symbols; {missing[0]:,} more rows, {missing[1]:,} more fields")
