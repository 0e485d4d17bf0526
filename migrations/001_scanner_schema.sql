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

CREATE INDEX IF NOT EXISTS scan_results_symbol_time_idx ON scan_results (symbol, time DESC);

SELECT pg_advisory_unlock(hashtext('snapdelta migration')) AS unlocked \gset snapdelta_
