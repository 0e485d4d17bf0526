"""One simulated instrument: how its quote, trades, minute and day move. Prices count 1/10,000 of a dollar."""

from __future__ import annotations

from math import exp, log, sqrt
from random import Random
from sys import intern

# Venue numbers and their share of the trades, roughly as on US equity tapes.
_VENUES = (4, 12, 11, 19, 8, 10, 15, 21, 17, 2)
_VENUE_SHARES = (0.40, 0.16, 0.11, 0.09, 0.07, 0.06, 0.05, 0.03, 0.02, 0.01)
_CUMULATIVE_SHARES = tuple(sum(_VENUE_SHARES[: n + 1]) for n in range(len(_VENUE_SHARES)))

# Sale conditions with their frequency: none, odd lot, intermarket sweep, both, contingent.
_CONDITIONS = ((), (37,), (14, 41), (14, 37, 41), (12, 37), (2, 53))
_CONDITION_WEIGHTS = (0.26, 0.60, 0.72, 0.93, 0.99, 1.0)

_SECTORS = (
    "Technology",
    "Healthcare",
    "Financials",
    "Industrials",
    "Energy",
    "Consumer",
    "Fund",
    "Utilities",
)
_EXCHANGES = ("XNAS", "XNYS", "ARCX", "BATS")

FULL_MARKET = 11_905
SECOND_NS = 1_000_000_000
MINUTE_NS = 60 * SECOND_NS
_TRADING_DAY_S = 23_400.0
_LONGEST_MOVE_S = 1_800.0
_MEAN_SIZE = 130
_MOST_STEPS = 4
_DOLLAR = 10_000


class Instrument:
    """The state of one symbol; `rank` is 0 for the most traded, `rate` its trades a second at pace 1."""

    __slots__ = (
        "ask",
        "ask_size",
        "atr",
        "average_volume",
        "bid",
        "bid_size",
        "conditions",
        "day_close",
        "day_high",
        "day_low",
        "day_notional",
        "day_open",
        "day_trades",
        "day_volume",
        "exchange",
        "fair",
        "minute_close",
        "minute_high",
        "minute_low",
        "minute_notional",
        "minute_open",
        "minute_start_ns",
        "minute_trades",
        "minute_volume",
        "moved_ns",
        "prev_close",
        "prev_high",
        "prev_low",
        "prev_open",
        "prev_volume",
        "prev_vwap",
        "price",
        "quote_ns",
        "rate",
        "relative_spread",
        "sector",
        "shares",
        "size",
        "symbol",
        "trade_id",
        "trade_ns",
        "venue",
        "venue_ids",
        "volatility",
    )

    def __init__(self, rng: Random, symbol: str, rank: float, now_ns: int, since_open_s: float) -> None:
        self.symbol = intern(symbol)
        self.rate = trade_rate(rank)
        self.volatility = 0.02 * exp(rng.gauss(0.0, 0.6))
        self.relative_spread = 0.0002 + 8e-7 * rank
        self._draw_reference_data(rng)
        self._draw_previous_day(rng)
        self.fair = max(2.0, self.prev_close * exp(rng.gauss(0.0, self.volatility * 0.5)))
        self.bid_size, self.ask_size = _lots(rng), _lots(rng)
        self._requote(rng)
        self.quote_ns = now_ns - _waiting_ns(rng, self.rate * 2)
        self.venue_ids: dict[int, int] = {}
        self._draw_day_so_far(rng, now_ns, since_open_s)
        self.moved_ns = max(self.quote_ns, self.trade_ns)

    def _draw_reference_data(self, rng: Random) -> None:
        """What a scanner knows of the company; None where it knows nothing, as for funds and warrants."""
        self.sector = rng.choice(_SECTORS)
        self.exchange = rng.choice(_EXCHANGES)
        daily = self.rate * _TRADING_DAY_S * _MEAN_SIZE
        self.average_volume = int(daily * exp(rng.gauss(0.0, 0.35))) + 1
        self.shares = None if self.sector == "Fund" else int(1e6 * exp(rng.gauss(3.5, 1.3)))

    def _draw_previous_day(self, rng: Random) -> None:
        dollars = exp(rng.gauss(3.0, 1.25))
        tick = _tick(dollars * _DOLLAR)
        close = max(tick, round(dollars * _DOLLAR / tick) * tick)
        self.prev_close = close
        self.prev_open = max(tick, round(close * exp(rng.gauss(0.0, self.volatility)) / tick) * tick)
        swing = abs(rng.gauss(0.0, self.volatility)) * 0.6
        self.prev_high = round(max(self.prev_open, close) * (1.0 + swing) / tick) * tick
        self.prev_low = max(tick, round(min(self.prev_open, close) * (1.0 - min(swing, 0.9)) / tick) * tick)
        self.prev_volume = int(self.average_volume * exp(rng.gauss(0.0, 0.4))) + 1
        self.prev_vwap = round(rng.uniform(self.prev_low, self.prev_high))
        self.atr = None if rng.random() < 0.02 else round(close * self.volatility * 1.3)

    def _draw_day_so_far(self, rng: Random, now_ns: int, since_open_s: float) -> None:
        """The day up to now, as if it had been traded; with no trade yet, only yesterday's last trade."""
        waiting_ns = _waiting_ns(rng, self.rate)
        self.trade_ns = now_ns - waiting_ns
        self.conditions = _conditions(rng)
        self.venue = _VENUES[0]
        self.size = _size(rng)
        self._clear_day()
        expected = self.rate * since_open_s
        if waiting_ns > since_open_s * SECOND_NS or expected < 1.0:
            self.price = self.prev_close
            self.trade_ns = now_ns - int((since_open_s + 64_800.0 + 3_600.0 * rng.random()) * SECOND_NS)
            self._number_trade(rng)
            return
        trades = int(expected) + 1
        volume = int(trades * _MEAN_SIZE * rng.uniform(0.7, 1.3)) + self.size
        tick = _tick(self.fair)
        price = max(tick, round(self.fair / tick) * tick)
        opened = max(tick, round(self.prev_close * exp(rng.gauss(0.0, self.volatility * 0.4)) / tick) * tick)
        swing = abs(rng.gauss(0.0, self.volatility)) * 0.4
        self.price = self.day_close = price
        self.day_open = opened
        self.day_high = round(max(opened, price) * (1.0 + swing) / tick) * tick
        self.day_low = max(tick, round(min(opened, price) * (1.0 - min(swing, 0.9)) / tick) * tick)
        self.day_volume = volume
        self.day_notional = volume * round(rng.uniform(self.day_low, self.day_high))
        self.day_trades = trades
        self.minute_start_ns = self.trade_ns // MINUTE_NS * MINUTE_NS
        last_minute = min(trades, int(self.rate * 30.0) + 1)
        self.minute_open = self.minute_high = self.minute_low = self.minute_close = price
        self.minute_volume = min(volume, last_minute * _MEAN_SIZE + self.size)
        self.minute_notional = self.minute_volume * price
        self.minute_trades = last_minute
        self._number_trade(rng)

    def _clear_day(self) -> None:
        self.day_open = self.day_high = self.day_low = self.day_close = 0
        self.day_volume = self.day_notional = self.day_trades = 0
        self.minute_open = self.minute_high = self.minute_low = self.minute_close = 0
        self.minute_volume = self.minute_notional = self.minute_trades = self.minute_start_ns = 0

    def start_day(self) -> None:
        """Yesterday's day becomes the previous day; a symbol that did not trade keeps the older one."""
        if self.day_volume:
            self.prev_open, self.prev_high = self.day_open, self.day_high
            self.prev_low, self.prev_close = self.day_low, self.day_close
            self.prev_volume = self.day_volume
            self.prev_vwap = round(self.day_notional / self.day_volume)
        self._clear_day()
        self.venue_ids = {}

    def advance(self, rng: Random, trades: int, quotes: int, start_ns: int, end_ns: int) -> None:
        """Play `trades` trades and `quotes` quote updates that fell between the two times."""
        width_ns = end_ns - start_ns
        elapsed_s = min((end_ns - self.moved_ns) / SECOND_NS, _LONGEST_MOVE_S)
        steps = max(1, min(trades, _MOST_STEPS))
        sigma = self.volatility * sqrt(elapsed_s / _TRADING_DAY_S / steps)
        if trades:
            self.trade_ns = start_ns + _latest_of(rng, trades, width_ns)
            self._roll_minute()
        for step in range(steps):
            if quotes:
                self.fair = max(2.0, self.fair * (1.0 + rng.gauss(0.0, sigma)))
                self._requote(rng)
            if trades:
                self._trade(rng, trades // steps + (step < trades % steps))
        if quotes:
            self.quote_ns = start_ns + _latest_of(rng, quotes, width_ns)
        if trades:
            self.venue = rng.choices(_VENUES, cum_weights=_CUMULATIVE_SHARES)[0]
            self.conditions = _conditions(rng)
            self._number_trade(rng)
        self.moved_ns = max(self.trade_ns, self.quote_ns)

    def _roll_minute(self) -> None:
        minute_ns = self.trade_ns // MINUTE_NS * MINUTE_NS
        if minute_ns != self.minute_start_ns:
            self.minute_start_ns = minute_ns
            self.minute_open = 0
            self.minute_volume = self.minute_notional = self.minute_trades = 0

    def _requote(self, rng: Random) -> None:
        tick = _tick(self.fair)
        spread = max(1, round(self.fair * self.relative_spread / tick * (0.5 + rng.random()))) * tick
        self.bid = max(tick, int((self.fair - spread / 2) / tick + 0.5) * tick)
        self.ask = self.bid + spread
        # One update seldom touches the sizes of both sides.
        side = rng.random()
        if side < 0.7:
            self.bid_size = _lots(rng)
        if side > 0.3:
            self.ask_size = _lots(rng)

    def _trade(self, rng: Random, count: int) -> None:
        """`count` trades at one price: the bid, the ask, or an improved price in tenths of a cent between."""
        where = rng.random()
        if where < 0.2 and self.ask - self.bid > 20:
            price = self.bid + rng.randrange(1, (self.ask - self.bid) // 10) * 10
        else:
            price = self.bid if where < 0.6 else self.ask
        self.size = _size(rng)
        volume = self.size + int((count - 1) * _MEAN_SIZE * (0.5 + rng.random()))
        self.price = self.day_close = self.minute_close = price
        if not self.day_open:
            self.day_open = self.day_high = self.day_low = price
        if not self.minute_open:
            self.minute_open = self.minute_high = self.minute_low = price
        self.day_high = max(self.day_high, price)
        self.day_low = min(self.day_low, price)
        self.minute_high = max(self.minute_high, price)
        self.minute_low = min(self.minute_low, price)
        self.day_volume += volume
        self.minute_volume += volume
        self.day_notional += volume * price
        self.minute_notional += volume * price
        self.day_trades += count
        self.minute_trades += count

    def _number_trade(self, rng: Random) -> None:
        """Trade ids count up per symbol and venue, so the last id jumps when the venue changes."""
        share = _VENUE_SHARES[_VENUES.index(self.venue)]
        last = self.venue_ids.get(self.venue)
        if last is None:
            last = rng.randrange(40)
        self.trade_id = max(last + 1, int(self.day_trades * share))
        self.venue_ids[self.venue] = self.trade_id


def trade_rate(rank: float) -> float:
    """Trades a second at pace 1 of a rank in FULL_MARKET: Zipf, flattened at the top, thin at the end."""
    return 290.0 / (rank + 10.0) * exp(-((rank / 8_000.0) ** 4))


def poisson(rng: Random, mean: float, quiet: float) -> int:
    """A Poisson number; `quiet` is exp(-mean), given because most draws need nothing else."""
    below = rng.random()
    if below < quiet:
        return 0
    if mean > 30.0:
        return max(1, round(rng.gauss(mean, sqrt(mean))))
    count, term, total = 0, quiet, quiet
    while below >= total and term > 1e-18:
        count += 1
        term *= mean / count
        total += term
    return count


def _tick(price: float) -> int:
    return 100 if price >= _DOLLAR else 1


def _waiting_ns(rng: Random, rate: float) -> int:
    return int(-log(1.0 - rng.random()) / rate * SECOND_NS)


def _latest_of(rng: Random, count: int, width_ns: int) -> int:
    """The newest of `count` times spread evenly over the width, as an offset."""
    return min(width_ns - 1, int(width_ns * rng.random() ** (1.0 / count)))


def _lots(rng: Random) -> int:
    return 1 + int(-4.0 * log(1.0 - rng.random()))


def _size(rng: Random) -> int:
    if rng.random() < 0.55:
        return 1 + int(99 * rng.random() ** 2)
    return 100 * (1 + int(-log(1.0 - rng.random())))


def _conditions(rng: Random) -> tuple[int, ...]:
    return rng.choices(_CONDITIONS, cum_weights=_CONDITION_WEIGHTS)[0]
