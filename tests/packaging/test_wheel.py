"""The wheel, in an environment that has nothing else: no Rust toolchain, no index, no other package."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from support.documents import ROOT, blocks


@pytest.fixture(scope="module")
def site(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new virtual environment with the wheel in it."""
    home = tmp_path_factory.mktemp("site")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", home], check=True)
    pip = [sys.executable, "-m", "pip", "--python", str(home / "bin" / "python")]
    install = [*pip, "install", "--quiet", "--no-index", str(wheel)]
    subprocess.run(install, check=True, env=_environment(home), cwd=home)
    return home


def _environment(home: Path) -> dict[str, str]:
    """PATH is the environment's own scripts, so that no compiler is found."""
    path = str(home / "bin")
    for tool in ("cargo", "rustc", "cc", "maturin"):
        assert shutil.which(tool, path=path) is None
    return {"PATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


def _python(site: Path, code: str) -> str:
    return subprocess.run(
        [site / "bin" / "python", "-I", "-W", "error", "-c", code],
        capture_output=True, text=True, check=True, env=_environment(site), cwd=site,
    ).stdout  # fmt: skip


def test_it_is_the_only_package_there(site: Path) -> None:
    code = "from importlib.metadata import distributions; print([d.name for d in distributions()])"
    assert _python(site, code) == "['snapdelta-rs']\n"
    assert _python(site, "import snapdelta; print(snapdelta.__file__)").startswith(str(site))


def test_importing_it_needs_the_standard_library_only(site: Path) -> None:
    code = (
        "import sys, snapdelta\n"
        "loaded = {name.partition('.')[0] for name in sys.modules}\n"
        "print(sorted(loaded - sys.stdlib_module_names - {'__main__'}))"
    )
    assert _python(site, code) == "['snapdelta']\n"


def test_it_works(site: Path) -> None:
    """The pages' examples of the core, and values of more kinds."""
    pages = [*blocks("README.md", "python"), *blocks("docs/core.md", "python")]
    examples = [code for code in pages if "redis" not in code]
    assert len(examples) == 5
    for code in examples:
        _python(site, code)
    _python(
        site,
        "import snapdelta, datetime, decimal\n"
        "a = {'A': {'x': 1, 'y': decimal.Decimal('1.10')}, 'B': {'t': datetime.date(2026, 3, 4)}}\n"
        "b = {'B': {'t': datetime.date(2026, 3, 5)}, 'A': {'x': True, 'y': decimal.Decimal('1.1')}}\n"
        "c = snapdelta.apply(a, snapdelta.diff(a, b))\n"
        "assert repr(c) == repr(b) == repr(snapdelta.loads(snapdelta.dumps(b))), c",
    )


def test_migrations_are_files_of_the_package(site: Path) -> None:
    code = (
        "from snapdelta import timescale\n"
        "print(timescale.migrations_directory())\n"
        "print(timescale.render('001_scanner_schema'))"
    )
    directory, _, rendered = _python(site, code).partition("\n")
    assert Path(directory).is_relative_to(site)
    assert Path(directory).parts[-2:] == ("snapdelta", "migrations")
    names = {path.name for path in (ROOT / "migrations").glob("*.sql")}
    assert {path.name for path in Path(directory).glob("*.sql")} == names
    assert "CREATE TABLE IF NOT EXISTS scan_results" in rendered


def test_scripts_are_files_of_the_package(site: Path) -> None:
    (package,) = site.glob("lib/python*/site-packages/snapdelta")
    source = ROOT / "python" / "snapdelta"
    expected = {path.relative_to(source): path.read_text() for path in source.glob("*/lua/*.lua")}
    assert len(expected) == 13
    assert {path.relative_to(package): path.read_text() for path in package.glob("*/lua/*.lua")} == expected


def test_what_needs_an_extra_says_which(site: Path) -> None:
    """Without the extras each part names the one that it needs."""
    command = subprocess.run(
        [site / "bin" / "snapdelta"], capture_output=True, text=True, env=_environment(site), cwd=site
    )
    assert command.returncode == 2
    assert "snapdelta-rs[cli]" in command.stderr
    assert "snapdelta-rs[embedded]" in _python(
        site,
        "import snapdelta\n"
        "try: snapdelta.EmbeddedServer()\n"
        "except snapdelta.SnapdeltaError as error: print(error)",
    )


def test_types_are_in_it(site: Path) -> None:
    (package,) = site.glob("lib/python*/site-packages/snapdelta")
    assert {"py.typed", "_native.pyi"} <= {path.name for path in package.iterdir()}
