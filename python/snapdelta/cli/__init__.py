"""The command line: `snapdelta ...`. Needs the extra `cli` (typer and rich); each command names what else
it needs."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn

try:
    import typer
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table
except ImportError:  # the script `snapdelta` is installed with or without the extra
    print("the command line needs typer and rich: pip install 'snapdelta-rs[cli]'", file=sys.stderr)
    raise SystemExit(2) from None

from snapdelta.errors import SnapdeltaError
from snapdelta.timescale import apply, files, findings, planning, verification

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Compact deltas of snapshots, and the tables they end up in.",
)
migrate = typer.Typer(no_args_is_help=True, help="The TimescaleDB migration: apply, revert, check.")
app.add_typer(migrate, name="migrate")

_STYLES = {"ok": "green", "info": "dim", "warning": "yellow", "fault": "bold red"}

Dsn = Annotated[
    str,
    typer.Option(
        "--dsn", envvar="SNAPDELTA_DSN", help="The database: postgresql://user@host/name", show_envvar=True
    ),
]
Schema = Annotated[
    str | None, typer.Option(help="The schema of the tables; without it the search path's first.")
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=PERIOD", help="A period, like raw_retention='5 days'; may be repeated."
    ),
]
Rewrite = Annotated[
    bool, typer.Option("--rewrite", help="Also move the newest raw rows into narrow chunks, now.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Print the SQL and change nothing.")]
Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]


def main() -> None:
    """What the script `snapdelta` calls."""
    app()


@app.command()
def demo(
    frames: Annotated[
        int | None, typer.Option(min=5, help="Stop after so many frames [20 of the feed, all of a file].")
    ] = None,
    recording: Annotated[
        Path | None, typer.Option(help="A .ndjson.zst recording, instead of the simulated feed.")
    ] = None,
    symbols: Annotated[int | None, typer.Option(min=1, help="Symbols of the feed [11,905].")] = None,
) -> None:
    """Play a market through Redis: kill the writer, join late, check every frame."""
    from demo.__main__ import Plan, Source, run

    with _errors():
        source = Source(None if recording is None else str(recording), symbols)
        status = run(Plan.of(source, frames), _console())
    raise typer.Exit(status)


@migrate.command()
def up(
    dsn: Dsn = "", schema: Schema = None, setting: Set = None, dry_run: DryRun = False,
    rewrite: Rewrite = False,
) -> None:  # fmt: skip
    """Apply the migration; safe to run again at any time, and fills holes in the aggregates."""
    with _errors():
        settings = _settings(setting)
        if dry_run:
            apply.checked(settings)
            sys.stdout.write(apply.render(files.SCHEMA) + apply.render(files.OPTIMIZE, settings))
            if rewrite:
                sys.stdout.write(apply.render(files.REWRITE, {"run": "yes"}))
            return
        apply.up(_need(dsn), settings, schema=schema, notify=_notice)
        # Without --rewrite the estimate alone: the reader learns what it would take.
        apply.rewrite(dsn, run=rewrite, schema=schema, notify=_notice)
    _console().print("applied: compression and retention begin their work in the background")


@migrate.command()
def down(dsn: Dsn = "", schema: Schema = None, dry_run: DryRun = False) -> None:
    """Restore the older policies; the aggregates and their rows stay."""
    with _errors():
        if dry_run:
            sys.stdout.write(apply.render(f"{files.OPTIMIZE}.down"))
            return
        apply.down(_need(dsn), schema=schema, notify=_notice)
    _console().print("reverted")


@migrate.command()
def status(dsn: Dsn = "", schema: Schema = None, as_json: Json = False) -> None:
    """What has been applied, and when."""
    with _errors():
        states = apply.status(_need(dsn), schema=schema)
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
    _console().print(table)


@migrate.command()
def verify(dsn: Dsn = "", schema: Schema = None, setting: Set = None, as_json: Json = False) -> None:
    """Compare what is declared with what is; exit status 1 on a fault."""
    with _errors():
        settings = _settings(setting)
        found = verification.verify(_need(dsn), settings or None, schema=schema)
    _show(found, as_json)


@migrate.command()
def plan(
    setting: Set = None,
    rows_per_day: Annotated[float | None, typer.Option(help="Raw rows a day.")] = None,
    symbols: Annotated[int | None, typer.Option(help="Symbols that share them.")] = None,
    as_json: Json = False,
) -> None:
    """Work out what the periods come to, without a database; exit status 1 when they would lose history."""
    with _errors():
        found = planning.plan(_settings(setting), rows_per_day=rows_per_day, symbols=symbols)
    _show(found, as_json)


@migrate.command()
def path() -> None:
    """Where the SQL files are, for `psql -f`."""
    with _errors():
        print(files.migrations_directory())


def _console() -> Console:
    # Made when it is used: tests and pipes change sys.stdout.
    return Console()


def _show(found: list[findings.Finding], as_json: bool) -> None:
    faults = sum(finding.verdict is findings.Verdict.FAULT for finding in found)
    if as_json:
        print(json.dumps({"faults": faults, "findings": [finding.as_dict() for finding in found]}, indent=2))
    else:
        table = Table("verdict", "what", "check", "declared", "is")
        for finding in found:
            style = _STYLES[finding.verdict]
            actual = escape(finding.actual) + (
                f"\n[{style}]{escape(finding.advice)}[/]" if finding.advice else ""
            )
            table.add_row(
                f"[{style}]{finding.verdict}[/]", finding.subject, finding.check, finding.declared, actual
            )
        _console().print(table)
        _console().print(f"{faults} faults" if faults else "no faults")
    if faults:
        raise typer.Exit(1)


def _settings(given: list[str] | None) -> dict[str, str]:
    settings = {}
    for entry in given or []:
        name, equals, value = entry.partition("=")
        if not equals:
            _fail(f"--set {entry}: write it as NAME=PERIOD")
        settings[name.strip()] = value.strip()
    return settings


def _need(dsn: str) -> str:
    if not dsn:
        _fail("which database? give --dsn, or set SNAPDELTA_DSN")
    return dsn


def _notice(sentence: str) -> None:
    """The migration's own notices; those of the server about defaults and names are noise here."""
    if sentence.startswith("snapdelta: "):
        Console(stderr=True).print(escape(sentence.removeprefix("snapdelta: ")))


@contextmanager
def _errors() -> Iterator[None]:
    """Our errors as one sentence and exit status 2; 1 means that a check has found a fault."""
    try:
        yield
    except SnapdeltaError as error:
        _fail(str(error))


def _fail(sentence: str) -> NoReturn:
    Console(stderr=True).print(f"[bold red]error:[/] {escape(sentence)}", soft_wrap=True)
    raise typer.Exit(2)


if __name__ == "__main__":
    main()
