"""The demo: plays a feed through Encoder -> bytes -> Decoder, checks every frame, shows sizes and times.

    python -m snapdelta.demo [--frames N] [--recording FILE]

Needs the extra `cli`, and `recordings` to play a file. Exit status 1 on the first frame that did not come
back exactly: values, types, bits of floats, order of symbols and of fields.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from snapdelta import Decoder, Encoder, SnapdeltaError
from snapdelta._exactness import first_difference
from snapdelta.simulate import Feed, read_recording

Snapshot = dict[str, Any]

_FRAMES = 30
_SHOWN = 12


class MismatchError(SnapdeltaError):
    """A snapshot came back other than it was sent; the message names the frame and the path."""


@dataclass(frozen=True)
class Played:
    """One frame that came back exactly. Sizes in bytes, times in ms."""

    number: int
    symbols: int
    changed: int
    json_size: int
    sent_size: int
    encode_ms: float
    apply_ms: float


def play(snapshots: Iterable[Snapshot], encoder: Encoder, decoder: Decoder) -> Iterator[Played]:
    """Send each snapshot from encoder to decoder as bytes and compare what comes out with what went in.

    Raises:
        MismatchError: at the first snapshot that came back otherwise.
    """
    for number, snapshot in enumerate(snapshots, start=1):
        start = perf_counter()
        sent = encoder.encode(snapshot)
        encoded = perf_counter()
        decoder.apply(sent)
        applied = perf_counter()
        if difference := first_difference(snapshot, decoder.snapshot()):
            raise MismatchError(f"frame {number}: {difference}")
        yield Played(
            number=number,
            symbols=len(snapshot),
            changed=len(decoder.changed),
            json_size=_json_size(snapshot),
            sent_size=len(sent),
            encode_ms=(encoded - start) * 1e3,
            apply_ms=(applied - encoded) * 1e3,
        )


def run(recording: Path | None = None, frames: int | None = None, console: Console | None = None) -> int:
    """Play `recording`, or the enriched feed; at most `frames` snapshots. The exit status."""
    console = console or Console()
    snapshots: Iterator[Snapshot]
    if recording is None:
        title = "simulated feed, enriched, a frame every 5 s"
        snapshots = islice(Feed("enriched"), frames or _FRAMES)
    else:
        title = recording.name
        snapshots = islice((frame.snapshot for frame in read_recording(recording)), frames)
    encoder, decoder = Encoder(), Decoder()
    played: list[Played] = []
    latest: deque[Played] = deque(maxlen=_SHOWN)
    try:
        with Live(console=console, auto_refresh=False) as live:
            for one in play(snapshots, encoder, decoder):
                played.append(one)
                latest.append(one)
                live.update(_progress(title, latest), refresh=True)
        if len(played) < 2:
            raise SnapdeltaError(f"{title}: {len(played)} frames; a delta needs two")
        full_size = _checked_full(encoder, decoder)
    except SnapdeltaError as error:
        console.print(f"{type(error).__name__}: {error}", style="bold red", markup=False, highlight=False)
        return 1
    # Off a terminal the live table ends without a new line.
    if not console.is_terminal:
        console.print()
    console.print(_summary(played, full_size))
    return 0


def _checked_full(encoder: Encoder, decoder: Decoder) -> int:
    """The size of the last state as a full frame, from which a reader that starts now gets the same."""
    full = encoder.full()
    late = Decoder()
    late.apply(full)
    if difference := first_difference(decoder.snapshot(), late.snapshot()):
        raise MismatchError(f"full frame: {difference}")
    return len(full)


def _json_size(snapshot: Snapshot) -> int:
    return len(json.dumps(snapshot, separators=(",", ":"), ensure_ascii=False).encode())


def _progress(title: str, latest: Iterable[Played]) -> Table:
    table = Table(title=title, caption="every frame compared: values, types, order")
    for heading in ("frame", "symbols", "changed", "JSON", "sent", "encode", "apply"):
        table.add_column(heading, justify="right")
    for one in latest:
        table.add_row(
            str(one.number),
            f"{one.symbols:,}",
            f"{one.changed:,}",
            f"{one.json_size:,} B",
            f"{one.sent_size:,} B",
            f"{one.encode_ms:.1f} ms",
            f"{one.apply_ms:.1f} ms",
        )
    return table


def _summary(played: list[Played], full_size: int) -> Table:
    """The first frame is a full one; the figures of deltas are of all others."""
    deltas = played[1:]
    sizes = [one.sent_size for one in deltas]
    json_size = median(one.json_size for one in played)
    table = Table(title=f"{len(played)} frames, all exact")
    for heading in ("", "median", "p95", "max"):
        table.add_column(heading, justify="right" if heading else "left")
    table.add_row("JSON", f"{json_size:,.0f} B", "", f"{max(one.json_size for one in played):,} B")
    table.add_row("full frame", f"{full_size:,} B", "", "")
    table.add_row("delta", *(f"{value:,.0f} B" for value in _spread(sizes)))
    table.add_row("encode", *(f"{value:.1f} ms" for value in _spread([one.encode_ms for one in deltas])))
    table.add_row("apply", *(f"{value:.1f} ms" for value in _spread([one.apply_ms for one in deltas])))
    table.add_row("JSON / delta", f"{json_size / median(sizes):,.0f} x", "", "")
    return table


def _spread(values: list[int] | list[float]) -> tuple[float, float, float]:
    """Median, 95th percentile and maximum."""
    p95 = quantiles(values, n=20, method="inclusive")[-1] if len(values) > 1 else values[0]
    return median(values), p95, max(values)


def main(
    recording: Annotated[
        Path | None, typer.Option(help="A .ndjson.zst recording, instead of the simulated feed.")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(min=2, help="Stop after so many frames [30 of the feed, all of a file].")
    ] = None,
) -> None:
    """Play a feed through the codec, check every frame, and show sizes and times."""
    raise typer.Exit(run(recording, frames))


if __name__ == "__main__":
    typer.run(main)
