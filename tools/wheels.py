"""Build a manylinux wheel for each CPython at hand, and test each as its users get it.

python -m tools.wheels [WHEEL ...]

Without wheels: builds for every supported CPython that is found here, into dist/. zig links against the old
glibc of COMPATIBILITY, so no container is needed. With wheels: tests these.
Each wheel must keep the glibc version that its name promises (auditwheel), import in an environment that has
nothing else, and pass the core's tests from a copy outside the checkout, without a Rust toolchain on PATH.
Exit code 1 if one fails.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tools import test_pythons
from tools.test_pythons import ROOT

COMPATIBILITY = "manylinux2014"
# What the core's tests need of the checkout; the package is not among it.
COPIED = ("pyproject.toml", "tests/conftest.py", "tests/core", "tests/support")
COMPILERS = ("cargo", "rustc", "cc", "maturin")


def build() -> list[Path]:
    """Builds for each interpreter that is found; names the ones that are not."""
    found = {version: test_pythons.interpreter(version) for version in test_pythons.VERSIONS}
    for version, python in found.items():
        if python is None:
            print(f"{version}: not found here")
    out = ROOT / "dist"
    for wheel in out.glob("*.whl"):
        wheel.unlink()
    subprocess.run(
        [sys.executable, "-m", "maturin", "build", "--release", "--quiet", "--zig",
         "--compatibility", COMPATIBILITY, "--compression-level", "9", "--out", str(out),
         "--interpreter", *filter(None, found.values())],
        cwd=ROOT, check=True,
    )  # fmt: skip
    return sorted(out.glob("*.whl"))


def glibc(text: str) -> tuple[int, int]:
    """The version of glibc that a manylinux tag in `text` names."""
    tag = re.search(r"manylinux_(\d+)_(\d+)_", text)
    if tag is None:
        raise ValueError(f"no manylinux tag in: {text.strip()}")
    return int(tag[1]), int(tag[2])


def audit(wheel: Path) -> str:
    """The oldest glibc that the wheel's symbols allow; ValueError if its name promises an older one."""
    show = subprocess.run(
        [sys.executable, "-m", "auditwheel", "show", str(wheel)], capture_output=True, text=True, check=True
    ).stdout
    needed, promised = glibc(show), glibc(wheel.name)
    if needed > promised:
        raise ValueError(f"{wheel.name}: its symbols need glibc {needed}, its name promises {promised}")
    return f"glibc {needed[0]}.{needed[1]}"


def install(home: Path, python: str, wheel: Path) -> None:
    """Makes an environment with the wheel alone, imports it there, and adds what its tests need."""
    subprocess.run([python, "-m", "venv", "--without-pip", str(home)], check=True)
    inside = str(home / "bin" / "python")
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--disable-pip-version-check",
        "--python",
        inside,
        "install",
        "--quiet",
    ]
    subprocess.run([*pip, "--no-index", str(wheel)], check=True)
    code = (
        "import snapdelta; from importlib.metadata import distributions\n"
        f"assert snapdelta.__file__.startswith({str(home)!r}), snapdelta.__file__\n"
        "assert [found.name for found in distributions()] == ['snapdelta-rs']\n"
        "assert snapdelta.loads(snapdelta.dumps({'A': {'x': 1}})) == {'A': {'x': 1}}"
    )
    subprocess.run([inside, "-I", "-W", "error", "-c", code], env=_environment(home), cwd=home, check=True)
    needed = [*pip, "--group", "test-core", "--constraint", "constraints.txt"]
    subprocess.run(needed, cwd=ROOT, check=True)


def run_tests(home: Path, checkout: Path) -> None:
    """The core's tests that depend on the interpreter, from a copy; Valkey alone has a wheel everywhere."""
    for name in COPIED:
        source, target = ROOT / name, checkout / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    files = [str(file.relative_to(ROOT)) for file in test_pythons.tests() if file.stem != "test_leaks"]
    pytest = [str(home / "bin" / "python"), "-m", "pytest", "-q", "-m", "not long and not hypothesis"]
    pytest += ["-k", "not redis-6.2 and not redis-8.2", "-n", "2"]
    subprocess.run([*pytest, *files], cwd=checkout, env=_environment(home), check=True)


def _environment(home: Path) -> dict[str, str]:
    """PATH is the environment's own scripts, so that no compiler is found."""
    path = str(home / "bin")
    if found := [tool for tool in COMPILERS if shutil.which(tool, path=path)]:
        raise ValueError(f"{found[0]} is in the environment of the tests")
    return {"PATH": path, "CI": "1"}


def check(wheel: Path) -> str:
    """What was found out of a wheel, in a line."""
    tag = re.search(r"-cp(\d)(\d+)-cp", wheel.name)
    if tag is None:
        raise ValueError(f"{wheel.name} is a wheel of no CPython")
    version = f"{tag[1]}.{tag[2]}"
    python = test_pythons.interpreter(version)
    if python is None:
        raise ValueError(f"{wheel.name} cannot be tested, CPython {version} was not found here")
    needs = audit(wheel) if "linux" in wheel.name else "no glibc"
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder, "environment")
        install(home, python, wheel.resolve())
        run_tests(home, Path(folder, "checkout"))
    return f"passed on {version}, needs {needs}, {wheel.stat().st_size:,} bytes"


def main(arguments: list[str]) -> int:
    outcomes, failed = [], False
    for wheel in map(Path, arguments) if arguments else build():
        try:
            outcome = check(wheel)
        except (ValueError, subprocess.CalledProcessError) as error:
            outcome, failed = f"FAILED: {error}", True
        outcomes.append(f"{wheel.name}: {outcome}")
    print("\n".join(outcomes))
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
