-- Makes the scanner's tables look after themselves: short raw retention, compression, and two continuous
-- aggregates that keep the history of what leaves the raw table.
--
--   psql -X -f 004_optimize_memory_usage.sql                            with the defaults below
--   psql -X -v raw_retention='5 days' -f 004_optimize_memory_usage.sql  with a period of your own
--
-- Safe to run again at any time; a second run also fills holes that a long job outage left in the aggregates, as
-- long as the raw rows are there. Stops at the first error; nothing is changed before every check has passed.
-- TimescaleDB 2.11 and later, community edition. The way back: 004_optimize_memory_usage.down.sql.
\set ON_ERROR_STOP on

\if :{?raw_chunk}            \else \set raw_chunk            '1 hour'     \endif
\if :{?raw_compress_after}   \else \set raw_compress_after   '2 hours'    \endif
\if :{?raw_retention}        \else \set raw_retention        '3 days'     \endif
\if :{?slots_chunk}          \else \set slots_chunk          '1 day'      \endif
\if :{?slots_retention}      \else \set slots_retention      '14 days'    \endif
\if :{?daily_chunk}          \else \set daily_chunk          '7 days'     \endif
\if :{?daily_retention}      \else \set daily_retention      '90 days'    \endif
\if :{?minute_chunk}         \else \set minute_chunk         '1 day'      \endif
\if :{?minute_refresh_start} \else \set minute_refresh_start '2 days'     \endif
\if :{?minute_refresh_end}   \else \set minute_refresh_end   '1 minute'   \endif
\if :{?minute_compress_after} \else \set minute_compress_after '2 days 1 hour' \endif
\if :{?minute_retention}     \else \set minute_retention     '30 days'    \endif
\if :{?hour_chunk}           \else \set hour_chunk           '7 days'     \endif
\if :{?hour_refresh_start}   \else \set hour_refresh_start   '7 days'     \endif
\if :{?hour_refresh_end}     \else \set hour_refresh_end     '1 hour'     \endif
\if :{?hour_compress_after}  \else \set hour_compress_after  '7 days 1 hour' \endif
\if :{?hour_retention}       \else \set hour_retention       '180 days'   \endif
\if :{?minute_refresh_every} \else \set minute_refresh_every '5 minutes'  \endif
\if :{?hour_refresh_every}   \else \set hour_refresh_every   '30 minutes' \endif
\if :{?compress_every}       \else \set compress_every       '30 minutes' \endif
\if :{?retention_every}      \else \set retention_every      '1 hour'     \endif
-- An aggregate of the same name with another definition: 'refuse', or 'rename' it out of the way with its data.
\if :{?other_definition}     \else \set other_definition     'refuse'     \endif
-- 'auto' takes the columnstore names from TimescaleDB 2.18 on; 'old' and 'new' force one.
\if :{?compression_names}    \else \set compression_names    'auto'       \endif

SET client_min_messages = notice;
SET lock_timeout = '60s';
SET statement_timeout = 0;
-- A query over a hundred chunks takes longer to compile than to run.
SET jit = off;

SELECT set_config('snapdelta.settings', jsonb_build_object(
    'raw_chunk', :'raw_chunk', 'raw_compress_after', :'raw_compress_after', 'raw_retention', :'raw_retention',
    'slots_chunk', :'slots_chunk', 'slots_retention', :'slots_retention', 'daily_chunk', :'daily_chunk',
    'daily_retention', :'daily_retention', 'minute_chunk', :'minute_chunk',
    'minute_refresh_start', :'minute_refresh_start', 'minute_refresh_end', :'minute_refresh_end',
    'minute_compress_after', :'minute_compress_after', 'minute_retention', :'minute_retention',
    'hour_chunk', :'hour_chunk', 'hour_refresh_start', :'hour_refresh_start',
    'hour_refresh_end', :'hour_refresh_end', 'hour_compress_after', :'hour_compress_after',
    'hour_retention', :'hour_retention', 'minute_refresh_every', :'minute_refresh_every',
    'hour_refresh_every', :'hour_refresh_every', 'compress_every', :'compress_every',
    'retention_every', :'retention_every', 'other_definition', :'other_definition',
    'compression_names', :'compression_names'
)::text, false) AS settings \gset snapdelta_

-- ---------------------------------------------------------------- one at a time
-- What follows as a function also serves the tables of a settings file, which `snapdelta migrate` adds to these.
CREATE OR REPLACE FUNCTION pg_temp.one_at_a_time() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT pg_try_advisory_lock(hashtext('snapdelta migration')) THEN
        RAISE EXCEPTION 'snapdelta: another migration is running in database "%"; wait until it has ended, then run this file again', current_database() USING ERRCODE = 'lock_not_available';
    END IF;
END $$;
DO $$ BEGIN PERFORM pg_temp.one_at_a_time(); END $$;

-- ---------------------------------------------------------------- what is needed, before anything is changed
CREATE OR REPLACE FUNCTION pg_temp.setting(name text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT current_setting('snapdelta.settings')::jsonb ->> name
$$;
CREATE OR REPLACE FUNCTION pg_temp.period(name text) RETURNS interval LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN pg_temp.setting(name)::interval;
EXCEPTION WHEN invalid_datetime_format OR datetime_field_overflow THEN
    RAISE EXCEPTION 'snapdelta: % = ''%'' is not a period; write it like ''3 days'' or ''2 hours''', name, pg_temp.setting(name);
END $$;

CREATE OR REPLACE FUNCTION pg_temp.require_timescale() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    version text := (SELECT extversion FROM pg_extension WHERE extname = 'timescaledb');
    loaded boolean;
BEGIN
    IF version IS NULL THEN
        RAISE EXCEPTION 'snapdelta: the timescaledb extension is not installed in database "%"; run CREATE EXTENSION timescaledb as a superuser, then run this file again', current_database();
    END IF;
    IF split_part(version, '.', 1)::int * 1000 + split_part(version, '.', 2)::int < 2011 THEN
        RAISE EXCEPTION 'snapdelta: TimescaleDB % is too old, 2.11 or later is needed; upgrade it with ALTER EXTENSION timescaledb UPDATE', version;
    END IF;
    -- The setting tells what was asked for, tsl_loaded() (where it exists) what is there.
    loaded := current_setting('timescaledb.license', true) = 'timescale';
    IF loaded AND to_regprocedure('_timescaledb_functions.tsl_loaded()') IS NOT NULL THEN
        EXECUTE 'SELECT _timescaledb_functions.tsl_loaded()' INTO loaded;
    END IF;
    IF loaded IS NOT TRUE THEN
        RAISE EXCEPTION 'snapdelta: this TimescaleDB is the Apache edition, which has no compression and no continuous aggregates; install the community edition and set timescaledb.license = ''timescale''';
    END IF;
END $$;
DO $$ BEGIN PERFORM pg_temp.require_timescale(); END $$;

-- The rules that keep history; each says what would go wrong. Intervals of months or years have no fixed length.
DO $$
DECLARE
    rule record;
    setting text;
BEGIN
    FOREACH setting IN ARRAY ARRAY['raw_chunk', 'raw_compress_after', 'raw_retention', 'slots_chunk', 'slots_retention',
        'daily_chunk', 'daily_retention', 'minute_chunk', 'minute_refresh_start', 'minute_refresh_end',
        'minute_compress_after', 'minute_retention', 'hour_chunk', 'hour_refresh_start', 'hour_refresh_end',
        'hour_compress_after', 'hour_retention', 'minute_refresh_every', 'hour_refresh_every', 'compress_every',
        'retention_every']
    LOOP
        IF pg_temp.period(setting) <= interval '0' OR extract(month FROM pg_temp.period(setting)) <> 0
           OR extract(year FROM pg_temp.period(setting)) <> 0 THEN
            RAISE EXCEPTION 'snapdelta: % = ''%'' must be longer than nothing and given in days, hours or minutes',
                setting, pg_temp.setting(setting);
        END IF;
    END LOOP;
    FOR rule IN
        SELECT * FROM (VALUES
            -- Three days are 71 hours where the clocks are put forward: hence a day to spare.
            ('raw_retention', '>=', 'minute_refresh_start', interval '1 day',
             'a refresh that reaches behind the rows below empties the buckets whose rows are gone'),
            ('minute_retention', '>=', 'hour_refresh_start', interval '1 day',
             'a refresh that reaches behind the rows below empties the buckets whose rows are gone'),
            ('minute_refresh_start', '>=', 'minute_refresh_end', interval '2 minutes',
             'the refresh window must cover two buckets'),
            ('hour_refresh_start', '>=', 'hour_refresh_end', interval '2 hours',
             'the refresh window must cover two buckets'),
            ('hour_refresh_start', '>=', 'minute_refresh_start', interval '1 hour',
             'a late row that reaches the level below must reach this one as well'),
            ('raw_chunk', '<=', 'raw_retention', interval '0', 'only whole chunks are dropped'),
            ('slots_chunk', '<=', 'slots_retention', interval '0', 'only whole chunks are dropped'),
            ('daily_chunk', '<=', 'daily_retention', interval '0', 'only whole chunks are dropped'),
            ('minute_chunk', '<=', 'minute_retention', interval '0', 'only whole chunks are dropped'),
            ('hour_chunk', '<=', 'hour_retention', interval '0', 'only whole chunks are dropped'),
            ('raw_compress_after', '<=', 'raw_retention', interval '0', 'rows would be dropped before they are compressed'),
            ('minute_compress_after', '>=', 'minute_refresh_start', interval '1 minute', 'what is still refreshed must not be compressed'),
            ('hour_compress_after', '>=', 'hour_refresh_start', interval '1 minute', 'what is still refreshed must not be compressed'),
            ('minute_retention', '>=', 'raw_retention', interval '0', 'an aggregate must outlive what it is made of'),
            ('hour_retention', '>=', 'minute_retention', interval '0', 'an aggregate must outlive what it is made of')
        ) AS t (left_name, operator, right_name, slack, reason)
    LOOP
        IF rule.operator = '<=' AND pg_temp.period(rule.left_name) > pg_temp.period(rule.right_name)
           OR rule.operator = '>=' AND pg_temp.period(rule.left_name) < pg_temp.period(rule.right_name) + rule.slack THEN
            RAISE EXCEPTION 'snapdelta: % (%) must be % % (%)%: %', rule.left_name,
                pg_temp.setting(rule.left_name), rule.operator, rule.right_name,
                pg_temp.setting(rule.right_name),
                CASE WHEN rule.slack > interval '0' THEN ' plus ' || rule.slack ELSE '' END, rule.reason;
        END IF;
    END LOOP;
    -- A bucket must lie in one chunk of the table below it, and a day has no parts in a DATE column.
    FOREACH setting IN ARRAY ARRAY['slots_chunk', 'daily_chunk'] LOOP
        IF mod(extract(epoch FROM pg_temp.period(setting))::bigint, 86400) <> 0 THEN
            RAISE EXCEPTION 'snapdelta: % (%) must be whole days, its table is partitioned by a date', setting, pg_temp.setting(setting);
        END IF;
    END LOOP;
    IF pg_temp.setting('other_definition') NOT IN ('refuse', 'rename') THEN
        RAISE EXCEPTION 'snapdelta: other_definition must be refuse or rename, not %', pg_temp.setting('other_definition');
    END IF;
    IF pg_temp.setting('compression_names') NOT IN ('auto', 'old', 'new') THEN
        RAISE EXCEPTION 'snapdelta: compression_names must be auto, old or new, not %', pg_temp.setting('compression_names');
    END IF;
END $$;

-- The relation in the current schema, whatever else the search path holds.
CREATE OR REPLACE FUNCTION pg_temp.relation(name text) RETURNS regclass LANGUAGE sql STABLE AS $$
    SELECT to_regclass(format('%I.%I', current_schema(), name))
$$;

-- Each aggregate is read through a view of the name that users know. The aggregate behind it stores scaled integers.
CREATE OR REPLACE FUNCTION pg_temp.aggregate(view text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT view || '_scaled'
$$;

-- The hypertable that holds an aggregate's rows; NULL when there is no such aggregate.
CREATE OR REPLACE FUNCTION pg_temp.hypertable_of(aggregate text) RETURNS regclass LANGUAGE sql STABLE AS $$
    SELECT format('%I.%I', materialization_hypertable_schema, materialization_hypertable_name)::regclass
    FROM timescaledb_information.continuous_aggregates
    WHERE view_schema = current_schema() AND view_name = aggregate
$$;
CREATE OR REPLACE FUNCTION pg_temp.materialized(view text) RETURNS regclass LANGUAGE sql STABLE AS $$
    SELECT pg_temp.hypertable_of(pg_temp.aggregate(view))
$$;

-- A policy's jobs, by the hypertable that their configuration names: the view of jobs lists an aggregate's under one
-- name up to 2.18 and another from 2.20 on, and those that add_job() made under none.
CREATE OR REPLACE FUNCTION pg_temp.jobs_on(hypertable regclass, procedure text) RETURNS SETOF timescaledb_information.jobs LANGUAGE sql STABLE AS $$
    SELECT j.* FROM timescaledb_information.jobs j
    JOIN _timescaledb_catalog.hypertable h ON h.id::text = coalesce(j.config ->> 'hypertable_id', j.config ->> 'mat_hypertable_id')
    JOIN pg_namespace n ON n.nspname = h.schema_name
    JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = h.table_name
    WHERE j.proc_name = procedure AND c.oid = hypertable
$$;
CREATE OR REPLACE FUNCTION pg_temp.jobs_of(relation text, procedure text) RETURNS SETOF timescaledb_information.jobs LANGUAGE sql STABLE AS $$
    SELECT * FROM pg_temp.jobs_on(coalesce(pg_temp.materialized(relation), pg_temp.relation(relation)), procedure)
$$;

-- A size that survives a chunk which a job drops meanwhile.
CREATE OR REPLACE FUNCTION pg_temp.bytes(relation regclass) RETURNS bigint LANGUAGE plpgsql AS $$
BEGIN
    FOR attempt IN 1..20 LOOP
        BEGIN
            RETURN coalesce(hypertable_size(relation), pg_total_relation_size(relation));
        EXCEPTION WHEN undefined_table OR undefined_object OR internal_error THEN
            PERFORM pg_sleep(0.1);
        END;
    END LOOP;
    RETURN NULL;
END $$;

-- Takes a table's strongest lock before anything else in a transaction, so that nobody waits in a circle: in tries of
-- half a second, between which the writers that have queued behind it go on.
CREATE OR REPLACE FUNCTION pg_temp.lock(relation regclass) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz := clock_timestamp();
BEGIN
    PERFORM set_config('lock_timeout', '500ms', true);
    LOOP
        BEGIN
            EXECUTE format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE', relation);
            EXIT;
        EXCEPTION WHEN lock_not_available THEN
            IF clock_timestamp() > began + interval '10 minutes' THEN
                RAISE EXCEPTION 'snapdelta: table % is in use without a pause; end the transactions that hold it, then run this file again', relation;
            END IF;
        END;
        PERFORM pg_sleep(1);
    END LOOP;
END $$;

-- A table that a policy can be put on; `remedy` and `expected` say what to do where it, or a column, is missing.
CREATE OR REPLACE FUNCTION pg_temp.require_table(name text, required_time text, columns text[], remedy text, expected text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    found record;
    kind text;
BEGIN
    IF pg_temp.relation(name) IS NULL THEN
        RAISE EXCEPTION 'snapdelta: table %.% does not exist; %, or set search_path to the schema that holds it', current_schema(), name, remedy;
    END IF;
    SELECT relkind INTO kind FROM pg_class WHERE oid = pg_temp.relation(name);
    IF kind <> 'r' THEN
        RAISE EXCEPTION 'snapdelta: %.% is not a plain table or hypertable (kind %)', current_schema(), name, kind;
    END IF;
    IF NOT (SELECT pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = pg_temp.relation(name)) THEN
        RAISE EXCEPTION 'snapdelta: role "%" does not own table %; run this as its owner, %', current_user, name,
            (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = pg_temp.relation(name));
    END IF;
    FOR found IN SELECT c FROM unnest(columns) AS c
                 WHERE NOT EXISTS (SELECT FROM pg_attribute WHERE attrelid = pg_temp.relation(name) AND attname = c AND NOT attisdropped)
    LOOP
        RAISE EXCEPTION 'snapdelta: table % has no column "%"; %', name, found.c, expected;
    END LOOP;
    -- A unique key without the partitioning column cannot be kept by a hypertable.
    FOR found IN SELECT i.indexrelid::regclass AS index FROM pg_index i
                 WHERE i.indrelid = pg_temp.relation(name) AND i.indisunique
                   AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = i.indrelid AND a.attname = required_time
                                   AND a.attnum = ANY (i.indkey::int2[]))
    LOOP
        RAISE EXCEPTION 'snapdelta: the unique index % of table % does not contain "%"; make it part of the key, or drop the index', found.index, name, required_time;
    END LOOP;
    FOR found IN SELECT column_name FROM timescaledb_information.dimensions
                 WHERE hypertable_schema = current_schema() AND hypertable_name = require_table.name
                   AND dimension_number = 1 AND column_name <> required_time
    LOOP
        RAISE EXCEPTION 'snapdelta: hypertable % is partitioned by "%" and not by "%"', name, found.column_name, required_time;
    END LOOP;
END $$;

DO $$
BEGIN
    PERFORM pg_temp.require_table(t.name, t.time_column, t.columns, 'run 001_scanner_schema.sql first', 'this migration is for the schema of 001_scanner_schema.sql')
    FROM (VALUES ('scan_results', 'time', ARRAY['time', 'symbol', 'session', 'price']),
                 ('volume_slots', 'date', ARRAY['date']),
                 ('market_data_daily', 'trading_date', ARRAY['trading_date'])) AS t (name, time_column, columns);
    -- Rows on their way are missing below the aggregates: a refresh would empty buckets.
    IF pg_temp.relation('snapdelta_rewrite_rows') IS NOT NULL AND pg_temp.relation('snapdelta_rewrite_changes') IS NULL THEN
        RAISE EXCEPTION 'snapdelta: a run of 005_rewrite_wide_chunks.sql was stopped half-way; run that file with -v run=yes first (`snapdelta migrate up --rewrite`), which finishes it';
    END IF;
    IF NOT has_schema_privilege(current_schema(), 'CREATE') THEN
        RAISE EXCEPTION 'snapdelta: role "%" may not create the aggregates in schema "%"; run GRANT CREATE ON SCHEMA % TO %', current_user, current_schema(), quote_ident(current_schema()), quote_ident(current_user);
    END IF;
END $$;

-- ---------------------------------------------------------------- what the aggregates are
-- Each column of the raw table and what keeps its history. Columns that are not named here are kept by their type:
-- numbers as last, min, max, sum and count, everything else as last. Averages do not roll up: sum and count do.
--
-- Numeric columns compress badly: no delta coding. The aggregates store numbers of a fixed scale as integers, with
-- `decimals` digits after the point (NULL: stored as they are). NaN is `nan`, which is larger than every number.
CREATE OR REPLACE FUNCTION pg_temp.kept() RETURNS TABLE (source name, type text, decimals int, stored text, nan text, parts text[]) LANGUAGE sql STABLE AS $$
    SELECT a.attname, format_type(a.atttypid, a.atttypmod), d.decimals,
        CASE WHEN a.atttypid = 'numeric'::regtype THEN CASE WHEN d.precision <= 9 THEN 'integer' ELSE 'bigint' END END,
        CASE WHEN a.atttypid = 'numeric'::regtype THEN CASE WHEN d.precision <= 9 THEN '2000000000' ELSE '2000000000000000000' END END,
        coalesce(
        (SELECT string_to_array(known.parts, ' ') FROM (VALUES
            ('price', 'open high low close'),
            ('volume', 'last max sum'),
            ('volume_today', 'last max'),
            ('change_percent', 'last min max'),
            ('rvol', 'last max sum n'),
            ('rvol_slot', 'last max sum n'),
            ('price_from_high', 'last min max'),
            ('price_from_low', 'last min max'),
            ('market_cap', 'last'),
            ('float_shares', 'last'),
            ('score', 'last min max sum n')) AS known (name, parts) WHERE known.name = a.attname),
        CASE WHEN a.atttypid::regtype IN ('smallint', 'integer', 'bigint', 'numeric', 'real', 'double precision')
             THEN ARRAY['last', 'min', 'max', 'sum', 'n'] ELSE ARRAY['last'] END)
    FROM pg_attribute a
    CROSS JOIN LATERAL (SELECT information_schema._pg_numeric_precision(a.atttypid, a.atttypmod) AS precision,
                               information_schema._pg_numeric_scale(a.atttypid, a.atttypmod) AS scale) AS n
    CROSS JOIN LATERAL (SELECT n.precision, CASE WHEN a.atttypid <> 'numeric'::regtype OR n.precision <= 18 AND n.scale <= n.precision
                                                 THEN n.scale END AS decimals) AS d
    WHERE a.attrelid = pg_temp.relation('scan_results') AND a.attnum > 0 AND NOT a.attisdropped
      AND a.attname NOT IN ('time', 'symbol', 'session')
    ORDER BY a.attnum
$$;

-- A numeric expression over raw rows as an integer; the minutes hold integers already.
CREATE OR REPLACE FUNCTION pg_temp.integers(value text, raw boolean, decimals int, stored text, nan text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
    SELECT CASE WHEN raw AND stored IS NOT NULL AND decimals IS NOT NULL
        THEN format('CASE %1$s WHEN ''NaN'' THEN %2$s ELSE (%1$s * %3$s)::%4$s END', value, nan, ('1e' || decimals)::numeric, stored)
        ELSE value END
$$;

-- One row a part, in order, as expressions: what is aggregated (from the raw rows, or from the minutes), what the
-- aggregate stores of it, and what its view shows. A least, greatest or sum that equals the last value is stored as
-- NULL: half of them do, and a NULL takes no room. None of them is NULL where the last value is not; `open` may be.
-- A sum beyond bigint has a column of its own, which else is NULL.
CREATE OR REPLACE FUNCTION pg_temp.parts(raw boolean) RETURNS TABLE (shown text, stored text) LANGUAGE plpgsql STABLE AS $$
DECLARE
    k record;
    part text;
    name text;
    last_name text;
    filled text;     -- the stored part, or the last value that it equals
    summed text;     -- the same for a sum, as numeric
    value text;
    last_value text;
    samples text := CASE WHEN raw THEN 'count(*)' ELSE 'sum(sample_count)::bigint' END;
    at text := CASE WHEN raw THEN '"time"' ELSE 'bucket' END;
    unit text;
    bound text;
BEGIN
    FOR k IN SELECT * FROM pg_temp.kept() LOOP
        unit := ('1e-' || k.decimals)::numeric;
        bound := ('9e' || 18 - k.decimals)::numeric;
        last_name := quote_ident(CASE WHEN 'close' = ANY (k.parts) THEN 'close' ELSE k.source || '_last' END);
        last_value := format('last(%s, %s)', CASE WHEN raw THEN quote_ident(k.source) ELSE last_name END, at);
        last_value := pg_temp.integers(last_value, raw, k.decimals, k.stored, k.nan);
        FOREACH part IN ARRAY k.parts LOOP
            name := quote_ident(CASE WHEN part IN ('open', 'high', 'low', 'close') THEN part ELSE k.source || '_' || part END);
            filled := CASE WHEN part = 'n' THEN format('coalesce(%s, sample_count)', name)
                           WHEN k.decimals IS NULL OR part = 'open' OR name = last_name THEN name
                           ELSE format('coalesce(%s, %s)', name, last_name) END;
            summed := CASE WHEN k.decimals IS NULL THEN name
                           ELSE format('coalesce(%s, %s * %s)', quote_ident(k.source || '_sum_beyond'), filled, unit) END;
            value := format(CASE part WHEN 'open' THEN 'first(%s, %s)' WHEN 'close' THEN 'last(%s, %s)' WHEN 'last' THEN 'last(%s, %s)'
                                      WHEN 'high' THEN 'max(%s)' WHEN 'low' THEN 'min(%s)'
                                      WHEN 'n' THEN CASE WHEN raw THEN 'count(%s)' ELSE 'sum(%s)::bigint' END ELSE part || '(%s)' END,
                            CASE WHEN raw THEN quote_ident(k.source) WHEN part = 'sum' THEN summed ELSE filled END, at);
            IF part = 'n' THEN
                shown := filled;
                stored := format('nullif(%s, %s) AS %s', value, samples, name);
            ELSIF k.decimals IS NULL THEN
                shown := name;
                stored := format('%s AS %s', value, name);
            ELSIF part = 'sum' THEN
                shown := summed;
                stored := format('CASE WHEN abs(%1$s::numeric) <= %2$s THEN nullif((%1$s * %3$s)::bigint, %4$s) END AS %5$s, CASE WHEN abs(%1$s::numeric) > %2$s THEN %1$s::numeric END AS %6$s',
                    value, bound, ('1e' || k.decimals)::numeric, last_value, name, quote_ident(k.source || '_sum_beyond'));
            ELSE
                shown := CASE WHEN k.stored IS NULL THEN filled
                              ELSE format('CASE %1$s WHEN %2$s THEN ''NaN''::numeric ELSE %1$s * %3$s END::%4$s', filled, k.nan, unit, k.type) END;
                value := pg_temp.integers(value, raw, k.decimals, k.stored, k.nan);
                stored := CASE WHEN part = 'open' OR name = last_name THEN format('%s AS %s', value, name)
                               ELSE format('nullif(%s, %s) AS %s', value, last_value, name) END;
            END IF;
            shown := format('%s AS %s', shown, name);
            RETURN NEXT;
        END LOOP;
    END LOOP;
END $$;

-- The aggregate's SELECT: the minutes over the raw rows, the hours over the minutes.
CREATE OR REPLACE FUNCTION pg_temp.definition(view text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT CASE view WHEN 'scan_results_1min'
        THEN format('SELECT time_bucket(''1 minute'', "time") AS bucket, symbol, session, %s, count(*) AS sample_count FROM %I.scan_results GROUP BY 1, 2, 3',
                    (SELECT string_agg(stored, ', ') FROM pg_temp.parts(true)), current_schema())
        ELSE format('SELECT time_bucket(''1 hour'', bucket) AS bucket, symbol, session, %s, sum(sample_count)::bigint AS sample_count FROM %I.%I GROUP BY 1, 2, 3',
                    (SELECT string_agg(stored, ', ') FROM pg_temp.parts(false)), current_schema(), pg_temp.aggregate('scan_results_1min')) END
$$;

-- What users read: the raw columns' types, under the names above.
CREATE OR REPLACE FUNCTION pg_temp.shown(view text) RETURNS text LANGUAGE sql STABLE AS $$
    SELECT format('SELECT bucket, symbol, session, %s, sample_count FROM %I.%I',
                  (SELECT string_agg(shown, ', ') FROM pg_temp.parts(true)), current_schema(), pg_temp.aggregate(view))
$$;

-- Do two queries say the same? This server prints both texts, so they can be compared.
CREATE OR REPLACE FUNCTION pg_temp.differs(present text, wanted text) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE 'CREATE OR REPLACE TEMP VIEW snapdelta_wanted AS ' || wanted;
    wanted := pg_get_viewdef('pg_temp.snapdelta_wanted'::regclass);
    DROP VIEW pg_temp.snapdelta_wanted;
    RETURN regexp_replace(present, '\s+', ' ', 'g') <> regexp_replace(wanted, '\s+', ' ', 'g');
EXCEPTION WHEN undefined_column OR undefined_table THEN
    RETURN true;  -- what it is made of is not there, or lacks a column
END $$;

-- Are the aggregate and the view that are there the wanted ones?
CREATE OR REPLACE FUNCTION pg_temp.has_other_definition(view text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    found text;
    wanted text;
BEGIN
    -- An older aggregate, of numeric columns, may have the name of the view.
    IF EXISTS (SELECT FROM timescaledb_information.continuous_aggregates WHERE view_schema = current_schema() AND view_name = view) THEN
        RETURN true;
    END IF;
    FOR found, wanted IN
        SELECT view_definition, pg_temp.definition(view) FROM timescaledb_information.continuous_aggregates
        WHERE view_schema = current_schema() AND view_name = pg_temp.aggregate(view)
        UNION ALL
        SELECT pg_get_viewdef(pg_temp.relation(view)), pg_temp.shown(view)
        WHERE pg_temp.relation(view) IS NOT NULL AND pg_temp.materialized(view) IS NOT NULL
    LOOP
        IF pg_temp.differs(found, wanted) THEN
            RETURN true;
        END IF;
    END LOOP;
    RETURN false;
END $$;

-- Somebody's own aggregate would lose its history to the new retention of what it is made of.
CREATE OR REPLACE FUNCTION pg_temp.require_short_refreshes(below regclass, keeps interval, setting text, own text[]) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    other record;
BEGIN
    FOR other IN
        SELECT c.view_schema, c.view_name, j.config ->> 'start_offset' AS start_offset
        FROM timescaledb_information.continuous_aggregates c
        JOIN pg_namespace n ON n.nspname = c.hypertable_schema
        JOIN pg_class r ON r.relnamespace = n.oid AND r.relname = c.hypertable_name
        JOIN timescaledb_information.jobs j ON j.proc_name = 'policy_refresh_continuous_aggregate'
         AND (j.hypertable_schema, j.hypertable_name) IN
             ((c.view_schema, c.view_name), (c.materialization_hypertable_schema, c.materialization_hypertable_name))
        WHERE r.oid = below AND NOT (c.view_schema = current_schema() AND c.view_name = ANY (own))
          AND coalesce((j.config ->> 'start_offset')::interval > keeps, true)
    LOOP
        RAISE EXCEPTION 'snapdelta: continuous aggregate %.% is refreshed from % back, behind % (%), and would be emptied; give it a start_offset of at most that first',
            other.view_schema, other.view_name, coalesce(other.start_offset, 'the beginning'), setting, keeps;
    END LOOP;
END $$;

DO $$
DECLARE
    view text;
BEGIN
    FOREACH view IN ARRAY ARRAY['scan_results_1min', 'scan_results_1hour'] LOOP
        IF pg_temp.relation(view) IS NOT NULL AND pg_temp.materialized(view) IS NULL AND NOT pg_temp.has_other_definition(view) THEN
            RAISE EXCEPTION 'snapdelta: %.% exists and is no view of a continuous aggregate of this migration; rename it or drop it, then run this file again', current_schema(), view;
        END IF;
        IF pg_temp.setting('other_definition') = 'refuse' AND pg_temp.has_other_definition(view) THEN
            RAISE EXCEPTION 'snapdelta: continuous aggregate % exists with another definition and would keep it; run with -v other_definition=rename to keep it and its data under another name, and build the right one beside it', view
                USING DETAIL = format('wanted: %s', pg_temp.definition(view));
        END IF;
    END LOOP;
    PERFORM pg_temp.require_short_refreshes(t.below, pg_temp.period(t.setting), t.setting, ARRAY['scan_results_1min', 'scan_results_1hour', pg_temp.aggregate('scan_results_1min'), pg_temp.aggregate('scan_results_1hour')])
    FROM (VALUES (pg_temp.relation('scan_results'), 'raw_retention'), (pg_temp.materialized('scan_results_1min'), 'minute_retention')) AS t (below, setting);
END $$;

-- A refresh window that is made longer must not reach behind what an earlier, shorter retention has left.
CREATE OR REPLACE FUNCTION pg_temp.require_rows_below(view text, hypertable regclass, below regclass, setting text, reach interval) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    oldest timestamptz;
    held timestamptz;
BEGIN
    SELECT coalesce(min(c.range_start), 'infinity') INTO oldest
    FROM timescaledb_information.chunks c, pg_class r, pg_namespace n
    WHERE r.oid = below AND n.oid = r.relnamespace AND (c.hypertable_schema, c.hypertable_name) = (n.nspname, r.relname);
    EXECUTE format('SELECT min(bucket) FROM %s WHERE bucket >= $1 AND bucket < $2', hypertable) INTO held USING now() - reach, oldest;
    IF held IS NOT NULL THEN
        RAISE EXCEPTION 'snapdelta: % (%) reaches behind the oldest rows that % is made of, and would empty its buckets from % on; take a shorter window until the longer retention has filled up',
            setting, reach, view, held;
    END IF;
END $$;

DO $$
BEGIN
    PERFORM pg_temp.require_rows_below(t.view, pg_temp.materialized(t.view), t.below, t.setting, pg_temp.period(t.setting))
    FROM (VALUES ('scan_results_1min', pg_temp.relation('scan_results'), 'minute_refresh_start'),
                 ('scan_results_1hour', pg_temp.materialized('scan_results_1min'), 'hour_refresh_start')) AS t (view, below, setting)
    WHERE pg_temp.materialized(t.view) IS NOT NULL AND NOT pg_temp.has_other_definition(t.view);
END $$;

-- ---------------------------------------------------------------- the record: what was, for the way back
CREATE OR REPLACE FUNCTION pg_temp.keep_record(migration text) RETURNS void LANGUAGE plpgsql SET client_min_messages = warning AS $$
BEGIN
    CREATE TABLE IF NOT EXISTS snapdelta_migrations (
        name        text PRIMARY KEY,
        started_at  timestamptz,
        applied_at  timestamptz,           -- NULL: begun and not ended, or reverted
        reverted_at timestamptz,
        settings    jsonb,                 -- the periods it was applied with
        before      jsonb                  -- chunk widths, policies and sizes as they were
    );
    INSERT INTO snapdelta_migrations (name) VALUES (migration) ON CONFLICT DO NOTHING;
END $$;
DO $$
BEGIN
    PERFORM pg_temp.keep_record('004_optimize_memory_usage');
    -- A run after a half-finished one keeps what the first one saw.
    UPDATE snapdelta_migrations SET
        started_at = clock_timestamp(),
        before = coalesce(before, jsonb_build_object(
            'chunks', (SELECT coalesce(jsonb_object_agg(d.hypertable_name, d.time_interval), '{}')
                       FROM timescaledb_information.dimensions d
                       WHERE d.hypertable_schema = current_schema() AND d.dimension_number = 1
                         AND d.hypertable_name IN ('scan_results', 'volume_slots', 'market_data_daily')),
            'policies', (SELECT coalesce(jsonb_agg(jsonb_build_object('table', j.hypertable_name, 'procedure', j.proc_name,
                                                                      'every', j.schedule_interval, 'scheduled', j.scheduled, 'config', j.config)), '[]')
                         FROM timescaledb_information.jobs j
                         WHERE j.hypertable_schema = current_schema() AND j.proc_name IN ('policy_retention', 'policy_compression')
                           AND j.hypertable_name IN ('scan_results', 'volume_slots', 'market_data_daily')),
            'bytes', (SELECT jsonb_object_agg(t.name, pg_temp.bytes(pg_temp.relation(t.name)))
                      FROM (VALUES ('scan_results'), ('volume_slots'), ('market_data_daily')) AS t (name))))
    WHERE name = '004_optimize_memory_usage';
END $$;

-- ---------------------------------------------------------------- policies: add, or replace what differs
-- add_..._policy(if_not_exists => true) keeps an older policy with other arguments, so what differs is removed and
-- added in one transaction. One that is right stays, with its history of runs.
--
-- From 2.19 on a refresh goes in batches, one bucket each unless told: 2,880 transactions for two days of minutes.
-- A day of minutes or a week of hours is one here; NULL where there are no batches.
CREATE OR REPLACE FUNCTION pg_temp.batch_of(buckets int) RETURNS int LANGUAGE sql STABLE AS $$
    SELECT buckets FROM pg_proc WHERE proname = 'add_continuous_aggregate_policy' AND 'buckets_per_batch' = ANY (proargnames) LIMIT 1
$$;
CREATE OR REPLACE FUNCTION pg_temp.buckets_per_batch(relation text) RETURNS int LANGUAGE sql STABLE AS $$
    SELECT pg_temp.batch_of(CASE relation WHEN 'scan_results_1min' THEN 1440 ELSE 168 END)
$$;

-- Jobs that start at once meet: retention and compression lock each other out, and a failed compression waits an hour.
-- So each starts at a minute of its own, the refreshes first and the raw retention last.
CREATE OR REPLACE FUNCTION pg_temp.first_start(relation text, procedure text) RETURNS timestamptz LANGUAGE sql VOLATILE AS $$
    SELECT date_trunc('minute', clock_timestamp()) + interval '1 minute' * (1 + array_position(ARRAY[
        'scan_results_1min policy_refresh_continuous_aggregate', 'scan_results_1hour policy_refresh_continuous_aggregate',
        'scan_results policy_compression', 'scan_results_1min policy_compression', 'scan_results_1hour policy_compression',
        'volume_slots policy_retention', 'market_data_daily policy_retention', 'scan_results_1hour policy_retention',
        'scan_results_1min policy_retention', 'scan_results policy_retention'], relation || ' ' || procedure))
$$;

-- `target` is the table or the aggregate, `hypertable` what holds its rows; `batch` is for a refresh only.
CREATE OR REPLACE FUNCTION pg_temp.set_policy_on(target regclass, hypertable regclass, procedure text, wanted jsonb, every interval, first timestamptz, batch int) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    job record;
    right_one int;
BEGIN
    FOR job IN SELECT * FROM pg_temp.jobs_on(hypertable, procedure) ORDER BY job_id LOOP
        IF right_one IS NULL AND job.scheduled AND job.schedule_interval = every AND NOT EXISTS (
               SELECT FROM jsonb_each_text(wanted) AS w (key, value)
               WHERE (job.config ->> w.key)::interval IS DISTINCT FROM w.value::interval)
           AND (procedure <> 'policy_refresh_continuous_aggregate'
                OR (job.config ->> 'buckets_per_batch')::int IS NOT DISTINCT FROM batch) THEN
            right_one := job.job_id;
        ELSE
            PERFORM delete_job(job.job_id);
        END IF;
    END LOOP;
    IF right_one IS NOT NULL THEN
        RETURN;
    END IF;
    CASE procedure
        WHEN 'policy_retention' THEN
            PERFORM add_retention_policy(target, drop_after => (wanted ->> 'drop_after')::interval, schedule_interval => every, initial_start => first);
        WHEN 'policy_refresh_continuous_aggregate' THEN
            EXECUTE format('SELECT add_continuous_aggregate_policy(%L::regclass, start_offset => %L::interval, end_offset => %L::interval, schedule_interval => %L::interval, initial_start => %L::timestamptz%s)',
                target, wanted ->> 'start_offset', wanted ->> 'end_offset', every, first, ', buckets_per_batch => ' || batch);
        WHEN 'policy_compression' THEN
            IF pg_temp.columnstore() THEN
                EXECUTE format('CALL add_columnstore_policy(%L::regclass, after => %L::interval, schedule_interval => %L::interval, initial_start => %L::timestamptz)', target, wanted ->> 'compress_after', every, first);
            ELSE
                PERFORM add_compression_policy(target, compress_after => (wanted ->> 'compress_after')::interval, schedule_interval => every, initial_start => first);
            END IF;
    END CASE;
END $$;
CREATE OR REPLACE FUNCTION pg_temp.set_policy(relation text, procedure text, wanted jsonb, every interval) RETURNS void LANGUAGE sql AS $$
    SELECT pg_temp.set_policy_on(pg_temp.relation(CASE WHEN pg_temp.materialized(relation) IS NULL THEN relation ELSE pg_temp.aggregate(relation) END),
                                 coalesce(pg_temp.materialized(relation), pg_temp.relation(relation)), procedure, wanted, every,
                                 pg_temp.first_start(relation, procedure), pg_temp.buckets_per_batch(relation))
$$;

CREATE OR REPLACE FUNCTION pg_temp.columnstore() RETURNS boolean LANGUAGE sql STABLE AS $$
    SELECT CASE pg_temp.setting('compression_names') WHEN 'old' THEN false WHEN 'new' THEN true ELSE
        split_part(extversion, '.', 1)::int * 1000 + split_part(extversion, '.', 2)::int >= 2018 END
    FROM pg_extension WHERE extname = 'timescaledb'
$$;

-- An earlier attempt may have left a refresh that empties old buckets, or a retention that runs before the
-- aggregates are filled: those go first. A longer raw retention stays until it is replaced at the end.
DO $$
DECLARE
    job record;
    finished boolean := (SELECT applied_at IS NOT NULL FROM snapdelta_migrations WHERE name = '004_optimize_memory_usage');
BEGIN
    FOR job IN SELECT * FROM pg_temp.jobs_of('scan_results_1min', 'policy_refresh_continuous_aggregate')
               UNION ALL SELECT * FROM pg_temp.jobs_of('scan_results_1hour', 'policy_refresh_continuous_aggregate') LOOP
        IF coalesce((job.config ->> 'start_offset')::interval > pg_temp.period('minute_refresh_start'), true) AND NOT finished THEN
            PERFORM delete_job(job.job_id);
        END IF;
    END LOOP;
    FOR job IN SELECT * FROM pg_temp.jobs_of('scan_results', 'policy_retention')
               UNION ALL SELECT * FROM pg_temp.jobs_of('scan_results_1min', 'policy_retention') LOOP
        IF NOT finished AND (job.config ->> 'drop_after')::interval <= pg_temp.period('minute_retention') THEN
            PERFORM delete_job(job.job_id);
        END IF;
    END LOOP;
END $$;

-- ---------------------------------------------------------------- hypertables and their chunk widths
CREATE OR REPLACE FUNCTION pg_temp.set_chunks(name text, time_column text, width interval, time_index boolean) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF NOT EXISTS (SELECT FROM timescaledb_information.hypertables
                   WHERE hypertable_schema = current_schema() AND hypertable_name = name) THEN
        RAISE NOTICE 'snapdelta: table % becomes a hypertable; its rows are moved into chunks, and who uses it waits', name;
        PERFORM pg_temp.lock(pg_temp.relation(name));
        PERFORM create_hypertable(pg_temp.relation(name), time_column::name,
            chunk_time_interval => width, migrate_data => true, create_default_indexes => time_index);
    ELSE
        PERFORM set_chunk_time_interval(pg_temp.relation(name), width);
    END IF;
END $$;
DO $$
BEGIN
    PERFORM pg_temp.set_chunks(t.name, t.time_column, pg_temp.period(t.width), false)
    FROM (VALUES ('scan_results', 'time', 'raw_chunk'), ('volume_slots', 'date', 'slots_chunk'),
                 ('market_data_daily', 'trading_date', 'daily_chunk')) AS t (name, time_column, width);
END $$;

-- ---------------------------------------------------------------- compression of the raw rows
-- Settings that are there are kept: until 2.13 they cannot be changed once a chunk is compressed.
DO $$
BEGIN
    IF NOT (SELECT compression_enabled FROM timescaledb_information.hypertables
            WHERE hypertable_schema = current_schema() AND hypertable_name = 'scan_results') THEN
        PERFORM pg_temp.lock(pg_temp.relation('scan_results'));
        IF pg_temp.columnstore() THEN
            ALTER TABLE scan_results SET (timescaledb.enable_columnstore, timescaledb.segmentby = 'symbol, session', timescaledb.orderby = 'time DESC');
        ELSE
            ALTER TABLE scan_results SET (timescaledb.compress, timescaledb.compress_segmentby = 'symbol, session', timescaledb.compress_orderby = 'time DESC');
        END IF;
    END IF;
END $$;

-- ---------------------------------------------------------------- the aggregates, empty at first
DO $$
DECLARE
    wanted record;
    name text;
    suffix text;
BEGIN
    FOR wanted IN SELECT * FROM (VALUES ('scan_results_1min', 'minute_chunk'), ('scan_results_1hour', 'hour_chunk')) AS t (view, width)
    LOOP
        IF pg_temp.has_other_definition(wanted.view) THEN
            suffix := to_char(clock_timestamp(), '"_before_"YYYYMMDD_HH24MISS');
            FOREACH name IN ARRAY ARRAY[wanted.view, pg_temp.aggregate(wanted.view)] LOOP
                CONTINUE WHEN pg_temp.relation(name) IS NULL;
                PERFORM delete_job(j.job_id) FROM timescaledb_information.continuous_aggregates c
                JOIN _timescaledb_catalog.hypertable h ON (h.schema_name, h.table_name) = (c.materialization_hypertable_schema, c.materialization_hypertable_name)
                JOIN timescaledb_information.jobs j ON j.proc_name = 'policy_refresh_continuous_aggregate' AND j.config ->> 'mat_hypertable_id' = h.id::text
                WHERE c.view_schema = current_schema() AND c.view_name = name;
                EXECUTE format('ALTER %s %I RENAME TO %I', CASE WHEN EXISTS (
                    SELECT FROM timescaledb_information.continuous_aggregates WHERE view_schema = current_schema() AND view_name = name)
                    THEN 'MATERIALIZED VIEW' ELSE 'VIEW' END, name, name || suffix);
            END LOOP;
            RAISE NOTICE 'snapdelta: % had another definition and is now %; it keeps its rows and is not refreshed any more', wanted.view, wanted.view || suffix;
        END IF;
        IF pg_temp.materialized(wanted.view) IS NULL THEN
            PERFORM pg_temp.lock(pg_temp.relation('scan_results'));
            -- Newest rows are read from the level below until they are materialized.
            EXECUTE format('CREATE MATERIALIZED VIEW %I.%I WITH (timescaledb.continuous, timescaledb.materialized_only = false, timescaledb.create_group_indexes = false) AS %s WITH NO DATA',
                           current_schema(), pg_temp.aggregate(wanted.view), pg_temp.definition(wanted.view));
            -- The only index besides that on the buckets: one on the session as well costs 30 bytes a row.
            EXECUTE format('CREATE INDEX ON %I.%I (symbol, bucket DESC)', current_schema(), pg_temp.aggregate(wanted.view));
        END IF;
        IF pg_temp.relation(wanted.view) IS NULL THEN
            EXECUTE format('CREATE VIEW %I.%I AS %s', current_schema(), wanted.view, pg_temp.shown(wanted.view));
        END IF;
        -- Without this an aggregate's chunks are ten times as wide as those of its source.
        PERFORM set_chunk_time_interval(pg_temp.materialized(wanted.view), pg_temp.period(wanted.width));
    END LOOP;
END $$;

-- ---------------------------------------------------------------- backfill
-- From when on the rows below an aggregate are complete. Retention drops whole chunks, so a chunk that is still there
-- has all of its rows, unless it was made when its range could have been dropped before: by a late row. An hour is to
-- spare where the clocks change. TimescaleDB 2.11 does not tell when a chunk was made: there retention may have run.
CREATE OR REPLACE FUNCTION pg_temp.rows_complete_since(below regclass, migration text, retention text) RETURNS timestamptz LANGUAGE plpgsql STABLE AS $$
DECLARE
    kept_for interval;
    retained_until timestamptz;
BEGIN
    IF pg_temp.relation('snapdelta_migrations') IS NOT NULL THEN
        SELECT (settings ->> retention)::interval,
               CASE WHEN applied_at IS NOT NULL OR reverted_at IS NOT NULL THEN coalesce(reverted_at, now()) END
        INTO kept_for, retained_until FROM snapdelta_migrations WHERE name = migration;
    END IF;
    IF retained_until IS NULL OR kept_for IS NULL THEN
        RETURN '-infinity';
    END IF;
    RETURN (SELECT least(retained_until - kept_for, coalesce(max(c.range_end), '-infinity'))
            FROM timescaledb_information.chunks c
            WHERE format('%I.%I', c.hypertable_schema, c.hypertable_name)::regclass = below
              AND coalesce(c.range_end <= (to_jsonb(c) ->> 'chunk_creation_time')::timestamptz - kept_for + interval '1 hour', true));
END $$;
CREATE OR REPLACE FUNCTION pg_temp.complete_since(view text) RETURNS timestamptz LANGUAGE sql STABLE AS $$
    SELECT CASE view WHEN 'scan_results_1min'
        THEN pg_temp.rows_complete_since(pg_temp.relation('scan_results'), '004_optimize_memory_usage', 'raw_retention')
        ELSE pg_temp.rows_complete_since(pg_temp.materialized('scan_results_1min'), '004_optimize_memory_usage', 'minute_retention') END
$$;

-- The refreshes that fill what is missing, and touch nothing else. A bucket that holds more samples than the
-- level below still has rows for has lost some of them to retention: refreshing it would lose them here too.
-- Buckets from before the rows are complete are left alone: late rows there would replace what was.
-- `source` and `kept` are queries of bucket, keys and samples: of the rows below, and of the aggregate.
CREATE OR REPLACE FUNCTION pg_temp.missing_in(source text, kept text, keys text[], width interval, since timestamptz) RETURNS TABLE (starts timestamptz, ends timestamptz) LANGUAGE plpgsql AS $$
DECLARE
    together text := (SELECT string_agg(', ' || quote_ident(key), '' ORDER BY number) FROM unnest(keys) WITH ORDINALITY AS k (key, number));
    plain text := (SELECT string_agg(format(', coalesce(%1$I::text, '''') AS %1$I', key), '' ORDER BY number) FROM unnest(keys) WITH ORDINALITY AS k (key, number));
BEGIN
    -- Runs of buckets that may be refreshed, cut at those that may not and at every midnight.
    RETURN QUERY EXECUTE format($query$
        WITH below AS (%1$s),
        kept AS (%2$s),
        buckets AS (
            SELECT bucket,
                   bool_or(coalesce(b.samples, 0) > coalesce(k.samples, 0)) AS lacks,
                   bool_or(coalesce(b.samples, 0) < coalesce(k.samples, 0)) AS holds_more
            FROM (SELECT bucket, samples%6$s FROM below) b
            FULL JOIN (SELECT bucket, samples%6$s FROM kept) k USING (bucket%5$s)
            GROUP BY bucket),
        runs AS (SELECT *, count(*) FILTER (WHERE holds_more) OVER (ORDER BY bucket) AS run FROM buckets)
        SELECT min(bucket), max(bucket) + %3$L::interval FROM runs
        WHERE lacks AND NOT holds_more AND bucket + %3$L::interval <= now() AND bucket >= %4$L::timestamptz
        GROUP BY run, time_bucket('1 day', bucket) ORDER BY 1
    $query$, source, kept, width, since, coalesce(together, ''), coalesce(plain, ''));
END $$;

CREATE OR REPLACE FUNCTION pg_temp.missing(view text) RETURNS TABLE (starts timestamptz, ends timestamptz) LANGUAGE sql AS $$
    SELECT * FROM pg_temp.missing_in(
        CASE view
            WHEN 'scan_results_1min' THEN format('SELECT time_bucket(''1 minute'', "time") AS bucket, symbol, session, count(*) AS samples FROM %s GROUP BY 1, 2, 3', pg_temp.relation('scan_results'))
            ELSE format('SELECT time_bucket(''1 hour'', bucket) AS bucket, symbol, session, sum(sample_count) AS samples FROM %s GROUP BY 1, 2, 3', pg_temp.materialized('scan_results_1min')) END,
        format('SELECT bucket, symbol, session, sum(sample_count) AS samples FROM %s GROUP BY 1, 2, 3', pg_temp.materialized(view)),
        ARRAY['symbol', 'session'], CASE view WHEN 'scan_results_1min' THEN interval '1 minute' ELSE interval '1 hour' END,
        pg_temp.complete_since(view))
$$;

-- TimescaleDB may refuse a refresh beside another one of the same aggregate. So the policies' own start is put off before
-- each of ours, and one that runs is waited for; a run of this file that is stopped leaves them a quarter of an hour.
CREATE OR REPLACE FUNCTION pg_temp.refresh_jobs() RETURNS SETOF timescaledb_information.jobs LANGUAGE sql STABLE AS $$
    SELECT j.* FROM unnest(ARRAY[pg_temp.aggregate('scan_results_1min'), pg_temp.aggregate('scan_results_1hour')]
                           || nullif(current_setting('snapdelta.aggregates', true), '')::text[]) AS aggregate,
                    pg_temp.jobs_on(pg_temp.hypertable_of(aggregate), 'policy_refresh_continuous_aggregate') AS j
$$;

CREATE OR REPLACE PROCEDURE pg_temp.hold_refreshes() LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz := clock_timestamp();
    at_work text;
BEGIN
    IF current_setting('timescaledb.max_background_workers', true) IS NULL THEN
        RETURN;  -- nobody starts them here
    END IF;
    IF to_regclass('pg_temp.snapdelta_put_off') IS NULL THEN
        CREATE TEMP TABLE snapdelta_put_off AS SELECT job_id, next_start FROM pg_temp.refresh_jobs();
    END IF;
    LOOP
        PERFORM alter_job(job_id, next_start => clock_timestamp() + interval '15 minutes') FROM pg_temp.refresh_jobs();
        COMMIT;
        SELECT string_agg(a.application_name, ', ') INTO at_work FROM pg_stat_activity a, pg_temp.refresh_jobs() j
        WHERE a.datname = current_database() AND right(a.application_name, length(j.job_id::text) + 2) = format('[%s]', j.job_id);
        EXIT WHEN at_work IS NULL;
        IF clock_timestamp() > began + interval '10 minutes' THEN
            RAISE EXCEPTION 'snapdelta: % has not ended in 10 minutes; see what it waits for, then run this file again', at_work;
        END IF;
        PERFORM pg_sleep(0.5);
    END LOOP;
END $$;

-- The refreshes as statements. A forced one (where that can be said) also fills buckets that are held for up to date,
-- such as rows deleted by hand; it does not count as a refresh, so it comes second and only for what is still missing.
CREATE OR REPLACE FUNCTION pg_temp.refreshes(view text, forced boolean) RETURNS SETOF text LANGUAGE sql STABLE AS $$
    SELECT command
    FROM pg_temp.missing(view), LATERAL (VALUES ('CALL pg_temp.hold_refreshes()'), (format('CALL refresh_continuous_aggregate(%L, %L::timestamptz, %L::timestamptz%s)',
             pg_temp.relation(pg_temp.aggregate(view)), starts, ends, CASE WHEN forced THEN ', force => true' END))) AS c (command)
    WHERE NOT forced OR EXISTS (SELECT FROM pg_proc WHERE proname = 'refresh_continuous_aggregate' AND 'force' = ANY (proargnames))
$$;

SELECT * FROM pg_temp.refreshes('scan_results_1min', false) \gexec
SELECT * FROM pg_temp.refreshes('scan_results_1min', true) \gexec
SELECT * FROM pg_temp.refreshes('scan_results_1hour', false) \gexec
SELECT * FROM pg_temp.refreshes('scan_results_1hour', true) \gexec

CREATE OR REPLACE FUNCTION pg_temp.release_refreshes() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF to_regclass('pg_temp.snapdelta_put_off') IS NOT NULL THEN
        PERFORM alter_job(job_id, next_start => greatest(next_start, clock_timestamp()), if_exists => true) FROM pg_temp.snapdelta_put_off;
        DROP TABLE pg_temp.snapdelta_put_off;
    END IF;
END $$;
DO $$ BEGIN PERFORM pg_temp.release_refreshes(); END $$;

-- ---------------------------------------------------------------- the aggregates' policies
DO $$
BEGIN
    PERFORM pg_temp.set_policy('scan_results_1min', 'policy_refresh_continuous_aggregate',
           jsonb_build_object('start_offset', pg_temp.period('minute_refresh_start'), 'end_offset', pg_temp.period('minute_refresh_end')),
           pg_temp.period('minute_refresh_every'));
    PERFORM pg_temp.set_policy('scan_results_1hour', 'policy_refresh_continuous_aggregate',
           jsonb_build_object('start_offset', pg_temp.period('hour_refresh_start'), 'end_offset', pg_temp.period('hour_refresh_end')),
           pg_temp.period('hour_refresh_every'));
END $$;

DO $$
DECLARE
    view text;
BEGIN
    FOREACH view IN ARRAY ARRAY['scan_results_1min', 'scan_results_1hour'] LOOP
        CONTINUE WHEN (SELECT compression_enabled FROM timescaledb_information.continuous_aggregates
                       WHERE view_schema = current_schema() AND view_name = pg_temp.aggregate(view));
        -- One segment a symbol: a day's minutes fill a batch of 1000 rows, and each batch costs 2 kB by itself.
        EXECUTE format('ALTER MATERIALIZED VIEW %I SET (timescaledb.%s, timescaledb.%ssegmentby = ''symbol'', timescaledb.%sorderby = ''bucket DESC'')',
                       VARIADIC ARRAY[pg_temp.aggregate(view)] || CASE WHEN pg_temp.columnstore() THEN ARRAY['enable_columnstore', '', '']
                                                                       ELSE ARRAY['compress', 'compress_', 'compress_'] END);
    END LOOP;
END $$;

DO $$
BEGIN
    PERFORM pg_temp.set_policy('scan_results_1min', 'policy_compression',
           jsonb_build_object('compress_after', pg_temp.period('minute_compress_after')), pg_temp.period('compress_every'));
    PERFORM pg_temp.set_policy('scan_results_1hour', 'policy_compression',
           jsonb_build_object('compress_after', pg_temp.period('hour_compress_after')), pg_temp.period('compress_every'));
    PERFORM pg_temp.set_policy('scan_results_1min', 'policy_retention',
           jsonb_build_object('drop_after', pg_temp.period('minute_retention')), pg_temp.period('retention_every'));
    PERFORM pg_temp.set_policy('scan_results_1hour', 'policy_retention',
           jsonb_build_object('drop_after', pg_temp.period('hour_retention')), pg_temp.period('retention_every'));
END $$;

-- ---------------------------------------------------------------- the tables' policies, and vacuum
DO $$
BEGIN
    PERFORM pg_temp.set_policy('scan_results', 'policy_compression',
           jsonb_build_object('compress_after', pg_temp.period('raw_compress_after')), pg_temp.period('compress_every'));
    PERFORM pg_temp.set_policy('volume_slots', 'policy_retention',
           jsonb_build_object('drop_after', pg_temp.period('slots_retention')), pg_temp.period('retention_every'));
    PERFORM pg_temp.set_policy('market_data_daily', 'policy_retention',
           jsonb_build_object('drop_after', pg_temp.period('daily_retention')), pg_temp.period('retention_every'));
END $$;

-- Chunks are written once and soon dropped: vacuum early, so that the visibility map and statistics are there
-- while they are read. The options pass on to chunks that are there and to new ones.
ALTER TABLE scan_results SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02);
DO $$
BEGIN
    -- Rewritten in place as averages change; not every installation has it.
    IF pg_temp.relation('volume_slot_averages') IS NOT NULL
       AND (SELECT relkind = 'r' AND pg_has_role(relowner, 'USAGE') FROM pg_class WHERE oid = pg_temp.relation('volume_slot_averages')) THEN
        ALTER TABLE volume_slot_averages SET (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.02);
    END IF;
END $$;

-- ---------------------------------------------------------------- the raw retention, last
DO $$
DECLARE
    missing int;
BEGIN
    -- Nothing may be dropped before it is in the aggregates; newer rows are the refresh policies' work. The count
    -- reads all raw rows, and ends its transaction before a lock on the jobs is taken.
    SELECT count(*) INTO missing FROM pg_temp.missing('scan_results_1min')
    WHERE starts < now() - pg_temp.period('minute_refresh_start');
    IF missing > 0 THEN
        RAISE EXCEPTION 'snapdelta: % stretches of raw rows are not in scan_results_1min yet, so the raw retention was not set; run this file again', missing;
    END IF;
    COMMIT;
    PERFORM pg_temp.set_policy('scan_results', 'policy_retention',
        jsonb_build_object('drop_after', pg_temp.period('raw_retention')), pg_temp.period('retention_every'));
END $$;

-- ---------------------------------------------------------------- the proof
DO $$
DECLARE
    wanted record;
    found int;
    width interval;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES
            ('scan_results', 'policy_retention', 'drop_after', 'raw_retention', 'retention_every'),
            ('scan_results', 'policy_compression', 'compress_after', 'raw_compress_after', 'compress_every'),
            ('volume_slots', 'policy_retention', 'drop_after', 'slots_retention', 'retention_every'),
            ('market_data_daily', 'policy_retention', 'drop_after', 'daily_retention', 'retention_every'),
            ('scan_results_1min', 'policy_refresh_continuous_aggregate', 'start_offset', 'minute_refresh_start', 'minute_refresh_every'),
            ('scan_results_1min', 'policy_refresh_continuous_aggregate', 'end_offset', 'minute_refresh_end', 'minute_refresh_every'),
            ('scan_results_1min', 'policy_compression', 'compress_after', 'minute_compress_after', 'compress_every'),
            ('scan_results_1min', 'policy_retention', 'drop_after', 'minute_retention', 'retention_every'),
            ('scan_results_1hour', 'policy_refresh_continuous_aggregate', 'start_offset', 'hour_refresh_start', 'hour_refresh_every'),
            ('scan_results_1hour', 'policy_refresh_continuous_aggregate', 'end_offset', 'hour_refresh_end', 'hour_refresh_every'),
            ('scan_results_1hour', 'policy_compression', 'compress_after', 'hour_compress_after', 'compress_every'),
            ('scan_results_1hour', 'policy_retention', 'drop_after', 'hour_retention', 'retention_every')
        ) AS t (relation, procedure, key, setting, every)
    LOOP
        SELECT count(*) INTO found FROM pg_temp.jobs_of(wanted.relation, wanted.procedure);
        IF found <> 1 THEN
            RAISE EXCEPTION 'snapdelta: % has % jobs of % and should have one', wanted.relation, found, wanted.procedure;
        END IF;
        SELECT count(*) INTO found FROM pg_temp.jobs_of(wanted.relation, wanted.procedure) j
        WHERE (j.config ->> wanted.key)::interval = pg_temp.period(wanted.setting) AND j.schedule_interval = pg_temp.period(wanted.every) AND j.scheduled;
        IF found <> 1 THEN
            RAISE EXCEPTION 'snapdelta: % of % is not %', wanted.key, wanted.relation, pg_temp.period(wanted.setting);
        END IF;
    END LOOP;
    FOR wanted IN
        SELECT * FROM (VALUES ('scan_results', pg_temp.relation('scan_results'), 'raw_chunk'), ('volume_slots', pg_temp.relation('volume_slots'), 'slots_chunk'),
                              ('market_data_daily', pg_temp.relation('market_data_daily'), 'daily_chunk'),
                              ('scan_results_1min', pg_temp.materialized('scan_results_1min'), 'minute_chunk'),
                              ('scan_results_1hour', pg_temp.materialized('scan_results_1hour'), 'hour_chunk')) AS t (name, hypertable, setting)
    LOOP
        SELECT time_interval INTO width FROM timescaledb_information.dimensions
        WHERE format('%I.%I', hypertable_schema, hypertable_name)::regclass = wanted.hypertable AND dimension_number = 1;
        IF width IS DISTINCT FROM pg_temp.period(wanted.setting) THEN
            RAISE EXCEPTION 'snapdelta: new chunks of % are % wide and should be %', wanted.name, width, pg_temp.period(wanted.setting);
        END IF;
    END LOOP;
    UPDATE snapdelta_migrations SET
        applied_at = clock_timestamp(), reverted_at = NULL,
        settings = current_setting('snapdelta.settings')::jsonb
    WHERE name = '004_optimize_memory_usage';
END $$;

SELECT pg_advisory_unlock(hashtext('snapdelta migration')) AS unlocked \gset snapdelta_

-- What is kept where, and how large it is now; compression and retention begin their work in the background.
SELECT r.name AS relation, pg_size_pretty((m.before -> 'bytes' ->> r.name)::bigint) AS before, pg_size_pretty(pg_temp.bytes(r.hypertable)) AS now
FROM snapdelta_migrations m,
     (VALUES ('scan_results', pg_temp.relation('scan_results')), ('volume_slots', pg_temp.relation('volume_slots')),
             ('market_data_daily', pg_temp.relation('market_data_daily')),
             ('scan_results_1min', pg_temp.materialized('scan_results_1min')),
             ('scan_results_1hour', pg_temp.materialized('scan_results_1hour'))) AS r (name, hypertable)
WHERE m.name = '004_optimize_memory_usage';
