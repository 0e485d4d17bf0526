"""The SQL has one source, and every way of installing finds it."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from snapdelta import timescale

ROOT = Path(__file__).parents[2]
SOURCE = {path.name: path.read_bytes() for path in (ROOT / "migrations").glob("*.sql")}


def test_this_installation_finds_the_source() -> None:
    assert {path.name: path.read_bytes() for path in timescale.migrations_directory().glob("*.sql")} == SOURCE
    assert len(SOURCE) == 5


def test_wheel_carries_the_source(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".sql")]
        assert {Path(name).name: archive.read(name) for name in names} == SOURCE
        assert {str(Path(name).parent) for name in names} == {"snapdelta/migrations"}


def test_import_is_light() -> None:
    """Neither the driver nor the command line's libraries are loaded before they are needed."""
    code = "import sys, snapdelta, snapdelta.timescale as t; t.plan(); print([m for m in ('psycopg', 'typer', 'rich', 'redis', 'numpy') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )
