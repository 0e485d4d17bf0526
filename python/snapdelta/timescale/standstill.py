"""Checks whether the jobs run. A stopped job leaves no error: ages, schedules and processes show it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from snapdelta.timescale.catalog import Catalog, Job, Workers
from snapdelta.timescale.findings import Finding, Severity
from snapdelta.timescale.settings import spell

# A transaction of this age is no ordinary write.
_LONG = timedelta(minutes=5)
_NONE = timedelta()


def last_run(catalog: Catalog, job: Job, relation: str, check: str) -> Finding:
    """Compares the age of a job's last success with its schedule, and finds the reason if it is too old."""
    actual, severity, advice = _state(catalog, job)
    return Finding(
        relation, f"{check} last run", f"success, every {spell(job.every)}", actual, severity, advice
    )


def _state(catalog: Catalog, job: Job) -> tuple[str, Severity, str]:
    """What to say of the job's runs, how bad it is, and what to do."""
    patience = 3 * job.every + _LONG
    since = job.last_success or catalog.since(job.relation)
    age = None if since is None else max(catalog.now - since, _NONE)
    overdue = age is not None and age > patience
    said = "never run" if job.last_success is None or age is None else f"{spell(age)} ago"
    if job.blocker is not None:
        held = job.blocker.since
        said += f"; waits for process {job.blocker.process} ({job.blocker.session}"
        said += f", in a transaction for {spell(held)})" if held is not None else ")"
        long = overdue or (held is not None and held > _LONG)
        advice = f"end that transaction, or SELECT pg_terminate_backend({job.blocker.process})"
        return said, Severity.FAULT if long else Severity.WARNING, advice
    if job.last_status == "Failed":
        error = job.error or "this role may not read its error"
        advice = f"see timescaledb_information.job_errors for job {job.number}"
        return f"failed ({job.failures} of {job.runs} runs): {error}", Severity.FAULT, advice
    if job.stuck and (overdue or age is None):
        said += "; its next start is infinite, so it never runs again by itself"
        return said, Severity.FAULT, f"SELECT alter_job({job.number}, next_start => now())"
    if job.running_since is not None:
        running = max(catalog.now - job.running_since, _NONE)
        said += f"; running for {spell(running)}"
        if not overdue:
            return said, Severity.OK, ""
        advice = f"it takes longer than its schedule: look at job {job.number} in pg_stat_activity"
        return said, Severity.FAULT if running > patience else Severity.WARNING, advice
    if overdue:
        advice = f"no background worker runs job {job.number}: see the lines of the server"
        return said, Severity.FAULT, advice
    if job.last_success is None:
        return said, Severity.WARNING, "background workers start it; look again later"
    return said, Severity.OK, ""


def background_workers(catalog: Catalog, workers: Workers) -> Iterator[Finding]:
    """Checks the processes that run the jobs: a scheduler, and a free worker."""
    yield Finding.judged(
        "server",
        "restoring",
        "off",
        "on" if workers.restoring else "off",
        not workers.restoring,
        "a restore was not ended, so no job runs: SELECT timescaledb_post_restore()",
    )
    if workers.standby:
        yield Finding("server", "scheduler", "", "a standby: the jobs run on the primary", Severity.INFO)
    else:
        yield Finding.judged(
            "server",
            "scheduler",
            "a process for this database",
            "runs" if workers.scheduler else "no process",
            workers.scheduler,
            f"no job runs by itself: a superuser runs SELECT {workers.start}; if no process comes, see the"
            " server's log and its shared_preload_libraries",
        )
    limit = workers.limits.get("timescaledb.max_background_workers")
    if limit is None:
        yield Finding(
            "server",
            "background workers",
            "",
            "not known",
            Severity.WARNING,
            "this server has no timescaledb.max_background_workers: policies may never run by themselves",
        )
        return
    yield Finding.judged(
        "server",
        "background workers",
        f"at least 2, for {catalog.all_jobs} jobs",
        str(limit),
        limit >= 2,
        f"set timescaledb.max_background_workers = {max(catalog.all_jobs + 1, 8)}",
    )
    # One for this database's scheduler and one for a job: the limit is the instance's, not the database's.
    if limit >= 2:
        yield Finding.judged(
            "server",
            "workers of other databases",
            f"at most {limit - 2} of {limit}",
            str(workers.elsewhere),
            limit - workers.elsewhere >= 2,
            "they use the instance's workers, so jobs here find none: raise"
            " timescaledb.max_background_workers and max_worker_processes, and restart the server",
        )
    processes = workers.limits["max_worker_processes"]
    needed = limit + workers.limits["max_parallel_workers"] + 3
    enough = processes >= needed
    yield Finding(
        "server",
        "max_worker_processes",
        f"at least {needed}",
        str(processes),
        Severity.OK if enough else Severity.WARNING,
        ""
        if enough
        else f"jobs may find no free worker: set max_worker_processes = {needed} and restart the server",
    )
