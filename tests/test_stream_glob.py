"""Patterns mean what the servers take them to mean."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from servers import Deployment, Server
from snapdelta._streams.glob import compiled, is_glob, specificity
from snapdelta.errors import StreamPolicyError

_ATOMS = [
    "a",
    "b",
    ":",
    "-",
    "*",
    "?",
    "[ab]",
    "[^a]",
    "[a-c]",
    "[c-a]",
    "[]",
    "[^]",
    "[b^-]x",
    "\\*",
    "\\[",
    "\\\\",
]
_NAMES = st.text(alphabet="abcx:-*[]^\\\n", min_size=1, max_size=6)


@pytest.fixture(scope="module")
def valkey(deployments: Callable[[str], Deployment]) -> Server:
    found = deployments("valkey-9.1")
    assert isinstance(found, Server)
    return found


@settings(max_examples=150)
@given(atoms=st.lists(st.sampled_from(_ATOMS), min_size=1, max_size=5), names=st.sets(_NAMES, min_size=1))
def test_matches_what_the_server_matches(valkey: Server, atoms: list[str], names: set[str]) -> None:
    pattern = "".join(atoms)
    try:
        expression = compiled(pattern)
    except StreamPolicyError:
        assert "-]" in pattern
        return
    with valkey.admin() as client:
        client.flushall()
        client.mset(dict.fromkeys(names, "1"))
        theirs = set(client.keys(pattern))
    assert {name for name in names if expression.fullmatch(name)} == theirs


@pytest.mark.parametrize("pattern", ["[", "a[bc", "[a-]", "x[^"])
def test_an_unfinished_class_is_an_error_that_names_the_pattern(pattern: str) -> None:
    with pytest.raises(StreamPolicyError) as raised:
        compiled(pattern)
    assert repr(pattern) in str(raised.value)


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
