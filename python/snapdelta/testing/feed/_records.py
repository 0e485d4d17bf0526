"""The records of the three simulated feeds, made from the state of an instrument.

No leaf is the same object as another leaf of its record, as if each had been parsed (hence `+ 0`); only keys
are shared. Vendor fields are decimals; what a scanner computes from them is not rounded.
"""

from __future__ import annotations

from math import log1p
from typing import Any

from snapdelta.testing.feed._instrument import Instrument

Record = dict[str, Any]


def nested(instrument: Instrument, session: str) -> Record:
    """36 leaves in the style of a vendor's full-market snapshot."""
    i = instrument
    prev_close = i.prev_close / 10_000
    change = i.price / 10_000 - prev_close if i.day_volume else 0.0
    return {
        "ticker": _own(i.symbol),
        "todaysChange": change,
        "todaysChangePerc": change / prev_close * 100.0,
        "updated": max(i.trade_ns, i.quote_ns) + 0,
        "day": {
            "o": i.day_open / 10_000,
            "h": i.day_high / 10_000,
            "l": i.day_low / 10_000,
            "c": i.day_close / 10_000,
            "v": i.day_volume,
            "vw": _vwap(i.day_notional, i.day_volume),
        },
        "lastQuote": {
            "p": i.bid / 10_000,
            "s": i.bid_size,
            "P": i.ask / 10_000,
            "S": i.ask_size,
            "t": i.quote_ns,
        },
        "lastTrade": {
            "p": i.price / 10_000,
            "s": i.size,
            "t": i.trade_ns,
            "x": i.venue,
            "i": str(i.trade_id),
            "c": list(i.conditions),
        },
        "min": {
            "o": i.minute_open / 10_000,
            "h": i.minute_high / 10_000,
            "l": i.minute_low / 10_000,
            "c": i.minute_close / 10_000,
            "v": i.minute_volume,
            "av": i.day_volume + 0,
            "vw": _vwap(i.minute_notional, i.minute_volume),
            "n": i.minute_trades,
            "t": i.minute_start_ns // 1_000_000,
        },
        "prevDay": {
            "o": i.prev_open / 10_000,
            "h": i.prev_high / 10_000,
            "l": i.prev_low / 10_000,
            "c": i.prev_close / 10_000,
            "v": i.prev_volume,
            "vw": i.prev_vwap / 10_000,
        },
    }


def enriched(instrument: Instrument, session: str) -> Record:
    """The nested record and 13 leaves that a scanner adds: 49."""
    record = nested(instrument, session)
    i = instrument
    day = record["day"]
    price = i.price / 10_000
    bid, ask = i.bid / 10_000, i.ask / 10_000
    mid = (bid + ask) / 2.0
    spread = ask - bid
    rvol = i.day_volume / i.average_volume
    record["mid"] = mid
    record["spread"] = spread
    record["spread_pct"] = spread / mid * 100.0
    record["from_high"] = _distance(price, day["h"])
    record["from_low"] = _distance(price, day["l"])
    record["from_vwap"] = _distance(price, day["vw"])
    record["from_open"] = _distance(price, day["o"])
    record["above_vwap"] = price > day["vw"]
    record["rvol"] = rvol
    record["atr_pct"] = None if i.atr is None else i.atr / 10_000 / price * 100.0
    record["market_cap"] = None if i.shares is None else price * i.shares
    record["score"] = abs(record["todaysChangePerc"]) * rvol
    record["session"] = _own(session)
    return record


def ranked(instrument: Instrument, session: str) -> Record:
    """A flat scanner ticker of 40 leaves; its score is a composite with caps and logarithms."""
    i = instrument
    price, prev_close = i.price / 10_000, i.prev_close / 10_000
    bid, ask = i.bid / 10_000, i.ask / 10_000
    spread = ask - bid
    opened, high, low = i.day_open / 10_000, i.day_high / 10_000, i.day_low / 10_000
    vwap = _vwap(i.day_notional, i.day_volume)
    change = price - prev_close if i.day_volume else 0.0
    change_percent = change / prev_close * 100.0
    from_high = _distance(price, high)
    rvol = i.day_volume / i.average_volume
    atr_percent = None if i.atr is None else i.atr / 10_000 / price * 100.0
    return {
        "symbol": _own(i.symbol),
        "score": _score(rvol, change_percent, from_high, i.day_volume * vwap),
        "price": price,
        "bid": bid,
        "ask": ask,
        "bid_size": i.bid_size,
        "ask_size": i.ask_size,
        "spread": spread,
        "spread_percent": spread / ((bid + ask) / 2.0) * 100.0,
        "open": opened,
        "high": high,
        "low": low,
        "prev_close": prev_close,
        "prev_volume": i.prev_volume,
        "volume": i.day_volume,
        "vwap": vwap,
        "trades": i.day_trades,
        "dollar_volume": i.day_volume * vwap,
        "change": change,
        "change_percent": change_percent,
        "change_from_open": _distance(price, opened),
        "gap_percent": _distance(opened, prev_close) if i.day_volume else None,
        "price_from_high": from_high,
        "price_from_low": _distance(price, low),
        "price_from_vwap": _distance(price, vwap),
        "minute_volume": i.minute_volume,
        "minute_trades": i.minute_trades,
        "minute_start": i.minute_start_ns // 1_000_000,
        "rvol": rvol,
        "average_volume": i.average_volume,
        "atr": None if i.atr is None else i.atr / 10_000,
        "atr_percent": atr_percent,
        "market_cap": None if i.shares is None else price * i.shares,
        "shares_outstanding": None if i.shares is None else i.shares,
        "sector": _own(i.sector),
        "exchange": _own(i.exchange),
        "last_trade": i.trade_ns,
        "last_quote": i.quote_ns,
        "session": _own(session),
        "is_active": i.minute_trades >= 10,
    }


def _own(text: str) -> str:
    """An equal string that is another object, not interned (but for single letters, which Python shares)."""
    return text[:1] + text[1:]


def _vwap(notional: int, volume: int) -> float:
    """To four decimals, as vendors send it."""
    return round(notional / volume) / 10_000 if volume else 0.0


def _distance(price: float, level: float) -> float | None:
    """Percent from a level; None before the level exists."""
    return (price - level) / level * 100.0 if level else None


def _score(rvol: float, change_percent: float, from_high: float | None, dollars: float) -> float:
    score = 12.0 * log1p(rvol) + 1.5 * min(abs(change_percent), 20.0) + 0.8 * log1p(dollars)
    return score if from_high is None else score + max(0.0, 5.0 + from_high)
