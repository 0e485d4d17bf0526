"""A daily list of stocks as an exchange publishes it: every number is text for people to read."""

from __future__ import annotations

from math import exp
from random import Random
from typing import Any

from snapdelta.testing.feed._base import SeededFeed, decimal_text, quotient

_DAY_S = 86_400.0
_LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_SYLLABLES = (
    "Al",
    "Bel",
    "Cor",
    "Dyn",
    "Ever",
    "Fal",
    "Gen",
    "Hal",
    "In",
    "Kel",
    "Lum",
    "Mer",
    "Nor",
    "Or",
    "Ver",
)
_ENDINGS = ("a", "ex", "ion", "ix", "o", "on", "tec", "us", "yne")
_FORMS = (
    "Inc. Common Stock",
    "Corp. Common Stock",
    "Holdings Ltd. Ordinary Shares",
    "plc ADR",
    "Trust Units",
)
_COUNTRIES = ("United States",) * 12 + ("China", "Canada", "Israel", "United Kingdom", "Ireland", "")
_SECTORS = {
    "Finance": ("Major Banks", "Savings Institutions", "Blank Checks", "Investment Managers"),
    "Health Care": (
        "Biotechnology: Pharmaceutical Preparations",
        "Medical Specialities",
        "Hospital/Nursing Management",
    ),
    "Technology": ("Semiconductors", "Computer Software: Prepackaged Software", "EDP Services"),
    "Industrials": ("Aerospace", "Metal Fabrications", "Railroads"),
    "Energy": ("Oil & Gas Production", "Natural Gas Distribution"),
    "Consumer Discretionary": ("Restaurants", "Apparel", "Homebuilding", "Hotels/Resorts"),
    "": ("",),
}


class StockList(SeededFeed):
    """An endless iterator of daily lists; the same arguments give the same snapshots.

    Prices are written "$1,234.50", changes "-0.31" and "-0.17%", volume and market cap with thousands
    separators. Change, percent and market cap follow from the prices of two days. At the defaults 97 % of the
    stocks trade on a day; a few are listed or leave.

    Args:
        symbols: how many stocks there are at the start.
        seed: of everything that is random.
        interval: seconds between two frames; volumes and moves are those of a day all the same.

    Raises:
        FeedSettingError: an argument that makes no sense.
    """

    def __init__(self, symbols: int = 4_000, seed: int = 0, interval: float = _DAY_S) -> None:
        super().__init__(symbols, seed, interval)
        self._stocks: dict[str, _Stock] = {}
        for _ in range(symbols):
            self._list()
        self._sort()

    def _advance(self) -> None:
        rng = self._rng
        for name, stock in self._stocks.items():
            if stock.advance(rng):
                self._records[name] = stock.record()
        changes = round(len(self._stocks) * rng.uniform(0.0, 0.001))
        for name in rng.sample(list(self._stocks), changes):
            del self._stocks[name], self._records[name]
        for _ in range(changes):
            self._list()
        self._sort()

    def _list(self) -> None:
        rng = self._rng
        while True:
            name = "".join(rng.choices(_LETTERS, k=rng.choice((2, 3, 3, 4, 4, 4, 5))))
            if name not in self._stocks:
                break
        self._stocks[name] = _Stock(rng, name)
        self._records[name] = self._stocks[name].record()

    def _sort(self) -> None:
        self._records = dict(sorted(self._records.items()))


class _Stock:
    """One stock; prices count cents."""

    def __init__(self, rng: Random, symbol: str) -> None:
        self.symbol = symbol
        first, second = rng.choice(_SYLLABLES), rng.choice(_SYLLABLES).lower()
        self.name = f"{first}{second}{rng.choice(_ENDINGS)} {rng.choice(_FORMS)}"
        self.country = rng.choice(_COUNTRIES)
        self.ipo_year = str(rng.randrange(1980, 2026)) if rng.random() < 0.6 else ""
        self.sector = rng.choice(list(_SECTORS))
        self.industry = rng.choice(_SECTORS[self.sector])
        self.close = max(5, int(100 * exp(rng.gauss(2.8, 1.4))))
        self.volatility = 0.02 * exp(rng.gauss(0.0, 0.6))
        self.shares = 0 if rng.random() < 0.08 else int(exp(rng.gauss(17.5, 1.4)))
        self.usual_volume = exp(rng.gauss(12.0, 2.3))
        self.change = self.volume = 0
        self.advance(rng)

    def advance(self, rng: Random) -> bool:
        """One day; returns whether the stock traded."""
        volume = int(self.usual_volume * exp(rng.gauss(0.0, 0.4)))
        if volume < 5_000 and rng.random() < 0.5:
            return False
        before = self.close
        self.close = max(5, round(before * exp(rng.gauss(0.0, self.volatility))))
        self.change, self.volume = self.close - before, volume
        return True

    def record(self) -> dict[str, Any]:
        percent = quotient(self.change * 10_000, self.close - self.change)
        return {
            "symbol": self.symbol,
            "name": self.name,
            "lastsale": "$" + decimal_text(self.close, 2, ","),
            "netchange": decimal_text(self.change, 2),
            "pctchange": decimal_text(percent, 2) + "%",
            "volume": f"{self.volume:,}",
            "marketCap": decimal_text(self.shares * self.close, 2, ","),
            "country": self.country,
            "ipoyear": self.ipo_year,
            "industry": self.industry,
            "sector": self.sector,
        }
