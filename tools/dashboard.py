"""Makes deploy/grafana-dashboard.json from the metrics that snapdelta has: python tools/dashboard.py"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from snapdelta.metrics import FAMILIES, Family

PATH = Path(__file__).parents[1] / "deploy" / "grafana-dashboard.json"

# The rows of the dashboard: a title, and the beginnings of the metrics in it.
_ROWS = {
    "Saves": ("save", "snapshot", "writer"),
    "Readers": ("reader",),
    "Mirrors": ("mirror",),
    "Gateways": ("gateway",),
    "Streams": ("stream",),
    "TimescaleDB": ("timescale",),
    "Build": ("build",),
}
_UNITS = {"seconds": "s", "bytes": "bytes", "ratio": "percentunit"}
_WIDTH, _HEIGHT, _COLUMNS = 8, 7, 3


def dashboard() -> dict[str, Any]:
    """The whole document, with one panel a metric."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, prefixes in _ROWS.items():
        panels.append(
            {
                "id": len(panels) + 1,
                "type": "row",
                "title": title,
                "gridPos": {"h": 1, "w": 24, "x": 0, "y": top},
            }
        )
        top += 1
        families = [family for key, family in FAMILIES.items() if key.startswith(prefixes)]
        for number, family in enumerate(families):
            x, y = number % _COLUMNS * _WIDTH, top + number // _COLUMNS * _HEIGHT
            panels.append(_panel(family, len(panels) + 1, x, y))
        top += -(-len(families) // _COLUMNS) * _HEIGHT
    return {
        "title": "snapdelta",
        "uid": "snapdelta",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"}
            ]
        },
        "panels": panels,
    }


def expression(family: Family) -> str:
    """What a panel shows: rates of counters, the mean of a summary, ages of timestamps, else the value."""
    name, by = family.name, ", ".join(family.labels)

    def rate(counter: str) -> str:
        series = f"rate({counter}[$__rate_interval])"
        return f"sum by ({by}) ({series})" if by else f"sum({series})"

    if family.kind == "counter":
        return rate(name)
    if family.kind == "summary":
        return f"{rate(name + '_sum')} / {rate(name + '_count')}"
    return f"time() - {name}" if name.endswith("_timestamp_seconds") else name


def _panel(family: Family, number: int, x: int, y: int) -> dict[str, Any]:
    source = {"type": "prometheus", "uid": "${datasource}"}
    unit = next((unit for word, unit in _UNITS.items() if family.name.endswith(word)), "short")
    if family.kind == "counter":
        unit = "Bps" if "bytes" in family.name else "ops"
    return {
        "id": number,
        "type": "timeseries",
        "title": family.name.removeprefix("snapdelta_"),
        "description": family.help,
        "datasource": source,
        "gridPos": {"h": _HEIGHT, "w": _WIDTH, "x": x, "y": y},
        "fieldConfig": {"defaults": {"unit": unit}, "overrides": []},
        "targets": [
            {
                "refId": "A",
                "datasource": source,
                "expr": expression(family),
                "legendFormat": " ".join(f"{{{{{label}}}}}" for label in family.labels) or "{{instance}}",
            }
        ],
    }


def text() -> str:
    return json.dumps(dashboard(), indent=2) + "\n"


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
    print(f"{PATH.name}: {len(dashboard()['panels'])} panels")
