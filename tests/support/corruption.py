"""Entries of a stream changed in place, as no writer would: for the tests of the snapshots."""

from __future__ import annotations

from collections.abc import Callable

import redis as sync_redis

from support.servers import Server

Fields = dict[bytes, bytes]


def entries(server: Server, key: str) -> list[tuple[bytes, Fields]]:
    with sync_redis.Redis(port=server.port) as client:
        return list(client.xrange(key))


def tamper(server: Server, key: str, change: Callable[[Fields], Fields | None], behind: int = 1) -> None:
    """Change the entry so far from the end, or remove it, in place; the server knows nothing of it."""
    rows = entries(server, key)
    with sync_redis.Redis(port=server.port) as client, client.pipeline(transaction=True) as pipe:
        pipe.delete(key)
        for number, (entry_id, fields) in enumerate(rows):
            new = change(dict(fields)) if number == len(rows) - behind else fields
            if new is not None:
                pipe.xadd(key, dict(new), id=entry_id)
        pipe.execute()


def flipped(fields: Fields) -> Fields:
    frame = bytearray(fields[b"f"])
    frame[len(frame) // 2] ^= 0x10
    return {**fields, b"f": bytes(frame)}


def without_frame(fields: Fields) -> Fields:
    return {name: value for name, value in fields.items() if name != b"f"}


DAMAGE: dict[str, Callable[[Fields], Fields | None]] = {
    "flipped": flipped,
    "cut": lambda fields: {**fields, b"f": fields[b"f"][:-7]},
    "longer": lambda fields: {**fields, b"f": fields[b"f"] + b"\0"},
    "empty": lambda fields: {**fields, b"f": b""},
    "text": lambda fields: {**fields, b"f": b"not a frame"},
    "digest": lambda fields: {**fields, b"d": b"0123456789abcdef"},
    "no-digest": lambda fields: {name: value for name, value in fields.items() if name != b"d"},
    "no-frame": without_frame,
    "gone": lambda fields: None,
}
