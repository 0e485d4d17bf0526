"""`snapdelta history NAME SYMBOL`: what changed in one record, and when."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from snapdelta.cli.console import console
from snapdelta.cli.moments import Since, Until, time_bound
from snapdelta.cli.redis import PREFIX, URL, Json, Name, Prefix, Url, connected, run, store_of
from snapdelta.cli.values import ABSENT, as_json, ends, moment, short
from snapdelta.snapshots.leaves import leaves


@dataclass(frozen=True, slots=True)
class Change:
    """A state in which the record differs from the previous one: first, added, updated or removed."""

    time: float
    epoch: int
    sequence: int
    event: str
    fields: dict[str, tuple[Any, Any]]


class RecordHistory:
    """Compares one record from state to state."""

    def __init__(self, symbol: str) -> None:
        self._symbol = symbol
        self._begun = False
        self._before: dict[str, Any] | None = None

    def next(self, snapshot: dict[str, Any]) -> tuple[str, dict[str, tuple[Any, Any]]] | None:
        """The event and the changed fields, old and new (ABSENT: none); None if nothing changed."""
        now = leaves(snapshot[self._symbol]) if self._symbol in snapshot else None
        before, self._before = self._before, now
        first, self._begun = not self._begun, True
        if now is None and before is None:
            return None
        fields = changed_fields(before or {}, now or {})
        if now is None:
            return "removed", fields
        if before is None:
            return "first" if first else "added", fields
        return ("updated", fields) if fields else None


def changed_fields(before: dict[str, Any], now: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Path -> old and new value of the fields that differ, types and bits included."""
    paths = dict.fromkeys([*before, *now])
    pairs = {path: (before.get(path, ABSENT), now.get(path, ABSENT)) for path in paths}
    return {path: pair for path, pair in pairs.items() if (path in before) != (path in now) or _differ(*pair)}


def _differ(old: Any, new: Any) -> bool:
    # repr tells 1 from 1.0, -0.0 from 0.0 and Decimals by their digits.
    return type(old) is not type(new) or repr(old) != repr(new)


def history(
    name: Name,
    symbol: Annotated[str, typer.Argument(help="The symbol.")],
    url: Url = URL,
    key_prefix: Prefix = PREFIX,
    since: Since = None,
    until: Until = None,
    as_json_text: Json = False,
) -> None:
    """Show what changed in one record, state by state; exit status 1 if no state in the history has it."""

    async def read() -> list[Change]:
        from snapdelta.snapshots.reader import SnapshotReader

        async with connected(url) as redis:
            store = store_of(redis, key_prefix, name)
            start = await time_bound(redis, store, "--since", since)
            end = await time_bound(redis, store, "--until", until)
            record = RecordHistory(symbol)
            found = []
            reader = SnapshotReader(redis, name, key_prefix=key_prefix, shared=True)
            async for update in reader.replay(start, end):
                if (change := record.next(update.snapshot)) is not None:
                    found.append(Change(update.timestamp, update.epoch, update.sequence, *change))
            return found

    changes = run(read())
    if not changes:
        console(stderr=True).print(f"{name!r} has no symbol {symbol!r} in the history", markup=False)
        raise typer.Exit(1)
    if as_json_text:
        print(as_json([_as_dict(change) for change in changes]))
        return
    table = Table("time", "sequence", "what", "field", "from", "to")
    for change in changes:
        where = [moment(change.time), str(change.sequence), change.event]
        fields = change.fields if change.event == "updated" else {}
        for path, (old, new) in fields.items():
            table.add_row(*where, *(escape(short(text, 40)) for text in (path, old, new)))
            where = ["", "", ""]
        if not fields:
            table.add_row(*where, f"{len(change.fields)} fields", "", "")
    console().print(table)


def _as_dict(change: Change) -> dict[str, Any]:
    return {
        "time": change.time,
        "epoch": change.epoch,
        "sequence": change.sequence,
        "event": change.event,
        "fields": {path: ends(*pair) for path, pair in change.fields.items()},
    }
