"""A run of the soak as JSON, so that its table and its plots can be made again without a new run."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

from benches.results import environment
from benches.soak.plan import Kind, Plan

# By name, a value a sample.
Series = dict[str, list[float]]
FOLDER = Path(__file__).with_name("saved")


@dataclass(frozen=True)
class Run:
    """What one run came to.

    frames   that were played; `planned` were to be
    seconds  of real time
    late     saves of a run at the real cadence that began half a second late or more
    checks   comparisons of everything that a way holds with what was saved, all equal
    series   of each way
    """

    kind: Kind
    symbols: int
    fields: int | None
    planned: int
    frames: int
    seconds: float
    late: int
    checks: int
    environment: dict[str, str]
    series: dict[str, Series]

    @classmethod
    def of(
        cls, plan: Plan, *, frames: int, seconds: float, late: int, checks: int, series: dict[str, Series]
    ) -> Self:
        machine = {**environment(), "cores": str(os.cpu_count())}
        return cls(
            plan.kind, plan.symbols, plan.fields, plan.frames, frames, seconds, late, checks, machine, series
        )

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_lines(asdict(self)) + "\n")

    @classmethod
    def load(cls, path: Path) -> Self:
        return cls(**json.loads(path.read_text()))


def _lines(content: dict[str, object]) -> str:
    """JSON with a line a series."""
    series = content.pop("series")
    assert isinstance(series, dict)
    ways = [
        f'  "{way}": {{\n' + ",\n".join(f'   "{n}": {json.dumps(v)}' for n, v in each.items()) + "\n  }"
        for way, each in series.items()
    ]
    return f'{json.dumps(content, indent=1)[:-2]},\n "series": {{\n' + ",\n".join(ways) + "\n }\n}"
