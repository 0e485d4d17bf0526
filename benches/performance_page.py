"""docs/performance.md, its plots and README's claims, from the saved runs.

python -m benches.performance_page      put the saved figures between the marks, and draw the plots

A mark is `<!-- saved: NAME -->`; what stands between it and `<!-- /saved -->` is a block of `blocks`.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

from benches import side_by_side
from benches.contenders import OURS
from benches.side_by_side import Measured
from benches.soak.saved import FOLDER, Run, Series
from benches.soak.table import report, rows, title
from benches.svg import line_chart

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "docs" / "performance.md", ROOT / "README.md")
PLOTS = ROOT / "docs" / "performance"
_PEERS = ROOT / "benches" / "peers.json"
_BOUNDS = ROOT / "benches" / "bounds.json"
_MARKED = re.compile(r"(<!-- saved: ([\w ]+) -->\n).*?(<!-- /saved -->)", re.S)
# README's rows of the promised table.
_CLAIMS = ("Redis memory, most", "Redis CPU", "bytes to Redis", "size of a", "writer CPU", "stall of")


def runs() -> list[Run]:
    """The saved runs of the soak."""
    return [Run.load(FOLDER / f"{kind}.json") for kind in ("cadence", "fast")]


def blocks() -> dict[str, str]:
    """What may stand between marks, by name."""
    measured = side_by_side.load(_PEERS)
    cases = dict.fromkeys(each.case for each in measured)
    peers = json.loads(_PEERS.read_text())["environment"]

    def of(case: str) -> list[Measured]:
        return [each for each in measured if each.case == case]

    found = {
        "environment": ", ".join(f"{name} {value}" for name, value in peers.items()),
        "smallest": "\n".join(_smallest(of(case)) for case in cases),
        "cases": "\n\n".join(f"#### {case}\n\n{side_by_side.table(of(case))}" for case in cases),
        "better": "\n".join(f"- {line}" for line in side_by_side.better(measured)),
        "bounds": _bounds(),
    }
    for run in runs():
        found[f"soak {run.kind}"] = report(run)
    found["claims"] = _claims(Run.load(FOLDER / "cadence.json"))
    return found


def fill(text: str) -> str:
    """The text with its marked blocks as they are saved. Raises KeyError for an unknown block."""
    known = blocks()
    return _MARKED.sub(lambda match: f"{match[1]}{known[match[2]]}\n{match[3]}", text)


def plots() -> dict[str, str]:
    """SVG text by file name."""
    charts: list[tuple[str, str, str, Callable[[Series], list[float]], bool]] = [
        ("redis", "Redis memory", "MB", lambda s: [value / 1e6 for value in s["redis"]], False),
        ("writer", "RAM of the writer", "MB", lambda s: [value / 1e6 for value in s["writer_rss"]], False),
        ("reader", "RAM of a reader", "MB", lambda s: [value / 1e6 for value in s["reader_rss"]], False),
        ("bytes", "bytes to Redis a frame", "kB", lambda s: [value / 1e3 for value in s["received"]], True),
        ("stalls", "longest stall of the writer's event loop", "ms", lambda s: s["writer_stall_ms"], True),
        ("entries", "entries of the ranking deltas", "", lambda s: s["delta_entries"], True),
    ]
    return {
        f"{run.kind}-{name}.svg": line_chart(
            f"{run.kind}: {what}",
            "hours of market time",
            unit,
            {way: list(zip(series["hours"], of(series), strict=True)) for way, series in run.series.items()},
            log=log,
        )
        for run in runs()
        for name, what, unit, of, log in charts
    }


def _claims(run: Run) -> str:
    lines = ["| | before | by hand | snapdelta | promised | met? |", "|---|--:|--:|--:|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in rows(run) if row.name.startswith(_CLAIMS)]
    return "\n".join([title(run), "", *lines])


def _smallest(measured: list[Measured]) -> str:
    """One line: which exact delta of a case is the smallest, and by how much ours differs from the next."""
    deltas = sorted(
        (each for each in measured if each.makes_delta and not each.inexact), key=lambda each: each.size
    )
    ours = next(each for each in deltas if each.name == OURS)
    other = next(each for each in deltas if not each.name.startswith("snapdelta"))
    outcome = "the smallest" if ours.size <= other.size else "**not the smallest**"
    return (
        f"- {ours.case}: {outcome}, {ours.size:,.0f} B; {other.name} {other.size:,.0f} B "
        f"({ours.size / other.size:.2f})."
    )


def _bounds() -> str:
    saved = json.loads(_BOUNDS.read_text())
    times: dict[str, float] = saved["times"]
    # The parts of a save are wall-clock times: their shares say more.
    whole = sum(time for part, time in times.items() if part.startswith("save: "))
    lines = ["| part | |", "|---|--:|"]
    for part, time in times.items():
        lines.append(
            f"| {part} | {f'{time / whole:.0%}' if part.startswith('save: ') else f'{time:.1f} ms'} |"
        )
    instructions: dict[str, dict[str, float]] = saved["instructions"]
    lines += [
        "",
        f"| instructions of a call | {' | '.join(instructions)} |",
        "|---|" + "--:|" * len(instructions),
    ]
    for library in dict.fromkeys(name for shares in instructions.values() for name in shares):
        shares = " | ".join(f"{each.get(library, 0.0):.0%}" for each in instructions.values())
        lines.append(f"| {library} | {shares} |")
    return "\n".join(lines)


def main() -> int:
    for document in DOCUMENTS:
        document.write_text(fill(document.read_text(encoding="utf-8")), encoding="utf-8")
    PLOTS.mkdir(exist_ok=True)
    for name, text in plots().items():
        (PLOTS / name).write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
