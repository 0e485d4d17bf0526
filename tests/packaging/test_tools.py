"""The checks of `make lint` and `make test-pythons` fail where they should."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tools import check_identifiers, check_rust_imports, test_pythons, wheels

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("file", "code"),
    [("a.py", "def take(survivors): ..."), ("b.rs", "struct Touched;"), ("loose.py", "x = 1")],
)
def test_a_planted_old_name_is_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: str, code: str
) -> None:
    (tmp_path / file).write_text(code)
    assert check_identifiers.main([str(tmp_path / file)]) == 1
    assert "forbidden" in capsys.readouterr().out


def test_strings_and_comments_may_hold_any_word(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 'survivors'  # survivors\n")
    (tmp_path / "b.rs").write_text('// survivors\nconst X: &str = "survivors";\n')
    assert check_identifiers.main([str(tmp_path / "a.py"), str(tmp_path / "b.rs")]) == 0


def test_a_circle_between_rust_files_is_found(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.rs").write_text("use crate::b::B;")
    (tmp_path / "b.rs").write_text("")
    assert check_rust_imports.main(tmp_path) == 0
    (tmp_path / "b.rs").write_text("use crate::a::A;")
    assert check_rust_imports.main(tmp_path) == 1
    assert "circle" in capsys.readouterr().out


def test_pythons_names_what_it_did_not_find(capsys: pytest.CaptureFixture[str]) -> None:
    assert test_pythons.main(["3.99"]) == 0
    named, warning = capsys.readouterr().out.splitlines()
    assert named == "3.99: not found here"
    assert "NOTHING WAS TESTED" in warning


def test_pythons_finds_an_interpreter_of_the_version_asked_for() -> None:
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    found = test_pythons.interpreter(version)
    assert found is not None
    printed = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    assert printed.startswith(f"Python {version}.")


@pytest.mark.parametrize(
    ("tag", "version"),
    [("manylinux_2_17_x86_64.manylinux2014_x86_64", (2, 17)), ("manylinux_2_5_i686", (2, 5))],
)
def test_a_manylinux_tag_is_a_version_of_glibc(tag: str, version: tuple[int, int]) -> None:
    assert wheels.glibc(f"a-0.1-cp311-cp311-{tag}.whl") == version


def test_a_wheel_that_cannot_be_tested_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One of a Python that is not at hand, one of no CPython at all."""
    for name in ("a-0.1-cp399-cp399-manylinux_2_17_x86_64.whl", "a-0.1-py3-none-any.whl"):
        assert wheels.main([str(tmp_path / name)]) == 1
    assert capsys.readouterr().out.count("FAILED") == 2


def test_every_developer_dependency_is_locked_within_its_range() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    locked = {requirement.name: requirement.specifier for requirement in map(Requirement, pins)}
    groups = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]
    lines = [line for group in groups.values() for line in group if isinstance(line, str)]
    for wanted in map(Requirement, lines):
        (version,) = (pin.version for pin in locked[wanted.name])
        assert wanted.specifier.contains(version), f"{wanted} is locked at {version}: make lock"
