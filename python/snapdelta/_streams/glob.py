"""Redis's own glob patterns, matched on this side: `*`, `?`, `[abc]`, `[a-c]`, `[^a]`, and `\\` to escape."""

from __future__ import annotations

import re
from functools import lru_cache

from snapdelta.errors import StreamPolicyError

_SPECIAL = re.compile(r"[*?\[\\]")
_TOKEN = re.compile(
    r"\\(?P<escaped>.)|(?P<star>\*)|(?P<any>\?)|\[(?P<no>\^?)(?P<set>(?:\\.|[^\]\\])*)\]|(?P<plain>.)", re.S
)

# One character of a class, or a range of two.
_ITEM = re.compile(r"(\\.|[^\\])(?:-(\\.|[^\\]))?", re.S)


def is_glob(name: str) -> bool:
    """Whether the name has a character that Redis would take as part of a pattern."""
    return _SPECIAL.search(name) is not None


@lru_cache(maxsize=1024)
def compiled(pattern: str) -> re.Pattern[str]:
    """The pattern as a regular expression, for `fullmatch`; StreamPolicyError for an unfinished class."""
    parts: list[str] = []
    for token in _TOKEN.finditer(pattern):
        if token["star"]:
            parts.append(".*")
        elif token["any"]:
            parts.append(".")
        elif token["set"] is not None:
            parts.append(_character_class(pattern, token["set"], negated=bool(token["no"])))
        elif token["plain"] == "[":
            raise StreamPolicyError(
                f"pattern {pattern!r}: a [ without its ]; write \\[ for the character itself"
            )
        else:
            parts.append(re.escape(token["escaped"] or token["plain"]))
    return re.compile("".join(parts), re.S)


def specificity(pattern: str) -> tuple[int, int]:
    """A key that sorts the more specific pattern higher: more literal characters, then fewer stars."""
    literals = stars = 0
    for token in _TOKEN.finditer(pattern):
        literals += bool(token["escaped"] or token["plain"])
        stars += bool(token["star"])
    return literals, -stars


def _character_class(pattern: str, body: str, *, negated: bool) -> str:
    if not body:
        # As in Redis: an empty class matches nothing, its negation anything.
        return "." if negated else "(?!)"
    items = ""
    for low, high in _ITEM.findall(body):
        if high and low[-1] > high[-1]:
            low, high = high, low
        items += re.escape(low[-1]) + ("-" + re.escape(high[-1]) if high else "")
    if body.endswith("-") and len(body) > 1:
        raise StreamPolicyError(
            f"pattern {pattern!r}: a range without an end; write \\- for a minus at the end"
        )
    return f"[{'^' if negated else ''}{items}]"
