"""Runs the migrations' scripts, one statement at a time, and lists the applied migrations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from snapdelta.timescale.connection import Notify, connect, explained
from snapdelta.timescale.files import OPTIMIZE, REWRITE, SCHEMA, load
from snapdelta.timescale.script import Script, Statement
from snapdelta.timescale.settings import Settings
from snapdelta.timescale.table_migration import apply_tables
from snapdelta.timescale.table_queries import RECORD, recorded, scanner_begun
from snapdelta.timescale.table_reverting import revert_tables
from snapdelta.timescale.tables import Tables

if TYPE_CHECKING:
    import psycopg

_TABLES = ("scan_results", "volume_slots", "market_data_daily")


@dataclass(frozen=True, slots=True)
class MigrationState:
    """The record of one migration; times by the server's clock, None: never."""

    name: str
    state: Literal["not applied", "half applied", "applied", "reverted"]
    started_at: datetime | None = None
    applied_at: datetime | None = None
    reverted_at: datetime | None = None
    settings: Mapping[str, str] | None = None


def up(
    dsn: str,
    settings: Mapping[str, str] | None = None,
    *,
    tables: Tables | None = None,
    schema: str | None = None,
    notify: Notify | None = None,
) -> None:
    """Creates the tables that are missing and applies the migration; safe to run again at any time.

    `settings` are periods by name, as psql variables of 004_optimize_memory_usage.sql: `{"raw_retention":
    "5 days"}`; `tables` are those of a settings file (`load_tables`). Raises MigrationSettingError before
    anything is opened when they would lose history, MigrationLockedError while another migration runs, and
    MigrationError with the server's sentence for everything that it refuses. The changes up to then stay; a
    second run continues from there. It first finishes an interrupted rewrite.
    """
    tables = tables or Tables()
    texts = checked(settings, tables)
    with connect(dsn, schema, notify) as connection:
        if tables.scanner:
            execute(connection, load(SCHEMA), {})
            if _rewrite_stopped(connection):
                execute(connection, load(REWRITE), load(REWRITE).values({"run": "yes"}))
            execute(connection, load(OPTIMIZE), texts)
        if tables.tables:
            apply_tables(connection, tables, Settings(texts), notify)


def down(
    dsn: str, *, only: Sequence[str] = (), schema: str | None = None, notify: Notify | None = None
) -> None:
    """Restores the policies and chunk widths from before `up`; the aggregates stay, with their rows.

    `only` limits it to these tables of a settings file; default: all of them and the scanner's. Raises
    MigrationError if nothing was applied, and then changes nothing.
    """
    with connect(dsn, schema, notify) as connection:
        applied = list(only) or [table.name for table in recorded(connection)]
        if applied:
            said = revert_tables(connection, applied)
            if notify is not None:
                for sentence in said:
                    notify(f"snapdelta: {sentence}")
        if not only and (not applied or scanner_begun(connection)):
            execute(connection, load(f"{OPTIMIZE}.down"), {})


def rewrite(dsn: str, *, run: bool, schema: str | None = None, notify: Notify | None = None) -> None:
    """Estimates (and with `run` does) the move of the newest raw rows from wide chunks into narrow ones.

    The estimate comes through `notify`. Raises MigrationError when the migration is not applied, and when
    the table is in use without a pause. The next run finishes an interrupted one.
    """
    with connect(dsn, schema, notify) as connection:
        execute(connection, load(REWRITE), load(REWRITE).values({"run": "yes" if run else "no"}))
        if run:  # an index that was put off until the chunks are narrow
            execute(connection, load(SCHEMA), {})


def _rewrite_stopped(connection: psycopg.Connection) -> bool:
    """Whether rows are on their way between the tables of a rewrite."""
    row = connection.execute(
        "SELECT to_regclass(format('%I.snapdelta_rewrite_rows', current_schema())) IS NOT NULL"
        " AND to_regclass(format('%I.snapdelta_rewrite_changes', current_schema())) IS NULL"
    ).fetchone()
    return row == (True,)


def status(dsn: str, *, schema: str | None = None) -> list[MigrationState]:
    """The applied migrations, from the record that the SQL itself writes (also under psql)."""
    with connect(dsn, schema) as connection:
        present = connection.execute(
            "SELECT count(*) FROM unnest(%s::text[]) AS t"
            " WHERE to_regclass(format('%%I.%%I', current_schema(), t)) IS NOT NULL",
            (list(_TABLES),),
        ).fetchone()
        states = [MigrationState(SCHEMA, "applied" if present == (len(_TABLES),) else "not applied")]
        found: dict[str, MigrationState] = {}
        known = connection.execute(
            "SELECT to_regclass(format('%I.snapdelta_migrations', current_schema())) IS NOT NULL"
        ).fetchone()
        if known == (True,):
            for row in connection.execute(
                "SELECT name, started_at, applied_at, reverted_at, before IS NOT NULL OR name = %s, settings"
                " FROM snapdelta_migrations",
                (REWRITE,),  # keeps nothing for a way back: there is none
            ):
                name, started, applied, reverted, begun, periods = row
                state: Literal["applied", "half applied", "reverted", "not applied"] = (
                    "applied"
                    if applied
                    else "half applied"
                    if begun
                    else "reverted"
                    if reverted
                    else "not applied"
                )
                found[name] = MigrationState(name, state, started, applied, reverted, periods)
        names = [OPTIMIZE, REWRITE, *sorted(name for name in found if name.startswith(RECORD))]
        return states + [found.get(name, MigrationState(name, "not applied")) for name in names]


def render(name: str, settings: Mapping[str, str] | None = None) -> str:
    """A migration's SQL with its settings filled in: `--dry-run` prints it, and psql can run it."""
    script = load(name)
    values = script.values(settings or {})
    endings = {"": ";", "gset": " \\gset snapdelta_", "gexec": " \\gexec"}
    sent = [statement.render(values) + endings[statement.ending] for statement in script.statements]
    return "\n\n".join([f"-- {script.name}\n\\set ON_ERROR_STOP on", *sent]) + "\n"


def checked(given: Mapping[str, str] | None, tables: Tables | None = None) -> dict[str, str]:
    """The settings as texts, after checking the rules.

    Raises MigrationSettingError for the first broken rule.
    """
    tables = tables or Tables()
    settings = tables.chosen(given)
    settings.require_rules()
    tables.require_rules()
    return settings.texts


def execute(connection: psycopg.Connection, script: Script, values: Mapping[str, str]) -> None:
    """Runs every statement of a script in order and stops at the first error."""
    for statement in script.statements:
        sent = statement.render(values)
        rows = _send(connection, script, statement, sent)
        if statement.ending == "gexec":
            for (command,) in rows:
                _send(connection, script, statement, str(command))


def _send(
    connection: psycopg.Connection, script: Script, statement: Statement, sent: str
) -> list[tuple[object, ...]]:
    with explained(f"{script.name}, line {statement.line}"):
        cursor = connection.execute(sent.encode())
    return cursor.fetchall() if cursor.description is not None else []
