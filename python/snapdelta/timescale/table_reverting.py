"""Reverts the tables of a settings file to their earlier state, from the record that `up` wrote."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from snapdelta.errors import MigrationError
from snapdelta.timescale.connection import explained, sentence
from snapdelta.timescale.levels import PROCEDURES, REFRESH, RETENTION
from snapdelta.timescale.settings import Settings
from snapdelta.timescale.table_queries import (
    RECORD,
    SETTINGS_COLUMNS,
    call,
    compression_columns,
    compression_from,
    patient,
    prepare,
    recorded,
    row,
    set_compression,
    stored,
)

if TYPE_CHECKING:
    import psycopg


def revert_tables(connection: psycopg.Connection, names: Sequence[str]) -> list[str]:
    """Restores the policies, chunk widths and compression of these tables; returns what it could not restore.

    Aggregates that the migration made stay, and are refreshed while that empties nothing.
    """
    said: list[str] = []
    with explained("the tables of the settings file"):
        patient(connection)
        prepare(connection, Settings())
        call(connection, "one_at_a_time")
        begun = {table.name for table in recorded(connection)}
        for name in names:
            if name not in begun:
                raise MigrationError(f"table {name} is not applied; there is nothing to revert")
            with explained(f"table {name}"), connection.transaction():
                said += _revert(connection, name)
        connection.execute("SELECT pg_advisory_unlock(hashtext('snapdelta migration'))")
    return said


def _revert(connection: psycopg.Connection, name: str) -> Iterator[str]:
    """One table, in the caller's transaction; gives what stays as it is."""
    levels: dict[str, dict[str, Any]]
    (levels,) = row(
        connection, "SELECT before -> 'levels' FROM snapdelta_migrations WHERE name = %s", (RECORD + name,)
    )
    (keeps,) = row(
        connection,
        "SELECT min(pg_temp.kept_for(p -> 'config', %s::interval))::text"
        " FROM jsonb_array_elements(%s::jsonb) AS p WHERE p ->> 'procedure' = %s",
        (levels[name]["chunk"], json.dumps(levels[name]["policies"]), RETENTION),
    )
    for level, was in levels.items():
        hypertable = stored(connection, level)
        if hypertable is None:
            yield f"{level} no longer exists"
        elif was["existed"]:
            _restore_policies(connection, level, hypertable, was)
            if was["chunk"] is None:
                yield f"{level} stays a hypertable"
            else:
                connection.execute(
                    "SELECT set_chunk_time_interval(%s::text::regclass, %s::interval)",
                    (hypertable, was["chunk"]),
                )
            yield from _restore_compression(connection, level, hypertable, was, aggregate=level != name)
        else:
            yield from _keep_aggregate(connection, level, hypertable, keeps)
    connection.execute(
        "UPDATE snapdelta_migrations SET reverted_at = clock_timestamp(), applied_at = NULL, before = NULL"
        " WHERE name = %s",
        (RECORD + name,),
    )


def _delete_jobs(connection: psycopg.Connection, hypertable: str, procedure: str) -> None:
    connection.execute(
        "SELECT delete_job(job_id) FROM pg_temp.jobs_on(%s::text::regclass, %s)", (hypertable, procedure)
    )


def _restore_policies(
    connection: psycopg.Connection, level: str, hypertable: str, was: dict[str, Any]
) -> None:
    for procedure in PROCEDURES:
        _delete_jobs(connection, hypertable, procedure)
    for item in was["policies"]:
        connection.execute(
            "SELECT pg_temp.restore_policy(pg_temp.relation(%s), %s, %s::interval, %s, %s::jsonb)",
            (level, item["procedure"], item["every"], item["scheduled"], json.dumps(item["config"])),
        )


def _restore_compression(
    connection: psycopg.Connection, level: str, hypertable: str, was: dict[str, Any], *, aggregate: bool
) -> Iterator[str]:
    import psycopg

    rows = [tuple(item[column] for column in SETTINGS_COLUMNS) for item in was["compression"]]
    wanted = compression_from(rows) if rows else None
    if compression_columns(connection, hypertable) == wanted:
        return
    (compressed,) = row(
        connection,
        "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed"
        " AND to_regclass(format('%%I.%%I', hypertable_schema, hypertable_name)) = %s::text::regclass",
        (hypertable,),
    )
    if wanted is None and compressed:
        yield f"{compressed} chunks of {level} stay compressed"
        return
    try:
        with connection.transaction():
            set_compression(connection, level, aggregate, wanted)
    except psycopg.Error as error:  # up to 2.13 nothing is changed once a chunk is compressed
        yield f"the compression columns of {level} do not change: {sentence(error)}"


def _keep_aggregate(
    connection: psycopg.Connection, level: str, hypertable: str, keeps: str | None
) -> Iterator[str]:
    """An aggregate of ours may hold the only copy of older rows: nothing is dropped from it any more."""
    _delete_jobs(connection, hypertable, RETENTION)
    if keeps is not None:
        ended = connection.execute(
            "SELECT delete_job(job_id) FROM pg_temp.jobs_on(%s::text::regclass, %s)"
            " WHERE coalesce((config ->> 'start_offset')::interval > %s::interval, true)",
            (hypertable, REFRESH, keeps),
        ).fetchall()
        if ended:
            yield (
                f"{level} is no longer refreshed: the older retention may drop rows after {keeps},"
                " and a refresh would empty their buckets"
            )
    yield f"{level} stays, with its rows"
