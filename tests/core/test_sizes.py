"""Sizes on the simulated feed, the same on every machine; `make bench` measures the recordings as well."""

from __future__ import annotations

from itertools import islice, pairwise

import pytest

import snapdelta
from benches import corpora, peers, sizes
from benches.corpora import RatioToCorpus
from snapdelta.testing.feed import Feed
from support.assert_exact import assert_same


def test_a_delta_is_at_most_half_of_a_field_diff() -> None:
    ours = theirs = 0
    for prev, curr in pairwise(islice(Feed("enriched"), 3)):
        ours += len(snapdelta.diff(prev, curr))
        theirs += len(peers.field_diff(prev, curr))
    assert ours <= 0.5 * theirs


def test_a_full_frame_is_at_most_55_percent_of_msgpack_and_zstd() -> None:
    snapshot = next(Feed("enriched"))
    assert len(snapdelta.dumps(snapshot)) <= 0.55 * len(peers.msgpack_zstd3(snapshot))


def test_the_order_of_a_ranking_costs_at_most_6_kb() -> None:
    prev, still, curr = corpora.reranked()
    assert list(still) != list(curr)
    assert len(snapdelta.diff(prev, curr)) - len(snapdelta.diff(prev, still)) <= 6_000


def prefix_size(corpus: str) -> int:
    """Bytes of zstd-19 over all frames but the first, with the previous frame as prefix."""
    packed = map(peers.msgpack, corpora.frames(corpus))
    return sum(len(peers.zstd_prefix(prev, curr, 19)) for prev, curr in pairwise(packed))


@pytest.mark.parametrize("corpus", ["decimal_strings", "book_of_keys", "lists_of_levels", "added_rows"])
def test_a_case_reaches_its_target(corpus: str) -> None:
    """Numbers as text, order books both ways, and rows that come with text that others have."""
    target, own = corpora.TARGETS[corpus], list(map(len, sizes.deltas(corpus)))
    ratio = None if isinstance(target, RatioToCorpus) else sum(own) / prefix_size(corpus)
    outcome = sizes.outcome_of(target, own, ratio, lambda other: sum(map(len, sizes.deltas(other))))
    assert outcome[1].startswith("met"), f"{corpus}: {outcome}, {ratio}"


def test_what_a_tag_says_takes_no_copy() -> None:
    """Columns of nothing but None in added rows cost a byte each, however many others are the same."""
    columns = [f"f{i}" for i in range(30)]
    base = {f"S{row}": {"at": row, **dict.fromkeys(columns)} for row in range(20)}
    delta = snapdelta.diff(base, base | {f"N{row}": base["S1"] for row in range(4)})
    sizes_of = {column.name: column.size for column in snapdelta.inspect(delta, base=base).columns}
    assert {sizes_of[name] for name in columns} == {1}


def reports(rows: int, minute: int) -> peers.Snapshot:
    """Rows with long symbols and lists of which only the minute changes."""

    def report(row: int) -> list[dict[str, str]]:
        return [
            {"name": "cause", "value": f"fault {row * row}"},
            {"name": "seen", "value": f"03:{minute} AM"},
        ]

    return {f"incident {124_116_200 + row}": {"report": report(row)} for row in range(rows)}


def test_symbols_of_few_added_rows_go_with_the_text() -> None:
    base, state = reports(40, 10), reports(42, 10)
    delta = snapdelta.diff(base, state)
    assert_same(snapdelta.apply(base, delta), state)
    assert snapdelta.inspect(delta).sections["rows"] <= 2


@pytest.mark.parametrize("rows", [40, 900])
def test_text_and_small_bodies_are_compressed_hard_at_a_low_level(rows: int) -> None:
    base, state = reports(rows, 10), reports(rows, 14)
    deltas = {level: snapdelta.diff(base, state, level=level) for level in (1, 3, 7, 19)}
    for delta in deltas.values():
        assert_same(snapdelta.apply(base, delta), state)
    assert deltas[1] == deltas[3] == deltas[7]
    assert len(deltas[19]) <= len(deltas[1])
