"""Order books of many markets, in the two forms that client libraries give them."""

from __future__ import annotations

from math import exp
from random import Random
from typing import Any, Literal

from snapdelta.errors import FeedSettingError
from snapdelta.testing.feed._base import SeededFeed, decimal_text
from snapdelta.testing.feed._instrument import poisson

_BUSIEST_EVENTS_A_SECOND = 60.0


class OrderBooks(SeededFeed):
    """An endless iterator of order books; the same arguments give the same snapshots.

    Most events are near the best price: a size changes, a level comes or goes, a trade takes the best level.
    Activity follows Zipf's law over the markets. At the defaults 70 % of the books change between two frames.

    Args:
        form: `lists` gives each side as a list of [price, size], best first, both floats; `dicts` as
            {price: size}, in the same order, both decimal strings.
        symbols: how many markets there are.
        seed: of everything that is random.
        interval: seconds between two frames.
        levels: how many levels of a side are shown.

    Raises:
        FeedSettingError: an argument that makes no sense.
    """

    def __init__(
        self,
        form: Literal["lists", "dicts"] = "lists",
        symbols: int = 100,
        seed: int = 0,
        interval: float = 1.0,
        *,
        levels: int = 50,
    ) -> None:
        if form not in ("lists", "dicts"):
            raise FeedSettingError(f"form: {form!r} is not one of lists, dicts")
        if levels < 1:
            raise FeedSettingError(f"levels must be at least 1, not {levels}")
        super().__init__(symbols, seed, interval)
        self._form = form
        self._books = {
            f"M{number:03d}-USD": _Book(self._rng, levels, self.time_ms) for number in range(symbols)
        }
        self._records = {name: self._record(name, book) for name, book in self._books.items()}

    def _advance(self) -> None:
        rng = self._rng
        for rank, (name, book) in enumerate(self._books.items()):
            mean = _BUSIEST_EVENTS_A_SECOND / (rank + 1) * self._interval_ms / 1000
            events = poisson(rng, mean, exp(-mean))
            if events:
                book.advance(rng, events)
                book.changed_ms = self.time_ms - rng.randrange(self._interval_ms)
                self._records[name] = self._record(name, book)

    def _record(self, name: str, book: _Book) -> dict[str, Any]:
        sides = {"bids": book.best(book.bids, -1), "asks": book.best(book.asks, 1)}
        shown: dict[str, Any] = {}
        for side, levels in sides.items():
            if self._form == "lists":
                price_unit, size_unit = 10**book.price_decimals, 10**book.size_decimals
                shown[side] = [[price / price_unit, size / size_unit] for price, size in levels]
            else:
                shown[side] = {
                    decimal_text(price, book.price_decimals): decimal_text(size, book.size_decimals)
                    for price, size in levels
                }
        return {"symbol": name, **shown, "timestamp": book.changed_ms, "nonce": book.nonce}


class _Book:
    """One market: its levels as {price: size}, both counted in the market's own units."""

    def __init__(self, rng: Random, levels: int, now_ms: int) -> None:
        self.levels = levels
        self.changed_ms = now_ms
        self.price_decimals = rng.choice((1, 2, 2, 3, 4))
        self.size_decimals = rng.choice((2, 3, 4, 6))
        self.mean_size = max(5, int(10**self.size_decimals * exp(rng.gauss(0.5, 1.5))))
        # Wide enough for all levels on one side of it.
        middle = int(10 ** rng.uniform(4.5, 6.5)) + 20 * levels
        self.bids: dict[int, int] = {}
        self.asks: dict[int, int] = {}
        self._fill(rng, self.bids, middle, -1)
        self._fill(rng, self.asks, middle + 1, 1)
        self.nonce = rng.randrange(10**9)

    def best(self, side: dict[int, int], sign: int) -> list[tuple[int, int]]:
        prices = sorted(side, key=lambda price: sign * price)[: self.levels]
        return [(price, side[price]) for price in prices]

    def _size(self, rng: Random) -> int:
        size = max(1, int(self.mean_size * exp(rng.gauss(0.0, 1.2))))
        if rng.random() < 0.3:
            magnitude: int = 10 ** (len(str(size)) - 1)
            size = size // magnitude * magnitude
        return size

    def _fill(self, rng: Random, side: dict[int, int], start: int, sign: int) -> None:
        """Add levels behind the deepest until there are a half more than are shown."""
        price = sign * max((sign * price for price in side), default=sign * (start - sign))
        while len(side) < self.levels * 3 // 2 + 1:
            price += sign * (1 + int(rng.expovariate(0.6)))
            side[price] = self._size(rng)

    def advance(self, rng: Random, events: int) -> None:
        self.nonce += events
        for _ in range(events):
            sign = rng.choice((-1, 1))
            self._event(rng, sign, self.bids if sign < 0 else self.asks)
        for sign, side in ((-1, self.bids), (1, self.asks)):
            if len(side) <= self.levels:
                self._fill(rng, side, 0, sign)
            for price in sorted(side, key=lambda price: sign * price)[2 * self.levels :]:
                del side[price]

    def _event(self, rng: Random, sign: int, side: dict[int, int]) -> None:
        prices = sorted(side, key=lambda price: sign * price)
        place = min(int(rng.expovariate(8.0 / self.levels)), len(prices) - 1)
        kind = rng.random()
        if kind < 0.6:
            side[prices[place]] = self._size(rng)
        elif kind < 0.78:
            side[prices[place] + sign * (1 + int(rng.expovariate(0.8)))] = self._size(rng)
        elif kind < 0.96:
            if len(prices) > 1:
                del side[prices[place]]
        elif len(prices) > 1:
            # A trade takes the best level; the other side follows.
            best = prices[0]
            del side[best]
            other = self.asks if sign < 0 else self.bids
            other[best] = self._size(rng)
