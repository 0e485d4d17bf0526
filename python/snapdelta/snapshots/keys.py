"""Names, keys and ids of layout 1."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NamedTuple

from snapdelta._entry_id import parse_id
from snapdelta.errors import SnapshotSettingError

LAYOUT = "1"
KEY_PREFIX = "snapdelta:"
_PART = re.compile(r"[^{}\x00-\x1f\x7f]{1,200}")
_STREAM = re.compile(rf"({_PART.pattern}\{{{_PART.pattern}\}}:)(?:full|delta)")


class StreamPosition(NamedTuple):
    """Where in a name's history a state is; the id of its entries."""

    epoch: int
    sequence: int

    @classmethod
    def of(cls, entry_id: bytes) -> StreamPosition:
        return cls(*parse_id(entry_id))

    def __str__(self) -> str:
        return f"{self.epoch}-{self.sequence}"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a name, which share a Cluster slot. `rows` exists only where a mirror runs."""

    name: str
    full: str
    delta: str
    head: str
    rows: str

    @classmethod
    def of(cls, prefix: str, name: str) -> Keys:
        """Raises SnapshotSettingError for a name or prefix that would break the hash tag."""
        if not isinstance(prefix, str) or not _PART.fullmatch(prefix):
            raise SnapshotSettingError(
                "key_prefix must be 1 to 200 characters without braces and control characters, "
                f"not {prefix!r}"
            )
        if not isinstance(name, str) or not _PART.fullmatch(name):
            raise SnapshotSettingError(
                f"a name must be 1 to 200 characters without braces and control characters, not {name!r}"
            )
        # Of an enumeration's member, its text.
        name, prefix = str.__str__(name), str.__str__(prefix)
        stem = f"{prefix}{{{name}}}"
        # Lone surrogates have no UTF-8.
        try:
            stem.encode()
        except UnicodeEncodeError as error:
            raise SnapshotSettingError(f"name and key_prefix must be Unicode: {stem!r} is not") from error
        return cls(name, f"{stem}:full", f"{stem}:delta", f"{stem}:head", f"{stem}:rows")


def head_beside(stream: str) -> str | None:
    """The head beside a key that may be a name's stream, under any prefix; None for other keys."""
    found = _STREAM.fullmatch(stream)
    return None if found is None else f"{found[1]}head"
