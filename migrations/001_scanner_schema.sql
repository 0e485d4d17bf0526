-- The tables of the scanner, for a new database. Tables that exist are left as they are.
-- Run: psql -f 001_scanner_schema.sql        (needs the timescaledb extension; safe to run again)
--
-- Only whole chunks are compressed or dropped, so the chunk widths are chosen for what
-- 004_optimize_memory_usage.sql does with the tables: raw rows an hour, slots a day, daily bars a week.
\set ON_ERROR_STOP on
SET client_min_messages = warning;

DO $$
BEGIN
    IF NOT pg_try_advisory_lock(hashtext('snapdelta migration')) THEN
        RAISE EXCEPTION 'snapdelta: another migration is running in database "%"; wait until it has ended, then run this file again', current_database() USING ERRCODE = 'lock_not_available';
    END IF;
    IF NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN
        RAISE EXCEPTION 'snapdelta: the timescaledb extension is not installed in database "%"; run CREATE EXTENSION timescaledb as a superuser, then run this file again', current_database();
    END IF;
    IF NOT has_schema_privilege(current_schema(), 'CREATE') THEN
        RAISE EXCEPTION 'snapdelta: role "%" may not create tables in schema "%"; run GRANT CREATE ON SCHEMA % TO %', current_user, current_schema(), quote_ident(current_schema()), quote_ident(current_user);
    END IF;
END $$;

CREATE TABLE IF NOT EXISTS scan_results (
    time            timestamptz NOT NULL,
    symbol          varchar(10) NOT NULL,
    session         varchar(20) NOT NULL,
    price           numeric(12,4),
    volume          bigint,
    volume_today    bigint,
    change_percent  numeric(8,4),
    rvol            numeric(10,4),
    rvol_slot       numeric(10,4),
    price_from_high numeric(8,4),
    price_from_low  numeric(8,4),
    market_cap      bigint,
    float_shares    bigint,
    score           numeric(10,4),
    filters_matched text[],
    metadata        jsonb
);

CREATE TABLE IF NOT EXISTS volume_slots (
    date               date NOT NULL,
    symbol             varchar(10) NOT NULL,
    slot_number        int NOT NULL,
    slot_time          time NOT NULL,
    volume_accumulated bigint NOT NULL,
    trades_count       int,
    avg_price          numeric(12,4),
    PRIMARY KEY (date, symbol, slot_number)
);

CREATE TABLE IF NOT EXISTS market_data_daily (
    trading_date date NOT NULL,
    symbol       varchar(10) NOT NULL,
    open         numeric(12,4),
    high         numeric(12,4),
    low          numeric(12,4),
    close        numeric(12,4),
    volume       bigint,
    vwap         numeric(12,4),
    trades_count int,
    PRIMARY KEY (trading_date, symbol)
);

-- Filled tables are not converted here: that takes their lock for as long as the rows take, and is 004's job.
DO $$
DECLARE
    wanted record;
    filled boolean;
BEGIN
    FOR wanted IN
        SELECT * FROM (VALUES ('scan_results', 'time', interval '1 hour'),
                              ('volume_slots', 'date', interval '1 day'),
                              ('market_data_daily', 'trading_date', interval '7 days')) AS t (name, time_column, width)
    LOOP
        CONTINUE WHEN EXISTS (SELECT FROM timescaledb_information.hypertables
                              WHERE hypertable_schema = current_schema() AND hypertable_name = wanted.name);
        EXECUTE format('SELECT EXISTS (SELECT FROM %I)', wanted.name) INTO filled;
        CONTINUE WHEN filled;
        PERFORM create_hypertable(wanted.name::regclass, wanted.time_column::name, chunk_time_interval => wanted.width,
                                  create_default_indexes => wanted.name = 'scan_results');
    END LOOP;
END $$;

-- The index on symbol and time. One that begins with them serves, whatever its name and directions are. A chunk's
-- writers wait while it is built there: not where that would take longer than a second.
CREATE OR REPLACE FUNCTION pg_temp.symbol_time_index(whole boolean) RETURNS regclass LANGUAGE sql STABLE AS $$
    SELECT i.indexrelid::regclass FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
    WHERE i.indrelid = to_regclass(format('%I.scan_results', current_schema())) AND i.indisvalid = whole AND a.amname = 'btree' AND i.indpred IS NULL
      AND pg_get_indexdef(i.indexrelid, 1, true) = 'symbol' AND pg_get_indexdef(i.indexrelid, 2, true) = '"time"' LIMIT 1
$$;

-- How long that would be for the largest chunk and for all of them, by a sample. More rows are sorted deeper: twice.
CREATE OR REPLACE FUNCTION pg_temp.index_seconds(OUT largest double precision, OUT whole double precision) LANGUAGE plpgsql AS $$
DECLARE
    began timestamptz;
    per_byte double precision;
BEGIN
    SELECT max(pg_relation_size(part)), sum(pg_relation_size(part)) INTO largest, whole
    FROM (SELECT to_regclass(format('%I.scan_results', current_schema())) AS part
          UNION ALL SELECT inhrelid FROM pg_inherits WHERE inhparent = to_regclass(format('%I.scan_results', current_schema()))) parts;
    -- 16 MB take no time, though a sample may say so while the machine is busy.
    IF whole < 16 * 1024 * 1024 THEN
        largest := 0;
        whole := 0;
        RETURN;
    END IF;
    CREATE TEMP TABLE snapdelta_sample AS SELECT * FROM scan_results LIMIT 20000;
    began := clock_timestamp();
    CREATE INDEX ON snapdelta_sample (symbol, time DESC);
    per_byte := 2 * extract(epoch FROM clock_timestamp() - began) / greatest(pg_relation_size('snapdelta_sample'), 8192 * 10);
    DROP TABLE snapdelta_sample;
    SELECT largest * per_byte, whole * per_byte INTO largest, whole;
END $$;

-- 'whole': in one transaction, where nobody would notice; 'chunks': in one each.
DO $$
DECLARE
    broken regclass := pg_temp.symbol_time_index(false);  -- of a run that was stopped
    seconds record;
BEGIN
    PERFORM set_config('snapdelta.build_index', '', false);
    IF pg_temp.symbol_time_index(true) IS NOT NULL THEN
        RETURN;
    END IF;
    SELECT * INTO seconds FROM pg_temp.index_seconds();
    IF seconds.largest > 1 THEN
        RAISE WARNING 'snapdelta: scan_results has no index on (symbol, time). Building it would hold the writers of one chunk for about % s, so it is left until the chunks are narrow: `snapdelta migrate up --rewrite`, or 005_rewrite_wide_chunks.sql and then this file again', ceil(seconds.largest);
        RETURN;
    END IF;
    PERFORM set_config('snapdelta.build_index', 'whole', false);
    IF seconds.whole > 1 THEN
        RAISE WARNING 'snapdelta: scan_results gets an index on (symbol, time), chunk by chunk in about % s; a writer waits at most about % s', ceil(seconds.whole), round(seconds.largest::numeric, 1);
        PERFORM set_config('snapdelta.build_index', 'chunks', false);
    END IF;
    IF broken IS NOT NULL THEN
        EXECUTE format('DROP INDEX %s', broken);
    END IF;
END $$;

SELECT 'CREATE INDEX ON scan_results (symbol, time DESC)' || CASE WHEN current_setting('snapdelta.build_index') = 'chunks' AND EXISTS (
        SELECT FROM timescaledb_information.hypertables WHERE hypertable_schema = current_schema() AND hypertable_name = 'scan_results')
    THEN ' WITH (timescaledb.transaction_per_chunk)' ELSE '' END
WHERE current_setting('snapdelta.build_index') <> '' \gexec

SELECT pg_advisory_unlock(hashtext('snapdelta migration')) AS unlocked \gset snapdelta_
