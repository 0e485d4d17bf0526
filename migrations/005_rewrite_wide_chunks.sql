-- Moves the raw rows of wide chunks into narrow ones, so that an existing database compresses and drops by the hour
-- at once. Without it the same happens by itself: a 7-day chunk goes when its newest row is raw_retention old.
--
--   psql -X -f 005_rewrite_wide_chunks.sql                estimates duration, waits and space, changes nothing
--   psql -X -v run=yes -f 005_rewrite_wide_chunks.sql     does it
--
-- A chunk cannot be narrowed while rows lie in it. So its rows are copied in small transactions, while a trigger
-- notes what changes under the copy; one short transaction replaces the chunk by the newest of the rows; then the
-- other rows come back in small transactions, the newest first. Running the file again finishes what was stopped at
-- any point: until the chunk is replaced all rows are in it, afterwards each row is in exactly one of two tables.
-- Needs 004_optimize_memory_usage.sql to be applied. It commits between its steps: run psql without -1.
\set ON_ERROR_STOP on
\if :{?run} \else \set run 'no' \endif

SET client_min_messages = notice;
SET lock_timeout = '60s';
SET statement_timeout = 0;
SET jit = off;
SET default_transaction_isolation = 'read committed';
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

-- ---------------------------------------------------------------- what is to be moved
CREATE OR REPLACE FUNCTION pg_temp.relation(name text) RETURNS regclass LANGUAGE sql STABLE AS $$
    SELECT to_regclass(format('%I.%I', current_schema(), name))
$$;

-- Rows older than this go with their chunk, as retention would drop them; the width of a chunk is left to retention.
CREATE OR REPLACE FUNCTION pg_temp.horizon() RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT now() - (settings ->> 'raw_retention')::interval - (settings ->> 'raw_chunk')::interval
    FROM snapdelta_migrations WHERE name = '004_optimize_memory_usage'
$$;

-- Chunks wider than new ones are made, of which retention will keep something for a while: their rows from `kept` on.
-- A dropped chunk may leave its row in the catalog (2.11), but no table.
CREATE OR REPLACE FUNCTION pg_temp.wide_chunks() RETURNS TABLE (chunk regclass, starts timestamptz, kept timestamptz, ends timestamptz) LANGUAGE sql STABLE AS $$
    SELECT to_regclass(format('%I.%I', c.chunk_schema, c.chunk_name)), c.range_start, greatest(c.range_start, pg_temp.horizon()), c.range_end
    FROM timescaledb_information.chunks c
    JOIN timescaledb_information.dimensions d USING (hypertable_schema, hypertable_name)
    JOIN snapdelta_migrations m ON m.name = '004_optimize_memory_usage'
    WHERE c.hypertable_schema = current_schema() AND c.hypertable_name = 'scan_results' AND d.dimension_number = 1
      AND c.range_end - c.range_start > d.time_interval
      AND c.range_end > now() - (m.settings ->> 'raw_retention')::interval
      AND to_regclass(format('%I.%I', c.chunk_schema, c.chunk_name)) IS NOT NULL
    ORDER BY c.range_start
$$;

-- The columns that can be written.
CREATE OR REPLACE FUNCTION pg_temp.columns() RETURNS text LANGUAGE sql STABLE AS $$
    SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum)
    FROM pg_attribute WHERE attrelid = pg_temp.relation('scan_results') AND attnum > 0 AND NOT attisdropped AND attgenerated = ''
$$;

-- So many rows are written while writers wait: a quarter of a second's, and no more than a tenth of all.
CREATE OR REPLACE FUNCTION pg_temp.rows_at_once() RETURNS int LANGUAGE sql STABLE AS $$
    SELECT current_setting('snapdelta.rows_at_once')::int
$$;

-- ---------------------------------------------------------------- the estimate
DO $$
DECLARE
    wide record;
    found bigint;
    began timestamptz;
    took double precision;
    row_bytes double precision;
    chunks int := 0;
    total bigint := 0;
    dropped bigint := 0;
BEGIN
    PERFORM set_config('snapdelta.rows_at_once', '1000', false);
    FOR wide IN SELECT * FROM pg_temp.wide_chunks() LOOP
        chunks := chunks + 1;
        EXECUTE 'SELECT count(*) FROM scan_results WHERE time >= $1 AND time < $2' INTO found USING wide.kept, wide.ends;
        total := total + found;
        EXECUTE 'SELECT count(*) FROM scan_results WHERE time >= $1 AND time < $2' INTO found USING wide.starts, wide.kept;
        dropped := dropped + found;
    END LOOP;
    IF chunks = 0 THEN
        RAISE NOTICE 'snapdelta: no wide chunk with rows that are kept, nothing to rewrite';
        RETURN;
    END IF;
    -- Some of the very rows, there and back as below, tell this machine's speed. What was measured stays; the tables do not.
    BEGIN
        CREATE TABLE snapdelta_rewrite_sample (LIKE scan_results INCLUDING INDEXES);
        CREATE TABLE snapdelta_rewrite_sample_rows (LIKE scan_results);
        CREATE INDEX ON snapdelta_rewrite_sample_rows (time);
        began := clock_timestamp();
        EXECUTE format('INSERT INTO snapdelta_rewrite_sample (%1$s) SELECT %1$s FROM scan_results WHERE time >= (SELECT min(kept) FROM pg_temp.wide_chunks()) LIMIT 20000', pg_temp.columns());
        GET DIAGNOSTICS found = ROW_COUNT;
        EXECUTE format('WITH moved AS (DELETE FROM snapdelta_rewrite_sample RETURNING *) INSERT INTO snapdelta_rewrite_sample_rows (%1$s) SELECT %1$s FROM moved', pg_temp.columns());
        took := extract(epoch FROM clock_timestamp() - began) / greatest(found, 1);
        row_bytes := pg_total_relation_size('snapdelta_rewrite_sample')::double precision / greatest(found, 1);
        RAISE EXCEPTION 'measured' USING ERRCODE = 'SD001';
    EXCEPTION WHEN SQLSTATE 'SD001' THEN
        NULL;
    END;
    PERFORM set_config('snapdelta.rows_at_once', greatest(100, least(0.25 / greatest(took, 1e-6), 20000, total / 10))::int::text, false);
    RAISE NOTICE 'snapdelta: % wide chunks with % rows to move and % that retention drops anyway; about % s in all; a writer waits at most about % s, once a chunk; for about % s queries on scan_results miss rows on their way, the aggregates none; about % of free space needed',
        chunks, total, dropped, ceil(2 * took * total), round((1 + pg_temp.rows_at_once() * took * 2)::numeric, 1), ceil(took * total),
        pg_size_pretty((2 * total * row_bytes)::bigint);
END $$;

-- ---------------------------------------------------------------- the steps
-- The jobs that read the raw rows or work on their chunks. While rows are on their way a refresh would empty buckets.
CREATE OR REPLACE FUNCTION pg_temp.raw_jobs() RETURNS TABLE (job_id int, scheduled boolean) LANGUAGE sql STABLE AS $$
    SELECT j.job_id, j.scheduled
    FROM timescaledb_information.jobs j, _timescaledb_catalog.hypertable h
    WHERE h.schema_name = current_schema() AND h.table_name = 'scan_results'
      AND (j.config ->> 'hypertable_id' = h.id::text
           OR j.config ->> 'mat_hypertable_id' IN (SELECT mat_hypertable_id::text FROM _timescaledb_catalog.continuous_agg WHERE raw_hypertable_id = h.id))
$$;

-- One of them at work: the name that its background worker shows.
CREATE OR REPLACE FUNCTION pg_temp.working() RETURNS text LANGUAGE sql VOLATILE AS $$
    SELECT string_agg(application_name, ', ') FROM pg_stat_activity, pg_temp.raw_jobs() j
    WHERE datname = current_database() AND right(application_name, length(j.job_id::text) + 2) = format('[%s]', j.job_id)
$$;

-- The hours whose rows no aggregate holds in full: such rows must not go with their chunk. Only where 004 has had its
-- time for them: what comes later than raw_retention stays out of the aggregates.
CREATE OR REPLACE FUNCTION pg_temp.not_aggregated(since timestamptz, until timestamptz) RETURNS tstzrange LANGUAGE plpgsql AS $$
DECLARE
    aggregate text;
    lacking tstzrange;
    applied timestamptz := (SELECT applied_at - (settings ->> 'raw_retention')::interval FROM snapdelta_migrations WHERE name = '004_optimize_memory_usage');
BEGIN
    FOR aggregate IN
        SELECT format('%I.%I', m.schema_name, m.table_name)
        FROM _timescaledb_catalog.continuous_agg c
        JOIN _timescaledb_catalog.hypertable m ON m.id = c.mat_hypertable_id
        JOIN _timescaledb_catalog.hypertable r ON r.id = c.raw_hypertable_id
        WHERE r.schema_name = current_schema() AND r.table_name = 'scan_results'
          AND (SELECT count(*) FROM pg_attribute a WHERE a.attrelid = format('%I.%I', m.schema_name, m.table_name)::regclass
               AND a.attname IN ('bucket', 'sample_count') AND NOT a.attisdropped) = 2
    LOOP
        EXECUTE format($query$
            SELECT tstzrange(min(hour), max(hour) + interval '1 hour') FROM
                (SELECT time_bucket('1 hour', "time") AS hour, count(*) AS rows FROM scan_results WHERE "time" >= $1 AND "time" < $2 GROUP BY 1) b
                LEFT JOIN (SELECT time_bucket('1 hour', bucket) AS hour, sum(sample_count) AS rows FROM %s WHERE bucket < $2 GROUP BY 1) k USING (hour)
            WHERE b.rows > coalesce(k.rows, 0)
        $query$, aggregate) INTO lacking USING greatest(since, time_bucket('1 hour', applied) + interval '1 hour'), time_bucket('1 hour', until);
        IF lower(lacking) IS NULL THEN
            RETURN NULL;
        END IF;
    END LOOP;
    RETURN lacking;
END $$;

-- Called after a lock was not free in half a second. Writers that queued behind it go on meanwhile.
CREATE OR REPLACE FUNCTION pg_temp.be_patient(began timestamptz, wide regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF clock_timestamp() > began + interval '10 minutes' THEN
        RAISE EXCEPTION 'snapdelta: scan_results is in use without a pause (%); what was copied is left, and running this file again starts with this chunk',
            (SELECT string_agg(DISTINCT format('process %s, %s', pid, coalesce(nullif(application_name, ''), 'no name')), '; ')
             FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE relation IN (wide, pg_temp.relation('scan_results')) AND pid <> pg_backend_pid());
    END IF;
    PERFORM pg_sleep(1);
END $$;

-- From here on every change of the chunk is noted. The notes' owner writes them: a writer needs no right on them.
CREATE OR REPLACE FUNCTION pg_temp.watch(wide regclass) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lock_timeout', '500ms', true);
    SET LOCAL client_min_messages = warning;
    EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', wide);
    EXECUTE format('DROP TRIGGER IF EXISTS snapdelta_rewrite ON %s', wide);
    DROP TABLE IF EXISTS snapdelta_rewrite_rows, snapdelta_rewrite_changes;
    CREATE TABLE snapdelta_rewrite_rows (LIKE scan_results);
    CREATE INDEX ON snapdelta_rewrite_rows (time);
    CREATE TABLE snapdelta_rewrite_changes (time timestamptz NOT NULL);
    EXECUTE format($function$
        CREATE OR REPLACE FUNCTION %1$I.snapdelta_rewrite_note() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $body$
        BEGIN
            IF TG_OP <> 'INSERT' THEN
                INSERT INTO %1$I.snapdelta_rewrite_changes VALUES (OLD.time);
            END IF;
            IF TG_OP <> 'DELETE' THEN
                INSERT INTO %1$I.snapdelta_rewrite_changes VALUES (NEW.time);
            END IF;
            RETURN NULL;
        END $body$ $function$, current_schema());
    EXECUTE format('CREATE TRIGGER snapdelta_rewrite AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW EXECUTE FUNCTION %I.snapdelta_rewrite_note()', wide, current_schema());
END $$;

-- A step that took long makes the next one shorter, and the other way round: half a second each.
CREATE OR REPLACE FUNCTION pg_temp.next_width(width interval, began timestamptz) RETURNS interval LANGUAGE sql VOLATILE AS $$
    SELECT least(width * greatest(0.25, least(4, 0.5 / greatest(extract(epoch FROM clock_timestamp() - began)::float8, 0.01))), interval '1 day')
$$;

CREATE OR REPLACE PROCEDURE pg_temp.copy_rows(kept timestamptz, ends timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    starts timestamptz := kept;
    width interval := interval '1 minute';
    newest timestamptz;
    began timestamptz;
BEGIN
    SELECT max(time) INTO newest FROM scan_results WHERE time >= kept AND time < ends;
    WHILE starts <= newest LOOP
        began := clock_timestamp();
        EXECUTE format('INSERT INTO snapdelta_rewrite_rows (%1$s) SELECT %1$s FROM scan_results WHERE time >= $1 AND time < $2 ORDER BY time', pg_temp.columns())
            USING starts, least(starts + width, ends);
        starts := starts + width;
        width := pg_temp.next_width(width, began);
        COMMIT;
    END LOOP;
END $$;

-- Copies anew the rows of every time that was noted, and returns how many.
CREATE OR REPLACE FUNCTION pg_temp.catch_up(kept timestamptz, ends timestamptz) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    times timestamptz[];
    copied bigint := 0;
BEGIN
    WITH noted AS (DELETE FROM snapdelta_rewrite_changes RETURNING time)
    SELECT array_agg(DISTINCT time) INTO times FROM noted WHERE time >= kept AND time < ends;
    IF times IS NOT NULL THEN
        DELETE FROM snapdelta_rewrite_rows WHERE time = ANY (times);
        EXECUTE format('INSERT INTO snapdelta_rewrite_rows (%1$s) SELECT %1$s FROM scan_results WHERE time = ANY ($1) AND time >= $2 AND time < $3', pg_temp.columns())
            USING times, kept, ends;
        GET DIAGNOSTICS copied = ROW_COUNT;
    END IF;
    RETURN copied;
END $$;

-- The newest rows that are on their way go back, down to a time. A key of yours may have been written again meanwhile.
CREATE OR REPLACE FUNCTION pg_temp.bring_back_from(starts timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format('WITH moved AS (DELETE FROM snapdelta_rewrite_rows WHERE time >= $1 RETURNING *)
                    INSERT INTO scan_results (%1$s) OVERRIDING SYSTEM VALUE SELECT %1$s FROM moved ORDER BY time ON CONFLICT DO NOTHING', pg_temp.columns())
        USING starts;
END $$;

-- The one step that writers wait for. All of its locks come first, the table's before the chunk's, as everybody takes
-- them: a client that has read and wants to write is let through, and nobody waits in a circle.
CREATE OR REPLACE FUNCTION pg_temp.replace_chunk(wide regclass, kept timestamptz, ends timestamptz) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('lock_timeout', '500ms', true);
    LOCK TABLE ONLY scan_results IN ACCESS EXCLUSIVE MODE;
    IF NOT EXISTS (SELECT FROM pg_class WHERE oid = wide) THEN  -- dropped by retention or by hand: its rows do not come back
        TRUNCATE snapdelta_rewrite_rows;
        DROP TABLE snapdelta_rewrite_changes;
        RETURN;
    END IF;
    EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', wide);
    IF pg_temp.working() IS NOT NULL THEN
        RAISE EXCEPTION 'snapdelta: % is at work', pg_temp.working() USING ERRCODE = 'lock_not_available';
    END IF;
    PERFORM pg_temp.catch_up(kept, ends);
    UPDATE snapdelta_migrations SET before = (SELECT jsonb_build_object('paused', coalesce(jsonb_agg(job_id), '[]')) FROM pg_temp.raw_jobs() WHERE scheduled)
    WHERE name = '005_rewrite_wide_chunks' AND before IS NULL;
    PERFORM alter_job(job_id, scheduled => false) FROM pg_temp.raw_jobs() WHERE scheduled;
    -- Not drop_chunks(): that marks the whole range of the aggregates as changed, also what has no raw rows any more.
    EXECUTE format('DROP TABLE %s', wide);
    DROP TABLE snapdelta_rewrite_changes;
    PERFORM pg_temp.bring_back_from(coalesce((SELECT time FROM snapdelta_rewrite_rows ORDER BY time DESC OFFSET pg_temp.rows_at_once() LIMIT 1), '-infinity'));
END $$;

CREATE OR REPLACE PROCEDURE pg_temp.bring_back() LANGUAGE plpgsql AS $$
DECLARE
    newest timestamptz;
    width interval := interval '1 minute';
    began timestamptz;
BEGIN
    LOOP
        began := clock_timestamp();
        SELECT max(time) INTO newest FROM snapdelta_rewrite_rows WHERE time <= coalesce(newest, 'infinity');
        EXIT WHEN newest IS NULL;
        PERFORM pg_temp.bring_back_from(newest - width);
        width := pg_temp.next_width(width, began);
        COMMIT;
    END LOOP;
    DROP TABLE snapdelta_rewrite_rows;
    -- The jobs go on one after the other, refreshes first. A server without background workers keeps no next start.
    PERFORM alter_job(j.job_id, scheduled => true, next_start => CASE WHEN current_setting('timescaledb.max_background_workers', true) IS NOT NULL THEN
                          clock_timestamp() + interval '20 seconds' * row_number() OVER (ORDER BY j.proc_name <> 'policy_refresh_continuous_aggregate', j.proc_name) END)
    FROM snapdelta_migrations m, jsonb_array_elements_text(m.before -> 'paused') p (job_id)
    JOIN timescaledb_information.jobs j ON j.job_id = p.job_id::int
    WHERE m.name = '005_rewrite_wide_chunks';
    UPDATE snapdelta_migrations SET before = NULL WHERE name = '005_rewrite_wide_chunks';
    COMMIT;
END $$;

-- Runs one of the two steps that need a lock until it is free.
CREATE OR REPLACE PROCEDURE pg_temp.with_lock(step text, wide regclass, kept timestamptz, ends timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz := clock_timestamp();
    done boolean := false;
BEGIN
    LOOP
        BEGIN
            IF step = 'watch' THEN
                PERFORM pg_temp.watch(wide);
            ELSE
                PERFORM pg_temp.replace_chunk(wide, kept, ends);
            END IF;
            done := true;
        EXCEPTION WHEN lock_not_available OR deadlock_detected THEN
            done := false;
        END;
        COMMIT;
        EXIT WHEN done;
        PERFORM pg_temp.be_patient(began, wide);
        COMMIT;
        -- Few notes are left to be read under the lock.
        WHILE step <> 'watch' AND pg_temp.catch_up(kept, ends) > pg_temp.rows_at_once() LOOP
            COMMIT;
        END LOOP;
    END LOOP;
END $$;

-- ---------------------------------------------------------------- the work
DO $$
DECLARE
    wide record;
    lacking tstzrange;
BEGIN
    IF current_setting('snapdelta.rewrite') <> 'yes' THEN
        RETURN;
    END IF;
    INSERT INTO snapdelta_migrations (name, started_at) VALUES ('005_rewrite_wide_chunks', clock_timestamp())
    ON CONFLICT (name) DO UPDATE SET started_at = excluded.started_at, applied_at = NULL;
    COMMIT;
    -- A run that was stopped after it had replaced a chunk.
    IF pg_temp.relation('snapdelta_rewrite_rows') IS NOT NULL AND pg_temp.relation('snapdelta_rewrite_changes') IS NULL THEN
        CALL pg_temp.bring_back();
    END IF;
    FOR wide IN SELECT * FROM pg_temp.wide_chunks() LOOP
        CONTINUE WHEN NOT EXISTS (SELECT FROM pg_class WHERE oid = wide.chunk);
        lacking := pg_temp.not_aggregated(wide.starts, wide.kept);
        IF lacking IS NOT NULL THEN
            RAISE EXCEPTION 'snapdelta: raw rows older than raw_retention, from % to %, are not in the aggregates and would go with their chunk; run CALL refresh_continuous_aggregate(''scan_results_1min_scaled'', ''%'', ''%''), then this file again',
                lower(lacking), upper(lacking), lower(lacking), upper(lacking);
        END IF;
        CALL pg_temp.with_lock('watch', wide.chunk, wide.kept, wide.ends);
        CALL pg_temp.copy_rows(wide.kept, wide.ends);
        WHILE pg_temp.catch_up(wide.kept, wide.ends) > pg_temp.rows_at_once() LOOP
            COMMIT;
        END LOOP;
        COMMIT;
        CALL pg_temp.with_lock('replace', wide.chunk, wide.kept, wide.ends);
        CALL pg_temp.bring_back();
        RAISE NOTICE 'snapdelta: the rows from % to % are in narrow chunks now', wide.kept, wide.ends;
    END LOOP;
    -- What a run left that was stopped before it had replaced a chunk, when retention has dropped that one since.
    SET LOCAL client_min_messages = warning;
    DROP TABLE IF EXISTS snapdelta_rewrite_rows, snapdelta_rewrite_changes;
    IF NOT EXISTS (SELECT FROM pg_trigger WHERE tgname = 'snapdelta_rewrite') THEN
        EXECUTE format('DROP FUNCTION IF EXISTS %I.snapdelta_rewrite_note()', current_schema());
    END IF;
    UPDATE snapdelta_migrations SET applied_at = clock_timestamp() WHERE name = '005_rewrite_wide_chunks';
END $$;

SELECT pg_advisory_unlock(hashtext('snapdelta migration')) AS unlocked \gset snapdelta_
