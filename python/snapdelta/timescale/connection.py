"""The one place that loads psycopg and opens connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from snapdelta.errors import MigrationError

if TYPE_CHECKING:
    import psycopg

Notify = Callable[[str], None]


@contextmanager
def connect(
    dsn: str, schema: str | None = None, notify: Notify | None = None
) -> Iterator[psycopg.Connection]:
    """A connection in autocommit mode, closed at the end; `schema` is where the tables are.

    Autocommit because refreshing an aggregate cannot run in a transaction. The server's notices go to
    `notify`. Raises MigrationError when the driver is missing or the server does not answer.
    """
    try:
        import psycopg
        from psycopg import sql
    except ImportError as error:
        raise MigrationError("psycopg is needed: pip install 'snapdelta-rs[timescale]'") from error
    try:
        connection = psycopg.connect(dsn, autocommit=True, application_name="snapdelta migrate")
    except psycopg.Error as error:
        raise MigrationError(f"the database cannot be reached: {str(error).strip()}") from error
    with connection:
        if notify is not None:
            connection.add_notice_handler(lambda diagnostic: notify(diagnostic.message_primary or ""))
        if schema is not None:
            connection.execute(sql.SQL("SET search_path = {}, public").format(sql.Identifier(schema)))
        yield connection
