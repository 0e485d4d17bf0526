"""The bounds of a stream, and the policy that a stream gets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from snapdelta.errors import StreamPolicyError, UnlistedStreamError
from snapdelta.streams.glob import compiled, is_glob, specificity

# Below this a budget would be smaller than the few nodes that any stream takes.
SMALLEST_BUDGET = 16_384
# The ceiling over unread entries when none is given, in units of maxlen.
CEILING_FACTOR = 10


@dataclass(frozen=True, slots=True)
class StreamPolicy:
    """The bounds of one stream; all given bounds apply.

    Attributes:
        maxlen: entries; None leaves the length to max_age and max_bytes
        max_age: seconds, by the server's clock and the entries' ids
        max_bytes: the stream's memory in bytes, as the server reports it (at least 16,384)
        approximate: trim whole nodes of the server's tree only: cheaper, and at most one node (100 entries
            with the server's defaults) above the bound; False is exact
        keep_unread: keep entries that a consumer group has not acknowledged, up to hard_maxlen
        hard_maxlen: entries; the ceiling over unread ones (default: 10 x maxlen)
        trim_interval: seconds between two trim passes of the background task

    Raises StreamPolicyError for an impossible combination.
    """

    maxlen: int | None = 1000
    max_age: float | None = None
    max_bytes: int | None = None
    approximate: bool = True
    keep_unread: bool = False
    hard_maxlen: int | None = None
    trim_interval: float = 30.0

    def __post_init__(self) -> None:
        _check_integer("maxlen", self.maxlen, 1)
        _check_seconds("max_age", self.max_age)
        _check_integer("max_bytes", self.max_bytes, SMALLEST_BUDGET)
        _check_integer("hard_maxlen", self.hard_maxlen, 1)
        for name in ("approximate", "keep_unread"):
            if type(getattr(self, name)) is not bool:
                raise StreamPolicyError(f"{name} must be True or False, not {getattr(self, name)!r}")
        if self.trim_interval is None:
            raise StreamPolicyError("trim_interval must be a number of seconds, not None")
        _check_seconds("trim_interval", self.trim_interval)
        if self.maxlen is None and self.max_age is None and self.max_bytes is None:
            raise StreamPolicyError("a policy needs a bound: give maxlen, max_age or max_bytes")
        if self.hard_maxlen is not None and not self.keep_unread:
            raise StreamPolicyError(
                "hard_maxlen is the ceiling over unread entries: it needs keep_unread=True"
            )
        if self.keep_unread and self.hard_maxlen is None and self.maxlen is None:
            raise StreamPolicyError(
                "keep_unread without maxlen needs hard_maxlen, or nothing bounds the stream"
            )
        if self.hard_maxlen is not None and self.maxlen is not None and self.hard_maxlen < self.maxlen:
            raise StreamPolicyError(
                f"hard_maxlen ({self.hard_maxlen}) must not be below maxlen ({self.maxlen})"
            )

    @property
    def ceiling(self) -> int | None:
        """The most entries, unread or not; None without keep_unread."""
        if not self.keep_unread:
            return None
        return self.hard_maxlen or CEILING_FACTOR * (self.maxlen or 0)


class PolicyBook:
    """Which policy a stream gets: its own name, else the most specific pattern, else the default.

    The most specific pattern has the most literal characters; of two with as many, the one with fewer stars,
    then the one listed first.
    """

    def __init__(self, policies: Mapping[str, StreamPolicy], default: StreamPolicy, *, strict: bool) -> None:
        for name, policy in [*policies.items(), ("default", default)]:
            if not isinstance(name, str) or not name:
                raise StreamPolicyError(
                    f"policies: a stream's name or pattern must be a non-empty str, not {name!r}"
                )
            if not isinstance(policy, StreamPolicy):
                raise StreamPolicyError(
                    f"policy of {name!r}: expected a StreamPolicy, not {type(policy).__name__}"
                )
        self.default = default
        self.strict = strict
        self.names = {name: policy for name, policy in policies.items() if not is_glob(name)}
        globs = [(name, policy) for name, policy in policies.items() if is_glob(name)]
        for pattern, _ in globs:
            compiled(pattern)
        globs.sort(key=lambda item: specificity(item[0]), reverse=True)
        self.patterns = dict(globs)

    def listed(self, stream: str) -> StreamPolicy | None:
        """The policy that names the stream or matches it, or None."""
        found = self.names.get(stream)
        if found is not None:
            return found
        for pattern, policy in self.patterns.items():
            if compiled(pattern).matches(stream):
                return policy
        return None

    def label(self, stream: str) -> str:
        """Which policy the stream gets: its own name, a pattern, or "default"."""
        if stream in self.names:
            return stream
        matching = (pattern for pattern in self.patterns if compiled(pattern).matches(stream))
        return next(matching, "default")

    def of(self, stream: str) -> StreamPolicy:
        """The stream's policy; UnlistedStreamError in a strict book that does not list it."""
        found = self.listed(stream)
        if found is not None:
            return found
        if self.strict:
            raise UnlistedStreamError(
                f"stream {stream!r} has no policy and the manager is strict; list it in policies"
            )
        return self.default

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PolicyBook) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


def _check_integer(name: str, value: Any, least: int) -> None:
    if value is not None and (type(value) is not int or value < least):
        raise StreamPolicyError(f"{name} must be an int of at least {least:,} or None, not {value!r}")


def _check_seconds(name: str, value: Any) -> None:
    if value is not None and (type(value) not in (int, float) or not math.isfinite(value) or value <= 0):
        raise StreamPolicyError(f"{name} must be a positive number of seconds, not {value!r}")
