r"""Redis's own glob patterns, matched on this side: `*`, `?`, `[abc]`, `[a-c]`, `[^a]`, and `\` to escape.

As in Redis, `?` and a class match one byte of the name's UTF-8.
"""

from __future__ import annotations

import re
from functools import lru_cache

from snapdelta._redis import key_of
from snapdelta.errors import StreamPolicyError

_SPECIAL = re.compile(r"[*?\[\\]")
# A class is read as Redis reads it, without a way back: `a-]` is a range up to `]`, not the end of the class.
_TOKEN = re.compile(
    rb"\\(?P<escaped>.)|(?P<star>\*)|(?P<any>\?)"
    rb"|\[(?P<no>\^?+)(?P<set>(?:\\.|[^\]\\]-.|[^\]])*+)\]|(?P<plain>.)",
    re.S,
)
# An escaped byte of a class, a range of two, or one byte.
_ITEM = re.compile(rb"\\(?P<escaped>.)|(?P<low>[^\\])-(?P<high>.)|(?P<plain>.)", re.S)


def is_glob(name: str) -> bool:
    """Whether the name has a character that Redis would take as part of a pattern."""
    return _SPECIAL.search(name) is not None


class Glob:
    """A pattern, split at its stars into parts of fixed length.

    A part between two stars matches at its first possible position, which leaves the most text for later
    parts. It tries no position twice, so the time is linear in the length of the name.
    """

    def __init__(self, pattern: str) -> None:
        """Raises StreamPolicyError for an unfinished class."""
        parts: list[bytes] = [b""]
        lengths = [0]
        for token in _TOKEN.finditer(_bytes_of(pattern)):
            if token["star"]:
                parts.append(b"")
                lengths.append(0)
                continue
            if token["plain"] == b"[":
                raise StreamPolicyError(
                    f"pattern {pattern!r}: a [ without its ]; "
                    "write \\[ for the character itself, and \\- for a minus in a class"
                )
            parts[-1] += _one_byte(token)
            lengths[-1] += 1
        self._open = len(parts) > 1
        self._first, *self._middle = [re.compile(part, re.S) for part in parts]
        self._last = self._middle.pop() if self._open else self._first
        self._last_length = lengths[-1]

    def matches(self, name: str) -> bool:
        key = key_of(name)
        if not self._open:
            return self._first.fullmatch(key) is not None
        end = len(key) - self._last_length
        found = self._first.match(key)
        for part in self._middle:
            found = found and part.search(key, found.end(), max(0, end))
        return bool(found and found.end() <= end and self._last.match(key, end))


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> Glob:
    """The parsed pattern, cached; StreamPolicyError for an unfinished class."""
    return Glob(pattern)


def specificity(pattern: str) -> tuple[int, int]:
    """A key that sorts the more specific pattern higher: more literal bytes, then fewer stars."""
    literals = stars = 0
    for token in _TOKEN.finditer(_bytes_of(pattern)):
        literals += bool(token["escaped"] or token["plain"])
        stars += bool(token["star"])
    return literals, -stars


def _bytes_of(pattern: str) -> bytes:
    try:
        return key_of(pattern)
    except UnicodeEncodeError as error:
        raise StreamPolicyError(f"pattern {pattern!r}: UTF-8 cannot carry it") from error


def _one_byte(token: re.Match[bytes]) -> bytes:
    """The regular expression of a token that is no star."""
    if token["any"]:
        return b"."
    if token["set"] is None:
        return re.escape(token["escaped"] or token["plain"])
    members: set[int] = set()
    for item in _ITEM.finditer(token["set"]):
        if item["low"]:
            low, high = sorted((item["low"][0], item["high"][0]))
            members.update(range(low, high + 1))
        else:
            members.add((item["escaped"] or item["plain"])[0])
    if not members:
        # As in Redis: an empty class matches nothing, its negation anything.
        return b"." if token["no"] else b"(?!)"
    listed = b"".join(b"\\x%02x" % member for member in sorted(members))
    return b"[" + (b"^" if token["no"] else b"") + listed + b"]"
