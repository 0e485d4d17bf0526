"""Fail if a Rust file imports, directly or through others, itself: arrows between files point one way.

python tools/check_rust_imports.py [rust/src]
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

# Comments and strings may name paths; inner test modules may look at their own file.
_NOISE = re.compile(r'//[^\n]*|"(?:\\.|[^"\\])*"')
_TESTS = re.compile(r"#\[cfg\(test\)\]\s*mod tests \{.*", re.DOTALL)
_PATH = re.compile(r"\bcrate((?:::\w+)+)(?:::\{([^}]*)\})?")
_SUPER = re.compile(r"(?<![\w:])((?:super::)+)((?:\w+::)*\w+)")


def modules(root: Path) -> dict[tuple[str, ...], Path]:
    """Every file by its module path; `mod.rs` and `lib.rs` stand for their folder."""
    found = {}
    for file in root.rglob("*.rs"):
        parts = file.relative_to(root).with_suffix("").parts
        found[parts[:-1] if parts[-1] in ("mod", "lib") else parts] = file
    return found


def imports(text: str, module: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The paths below `crate` that a file names."""
    text = _NOISE.sub("", _TESTS.sub("", text))
    for path, group in _PATH.findall(text):
        base = tuple(path.split("::")[1:])
        yield base
        for item in group.split(","):
            yield (*base, *item.split("{")[0].strip().split(" ")[0].split("::"))
    for ups, path in _SUPER.findall(text):
        depth = ups.count("super::")
        if depth <= len(module):
            yield (*module[: len(module) - depth], *path.split("::"))


def graph(root: Path) -> dict[Path, set[Path]]:
    files = modules(root)
    edges: dict[Path, set[Path]] = {file: set() for file in files.values()}
    for module, file in files.items():
        for path in imports(file.read_text(), module):
            # The longest prefix that is a file; a bare folder is its table of contents and imports nothing.
            target = next((files[path[:n]] for n in range(len(path), 0, -1) if path[:n] in files), None)
            if target is not None and target is not file:
                edges[file].add(target)
    return edges


def main(root: Path) -> int:
    try:
        order = list(TopologicalSorter(graph(root)).static_order())
    except CycleError as error:
        print("files import in a circle: " + " -> ".join(str(p.relative_to(root)) for p in error.args[1]))
        return 1
    print(f"{len(order)} Rust files, no circle")
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "rust/src")))
