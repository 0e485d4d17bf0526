"""Compares what is declared with what is: `snapdelta migrate verify`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from snapdelta.timescale.catalog import AGGREGATES, LEVELS, Catalog, Job, Relation, collect
from snapdelta.timescale.connection import connect
from snapdelta.timescale.findings import Finding, Severity
from snapdelta.timescale.planning import PREFIXES
from snapdelta.timescale.levels import SPARE
from snapdelta.timescale.settings import spell
from snapdelta.timescale.standstill import background_workers, last_run

AGAIN = "run `snapdelta migrate up`"
_RETENTION, _COMPRESSION = "policy_retention", "policy_compression"
_REFRESH = "policy_refresh_continuous_aggregate"
# relation, procedure, {key of the job's config: setting}, the setting of its schedule
POLICIES: tuple[tuple[str, str, dict[str, str], str], ...] = (
    ("scan_results", _RETENTION, {"drop_after": "raw_retention"}, "retention_every"),
    ("scan_results", _COMPRESSION, {"compress_after": "raw_compress_after"}, "compress_every"),
    ("volume_slots", _RETENTION, {"drop_after": "slots_retention"}, "retention_every"),
    ("market_data_daily", _RETENTION, {"drop_after": "daily_retention"}, "retention_every"),
    *(
        policy
        for view, prefix in (("scan_results_1min", "minute"), ("scan_results_1hour", "hour"))
        for policy in (
            (
                view,
                _REFRESH,
                {"start_offset": f"{prefix}_refresh_start", "end_offset": f"{prefix}_refresh_end"},
                f"{prefix}_refresh_every",
            ),
            (view, _COMPRESSION, {"compress_after": f"{prefix}_compress_after"}, "compress_every"),
            (view, _RETENTION, {"drop_after": f"{prefix}_retention"}, "retention_every"),
        )
    ),
)
_WORDS = {_RETENTION: "retention", _COMPRESSION: "compression", _REFRESH: "refresh"}


def verify(
    dsn: str, settings: Mapping[str, str] | None = None, *, schema: str | None = None
) -> list[Finding]:
    """Every check of a database, a finding each; changes nothing.

    The declared periods are `settings`, or else those the migration was applied with, or else the defaults.
    What this role or session may not read is a finding as well. Raises MigrationError when the database
    cannot be reached, MigrationSettingError for a setting that is none.
    """
    with connect(dsn, schema) as connection:
        connection.execute("SET lock_timeout = '10s'")  # a table locked for long is a finding, not a wait
        catalog = collect(connection, settings)
    return judge(catalog)


def judge(catalog: Catalog) -> list[Finding]:
    """The findings that the catalog comes to."""
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
    if catalog.applied is not None:
        findings.append(
            Finding.judged(
                "migration", "applied", "yes", "yes" if catalog.applied else "no", catalog.applied, AGAIN
            )
        )
    for name in PREFIXES:
        relation = catalog.relations.get(name)
        if relation is None:
            if catalog.other_definition.get(name):
                findings += _definition(catalog, name)
            elif (name, "catalog") not in catalog.unread:
                findings.append(Finding.fault(name, "exists", "yes", "no", AGAIN))
        elif relation.width is None:
            findings.append(
                Finding.fault(
                    name, "hypertable", "yes", "a plain table, which no policy can be put on", AGAIN
                )
            )
        else:
            findings += _chunk_widths(catalog, relation)
            findings += _oldest_row(catalog, relation)
            findings += _uncompressed(catalog, relation)
            findings += _sizes(relation)
    for relation_name, procedure, keys, every in POLICIES:
        if relation_name in catalog.relations and catalog.jobs is not None:
            findings += _policy(catalog, relation_name, procedure, keys, every)
    for view in AGGREGATES:
        if view in catalog.relations:
            findings += _aggregate(catalog, view)
    findings += _dropped_by_hand(catalog)
    findings += _windows(catalog)
    if catalog.workers is not None:
        findings += background_workers(catalog, catalog.workers)
    findings += _vacuum(catalog)
    findings += _unread(catalog)
    return findings


def _jobs(catalog: Catalog, relation: str, procedure: str) -> list[Job]:
    return [job for job in catalog.jobs or () if job.relation == relation and job.procedure == procedure]


def _policy(
    catalog: Catalog, relation: str, procedure: str, keys: dict[str, str], every: str
) -> Iterator[Finding]:
    check = _WORDS[procedure]
    declared = ", ".join(f"{key} {spell(catalog.settings[setting])}" for key, setting in keys.items())
    jobs = _jobs(catalog, relation, procedure)
    if len(jobs) != 1:
        yield Finding.fault(
            relation, check, declared, "no policy" if not jobs else f"{len(jobs)} policies", AGAIN
        )
        return
    job = jobs[0]
    actual = ", ".join(f"{key} {_spell(job.periods[key])}" for key in keys)
    same = all(job.periods[key] == catalog.settings[setting] for key, setting in keys.items())
    yield Finding.judged(relation, check, declared, actual, same, AGAIN)
    wanted = catalog.settings[every]
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


def _chunk_widths(catalog: Catalog, relation: Relation) -> Iterator[Finding]:
    prefix = PREFIXES[relation.name]
    wanted, retention = catalog.settings[f"{prefix}_chunk"], catalog.settings[f"{prefix}_retention"]
    assert relation.width is not None
    yield Finding.judged(
        relation.name,
        "width of new chunks",
        spell(wanted),
        spell(relation.width),
        relation.width == wanted,
        AGAIN,
    )
    wide = [
        chunk
        for chunk in relation.chunks
        if chunk.end - chunk.start > wanted and chunk.end > catalog.now - retention
    ]
    if wide:
        widest = max(wide, key=lambda chunk: chunk.end - chunk.start)
        gone = max(chunk.end for chunk in wide) + retention
        advice = f"they go by themselves in {spell(gone - catalog.now)}"
        if relation.name == "scan_results":
            advice += "; `snapdelta migrate up --rewrite` makes them narrow at once"
        # A chunk as wide as the retention makes a policy of 3 days keep 10: worth more than a remark.
        severity = Severity.FAULT if widest.end - widest.start > max(retention, wanted) else Severity.WARNING
        yield Finding(
            relation.name,
            "width of kept chunks",
            spell(wanted),
            f"{len(wide)} of up to {spell(widest.end - widest.start)}",
            severity,
            advice,
        )


def _oldest_row(catalog: Catalog, relation: Relation) -> Iterator[Finding]:
    prefix = PREFIXES[relation.name]
    retention, grace = catalog.settings[f"{prefix}_retention"], 2 * catalog.settings["retention_every"]
    if relation.oldest is None:
        if not relation.rows_read:
            return
        yield Finding(
            relation.name, "oldest row", f"{spell(retention)} and a chunk", "no rows", Severity.INFO
        )
        return
    overdue = [chunk for chunk in relation.chunks if chunk.end < catalog.now - retention - grace]
    yield Finding.judged(
        relation.name,
        "oldest row",
        f"{spell(retention)} and a chunk",
        spell(catalog.now - relation.oldest),
        not overdue,
        f"{len(overdue)} chunks should have been dropped: see the retention policy and its last run",
    )


def _uncompressed(catalog: Catalog, relation: Relation) -> Iterator[Finding]:
    prefix = PREFIXES[relation.name]
    if f"{prefix}_compress_after" not in catalog.settings.periods:
        return
    after, grace = catalog.settings[f"{prefix}_compress_after"], 2 * catalog.settings["compress_every"]
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
            "" if ratio > 1 else "compression makes it larger: too few rows a chunk, take wider chunks",
        )


def _definition(catalog: Catalog, view: str) -> Iterator[Finding]:
    other = catalog.other_definition.get(view)
    if other is not None:
        yield Finding.judged(
            view,
            "definition",
            "as the migration's",
            "another" if other else "as the migration's",
            not other,
            "an earlier version or somebody made it, or a column of scan_results has no place in it:"
            " run `snapdelta migrate up --set other_definition=rename`",
        )


def _aggregate(catalog: Catalog, view: str) -> Iterator[Finding]:
    yield from _definition(catalog, view)
    below, _, bucket = LEVELS[view]
    settled = catalog.settled(view)
    source, own = catalog.relations.get(below), catalog.relations[view]
    if source is not None and own.rows_read and view in catalog.due:
        due, held = catalog.due[view], None if own.newest is None else own.newest + bucket
        declared = f"at most {spell(catalog.now - settled)} behind its rows"
        lag = "nothing is materialized" if held is None else spell(max(catalog.now - held, timedelta()))
        if due is not None or source.newest is not None or held is None or held >= settled:
            advice = "the refresh does not keep up or does not run: see its last run"
            if held is not None and source.oldest is not None and source.oldest > held:
                advice += f"; {below} has no rows from {_time(held)} to {_time(source.oldest)}"
            good = due is None or (held is not None and held > due)
            yield Finding.judged(view, "lag", declared, lag, good, advice)
        else:
            advice = f"{below} has no rows: the scanner stands still, or they were dropped by hand"
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
            f"{AGAIN} while the rows are there: it fills them",
        )


def _dropped_by_hand(catalog: Catalog) -> Iterator[Finding]:
    """Rows that retention has not reached and that are gone all the same."""
    raw = catalog.relations.get("scan_results")
    if raw is None or not raw.rows_read or catalog.first_kept is None:
        return
    good = raw.oldest is not None and raw.oldest < catalog.first_kept + timedelta(minutes=1)
    yield Finding.judged(
        raw.name,
        "rows dropped by hand",
        f"rows from {_time(catalog.first_kept)} on",
        "no rows" if raw.oldest is None else f"rows from {_time(raw.oldest)} on",
        good,
        "a refresh empties the minutes of rows that are gone, and rows that were in no minute yet are lost: "
        "stop the refresh (alter_job), bring the rows back from a backup, then " + AGAIN,
    )


def _windows(catalog: Catalog) -> Iterator[Finding]:
    """What the policies do together, whatever was declared: this is how history gets lost."""
    reach = [
        (view, below, _start(catalog, view))
        for view, below in ((AGGREGATES[0], "scan_results"), AGGREGATES[::-1])
    ]
    for view, below, starts in reach:
        kept = [
            period
            for job in _jobs(catalog, below, _RETENTION)
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
        bad = start is None or start > catalog.settings[setting]
        yield Finding.judged(
            name,
            "refresh window",
            f"within {setting} ({spell(catalog.settings[setting])})",
            _spell(start),
            not bad,
            "it empties its own buckets once rows are dropped: give it a shorter start_offset",
        )


def _start(catalog: Catalog, view: str) -> list[timedelta | None]:
    return [job.periods["start_offset"] for job in _jobs(catalog, view, _REFRESH)]


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
            reason += "; the defaults are taken for the declared periods, give others with --set"
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
