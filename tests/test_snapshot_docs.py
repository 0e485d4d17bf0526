"""What docs/snapshots.md shows runs, and names what there is."""

from __future__ import annotations

import re
from datetime import datetime, timezone
from typing import Any

from pydantic import TypeAdapter

from documents import ROOT, blocks, run
from servers import Server
from snapdelta import errors
from snapdelta._snapshots.scripts import CLAIM, DELETE, PUBLISH, WANT
from snapdelta.snapshot_manager import SaveResult, SnapshotSettings, Update

_DOCUMENT = "docs/snapshots.md"
_TEXT = (ROOT / _DOCUMENT).read_text(encoding="utf-8")


async def test_the_examples(server: Server) -> None:
    writing, reading, plain = blocks(_DOCUMENT, "python")
    names: dict[str, Any] = await run(writing.replace("Redis()", f"Redis(port={server.port})"), _DOCUMENT)
    await run(reading, _DOCUMENT, names)
    await run(plain, _DOCUMENT, names)
    parsed = TypeAdapter(datetime).validate_python("2026-03-02T09:30:00.125-05:00")
    await names["manager"].save_snapshot({"A": {"at": parsed}})
    carried = (await names["reader"].latest()).snapshot["A"]["at"]
    assert type(carried.tzinfo) is timezone
    assert carried == parsed
    await names["manager"].close()
    assert names["before"].snapshot == names["update"].snapshot
    await names["redis"].aclose()


async def test_the_rights_are_enough(server: Server) -> None:
    """The users of the document save, take over, follow, and ask for a full frame in vain."""
    for line in re.findall(r"^ACL SETUSER .*$", _TEXT, re.M):
        server.execute(*line.split())
    try:
        writing, reading, _ = blocks(_DOCUMENT, "python")
        scanner = f"Redis(port={server.port}, username='scanner', password='password')"
        names = await run(writing.replace("Redis()", scanner), _DOCUMENT)
        await names["redis"].aclose()
        names["redis"] = server.client(username="reader", password="password")
        await run(reading, _DOCUMENT, names)
        await names["redis"].aclose()
    finally:
        server.execute("ACL", "DELUSER", "scanner", "reader")


def test_the_rights_are_those_of_the_scripts() -> None:
    (granted,) = re.findall(r"^ACL SETUSER scanner (.*)$", _TEXT, re.M)
    used = {command.lower() for command in re.findall(r"redis\.p?call\('(\w+)'", CLAIM + PUBLISH + DELETE)}
    assert {right[1:] for right in granted.split() if right.startswith("+")} == {*used, "eval"}
    asked = {command.lower() for command in re.findall(r"redis\.p?call\('(\w+)'", WANT)}
    assert asked == {"hexists", "hset"}


def test_every_setting_key_and_error_is_explained() -> None:
    for name in (
        *SnapshotSettings.__dataclass_fields__,
        *SaveResult.__annotations__,
        *Update.__dataclass_fields__,
    ):
        assert f"`{name}`" in _TEXT, name
    for name, error in vars(errors).items():
        if isinstance(error, type) and issubclass(error, errors.SnapshotError):
            assert f"`{name}`" in _TEXT, name


def test_every_file_that_is_named_is_there() -> None:
    named = re.findall(r"`((?:tests|benches|rust|python)/[\w/.]+)`", _TEXT)
    assert len(named) > 10
    assert [path for path in named if not (ROOT / path).exists()] == []


def test_every_reason_is_explained() -> None:
    layout = (ROOT / "docs/redis-layout.md").read_text(encoding="utf-8")
    reasons = set(re.findall(r"(?:broken|reason) = '(\w+)'", PUBLISH))
    assert reasons >= {"takeover", "behind", "stream_lost", "clock", "head_lost", "foreign"}
    for reason in (
        *reasons,
        "first",
        "unsure",
        "interval",
        "chain",
        "forced",
        "wanted",
        "larger",
        "unproven",
    ):
        assert f"`{reason}`" in _TEXT, reason
        assert f"`{reason}`" in layout, reason
