"""Which rankings there were: what analytics compares its own with."""

from __future__ import annotations

from examples.scanner.market import Records, market, rank
from snapdelta import Encoder


class Truth:
    """Plays the same market, and finds out whether what a reader got is one of its rankings."""

    def __init__(self, symbols: int, frames: int) -> None:
        self._encoder = Encoder()
        source = market(symbols)
        self._digests = [self._digest(rank(next(source))) for _ in range(frames)]
        self._seen: set[int] = set()
        self.read = self.wrong = 0

    def check(self, ranking: Records) -> None:
        """Count a ranking as read, and as wrong if there never was one with these values and this order."""
        digest = self._digest(ranking)
        self.read += 1
        self.wrong += digest not in self._digests
        self._seen.add(digest)

    @property
    def missed(self) -> int:
        """Rankings that were never read."""
        return sum(digest not in self._seen for digest in self._digests)

    def _digest(self, ranking: Records) -> int:
        self._encoder.encode(ranking)
        return self._encoder.digest
