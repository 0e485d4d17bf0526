"""The documentation's table of settings is the migration's."""

from __future__ import annotations

import re
from pathlib import Path

from snapdelta.timescale.files import OPTIMIZE, load
from snapdelta.timescale.settings import CHOICES

DOCUMENT = (Path(__file__).parents[2] / "docs" / "timescaledb.md").read_text(encoding="utf-8")


def test_settings_and_defaults_are_documented() -> None:
    section = DOCUMENT.split("## Changing the periods later")[1]
    documented: dict[str, str] = {}
    for names, values in re.findall(r"^\| (`\w+`(?:, `\w+`)*) \| ([^|]+) \|", section, re.MULTILINE):
        documented |= dict(zip(re.findall(r"`(\w+)`", names), values.strip().split(", "), strict=True))
    assert documented == {
        name: value for name, value in load(OPTIMIZE).defaults.items() if name not in CHOICES
    }


def test_kept_columns_are_documented() -> None:
    from timescale.scanner import KEPT

    rows = dict(
        re.findall(
            r"^\| (`\w+`(?:, `\w+`)*) \| ([^|]+) \|", DOCUMENT.split("## Step by step")[0], re.MULTILINE
        )
    )
    documented = {
        name: set(re.findall(r"_(\w+)`", parts))
        for names, parts in rows.items()
        for name in re.findall(r"`(\w+)`", names)
    }
    for name, parts in KEPT.items():
        assert documented[name] == set(parts.split()), name
