"""StreamPolicy refuses what cannot be meant, and the book finds the policy that was meant."""

from __future__ import annotations

from typing import Any

import pytest

from snapdelta.errors import SnapdeltaError, StreamPolicyError, UnlistedStreamError
from snapdelta.streams.policy import PolicyBook, StreamPolicy


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"maxlen": 0}, "maxlen"),
        ({"maxlen": True}, "maxlen"),
        ({"maxlen": 10.0}, "maxlen"),
        ({"max_age": 0}, "max_age"),
        ({"max_age": float("nan")}, "max_age"),
        ({"max_age": "60"}, "max_age"),
        ({"max_bytes": 100}, "max_bytes"),
        ({"approximate": 1}, "approximate"),
        ({"keep_unread": None}, "keep_unread"),
        ({"hard_maxlen": 5000}, "keep_unread"),
        ({"keep_unread": True, "hard_maxlen": 10}, "hard_maxlen"),
        ({"keep_unread": True, "maxlen": None, "max_age": 5}, "hard_maxlen"),
        ({"maxlen": None}, "bound"),
        ({"trim_interval": 0}, "trim_interval"),
        ({"trim_interval": None}, "trim_interval"),
        ({"trim_interval": float("inf")}, "trim_interval"),
    ],
)
def test_a_setting_that_cannot_be_meant_is_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(StreamPolicyError, match=named) as raised:
        StreamPolicy(**settings)
    assert isinstance(raised.value, SnapdeltaError)
    assert isinstance(raised.value, ValueError)


def test_policies_are_values() -> None:
    assert StreamPolicy(maxlen=5) == StreamPolicy(maxlen=5)
    assert len({StreamPolicy(), StreamPolicy(maxlen=1000)}) == 1
    with pytest.raises(AttributeError):
        StreamPolicy().maxlen = 5  # type: ignore[misc]


@pytest.mark.parametrize(
    ("policy", "ceiling"),
    [
        (StreamPolicy(), None),
        (StreamPolicy(keep_unread=True), 10_000),
        (StreamPolicy(keep_unread=True, hard_maxlen=1500), 1500),
        (StreamPolicy(keep_unread=True, maxlen=None, max_age=1.0, hard_maxlen=7), 7),
    ],
)
def test_the_ceiling_over_unread_entries(policy: StreamPolicy, ceiling: int | None) -> None:
    assert policy.ceiling == ceiling


def test_the_most_specific_wins() -> None:
    names = ["*", "a:*", "a:b*", "a:b", "a:?", "*:b"]
    policies = {name: StreamPolicy(maxlen=index + 1) for index, name in enumerate(names)}
    book = PolicyBook(policies, StreamPolicy(maxlen=99), strict=False)
    found = {stream: book.of(stream).maxlen for stream in ("a:b", "a:bc", "a:xyz", "a:x", "x:b", "q")}
    # a:? and a:* have as many literal characters; the one without a star is the narrower.
    assert found == {"a:b": 4, "a:bc": 3, "a:xyz": 2, "a:x": 5, "x:b": 6, "q": 1}


def test_of_two_equal_patterns_the_first_listed_wins() -> None:
    first, second = StreamPolicy(maxlen=1), StreamPolicy(maxlen=2)
    assert PolicyBook({"a*": first, "*a": second}, StreamPolicy(), strict=False).of("aa") is first
    assert PolicyBook({"*a": second, "a*": first}, StreamPolicy(), strict=False).of("aa") is second


def test_an_unlisted_stream_gets_the_default_or_is_refused() -> None:
    default = StreamPolicy(maxlen=7)
    assert PolicyBook({}, default, strict=False).of("any") is default
    assert PolicyBook({}, default, strict=False).listed("any") is None
    with pytest.raises(UnlistedStreamError, match="'any'"):
        PolicyBook({"other*": default}, default, strict=True).of("any")


@pytest.mark.parametrize(
    "policies", [{"": StreamPolicy()}, {"a": 1000}, {b"a": StreamPolicy()}, {"a[": StreamPolicy()}]
)
def test_a_book_of_something_else_is_refused(policies: Any) -> None:
    with pytest.raises(StreamPolicyError):
        PolicyBook(policies, StreamPolicy(), strict=False)
