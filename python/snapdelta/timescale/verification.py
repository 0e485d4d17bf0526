"""Compares what is declared with what is: `snapdelta migrate verify`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta

from snapdelta.timescale.connection import connect
from snapdelta.timescale.facts import AGGREGATES, Facts, Job, Relation, collect
from snapdelta.timescale.findings import Finding, Verdict
from snapdelta.timescale.planning import PREFIXES
from snapdelta.timescale.settings import spell

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
    Raises MigrationError when the database cannot be reached or read, MigrationSettingError for a setting
    that is none.
    """
    with connect(dsn, schema) as connection:
        facts = collect(connection, settings)
    return judge(facts)


def judge(facts: Facts) -> list[Finding]:
    """The findings that the facts come to."""
    if facts.version is None:
        return [
            _fault("server", "timescaledb", "installed", "not installed", "run CREATE EXTENSION timescaledb")
        ]
    findings = [
        Finding("server", "timescaledb", "2.11 or later", facts.version, Verdict.OK),
        _check(
            "server",
            "edition",
            "community",
            "community" if facts.community else "apache",
            facts.community,
            "install the community edition: the Apache edition has no compression and no aggregates",
        ),
        _check("migration", "applied", "yes", "yes" if facts.applied else "no", facts.applied, AGAIN),
    ]
    for name in PREFIXES:
        relation = facts.relations.get(name)
        if relation is None and facts.other_definition.get(name):
            findings.append(_definition(facts, name))
        elif relation is None:
            findings.append(_fault(name, "exists", "yes", "no", AGAIN))
        elif relation.width is None:
            findings.append(
                _fault(name, "hypertable", "yes", "a plain table, which no policy can be put on", AGAIN)
            )
        else:
            findings += _chunk_widths(facts, relation)
            findings += _oldest_row(facts, relation)
            findings += _uncompressed(facts, relation)
            findings += _sizes(relation)
    for relation_name, procedure, keys, every in POLICIES:
        if relation_name in facts.relations:
            findings += _policy(facts, relation_name, procedure, keys, every)
    for view in AGGREGATES:
        if view in facts.relations:
            findings += _aggregate(facts, view)
    findings += _windows(facts)
    findings += _workers(facts)
    findings += _vacuum(facts)
    return findings


def _fault(subject: str, check: str, declared: str, actual: str, advice: str) -> Finding:
    return Finding(subject, check, declared, actual, Verdict.FAULT, advice)


def _check(subject: str, check: str, declared: str, actual: str, good: bool, advice: str) -> Finding:
    return Finding(
        subject, check, declared, actual, Verdict.OK if good else Verdict.FAULT, "" if good else advice
    )


def _jobs(facts: Facts, relation: str, procedure: str) -> list[Job]:
    return [job for job in facts.jobs if job.relation == relation and job.procedure == procedure]


def _policy(
    facts: Facts, relation: str, procedure: str, keys: dict[str, str], every: str
) -> Iterator[Finding]:
    check = _WORDS[procedure]
    declared = ", ".join(f"{key} {spell(facts.settings[setting])}" for key, setting in keys.items())
    jobs = _jobs(facts, relation, procedure)
    if len(jobs) != 1:
        yield _fault(relation, check, declared, "no policy" if not jobs else f"{len(jobs)} policies", AGAIN)
        return
    job = jobs[0]
    periods = {key: _period(job.config.get(key)) for key in keys}
    actual = ", ".join(
        f"{key} {spell(period) if period is not None else 'unbounded'}" for key, period in periods.items()
    )
    same = all(period == facts.settings[keys[key]] for key, period in periods.items())
    yield _check(relation, check, declared, actual, same, AGAIN)
    wanted = facts.settings[every]
    lazy = job.every > wanted or not job.scheduled
    yield _check(
        relation,
        f"{check} schedule",
        f"every {spell(wanted)}",
        f"every {spell(job.every)}" if job.scheduled else "switched off",
        not lazy,
        f"SELECT alter_job({job.number}, schedule_interval => '{spell(wanted)}', scheduled => true)",
    )
    yield _last_run(facts, job, relation, check)


def _last_run(facts: Facts, job: Job, relation: str, check: str) -> Finding:
    subject, what = relation, f"{check} last run"
    if job.last_status == "Failed":
        return _fault(
            subject,
            what,
            "success",
            f"failed ({job.failures} of {job.runs} runs)",
            f"see timescaledb_information.job_errors for job {job.number}",
        )
    overdue = facts.now - job.next_start if job.next_start is not None else timedelta()
    if overdue > 3 * job.every + timedelta(minutes=5):
        return _fault(
            subject,
            what,
            f"every {spell(job.every)}",
            f"{spell(overdue)} overdue",
            "no background worker runs it: see the worker budget,"
            " and SELECT _timescaledb_functions.start_background_workers()",
        )
    if job.last_success is None:
        return Finding(
            subject,
            what,
            "success",
            "never run",
            Verdict.WARNING,
            "background workers start it; look again later",
        )
    return Finding(subject, what, "success", f"{spell(facts.now - job.last_success)} ago", Verdict.OK)


def _chunk_widths(facts: Facts, relation: Relation) -> Iterator[Finding]:
    prefix = PREFIXES[relation.name]
    wanted, retention = facts.settings[f"{prefix}_chunk"], facts.settings[f"{prefix}_retention"]
    assert relation.width is not None
    yield _check(
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
        if chunk.end - chunk.start > wanted and chunk.end > facts.now - retention
    ]
    if wide:
        widest = max(wide, key=lambda chunk: chunk.end - chunk.start)
        gone = max(chunk.end for chunk in wide) + retention
        advice = f"they go by themselves in {spell(gone - facts.now)}"
        if relation.name == "scan_results":
            advice += "; `snapdelta migrate up --rewrite` makes them narrow at once"
        # A chunk as wide as the retention makes a policy of 3 days keep 10: worth more than a remark.
        verdict = Verdict.FAULT if widest.end - widest.start > max(retention, wanted) else Verdict.WARNING
        yield Finding(
            relation.name,
            "width of kept chunks",
            spell(wanted),
            f"{len(wide)} of up to {spell(widest.end - widest.start)}",
            verdict,
            advice,
        )


def _oldest_row(facts: Facts, relation: Relation) -> Iterator[Finding]:
    prefix = PREFIXES[relation.name]
    retention, grace = facts.settings[f"{prefix}_retention"], 2 * facts.settings["retention_every"]
    if relation.oldest is None:
        yield Finding(relation.name, "oldest row", f"{spell(retention)} and a chunk", "no rows", Verdict.INFO)
        return
    overdue = [chunk for chunk in relation.chunks if chunk.end < facts.now - retention - grace]
    yield _check(
        relation.name,
        "oldest row",
        f"{spell(retention)} and a chunk",
        spell(facts.now - relation.oldest),
        not overdue,
        f"{len(overdue)} chunks should have been dropped: see the retention policy and its last run",
    )


def _uncompressed(facts: Facts, relation: Relation) -> Iterator[Finding]:
    prefix = PREFIXES[relation.name]
    if f"{prefix}_compress_after" not in facts.settings.periods:
        return
    after, grace = facts.settings[f"{prefix}_compress_after"], 2 * facts.settings["compress_every"]
    due = [
        chunk for chunk in relation.chunks if chunk.end < facts.now - after - grace and not chunk.compressed
    ]
    oldest = spell(facts.now - due[0].end) if due else ""
    done = sum(chunk.compressed for chunk in relation.chunks)
    yield _check(
        relation.name,
        "compressed chunks",
        f"all that ended {spell(after)} ago",
        f"{done} of {len(relation.chunks)}",
        not due,
        f"{len(due)} closed chunks are not compressed, the oldest ended {oldest} ago:"
        " see the compression policy and its last run",
    )


def _sizes(relation: Relation) -> Iterator[Finding]:
    yield Finding(relation.name, "size", "", _bytes(relation.bytes_now), Verdict.INFO)
    if relation.bytes_before and relation.bytes_after:
        ratio = relation.bytes_before / relation.bytes_after
        yield Finding(
            relation.name,
            "compression",
            "smaller",
            f"{_bytes(relation.bytes_before)} -> {_bytes(relation.bytes_after)} ({ratio:.1f}x)",
            Verdict.OK if ratio > 1 else Verdict.WARNING,
            "" if ratio > 1 else "compression makes it larger: too few rows a chunk, take wider chunks",
        )


def _definition(facts: Facts, view: str) -> Finding:
    other = facts.other_definition[view]
    return _check(
        view,
        "definition",
        "as the migration's",
        "another" if other else "as the migration's",
        not other,
        "an earlier version or somebody made it, or a column of scan_results has no place in it:"
        " run `snapdelta migrate up --set other_definition=rename`",
    )


def _aggregate(facts: Facts, view: str) -> Iterator[Finding]:
    yield _definition(facts, view)
    prefix, below = ("minute", "scan_results") if view == AGGREGATES[0] else ("hour", AGGREGATES[0])
    bucket = timedelta(minutes=1) if prefix == "minute" else timedelta(hours=1)
    settled = (
        facts.now
        - facts.settings[f"{prefix}_refresh_end"]
        - bucket
        - 2 * facts.settings[f"{prefix}_refresh_every"]
    )
    source, own = facts.relations.get(below), facts.relations[view]
    if source is not None and source.newest is not None:
        held = own.newest + bucket if own.newest is not None else None
        wanted = min(settled, source.newest)
        lag = "nothing is materialized" if held is None else spell(max(facts.now - held, timedelta()))
        yield _check(
            view,
            "lag",
            f"at most {spell(facts.now - settled)} behind its rows",
            lag,
            held is not None and held >= wanted - bucket,
            "the refresh does not keep up or does not run: see its last run",
        )
    # Rows of the last moments are the next refresh's work, holes before that nobody's.
    holes = [(start, min(end, settled)) for start, end in facts.missing.get(view, []) if start < settled]
    if view in facts.missing:
        yield _check(
            view,
            "holes",
            "none",
            f"{len(holes)} stretches, from {_time(holes[0][0])} to {_time(holes[-1][1])}"
            if holes
            else "none",
            not holes,
            f"{AGAIN} while the rows are there: it fills them",
        )


def _windows(facts: Facts) -> Iterator[Finding]:
    """What the policies do together, whatever was declared: this is how history gets lost."""
    reach = [
        (view, below, _start(facts, view))
        for view, below in ((AGGREGATES[0], "scan_results"), AGGREGATES[::-1])
    ]
    for view, below, starts in reach:
        kept = [
            period
            for job in _jobs(facts, below, _RETENTION)
            if (period := _period(job.config.get("drop_after"))) is not None
        ]
        if starts and kept:
            furthest = None if None in starts else max(start for start in starts if start is not None)
            eaten = furthest is None or furthest > min(kept)
            yield _check(
                view,
                "refresh window",
                f"within the {spell(min(kept))} that {below} keeps",
                "unbounded" if furthest is None else spell(furthest),
                not eaten,
                f"it empties the buckets whose rows are gone: {AGAIN} at once",
            )
    for name, setting, start in facts.foreign:
        bad = start is None or start > facts.settings[setting]
        yield _check(
            name,
            "refresh window",
            f"within {setting} ({spell(facts.settings[setting])})",
            "unbounded" if start is None else spell(start),
            not bad,
            "it empties its own buckets once rows are dropped: give it a shorter start_offset",
        )


def _start(facts: Facts, view: str) -> list[timedelta | None]:
    return [_period(job.config.get("start_offset")) for job in _jobs(facts, view, _REFRESH)]


def _workers(facts: Facts) -> Iterator[Finding]:
    background = facts.workers.get("timescaledb.max_background_workers")
    if background is None:
        yield Finding(
            "server",
            "background workers",
            "",
            "not known",
            Verdict.WARNING,
            "this server has no timescaledb.max_background_workers: policies may never run by themselves",
        )
        return
    processes, parallel = facts.workers["max_worker_processes"], facts.workers["max_parallel_workers"]
    needed = background + parallel + 3
    yield _check(
        "server",
        "background workers",
        f"at least 2, for {facts.all_jobs} jobs",
        str(background),
        background >= 2,
        f"set timescaledb.max_background_workers = {max(facts.all_jobs + 1, 8)}",
    )
    enough = processes >= needed
    yield Finding(
        "server",
        "max_worker_processes",
        f"at least {needed}",
        str(processes),
        Verdict.OK if enough else Verdict.WARNING,
        ""
        if enough
        else f"jobs may find no free worker: set max_worker_processes = {needed} and restart the server",
    )


def _vacuum(facts: Facts) -> Iterator[Finding]:
    raw = facts.relations.get("scan_results")
    if raw is not None:
        own = any(option.startswith("autovacuum_") for option in raw.options)
        yield Finding(
            "scan_results",
            "autovacuum options",
            "set",
            "set" if own else "the server's",
            Verdict.OK if own else Verdict.WARNING,
            "" if own else AGAIN,
        )


def _period(value: object) -> timedelta | None:
    """A job's period: its config holds what the server printed, years and months never having been let in
    by us."""
    if value is None:
        return None
    return interval(str(value))


def interval(text: str) -> timedelta:
    """An interval as PostgreSQL prints it, a month as 30 days and a year as 365."""
    total, words = timedelta(), text.split()
    while words:
        word = words.pop(0)
        if ":" in word:
            sign = -1 if word.startswith("-") else 1
            hours, minutes, seconds = (float(part) for part in word.lstrip("+-").split(":"))
            total += sign * timedelta(hours=hours, minutes=minutes, seconds=seconds)
        else:
            unit = words.pop(0).removesuffix("s")
            total += int(word) * timedelta(days={"day": 1, "mon": 30, "month": 30, "year": 365}[unit])
    return total


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M %Z}"


def _bytes(count: int) -> str:
    size = float(count)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TB"
