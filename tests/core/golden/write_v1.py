"""Writes the golden vectors of format 1, once: `python tests/core/golden/write_v1.py [FOLDER]`.

They prove that frames of this version stay readable. Once it is released they are never written again: what
is there is left alone, and the script refuses. A later format gets a folder and a script of its own.
"""

from __future__ import annotations

import sys
from pathlib import Path

import snapdelta

sys.path.insert(0, str(Path(__file__).parents[2]))

from core.golden.cases_v1 import AMOUNT, CASES, HELD, STREAM, stream

HERE = Path(__file__).parent / "v1"


def write(folder: Path) -> list[Path]:
    """One file a case, NAME.frame. Raises FileExistsError if there is one already."""
    paths = {name: folder / f"{name}.frame" for name in [*CASES, *STREAM]}
    existing = [path for path in paths.values() if path.exists()]
    if existing:
        raise FileExistsError(f"{existing[0]} is there: golden vectors are written once")
    folder.mkdir(parents=True, exist_ok=True)
    for name, (before, after) in CASES.items():
        frame = snapdelta.dumps(after) if before is None else snapdelta.diff(before, after)
        paths[name].write_bytes(frame)
    for name, frame in stream_frames().items():
        paths[name].write_bytes(frame)
    return list(paths.values())


def stream_frames() -> dict[str, bytes]:
    """The frames of STREAM: a full frame, a delta, a bundle, a composed delta, a writer that takes over."""
    given = [snapshot for snapshot, _ in stream()]
    encoder = snapdelta.Encoder(epoch=7, tolerance={HELD: snapdelta.Absolute(AMOUNT)})
    full, held, *deltas = (encoder.encode(snapshot) for snapshot in given[:-1])
    reader = snapdelta.Decoder()
    reader.apply(full)
    bundle = snapdelta.compose(deltas[:2])
    for frame in (held, bundle):
        reader.apply(frame)
    composed = snapdelta.compose(deltas[2:], reader.snapshot())
    reader.apply(composed)
    successor = snapdelta.Encoder(epoch=8, tolerance={HELD: snapdelta.Absolute(AMOUNT)})
    successor.resume(reader)
    frames = full, held, bundle, composed, successor.encode(given[-1])
    return dict(zip(STREAM, frames, strict=True))


if __name__ == "__main__":
    for path in write(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE):
        print(path)
