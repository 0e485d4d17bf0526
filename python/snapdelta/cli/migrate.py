"""`snapdelta migrate ...`: the TimescaleDB migration. Needs the extra `timescale`."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from snapdelta.cli.console import console, fail, reported_errors
from snapdelta.timescale import checks, files, findings, migrate, planning, tables

app = typer.Typer(no_args_is_help=True, help="The TimescaleDB migration: apply, revert, check.")

_STYLES = {"ok": "green", "info": "dim", "warning": "yellow", "fault": "bold red"}

Dsn = Annotated[
    str,
    typer.Option(
        "--dsn", envvar="SNAPDELTA_DSN", help="The database: postgresql://user@host/name", show_envvar=True
    ),
]
Schema = Annotated[
    str | None, typer.Option(help="The schema of the tables; default: the first of the search path.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=PERIOD", help="A period, like raw_retention='5 days'; may be repeated."
    ),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", envvar="SNAPDELTA_CONFIG", show_envvar=True,
        help="A TOML file whose \\[tool.snapdelta.timescale] declares your own tables.",
    ),
]  # fmt: skip
Rewrite = Annotated[
    bool, typer.Option("--rewrite", help="Also move the newest raw rows into narrow chunks now.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the SQL and change nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


@app.command()
def up(
    dsn: Dsn = "", schema: Schema = None, setting: Set = None, config: Config = None, dry_run: DryRun = False,
    rewrite: Rewrite = False,
) -> None:  # fmt: skip
    """Apply the migration; safe to run again at any time, and fills holes in the aggregates."""
    with reported_errors():
        settings, declared = _settings(setting), _tables(config)
        if rewrite and not declared.scanner:
            fail("--rewrite moves rows of scan_results, and the settings file says scanner = false")
        if dry_run:
            texts = migrate.checked(settings, declared)
            if declared.tables:
                _notice(
                    "snapdelta: the tables of the settings file follow this SQL, by statements that"
                    " depend on the database; `snapdelta migrate plan` computes their sizes"
                )
            if declared.scanner:
                sys.stdout.write(migrate.render(files.SCHEMA) + migrate.render(files.OPTIMIZE, texts))
            if rewrite:
                sys.stdout.write(migrate.render(files.REWRITE, {"run": "yes"}))
            return
        migrate.up(_need(dsn), settings, tables=declared, schema=schema, notify=_notice)
        if declared.scanner:
            # Without --rewrite the estimate alone: the reader learns what it would take.
            migrate.rewrite(dsn, run=rewrite, schema=schema, notify=_notice)
    console().print("applied: compression and retention now run in the background")


@app.command()
def down(
    dsn: Dsn = "", schema: Schema = None,
    table: Annotated[
        list[str] | None, typer.Option("--table", help="Only this table of a settings file; may be repeated.")
    ] = None,
    dry_run: DryRun = False,
) -> None:  # fmt: skip
    """Restore the older policies; the aggregates and their rows stay."""
    with reported_errors():
        if dry_run:
            sys.stdout.write(migrate.render(f"{files.OPTIMIZE}.down"))
            return
        migrate.down(_need(dsn), only=table or (), schema=schema, notify=_notice)
    console().print("reverted")


@app.command()
def status(dsn: Dsn = "", schema: Schema = None, as_json: Json = False) -> None:
    """Show the applied migrations and their times."""
    with reported_errors():
        states = migrate.status(_need(dsn), schema=schema)
    if as_json:
        print(json.dumps([asdict(state) for state in states], default=str, indent=2))
        return
    table = Table("migration", "state", "applied", "reverted")
    for state in states:
        when = (
            f"{moment:%Y-%m-%d %H:%M %Z}" if moment else ""
            for moment in (state.applied_at, state.reverted_at)
        )
        table.add_row(state.name, state.state, *when)
    console().print(table)


@app.command()
def verify(
    dsn: Dsn = "", schema: Schema = None, setting: Set = None, config: Config = None, as_json: Json = False
) -> None:
    """Compare the declaration with the database; exit status 1 on a fault."""
    with reported_errors():
        settings = _settings(setting)
        declared = None if config is None else _tables(config)
        found = checks.verify(_need(dsn), settings or None, tables=declared, schema=schema)
    _show(found, as_json)


@app.command()
def plan(
    setting: Set = None,
    rows_per_day: Annotated[float | None, typer.Option(help="Raw rows a day.")] = None,
    symbols: Annotated[int | None, typer.Option(help="Symbols that share these rows.")] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Compute sizes from the periods, without a database; exit status 1 if they would lose history."""
    with reported_errors():
        found = planning.plan(
            _settings(setting), tables=_tables(config), rows_per_day=rows_per_day, symbols=symbols
        )
    _show(found, as_json)


@app.command()
def path() -> None:
    """Print the folder of the SQL files, for `psql -f`."""
    with reported_errors():
        print(files.migrations_directory())


def _show(found: list[findings.Finding], as_json: bool) -> None:
    faults = sum(finding.severity is findings.Severity.FAULT for finding in found)
    if as_json:
        print(json.dumps({"faults": faults, "findings": [finding.as_dict() for finding in found]}, indent=2))
    else:
        table = Table("severity", "what", "check", "declared", "is")
        for finding in found:
            style = _STYLES[finding.severity]
            actual = escape(finding.actual) + (
                f"\n[{style}]{escape(finding.advice)}[/]" if finding.advice else ""
            )
            table.add_row(
                f"[{style}]{finding.severity}[/]", finding.subject, finding.check, finding.declared, actual
            )
        console().print(table)
        console().print(f"{faults} faults" if faults else "no faults")
    if faults:
        raise typer.Exit(1)


def _settings(given: list[str] | None) -> dict[str, str]:
    settings = {}
    for entry in given or []:
        name, equals, value = entry.partition("=")
        if not equals:
            fail(f"--set {entry}: write it as NAME=PERIOD")
        settings[name.strip()] = value.strip()
    return settings


def _tables(config: Path | None) -> tables.Tables:
    return tables.Tables() if config is None else tables.load_tables(config)


def _need(dsn: str) -> str:
    if not dsn:
        fail("which database? give --dsn, or set SNAPDELTA_DSN")
    return dsn


def _notice(sentence: str) -> None:
    """The migration's own notices; those of the server about defaults and names are noise here."""
    if sentence.startswith("snapdelta: "):
        Console(stderr=True).print(escape(sentence.removeprefix("snapdelta: ")))
