"""All contenders on the same frames: sizes, times, and whether what is read is exactly what was written.

python -m benches.side_by_side measure FILE [CASE ...]     measure, and save; without names, every case
python -m benches.side_by_side show FILE                   the tables
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice, pairwise
from pathlib import Path
from statistics import mean, median
from time import process_time
from typing import Any

import orjson

from benches import corpora, wide
from benches.contenders import CONTENDERS, OURS, Contender, slice_contenders
from benches.heap import HEAPS
from benches.results import environment
from benches.sizes import prefix_sizes
from benches.timing import quiet_collector
from snapdelta.testing.feed import Feed

Snapshot = dict[str, Any]

_DELTAS = 3
_ROUNDS = 3
_ZSTD19 = "msgpack, zstd-19 with prefix"
_SLICE = 200
_SHARES = (0.0, 0.01, 0.17, 1.0)
_SHAPES = ((1_000, 50), (12_600, 50))


@dataclass(frozen=True)
class Case:
    """Frames to measure: sizes over all deltas, times on the last one.

    corpus  whose zstd-19 sizes are kept on disk; None: they are measured
    """

    name: str
    frames: Callable[[], Iterator[Snapshot]]
    contenders: Callable[[], list[Contender]] = lambda: CONTENDERS
    corpus: str | None = None


@dataclass(frozen=True)
class Measured:
    """One contender on one case: bytes a frame, milliseconds, and what is not exact (None: nothing).

    `write_ratio` and `read_ratio` are ours / the contender's, medians over rounds in turn; less is better.
    """

    case: str
    name: str
    makes_delta: bool
    size: float
    write_ms: float
    read_ms: float
    write_ratio: float
    read_ratio: float
    inexact: str | None


def cases() -> list[Case]:
    """Every case: feeds and recordings, lists, heaps, shares of cells that change, shapes, and a slice."""
    in_slice = f"slice of {_SLICE} symbols, enriched"
    return [
        *(Case(name, partial(_first, name), corpus=name) for name in [*corpora.names(), "top_20", "top_100"]),
        *(Case(f"enriched, {heap} heap", partial(_on_heap, heap), _quick) for heap in HEAPS),
        *(
            Case(f"2,000 x 50, {share:.0%} of cells change", partial(wide_frames, 2_000, 50, share))
            for share in _SHARES
        ),
        *(
            Case(f"{rows:,} x {fields}, 6% of cells change", partial(wide_frames, rows, fields), _quick)
            for rows, fields in _SHAPES
        ),
        Case(in_slice, _slice, lambda: [*CONTENDERS, *slice_contenders()]),
    ]


def _first(corpus: str) -> Iterator[Snapshot]:
    return islice(corpora.frames(corpus), _DELTAS + 1)


def _slice() -> Iterator[Snapshot]:
    return islice(Feed("enriched", _SLICE), _DELTAS + 1)


def _on_heap(heap: str) -> Iterator[Snapshot]:
    return map(HEAPS[heap], islice(Feed("enriched"), _DELTAS + 1))


def _quick() -> list[Contender]:
    return [contender for contender in CONTENDERS if not contender.once]


def wide_frames(rows: int, fields: int, share: float = wide.CHANGED) -> Iterator[Snapshot]:
    """Frames of numbers, each a dict of its own, of which a share of the cells changes."""
    return map(HEAPS["parsed"], islice(wide.feed(rows, fields, share), _DELTAS + 1))


def measure(case: Case) -> list[Measured]:
    """Each contender in turn, a round after the other; every answer is compared before it is timed."""
    frames = list(case.frames())
    inexact: dict[str, str | None] = {}
    sizes: dict[str, float] = {}
    times: dict[str, list[tuple[float, float]]] = {}
    for contender in case.contenders():
        try:
            time, result = _time(contender, frames)
        except (ValueError, TypeError, KeyError) as error:
            # pyarrow's errors are kinds of these.
            print(f"{case.name}: {contender.name} cannot carry it: {error}", file=sys.stderr)
            continue
        inexact[contender.name] = _lost(result, frames[-1])
        # The round of what is too slow for another one.
        times[contender.name] = [time] if contender.once else []
        sizes[contender.name] = mean(_sizes(case, contender, frames))
    timed = [contender for contender in case.contenders() if contender.name in sizes]
    with quiet_collector():
        for _ in range(_ROUNDS):
            for contender in timed:
                if not contender.once:
                    times[contender.name].append(_time(contender, frames)[0])
    return [
        Measured(
            case.name,
            contender.name,
            contender.makes_delta,
            size=sizes[contender.name],
            write_ms=median(write for write, _ in times[contender.name]) * 1e3,
            read_ms=median(read for _, read in times[contender.name]) * 1e3,
            write_ratio=_ratio(times, contender.name, 0),
            read_ratio=_ratio(times, contender.name, 1),
            inexact=inexact[contender.name],
        )
        for contender in timed
    ]


def _lost(read: Snapshot, saved: Snapshot) -> str | None:
    """What is lost on the way; JSON tells types, bits of floats and order apart, as far as JSON goes."""
    if orjson.dumps(read) == orjson.dumps(saved):
        return None
    sort = orjson.OPT_SORT_KEYS
    same = orjson.dumps(read, option=sort) == orjson.dumps(saved, option=sort)
    return "loses the order" if same else "changes values"


def _sizes(case: Case, contender: Contender, frames: list[Snapshot]) -> list[int]:
    if contender.name == _ZSTD19 and case.corpus is not None:
        return prefix_sizes(case.corpus)[: len(frames) - 1]
    if contender.name == OURS:
        # One encoder for all, as in a service.
        write = contender.writer(frames[:1])
        return [len(write(frame)) for frame in frames[1:]]
    return [len(contender.writer([prev])(curr)) for prev, curr in pairwise(frames)]


def _time(contender: Contender, frames: list[Snapshot]) -> tuple[tuple[float, float], Snapshot]:
    """Seconds of processor time to write and to read the last frame; and what was read."""
    *before, curr = frames
    write, read = contender.writer(before), contender.reader(before)
    # Neither finds the frame in the caches.
    orjson.dumps(before[-1])
    start = process_time()
    written = write(curr)
    between = process_time()
    result = read(written)
    end = process_time()
    return (between - start, end - between), result


def _ratio(times: dict[str, list[tuple[float, float]]], name: str, side: int) -> float:
    """Of ours to the contender's, the median over the rounds that both have."""
    return median(ours[side] / its[side] for ours, its in zip(times[OURS], times[name], strict=False))


def save(measured: list[Measured], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"environment": environment(), "measured": [asdict(each) for each in measured]}
    path.write_text(json.dumps(content, indent=1) + "\n")


def load(path: Path) -> list[Measured]:
    return [Measured(**each) for each in json.loads(path.read_text())["measured"]]


def table(measured: list[Measured]) -> str:
    """Markdown: one case, the smallest first among those that make a delta, then the full ones."""
    lines = [
        "| | bytes a frame | write | ours / its | read | ours / its | |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    for each in sorted(measured, key=lambda each: (not each.makes_delta, each.size)):
        times = (
            f"{each.write_ms:.3g} ms",
            f"{each.write_ratio:.2f}",
            f"{each.read_ms:.3g} ms",
            f"{each.read_ratio:.2f}",
        )
        lines.append(f"| {each.name} | {each.size:,.0f} | {' | '.join(times)} | {each.inexact or ''} |")
    return "\n".join(lines)


def better(measured: list[Measured]) -> list[str]:
    """Where another exact contender is better than the Encoder and the Decoder: a line a case."""
    lines = []
    for case in dict.fromkeys(each.case for each in measured):
        rows = [each for each in measured if each.case == case]
        ours = next(each for each in rows if each.name == OURS)
        others = [each for each in rows if not each.name.startswith("snapdelta") and not each.inexact]
        found = {
            "smaller": [f"{each.name} ({each.size:,.0f} B)" for each in others if each.size < ours.size],
            "written faster": [
                f"{each.name} ({1 / each.write_ratio:.2f} of our time)"
                for each in others
                if each.write_ratio > 1
            ],
            "read faster": [
                f"{each.name} ({1 / each.read_ratio:.2f})" for each in others if each.read_ratio > 1
            ],
        }
        named = [f"{what}: {', '.join(names)}" for what, names in found.items() if names]
        lines.append(f"{case}: {'; '.join(named) or 'none'}.")
    return lines


def main(arguments: list[str]) -> int:
    match arguments:
        case ["measure", path, *names]:
            known = {case.name: case for case in cases()}
            if unknown := [name for name in names if name not in known]:
                print(f"no case {', '.join(unknown)}; there are: {'; '.join(known)}", file=sys.stderr)
                return 2
            measured: list[Measured] = []
            for name in names or known:
                measured += measure(known[name])
                save(measured, Path(path))
                print(f"{name}: measured", flush=True)
            return 0
        case ["show", path]:
            measured = load(Path(path))
            for name in dict.fromkeys(each.case for each in measured):
                print(f"\n**{name}**\n\n{table([each for each in measured if each.case == name])}")
            print("\n".join(["", *better(measured)]))
            return 0
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
