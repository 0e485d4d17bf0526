"""The one place that loads psycopg and opens connections."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from snapdelta.errors import MigrationError, MigrationLockedError

if TYPE_CHECKING:
    import psycopg

Notify = Callable[[str], None]

# A query over a hundred chunks takes longer to compile than to run.
_SESSION = ("intervalstyle = postgres", "datestyle = 'ISO, MDY'", "timezone = 'UTC'", "jit = off")

_ADVICE = {
    "25006": ": temporary functions cannot be made here; run it in a session that may write",
    "42501": ": grant this role the right, or run it as the owner",
    "55P03": ": a session holds this lock, or a job waits for it",
    "57014": ": give it more time, as in SNAPDELTA_DSN=...?options=-cstatement_timeout=0",
}


@contextmanager
def connect(
    dsn: str, schema: str | None = None, notify: Notify | None = None
) -> Iterator[psycopg.Connection]:
    """A connection in autocommit mode, closed at the end; `schema` names the schema of the tables.

    Autocommit because refreshing an aggregate cannot run in a transaction. The session has its own styles and
    time zone, whatever the server, the database and the role are set to. The server's notices go to `notify`.
    Raises MigrationError when the driver or the schema is missing, and for every error of the server inside.
    """
    try:
        import psycopg
        from psycopg import sql
    except ImportError as error:
        raise MigrationError("psycopg is needed: pip install 'snapdelta-rs[timescale]'") from error
    try:
        connection = psycopg.connect(
            dsn, autocommit=True, application_name="snapdelta migrate", client_encoding="utf8"
        )
    except psycopg.Error as error:
        raise MigrationError(f"the database cannot be reached: {sentence(error)}") from error
    try:
        with connection:
            if notify is not None:
                connection.add_notice_handler(lambda diagnostic: notify(diagnostic.message_primary or ""))
            for setting in _SESSION:
                connection.execute(f"SET {setting}".encode())
            if schema is not None:
                connection.execute(sql.SQL("SET search_path = {}, public").format(sql.Identifier(schema)))
                if connection.execute("SELECT current_schema()").fetchone() != (schema,):
                    raise MigrationError(f"schema {schema!r} does not exist, or this role may not use it")
            yield connection
    except psycopg.Error as error:
        raise MigrationError(f"the database refused: {sentence(error)}") from error


@contextmanager
def explained(place: str) -> Iterator[None]:
    """Turns errors of the server into ours; `place` names the current step.

    Raises MigrationLockedError while another migration runs, and MigrationError for everything else.
    """
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        said = error.diag.message_primary or str(error).strip()
        if said.startswith("snapdelta: "):
            # Without our word in front the same code means a table that stayed locked for lock_timeout.
            locked = isinstance(error, psycopg.errors.LockNotAvailable)
            kind = MigrationLockedError if locked else MigrationError
            raise kind(said.removeprefix("snapdelta: ")) from error
        raise MigrationError(
            f"{place}: {said}; no later step has run; remove the cause, then run it again"
        ) from error


def sentence(error: psycopg.Error) -> str:
    """The server's message in one line, with advice if it is known."""
    said = error.diag.message_primary or " ".join(str(error).split())
    return said + _ADVICE.get(error.sqlstate or "", "")
