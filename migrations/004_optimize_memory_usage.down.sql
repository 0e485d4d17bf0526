-- The way back from 004_optimize_memory_usage.sql: the policies and chunk widths that were there before.
--
--   psql -X -f 004_optimize_memory_usage.down.sql
--
-- What it does not do, on purpose: the aggregates stay, with all their rows, for they hold the only copy of the
-- history that has left the raw table; nothing is dropped from them any more, and they go on being refreshed.
-- What it cannot bring back: raw rows that were dropped. volume_slots stays a hypertable.
\set ON_ERROR_STOP on
SET client_min_messages = notice;
SET lock_timeout = '60s';

DO $$
BEGIN
    IF NOT pg_try_advisory_lock(hashtext('snapdelta migration')) THEN
        RAISE EXCEPTION 'snapdelta: another migration is running in database "%"; wait until it has ended, then run this file again', current_database() USING ERRCODE = 'lock_not_available';
    END IF;
    IF to_regclass(format('%I.snapdelta_migrations', current_schema())) IS NULL THEN
        RAISE EXCEPTION 'snapdelta: 004_optimize_memory_usage was never applied in schema "%", there is nothing to revert', current_schema();
    END IF;
    IF to_regclass(format('%I.snapdelta_rewrite_rows', current_schema())) IS NOT NULL AND to_regclass(format('%I.snapdelta_rewrite_changes', current_schema())) IS NULL THEN
        RAISE EXCEPTION 'snapdelta: a run of 005_rewrite_wide_chunks.sql was stopped half-way; run that file with -v run=yes first, which finishes it';
    END IF;
END $$;

-- A policy as it was. It also serves the tables of a settings file.
CREATE OR REPLACE FUNCTION pg_temp.restore_policy(target regclass, procedure text, every interval, scheduled boolean, config jsonb) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    age text;
    added int;
BEGIN
    IF procedure = 'policy_refresh_continuous_aggregate' THEN
        added := add_continuous_aggregate_policy(target, start_offset => (config ->> 'start_offset')::interval, end_offset => (config ->> 'end_offset')::interval, schedule_interval => every);
        PERFORM alter_job(added, config => restore_policy.config);  -- its batches
    END IF;
    -- An age counts from the rows' time, or (from 2.14 on) from when the chunk was made.
    FOREACH age IN ARRAY ARRAY['drop_after', 'drop_created_before', 'compress_after', 'compress_created_before'] LOOP
        CONTINUE WHEN config ->> age IS NULL;
        EXECUTE format('SELECT add_%s_policy(%L::regclass, %I => %L::interval, schedule_interval => %L::interval)', substr(procedure, 8),
                       target, age, config ->> age, every) INTO added;
    END LOOP;
    IF NOT scheduled THEN
        PERFORM alter_job(added, scheduled => false);
    END IF;
END $$;

-- The age below which a retention drops no row. `drop_created_before` goes by a chunk's creation, and the newest rows
-- of a chunk may be younger by its width.
CREATE OR REPLACE FUNCTION pg_temp.kept_for(config jsonb, width interval) RETURNS interval LANGUAGE sql IMMUTABLE AS $$
    SELECT coalesce((config ->> 'drop_after')::interval, greatest((config ->> 'drop_created_before')::interval - width, interval '0'))
$$;

-- One transaction: all of it or nothing.
DO $$
DECLARE
    was jsonb := (SELECT before FROM snapdelta_migrations WHERE name = '004_optimize_memory_usage');
    refresh_reaches interval;
    keeps interval;
    item record;
    job record;
BEGIN
    IF was IS NULL THEN
        RAISE EXCEPTION 'snapdelta: 004_optimize_memory_usage is not applied, there is nothing to revert';
    END IF;

    FOR job IN SELECT job_id FROM timescaledb_information.jobs
               WHERE hypertable_schema = current_schema() AND proc_name IN ('policy_retention', 'policy_compression')
                 AND hypertable_name IN ('scan_results', 'volume_slots', 'market_data_daily') LOOP
        PERFORM delete_job(job.job_id);
    END LOOP;
    FOR item IN SELECT * FROM jsonb_to_recordset(was -> 'policies') AS p ("table" text, procedure text, every interval, scheduled boolean, config jsonb) LOOP
        PERFORM pg_temp.restore_policy(format('%I.%I', current_schema(), item."table")::regclass, item.procedure, item.every, item.scheduled, item.config);
    END LOOP;

    FOR item IN SELECT key AS name, value::interval AS width FROM jsonb_each_text(was -> 'chunks') LOOP
        PERFORM set_chunk_time_interval(format('%I.%I', current_schema(), item.name)::regclass, item.width);
    END LOOP;

    -- The aggregates: nothing is dropped from them any more. An aggregate's jobs are listed under its view from
    -- TimescaleDB 2.20 on, under its hypertable before.
    keeps := (SELECT min(pg_temp.kept_for(p -> 'config', (was -> 'chunks' ->> 'scan_results')::interval)) FROM jsonb_array_elements(was -> 'policies') AS p
              WHERE p ->> 'table' = 'scan_results' AND p ->> 'procedure' = 'policy_retention');
    FOR job IN
        SELECT j.job_id, j.proc_name, c.view_name, (j.config ->> 'start_offset')::interval AS reaches
        FROM timescaledb_information.continuous_aggregates c
        JOIN timescaledb_information.jobs j ON (j.hypertable_schema, j.hypertable_name) IN
             ((c.view_schema, c.view_name), (c.materialization_hypertable_schema, c.materialization_hypertable_name))
        WHERE c.view_schema = current_schema() AND c.view_name IN ('scan_results_1min_scaled', 'scan_results_1hour_scaled')
    LOOP
        IF job.proc_name = 'policy_retention' THEN
            PERFORM delete_job(job.job_id);
        ELSIF job.proc_name = 'policy_refresh_continuous_aggregate' AND job.view_name = 'scan_results_1min_scaled' AND job.reaches > keeps THEN
            RAISE NOTICE 'snapdelta: scan_results_1min is not refreshed any more: the older raw retention may drop rows after %, within its refresh window (%), which would empty their buckets', keeps, job.reaches;
            PERFORM delete_job(job.job_id);
        END IF;
    END LOOP;

    ALTER TABLE scan_results RESET (autovacuum_vacuum_scale_factor, autovacuum_vacuum_insert_scale_factor, autovacuum_analyze_scale_factor);
    IF (SELECT relkind FROM pg_class WHERE oid = to_regclass(format('%I.volume_slot_averages', current_schema()))) = 'r' THEN
        ALTER TABLE volume_slot_averages RESET (autovacuum_vacuum_scale_factor, autovacuum_analyze_scale_factor);
    END IF;

    UPDATE snapdelta_migrations SET reverted_at = clock_timestamp(), applied_at = NULL, before = NULL
    WHERE name = '004_optimize_memory_usage';
    RAISE NOTICE 'snapdelta: the older policies and chunk widths are back. The aggregates and their rows were kept; raw rows that were dropped do not come back.';
END $$;

SELECT pg_advisory_unlock(hashtext('snapdelta migration')) AS unlocked \gset snapdelta_
