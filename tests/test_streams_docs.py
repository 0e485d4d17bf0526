"""What docs/streams.md shows runs."""

from __future__ import annotations

import ast
import re
import types
from pathlib import Path
from typing import Any

import pytest

import snapdelta.redis_stream_manager as module
from servers import Server
from snapdelta._streams.settings import load_settings
from snapdelta.redis_stream_manager import StreamPolicy

_TEXT = (Path(__file__).resolve().parent.parent / "docs" / "streams.md").read_text(encoding="utf-8")


def _block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", _TEXT, re.S)
    assert found
    return found[1]


async def test_the_first_example(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_manager", None)
    code = _block("python").replace("Redis()", f"Redis(port={server.port})")
    names: dict[str, Any] = {"frame": b"x" * 60_000}
    compiled = compile(code, "docs/streams.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    await types.FunctionType(compiled, names)()
    assert not names["stream_manager"].health().running
    assert await names["redis"].xlen("ranking:deltas") == await names["redis"].xlen("session:42") == 1
    await names["redis"].aclose()


def test_the_settings(tmp_path: Path) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(_block("toml"))
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
