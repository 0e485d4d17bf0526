"""The results of a run: what was measured, as ratios where it can be, kept as JSON and printed as tables.

python -m benches.results show FILE            the tables of docs/performance.md
python -m benches.results fill PAGE FILE         put FILE's figures into the lines between the page's marks
python -m benches.results compare SAVED NEW…     exit 1 if a ratio is a tenth worse than in SAVED, in each NEW
"""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

_WORSE = 1.10
_PEERS = ("orjson", "msgspec", "zstandard")
_MARKS = ("<!-- measured -->\n", "<!-- /measured -->")


@dataclass(frozen=True)
class Result:
    """One line of a table. `ratio` is ours / peer, less is better; `target` is what it should stay below."""

    group: str
    name: str
    ours: float
    peer: float
    unit: str
    ratio: float
    target: float | None
    peer_name: str

    @property
    def key(self) -> str:
        return f"{self.group}: {self.name} / {self.peer_name}"


def environment() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "processor": _processor(),
        "snapdelta-rs": version("snapdelta-rs"),
        **{name: version(name) for name in _PEERS},
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )


def save(results: list[Result], path: Path) -> None:
    content = {"environment": environment(), "results": [asdict(result) for result in results]}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


def load(path: Path) -> list[Result]:
    return [Result(**result) for result in json.loads(path.read_text())["results"]]


def tables(path: Path) -> str:
    """Markdown: one table a group."""
    lines = [
        ", ".join(f"{name} {value}" for name, value in json.loads(path.read_text())["environment"].items())
    ]
    results = load(path)
    for group in dict.fromkeys(result.group for result in results):
        lines += ["", f"**{group}**", "", "| | ours | peer | | ratio | target |", "|---|--:|--:|---|--:|--:|"]
        lines += [_row(result) for result in results if result.group == group]
    return "\n".join(lines)


def _row(result: Result) -> str:
    def number(value: float) -> str:
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"

    target = "" if result.target is None else f"{result.target:g}"
    ours, peer = (f"{number(value)} {result.unit}" for value in (result.ours, result.peer))
    return f"| {result.name} | {ours} | {peer} | {result.peer_name} | {result.ratio:.3f} | {target} |"


def fill(document: str, path: Path) -> str:
    """The document with its marked lines as they are in `tables`: it chooses the lines, never figures.

    Raises ValueError when a mark is missing, or a line is no longer measured.
    """
    before, rest = document.split(_MARKS[0])
    block, after = rest.split(_MARKS[1])
    first, *measured = tables(path).splitlines()
    _, *chosen = block.splitlines()
    by_key = {_line_key(line): line for line in measured}
    if gone := [line for line in chosen if _line_key(line) not in by_key]:
        raise ValueError("\n".join(["no longer measured:", *gone]))
    lines = [first, *(by_key[_line_key(line)] for line in chosen)]
    return before + _MARKS[0] + "\n".join(lines) + "\n" + _MARKS[1] + after


def _line_key(line: str) -> tuple[str, ...]:
    """The name and the peer of a table's line; other lines are their own key."""
    cells = tuple(line.split(" | "))
    return (cells[0], cells[3]) if len(cells) == 6 else (line,)


def worse(saved: list[Result], *runs: list[Result]) -> list[str]:
    """What is a tenth worse than it was in every run that measured it, or is no longer measured."""
    best: dict[str, float] = {}
    for result in (result for run in runs for result in run):
        best[result.key] = min(result.ratio, best.get(result.key, result.ratio))
    found = []
    for before in saved:
        ratio = best.get(before.key)
        if ratio is None:
            found.append(f"{before.key}: no longer measured")
        elif ratio > before.ratio * _WORSE:
            found.append(f"{before.key}: {ratio:.3f}, was {before.ratio:.3f}")
    return found


def main(arguments: list[str]) -> int:
    match arguments:
        case ["show", file]:
            print(tables(Path(file)))
            return 0
        case ["fill", document, file]:
            try:
                text = fill(Path(document).read_text(encoding="utf-8"), Path(file))
            except ValueError as error:
                print(error, file=sys.stderr)
                return 1
            Path(document).write_text(text, encoding="utf-8")
            return 0
        case ["compare", saved, *runs] if runs:
            found = worse(load(Path(saved)), *(load(Path(run)) for run in runs))
            print("\n".join(found) or "no ratio is a tenth worse than in the saved run")
            return 1 if found else 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
