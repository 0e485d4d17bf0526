"""The tools of the benchmarks: heaps, peers, pairs and the comparison with a saved run."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import islice, pairwise
from pathlib import Path
from statistics import median
from typing import Any

import pytest

from benches import adversarial, corpora, guard, peers, results, size_cases, sizes
from benches.guard_workload import CALLS, FRAMES, works
from benches.heap import HEAPS, fragmented, rebuilt
from benches.pairs import Timing
from snapdelta import Decoder, Encoder
from snapdelta.testing.compare import first_difference
from snapdelta.testing.feed import Feed
from support.roundtrip import Stream

RESULT = results.Result("speed", "encode", 5.0, 10.0, "ms", 0.5, 0.6, "orjson")


@pytest.mark.parametrize("heap", HEAPS)
def test_all_heaps_hold_the_same(heap: str) -> None:
    snapshot = next(Feed("enriched", 300))
    made = HEAPS[heap](snapshot)
    assert first_difference(snapshot, made) is None
    for symbol, record in made.items():
        assert record["lastTrade"]["p"] is not snapshot[symbol]["lastTrade"]["p"]
        # A parser has key objects of its own.
        assert heap == "parsed" or all(a is b for a, b in zip(record, snapshot[symbol], strict=True))


def test_a_fragmented_heap_is_one() -> None:
    """Values of neighbouring records lie side by side in a rebuilt snapshot, anywhere in a fragmented one."""

    def distance(snapshot: dict[str, Any]) -> float:
        addresses = [id(record["price"]) for record in snapshot.values()]
        return median(abs(a - b) for a, b in pairwise(addresses))

    snapshot = next(Feed("ranked", 4_000))
    assert distance(fragmented(snapshot)) > 20 * distance(rebuilt(snapshot))


def test_heaps_refuse_what_they_cannot_make_anew() -> None:
    with pytest.raises(TypeError, match="complex"):
        rebuilt({"A": {"x": 1j}})


@pytest.mark.parametrize("kind", ["nested", "ranked"])
def test_the_field_diff_is_a_fair_peer(kind: Any) -> None:
    for prev, curr in pairwise(islice(Feed(kind, 1_500, interval=20.0), 8)):
        assert first_difference(curr, peers.apply_field_diff(prev, peers.field_diff(prev, curr))) is None


def test_the_prefix_peer_needs_less_than_a_whole_frame() -> None:
    prev, curr = (peers.msgpack(frame) for frame in islice(Feed("nested", 500), 2))
    assert len(peers.zstd_prefix(prev, curr, 19)) < 0.2 * len(peers.zstd_prefix(b"", curr, 19))


def test_the_ratio_is_the_median_of_the_pairs() -> None:
    assert Timing([1.0, 9.0, 1.0], [2.0, 1.0, 4.0]).ratio == 0.5


def test_results_are_kept_and_shown(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "run.json"
    results.save([RESULT, replace(RESULT, name="diff", target=None)], path)
    assert results.load(path) == [RESULT, replace(RESULT, name="diff", target=None)]
    assert "| encode | 5 ms | 10 ms | orjson | 0.500 | 0.6 |" in results.tables(path)
    assert set(json.loads(path.read_text())["environment"]) >= {"python", "orjson", "snapdelta-rs"}


@pytest.mark.parametrize(("ratio", "status"), [(0.45, 0), (0.54, 0), (0.56, 1)])
def test_a_ratio_a_tenth_worse_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], ratio: float, status: int
) -> None:
    saved, new = tmp_path / "saved.json", tmp_path / "new.json"
    results.save([RESULT], saved)
    results.save([replace(RESULT, ratio=ratio)], new)
    assert results.main(["compare", str(saved), str(new)]) == status
    assert ("speed: encode / orjson: 0.560, was 0.500" in capsys.readouterr().out) is bool(status)


def test_figures_go_into_a_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document, run = tmp_path / "README.md", tmp_path / "run.json"
    results.save([RESULT, replace(RESULT, name="diff"), replace(RESULT, name="apply")], run)
    shown = results.tables(run).replace("| apply | 5 ms | 10 ms | orjson | 0.500 | 0.6 |\n", "")
    document.write_text(f"before\n<!-- measured -->\n{shown}\n<!-- /measured -->\nafter\n")
    results.save([replace(RESULT, name="diff", ratio=0.25), RESULT, replace(RESULT, name="apply")], run)
    assert results.main(["fill", str(document), str(run)]) == 0
    text = document.read_text()
    assert text.startswith("before\n<!-- measured -->\npython ")
    assert text.endswith("<!-- /measured -->\nafter\n")
    assert "| encode | 5 ms | 10 ms | orjson | 0.500 | 0.6 |" in text
    assert "| diff | 5 ms | 10 ms | orjson | 0.250 | 0.6 |" in text
    assert text.count("apply") == shown.count("apply")
    results.save([RESULT], run)
    assert results.main(["fill", str(document), str(run)]) == 1
    assert capsys.readouterr().err.startswith("no longer measured:\n| diff |")
    assert document.read_text() == text


def test_a_result_that_is_gone_fails(tmp_path: Path) -> None:
    saved, new = tmp_path / "saved.json", tmp_path / "new.json"
    results.save([RESULT], saved)
    results.save([], new)
    assert results.main(["compare", str(saved), str(new)]) == 1


def test_a_ratio_that_was_worse_once_is_noise(tmp_path: Path) -> None:
    saved, new, again = (tmp_path / name for name in ("saved.json", "new.json", "again.json"))
    results.save([RESULT, replace(RESULT, name="diff")], saved)
    results.save([replace(RESULT, ratio=0.9), replace(RESULT, name="diff")], new)
    results.save([replace(RESULT, ratio=0.52)], again)
    assert results.main(["compare", str(saved), str(new)]) == 1
    assert results.main(["compare", str(saved), str(new), str(again)]) == 0


def test_a_wrong_call_says_how(capsys: pytest.CaptureFixture[str]) -> None:
    assert results.main(["print"]) == 2
    assert "compare SAVED NEW…" in capsys.readouterr().err


CASES = ["decimal_floats", "decimal_strings", "book_of_keys", "lists_of_levels", "added_rows", "adversarial"]


@pytest.mark.parametrize("corpus", CASES)
def test_a_case_is_the_same_in_every_run_and_carried_exactly(corpus: str) -> None:
    encoder, decoder = Encoder(level=3), Decoder()
    count = 0
    for first, second in zip(corpora.frames(corpus), corpora.frames(corpus), strict=True):
        assert first_difference(first, second) is None
        decoder.apply(encoder.encode(first))
        assert first_difference(second, decoder.snapshot()) is None
        count += 1
    assert count > 1


def test_one_value_changes_in_each_frame_of_its_corpus() -> None:
    frames = list(size_cases.one_value())
    assert len(frames) > 3
    for before, after in pairwise(frames):
        assert list(before) == list(after)
        (symbol,) = (symbol for symbol in after if after[symbol] is not before[symbol])
        assert first_difference(before[symbol], after[symbol]) is not None
        old, new = leaf_values(before[symbol]), leaf_values(after[symbol])
        assert sum(a != b for a, b in zip(old, new, strict=True)) == 1


def leaf_values(value: Any) -> list[Any]:
    return [leaf for v in value.values() for leaf in leaf_values(v)] if type(value) is dict else [value]


def test_a_ranking_is_the_head_of_the_ranked_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    ranked = list(islice(Feed("ranked", 300), 3))
    monkeypatch.setattr(size_cases, "_ranked", lambda: ranked)
    for whole, head in zip(ranked, size_cases.ranking(20), strict=True):
        assert list(whole.items())[:20] == list(head.items())


def test_adversarial_columns_are_near_a_formula_and_not_on_it() -> None:
    for frame in islice(adversarial.frames(), 3):
        records = frame.values()
        right = sum(record["nearly"] == round(record["a"] + record["b"], 2) for record in records)
        assert 0.6 < right / len(frame) < 0.8
        right = sum(record["on_samples"] == round(record["a"] - record["b"], 2) for record in records)
        assert 0.2 < right / len(frame) < 0.25
        assert all(record["x"] == round(record["y"] + record["z"], 2) for record in records)


def test_the_second_decoder_reads_the_adversarial_feed() -> None:
    stream = Stream()
    for frame in adversarial.frames(200):
        stream.step(frame)


def test_targets_are_of_corpora() -> None:
    recorded = {"goog", "krakenfut", "opensky", "polymarket"}
    assert corpora.TARGETS.keys() <= {*corpora.FEEDS, *corpora.SIZE_CORPORA, *recorded}
    others = {t.corpus for t in corpora.TARGETS.values() if isinstance(t, corpora.RatioToCorpus)}
    assert others <= corpora.SIZE_CORPORA.keys()


@pytest.fixture
def small_corpus(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Gives the corpus `small`; returns the folder of the peer's sizes."""
    monkeypatch.setitem(corpora.SIZE_CORPORA, "small", lambda: islice(Feed("nested", 60), 4))
    monkeypatch.setattr(sizes, "CACHE", tmp_path / "zstd19")
    return tmp_path / "zstd19"


def test_sizes_of_the_peer_are_kept_by_the_frames(
    small_corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    packed = [peers.msgpack(frame) for frame in corpora.frames("small")]
    measured = [len(peers.zstd_prefix(prev, curr, 19)) for prev, curr in pairwise(packed)]
    assert sizes.prefix_sizes("small") == measured
    (kept,) = small_corpus.iterdir()
    kept.write_text("[1, 2, 3]")
    assert sizes.prefix_sizes("small") == [1, 2, 3]
    monkeypatch.setitem(corpora.SIZE_CORPORA, "small", lambda: islice(Feed("nested", 60, seed=1), 4))
    assert sizes.prefix_sizes("small") != [1, 2, 3]
    assert len(list(small_corpus.iterdir())) == 2


@pytest.mark.parametrize(
    ("target", "own", "says"),
    [
        (corpora.Ratio(0.5), [30, 20], ("<= 0.5", "met")),
        (corpora.Ratio(0.49), [30, 20], ("<= 0.49", "missed")),
        (corpora.RatioToCorpus(1.1, "other"), [30, 25], ("<= 1.1 x other", "met: 1.100")),
        (corpora.RatioToCorpus(1.1, "other"), [30, 26], ("<= 1.1 x other", "missed: 1.120")),
        (corpora.LargestDelta(30), [30, 20], ("<= 30 B a delta", "met: 30 B")),
        (corpora.LargestDelta(29), [30, 20], ("<= 29 B a delta", "missed: 30 B")),
    ],
)
def test_a_target_is_met_or_missed(target: corpora.Target, own: list[int], says: tuple[str, str]) -> None:
    assert sizes.outcome_of(target, own, sum(own) / 100, {"other": 50}.__getitem__) == says


def test_the_size_table_shows_a_corpus_a_line(
    small_corpus: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(corpora.TARGETS, "small", corpora.Ratio(100.0))
    assert sizes.main(["small"]) == 0
    own, peer = (sum(map(len, sizes.deltas("small"))), sum(sizes.prefix_sizes("small")))
    head, line = capsys.readouterr().out.splitlines()
    assert head.split() == ["corpus", "deltas", "bytes", "zstd-19", "ratio", "target"]
    assert line.split() == ["small", "3", f"{own:,}", f"{peer:,}", f"{own / peer:.4f}", "<=", "100", "met"]


def test_the_size_table_names_a_corpus_that_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    assert sizes.main(["enriched", "top_21"]) == 2
    assert capsys.readouterr().err.startswith("sizes: no corpus top_21; there are nested, enriched, ")


KEPT = {"encode / orjson.dumps": 1.0, "nested: 13 deltas, bytes": 70_000.0}


@pytest.mark.parametrize(
    ("name", "factor", "says"),
    [
        ("encode / orjson.dumps", 1.10, ["encode / orjson.dumps: 1.1, kept 1 (+10.0%)"]),
        ("nested: 13 deltas, bytes", 1.05, ["nested: 13 deltas, bytes: 7.35e+04, kept 7e+04 (+5.0%)"]),
        ("encode / orjson.dumps", 1.049, []),
        ("encode / orjson.dumps", 0.5, []),
    ],
)
def test_the_guard_names_what_is_a_twentieth_worse(name: str, factor: float, says: list[str]) -> None:
    assert guard.worse(KEPT, {**KEPT, name: KEPT[name] * factor}) == says


def test_the_guard_names_figures_without_a_counterpart() -> None:
    assert guard.worse({"a": 1.0}, {"b": 1.0}) == ["a: not measured", "b: not kept; run `make bench-keep`"]


def test_the_guard_keeps_a_figure_for_each_operation_and_feed() -> None:
    kept = json.loads(guard.FIGURES.read_text())
    assert {f"{name} / {peer}" for name, peer in guard.PEERS.items()} <= kept.keys()
    assert guard.measure_sizes().keys() <= kept.keys()


def test_the_workload_runs_each_operation_of_the_guard() -> None:
    frames = list(islice(Feed("nested", 20), FRAMES))
    made = dict(works(frames))
    assert made.keys() == {*guard.PEERS, *guard.PEERS.values()}
    for prepare in made.values():
        work = prepare()
        for number in range(CALLS + 1):
            work(number)
