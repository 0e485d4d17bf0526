"""Patterns mean what the servers take them to mean, and cost what the length of a name makes them cost."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from statistics import median

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from snapdelta.errors import StreamPolicyError
from snapdelta.streams.glob import compiled, is_glob, specificity
from support.servers import Deployment, Server

_ATOMS = [
    *("a", "b", ":", "-", "*", "*", "?", "]", "^", "ü", "[ab]", "[^a]", "[a-c]", "[c-a]", "[]", "[^]"),
    *(
        "[b^-]x",
        "[\\a-c]",
        "[a-\\]",
        "[--a]",
        "[^--b]",
        "[a-]x]",
        "[ü]",
        "[^^]",
        "[\\]]",
        "\\*",
        "\\[",
        "\\\\",
    ),
]
_PATTERNS = st.lists(st.sampled_from(_ATOMS), min_size=1, max_size=6).map("".join)
_NAMES = st.text(alphabet="aabbcx:-*[]^\\\nü", min_size=1, max_size=8)


def plain_match(pattern: bytes, name: bytes) -> bool:
    """Redis's rules one after another, with a way back at each star: exponential, and plain to see."""
    if not pattern:
        return not name
    head = pattern[:1]
    if head == b"*":
        return any(plain_match(pattern[1:], name[start:]) for start in range(len(name) + 1))
    if not name:
        return False
    if head == b"?":
        return plain_match(pattern[1:], name[1:])
    if head == b"[":
        rest = pattern[1:]
        negated = rest.startswith(b"^")
        rest = rest[negated:]
        found = False
        while not rest.startswith(b"]"):
            if rest.startswith(b"\\") and len(rest) >= 2:
                found |= rest[1] == name[0]
                rest = rest[2:]
            elif rest[1:2] == b"-" and len(rest) >= 3:
                low, high = sorted((rest[0], rest[2]))
                found |= low <= name[0] <= high
                rest = rest[3:]
            else:
                found |= rest[0] == name[0]
                rest = rest[1:]
        return found is not negated and plain_match(rest[1:], name[1:])
    if head == b"\\" and len(pattern) >= 2:
        pattern = pattern[1:]
    return pattern[0] == name[0] and plain_match(pattern[1:], name[1:])


@pytest.fixture(scope="module")
def valkey(deployments: Callable[[str], Deployment]) -> Server:
    found = deployments("valkey-9.1")
    assert isinstance(found, Server)
    return found


@settings(max_examples=150)
@given(pattern=_PATTERNS, names=st.sets(_NAMES, min_size=1))
def test_matches_what_the_server_matches(valkey: Server, pattern: str, names: set[str]) -> None:
    try:
        glob = compiled(pattern)
    except StreamPolicyError:
        assert "[" in pattern
        return
    with valkey.admin() as client:
        client.flushall()
        client.mset(dict.fromkeys(names, "1"))
        theirs = set(client.keys(pattern))
    assert {name for name in names if glob.matches(name)} == theirs


@settings(max_examples=2000)
@given(pattern=_PATTERNS, name=_NAMES)
@example(pattern="*a*ab", name="aaab")
@example(pattern="ab*ba", name="aba")
@example(pattern="*[ab]*?", name="a")
def test_matches_what_the_plain_matcher_matches(pattern: str, name: str) -> None:
    try:
        glob = compiled(pattern)
    except StreamPolicyError:
        assert "[" in pattern
        return
    assert glob.matches(name) is plain_match(pattern.encode(), name.encode())


@pytest.mark.serial
@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("session:*:*:x", lambda size: "session:" + ":" * size),
        ("*:*:x", lambda size: ":" * size),
        ("*a*a*a*a*b", lambda size: "a" * size),
        ("*[ab]?[ab]*c", lambda size: "a" * size),
        ("session:*", lambda size: "session:" + "a" * size),
    ],
)
def test_a_name_costs_what_it_is_long(pattern: str, name: Callable[[int], str]) -> None:
    glob = compiled(pattern)

    def cost(size: int) -> float:
        text, costs = name(size), []
        for _ in range(7):
            start = time.process_time()
            for _ in range(10):
                glob.matches(text)
            costs.append(time.process_time() - start)
        return median(costs)

    # Quadratic would be 16; a matcher that goes back at every star does not come to an end here.
    assert cost(400_000) / max(cost(100_000), 1e-4) < 8


@pytest.mark.parametrize("pattern", ["[", "a[bc", "[a-]", "x[^", "[^--]", "[\\]"])
def test_an_unfinished_class_is_an_error_that_names_the_pattern(pattern: str) -> None:
    with pytest.raises(StreamPolicyError, match=re.escape(repr(pattern))):
        compiled(pattern)


def test_a_pattern_that_utf_8_cannot_carry_is_an_error_that_names_it() -> None:
    with pytest.raises(StreamPolicyError, match="ud800"):
        compiled("\ud800*")


def test_literal_characters_decide_then_stars() -> None:
    patterns = ["*", "a*", "a:*", "a:*b", "a:?b", "\\**"]
    assert sorted(patterns, key=specificity) == ["*", "a*", "\\**", "a:*", "a:*b", "a:?b"]


def test_what_is_a_pattern() -> None:
    assert [is_glob(name) for name in ("plain:{tag}", "a*", "a?", "a[b]", "a\\*")] == [
        False,
        True,
        True,
        True,
        True,
    ]
