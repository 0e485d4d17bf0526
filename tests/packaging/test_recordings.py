"""The reader of recordings: streams frames, and names file and line of whatever is wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tracemalloc
from pathlib import Path

import pytest
import zstandard

from snapdelta import SnapdeltaError
from snapdelta.errors import MissingExtraError, RecordingError
from snapdelta.testing.recordings import Frame, read_recording

FRAMES = [
    Frame(1_700_000_000_000, {"A": {"p": 1.5, "n": None}, "B": {"p": 2, "ok": True}}),
    Frame(1_700_000_005_000, {"B": {"p": 2, "ok": True}, "ÄÖ": {"c": [1, 2]}}),
    Frame(1_700_000_010_000, {}),
]


def as_lines(frames: list[Frame]) -> bytes:
    return b"".join(json.dumps(frame._asdict()).encode() + b"\n" for frame in frames)


def write(path: Path, content: bytes) -> Path:
    """Written by a stream, so without a content size, as recorders do."""
    packer = zstandard.ZstdCompressor().compressobj()
    path.write_bytes(packer.compress(content) + packer.flush())
    return path


def test_frames_come_back(tmp_path: Path) -> None:
    path = write(tmp_path / "a.ndjson.zst", as_lines(FRAMES))
    frames = list(read_recording(path))
    assert frames == FRAMES
    assert [list(frame.snapshot) for frame in frames] == [list(frame.snapshot) for frame in FRAMES]
    assert list(read_recording(str(path))) == FRAMES


def test_the_last_newline_may_be_missing(tmp_path: Path) -> None:
    assert list(read_recording(write(tmp_path / "a", as_lines(FRAMES).rstrip()))) == FRAMES


def test_an_empty_recording_has_no_frames(tmp_path: Path) -> None:
    assert list(read_recording(write(tmp_path / "a", b""))) == []


def test_several_zstd_frames_make_one_recording(tmp_path: Path) -> None:
    text = as_lines(FRAMES)
    parts = [zstandard.compress(text[:70]), zstandard.compress(text[70:71]), zstandard.compress(text[71:])]
    path = tmp_path / "a"
    path.write_bytes(b"".join(parts))
    assert list(read_recording(path)) == FRAMES


def test_a_window_of_32_mb_is_read_and_a_larger_one_is_refused(tmp_path: Path) -> None:
    def written(log: int) -> Path:
        parameters = zstandard.ZstdCompressionParameters(window_log=log, compression_level=1)
        packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
        path = tmp_path / str(log)
        path.write_bytes(packer.compress(as_lines(FRAMES)) + packer.flush())
        return path

    assert list(read_recording(written(25))) == FRAMES
    with pytest.raises(RecordingError, match="line 1: damaged zstd data"):
        list(read_recording(written(26)))


def test_only_a_line_at_a_time_is_held(tmp_path: Path) -> None:
    length = 400_000
    frames = [Frame(t, {"A": {"x": os.urandom(length // 2).hex()}}) for t in range(60)]
    path = write(tmp_path / "a", as_lines(frames))
    del frames
    tracemalloc.start()
    try:
        assert sum(1 for _ in read_recording(path)) == 60
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 20 * length


def test_frames_before_the_damage_are_given(tmp_path: Path) -> None:
    path = write(tmp_path / "bad.zst", as_lines(FRAMES[:2]) + b'{"t": 1, "snapshot"\n' + as_lines(FRAMES[2:]))
    frames = read_recording(path)
    assert next(frames) == FRAMES[0]
    assert next(frames) == FRAMES[1]
    with pytest.raises(RecordingError, match=r"bad\.zst, line 3: not JSON") as caught:
        next(frames)
    assert isinstance(caught.value, SnapdeltaError)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"[1]", "not list"),
        (b"null", "not missing or null"),
        (b'{"snapshot": {}}', "t must be a whole number of ms, not missing or null"),
        (b'{"t": 1.5, "snapshot": {}}', "t must be a whole number of ms, not float"),
        (b'{"t": true, "snapshot": {}}', "t must be a whole number of ms, not bool"),
        (b'{"t": 1}', "snapshot must be an object, not missing or null"),
        (b'{"t": 1, "snapshot": []}', "snapshot must be an object, not list"),
        (b'{"t": 1, "snapshot": {}} x', "not JSON"),
        (b"\xff\xfe\xfd", "not JSON"),
        (b"", "not JSON"),
        (b"[" * 100_000, "nested too deeply"),
    ],
)
def test_a_line_that_is_no_frame_is_named(tmp_path: Path, line: bytes, says: str) -> None:
    path = write(tmp_path / "bad.zst", as_lines(FRAMES[:1]) + line + b"\n" + as_lines(FRAMES[1:]))
    with pytest.raises(RecordingError, match=rf"bad\.zst, line 2: .*{says}"):
        list(read_recording(path))


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", as_lines(FRAMES)).read_bytes()
    path = tmp_path / "cut"
    for length in range(1, len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(RecordingError, match=r"cut, line [1-4]: the file is truncated"):
            list(read_recording(path))


def test_damaged_bytes_are_noticed(tmp_path: Path) -> None:
    path = tmp_path / "bad"
    path.write_bytes(b"this is no zstd file at all")
    with pytest.raises(RecordingError, match="bad, line 1: damaged zstd data"):
        list(read_recording(path))


def test_bytes_after_the_end_are_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "bad", as_lines(FRAMES))
    path.write_bytes(path.read_bytes() + b"trailing")
    with pytest.raises(RecordingError, match="bad, line 4: damaged zstd data"):
        list(read_recording(path))


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecordingError, match=r"none\.zst, line 1: cannot be read: No such file") as caught:
        list(read_recording(tmp_path / "none.zst"))
    assert isinstance(caught.value.__cause__, FileNotFoundError)


def test_the_missing_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(MissingExtraError, match=r"the extra: snapdelta-rs\[recordings\]"):
        next(read_recording(tmp_path / "a"))


def test_recordings_load_zstandard_only_when_read() -> None:
    code = (
        "import sys, snapdelta.testing.recordings, snapdelta.testing.feed; print('zstandard' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "False\n"
