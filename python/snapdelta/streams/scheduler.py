"""The background task: it decides when to trim each stream, and handles failures."""

from __future__ import annotations

import asyncio
import heapq
import inspect
import logging
import random
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

from snapdelta.errors import StreamAccessError, StreamTypeError, StreamUnavailableError
from snapdelta.health import status_of
from snapdelta.streams.glob import compiled
from snapdelta.streams.stats import Counters, StreamHealth
from snapdelta.streams.store import StreamStore
from snapdelta.streams.trimmer import TrackedStream, Trimmer, TrimReport

log = logging.getLogger("snapdelta.streams")

OnTrim = Callable[[TrimReport], Awaitable[None] | None]

# Trim passes that are due within this many seconds of each other share a wake-up.
_COALESCE = 0.05
# A server that does not answer is tried again after 0.5 s, 1 s, 2 s, .. but at least this often, in seconds.
_LONGEST_BACKOFF = 5.0
_SHORTEST_BACKOFF = 0.5
_GONE = 60.0
# How long stop() lets the step under way end by itself, in seconds.
_GRACE = 0.5
# An unfinished backlog goes on after this pause, so that other streams have their turn.
_BACKLOG_PAUSE = 0.01
# Void entries are swept out of a queue that has outgrown this and the double of what is in it.
_SMALL_QUEUE = 1024
# A stream that others lengthen by more than this share of maxlen between two passes gets its passes earlier,
# but not before so many seconds.
_GROWTH = 0.1
_EARLIEST = 0.5
# Between two batches of a scan, in seconds.
_SCAN_PAUSE = 0.001


class FailureTracker:
    """The current failures, by subject; logs each change of state once."""

    def __init__(self) -> None:
        self.failing: dict[str, str] = {}
        self.last_success: datetime | None = None
        self.last_error: str | None = None
        self.last_error_at: datetime | None = None

    def failed(self, subject: str, error: BaseException, *, trace: bool = False) -> None:
        kind, text = type(error).__name__, f"{type(error).__name__}: {error}"
        self.last_error, self.last_error_at = text, datetime.now(UTC)
        before = self.failing.get(subject)
        self.failing[subject] = text
        # Another text of the same kind is the same state.
        if before is None or before.partition(":")[0] != kind:
            extra = {"event": "failure", "subject": subject, "error": kind}
            log.warning("%s: %s", subject, text, exc_info=error if trace else None, extra=extra)

    def succeeded(self, subject: str) -> None:
        self.last_success = datetime.now(UTC)
        if self.failing.pop(subject, None) is not None:
            log.info("%s: recovered", subject, extra={"event": "recovered", "subject": subject})

    def forget(self, subject: str) -> None:
        self.failing.pop(subject, None)


class TrimScheduler:
    """Trims every tracked stream once in its interval, and finds streams that other programs write."""

    def __init__(
        self,
        store: StreamStore,
        trimmer: Trimmer,
        counters: Counters,
        *,
        patterns: list[str],
        adopt: Callable[[str], bool],
        release: Callable[[TrackedStream], bool],
        on_trim: OnTrim | None,
        discover_interval: float,
        budget: float,
    ) -> None:
        self._store = store
        self._trimmer = trimmer
        self._counters = counters
        self._patterns = [compiled(pattern) for pattern in patterns]
        self._adopt = adopt
        self._release = release
        self._on_trim = on_trim
        self._discover_interval = discover_interval
        self._budget = budget
        self._failures = FailureTracker()
        # (due, number, stream); an entry whose time is no longer the stream's `due` is void.
        self._queue: list[tuple[float, int, TrackedStream]] = []
        self._number = 0
        self._compact_at = _SMALL_QUEUE
        self._backoff: dict[str, tuple[float, float]] = {}  # server -> (not before, pause)
        self._discover_at: float | None = None
        self._discover_pause = _SHORTEST_BACKOFF
        self._wake = asyncio.Event()
        self._stopping = False
        self._task: asyncio.Task[None] | None = None

    # --- life

    @property
    def running(self) -> bool:
        return self._task is not None and not self._task.done() and not self._task.get_loop().is_closed()

    def start(self) -> None:
        if self.running:
            return
        self._stopping = False
        # A new event: the old one may belong to a loop that has ended.
        self._wake = asyncio.Event()
        self._discover_at = time.monotonic() if self._patterns else None
        self._task = asyncio.create_task(self._run(), name="snapdelta-trim")
        self._task.add_done_callback(self._ended)

    async def stop(self, time_limit: float) -> None:
        """End the task within about `time_limit` seconds: the current step may finish, or is cancelled."""
        task = self._task
        if task is None or task.done() or task.get_loop() is not asyncio.get_running_loop():
            self._task = None
            return
        self._stopping = True
        self._wake.set()
        try:
            await asyncio.wait({task}, timeout=min(_GRACE, time_limit))
        finally:
            # Also when this wait is cancelled: nothing is left running that nobody ends.
            task.cancel()
        await asyncio.wait({task}, timeout=time_limit)
        if not task.done():
            log.error(
                "the trimming task did not end within %g s after its cancellation",
                time_limit,
                extra={"event": "task_stuck"},
            )
        self._task = None

    def health(self, warnings: list[str]) -> StreamHealth:
        """The task's health; `warnings` concern streams whose passes succeed."""
        failures = self._failures
        # Metrics are read from a thread of their own: nothing may be taken out of the queue here.
        waiting = [due for due, _, stream in list(self._queue) if stream.due == due]
        upcoming = waiting + ([] if self._discover_at is None else [self._discover_at])
        next_run = None
        if self.running and upcoming:
            delay = max(0.0, min(upcoming) - time.monotonic())
            next_run = datetime.now(UTC) + timedelta(seconds=delay)
        stopped = [] if self.running else ["the trimming task does not run; call start()"]
        failing = [f"{subject}: {text}" for subject, text in failures.failing.items()]
        status = status_of(stopped, failing + warnings)
        return StreamHealth(
            status=status.status,
            reasons=status.reasons,
            running=self.running,
            last_success=failures.last_success,
            last_error=failures.last_error,
            last_error_at=failures.last_error_at,
            next_run=next_run,
            failing=dict(failures.failing),
        )

    # --- the schedule

    def schedule(self, stream: TrackedStream, delay: float) -> None:
        """Plan the stream's next trim pass in `delay` seconds, instead of the planned one."""
        stream.due = time.monotonic() + delay
        self._number += 1
        heapq.heappush(self._queue, (stream.due, self._number, stream))
        if len(self._queue) > self._compact_at:
            self._queue = [entry for entry in self._queue if entry[2].due == entry[0]]
            heapq.heapify(self._queue)
            self._compact_at = 2 * len(self._queue) + _SMALL_QUEUE
        if self._queue[0][2] is stream:
            self._wake.set()

    def soon(self, stream: TrackedStream) -> None:
        """Trim the stream as soon as possible."""
        if stream.due is None or stream.due > time.monotonic():
            self.schedule(stream, 0)

    def _next_due(self) -> float | None:
        while self._queue and self._queue[0][2].due != self._queue[0][0]:
            heapq.heappop(self._queue)
        return self._queue[0][0] if self._queue else None

    def _pop_due(self) -> TrackedStream | None:
        first = self._next_due()
        if first is None or first > time.monotonic() + _COALESCE:
            return None
        stream = heapq.heappop(self._queue)[2]
        stream.due = None
        return stream

    # --- the task

    async def _run(self) -> None:
        while not self._stopping:
            try:
                if self._discover_at is not None and time.monotonic() >= self._discover_at:
                    await self._discover()
                elif (stream := self._pop_due()) is not None:
                    await self._trim_pass(stream)
                else:
                    await self._sleep()
            except Exception as error:  # noqa: BLE001 - the task must outlive whatever is wrong, and say it
                self._failures.failed("the trimming task", error, trace=True)
                await asyncio.sleep(_SHORTEST_BACKOFF)
            else:
                self._failures.forget("the trimming task")

    async def _sleep(self) -> None:
        upcoming = [due for due in (self._next_due(), self._discover_at) if due is not None]
        self._wake.clear()
        if self._stopping:
            return
        try:
            async with asyncio.timeout(max(0.0, min(upcoming) - time.monotonic()) if upcoming else None):
                await self._wake.wait()
        except TimeoutError:
            pass

    async def _trim_pass(self, stream: TrackedStream) -> None:
        """One stream, once; whatever happens, its next trim pass is planned."""
        delay = stream.policy.trim_interval * random.uniform(0.8, 1.0)
        subject = f"stream {stream.name!r}"
        server: str | None = None
        known = True
        try:
            server = await self._store.node_name(stream.name)
            waiting = self._backoff.get(server, (0.0, 0.0))[0] - time.monotonic()
            if waiting > 0:
                delay = min(delay, waiting + random.uniform(0, _COALESCE))
                return
            report = await self._trimmer.trim(stream, self._budget)
        except StreamUnavailableError as error:
            delay = min(delay, self._back_off(server or "", error))
        except StreamTypeError as error:
            # One that a scan found is no stream any more; one that is listed by name ought to be.
            known = not self._release(stream)
            if known:
                self._failures.failed(subject, error)
        except StreamAccessError as error:
            self._failures.failed(subject, error)
        except Exception as error:  # noqa: BLE001 - one stream's failure must not stop the others
            self._failures.failed(subject, error, trace=True)
        else:
            self._failures.succeeded(subject)
            self._server_answers(server)
            delay = min(delay, _pace(stream, report) if report.finished else _BACKLOG_PAUSE)
            await self._notify(report)
            if report.length == 0:
                known = not self._release(stream)
        finally:
            if known and stream.due is None:
                self.schedule(stream, delay)

    def _server_answers(self, server: str) -> None:
        self._backoff.pop(server, None)
        self._failures.succeeded(_server_subject(server))
        # A server that nothing was asked of for so long has left the cluster.
        for gone in [name for name, (until, _) in self._backoff.items() if time.monotonic() - until > _GONE]:
            del self._backoff[gone]
            self._failures.forget(_server_subject(gone))

    def _back_off(self, server: str, error: StreamUnavailableError) -> float:
        """The pause before the server is tried again; the other streams on it wait as well."""
        self._failures.failed(_server_subject(server), error)
        pause = min(_LONGEST_BACKOFF, 2 * self._backoff.get(server, (0.0, _SHORTEST_BACKOFF / 2))[1])
        self._backoff[server] = (time.monotonic() + pause, pause)
        return pause

    async def _notify(self, report: TrimReport) -> None:
        """Call on_trim. Its failure is its own: counted, logged once, and the trimming goes on."""
        if self._on_trim is None:
            return
        try:
            answer = self._on_trim(report)
            if inspect.isawaitable(answer):
                async with asyncio.timeout(self._store.time_limit):
                    await answer
        except Exception as error:  # noqa: BLE001 - foreign code: it may raise anything
            self._counters.callback_errors += 1
            self._failures.failed("the callback on_trim", error, trace=True)
        else:
            self._failures.succeeded("the callback on_trim")

    async def _discover(self) -> None:
        """Find the streams that match a pattern, on every master that answers."""
        failed: StreamAccessError | None = None
        try:
            masters = await self._store.masters()
        except StreamAccessError as error:
            masters, failed = {}, error
        for master in masters.values():
            try:
                async for names in self._store.scan_streams(master):
                    self._adopt_matching(names)
                    if self._stopping:
                        return
                    # The scan shares the server with everyone.
                    await asyncio.sleep(_SCAN_PAUSE)
            except StreamAccessError as error:
                failed = error
        if failed is not None:
            self._failures.failed("the search for streams", failed)
            self._discover_pause = min(self._discover_interval, _LONGEST_BACKOFF, 2 * self._discover_pause)
            self._discover_at = time.monotonic() + self._discover_pause
            return
        self._counters.discoveries += 1
        self._failures.succeeded("the search for streams")
        self._discover_pause = _SHORTEST_BACKOFF
        self._discover_at = time.monotonic() + self._discover_interval * random.uniform(0.8, 1.0)

    def _adopt_matching(self, names: list[str]) -> None:
        for name in names:
            if any(pattern.matches(name) for pattern in self._patterns) and self._adopt(name):
                self._counters.streams_discovered += 1

    def _ended(self, task: asyncio.Task[None]) -> None:
        """The task has ended; without stop() only a cancellation from outside can do that, and it is said."""
        if not self._stopping:
            error = (
                task.exception() if not task.cancelled() else asyncio.CancelledError("cancelled from outside")
            )
            self._failures.failed("the trimming task", error or RuntimeError("ended by itself"))


def _pace(stream: TrackedStream, report: TrimReport) -> float:
    """Seconds in which others, at the rate since the last pass, lengthen the stream by the share allowed."""
    before, stream.passed_at = stream.passed_at, time.monotonic()
    allowed = (stream.policy.maxlen or 0) * _GROWTH
    if before is None or not allowed or report.removed <= allowed:
        return stream.policy.trim_interval
    return max(_EARLIEST, (stream.passed_at - before) * allowed / report.removed)


def _server_subject(server: str) -> str:
    return f"server {server}" if server else "the server"
