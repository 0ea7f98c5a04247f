"""How a job ends: as files published together, in a sink of the user's, as batches, or as rows that are held.

Each runs the job's stages by a LocalRunner and takes what the last one leaves: all of it, or nothing where it fails.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator

import pyarrow as pa

from kernelmill.engine.caching import MEMORY_SHARE, CachedRows, cached_bytes
from kernelmill.engine.errors import Code, error
from kernelmill.engine.events import Event
from kernelmill.engine.job import CollectSummary, JobResult, OutputResult, SinkOptions
from kernelmill.engine.plan.planner import JobPlan
from kernelmill.engine.plan.stages import BlockRef
from kernelmill.engine.runner import LocalRunner
from kernelmill.engine.settings import Settings
from kernelmill.engine.sinks import HeldSink
from kernelmill.engine.staging import Staging


def run_sink(job: JobPlan, target: str, options: SinkOptions, settings: Settings) -> JobResult:
    """Run a job whose last stage writes files, and publish them at `target`, all or nothing."""
    began = time.perf_counter()
    with (
        Staging.open(target, mode=options.mode) as staging,
        LocalRunner(job, settings, options.on_event, staging) as run,
    ):
        for _ in run.results():
            pass
        parts = run.parts_of(job.graph.last.number)
        named = [(name, run.parts_of(stage), schema) for name, stage, schema in job.named]
        reject_files = run.write_rejects(staging)
        manifest = staging.publish(
            parts,
            job.schema,
            counters=run.counters(),
            rejects=run.rejects.by_reason(),
            reject_files=reject_files,
            named=named,
        )
        run.finished(manifest.rows, manifest.bytes)
    files = tuple(file.name for file in manifest.files)
    outputs = {
        one.name: OutputResult(os.path.join(target, one.name), one.rows, one.bytes, tuple(f.name for f in one.files))
        for one in manifest.outputs
    }
    seconds = time.perf_counter() - began
    told = run.counters(), manifest.rejects, seconds, outputs
    return JobResult(target, manifest.rows, manifest.bytes, files, *told)


def run_to_sink(
    job: JobPlan, sink: HeldSink, settings: Settings, on_event: Callable[[Event], None] | None
) -> JobResult:
    """Run a job whose last stage gives its rows to `sink`, which commits once, or aborts when nothing writes any more.

    A result's bytes are those of the rows in memory; it has no files.
    """
    began = time.perf_counter()
    if settings.on_bad == "reject" and not sink.takes_rejects:
        what = f"on_bad='reject' sets records aside, and sink {sink.label} has no place for them"
        raise error(Code.BAD_SETTING, what, hint="give it a method rejects(table)")
    is_committed = False
    try:
        with LocalRunner(job, settings, on_event, None, sink=sink) as run:
            sink.begin(job.schema, job.graph.last.tasks)
            for _ in run.results():
                pass
            results = [run.result_of(index) for index in range(job.graph.last.tasks)]
            rows, size = sum(result.rows for result in results), sum(result.bytes for result in results)
            if run.rejects.rows:
                sink.rejects(run.rejects.table())
            sink.commit([result.receipt for result in results])
            is_committed = True
            run.finished(rows, size)
    except BaseException:
        if not is_committed:
            sink.abort()  # after the `with`: no thread writes any more
        raise
    seconds = time.perf_counter() - began
    return JobResult(sink.label, rows, size, (), run.counters(), run.rejects.by_reason(), seconds)


def run_collect(
    job: JobPlan, settings: Settings, on_event: Callable[[Event], None] | None
) -> Generator[pa.RecordBatch, None, CollectSummary]:
    """Run a job whose last stage leaves blocks: its batches in order; closing the iterator cancels the job.

    What it returns (StopIteration.value) is a CollectSummary.
    """
    last = job.graph.last
    with LocalRunner(job, settings, on_event, None) as run:
        rows = size = 0
        for index in run.results():
            for batch in run.store.read(BlockRef(last.number, index, 0)):
                rows, size = rows + batch.num_rows, size + batch.nbytes
                yield batch
            run.store.drop(last.number, index)
        run.finished(rows, size)
        rejects = run.rejects.table() if run.rejects.rows else None
        return CollectSummary(run.counters(), rejects)


def run_cached(job: JobPlan, settings: Settings, on_event: Callable[[Event], None] | None) -> CachedRows:
    """Run a job whose last stage leaves blocks, and hold its rows for the plans that come."""
    last = job.graph.last
    room = max(0, settings.memory_bytes // MEMORY_SHARE - cached_bytes())
    with LocalRunner(job, settings, on_event, None, room_bytes=room) as run:
        cached = CachedRows(
            job.schema,
            job.input_bytes,
            memory_bytes_max=run.room_bytes,
            spill_dir=settings.spill_dir,
            spill_bytes_max=settings.spill_limit_bytes,
        )
        try:
            size = 0
            for index in run.results():
                size += cached.add(run.store.read(BlockRef(last.number, index, 0)))
                run.store.drop(last.number, index)
            cached.counters, cached.is_reduced = run.counters(), job.is_reduced
            cached.rejects = run.rejects.table() if run.rejects.rows else None
        except BaseException:
            cached.close()
            raise
        run.finished(cached.rows, size)
        return cached
