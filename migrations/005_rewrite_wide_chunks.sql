-- Moves the raw rows of wide chunks into narrow ones, so that an existing database compresses and drops by the hour
-- at once. Without it the same happens by itself: a 7-day chunk goes when its newest row is raw_retention old.
--
--   psql -X -f 005_rewrite_wide_chunks.sql                estimates duration and space, changes nothing
--   psql -X -v run=yes -f 005_rewrite_wide_chunks.sql     does it, one transaction a chunk
--
-- While a chunk is moved, writers to scan_results wait; readers wait only at its end. Loses no row. Safe to stop
-- and to run again. Needs 004_optimize_memory_usage.sql to be applied.
\set ON_ERROR_STOP on
\if :{?run} \else \set run 'no' \endif

SET client_min_messages = notice;
SET lock_timeout = '60s';
SELECT set_config('snapdelta.rewrite', :'run', false) AS run \gset snapdelta_

DO $$
DECLARE
    applied timestamptz;
BEGIN
    IF NOT pg_try_advisory_lock(hashtext('snapdelta migration')) THEN
        RAISE EXCEPTION 'snapdelta: another migration is running in database "%"; wait until it has ended, then run this file again', current_database() USING ERRCODE = 'lock_not_available';
    END IF;
    IF current_setting('snapdelta.rewrite') NOT IN ('yes', 'no') THEN
        RAISE EXCEPTION 'snapdelta: run must be yes or no, not %', current_setting('snapdelta.rewrite');
    END IF;
    IF to_regclass(format('%I.snapdelta_migrations', current_schema())) IS NOT NULL THEN
        SELECT applied_at INTO applied FROM snapdelta_migrations WHERE name = '004_optimize_memory_usage';
    END IF;
    IF applied IS NULL THEN
        RAISE EXCEPTION 'snapdelta: 004_optimize_memory_usage is not applied in schema "%"; run it first', current_schema();
    END IF;
END $$;

-- Chunks wider than new ones are made, of which retention will keep something for a while.
CREATE OR REPLACE FUNCTION pg_temp.wide_chunks() RETURNS TABLE (chunk regclass, starts timestamptz, ends timestamptz) LANGUAGE sql STABLE AS $$
    SELECT format('%I.%I', c.chunk_schema, c.chunk_name)::regclass, c.range_start, c.range_end
    FROM timescaledb_information.chunks c
    JOIN timescaledb_information.dimensions d USING (hypertable_schema, hypertable_name)
    JOIN snapdelta_migrations m ON m.name = '004_optimize_memory_usage'
    WHERE c.hypertable_schema = current_schema() AND c.hypertable_name = 'scan_results' AND d.dimension_number = 1
      AND c.range_end - c.range_start > d.time_interval
      AND c.range_end > now() - (m.settings ->> 'raw_retention')::interval
    ORDER BY c.range_start
$$;

-- ---------------------------------------------------------------- the estimate
DO $$
DECLARE
    wide record;
    found bigint;
    sampled bigint;
    began timestamptz;
    took double precision;
    row_bytes double precision;
    chunks int := 0;
    total bigint := 0;
    largest bigint := 0;
BEGIN
    FOR wide IN SELECT * FROM pg_temp.wide_chunks() LOOP
        EXECUTE 'SELECT count(*) FROM scan_results WHERE time >= $1 AND time < $2' INTO found USING wide.starts, wide.ends;
        chunks := chunks + 1;
        total := total + found;
        largest := greatest(largest, found);
    END LOOP;
    IF chunks = 0 THEN
        RAISE NOTICE 'snapdelta: no wide chunk with rows that are kept, nothing to rewrite';
        RETURN;
    END IF;
    -- A copy with an index over some of the very rows tells this machine's speed.
    began := clock_timestamp();
    CREATE TEMP TABLE snapdelta_sample AS
        SELECT s.* FROM scan_results s, (SELECT min(starts) AS starts FROM pg_temp.wide_chunks()) w WHERE s.time >= w.starts LIMIT 20000;
    CREATE INDEX ON snapdelta_sample (symbol, time DESC);
    SELECT count(*), greatest(pg_total_relation_size('snapdelta_sample'), 8192)::double precision / greatest(count(*), 1) INTO sampled, row_bytes FROM snapdelta_sample;
    took := extract(epoch FROM clock_timestamp() - began);
    DROP TABLE snapdelta_sample;
    -- Each row is copied out and copied in, and lies in the old chunk, the copy and the new chunks until the commit.
    RAISE NOTICE 'snapdelta: % wide chunks with % rows; about % s in all, writers wait about % s at a time; about % of free space needed',
        chunks, total, ceil(2 * took * total / greatest(sampled, 1)), ceil(2 * took * largest / greatest(sampled, 1)),
        pg_size_pretty((2 * largest * row_bytes)::bigint);
END $$;

-- ---------------------------------------------------------------- the work
CREATE OR REPLACE FUNCTION pg_temp.rewrite_chunk(starts timestamptz, ends timestamptz) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    moved bigint;
    written bigint;
    wide int;
BEGIN
    LOCK TABLE scan_results IN SHARE ROW EXCLUSIVE MODE;
    DROP TABLE IF EXISTS pg_temp.snapdelta_moved;
    CREATE TEMP TABLE snapdelta_moved ON COMMIT DROP AS
        SELECT * FROM scan_results s WHERE s.time >= rewrite_chunk.starts AND s.time < rewrite_chunk.ends;
    GET DIAGNOSTICS moved = ROW_COUNT;
    PERFORM drop_chunks(format('%I.scan_results', current_schema())::regclass, older_than => rewrite_chunk.ends, newer_than => rewrite_chunk.starts);
    INSERT INTO scan_results SELECT * FROM snapdelta_moved m ORDER BY m.time;
    GET DIAGNOSTICS written = ROW_COUNT;
    SELECT count(*) INTO wide FROM pg_temp.wide_chunks() w WHERE w.starts < rewrite_chunk.ends AND w.ends > rewrite_chunk.starts;
    IF written <> moved OR wide > 0 THEN
        RAISE EXCEPTION 'snapdelta: % of % rows were moved and % wide chunks are left from % to %; nothing was changed', written, moved, wide, starts, ends;
    END IF;
    RETURN format('%s rows from %s to %s are in narrow chunks now', moved, starts, ends);
END $$;

DO $$
BEGIN
    INSERT INTO snapdelta_migrations (name, started_at) SELECT '005_rewrite_wide_chunks', clock_timestamp() WHERE current_setting('snapdelta.rewrite') = 'yes'
    ON CONFLICT (name) DO UPDATE SET started_at = excluded.started_at, applied_at = NULL;
END $$;

SELECT format('SELECT pg_temp.rewrite_chunk(%L::timestamptz, %L::timestamptz) AS rewritten', starts, ends)
FROM pg_temp.wide_chunks() WHERE current_setting('snapdelta.rewrite') = 'yes' \gexec

DO $$
BEGIN
    UPDATE snapdelta_migrations SET applied_at = clock_timestamp() WHERE name = '005_rewrite_wide_chunks' AND current_setting('snapdelta.rewrite') = 'yes';
END $$;

SELECT pg_advisory_unlock(hashtext('snapdelta migration')) AS unlocked \gset snapdelta_
