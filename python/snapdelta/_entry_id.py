"""Ids of stream entries as numbers; needs no redis-py."""

from __future__ import annotations


def parse_id(entry_id: bytes | str) -> tuple[int, int]:
    """The two halves of an id; the second is 0 where it is missing."""
    text = entry_id.decode() if isinstance(entry_id, bytes) else entry_id
    first, _, second = text.partition("-")
    return int(first), int(second or 0)
