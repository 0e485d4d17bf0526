"""What is measured: the three simulated feeds, and recordings where a folder of them is given."""

from __future__ import annotations

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

from snapdelta.testing.feed import Feed, Kind, read_recording

Snapshot = dict[str, Any]

# Half a minute; its first delta begins a minute, which makes it larger than most.
FEED_FRAMES = 7
FEEDS: tuple[Kind, ...] = ("nested", "enriched", "ranked")


def recordings() -> dict[str, Path]:
    """The recordings in the folder that RECORDINGS names, by the first word of the file name."""
    folder = os.environ.get("RECORDINGS", "")
    return {p.name.split("_")[0]: p for p in sorted(Path(folder).glob("*.ndjson.zst"))} if folder else {}


def names() -> list[str]:
    return [*FEEDS, *recordings()]


def frames(name: str) -> Iterator[Snapshot]:
    """All frames of a corpus, in order."""
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
