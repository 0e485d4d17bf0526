"""A scanner that goes on writing, and a client that reads and then writes, while a migration runs."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import TracebackType

import psycopg
from psycopg.types.json import Jsonb

from timescale.scanner import SYMBOLS, Row, random_row

_INSERT = (
    "INSERT INTO scan_results (time, symbol, session, price, volume, volume_today, change_percent, rvol, rvol_slot,"
    " price_from_high, price_from_low, market_cap, float_shares, score, filters_matched, metadata) VALUES"
    " (%(time)s, %(symbol)s, %(session)s, %(price)s, %(volume)s, %(volume_today)s, %(change_percent)s, %(rvol)s, %(rvol_slot)s,"
    " %(price_from_high)s, %(price_from_low)s, %(market_cap)s, %(float_shares)s, %(score)s, %(filters_matched)s, %(metadata)s)"
)


class Traffic:
    """`per_second` inserts a second, and transactions that read for a while and then write.

    `rows` are those that were committed, `longest` is the longest that one insert took, in seconds.
    """

    def __init__(self, dsn: str, per_second: int = 200) -> None:
        self._dsn = dsn
        self._pause = 1 / per_second
        self._ended = threading.Event()
        self._lock = threading.Lock()
        self._random = random.Random(1)
        self._last = datetime.now(UTC)
        self.rows: list[Row] = []
        self.errors: list[Exception] = []
        self.longest = 0.0
        self._threads = [
            threading.Thread(target=self._until_ended, args=(work,))
            for work in (self._write, self._read_and_write)
        ]

    def __enter__(self) -> Traffic:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _until_ended(self, work: Callable[[psycopg.Connection], None]) -> None:
        with psycopg.connect(self._dsn, autocommit=True) as connection:
            while not self._ended.is_set():
                try:
                    work(connection)
                except psycopg.Error as error:
                    self.errors.append(error)

    def _row(self) -> Row:
        """A row of this moment, later than any before: which of two rows is the last must be certain."""
        with self._lock:
            self._last = max(datetime.now(UTC), self._last + timedelta(microseconds=1))
            row = random_row(self._random, self._last, self._random.choice(SYMBOLS))
            self.rows.append(row)
            return row

    def _insert(self, connection: psycopg.Connection) -> None:
        row = self._row()
        began = time.monotonic()
        try:
            connection.execute(
                _INSERT, {**row, "metadata": Jsonb(row["metadata"]) if row["metadata"] else None}
            )
        except psycopg.Error:
            with self._lock:
                self.rows.remove(row)
            raise
        self.longest = max(self.longest, time.monotonic() - began)

    def _write(self, connection: psycopg.Connection) -> None:
        began = time.monotonic()
        self._insert(connection)
        self._ended.wait(max(0.0, self._pause - (time.monotonic() - began)))

    def _read_and_write(self, connection: psycopg.Connection) -> None:
        with connection.transaction():
            connection.execute("SELECT count(*) FROM scan_results WHERE time > now() - interval '1 hour'")
            time.sleep(0.2)
            self._insert(connection)
