"""What the services compute, the same before and after: market, ranking, lists, alerts, aggregates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Any, TypeAlias

from snapdelta.testing.feed import Feed

Records: TypeAlias = dict[str, dict[str, Any]]

_LIST_ROWS = 50
_LISTS = {"gappers": "gap_percent", "momentum": "change_percent", "volume": "rvol"}
_ALERT_RVOL = 0.3


def market(symbols: int) -> Iterator[Records]:
    """A seeded market without end, by symbol: the same one in every process."""
    return ({symbol: frame[symbol] for symbol in sorted(frame)} for frame in Feed("ranked", symbols=symbols))


def rank(records: Records) -> Records:
    """The market, best score first."""
    return dict(sorted(records.items(), key=lambda item: -(item[1]["score"] or 0)))


def lists(ranking: Records) -> dict[str, Records]:
    """The top of the market by one field each."""
    return {
        name: dict(sorted(ranking.items(), key=lambda item: -(item[1][field] or 0))[:_LIST_ROWS])
        for name, field in _LISTS.items()
    }


def alerts(ranking: Records) -> list[dict[str, Any]]:
    """The busiest symbols, as events."""
    return [
        {"type": "volume", "symbol": symbol, "rvol": record["rvol"]}
        for symbol, record in ranking.items()
        if (record["rvol"] or 0) > _ALERT_RVOL
    ]


def by_sector(ranking: Records) -> list[dict[str, Any]]:
    """The mean change of each sector."""
    changes: defaultdict[str, list[float]] = defaultdict(list)
    for record in ranking.values():
        changes[record["sector"]].append(record["change_percent"] or 0)
    return [{"sector": sector, "change": sum(each) / len(each)} for sector, each in changes.items()]
