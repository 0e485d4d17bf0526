"""What docs/operations.md shows runs, and names the events of the log."""

from __future__ import annotations

import re

from support.documents import ROOT, blocks, run
from support.servers import Server

_DOCUMENT = "docs/operations.md"


async def test_the_examples(server: Server) -> None:
    code = blocks(_DOCUMENT, "python")[0].replace("Redis()", f"Redis(port={server.port})")
    names = await run(code, _DOCUMENT)
    await names["streams"].stop()
    await names["manager"].close()
    await names["redis"].aclose()


def test_the_events_are_those_of_the_code() -> None:
    source = "".join(path.read_text() for path in (ROOT / "python/snapdelta").rglob("*.py"))
    emitted = set(re.findall(r'"event": "(\w+)"', source))
    table = (ROOT / _DOCUMENT).read_text().partition("| `event` | level |")[2]
    rows = (line.split("|")[1] for line in table.splitlines() if line.startswith("| `"))
    assert {event for row in rows for event in re.findall(r"`(\w+)`", row)} == emitted
