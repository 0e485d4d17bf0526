"""24 h tickers of a crypto exchange, whose prices and quantities are decimal strings with eight decimals."""

from __future__ import annotations

from math import exp, log
from random import Random
from typing import Any

from snapdelta.testing.feed._base import SeededFeed, decimal_text, quotient
from snapdelta.testing.feed._instrument import poisson

_UNIT = 10**8
_DAY_MS = 86_400_000
_HALTED_SHARE = 0.3
_QUOTES_PER_TRADE = 4.0
# Quote assets: share of the pairs, and the usual price of a coin in them.
_QUOTE_ASSETS = (
    ("USDT", 0.45, 0.5),
    ("USDC", 0.7, 0.5),
    ("BTC", 0.85, 1e-5),
    ("ETH", 0.9, 3e-4),
    ("TRY", 1.0, 20.0),
)
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class ExchangeTickers(SeededFeed):
    """An endless iterator of 24 h tickers; the same arguments give the same snapshots.

    A ticker covers the last 24 hours: trades enter, and the trades of yesterday leave. Change, percent and
    average price follow from the other fields, rounded to the decimals that an exchange sends. Activity
    follows Zipf's law; three pairs in ten are halted. At the defaults half of the pairs change between two
    frames.

    Args:
        symbols: how many pairs there are.
        seed: of everything that is random.
        interval: seconds between two frames.

    Raises:
        FeedSettingError: an argument that makes no sense.
    """

    def __init__(self, symbols: int = 2_000, seed: int = 0, interval: float = 5.0) -> None:
        super().__init__(symbols, seed, interval)
        rng = self._rng
        names = _pair_names(rng, symbols)
        ranks = [rank * 2_000 // symbols for rank in range(symbols)]
        rng.shuffle(ranks)
        self._pairs = []
        for (name, price), rank in zip(names, ranks, strict=True):
            pair = _Pair(rng, name, price, rank, self.time_ms)
            self._records[name] = pair.record()
            if not pair.halted:
                self._pairs.append(pair)

    def _advance(self) -> None:
        for pair in self._pairs:
            if pair.advance(self._rng, self.time_ms, self._interval_ms):
                self._records[pair.symbol] = pair.record()


def _pair_names(rng: Random, count: int) -> list[tuple[str, float]]:
    """Distinct names of pairs, each with the usual price in its quote asset."""
    names: dict[str, float] = {}
    while len(names) < count:
        coin = "".join(rng.choices(_LETTERS, k=rng.choice((2, 3, 3, 4, 4, 5))))
        drawn = rng.random()
        asset, _, price = next(choice for choice in _QUOTE_ASSETS if drawn < choice[1])
        names[coin + asset] = price
    return list(names.items())


class _Pair:
    """One pair; prices and quantities count 1e-8."""

    def __init__(self, rng: Random, symbol: str, usual_price: float, rank: int, now_ms: int) -> None:
        self.symbol = symbol
        self.halted = rng.random() < _HALTED_SHARE
        self.rate = 40.0 / (rank + 2.0)
        price = usual_price * exp(rng.gauss(0.0, 2.5)) * _UNIT
        # Four or five figures of a price are significant; a lot is worth about a dollar.
        self.tick: int = 10 ** max(0, len(str(int(price))) - rng.choice((4, 5)))
        self.lot: int = 10 ** max(0, min(8, 11 - len(str(int(price)))))
        self.volatility = 0.00003 * exp(rng.gauss(0.0, 0.5))
        self.last = self._on_grid(price)
        self.open = self.last_before = self._on_grid(price * exp(rng.gauss(0.0, 0.04)))
        highest, lowest = max(self.last, self.open), min(self.last, self.open)
        self.high = self._on_grid(highest * (1.0 + abs(rng.gauss(0.0, 0.02))))
        self.low = self._on_grid(lowest / (1.0 + abs(rng.gauss(0.0, 0.02))))
        self.mean_lots = max(1, int(usual_price * _UNIT / price * 40 * _UNIT / self.lot))
        self.trades = 0 if self.halted else int(self.rate * 86_400 * rng.uniform(0.8, 1.2)) + 1
        self.first_id = rng.randrange(10**5, 10**9)
        self.volume = self.trades * self.mean_lots * self.lot
        self.turnover = self.volume * ((self.high + self.low) // 2)
        self.last_quantity = self._quantity(rng)
        self.close_ms = now_ms - int(-log(1.0 - rng.random()) / self.rate * 1000) % _DAY_MS
        self._requote(rng)

    def _on_grid(self, price: float) -> int:
        return max(1, round(price / self.tick)) * self.tick

    def _quantity(self, rng: Random) -> int:
        """Of one trade: often a round number, usually less than the mean."""
        lots = max(1, int(self.mean_lots * exp(rng.gauss(-0.5, 1.0))))
        if rng.random() < 0.3:
            magnitude: int = 10 ** (len(str(lots)) - 1)
            lots = lots // magnitude * magnitude
        return lots * self.lot

    def _volume_of(self, rng: Random, trades: int) -> int:
        """Of several trades together."""
        return self._quantity(rng) + int((trades - 1) * self.mean_lots * rng.uniform(0.6, 1.4)) * self.lot

    def _requote(self, rng: Random) -> None:
        below = int(rng.expovariate(1.0))
        self.bid = max(self.tick, self.last - below * self.tick)
        self.ask = self.bid + (1 + int(rng.expovariate(0.7))) * self.tick
        self.bid_quantity, self.ask_quantity = self._quantity(rng), self._quantity(rng)

    def advance(self, rng: Random, now_ms: int, interval_ms: int) -> bool:
        """One interval; returns whether anything changed."""
        mean = self.rate * interval_ms / 1000
        entering = poisson(rng, mean, exp(-mean))
        leaving = min(poisson(rng, mean, exp(-mean)), max(0, self.trades - 1))
        quoted = rng.random() < 1.0 - exp(-mean * _QUOTES_PER_TRADE)
        if entering:
            self._enter(rng, entering, now_ms, interval_ms)
        if leaving:
            self._leave(rng, leaving)
        if quoted:
            self._requote(rng)
        return bool(entering or leaving or quoted)

    def _enter(self, rng: Random, trades: int, now_ms: int, interval_ms: int) -> None:
        sigma = self.volatility * (min(trades, 100) / self.rate) ** 0.5
        self.last = self._on_grid(self.last * (1.0 + rng.gauss(0.0, sigma)))
        self.high, self.low = max(self.high, self.last), min(self.low, self.last)
        volume = self._volume_of(rng, trades)
        self.last_quantity = volume if trades == 1 else self._quantity(rng)
        self.volume += volume
        self.turnover += volume * self.last
        self.trades += trades
        self.close_ms = now_ms - int(interval_ms * rng.random() / trades)

    def _leave(self, rng: Random, trades: int) -> None:
        """Yesterday's trades leave the window, sometimes the one that made the high or the low."""
        share = trades / self.trades
        volume = min(
            self._volume_of(rng, trades), int(self.volume // self.lot * min(0.9, 2 * share)) * self.lot
        )
        self.volume -= volume
        self.turnover -= min(volume * self.open, self.turnover // 2)
        self.trades -= trades
        self.first_id += trades
        sigma = self.volatility * (min(trades, 100) / self.rate) ** 0.5
        self.last_before = self.open
        self.open = self._on_grid(self.open * (1.0 + rng.gauss(0.0, sigma)))
        if rng.random() < 0.002:
            self.high = self._on_grid(max(self.last, self.open) * (1.0 + rng.random() * 0.01))
        elif rng.random() < 0.002:
            self.low = self._on_grid(min(self.last, self.open) * (1.0 - rng.random() * 0.01))
        self.high, self.low = max(self.high, self.open), min(self.low, self.open)

    def record(self) -> dict[str, Any]:
        text = decimal_text
        change = 0 if self.halted else self.last - self.open
        return {
            "symbol": self.symbol,
            "priceChange": text(change, 8),
            "priceChangePercent": text(quotient(change * 100_000, self.open), 3),
            "weightedAvgPrice": text(quotient(self.turnover, self.volume) if self.volume else 0, 8),
            "prevClosePrice": text(self.last_before, 8),
            "lastPrice": text(self.last, 8),
            "lastQty": text(self.last_quantity, 8),
            "bidPrice": text(0 if self.halted else self.bid, 8),
            "bidQty": text(0 if self.halted else self.bid_quantity, 8),
            "askPrice": text(0 if self.halted else self.ask, 8),
            "askQty": text(0 if self.halted else self.ask_quantity, 8),
            "openPrice": text(self.open, 8),
            "highPrice": text(self.last if self.halted else self.high, 8),
            "lowPrice": text(self.last if self.halted else self.low, 8),
            "volume": text(self.volume, 8),
            "quoteVolume": text(self.turnover // _UNIT, 8),
            "openTime": self.close_ms - _DAY_MS,
            "closeTime": self.close_ms,
            "firstId": -1 if self.halted else self.first_id,
            "lastId": -1 if self.halted else self.first_id + self.trades - 1,
            "count": self.trades,
        }
