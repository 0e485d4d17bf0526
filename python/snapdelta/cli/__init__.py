"""The command line: `snapdelta ...`.

It needs the extra `cli` (typer and rich); each command names its other extras.
"""

from __future__ import annotations

import logging
import sys
from importlib.metadata import version
from typing import Annotated

try:
    import rich  # noqa: F401
    import typer
except ImportError:  # the script `snapdelta` is installed with or without the extra
    print("the command line needs typer and rich: pip install 'snapdelta-rs[cli]'", file=sys.stderr)
    raise SystemExit(2) from None

from snapdelta.cli import (
    diff,
    doctor,
    export,
    gateway,
    history,
    inspect,
    migrate,
    mirror,
    show,
    status,
    streams,
)
from snapdelta.cli.console import expected_errors, show_error

app = typer.Typer(
    no_args_is_help=True,
    help="Compact deltas of snapshots, bounded streams and small tables.",
)
app.add_typer(migrate.app, name="migrate")
app.add_typer(streams.app, name="streams")
for command in (
    status.status,
    doctor.doctor,
    show.show,
    export.export,
    history.history,
    diff.diff,
    inspect.inspect,
    mirror.mirror,
    gateway.gateway,
):
    app.command()(command)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"snapdelta {version('snapdelta-rs')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Compact deltas of snapshots, bounded streams and small tables."""
    # Commands say themselves what they find; without a handler warnings would go to stderr as well.
    logging.getLogger("snapdelta").addHandler(logging.NullHandler())


def main() -> None:
    """The entry point of `snapdelta`; an expected error prints one sentence, exit status 2."""
    try:
        app()
    except Exception as error:
        if not isinstance(error, expected_errors()):
            raise
        show_error(error)
        raise SystemExit(2) from None
