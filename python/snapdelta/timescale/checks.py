"""Compares the declaration with the database: `snapdelta migrate verify`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from snapdelta.timescale.catalog import SCANNED, Catalog, Job, Relation, collect
from snapdelta.timescale.connection import connect
from snapdelta.timescale.findings import Finding, Severity
from snapdelta.timescale.levels import COMPRESSION, REFRESH, RETENTION, SPARE, Level, Policy
from snapdelta.timescale.settings import spell
from snapdelta.timescale.standstill import background_workers, last_run
from snapdelta.timescale.tables import Compression, Tables

AGAIN = "run `snapdelta migrate up`"
_WORDS = {RETENTION: "retention", COMPRESSION: "compression", REFRESH: "refresh"}


def verify(
    dsn: str,
    settings: Mapping[str, str] | None = None,
    *,
    tables: Tables | None = None,
    schema: str | None = None,
) -> list[Finding]:
    """Every check of a database, a finding each; changes nothing.

    The declared periods are `settings`, or else those the migration was applied with, or else the defaults.
    The declared `tables` are those of a settings file, or else those that were applied.
    A finding also names what this role or session may not read. Raises MigrationError when the database
    cannot be reached, MigrationSettingError for an impossible setting.
    """
    with connect(dsn, schema) as connection:
        connection.execute("SET lock_timeout = '10s'")  # a table locked for long is a finding, not a wait
        catalog = collect(connection, settings, tables)
    return judge(catalog)


def judge(catalog: Catalog) -> list[Finding]:
    """The findings about a catalog."""
    if catalog.version is None:
        advice = "run CREATE EXTENSION timescaledb"
        missing = Finding.fault("server", "timescaledb", "installed", "not installed", advice)
        return [missing, *_unread(catalog)]
    findings = [
        Finding("server", "timescaledb", "2.11 or later", catalog.version, Severity.OK),
    ]
    if catalog.community is not None:
        findings.append(
            Finding.judged(
                "server",
                "edition",
                "community",
                "community" if catalog.community else "apache",
                catalog.community,
                "install the community edition: the Apache edition has no compression and no aggregates",
            )
        )
    if catalog.applied is not None and catalog.tables.scanner:
        findings.append(
            Finding.judged(
                "migration", "applied", "yes", "yes" if catalog.applied else "no", catalog.applied, AGAIN
            )
        )
    findings += _tables(catalog)
    for level in catalog.levels:
        name = level.name
        relation = catalog.relations.get(name)
        if relation is None:
            if catalog.other_definition.get(name):
                findings += _definition(catalog, level)
            elif (name, "catalog") not in catalog.unread:
                findings.append(Finding.fault(name, "exists", "yes", "no", AGAIN))
        elif relation.width is None:
            findings.append(
                Finding.fault(name, "hypertable", "yes", "a plain table, which can have no policy", AGAIN)
            )
        else:
            findings += _chunk_widths(catalog, level, relation)
            findings += _oldest_row(catalog, level, relation)
            findings += _uncompressed(catalog, level, relation)
            findings += _sizes(relation)
    for level in catalog.levels:
        if level.name in catalog.relations and catalog.jobs is not None:
            for policy in level.policies():
                findings += _policy(catalog, policy)
    for level in catalog.levels:
        if level.refresh is not None and level.name in catalog.relations:
            findings += _aggregate(catalog, level)
    findings += _dropped_by_hand(catalog)
    findings += _windows(catalog)
    if catalog.workers is not None:
        findings += background_workers(catalog, catalog.workers)
    findings += _vacuum(catalog)
    findings += _unread(catalog)
    return findings


def _tables(catalog: Catalog) -> Iterator[Finding]:
    """The settings file's tables: applied, compressed by the declared columns, dropping only what it says."""
    for table in catalog.tables.tables:
        applied = catalog.tables_applied.get(table.name) is not None
        yield Finding.judged(table.name, "applied", "yes", "yes" if applied else "no", applied, AGAIN)
        levels = [(table.level, table.compression, table.forever)]
        levels += [(a.level, a.compression, a.forever) for a in table.aggregates]
        for level, wanted, forever in levels:
            if level.name in catalog.compression:
                found = catalog.compression[level.name]
                same = found == wanted
                yield Finding.judged(
                    level.name, "compression columns", _columns(wanted), _columns(found), same, AGAIN
                )
            if level.drop_after is None and _jobs(catalog, level.name, RETENTION):
                declared = "none: nothing is dropped" if forever else "no policy is declared"
                advice = (
                    AGAIN
                    if forever
                    else f"give {level.chunk.removesuffix('chunk')}drop_after a period, or 'never'"
                )
                yield Finding.fault(level.name, "retention", declared, "a policy drops rows", advice)
    for name in catalog.undeclared:
        advice = f"put it back into the file, or run `snapdelta migrate down --table {name}`"
        yield Finding(
            name, "settings file", "declared", "applied, but not in the file", Severity.WARNING, advice
        )


def _columns(compression: Compression | None) -> str:
    if compression is None:
        return "not enabled"
    order = ", ".join(
        f"{item.column} {'DESC' if item.descending else 'ASC'}" for item in compression.order_by
    )
    return f"by {', '.join(compression.segment_by) or 'nothing'}, sorted by {order}"


def _jobs(catalog: Catalog, relation: str, procedure: str) -> list[Job]:
    return [job for job in catalog.jobs or () if job.relation == relation and job.procedure == procedure]


def _policy(catalog: Catalog, policy: Policy) -> Iterator[Finding]:
    check, relation, keys = _WORDS[policy.procedure], policy.level, policy.keys
    declared = ", ".join(f"{key} {spell(catalog.periods[name])}" for key, name in keys.items())
    jobs = _jobs(catalog, relation, policy.procedure)
    if len(jobs) != 1:
        yield Finding.fault(
            relation, check, declared, "no policy" if not jobs else f"{len(jobs)} policies", AGAIN
        )
        return
    job = jobs[0]
    actual = ", ".join(f"{key} {_spell(job.periods[key])}" for key in keys)
    same = all(job.periods[key] == catalog.periods[name] for key, name in keys.items())
    yield Finding.judged(relation, check, declared, actual, same, AGAIN)
    wanted = catalog.periods[policy.every]
    lazy = job.every > wanted or not job.scheduled
    yield Finding.judged(
        relation,
        f"{check} schedule",
        f"every {spell(wanted)}",
        f"every {spell(job.every)}" if job.scheduled else "switched off",
        not lazy,
        f"SELECT alter_job({job.number}, schedule_interval => '{spell(wanted)}', scheduled => true)",
    )
    yield last_run(catalog, job, relation, check)


def _chunk_widths(catalog: Catalog, level: Level, relation: Relation) -> Iterator[Finding]:
    wanted = catalog.periods[level.chunk]
    assert relation.width is not None
    yield Finding.judged(
        relation.name,
        "width of new chunks",
        spell(wanted),
        spell(relation.width),
        relation.width == wanted,
        AGAIN,
    )
    retention = None if level.drop_after is None else catalog.periods[level.drop_after]
    wide = [
        chunk
        for chunk in relation.chunks
        if chunk.end - chunk.start > wanted and (retention is None or chunk.end > catalog.now - retention)
    ]
    if not wide:
        return
    widest = max(chunk.end - chunk.start for chunk in wide)
    if retention is None:
        severity, advice = Severity.INFO, "they do not change, and neither do their rows"
    else:
        gone = max(chunk.end for chunk in wide) + retention
        advice = f"retention drops them in {spell(gone - catalog.now)}"
        # A chunk as wide as the retention makes a policy of 3 days keep 10: worth more than a remark.
        severity = Severity.FAULT if widest > max(retention, wanted) else Severity.WARNING
    if relation.name == "scan_results":
        advice += "; `snapdelta migrate up --rewrite` makes them narrow at once"
    yield Finding(
        relation.name,
        "width of kept chunks",
        spell(wanted),
        f"{len(wide)} of up to {spell(widest)}",
        severity,
        advice,
    )


def _oldest_row(catalog: Catalog, level: Level, relation: Relation) -> Iterator[Finding]:
    if not relation.rows_read:
        return
    retention = None if level.drop_after is None else catalog.periods[level.drop_after]
    declared = "any age" if retention is None else f"{spell(retention)} and a chunk"
    if relation.oldest is None or retention is None:
        actual = "no rows" if relation.oldest is None else spell(catalog.now - relation.oldest)
        yield Finding(relation.name, "oldest row", declared, actual, Severity.INFO)
        return
    grace = 2 * catalog.periods[level.drop_every]
    overdue = [chunk for chunk in relation.chunks if chunk.end < catalog.now - retention - grace]
    yield Finding.judged(
        relation.name,
        "oldest row",
        declared,
        spell(catalog.now - relation.oldest),
        not overdue,
        f"{len(overdue)} chunks should have been dropped: see the retention policy and its last run",
    )


def _uncompressed(catalog: Catalog, level: Level, relation: Relation) -> Iterator[Finding]:
    if level.compress_after is None:
        return
    after, grace = catalog.periods[level.compress_after], 2 * catalog.periods[level.compress_every]
    due = [
        chunk for chunk in relation.chunks if chunk.end < catalog.now - after - grace and not chunk.compressed
    ]
    oldest = spell(catalog.now - due[0].end) if due else ""
    done = sum(chunk.compressed for chunk in relation.chunks)
    yield Finding.judged(
        relation.name,
        "compressed chunks",
        f"all that ended {spell(after)} ago",
        f"{done} of {len(relation.chunks)}",
        not due,
        f"{len(due)} closed chunks are not compressed, the oldest ended {oldest} ago:"
        " see the compression policy and its last run",
    )


def _sizes(relation: Relation) -> Iterator[Finding]:
    if relation.bytes_now is not None:
        yield Finding(relation.name, "size", "", _bytes(relation.bytes_now), Severity.INFO)
    if relation.bytes_before and relation.bytes_after:
        ratio = relation.bytes_before / relation.bytes_after
        yield Finding(
            relation.name,
            "compression",
            "smaller",
            f"{_bytes(relation.bytes_before)} -> {_bytes(relation.bytes_after)} ({ratio:.1f}x)",
            Severity.OK if ratio > 1 else Severity.WARNING,
            "" if ratio > 1 else "compression makes it larger: a chunk has too few rows; use wider chunks",
        )


def _definition(catalog: Catalog, level: Level) -> Iterator[Finding]:
    view = level.name
    other = catalog.other_definition.get(view)
    if other is None:
        return
    declared, advice = (
        (
            "as the migration's",
            "an earlier version or somebody made it, or a column of scan_results has no place in it:"
            " run `snapdelta migrate up --set other_definition=rename`",
        )
        if view in SCANNED
        else (
            "as declared",
            f"rename it, which keeps its rows, and {AGAIN}; or give the declared one another name",
        )
    )
    yield Finding.judged(view, "definition", declared, "another" if other else declared, not other, advice)


def _aggregate(catalog: Catalog, level: Level) -> Iterator[Finding]:
    yield from _definition(catalog, level)
    assert level.refresh is not None
    view, below, bucket = level.name, level.refresh.below, level.refresh.bucket
    settled = catalog.settled(level)
    source, own = catalog.relations.get(below), catalog.relations[view]
    if source is not None and own.rows_read and view in catalog.due:
        due, held = catalog.due[view], None if own.newest is None else own.newest + bucket
        declared = f"at most {spell(catalog.now - settled)} behind its rows"
        lag = "nothing is materialized" if held is None else spell(max(catalog.now - held, timedelta()))
        if due is not None or source.newest is not None or held is None or held >= settled:
            advice = "the refresh is too slow or does not run: see its last run"
            if held is not None and source.oldest is not None and source.oldest > held:
                advice += f"; {below} has no rows from {_time(held)} to {_time(source.oldest)}"
            good = due is None or (held is not None and held > due)
            yield Finding.judged(view, "lag", declared, lag, good, advice)
        else:
            advice = f"{below} has no rows: its writer does not run, or somebody dropped them"
            yield Finding(view, "lag", declared, lag, Severity.WARNING, advice)
    # Rows of the last moments are the next refresh's work, holes before that nobody's.
    holes = [(start, min(end, settled)) for start, end in catalog.missing.get(view, []) if start < settled]
    if view in catalog.missing:
        yield Finding.judged(
            view,
            "holes",
            "none",
            f"{len(holes)} stretches, from {_time(holes[0][0])} to {_time(holes[-1][1])}"
            if holes
            else "none",
            not holes,
            f"{AGAIN} while the rows exist: it fills them",
        )


def _dropped_by_hand(catalog: Catalog) -> Iterator[Finding]:
    """Rows that retention has not reached and that are gone all the same."""
    for name, (first, bucket) in catalog.first_kept.items():
        relation = catalog.relations.get(name)
        if relation is None or not relation.rows_read:
            continue
        good = relation.oldest is not None and relation.oldest < first + bucket
        yield Finding.judged(
            name,
            "rows dropped by hand",
            f"rows from {_time(first)} on",
            "no rows" if relation.oldest is None else f"rows from {_time(relation.oldest)} on",
            good,
            "a refresh empties the buckets of rows that are gone, and rows that were in no bucket yet are"
            " lost: stop the refresh (alter_job), bring the rows back from a backup, then " + AGAIN,
        )


def _windows(catalog: Catalog) -> Iterator[Finding]:
    """What the policies do together, whatever was declared: this is how history gets lost."""
    reach = [
        (level.name, level.refresh.below, _start(catalog, level.name))
        for level in catalog.levels
        if level.refresh is not None
    ]
    for view, below, starts in reach:
        kept = [
            period
            for job in _jobs(catalog, below, RETENTION)
            if (period := job.periods["drop_after"]) is not None
        ]
        if starts and kept:
            furthest = None if None in starts else max(start for start in starts if start is not None)
            eaten = furthest is None or furthest + SPARE > min(kept)
            yield Finding.judged(
                view,
                "refresh window",
                f"{spell(SPARE)} less than the {spell(min(kept))} that {below} keeps",
                _spell(furthest),
                not eaten,
                f"it empties the buckets whose rows are gone: {AGAIN} at once",
            )
    for name, setting, start in catalog.foreign:
        bad = start is None or start > catalog.periods[setting]
        yield Finding.judged(
            name,
            "refresh window",
            f"within {setting} ({spell(catalog.periods[setting])})",
            _spell(start),
            not bad,
            "it empties its own buckets once rows are dropped: give it a shorter start_offset",
        )


def _start(catalog: Catalog, view: str) -> list[timedelta | None]:
    return [job.periods["start_offset"] for job in _jobs(catalog, view, REFRESH)]


def _vacuum(catalog: Catalog) -> Iterator[Finding]:
    raw = catalog.relations.get("scan_results")
    if raw is not None:
        own = any(option.startswith("autovacuum_") for option in raw.options)
        yield Finding(
            "scan_results",
            "autovacuum options",
            "set",
            "set" if own else "the server's",
            Severity.OK if own else Severity.WARNING,
            "" if own else AGAIN,
        )


def _unread(catalog: Catalog) -> Iterator[Finding]:
    """What was not checked: no fault of the database, but for the jobs, whose standstill would go unseen."""
    for (subject, check), reason in catalog.unread.items():
        severity = Severity.FAULT if (subject, check) == ("jobs", "policies") else Severity.WARNING
        if (subject, check) == ("migration", "applied"):
            reason += "; it compares with the default periods; give others with --set"
        yield Finding(subject, check, "", "not checked", severity, reason)


def _spell(period: timedelta | None) -> str:
    return "unbounded" if period is None else spell(period)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M %Z}"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"
