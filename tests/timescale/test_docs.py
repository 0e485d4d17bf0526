"""The documentation's table of settings is the migration's."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from snapdelta import EmbeddedServer, timescale
from snapdelta.timescale.files import OPTIMIZE, load
from snapdelta.timescale.settings import CHOICES
from timescale.bed import postgres_program
from timescale.conftest import Aged, Make

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


BY_HAND = DOCUMENT.split("### With psql only")[1].split("\n## ")[0]


def psql(dsn: str, script: str) -> str:
    """What psql prints for a script on its standard input, as `docker exec -i` gives it."""
    command = [postgres_program("psql"), "-X", dsn]
    done = subprocess.run(command, input=script, capture_output=True, text=True, check=False, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("style", ["postgres", "iso_8601"])
def test_verify_sql_prints_what_is_documented(database: Make, healthy: Aged, style: str) -> None:
    script = (timescale.migrations_directory() / "verify.sql").read_text(encoding="utf-8")
    db = database(healthy.name)
    printed = psql(f"{db.dsn}?options=-cintervalstyle%3D{style}", script)
    documented = re.findall(r"```\n(raw rows .*?)```", BY_HAND, re.DOTALL)
    assert [printed[: len(text)] for text in documented] == documented
    lines = [[cell.strip() for cell in line.split("|")] for line in printed.splitlines()]
    assert lines.index(["scan_results", "3 days"]) < lines.index(["volume_slots", "14 days"])
    sizes = {cells[0] for cells in lines if len(cells) == 2 and re.fullmatch(r"\d+ (bytes|[kMG]B)", cells[1])}
    assert sizes == {
        "scan_results", "volume_slots", "market_data_daily", "scan_results_1min", "scan_results_1hour",
        "the whole database",
    }  # fmt: skip
    jobs = {(cells[0], cells[1]) for cells in lines if len(cells) == 7}
    assert jobs - {("relation", "job")} == {
        (relation, kind)
        for relation in ("scan_results", "scan_results_1min", "scan_results_1hour")
        for kind in ("retention", "compression", "refresh")
        if (relation, kind) != ("scan_results", "refresh")
    } | {("volume_slots", "retention"), ("market_data_daily", "retention")}
    assert "the oldest raw row" in printed


def test_documented_queries_run(database: Make, healthy: Aged) -> None:
    (queries,) = re.findall(r"```sql\n(.*?)```", BY_HAND, re.DOTALL)
    printed = psql(database(healthy.name).dsn, "\\set ON_ERROR_STOP on\n" + queries)
    assert re.search(r"scan_results +\| 3 days", printed)
    assert re.search(r"volume_slots +\| 14 days", printed)
    assert re.search(r"scan_results_1min\w* +\| \d+", printed)


def test_documented_redis_commands_run() -> None:
    from redis import Redis

    commands = re.findall(r"redis-cli ([A-Z]+ \S+(?: \S+)?)  +#", BY_HAND)
    assert [command.split()[0] for command in commands] == ["XLEN", "MEMORY", "INFO"]
    with EmbeddedServer() as server, Redis.from_url(server.url) as redis:
        for _ in range(5):
            redis.xadd("snapshots:raw", {"frame": b"x" * 1000})
        length, size, memory = (redis.execute_command(*command.split()) for command in commands)
    assert length == 5
    assert size > 5000
    assert {"used_memory_human", "used_memory_rss_human"} <= memory.keys()
