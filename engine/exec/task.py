"""run_task: one task from its value and its input blocks to blocks or a file. Nothing else runs kernels or user code.

A task is a function of its value and its blocks (I3): no global state, no clock, no randomness.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import lru_cache, partial

import msgspec
import pyarrow as pa

from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec.branches import Branches
from kernelmill.engine.exec.context import TaskContext, TaskResult
from kernelmill.engine.exec.exchange import in_shares, to_partition, to_partitions
from kernelmill.engine.exec.groupruns import group_starts
from kernelmill.engine.exec.namedstages import ToSide
from kernelmill.engine.exec.picked import to_ranges
from kernelmill.engine.exec.placing import Functions, user_placing
from kernelmill.engine.exec.ranges import range_placing
from kernelmill.engine.exec.rowverbs import place_of_rows, to_equal_parts
from kernelmill.engine.exec.steps import beside_of, run_steps
from kernelmill.engine.exec.taskinputs import (
    Flow,
    Sources,
    Tables,
    broadcast_blocks,
    input_schema,
    origin_of,
    read_blocks,
    source_rows,
)
from kernelmill.engine.io.arrow_parts import ArrowWriter
from kernelmill.engine.io.parquet_files import FilesWriter
from kernelmill.engine.io.parquet_join import JoiningWriter
from kernelmill.engine.io.parquet_write import PartWriter, SyncLater
from kernelmill.engine.io.receipts import SinkReceipt, write_receipt
from kernelmill.engine.plan import physical, rowsteps
from kernelmill.engine.plan.codec import decode_pipeline
from kernelmill.engine.plan.stages import Task
from kernelmill.engine.shuffle.taskblocks import TaskBlocks
from kernelmill.engine.shuffle.writer import HeldRows, OutputWriter


def run_task(
    task: Task,
    store: TaskBlocks,
    context: TaskContext,
    tables: Tables | None = None,
    functions: Functions = (),
    sources: Sources | None = None,
) -> TaskResult:
    """Run one attempt: reads its split or blocks, leaves blocks in `store` or the file context.part_path.

    `tables` holds the batches that a TableSplit names, `sources` those that a SourceSplit names, `functions` the user's
    that steps name by number. Raises typed errors only for what is expected to go wrong.
    """
    context.origin, context.store = origin_of(task), store
    try:
        return _run(task, store, context, tables or {}, sources or {}, functions)
    finally:  # not left to generators: an error that is kept keeps theirs alive
        context.close_spills()
        context.rows_from(None)  # what tells places holds rows


def _run(
    task: Task, store: TaskBlocks, context: TaskContext, tables: Tables, sources: Sources, functions: Functions
) -> TaskResult:
    pipeline = _pipeline(task.operators)
    source = source_rows(task, pipeline, store, context, tables, sources)
    if task.split is not None and not isinstance(pipeline.source, physical.CountTokens):
        source = context.selected(source)
    schema = input_schema(task, pipeline, store)
    run = partial(run_steps, source, schema, task, pipeline, store, context, functions)
    match pipeline.end:
        case physical.ToParquetFiles():
            return _write_files(run(), pipeline.end, context)
        case physical.ToParquet() | physical.ToArrow():
            return _write_part(run(), pipeline.end, context)
        case physical.ToSink():
            return _give_to_sink(run(), task, context)
        case _:
            return _leave_blocks(run, task, pipeline, store, context, functions)


def _leave_blocks(
    run: Callable[[ToSide | None], Flow],
    task: Task,
    pipeline: physical.Pipeline,
    store: TaskBlocks,
    context: TaskContext,
    functions: Functions,
) -> TaskResult:
    """Give the rows of a task to the store as they are made; its outputs are there when all of them are."""
    shapes = [(pipeline.schema, task.partitions), *((one.schema, one.partitions) for one in pipeline.branches)]
    with ExitStack() as opened:
        outs = [
            opened.enter_context(store.open(task.stage, task.index, *shape, output=number))
            for number, shape in enumerate(shapes)
        ]

        def to_branch(number: int, rows: list[pa.RecordBatch]) -> None:
            _place_branch(rows, pipeline.branches[number], outs[number + 1], task, store, context, functions)

        branches = Branches(len(pipeline.branches), to_branch)
        batches = run(branches.take if pipeline.branches else None)
        if isinstance(pipeline.end, rowsteps.ToShare):
            placed: Iterator[tuple[int, HeldRows]]
            placed = to_partition(batches, pipeline.end.partition_of(task.index), context)
        elif isinstance(pipeline.end, physical.ToRanges):
            keys: tuple[str, ...] = tuple(name for name, _, _ in pipeline.end.keys)
            splitters = list(read_blocks(broadcast_blocks(task), store))
            by_range = range_placing(splitters, pipeline.end.keys)
            placed = to_ranges(batches, keys, task.partitions, context, by_range)
        elif isinstance(pipeline.end, rowsteps.ToEqualParts):
            first, total = place_of_rows(beside_of(task, store), pipeline.end.counts)
            placed = to_equal_parts(batches, first, total, task.partitions, context)
        elif isinstance(pipeline.end, physical.ToShares):
            by_hash = to_partitions(batches, pipeline.end.keys, task.partitions // pipeline.end.shares, context)
            placed = in_shares(by_hash, partial(pipeline.end.partitions_of, task=task.index))
        else:
            assert isinstance(pipeline.end, physical.ToBlocks)
            placing = user_placing(pipeline.end, functions, context)
            placed = to_partitions(batches, pipeline.end.keys, task.partitions, context, placing)
        for partition, batch in placed:
            outs[0].add(partition, batch)
        branches.finish()
        context.check_cancelled()
        puts = [out.close() for out in outs]
    rows, size, spilled = (sum(counts) for counts in zip(*puts, strict=True))
    return TaskResult(rows, size, spilled + context.spilled_bytes, None, context.counters, context.rejects)


def _place_branch(
    rows: list[pa.RecordBatch],
    branch: physical.Branch,
    out: OutputWriter,
    task: Task,
    store: TaskBlocks,
    context: TaskContext,
    functions: Functions,
) -> None:
    """Take rows that a map emitted to a named output through its steps, and to its partitions."""
    pipeline = physical.Pipeline(None, branch.steps, branch.end, branch.schema)
    own = msgspec.structs.replace(task, partitions=branch.partitions)
    batches = run_steps(iter(rows), branch.emitted, own, pipeline, store, context, functions)
    placing = user_placing(branch.end, functions, context)
    for partition, batch in to_partitions(batches, branch.end.keys, branch.partitions, context, placing):
        out.add(partition, batch)


@lru_cache(maxsize=64)
def _pipeline(operators_: bytes) -> physical.Pipeline:
    return decode_pipeline(operators_)


def _write_part(
    batches: Iterator[pa.RecordBatch], end: physical.ToParquet | physical.ToArrow, context: TaskContext
) -> TaskResult:
    with _part_writer(_place(context), end, context.sync_later) as writer:
        for batch in batches:
            context.check_cancelled()
            writer.write(batch)
            del batch  # what makes the next one may use its memory again
        part = writer.close()
    return TaskResult(part.rows, part.bytes, context.spilled_bytes, part, context.counters, context.rejects)


def _write_files(batches: Iterator[pa.RecordBatch], end: physical.ToParquetFiles, context: TaskContext) -> TaskResult:
    writing = _place(context), end, group_starts, context.sync_later, context.check_cancelled
    with FilesWriter(*writing) as writer:
        for batch in batches:
            context.check_cancelled()
            writer.write(batch)
        parts = writer.close()
    rows, size = sum(part.rows for part in parts), sum(part.bytes for part in parts)
    told = context.counters, context.rejects
    return TaskResult(rows, size, context.spilled_bytes, None, *told, parts=parts)


def _place(context: TaskContext) -> str:
    if context.part_path is None:
        raise error(Code.INTERNAL, "a sink task was given no place for its file")
    return context.part_path


def _part_writer(
    path: str, end: physical.ToParquet | physical.ToArrow, sync_later: SyncLater | None
) -> PartWriter | JoiningWriter | ArrowWriter:
    match end:
        case physical.ToOneParquet():
            return JoiningWriter(path, end, sync_later)
        case physical.ToParquet():
            return PartWriter(path, end, sync_later)
        case physical.ToArrow():
            return ArrowWriter(path, end.schema)


def _give_to_sink(batches: Iterator[pa.RecordBatch], task: Task, context: TaskContext) -> TaskResult:
    if context.sink is None:
        raise error(Code.INTERNAL, "a sink task was given no sink")
    rows = size = 0

    def counted() -> Iterator[pa.RecordBatch]:
        nonlocal rows, size
        for batch in batches:
            context.check_cancelled()
            rows, size = rows + batch.num_rows, size + batch.nbytes
            yield batch

    receipt = context.sink.write(task.index, counted())
    path, told = context.part_path, SinkReceipt(rows, size, msgspec.Raw(receipt))
    part = write_receipt(path, told) if path is not None else None
    return TaskResult(rows, size, context.spilled_bytes, part, context.counters, context.rejects, receipt)
