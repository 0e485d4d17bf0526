"""The soak: a tiny run from end to end, what makes it fail, growth, and the table."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from benches.soak import __main__ as command
from benches.soak import ways
from benches.soak.growth import Growth, growth
from benches.soak.plan import Plan, SoakError
from benches.soak.runner import Stage, play
from benches.soak.saved import Run
from benches.soak.table import rows
from benches.soak.ways import WAYS
from benches.svg import line_chart
from support.servers import Server, on_one_server

FRAMES = 6
TINY = Plan("fast", FRAMES, 60)


@pytest.fixture(scope="module")
def run() -> Run:
    lines: list[str] = []
    played = play(TINY, lines.append)
    assert lines[-1].startswith(f"fast: frame {FRAMES} of {FRAMES}, ")
    return played


def test_every_way_holds_every_frame_in_a_tiny_run(run: Run, tmp_path: Path) -> None:
    assert (run.frames, run.planned, run.late) == (FRAMES, FRAMES, 0)
    assert run.checks >= 3 * FRAMES
    assert run.series.keys() == WAYS.keys()
    for series in run.series.values():
        assert len({len(values) for values in series.values()}) == 1
        assert series["raw_entries"][-1] == FRAMES
        assert series["delta_entries"][-1] == 6 * FRAMES
        assert min(series["received"]) > min(series["snapshot"]) > 0
    assert sum(run.series["after"]["snapshot"]) < sum(run.series["before"]["snapshot"])
    run.save(tmp_path / "run.json")
    assert Run.load(tmp_path / "run.json") == run


def test_the_table_says_what_a_short_run_cannot_tell(run: Run) -> None:
    met = {row.name: row.met for row in rows(run)}
    assert met["Redis memory, most"] == "met"
    assert met["growth an hour of Redis"] == met["TimescaleDB CPU"] == "not measured here"
    assert sum(name.startswith("TimescaleDB after") for name in met) == 2


def test_the_table_names_a_promise_that_is_missed(run: Run) -> None:
    after = {**run.series["after"], "redis": [151e6] * FRAMES, "raw_entries": [1_101.0] * FRAMES}
    missed = replace(run, series={**run.series, "after": after})
    met = {row.name: row.met for row in rows(missed)}
    assert met["Redis memory, most"] == met["entries of the raw stream, at the end"] == "**missed**"


def test_a_read_that_differs_ends_the_run() -> None:
    market = next(TINY.feed())
    with Stage("before", TINY) as stage:
        stage.send(b"no frame")
        with pytest.raises(SoakError, match="the writer of 'before' has failed"):
            stage.saved()
    with Stage("before", TINY) as stage, Redis.from_url(stage.url) as redis:
        redis.set("market", "{}")
        with pytest.raises(SoakError, match="before: market is not what was saved"):
            stage.check(TINY, market)


@on_one_server
@pytest.mark.parametrize("name", WAYS)
async def test_ranking_deltas_are_bounded_by_hand_and_after(
    name: str, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "DELTA_ENTRIES", 100)
    markets = list(islice(TINY.feed(), 2))
    async with server.client() as redis, WAYS[name](redis, "fast") as way:
        for number in range(40):
            market = markets[number % 2]
            await way.save(market, TINY.lists(market))
        entries = await redis.xlen(ways.DELTAS)
    # At most a node of the server, 100 entries, above the bound.
    assert entries == 240 if name == "before" else entries <= 200


@pytest.mark.parametrize("an_hour", [0.0, 3.0, -2.0])
def test_growth_is_found_within_its_interval(an_hour: float) -> None:
    noise = random.Random(5)
    hours = [number / 20 for number in range(480)]
    found = growth(hours, [100 + an_hour * hour + noise.gauss(0, 1) for hour in hours])
    assert found is not None
    assert abs(found.an_hour - an_hour) <= 2 * found.margin < 0.2
    assert found.is_none is (an_hour <= 0)


def test_the_warm_up_is_no_growth() -> None:
    hours = [number / 100 for number in range(200)]
    found = growth(hours, [min(hour, 0.2) for hour in hours])
    assert found is not None
    assert abs(found.an_hour) < 1e-9
    assert found.is_none
    assert growth(hours[:40], hours[:40]) is None


def test_what_does_not_grow_projects_to_what_it_is() -> None:
    assert Growth(0.5, 0.6).after(10.0, 100.0) == 10.0
    assert Growth(0.5, 0.1).after(10.0, 100.0) == 60.0
    assert Growth(-0.5, 0.1).after(10.0, 100.0) == 10.0


@pytest.mark.parametrize("changes", [{"frames": 1}, {"symbols": 19}, {"fields": 5}])
def test_a_plan_that_cannot_be_played_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(SoakError):
        replace(TINY, **changes)


def test_records_of_numbers_have_lists_too() -> None:
    plan = replace(TINY, fields=8)
    market = next(plan.feed())
    lists = plan.lists(market)
    assert len(market) == 60
    assert {len(record) for record in market.values()} == {8}
    assert len(lists) == 6
    (field,) = {name for name, rows in lists.items() if name == "score"}
    values = [record["field_0"] for record in lists[field].values()]
    assert values == sorted(values, reverse=True)


def test_a_saved_run_is_shown(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run.save(tmp_path / "run.json")
    assert command.main(["show", str(tmp_path / "run.json")]) == 0
    assert capsys.readouterr().out.count("\n| ") == len(rows(run)) + 1


def test_a_chart_has_a_line_a_series() -> None:
    for log in (False, True):
        text = line_chart("a < b", "hours", "MB", {"x": [(0, 1), (1, 30)], "y": [(0, 2), (1, 5)]}, log=log)
        assert text.count("stroke-width") == 2
        assert "a &lt; b" in text
