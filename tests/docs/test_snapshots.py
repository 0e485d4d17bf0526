"""What docs/snapshots.md shows runs, and names what there is."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timezone
from typing import Any

import pandas  # type: ignore[import-untyped]
import pytest
from pydantic import TypeAdapter

from snapdelta import errors
from snapdelta.snapshot_manager import SaveResult, SnapshotSettings, Update
from snapdelta.snapshots.scripts import CLAIM, DELETE, PUBLISH, REQUEST_RESYNC
from support.documents import ROOT, blocks, run
from support.servers import Server

_DOCUMENT = "docs/snapshots.md"
_TEXT = (ROOT / _DOCUMENT).read_text(encoding="utf-8")


async def test_the_examples(server: Server) -> None:
    writing, reading, updating, default, broken, tolerance, _ = blocks(_DOCUMENT, "python")
    names: dict[str, Any] = await run(writing.replace("Redis()", f"Redis(port={server.port})"), _DOCUMENT)
    await run(reading, _DOCUMENT, names)
    await run(default, _DOCUMENT, names)
    await run(updating, _DOCUMENT, names)
    parsed = TypeAdapter(datetime).validate_python("2026-03-02T09:30:00.125-05:00")
    record = {"at": parsed, "seen": pandas.Timestamp("2026-03-02", tz="UTC"), "tags": {2, 1}}
    await names["manager"].save_snapshot({"A": record})
    carried = (await names["reader"].latest()).snapshot["A"]
    assert type(carried["at"].tzinfo) is timezone
    assert carried == {"at": parsed, "seen": datetime(2026, 3, 2, tzinfo=UTC), "tags": [1, 2]}
    with pytest.raises(
        errors.UnsupportedTypeError, match=r"^A\.z: complex is not supported, and default= raised"
    ):
        await names["manager"].save_snapshot({"A": {"z": 1j}})
    await names["manager"].close()
    await run(broken, _DOCUMENT, names)
    assert names["manager"].stats("stocks").rejected == {"min_symbols": 1}
    await names["manager"].close()
    await run(tolerance, _DOCUMENT, names)
    await names["manager"].close()
    assert names["before"].snapshot == names["update"].snapshot
    await names["redis"].aclose()


async def test_the_rights_are_enough(server: Server) -> None:
    """The users of the document save, take over, follow, and ask for a full frame in vain."""
    for line in re.findall(r"^ACL SETUSER .*$", _TEXT, re.M):
        server.execute(*line.split())
    try:
        writing, reading, *_ = blocks(_DOCUMENT, "python")
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
    used = {
        command.lower()
        for command in re.findall(r"redis\.p?call\('(\w+)'", CLAIM.text + PUBLISH.text + DELETE.text)
    }
    # A new writer reads the chain.
    used |= {"evalsha", "eval", "xrange"}
    assert {right[1:] for right in granted.split() if right.startswith("+")} == used
    asked = {command.lower() for command in re.findall(r"redis\.p?call\('(\w+)'", REQUEST_RESYNC.text)}
    assert asked == {"hexists", "hset"}


def test_every_setting_key_and_error_is_explained() -> None:
    for name in (
        *SnapshotSettings.__dataclass_fields__,
        *SaveResult.__annotations__,
        *Update.__dataclass_fields__,
        "changed",
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
    reasons = set(re.findall(r"(?:broken|reason) = '(\w+)'", PUBLISH.text))
    assert reasons >= {"takeover", "stream_lost", "clock", "head_lost", "foreign_entry"}
    for reason in (
        *reasons,
        "first",
        "handover",
        "head_behind",
        "outcome_unknown",
        "interval",
        "chain",
        "forced",
        "requested",
        "larger",
        "verify_failed",
    ):
        assert f"`{reason}`" in _TEXT, reason
        assert f"`{reason}`" in layout, reason
