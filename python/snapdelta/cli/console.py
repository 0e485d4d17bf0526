"""What the commands share: the console, and errors as one sentence."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from snapdelta.errors import SnapdeltaError


def console(*, stderr: bool = False) -> Console:
    # Made when it is used: tests and pipes change sys.stdout.
    return Console(stderr=stderr, soft_wrap=False)


@contextmanager
def reported_errors() -> Iterator[None]:
    """Our errors as one sentence and exit status 2; 1 means that a check has found a fault."""
    try:
        yield
    except SnapdeltaError as error:
        fail(str(error))


def fail(sentence: str) -> NoReturn:
    Console(stderr=True).print(f"[bold red]error:[/] {escape(sentence)}", soft_wrap=True)
    raise typer.Exit(2)
