"""The contenders of the benchmarks: each reads what it wrote, and what is lost or better is named."""

from __future__ import annotations

import sys
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import orjson
import pytest

from benches import bounds, performance_page, side_by_side
from benches.contenders import CONTENDERS, OURS, Contender, slice_contenders
from benches.side_by_side import Case, Measured
from snapdelta.testing.compare import first_difference
from snapdelta.testing.feed import Feed
from support.documents import ROOT

# Twenty seconds apart, so that symbols come and go.
PREV, CURR = islice(Feed("enriched", 300, interval=20.0), 2)


@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda contender: contender.name)
def test_a_contender_reads_what_it_wrote(contender: Contender) -> None:
    written = contender.writer([PREV])(CURR)
    assert first_difference(CURR, contender.reader([PREV])(written)) is None
    if contender.makes_delta:
        assert len(written) < 0.7 * len(orjson.dumps(CURR))


def lossy(name: str, read: Any) -> Contender:
    return Contender(name, True, lambda before: lambda curr: b"1234", lambda before: lambda frame: read)


def refuses(curr: dict[str, Any]) -> bytes:
    raise ValueError("no such value")


def test_what_is_lost_is_named_and_what_cannot_be_carried_is_left_out(
    capsys: pytest.CaptureFixture[str],
) -> None:
    turned = dict(reversed(CURR.items()))
    contenders = [
        CONTENDERS[0],
        lossy("turns", turned),
        lossy("forgets", {}),
        replace(CONTENDERS[0], name="refuses", writer=lambda before: refuses),
    ]
    measured = side_by_side.measure(Case("tiny", lambda: iter([PREV, CURR]), lambda: contenders))
    assert {each.name: each.inexact for each in measured} == {
        OURS: None,
        "turns": "loses the order",
        "forgets": "changes values",
    }
    assert measured[0].write_ratio == measured[0].read_ratio == 1
    assert measured[1].size == 4
    assert "refuses cannot carry it: no such value" in capsys.readouterr().err
    # Neither is better: it is not exact.
    assert side_by_side.better(measured) == ["tiny: none."]


def measured(name: str, **changes: Any) -> Measured:
    ours = Measured("case", OURS, True, 100.0, 2.0, 1.0, 1.0, 1.0, None)
    return replace(ours, name=name, **changes)


def test_a_contender_that_is_better_at_anything_is_named() -> None:
    smaller = measured("small", size=99.0)
    fast = measured("fast", size=110.0, write_ratio=2.0, read_ratio=0.5)
    assert side_by_side.better([measured(OURS), smaller, fast]) == [
        "case: smaller: small (99 B); written faster: fast (0.50 of our time)."
    ]


def test_measured_cases_are_kept_and_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "peers.json"
    side_by_side.save([measured(OURS), measured("orjson", makes_delta=False)], path)
    assert side_by_side.load(path) == [measured(OURS), measured("orjson", makes_delta=False)]
    assert side_by_side.main(["show", str(path)]) == 0
    assert "| orjson | 100 | 2 ms | 1.00 | 1 ms | 1.00 |  |" in capsys.readouterr().out
    assert side_by_side.main(["measure", str(path), "no such case"]) == 2


@pytest.mark.parametrize("share", [0.0, 0.17, 1.0])
def test_a_share_of_the_cells_changes(share: float) -> None:
    *_, prev, curr = side_by_side.wide_frames(200, 50, share)
    changed = sum(prev[row][field] != curr[row][field] for row in prev for field in prev[row])
    assert abs(changed / 10_000 - share) < 0.01


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepdiff", None)
    with pytest.raises(SystemExit, match="deepdiff is missing: pip install --group bench"):
        slice_contenders()


def test_instructions_are_counted_by_library(tmp_path: Path) -> None:
    """Two objects of callgrind's format: a name's second use is its number, calls are inclusive."""
    profile = tmp_path / "x.callgrind"
    profile.write_text(
        "events: Ir\nob=(1) /usr/bin/python3.11\nfn=(1) a\n1 100\ncob=(2) /x/_native.so\n"
        "cfn=(2) b\ncalls=1 0\n1 900\n+1 10\nob=(2)\nfn=(2)\n0 900\nsummary: 1010\n"
    )
    assert bounds._by_library(profile) == {"CPython": 110, "the Rust core": 900}


@pytest.mark.parametrize("document", performance_page.DOCUMENTS, ids=lambda path: path.name)
def test_the_figures_of_a_document_are_those_of_the_saved_runs(document: Path) -> None:
    # After a new run: make performance
    text = document.read_text(encoding="utf-8")
    assert "<!-- saved: " in text
    assert performance_page.fill(text) == text


def test_the_plots_are_those_of_the_saved_runs() -> None:
    drawn = {path.name: path.read_text() for path in performance_page.PLOTS.glob("*.svg")}
    assert drawn == performance_page.plots()
    page = performance_page.DOCUMENTS[0].read_text()
    assert {name for name in drawn if f"(performance/{name})" in page} == drawn.keys()


def test_every_block_is_on_the_page() -> None:
    page = performance_page.DOCUMENTS[0].read_text() + (ROOT / "README.md").read_text()
    assert [name for name in performance_page.blocks() if f"<!-- saved: {name} -->" not in page] == []
