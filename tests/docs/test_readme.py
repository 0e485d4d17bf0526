"""What README.md and docs/core.md show runs, and what they name is there."""

from __future__ import annotations

import inspect
import re

import pytest

import snapdelta
import snapdelta.streams.registry as streams
from benches.results import fill, load
from snapdelta import errors
from support.documents import ROOT, blocks, run
from support.servers import Server

_TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
_CORE = (ROOT / "docs" / "core.md").read_text(encoding="utf-8")
_PERFORMANCE = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
_EXAMPLES = blocks("README.md", "python")
_WITH_SERVER = [code for code in _EXAMPLES if "Redis()" in code]
_ALONE = [code for code in [*_EXAMPLES, *blocks("docs/core.md", "python")] if "Redis()" not in code]


@pytest.mark.parametrize("code", _ALONE, ids=range(1, len(_ALONE) + 1))
def test_the_examples(code: str) -> None:
    # Each by itself, as a reader would paste it.
    exec(compile(code, "README.md", "exec"), {})


async def test_the_streams(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_manager", None)
    (code,) = (code for code in _WITH_SERVER if "stream_manager" in code)
    names = await run(code.replace("Redis()", f"Redis(port={server.port})"), "README.md")
    assert not streams.get_stream_manager().health().running
    assert server.execute("XLEN", "snapshots:raw") == 1
    await names["redis"].aclose()


async def test_the_snapshots(server: Server) -> None:
    (code,) = (code for code in _WITH_SERVER if "SnapshotManager" in code)
    names = await run(code.replace("Redis()", f"Redis(port={server.port})"), "README.md")
    assert names["result"]["type"] == "full"
    assert names["update"].snapshot == {"AAPL": {"price": 187.12}}
    await names["redis"].aclose()


def test_it_is_short() -> None:
    assert len(_TEXT.splitlines()) <= 150


def test_every_target_is_one_of_make() -> None:
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M)
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", _TEXT, re.M))
    assert {"demo", "wheel", "build", "docs", "soak"} <= named
    assert named <= set(targets)


def test_signatures_are_those_of_the_package() -> None:
    shown = dict(re.findall(r"^\| `(diff|apply|dumps|loads|inspect)(\([^`]*\))`", _CORE, re.M))
    assert shown == {
        name: str(inspect.signature(getattr(snapdelta, name))).replace(", /", "") for name in shown
    }
    assert len(shown) == 5
    assert f"`Limits(max_bytes={snapdelta.Limits().max_bytes})`" in _CORE


def test_every_error_of_the_core_is_explained() -> None:
    explained = set(re.findall(r"^\| `(\w+Error)` \|", _CORE, re.M))
    exported = {name for name in snapdelta.__all__ if name.endswith("Error")}
    assert explained == exported - {"SnapdeltaError"}
    assert all(issubclass(getattr(errors, name), errors.SnapdeltaError) for name in explained)


def test_the_figures_are_those_of_the_saved_run() -> None:
    # After `make bench`: python -m benches.results fill docs/performance.md benches/saved.json
    assert fill(_PERFORMANCE, ROOT / "benches" / "saved.json") == _PERFORMANCE


def test_the_first_paragraph_claims_what_was_measured() -> None:
    claim = re.search(
        r"([\d,]+) symbols, (\d+) MB as JSON, becomes a delta of\s+about (\d+) kB in (\d+)-(\d+) ms", _TEXT
    )
    assert claim is not None
    symbols, json_mb, delta_kb, *times = (int(figure.replace(",", "")) for figure in claim.groups())
    results = load(ROOT / "benches" / "saved.json")
    (size,) = (
        r for r in results if (r.group, r.name, r.peer_name) == ("mean size of a delta", "enriched", "JSON")
    )
    assert (json_mb, delta_kb) == (round(size.peer / 1e6), round(size.ours / 1e4) * 10)
    encodes = [
        r.ours for r in results if r.name.startswith("Encoder.encode, ") and f"{symbols:,} symbols" in r.group
    ]
    assert len(encodes) >= 2
    assert times[0] - 0.5 <= min(encodes) <= max(encodes) <= times[1] + 0.5


def test_nobody_is_sent_to_another_project() -> None:
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")]:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"install\s+['\"]?snapdelta(?!-rs)", text), path
