"""A seeded market feed for tests, benchmarks and the demo: `{symbol: record}`, a new one every interval.

It has three kinds of record, all from the same market:

- `nested`: quote, trade, minute, day and previous-day blocks in the style of a vendor's full-market snapshot;
- `enriched`: the same and what a scanner adds (rvol, ATR %, distances from high, low and vwap, spread, mid,
  market cap, score, session), computed and not rounded;
- `ranked`: flat scanner tickers, ordered by score, best first, so that the order moves.

Activity follows Zipf's law over the symbols, times are nanoseconds, minutes and days roll over, a few symbols
a minute come and go, and the fields agree with each other as a vendor's do: after a trade `day.c`, `min.c`
and `lastTrade.p` are equal, `min.av` is `day.v`, `updated` is the larger of the two times. Trade ids count up
per symbol and venue, so they do not follow the trade count.

Measured over the first 24 deltas at the defaults (11,905 symbols, 5 s; medians; JSON without spaces):

| kind | JSON | leaves | leaves changed | symbols changed |
|---|---|---|---|---|
| nested | 6.15 MB | 428,580 (36 a symbol) | 8.1 % (7.8-9.1 %) | 22 % |
| enriched | 10.22 MB | 583,296 (49 a symbol) | 14.7 % (14.4-16.2 %) | 35 % |
| ranked | 10.97 MB | 476,160 (40 a symbol) | 13.2 % (13.0-13.9 %) | 35 % |

The higher figures are those of frames in which a minute begins. Making a frame takes 0.15 to 0.3 s.
"""

from __future__ import annotations

from math import exp
from typing import Any, Literal, TypeAlias

from snapdelta.errors import FeedSettingError
from snapdelta.testing.feed import _records as records
from snapdelta.testing.feed._base import START_MS, SeededFeed, Snapshot
from snapdelta.testing.feed._instrument import FULL_MARKET, Instrument, poisson

Kind: TypeAlias = Literal["nested", "enriched", "ranked"]

_RECORDS = {"nested": records.nested, "enriched": records.enriched, "ranked": records.ranked}
_PACES = {"nested": 0.42, "enriched": 1.0, "ranked": 1.0}

# New York without daylight saving; START_MS is ten in the morning there.
_NEW_YORK_MS = -5 * 3_600_000
_DAY_MS = 86_400_000
_PRE_MARKET_MS, _OPEN_MS, _CLOSE_MS, _END_MS = (int(h * 3_600_000) for h in (4.0, 9.5, 16.0, 20.0))

_SESSION_PACES = {"closed": 0.0, "pre": 0.1, "regular": 1.0, "post": 0.1}
_QUOTES_PER_TRADE = 0.8
_COMING_A_MINUTE = 3.0
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Feed(SeededFeed):
    """An endless iterator of snapshots; the same arguments give the same snapshots.

    Args:
        kind: `nested`, `enriched` or `ranked`.
        symbols: how many symbols there are at the start; later the number wanders by a few.
        seed: of everything that is random.
        interval: seconds of market time between two frames (nothing sleeps).
        start_ms: market time of the first frame, ms since 1970; `time_ms` tells the last one's.
        pace: how busy the regular session is. 1 is a busy morning, the default of `enriched` and `ranked`:
            35 % of the symbols change in 5 s. The default of `nested` is a quieter market. Before and after
            the session there is a tenth of it, at night nothing.
        share_unchanged: if true, records that did not change share their leaf objects (lists among them) with
            the frame before. By default equal values are made anew, as a service that parses its input does.
            Either way every dict is new, so changing it does not affect a later frame.

    Raises:
        FeedSettingError: an argument that makes no sense.
    """

    def __init__(
        self,
        kind: Kind = "enriched",
        symbols: int = FULL_MARKET,
        seed: int = 0,
        interval: float = 5.0,
        *,
        start_ms: int = START_MS,
        pace: float | None = None,
        share_unchanged: bool = False,
    ) -> None:
        if kind not in _RECORDS:
            raise FeedSettingError(f"kind: {kind!r} is not one of {', '.join(_RECORDS)}")
        super().__init__(symbols, seed, interval, start_ms)
        self.kind = kind
        self.share_unchanged = share_unchanged
        self._pace = _PACES[kind] if pace is None else pace
        if not self._pace >= 0:
            raise FeedSettingError(f"pace must be at least 0, not {pace}")
        self._make_record = _RECORDS[kind]
        self._names: set[str] = set()
        self._live: dict[str, Instrument] = {}
        self._chances: dict[str, tuple[float, float, float, float]] = {}
        self._gone: list[Instrument] = []
        self._session = _session(start_ms)
        ranks = list(range(symbols))
        self._rng.shuffle(ranks)
        for rank in ranks:
            self._list(self._new_instrument(rank * FULL_MARKET / symbols))

    def _advance(self) -> None:
        before_ms = self.time_ms - self._interval_ms
        if _trading_day(before_ms) != _trading_day(self.time_ms):
            for instrument in (*self._live.values(), *self._gone):
                instrument.start_day()
            self._records.clear()
        session = _session(self.time_ms)
        if session != self._session:
            self._session = session
            self._records.clear()
            self._chances = {name: self._chances_of(i) for name, i in self._live.items()}
        self._come_and_go()
        self._trade(before_ms * 1_000_000, self.time_ms * 1_000_000)
        if len(self._records) < len(self._live):
            # The day or the session has changed: every record shows it.
            self._records = {name: self._make_record(i, session) for name, i in self._live.items()}

    def _trade(self, start_ns: int, end_ns: int) -> None:
        rng, live, made = self._rng, self._live, self._records
        for name, (trade_mean, no_trade, quote_mean, no_quote) in self._chances.items():
            trades = poisson(rng, trade_mean, no_trade)
            quotes = poisson(rng, quote_mean, no_quote)
            if trades or quotes:
                instrument = live[name]
                instrument.advance(rng, trades, quotes, start_ns, end_ns)
                if name in made:
                    made[name] = self._make_record(instrument, self._session)

    def _come_and_go(self) -> None:
        """New listings, halts and their ends; a symbol that comes back comes last."""
        rng = self._rng
        mean = _COMING_A_MINUTE * self._interval_ms / 60_000 * min(1.0, len(self._live) / 1_000)
        for _ in range(poisson(rng, mean, exp(-mean))):
            name = rng.choice(list(self._live))
            self._gone.append(self._live.pop(name))
            del self._chances[name]
            self._records.pop(name, None)
        for _ in range(poisson(rng, mean, exp(-mean))):
            if self._gone and rng.random() < 0.7:
                self._list(self._gone.pop(rng.randrange(len(self._gone))))
            else:
                self._list(self._new_instrument(rng.random() * FULL_MARKET))

    def _new_instrument(self, rank: float) -> Instrument:
        since_open_s = max(0.0, (_of_day(self.time_ms) - _OPEN_MS) / 1000)
        name = self._new_name()
        return Instrument(self._rng, name, rank, self.time_ms * 1_000_000, since_open_s)

    def _new_name(self) -> str:
        rng = self._rng
        while True:
            length = rng.choices((1, 2, 3, 4, 5), cum_weights=(0.002, 0.02, 0.3, 0.82, 1.0))[0]
            name = "".join(rng.choices(_LETTERS, k=length))
            if length < 5 and rng.random() < 0.03:
                name += rng.choice((".A", ".B", ".U", ".WS"))
            if name not in self._names:
                self._names.add(name)
                return name

    def _list(self, instrument: Instrument) -> None:
        name = instrument.symbol
        self._live[name] = instrument
        self._chances[name] = self._chances_of(instrument)
        self._records[name] = self._make_record(instrument, self._session)

    def _chances_of(self, instrument: Instrument) -> tuple[float, float, float, float]:
        """Mean number of trades in a frame, the chance of none, and the same of quotes."""
        pace = self._pace * _SESSION_PACES[self._session]
        trades = instrument.rate * pace * self._interval_ms / 1000
        quotes = trades * _QUOTES_PER_TRADE
        return trades, exp(-trades), quotes, exp(-quotes)

    def _copy(self) -> Snapshot:
        frame = self._shared_copy() if self.share_unchanged else super()._copy()
        if self.kind == "ranked":
            frame = dict(sorted(frame.items(), key=_score, reverse=True))
        return frame

    def _shared_copy(self) -> Snapshot:
        return {
            name: {k: v.copy() if type(v) is dict else v for k, v in record.items()}
            for name, record in self._records.items()
        }


def _score(item: tuple[str, dict[str, Any]]) -> float:
    score: float = item[1]["score"]
    return score


def _of_day(time_ms: int) -> int:
    """Milliseconds since midnight in New York."""
    return (time_ms + _NEW_YORK_MS) % _DAY_MS


def _trading_day(time_ms: int) -> int:
    """A number that changes when the pre-market begins."""
    return (time_ms + _NEW_YORK_MS - _PRE_MARKET_MS) // _DAY_MS


def _session(time_ms: int) -> str:
    of_day = _of_day(time_ms)
    if not _PRE_MARKET_MS <= of_day < _END_MS:
        return "closed"
    if of_day < _OPEN_MS:
        return "pre"
    return "regular" if of_day < _CLOSE_MS else "post"
