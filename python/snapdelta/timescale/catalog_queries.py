"""The SQL that `catalog` reads a database with."""

from __future__ import annotations

# By the hypertable that a job's configuration names: the view lists an aggregate's jobs under one name up to
# TimescaleDB 2.18 and another from 2.20 on, and those that add_job() made under none. The server casts the
# periods: a configuration holds them in the IntervalStyle of the session that made the job.
JOBS = """
    SELECT j.job_id,
           regexp_replace(coalesce(c.view_name, h.table_name), '^(scan_results_1(min|hour))_scaled$', '\\1'),
           coalesce(c.view_schema, h.schema_name) = current_schema(),
           j.proc_name, j.schedule_interval, j.scheduled,
           (SELECT array_agg((j.config ->> key)::interval ORDER BY number)
            FROM unnest(%s::text[]) WITH ORDINALITY AS k (key, number)),
           s.last_run_status,
           CASE WHEN isfinite(s.last_successful_finish) THEN s.last_successful_finish END,
           coalesce(s.total_runs, 0), coalesce(s.total_failures, 0),
           CASE WHEN s.job_status = 'Running' THEN s.last_run_started_at END,
           coalesce(s.job_status <> 'Running' AND NOT isfinite(s.next_start), false)
    FROM timescaledb_information.jobs j
    JOIN _timescaledb_catalog.hypertable h
      ON h.id::text = coalesce(j.config ->> 'hypertable_id', j.config ->> 'mat_hypertable_id')
    LEFT JOIN timescaledb_information.job_stats s USING (job_id)
    LEFT JOIN timescaledb_information.continuous_aggregates c
      ON c.materialization_hypertable_schema = h.schema_name
     AND c.materialization_hypertable_name = h.table_name
    ORDER BY j.job_id"""
PERIODS = ("drop_after", "compress_after", "start_offset", "end_offset")

ERRORS = """
    SELECT DISTINCT ON (job_id) job_id, err_message FROM timescaledb_information.job_errors
    WHERE err_message IS NOT NULL ORDER BY job_id, finish_time DESC NULLS LAST"""

BLOCKED = """
    SELECT j.job_id, b.pid, concat_ws(', ', b.usename, nullif(b.application_name, ''), b.state),
           clock_timestamp() - b.xact_start
    FROM timescaledb_information.jobs j
    JOIN pg_stat_activity a ON a.datname = current_database() AND a.application_name = j.application_name
    CROSS JOIN LATERAL unnest(pg_blocking_pids(a.pid)) AS blocking (pid)
    JOIN pg_stat_activity b ON b.pid = blocking.pid
    ORDER BY j.job_id, b.xact_start"""

# A role without pg_read_all_stats sees no backend_type of others; TimescaleDB's processes bear it as their
# application name as well. The launcher belongs to no database and takes one of the workers.
WORKERS = """
    SELECT pg_is_in_recovery(), coalesce(current_setting('timescaledb.restoring', true)::boolean, false),
           count(*) FILTER (WHERE here AND kind LIKE '% Scheduler%') > 0,
           count(*) FILTER (WHERE NOT here),
           (SELECT format('%I.%I()', pronamespace::regnamespace, proname) FROM pg_proc
            WHERE proname = 'start_background_workers' ORDER BY 1 LIMIT 1)
    FROM (SELECT coalesce(datname = current_database(), false) AS here,
                 coalesce(backend_type, application_name) AS kind FROM pg_stat_activity) AS process
    WHERE kind LIKE 'TimescaleDB Background Worker %' OR kind ~ ' \\[\\d+\\]$'"""

CHUNKS = """
    SELECT range_start, range_end, is_compressed FROM timescaledb_information.chunks c
    JOIN pg_namespace n ON n.nspname = c.hypertable_schema
    JOIN pg_class r ON r.relnamespace = n.oid AND r.relname = c.hypertable_name
    WHERE r.oid = %s::regclass ORDER BY range_start"""

WIDTH = """
    SELECT time_interval FROM timescaledb_information.dimensions d
    JOIN pg_namespace n ON n.nspname = d.hypertable_schema
    JOIN pg_class r ON r.relnamespace = n.oid AND r.relname = d.hypertable_name
    WHERE r.oid = %s::regclass AND d.dimension_number = 1"""

# Aggregates of somebody else's over a hypertable, and how far back their refresh reaches.
FOREIGN = """
    SELECT format('%%I.%%I', c.view_schema, c.view_name), (j.config ->> 'start_offset')::interval
    FROM timescaledb_information.continuous_aggregates c
    JOIN _timescaledb_catalog.hypertable h
      ON c.materialization_hypertable_schema = h.schema_name
     AND c.materialization_hypertable_name = h.table_name
    JOIN timescaledb_information.jobs j
      ON j.proc_name = 'policy_refresh_continuous_aggregate'
     AND j.config ->> 'mat_hypertable_id' = h.id::text
    WHERE NOT (c.view_schema = current_schema()
               AND regexp_replace(c.view_name, '^(scan_results_1(min|hour))_scaled$', '\\1') = ANY (%s))
      AND to_regclass(format('%%I.%%I', c.hypertable_schema, c.hypertable_name)) = %s::text::regclass"""
