"""Frames of every version that was ever written are still read, by both decoders."""

from __future__ import annotations

from pathlib import Path

import pytest

import snapdelta
from core import reference_decoder as reference
from core.golden.cases_v1 import CASES, STREAM, stream
from core.golden.write_v1 import HERE, write
from support.assert_exact import assert_same
from support.roundtrip import assert_read_alike


def check(folder: Path) -> None:
    for name, (before, after) in CASES.items():
        frame = (folder / f"{name}.frame").read_bytes()
        assert_read_alike(frame, before, after)
        info = snapdelta.inspect(frame)
        assert info.version == 1
        assert info.kind == ("full" if before is None else "delta")
        assert info.target_digest == reference.digest(after)


def check_stream(folder: Path) -> None:
    states = [state for _, state in stream()]
    decoder, before = snapdelta.Decoder(), None
    kinds, held = [], 0
    for name, at in STREAM.items():
        frame = (folder / f"{name}.frame").read_bytes()
        assert_read_alike(frame, before, states[at])
        decoder.apply(frame)
        before = decoder.snapshot()
        assert_same(before, states[at])
        info = snapdelta.inspect(frame)
        kinds.append((info.kind, info.epoch, info.sequence))
        assert info.within_tolerance
        held += info.held_cells
    assert kinds == [("full", 7, 1), ("delta", 7, 2), ("bundle", 7, 4), ("delta", 7, 6), ("delta", 8, 1)]
    assert held > 10


def test_the_vectors_of_version_1() -> None:
    assert {path.stem for path in HERE.glob("*.frame")} == {*CASES, *STREAM}
    check(HERE)
    check_stream(HERE)


def test_vectors_are_written_once(tmp_path: Path) -> None:
    write(tmp_path)
    check(tmp_path)
    check_stream(tmp_path)
    (tmp_path / "market.frame").write_bytes(b"")
    for name in [*CASES, *STREAM]:
        if name != "market":
            (tmp_path / f"{name}.frame").unlink()
    with pytest.raises(FileExistsError, match="written once"):
        write(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["market.frame"]
    assert (tmp_path / "market.frame").read_bytes() == b""
