"""docs/cli.md and docs/export.md name the commands and options that there are, and what they show runs."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import typer
from rich.text import Text

from snapdelta import SnapshotManager, SnapshotReader
from snapdelta.cli import app
from snapdelta.export.parquet import export_snapshots
from support.documents import ROOT, blocks
from support.servers import Server, on_one_server

_TEXT = (ROOT / "docs/cli.md").read_text(encoding="utf-8")
_COMMANDS: Any = typer.main.get_command(app)


def test_every_command_is_named() -> None:
    named = set(re.findall(r"`snapdelta (\w+)", _TEXT))
    assert named == set(_COMMANDS.commands)


def test_every_option_that_is_named_exists() -> None:
    commands = [*_COMMANDS.commands.values(), *_COMMANDS.commands["streams"].commands.values()]
    known = {option for command in commands for param in command.params for option in param.opts}
    known |= {option for command in commands for param in command.params for option in param.secondary_opts}
    known |= {"--install-completion"}
    assert set(re.findall(r"(--[a-z][\w-]*)", _TEXT)) <= known


def test_every_command_takes_json() -> None:
    for name, command in _COMMANDS.commands.items():
        if name not in ("migrate", "streams"):
            assert "--json" in {option for param in command.params for option in param.opts}, name


def test_help_shows_what_is_in_brackets() -> None:
    # Help is markup: what looks like a tag would be missing.
    todo, seen = [_COMMANDS], set()
    while todo:
        command = todo.pop()
        todo += getattr(command, "commands", {}).values()
        for text in (command.help, *(getattr(param, "help", None) for param in command.params)):
            if text and "[" in text:
                assert Text.from_markup(text).plain == text.replace("\\[", "["), text
                seen.add(text)
    assert len(seen) == 3


@on_one_server
async def test_the_query_of_the_export(server: Server, tmp_path: Path) -> None:
    (query,) = blocks("docs/export.md", "sql")
    async with server.client() as redis, SnapshotManager(redis) as manager:
        await manager.save_snapshot({"AAPL": {"price": 1.5}, "NVDA": {"price": 2.5}})
        update = await SnapshotReader(redis).latest()
        assert update is not None
        await export_snapshots(SnapshotReader(redis), tmp_path)
    query = query.replace("/data/ranking", str(tmp_path))
    today = f"{datetime.fromtimestamp(update.timestamp, UTC):%Y-%m-%d}"
    read: Any = duckdb.sql(
        query.replace("2026-03-02", today).replace("_time, price", "epoch_ms(_time), price")
    )
    assert read.fetchall() == [(round(update.timestamp * 1000), 1.5)]
