"""What a settings file may say, and the sentence for what it may not; no database."""

from __future__ import annotations

import re
import tomllib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from snapdelta import timescale
from snapdelta.errors import MigrationSettingError
from snapdelta.timescale.levels import SCANNER, rules
from snapdelta.timescale.settings import Settings
from snapdelta.timescale.tables import AGGREGATE_KEYS, TABLE_KEYS, Order, read_tables
from timescale.test_cli import run
from timescale.test_tables import FILE

NOWHERE = "postgresql://nobody@127.0.0.1:1/never_opened"


def one(**keys: Any) -> dict[str, Any]:
    return {"tables": {"events": keys}}


def over(**keys: Any) -> dict[str, Any]:
    """A table with one aggregate of these keys."""
    return one(
        drop_after="3 days", segment_by=["symbol"], compress_after="2 hours",
        aggregates={"events_1min": {"bucket": "1 minute", "columns": {"price": "last"}, **keys}},
    )  # fmt: skip


AT = "tables.events.aggregates.events_1min"
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "unknown key": (one(segmentby=["a"]), "tables.events: unknown key 'segmentby'; did you mean 'segment_by'?"),
    "unknown key of the file": ({"table": {}}, "^unknown key 'table'; did you mean 'tables'?"),
    "no period": (one(chunk="soon"), "tables.events.chunk = 'soon' is not a period"),
    "a number": (one(drop_after=3), "tables.events.drop_after must be a period like '3 days', not 3"),
    "no list": (one(segment_by="a"), "tables.events.segment_by must be a list of columns"),
    "a column twice": (one(segment_by=["a"], order_by=["a"]), "tables.events.*'a' is named twice"),
    "columns without compression": (one(segment_by=["a"]), "tables.events.segment_by needs compress_after"),
    "a text for an order": (one(order_by="time"), "tables.events.order_by must be a list"),
    "a name too long": (one(time_column="t" * 64), "tables.events.time_column: the name .* longer than 63 bytes"),
    "an empty name": ({"tables": {"": {}}}, "must be a name"),
    "the scanner's": ({"tables": {"scan_results": {}}}, "tables.scan_results: .* its periods are settings"),
    "our own": ({"tables": {"snapdelta_migrations": {}}}, "tables.snapdelta_migrations: .* reserved"),
    "no table": ({"tables": {"events": 1}}, "tables.events must be a table, not 1"),
    "no word on the conversion": (one(convert="yes"), "tables.events.convert must be true or false"),
    "no scanner": ({"scanner": "no"}, "scanner must be false, or a table of periods"),
    "no bucket": (one(aggregates={"a": {"columns": {}}}), "tables.events.aggregates.a needs the key 'bucket'"),
    "no function": (over(columns={"price": ["median"]}), f"{AT}.columns.price: 'median' is not a function; known are first"),
    "no functions": (over(columns={"price": []}), f"{AT}.columns.price must be a list of functions"),
    "a function twice": (over(columns={"price": ["last", "last"]}), f"{AT}: the column 'price_last' is named twice"),
    "the name of the bucket": (over(group_by=["bucket"]), f"{AT}: the column 'bucket' is named twice"),
    "a segment that is no group": (over(compress_after="3 days", segment_by=["kind"]), f"{AT}: .* 'kind' is not one"),
    "a bucket wider than a chunk": (over(bucket="2 days", chunk="1 day"), f"{AT}.chunk must be at least the bucket"),
    "one name twice": (one(aggregates={"events": {"bucket": "1 day", "columns": {}}}), "'events' is declared twice"),
}  # fmt: skip


@pytest.mark.parametrize(("declared", "sentence"), WRONG.values(), ids=WRONG.keys())
def test_wrong_settings_name_table_and_key(declared: dict[str, Any], sentence: str) -> None:
    with pytest.raises(MigrationSettingError, match=sentence):
        read_tables(declared)


BROKEN: dict[str, tuple[dict[str, Any], str]] = {
    "chunks wider than what is kept": (one(chunk="7 days", drop_after="3 days"), "tables.events.chunk"),
    "compressed after it is dropped": (one(compress_after="4 days", drop_after="3 days"), "tables.events.compress_after"),
    "a refresh behind the rows": (over(refresh_start="3 days"), "tables.events.drop_after"),
    "no window": (over(refresh_start="2 minutes"), f"{AT}.refresh_start"),
    "compressed while refreshed": (over(compress_after="1 day"), f"{AT}.compress_after"),
    "an aggregate that dies first": (over(drop_after="2 days"), f"{AT}.drop_after"),
    "an aggregate dropped within its window": (
        one(aggregates={"a": {"bucket": "1 hour", "columns": {}, "chunk": "1 day", "drop_after": "2 days"}}),
        "tables.events.aggregates.a.drop_after",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("declared", "left"), BROKEN.values(), ids=BROKEN.keys())
def test_periods_that_lose_history_are_refused(declared: dict[str, Any], left: str) -> None:
    tables = read_tables({**declared, "scanner": False})
    with pytest.raises(MigrationSettingError, match=f"^{left} .* must be"):
        timescale.up(NOWHERE, tables=tables)
    planned = [found for found in timescale.plan(tables=tables) if found.severity is timescale.Severity.FAULT]
    assert [found.check.split()[0] for found in planned] == [left]


def test_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(FILE)
    tables = timescale.load_tables(path)
    events, bars = tables.tables
    assert (events.name, events.level.time_column, tables.scanner) == ("market_events", "ts", False)
    assert events.compression.order_by == (Order("ts", descending=True, nulls_first=True),)
    assert bars.level.drop_after is None
    assert tables.periods["tables.market_events.drop_after"] == timedelta(days=3)
    (aggregate,) = events.aggregates
    assert aggregate.columns == (
        ("price", "first"), ("price", "max"), ("price", "min"), ("price", "last"), ("price", "avg"),
        ("size", "sum"), ("size", "count"),
    )  # fmt: skip
    assert aggregate.level.refresh is not None
    assert tables.periods[aggregate.level.refresh.start] == timedelta(days=2)
    tables.require_rules()
    text = read_tables(one(order_by=["a b ASC NULLS FIRST", "c"], compress_after="1 hour")).tables[0]
    assert text.compression.order_by[:2] == (Order("a b", False, True), Order("c", False, False))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("tables = ", "is not TOML"),
        ("[tool.other]", "has neither a table"),
        ("timescale = 5", r"\[timescale\]: must be a table, not 5"),
        ("[timescale.tables.events]\nchunk = 1", r"\[timescale\]: tables.events.chunk"),
        ('[timescale.tables."a.b"]\nchunk = 1', r'\[timescale\]: tables."a.b".chunk'),
    ],
)
def test_the_file_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    path = tmp_path / "settings.toml"
    path.write_text(text)
    with pytest.raises(MigrationSettingError, match=f"settings.toml: {sentence}"):
        timescale.load_tables(path)
    with pytest.raises(MigrationSettingError, match=r"nothing.toml: cannot be read"):
        timescale.load_tables(tmp_path / "nothing.toml")


def test_one_arithmetic_for_all_tables() -> None:
    """Levels of the scanner's shape, declared in a file, come to the scanner's rules."""
    periods = Settings()
    raw, minute = SCANNER[0], SCANNER[3]
    assert [rule.left for rule in rules([raw, minute]) if rule.broken(periods.periods)] == []
    renamed = {
        rule.left.replace("raw_", "").replace("minute_", "") + rule.operator for rule in rules([raw, minute])
    }
    tables = read_tables(over(compress_after="3 days", drop_after="30 days"))
    assert {
        rule.left.rsplit(".", 1)[1].replace("drop_after", "retention") + rule.operator
        for rule in rules(tables.levels)
    } == renamed


def test_schedules_of_all_tables() -> None:
    tables = read_tables({"scanner": {"raw_retention": "4 days"}, "retention_every": "2 hours", "tables": {}})
    assert tables.chosen({"raw_chunk": "30 minutes"})["retention_every"] == timedelta(hours=2)
    assert tables.chosen({"retention_every": "3 hours"})["raw_retention"] == timedelta(days=4)
    assert tables.chosen({"retention_every": "3 hours"})["retention_every"] == timedelta(hours=3)
    with pytest.raises(MigrationSettingError, match="compress_every = '5' is not a period"):
        read_tables({"compress_every": 5})
    with pytest.raises(MigrationSettingError, match="raw_chunk is a period of the scanner's tables"):
        timescale.up(NOWHERE, {"raw_chunk": "1 hour"}, tables=read_tables({"scanner": False}))


def test_plan_on_the_command_line(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(FILE)
    good = run("plan", "--config", str(path))
    assert good.returncode == 0, good.stderr
    assert "nothing is dropped: minute_bars" in good.stdout
    path.write_text(FILE.replace('drop_after = "3 days"', 'drop_after = "2 days"'))
    assert run("plan", env={"SNAPDELTA_CONFIG": str(path)}).returncode == 1
    refused = run("up", "--dsn", NOWHERE, "--config", str(path))
    assert refused.returncode == 2
    assert "tables.market_events.drop_after" in refused.stderr
    path.write_text(FILE)
    rewritten = run("up", "--rewrite", "--dsn", NOWHERE, "--config", str(path))
    assert rewritten.returncode == 2
    assert "scanner = false" in rewritten.stderr
    printed = run("up", "--dry-run", "--config", str(path))
    assert (printed.returncode, printed.stdout) == (0, "")
    assert "follow this SQL" in printed.stderr


def test_the_documented_file_and_defaults() -> None:
    document = (Path(__file__).parents[2] / "docs" / "timescaledb.md").read_text(encoding="utf-8")
    section = document.split("## Tables of your own")[1].split("\n## ")[0]
    (example,) = re.findall(r"^```toml\n(.*?)^```", section, re.MULTILINE | re.DOTALL)
    tables = read_tables(tomllib.loads(example)["tool"]["snapdelta"]["timescale"])
    assert not [
        found for found in timescale.plan(tables=tables) if found.severity is timescale.Severity.FAULT
    ]
    documented = {
        name
        for names in re.findall(r"^\| ([^|]+) \|", section, re.MULTILINE)
        for name in re.findall(r"`(\w+)`", names)
    }
    assert documented == {*TABLE_KEYS, *AGGREGATE_KEYS}


DAY = timedelta(days=1)


@pytest.mark.parametrize(
    ("bucket", "periods"),
    [
        (timedelta(minutes=1), (2 * DAY, timedelta(minutes=5), DAY)),
        (timedelta(minutes=15), (2 * DAY, timedelta(minutes=15), DAY)),
        (timedelta(hours=1), (2 * DAY, timedelta(hours=1), 7 * DAY)),
        (DAY, (4 * DAY, timedelta(hours=1), 30 * DAY)),
    ],
)
def test_defaults_follow_the_bucket(bucket: timedelta, periods: tuple[timedelta, ...]) -> None:
    text = f"{bucket.total_seconds():.0f} seconds"
    tables = read_tables(one(aggregates={"a": {"bucket": text, "columns": {}}}))
    refresh = tables.levels[1].refresh
    assert refresh is not None
    names = (refresh.start, refresh.every, tables.levels[1].chunk)
    assert tuple(tables.periods[name] for name in names) == periods
    assert tables.periods[refresh.end] == bucket
    tables.require_rules()
