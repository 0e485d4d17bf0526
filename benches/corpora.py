"""What is measured: simulated feeds and cases, recordings where a folder of them is given, and targets."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from benches import adversarial, size_cases
from snapdelta.testing.feed import (
    Aircraft,
    ExchangeTickers,
    Feed,
    Kind,
    OrderBooks,
    StockList,
    read_recording,
)

Snapshot = dict[str, Any]

# Half a minute; its first delta begins a minute, which makes it larger than most.
FEED_FRAMES = 7
FEEDS: tuple[Kind, ...] = ("nested", "enriched", "ranked")
_SHORT_FEED_FRAMES = 13


@dataclass(frozen=True)
class Ratio:
    """All deltas together are at most `limit` of zstd-19 with the previous frame as prefix."""

    limit: float


@dataclass(frozen=True)
class RatioToCorpus:
    """All deltas together are at most `limit` of those of another corpus."""

    limit: float
    corpus: str


@dataclass(frozen=True)
class LargestDelta:
    """No delta has more bytes than `limit`."""

    limit: int


Target = Ratio | RatioToCorpus | LargestDelta

# Measured by size only, beside the feeds and the recordings.
SIZE_CORPORA: dict[str, Callable[[], Iterator[Snapshot]]] = {
    "tickers": lambda: islice(ExchangeTickers(), _SHORT_FEED_FRAMES),
    "book_lists": lambda: islice(OrderBooks("lists"), _SHORT_FEED_FRAMES),
    "book_dicts": lambda: islice(OrderBooks("dicts"), _SHORT_FEED_FRAMES),
    "stock_list": lambda: islice(StockList(), _SHORT_FEED_FRAMES),
    "aircraft": lambda: islice(Aircraft(), _SHORT_FEED_FRAMES),
    "top_20": partial(size_cases.ranking, 20),
    "top_100": partial(size_cases.ranking, 100),
    "one_value": size_cases.one_value,
    "unchanged": size_cases.unchanged,
    "decimal_floats": partial(size_cases.decimals, text=False),
    "decimal_strings": partial(size_cases.decimals, text=True),
    "book_of_keys": size_cases.book_of_keys,
    "lists_of_levels": size_cases.lists_of_levels,
    "added_rows": size_cases.added_rows,
    "adversarial": adversarial.frames,
}

TARGETS: dict[str, Target] = {
    "enriched": Ratio(0.155),
    "goog": Ratio(0.27),
    "polymarket": Ratio(0.34),
    "krakenfut": Ratio(1.05),
    "opensky": Ratio(0.90),
    "top_20": Ratio(0.85),
    "top_100": Ratio(0.45),
    "one_value": LargestDelta(80),
    # The header, and nothing else.
    "unchanged": LargestDelta(56),
    "decimal_strings": RatioToCorpus(1.1, "decimal_floats"),
    "book_of_keys": Ratio(1.35),
    "lists_of_levels": Ratio(1.35),
    "added_rows": Ratio(1.0),
}


def recordings() -> dict[str, Path]:
    """The recordings in the folder that RECORDINGS names, by the first word of the file name."""
    folder = os.environ.get("RECORDINGS", "")
    return {p.name.split("_")[0]: p for p in sorted(Path(folder).glob("*.ndjson.zst"))} if folder else {}


def names() -> list[str]:
    """The corpora of every benchmark; SIZE_CORPORA are further ones."""
    return [*FEEDS, *recordings()]


def frames(name: str) -> Iterator[Snapshot]:
    """All frames of a corpus, in order."""
    if name in SIZE_CORPORA:
        return SIZE_CORPORA[name]()
    for kind in FEEDS:
        if name == kind:
            return islice(Feed(kind), FEED_FRAMES)
    return (frame.snapshot for frame in read_recording(recordings()[name]))


def reranked() -> tuple[Snapshot, Snapshot, Snapshot]:
    """A ranking by score, the next frame in the same order, and the next frame ranked anew."""
    prev, curr = (dict(sorted(f.items(), key=_score, reverse=True)) for f in islice(Feed("enriched"), 2))
    still = {symbol: curr[symbol] for symbol in dict.fromkeys([*prev, *curr]) if symbol in curr}
    return prev, still, curr


def _score(item: tuple[str, dict[str, Any]]) -> float:
    score: float = item[1]["score"]
    return score
