"""Test the core on every other CPython at hand: it relies on how each version lays out its objects.

python tools/test_pythons.py [--quick] [3.12 ...]

Without versions: all supported ones but the one that runs this. Each gets an environment below .venvs/, a
wheel built for it (without link-time optimisation, which takes minutes), and the tests that depend on the
interpreter. --quick leaves out those that draw values (hypothesis) and the search for leaks; the edges of the
value space remain.
The outcome names each version that is not found. Exit code 1 if one fails.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).parent.parent
VERSIONS = ("3.11", "3.12", "3.13", "3.14")
TESTS = (
    "apply_dicts",
    "apply_race",
    "collection",
    "defaults",
    "encoder",
    "errors",
    "golden",
    "leaks",
    "legacy_strings",
    "models",
    "reentrancy",
    "roundtrip",
    "subinterpreters",
)
# Quicker to build than a release, and as optimised where it matters for layouts.
BUILD = {
    "CARGO_PROFILE_RELEASE_LTO": "off",
    "CARGO_PROFILE_RELEASE_CODEGEN_UNITS": "16",
    "CARGO_PROFILE_RELEASE_OPT_LEVEL": "2",
    "CARGO_TARGET_DIR": str(ROOT / "target" / "pythons"),
}

# One build folder serves all of them: what does not depend on the version is compiled once.
_BUILDING = threading.Lock()


def candidates(version: str) -> Iterator[str]:
    """What may be an interpreter of the version: on PATH, then below pyenv's root, the newest first."""
    for folder in os.get_exec_path():
        yield str(Path(folder, f"python{version}"))
    if pyenv := shutil.which("pyenv"):
        root = subprocess.run([pyenv, "root"], capture_output=True, text=True, check=True).stdout.strip()
        found = Path(root, "versions").glob(f"{version}.*/bin/python{version}")
        yield from sorted(map(str, found), key=lambda path: (len(path), path), reverse=True)


def interpreter(version: str) -> str | None:
    """The first candidate that starts, is CPython and is of the version: pyenv's shims may lead nowhere."""
    code = "import sys; print(sys.implementation.name, '%d.%d' % sys.version_info[:2])"
    for path in candidates(version):
        if os.access(path, os.X_OK):
            run = subprocess.run([path, "-I", "-c", code], capture_output=True, text=True, check=False)
            if run.stdout.strip() == f"cpython {version}":
                return path
    return None


def tests() -> list[Path]:
    """The files of TESTS, in whichever folder they are."""
    found = {name: sorted((ROOT / "tests").rglob(f"test_{name}.py")) for name in TESTS}
    if missing := [name for name, files in found.items() if not files]:
        raise SystemExit(
            f"test-pythons: no tests/**/test_{missing[0]}.py; mend TESTS in {Path(__file__).name}"
        )
    return [file for files in found.values() for file in files]


def environment(version: str, python: str) -> Path:
    """An environment with what the tests import; made anew when pyproject.toml or constraints.txt changes."""
    home = ROOT / ".venvs" / version
    done = home / ".environment"
    sources = [path for name in ("pyproject.toml", "constraints.txt") if (path := ROOT / name).exists()]
    if not done.exists() or done.stat().st_mtime < max(path.stat().st_mtime for path in sources):
        subprocess.run([python, "-m", "venv", "--clear", str(home)], check=True)
        pip = [str(home / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, "--upgrade", "pip>=25.1"], check=True)
        groups = ["--group", "test-core", "--group", "test-servers"]
        subprocess.run([*pip, *groups, "--constraint", "constraints.txt"], cwd=ROOT, check=True)
        done.touch()
    return home


def install(home: Path) -> None:
    """Builds the wheel for the environment's Python and puts it there."""
    out = home / "wheel"
    shutil.rmtree(out, ignore_errors=True)
    python = str(home / "bin" / "python")
    subprocess.run(
        [sys.executable, "-m", "maturin", "build", "--release", "--quiet", "--interpreter", python,
         "--out", str(out)],
        cwd=ROOT, env={**os.environ, **BUILD}, check=True,
    )  # fmt: skip
    (wheel,) = out.glob("*.whl")
    subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps",
         "--force-reinstall", str(wheel)],
        check=True,
    )  # fmt: skip


def outcome(version: str, marks: str, files: list[str]) -> str:
    """How the tests end on a version; what they print comes in one piece, as versions run side by side."""
    python = interpreter(version)
    if python is None:
        return "not found here"
    start = time.monotonic()
    try:
        home = environment(version, python)
        with _BUILDING:
            install(home)
        # Without PYTHONPATH the package is the installed one.
        pytest = [str(home / "bin" / "python"), "-m", "pytest", "-q", "-m", marks, "-n", "2", *files]
        run = subprocess.run(
            pytest, cwd=ROOT, env=_clean(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        print(f"Python {version}:\n{run.stdout}", flush=True)
        run.check_returncode()
        ended = "passed"
    except subprocess.CalledProcessError as error:
        ended = f"FAILED (exit code {error.returncode} of {Path(error.cmd[0]).name})"
    return f"{ended}, {time.monotonic() - start:.0f} s"


def main(arguments: list[str]) -> int:
    versions = [argument for argument in arguments if argument != "--quick"]
    marks = "not long and not hypothesis" if "--quick" in arguments else "not long"
    running = f"{sys.version_info[0]}.{sys.version_info[1]}"
    files = list(map(str, tests()))
    if "--quick" in arguments:
        files = [file for file in files if Path(file).stem != "test_leaks"]
    versions = versions or [version for version in VERSIONS if version != running]
    # Two at a time: while one builds, another installs or tests.
    with ThreadPoolExecutor(2) as pool:
        outcomes = dict(
            zip(versions, pool.map(lambda version: outcome(version, marks, files), versions), strict=True)
        )
    for version, ended in outcomes.items():
        print(f"{version}: {ended}")
    if not any("passed" in ended or "FAILED" in ended for ended in outcomes.values()):
        print("test-pythons: NOTHING WAS TESTED, no other CPython is at hand")
    return int(any("FAILED" in ended for ended in outcomes.values()))


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
