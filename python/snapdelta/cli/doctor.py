"""`snapdelta doctor`: faults of the server, its streams, its names and TimescaleDB."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from snapdelta.cli.console import console, reported_errors
from snapdelta.cli.redis import PREFIX, URL, Json, Prefix, Url, connected, run
from snapdelta.timescale.findings import Finding, Severity

if TYPE_CHECKING:
    from snapdelta.doctor.redis import Bounds

_STYLES = {Severity.FAULT: "bold red", Severity.WARNING: "yellow"}


def doctor(
    url: Url = URL,
    key_prefix: Prefix = PREFIX,
    dsn: Annotated[
        str,
        typer.Option(
            "--dsn", envvar="SNAPDELTA_DSN", help="Also check TimescaleDB: postgresql://user@host/name"
        ),
    ] = "",
    schema: Annotated[str | None, typer.Option(help="The schema of its tables.")] = None,
    redis: Annotated[bool, typer.Option("--redis-too/--no-redis", help="Check only --dsn.")] = True,
    stale_after: Annotated[float | None, typer.Option(help="Most seconds without a save.")] = None,
    replica_lag: Annotated[float, typer.Option(help="Most seconds that a replica may be behind.")] = 10.0,
    max_entries: Annotated[int, typer.Option(help="Most entries of a stream.")] = 20_000,
    group_idle: Annotated[float, typer.Option(help="Most seconds without an active consumer.")] = 3600.0,
    policies: Annotated[
        Path | None,
        typer.Option(help="A file with \\[tool.snapdelta.streams]: does another program trim its streams?"),
    ] = None,
    watch: Annotated[float, typer.Option(min=0.0, help="Seconds to watch those streams.")] = 5.0,
    limits: Annotated[int | None, typer.Option(min=1, help="Bytes that readers may use for a frame.")] = None,
    as_json: Json = False,
) -> None:
    """List faults with advice, one per line; exit status 1 if there is a fault."""
    found: list[Finding] = []
    if redis:
        with reported_errors():
            bounds = _bounds(
                limits,
                policies,
                stale_after=stale_after,
                replica_lag=replica_lag,
                entries=max_entries,
                group_idle=group_idle,
                watch=watch,
            )
        found += run(_redis(url, key_prefix, bounds))
    if dsn:
        from snapdelta.timescale import checks

        with reported_errors():
            found += checks.verify(dsn, None, schema=schema)
    found = [finding for finding in found if finding.severity in _STYLES]
    faults = sum(finding.severity is Severity.FAULT for finding in found)
    if as_json:
        print(json.dumps({"faults": faults, "findings": [finding.as_dict() for finding in found]}, indent=2))
    else:
        shown = console()
        for finding in found:
            style = _STYLES[finding.severity]
            line = f"{finding.subject}: {finding.check}: {finding.actual}"
            advice = f"; {finding.advice}" if finding.advice else ""
            shown.print(
                f"[{style}]{finding.severity}:[/] {escape(line + advice)}", soft_wrap=True, highlight=False
            )
        shown.print(f"{faults or 'no'} fault{'' if faults == 1 else 's'}")
    if faults:
        raise typer.Exit(1)


def _bounds(limits: int | None, policies: Path | None, **others: Any) -> Bounds:
    """The bounds that were given. A StreamPolicyError says what is wrong in the file of policies."""
    from snapdelta.doctor.redis import Bounds
    from snapdelta.streams.settings_file import load_settings

    if limits is not None:
        others["limits"] = limits
    if policies is not None:
        others["policies"] = load_settings(policies).policies
    return Bounds(**others)


async def _redis(url: str, key_prefix: str, bounds: Bounds) -> list[Finding]:
    from snapdelta.doctor.redis import examine

    async with connected(url) as client:
        return await examine(client, key_prefix, bounds)
