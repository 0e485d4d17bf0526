"""What docs/streams.md shows runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import snapdelta.redis_stream_manager as module
from documents import ROOT, blocks, run
from servers import Server
from snapdelta._streams.settings import load_settings
from snapdelta.redis_stream_manager import StreamPolicy

_DOCUMENT = "docs/streams.md"
_TEXT = (ROOT / _DOCUMENT).read_text(encoding="utf-8")


async def test_the_first_example(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_manager", None)
    code = blocks(_DOCUMENT, "python")[0].replace("Redis()", f"Redis(port={server.port})")
    names = await run(code, _DOCUMENT, {"frame": b"x" * 60_000})
    assert not names["stream_manager"].health().running
    assert await names["redis"].xlen("ranking:deltas") == await names["redis"].xlen("session:42") == 1
    await names["redis"].aclose()


def test_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(blocks(_DOCUMENT, "toml")[0])
    settings = load_settings(path)
    assert settings.policies == {"snapshots:raw": StreamPolicy(maxlen=3, max_bytes=40_000_000)}
    assert settings.discover == "session:*"


def test_the_policies_of_the_table() -> None:
    shown = re.findall(r"\| `((?:maxlen|max_)[a-z_]*=[^`]*)` \|", _TEXT)
    assert len(shown) == 4
    for policy in shown:
        assert eval(f"StreamPolicy({policy})") != StreamPolicy()


def test_every_counter_is_explained() -> None:
    for name in module.Counters.__dataclass_fields__:
        assert f"`{name}`" in _TEXT
