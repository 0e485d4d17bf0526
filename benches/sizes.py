"""Sizes of deltas: ours, beside those of zstd-19, which are kept on disk because they take minutes.

python -m benches.sizes [CORPUS ...]      one table; without names, of every corpus

Sums over all frames but the first, at level 3. The peer is zstd-19 of msgpack, with the previous frame as
prefix.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import cache
from hashlib import blake2b
from itertools import pairwise
from pathlib import Path

import orjson
import zstandard

import snapdelta
from benches import corpora, peers
from benches.corpora import LargestDelta, Ratio, RatioToCorpus, Target

CACHE = Path(__file__).parents[1] / ".benchmarks" / "zstd19"
_LEVEL = 19
_ROW = "{:16} {:>6} {:>11} {:>11} {:>10}   {:26} {}"


def deltas(corpus: str) -> list[bytes]:
    """Every frame through Encoder and Decoder, checked; the bytes of all but the first."""
    encoder, decoder = snapdelta.Encoder(level=3), snapdelta.Decoder()
    sent = []
    for snapshot in corpora.frames(corpus):
        sent.append(encoder.encode(snapshot))
        decoder.apply(sent[-1])
        assert orjson.dumps(decoder.snapshot()) == orjson.dumps(snapshot)
    return sent[1:]


def prefix_sizes(corpus: str) -> list[int]:
    """Bytes of zstd-19 for each frame but the first; a hash of the frames names the file on disk."""
    key = blake2b(repr((zstandard.ZSTD_VERSION, _LEVEL)).encode(), digest_size=16)
    for snapshot in corpora.frames(corpus):
        key.update(blake2b(peers.msgpack(snapshot)).digest())
    path = CACHE / f"{key.hexdigest()}.json"
    if path.exists():
        kept: list[int] = json.loads(path.read_text())
        return kept
    packed = map(peers.msgpack, corpora.frames(corpus))
    sizes = [len(peers.zstd_prefix(prev, curr, _LEVEL)) for prev, curr in pairwise(packed)]
    CACHE.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(sizes))
    return sizes


def outcome_of(
    target: Target, own: list[int], ratio: float | None, size_of: Callable[[str], int]
) -> tuple[str, str]:
    """(the target in words, met or missed); the figure follows where the table has no column for it."""
    match target:
        case Ratio(limit):
            assert ratio is not None
            return f"<= {limit:g}", "met" if ratio <= limit else "missed"
        case RatioToCorpus(limit, other):
            figure = sum(own) / size_of(other)
            return f"<= {limit:g} x {other}", f"{'met' if figure <= limit else 'missed'}: {figure:.3f}"
        case LargestDelta(limit):
            return f"<= {limit} B a delta", f"{'met' if max(own) <= limit else 'missed'}: {max(own)} B"


def main(chosen: list[str]) -> int:
    known = [*corpora.names(), *corpora.SIZE_CORPORA]
    unknown = [name for name in chosen if name not in known]
    if unknown:
        print(f"sizes: no corpus {', '.join(unknown)}; there are {', '.join(known)}", file=sys.stderr)
        return 2

    @cache
    def own_sizes(corpus: str) -> list[int]:
        return [len(delta) for delta in deltas(corpus)]

    print(_ROW.format("corpus", "deltas", "bytes", "zstd-19", "ratio", "target", "").rstrip())
    for corpus in chosen or known:
        own, target = own_sizes(corpus), corpora.TARGETS.get(corpus)
        # A few bytes beside ten megabytes: the peer takes a minute and says nothing.
        peer = None if isinstance(target, LargestDelta) else sum(prefix_sizes(corpus))
        ratio = None if peer is None else sum(own) / peer
        shown = ("-", "-") if peer is None else (f"{peer:,}", f"{ratio:.4f}")
        outcome = ("", "") if target is None else outcome_of(target, own, ratio, lambda c: sum(own_sizes(c)))
        print(_ROW.format(corpus, len(own), f"{sum(own):,}", *shown, *outcome).rstrip(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
