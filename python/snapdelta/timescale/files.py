"""The folder of the migrations' SQL: part of the wheel, in a checkout a link to `migrations/`."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import snapdelta
from snapdelta.errors import MigrationError
from snapdelta.timescale.script import Script, parse

SCHEMA = "001_scanner_schema"
OPTIMIZE = "004_optimize_memory_usage"
REWRITE = "005_rewrite_wide_chunks"


def migrations_directory() -> Path:
    """The folder with the SQL files, for `psql -f`. Raises MigrationError when the installation lacks it."""
    folder = Path(snapdelta.__file__).parent / "migrations"
    if not (folder / f"{OPTIMIZE}.sql").is_file():
        raise MigrationError(
            f"the SQL files are not in {folder}; reinstall snapdelta-rs (a checkout needs symbolic links)"
        )
    return folder


@cache
def load(name: str) -> Script:
    """The parsed script of a migration, such as `004_optimize_memory_usage` or that with `.down`."""
    path = migrations_directory() / f"{name}.sql"
    return parse(path.read_text(encoding="utf-8"), path.name)
