"""Write constraints.txt: one version of each package that `make` installs, from pyproject.toml's groups.

python tools/lock.py      resolves anew for the Python that runs it; nothing is installed
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parent.parent
HEADER = "# Written by `make lock`: what the environments of `make` use. Users get pyproject.toml's ranges.\n"


def resolved(groups: list[str]) -> dict[str, str]:
    """Name -> version of all that the groups need, straight or through others."""
    options = [option for group in groups for option in ("--group", group)]
    run = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--dry-run",
         "--ignore-installed", "--report", "-", *options],
        cwd=ROOT, stdout=subprocess.PIPE, text=True, check=True,
    )  # fmt: skip
    packages = [item["metadata"] for item in json.loads(run.stdout)["install"]]
    return {package["name"].lower().replace("_", "-"): package["version"] for package in packages}


def main() -> None:
    groups: dict[str, list[object]] = tomllib.loads((ROOT / "pyproject.toml").read_text())[
        "dependency-groups"
    ]
    # A requirement with a marker is there for some Pythons only, and so is its constraint.
    conditional = (
        line.split(";")
        for lines in groups.values()
        for line in lines
        if isinstance(line, str) and ";" in line
    )
    markers = {re.match(r"[\w-]+", requirement)[0]: marker.strip() for requirement, marker in conditional}  # type: ignore[index]
    versions = resolved(list(groups))
    lines = []
    for name, version in sorted(versions.items()):
        lines.append(f"{name}=={version}" + (f"; {markers[name]}" if name in markers else ""))
    (ROOT / "constraints.txt").write_text(HEADER + "\n".join(lines) + "\n")
    print(f"constraints.txt: {len(lines)} packages")


if __name__ == "__main__":
    main()
