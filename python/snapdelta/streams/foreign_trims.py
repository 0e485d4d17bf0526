"""Notices that another program removes entries which this manager's policy keeps."""

from __future__ import annotations

from dataclasses import dataclass

from snapdelta.streams.policy import StreamPolicy

# Trim passes in a row that must see it: one stream that was deleted and filled again is no second bound.
_PASSES = 2
# A bound holds a length within a node, or a tenth, from pass to pass.
_NODE = 100
# Below this share of a bound in bytes or age, another manager with the same policy removes nothing.
_FAR_BELOW = 0.5


@dataclass(slots=True)
class ForeignTrims:
    """What the trim passes over one stream saw: its first entry moved on, and this manager removed nothing.

    A trim by length never goes below `maxlen`, here or in another manager with the same policy. `problem`
    says what is wrong, until the stream is seen at its bound.
    """

    first: bytes | None = None
    length: int = 0
    seen: int = 0
    # This manager removed entries since the last pass, for their age or bytes or by `xadd(maxlen=)`.
    ours: bool = False
    problem: str | None = None

    def observe(self, first: bytes | None, length: int, policy: StreamPolicy, fullest: float) -> bool:
        """What a pass finds before it trims; whether that is a new problem.

        fullest: the larger share of the policy's bounds in bytes and age, 1.0 is full.
        """
        moved = None not in (first, self.first) and first != self.first
        near = abs(length - self.length) <= max(_NODE, self.length // 10)
        below = policy.maxlen is None or length < policy.maxlen
        theirs = moved and near and below and not self.ours and fullest < _FAR_BELOW
        if theirs:
            self.seen += 1
        elif moved or not below:
            self.seen = 0
        if not below or length > 2 * self.length + _NODE:
            self.problem = None
        self.first, self.length, self.ours = first, length, False
        if self.seen < _PASSES or self.problem is not None:
            return False
        kept = "its age and bytes" if policy.maxlen is None else f"{policy.maxlen} entries"
        self.problem = (
            f"another program trims or deletes entries: about {length} are left, this policy allows {kept}; "
            "bound the stream in one program, or give both the same bounds"
        )
        return True
