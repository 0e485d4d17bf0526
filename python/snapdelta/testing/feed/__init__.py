"""Seeded feeds for tests, benchmarks and the demo: `{symbol: record}`, a new one every interval.

| feed | what it looks like |
|---|---|
| `Feed` | a stock market: nested, enriched or ranked records of floats and ints |
| `ExchangeTickers` | a crypto exchange's 24 h tickers: decimal strings, counts, times in ms |
| `OrderBooks` | order books, as lists of [price, size] or as {price: size} |
| `StockList` | a daily stock list whose numbers are text with "$", "%" and thousands separators |
| `Aircraft` | state vectors of aircraft: positions with many digits, headings, times, None |

No feed copies a recording: only the form of the records and the changes between frames are similar.
"""

from snapdelta.testing.feed._base import Snapshot
from snapdelta.testing.feed.aircraft import Aircraft
from snapdelta.testing.feed.market import Feed, Kind
from snapdelta.testing.feed.order_books import OrderBooks
from snapdelta.testing.feed.stock_list import StockList
from snapdelta.testing.feed.tickers import ExchangeTickers
from snapdelta.testing.recordings import Frame, read_recording

__all__ = [
    "Aircraft",
    "ExchangeTickers",
    "Feed",
    "Frame",
    "Kind",
    "OrderBooks",
    "Snapshot",
    "StockList",
    "read_recording",
]
