"""Shared by the commands: the console, and errors as one sentence."""

from __future__ import annotations

import sys
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
    """Print our errors as one sentence, exit status 2; status 1 means that a check found a fault."""
    try:
        yield
    except SnapdeltaError as error:
        fail(str(error))


def expected_errors() -> tuple[type[Exception], ...]:
    """Our errors, those of files and sockets, and redis-py's if it is in use."""
    redis_py = sys.modules.get("redis.exceptions")
    theirs = () if redis_py is None else (redis_py.RedisError, redis_py.RedisClusterException)
    return (SnapdeltaError, OSError, *theirs)


def show_error(error: Exception) -> None:
    """Print one sentence on stderr; foreign errors with their class, because their text may say little."""
    ours = isinstance(error, SnapdeltaError)
    _print_error(str(error) if ours else f"{type(error).__name__}: {error}")


def fail(sentence: str) -> NoReturn:
    _print_error(sentence)
    raise typer.Exit(2)


def _print_error(sentence: str) -> None:
    Console(stderr=True).print(f"[bold red]error:[/] {escape(sentence)}", soft_wrap=True)
