"""What docs/operations.md shows runs, and names the events of the log."""

from __future__ import annotations

import re

from snapdelta.metrics import FAMILIES
from support.documents import ROOT, blocks, run
from support.servers import Server

_DOCUMENT = "docs/operations.md"
_TEXT = (ROOT / _DOCUMENT).read_text(encoding="utf-8")


async def test_the_examples(server: Server) -> None:
    health, metrics = blocks(_DOCUMENT, "python")
    names = await run(health.replace("Redis()", f"Redis(port={server.port})"), _DOCUMENT)
    await run(metrics, _DOCUMENT, names)
    await names["streams"].stop()
    await names["manager"].close()
    await names["redis"].aclose()


def test_the_metrics_are_those_of_the_code() -> None:
    named = set(re.findall(r"`([a-z_]+)`", _TEXT))
    for key in FAMILIES:
        assert key.removeprefix("timescale_") in named, key


def test_the_alerts_are_those_of_the_rules() -> None:
    rules = (ROOT / "deploy/alerts.yml").read_text()
    assert set(re.findall(r"^\| `(Snapdelta\w+)`", _TEXT, re.M)) == set(re.findall(r"alert: (\w+)", rules))


def test_the_events_are_those_of_the_code() -> None:
    source = "".join(path.read_text() for path in (ROOT / "python/snapdelta").rglob("*.py"))
    emitted = set(re.findall(r'"event": "(\w+)"', source))
    table = _TEXT.partition("| `event` | level |")[2]
    rows = (line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    assert {event for row in rows for event in re.findall(r"`(\w+)`", row)} == emitted
