-- What the tables keep, how large they are and whether the jobs run, for people who have psql and nothing else:
--
--   docker exec -i CONTAINER psql -X -U USER -d DATABASE < verify.sql
--
-- It only reads. `snapdelta migrate verify` checks much more, and says what to do.
\set QUIET on
\set ON_ERROR_STOP on
\pset pager off
\pset footer off
SET intervalstyle = postgres;
SET datestyle = 'ISO';

\echo raw rows are kept for
SELECT name AS relation, (j.config ->> 'drop_after')::interval AS "kept for"
FROM unnest(ARRAY['scan_results', 'volume_slots', 'market_data_daily']) WITH ORDINALITY AS t (name, number)
LEFT JOIN timescaledb_information.jobs j ON (j.hypertable_schema, j.hypertable_name) = (current_schema(), name) AND j.proc_name = 'policy_retention'
ORDER BY number;

\echo sizes
SELECT relation, pg_size_pretty(bytes) AS size
FROM (
    SELECT 1 AS number, hypertable_name::text AS relation, hypertable_size(format('%I.%I', hypertable_schema, hypertable_name)::regclass) AS bytes
    FROM timescaledb_information.hypertables
    WHERE hypertable_schema = current_schema() AND hypertable_name IN ('scan_results', 'volume_slots', 'market_data_daily')
    UNION ALL
    -- An aggregate's rows are in a hypertable of another schema and name.
    SELECT 2, regexp_replace(view_name, '_scaled$', ''), hypertable_size(format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)::regclass)
    FROM timescaledb_information.continuous_aggregates
    WHERE view_schema = current_schema()
    UNION ALL
    SELECT 3, 'the whole database', pg_database_size(current_database())
) AS sizes
ORDER BY number, bytes DESC;

\echo jobs
SELECT regexp_replace(coalesce(c.view_name, h.table_name), '_scaled$', '') AS relation,
       CASE j.proc_name WHEN 'policy_retention' THEN 'retention' WHEN 'policy_compression' THEN 'compression' ELSE 'refresh' END AS job,
       j.job_id AS id, j.schedule_interval AS every,
       CASE WHEN isfinite(s.last_successful_finish) THEN date_trunc('second', now() - s.last_successful_finish)::text || ' ago' ELSE 'never' END AS "last success",
       CASE WHEN NOT j.scheduled THEN 'switched off' ELSE s.last_run_status END AS "last run", s.total_failures AS failures
FROM timescaledb_information.jobs j
JOIN _timescaledb_catalog.hypertable h ON h.id::text = coalesce(j.config ->> 'hypertable_id', j.config ->> 'mat_hypertable_id')
LEFT JOIN timescaledb_information.job_stats s USING (job_id)
LEFT JOIN timescaledb_information.continuous_aggregates c
  ON (c.materialization_hypertable_schema, c.materialization_hypertable_name) = (h.schema_name, h.table_name)
WHERE coalesce(c.view_schema, h.schema_name) = current_schema()
ORDER BY 1, 2;

\echo the scheduler that starts them
SELECT count(*) AS processes FROM pg_stat_activity
WHERE datname = current_database() AND coalesce(backend_type, application_name) LIKE 'TimescaleDB Background Worker Scheduler%';

\echo the oldest raw row
SELECT min(time) AS oldest, date_trunc('second', now() - min(time)) AS age FROM scan_results;
