"""How a frame runs its plan: settings of the run, and the one way to the runner."""

from __future__ import annotations

import contextlib
import logging
import os
import threading
import traceback
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol

import pyarrow as pa

from kernelmill.engine.caching import CachedRows
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.events import Event, JobFinished
from kernelmill.engine.job import CollectSummary, JobResult, SinkOptions
from kernelmill.engine.lazymodules import imported
from kernelmill.engine.options import whole_number
from kernelmill.engine.origin import users_line
from kernelmill.engine.plan.planner import JobPlan
from kernelmill.engine.settings import Settings, resolve
from kernelmill.engine.sinks import HeldSink
from kernelmill.engine.sizes import format_bytes
from kernelmill.engine.userfunctions import told

_log = logging.getLogger("kernelmill.progress")

Progress = bool | Callable[[Event], None] | None


class Ends(Protocol):
    """The ways to run a job: those of `engine/ends.py`, or of a cluster's client that took their place."""

    def run_sink(self, job: JobPlan, target: str, options: SinkOptions, settings: Settings) -> JobResult:
        """Publish a job's files at `target`."""

    def run_to_sink(
        self, job: JobPlan, sink: HeldSink, settings: Settings, on_event: Callable[[Event], None] | None
    ) -> JobResult:
        """Give a job's rows to a sink of the user's."""

    def run_collect(
        self, job: JobPlan, settings: Settings, on_event: Callable[[Event], None] | None
    ) -> Generator[pa.RecordBatch, None, CollectSummary]:
        """Yield a job's rows in order."""

    def run_cached(self, job: JobPlan, settings: Settings, on_event: Callable[[Event], None] | None) -> CachedRows:
        """Hold a job's rows in this process."""


_elsewhere: list[Ends] = []
_thread = threading.local()


def run_elsewhere(ends: Ends) -> None:
    """Let all jobs of this process run by `ends` from now on, until `run_here` takes it back; the last given wins."""
    _elsewhere.append(ends)


def run_here(ends: Ends) -> None:
    """Take back what `run_elsewhere` was given; does nothing the second time."""
    _elsewhere[:] = [one for one in _elsewhere if one is not ends]


@contextlib.contextmanager
def in_this_process() -> Iterator[None]:
    """Run the jobs of this thread here in this block, whatever cluster is connected."""
    before, _thread.is_here = getattr(_thread, "is_here", False), True
    try:
        yield
    finally:
        _thread.is_here = before


def run_settings(progress: Any, **given: Any) -> tuple[Settings, Callable[[Event], None] | None]:
    """The settings of one run, and who hears its events beside the progress line; KM0107 for wrong ones."""
    if "job_id" in given:
        what = "job_id= names a job that leaves files: rows that come back, or go to a sink, are for this process alone"
        hint = "write them: sink_parquet(path, job_id=...), which any process may wait for, then scan_parquet(path)"
        raise error(Code.BAD_SETTING, what, where=users_line(), hint=hint)
    if progress is None or isinstance(progress, bool):
        shown = None if progress is None else ("on" if progress else "off")
        return resolve(progress=shown, **given), None
    if not callable(progress):
        hint = "give True, False, or a function that takes events"
        raise error(Code.BAD_SETTING, f"progress cannot be {progress!r}", where=users_line(), hint=hint)
    return resolve(progress="off", **given), _blaming(progress)


def _blaming(progress: Callable[[Event], None]) -> Callable[[Event], None]:
    """The user's function, whose exceptions become KM0301: worker threads call it too, whose others would be bugs.

    What it raises at JobFinished is logged: the job's outcome is decided then, and its output may be published.
    """

    def hear(event: Event) -> None:
        try:
            progress(event)
        except Exception as problem:
            if isinstance(event, JobFinished):
                _log.warning("your progress function raised at the end of a job", exc_info=True)
                return
            if isinstance(problem, KernelmillError):
                raise
            frames = traceback.extract_tb(problem.__traceback__)[1:2]  # behind the one of this call
            where = "".join(f"{os.path.basename(frame.filename)}:{frame.lineno}" for frame in frames)
            what = f"your progress function raised {told(problem)}"
            raise error(Code.FUNCTION_FAILED, what, where=where, hint="it must not raise: the job ends") from problem

    return hear


def run_sink(job: JobPlan, target: str, options: SinkOptions, settings: Settings) -> JobResult:
    """Run a job whose last stage writes files, and publish them at `target`."""
    result: JobResult = _ends().run_sink(job, target, options, settings)
    return result


def run_to_sink(
    job: JobPlan, sink: HeldSink, settings: Settings, on_event: Callable[[Event], None] | None
) -> JobResult:
    """Run a job whose last stage gives its rows to a sink of the user's, all or nothing."""
    result: JobResult = _ends().run_to_sink(job, sink, settings, on_event)
    return result


def run_collect(
    job: JobPlan, settings: Settings, on_event: Callable[[Event], None] | None
) -> tuple[pa.Table, CollectSummary]:
    """Run a job and hold its rows; the runner's iterator returns a summary of counters and rejects.

    KM0401 as soon as the rows exceed the memory budget.
    """
    source = _batches(job, settings, on_event)
    batches: list[pa.RecordBatch] = []
    size = 0
    while size <= settings.memory_bytes:
        try:
            batch = next(source)
        except StopIteration as stop:
            return pa.Table.from_batches(batches, schema=job.schema), stop.value or CollectSummary()
        batches.append(batch)
        size += batch.nbytes
    _close(source)
    what = f"the result exceeds the memory budget of {format_bytes(settings.memory_bytes, binary=True)}"
    raise error(Code.MEMORY_LIMIT, what, where=users_line(), hint="use sink_parquet or collect_batches, or head(n)")


def run_cached(job: JobPlan, settings: Settings, on_event: Callable[[Event], None] | None) -> CachedRows:
    """Run a job and hold its rows in this process, beyond a share of the memory on disk."""
    cached: CachedRows = _ends().run_cached(job, settings, on_event)
    return cached


def run_batches(
    job: JobPlan, settings: Settings, on_event: Callable[[Event], None] | None, batch_rows: int
) -> Iterator[pa.RecordBatch]:
    """Run a job as its batches are asked for, none above `batch_rows` rows; closing the iterator cancels the job."""
    whole_number("batch_rows", batch_rows, 1)
    return _cut(_batches(job, settings, on_event), batch_rows)


def _cut(source: Iterator[pa.RecordBatch], batch_rows: int) -> Iterator[pa.RecordBatch]:
    try:
        for batch in source:
            for start in range(0, batch.num_rows, batch_rows):
                yield batch.slice(start, batch_rows)
    finally:
        _close(source)


def _close(source: Iterator[pa.RecordBatch]) -> None:
    """Cancel the job behind an iterator, where there is one: generators have `close`, other iterators need none."""
    close = getattr(source, "close", None)
    if close is not None:
        close()


def _batches(job: JobPlan, settings: Settings, on_event: Callable[[Event], None] | None) -> Iterator[pa.RecordBatch]:
    batches: Iterator[pa.RecordBatch] = iter(_ends().run_collect(job, settings, on_event))
    return batches


def runs_elsewhere() -> bool:
    """Tell whether this thread's jobs run by what `run_elsewhere` was given."""
    return bool(_elsewhere) and not getattr(_thread, "is_here", False)


def _ends() -> Any:
    """The ways to run a job. Those of this process are imported at the first execution: they bring kernels."""
    if runs_elsewhere():
        return _elsewhere[-1]
    return imported("kernelmill.engine.ends")
