"""The SQL has one source, and every way of installing finds it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

from snapdelta import timescale

ROOT = Path(__file__).parents[2]
SOURCE = {path.name: path.read_bytes() for path in (ROOT / "migrations").glob("*.sql")}


def test_this_installation_finds_the_source() -> None:
    assert {path.name: path.read_bytes() for path in timescale.migrations_directory().glob("*.sql")} == SOURCE
    assert len(SOURCE) == 4


def test_wheel_carries_the_source(tmp_path: Path) -> None:
    scripts = Path(sys.executable).parent
    subprocess.run(
        [scripts / "maturin", "build", "--release", "--quiet", "--out", tmp_path], cwd=ROOT, check=True, capture_output=True,
        env={**os.environ, "VIRTUAL_ENV": str(scripts.parent)}, timeout=600,
    )  # fmt: skip
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        carried = {
            Path(name).name: archive.read(name) for name in archive.namelist() if name.endswith(".sql")
        }
        assert carried == SOURCE
        archive.extractall(tmp_path / "site")
    found = subprocess.run(
        [sys.executable, "-c", "from snapdelta import timescale; print(timescale.migrations_directory()); print(timescale.render('001_scanner_schema'))"],
        env={**os.environ, "PYTHONPATH": str(tmp_path / "site")}, cwd=tmp_path, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert found.splitlines()[0] == str(tmp_path / "site" / "snapdelta" / "migrations")
    assert "CREATE TABLE IF NOT EXISTS scan_results" in found


def test_import_is_light() -> None:
    """Neither the driver nor the command line's libraries are loaded before they are needed."""
    code = "import sys, snapdelta, snapdelta.timescale as t; t.plan(); print([m for m in ('psycopg', 'typer', 'rich', 'redis', 'numpy') if m in sys.modules])"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )
