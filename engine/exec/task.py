"""run_task: one task from its value and its input blocks to blocks or a file. Nothing else runs kernels or user code.

A task is a function of its value and its blocks (I3): no global state, no clock, no randomness.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from functools import lru_cache, partial
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from kernelmill.engine.batch import is_word_like
from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec import operators
from kernelmill.engine.exec.aggregate import (
    MERGE_BYTES_MAX,
    MERGE_LIST_BYTES_MAX,
    MERGE_ROWS_MAX,
    MERGE_WORD_LIST_BYTES_MAX,
    merge_aggregate,
    partial_aggregate,
)
from kernelmill.engine.exec.branches import Branches
from kernelmill.engine.exec.buildside import BuildSide
from kernelmill.engine.exec.context import TaskContext, TaskResult
from kernelmill.engine.exec.distinct import unique_rows
from kernelmill.engine.exec.exchange import Placing, hash_rows, partition_rows, take_rows, to_partition, to_partitions
from kernelmill.engine.exec.folds import combine_rows, merge_combined
from kernelmill.engine.exec.joining import join_partition, join_pieces, join_rows, shared_build
from kernelmill.engine.exec.listwords import is_word
from kernelmill.engine.exec.namedstages import ToSide
from kernelmill.engine.exec.placing import Functions, function_of, user_placing
from kernelmill.engine.exec.ranges import pick_splitters, range_placing, sample_keys
from kernelmill.engine.exec.rowverbs import Beside, place_of_rows, run_row_step, to_equal_parts
from kernelmill.engine.exec.sorting import sort_rows
from kernelmill.engine.exec.tokens import count_tokens
from kernelmill.engine.exec.usersteps import run_user_step, takes_lines, user_schema
from kernelmill.engine.io.arrow_parts import ArrowWriter
from kernelmill.engine.io.context import RowPlace
from kernelmill.engine.io.files import read_files
from kernelmill.engine.io.parquet import read_row_groups, read_small_files
from kernelmill.engine.io.parquet_join import JoiningWriter, encode_row_groups
from kernelmill.engine.io.parquet_write import PartWriter, SyncLater
from kernelmill.engine.io.receipts import SinkReceipt, write_receipt
from kernelmill.engine.io.text import read_batches
from kernelmill.engine.plan import physical, rowsteps
from kernelmill.engine.plan.codec import decode_pipeline
from kernelmill.engine.plan.partial import partial_schema
from kernelmill.engine.plan.stages import BlockRef, EdgeKind, Task
from kernelmill.engine.remembering import remembered
from kernelmill.engine.shuffle.taskblocks import TaskBlocks
from kernelmill.engine.shuffle.writer import OutputWriter
from kernelmill.engine.sources import HeldSource
from kernelmill.engine.splits import ParquetFilesSplit, ParquetSplit, SourceSplit, TableSplit, TextSplit

Tables = Mapping[str, Sequence[pa.RecordBatch]]
Sources = Mapping[str, HeldSource]
Flow = Iterator[Any]
"""Record batches from step to step; `Placed` ones only where the blocks come next, as `_placed_partitions` sees to."""
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


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
    context.origin, context.store = _origin(task), store
    try:
        return _run(task, store, context, tables or {}, sources or {}, functions)
    finally:  # not left to generators: an error that is kept keeps theirs alive
        context.close_spills()


def _run(
    task: Task, store: TaskBlocks, context: TaskContext, tables: Tables, sources: Sources, functions: Functions
) -> TaskResult:
    pipeline = _pipeline(task.operators)
    source = _source(task, pipeline, store, context, tables, sources)
    if task.split is not None and not isinstance(pipeline.source, physical.CountTokens):
        source = context.selected(source)
    schema = _input_schema(task, pipeline, store)
    run = partial(_run_steps, source, schema, task, pipeline, store, context, functions)
    match pipeline.end:
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
            placed = to_partition(batches, pipeline.end.partition_of(task.index), context)
        elif isinstance(pipeline.end, physical.ToRanges):
            keys: tuple[str, ...] = tuple(name for name, _, _ in pipeline.end.keys)
            placing: Placing | None = range_placing(list(_read(_broadcast(task), store)), pipeline.end.keys)
            placed = to_partitions(batches, keys, task.partitions, context, placing)
        elif isinstance(pipeline.end, rowsteps.ToEqualParts):
            first, total = place_of_rows(_beside(task, store), pipeline.end.counts)
            placed = to_equal_parts(batches, first, total, task.partitions, context)
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
    batches = _run_steps(iter(rows), branch.emitted, own, pipeline, store, context, functions)
    placing = user_placing(branch.end, functions, context)
    for partition, batch in to_partitions(batches, branch.end.keys, branch.partitions, context, placing):
        out.add(partition, batch)


_partial_schema = remembered(partial_schema)


@lru_cache(maxsize=64)
def _pipeline(operators_: bytes) -> physical.Pipeline:
    return decode_pipeline(operators_)


def _source(
    task: Task, pipeline: physical.Pipeline, store: TaskBlocks, context: TaskContext, tables: Tables, sources: Sources
) -> Flow:
    source, split = pipeline.source, task.split
    match source, split:
        case physical.CountTokens(), TextSplit():
            schema = _input_schema(task, pipeline, store)
            placed = _placed_partitions(task, pipeline, not pipeline.steps)
            return count_tokens(split, source, schema, context, placed)
        case physical.ReadText(), TextSplit():
            in_place = bool(pipeline.steps) and takes_lines(pipeline.steps[0])
            return read_batches(split, source.options, source.schema, context, in_place=in_place)
        case physical.ReadFiles(), TextSplit():
            return read_files(split, source, context)
        case physical.ReadParquet(), ParquetSplit():
            return read_row_groups(split, source, context)
        case physical.ReadParquet(), ParquetFilesSplit():
            return read_small_files(split, source, context)
        case physical.ReadTable(), TableSplit():
            return _table_batches(split, tables[split.table], context)
        case physical.ReadSource(schema=schema), SourceSplit():
            return _source_batches(split, sources[split.source], schema, context)
        case None, None:
            return _read(_refs(task), store)
    raise error(Code.INTERNAL, f"a {type(source).__name__} cannot read a {type(split).__name__}")


def _table_batches(
    split: TableSplit, batches: Sequence[pa.RecordBatch], context: TaskContext
) -> Iterator[pa.RecordBatch]:
    for number in range(split.start, split.stop):

        def place(row: int, number: int = number) -> RowPlace:
            return RowPlace(f"<{split.table}>", row=row + sum(batch.num_rows for batch in batches[:number]))

        context.rows_from(place)
        yield batches[number]


def _source_batches(
    split: SourceSplit, source: HeldSource, schema: pa.Schema, context: TaskContext
) -> Iterator[pa.RecordBatch]:
    if split.number < 0:
        return
    first, name = 0, source.split_name(split)
    for batch in source.read(split):
        context.check_cancelled()

        def place(row: int, first: int = first) -> RowPlace:
            return RowPlace(name, row=first + row)

        context.rows_from(place)
        first += batch.num_rows
        yield batch.select(schema.names)


def _input_schema(task: Task, pipeline: physical.Pipeline, store: TaskBlocks) -> pa.Schema:
    """The columns of the rows that reach the first step."""
    source = pipeline.source
    if isinstance(source, physical.CountTokens):
        text = pa.binary() if source.text.invalid == "binary" else pa.string()
        return partial_schema((source.key,), source.aggs, pa.schema([pa.field(source.key, text, nullable=False)]))
    return store.schema(_refs(task)[0]) if source is None else source.schema


def _placed_partitions(task: Task, pipeline: physical.Pipeline, is_last: bool) -> int:
    """How many partitions partial rows may be placed into as they leave the table: 1 if other steps come after it."""
    end = pipeline.end
    by_hash = isinstance(end, physical.ToBlocks) and end.keys and end.partition is None
    return task.partitions if is_last and by_hash else 1


def _origin(task: Task) -> str:
    """What the task reads, for people: its file (the first of several), its table, or the stages before it."""
    match task.split:
        case TextSplit(ranges=ranges):
            return ranges[0].file.path + (f" and {len(ranges) - 1} more" if len(ranges) > 1 else "")
        case ParquetSplit(file=file):
            return file.path
        case ParquetFilesSplit(parts=parts):
            return f"{parts[0].file.path} and {len(parts) - 1} more"
        case TableSplit(table=table):
            return f"<{table}>"
        case SourceSplit(source=source, number=number):
            return f"<{source}, split {number}>"
        case None:
            return f"<task {task.stage}.{task.index}>"


def _refs(task: Task) -> list[BlockRef]:
    """The blocks whose rows go through the steps: those of the first input. Steps name the others by number."""
    return [] if task.split is not None else list(task.inputs[0].blocks())


def _broadcast(task: Task) -> list[BlockRef]:
    """The blocks that every task of the stage reads beside its own."""
    return [ref for one in task.inputs if one.kind is EdgeKind.BROADCAST for ref in one.blocks()]


def _read(refs: Sequence[BlockRef], store: TaskBlocks) -> Iterator[pa.RecordBatch]:
    for ref in refs:
        yield from store.read(ref)


def _run_steps(
    batches: Flow,
    schema: pa.Schema,
    task: Task,
    pipeline: physical.Pipeline,
    store: TaskBlocks,
    context: TaskContext,
    functions: Functions,
    to_side: ToSide | None = None,
) -> Flow:
    """Rows of `schema` through the steps of a pipeline; what a map emits to named outputs goes to `to_side`."""
    for number, step in enumerate(pipeline.steps):
        match step:
            case physical.Filter():
                batches = operators.filter_rows(batches, step, context)
            case physical.Project():
                schema = operators.projected(step, schema)
                batches = operators.project(batches, step, schema, context)
            case physical.Explode():
                schema = operators.exploded(step, schema)
                batches = operators.explode(batches, step, schema, context)
            case physical.TokenizeExplode():
                schema = operators.tokens_exploded(step, schema)
                batches = operators.explode_tokens(batches, step, schema, context)
            case physical.PartialAggregate():
                placed = _placed_partitions(task, pipeline, step is pipeline.steps[-1])
                batches = partial_aggregate(batches, step, schema, context, placed)
                schema = _partial_schema(step.keys, step.aggs, schema)
            case physical.CombineRows():
                placed = _placed_partitions(task, pipeline, step is pipeline.steps[-1])
                function = function_of(step.call, functions)
                batches = combine_rows(batches, step, schema, function, context, placed)
                schema = step.schema
            case physical.MergeAggregate():
                batches = _merge(task, step, store, context, partial(merge_aggregate, operator=step, context=context))
                schema = step.schema
            case physical.MergeCombined():
                function = function_of(step.combined.call, functions)
                merge = partial(merge_combined, step=step, function=function, context=context)
                batches = _merge(task, step, store, context, merge)
                schema = step.schema
            case physical.Sort():
                batches = _unplaced(sort_rows(batches, step, context), context)
            case physical.SampleKeys():
                rows = sum(count for count, _ in store.rows(iter(_refs(task))))
                batches = sample_keys(batches, step, rows, context)
                schema = step.schema
            case physical.PickSplitters():
                batches = pick_splitters(batches, step)
                schema = step.schema
            case physical.Join():
                batches = _join(batches, number, step, task, store, context)
                schema = step.schema
            case physical.Limit():
                batches = operators.limit(batches, step, context)
            case rowsteps.UniqueRows():
                batches = unique_rows(store, _refs(task), step, _sub_partition, context)
            case _ if isinstance(step, rowsteps.RowStep):
                batches, schema = run_row_step(batches, step, schema, _beside(task, store), context)
            case physical.EncodeRowGroups(to=to):
                batches = encode_row_groups(batches, to)
                schema = physical.ENCODED
            case _:
                then = pipeline.steps[number + 1 : number + 2]
                batches = run_user_step(batches, step, functions, context, then[0] if then else None, to_side)
                schema = user_schema(step, schema)
    return batches


def _beside(task: Task, store: TaskBlocks) -> Beside:
    def rows() -> int:
        return sum(count for count, _ in store.rows(iter(_refs(task))))

    def inputs(count: int) -> Flow:
        return _read([ref for one in task.inputs[:count] for ref in one.blocks()], store)

    return Beside(task.index, rows, inputs, lambda: list(_read(list(task.inputs[1].blocks()), store)))


def _unplaced(batches: Iterator[pa.RecordBatch], context: TaskContext) -> Iterator[pa.RecordBatch]:
    """Batches of rows from anywhere: the place that was told of last is that of another batch."""
    for batch in batches:
        context.rows_from(None)
        yield batch


def _merge(
    task: Task,
    step: physical.MergeAggregate | physical.MergeCombined,
    store: TaskBlocks,
    context: TaskContext,
    merge: Callable[..., Iterator[pa.RecordBatch]],
) -> Iterator[pa.RecordBatch]:
    """Merge a partition; a large one piece by piece, in the order of (sub-partition, first seen)."""
    sizes = store.rows(iter(_refs(task)))
    rows, size = sum(n for n, _ in sizes), sum(b for _, b in sizes)
    holding = [
        agg
        for agg in _aggs(step)
        if agg.kind in physical.HOLDING_KINDS
        or (agg.kind in ("min", "max") and not is_word_like(step.schema.field(agg.name).type))
    ]
    are_words = all(
        agg.kind == "quantile" or (agg.kind == "list" and is_word(step.schema.field(agg.name).type.value_type))
        for agg in holding
    )
    size_max = MERGE_BYTES_MAX if not holding else MERGE_WORD_LIST_BYTES_MAX if are_words else MERGE_LIST_BYTES_MAX
    pieces = max(-(-rows // MERGE_ROWS_MAX), -(-size // size_max), 1) if step.keys else 1
    for piece in range(pieces):
        yield from merge(_read_piece(_refs(task), step.keys, piece, pieces, store), rows, size)


def _join(
    batches: Flow, number: int, step: physical.Join, task: Task, store: TaskBlocks, context: TaskContext
) -> Iterator[pa.RecordBatch]:
    """Join rows with those of another input: the same for all tasks of the stage, or a partition beside a partition."""
    other = task.inputs[step.input]
    build, probe = list(other.blocks()), _refs(task)
    schema = store.schema(build[0])
    if other.kind is EdgeKind.BROADCAST:

        def make() -> BuildSide:
            return shared_build(_read(build, store), schema, step, context)

        shared = make() if context.builds is None else context.builds.get(task.stage, number, make)
        yield from join_rows(batches, shared, context)
        return
    pieces = join_pieces(store.rows(iter(build)), store.rows(iter(probe)), step)
    for piece in range(pieces):
        build_rows = _read_piece(build, step.build_keys, piece, pieces, store)
        probe_rows = partial(_read_piece, probe, step.probe_keys, piece, pieces, store)
        yield from join_partition(build_rows, probe_rows, schema, step, context)


def _read_piece(
    refs: Sequence[BlockRef], keys: tuple[str, ...], piece: int, pieces: int, store: TaskBlocks
) -> Iterator[pa.RecordBatch]:
    for batch in _read(refs, store):
        yield batch if pieces == 1 else _sub_partition(batch, keys, piece, pieces)


def _aggs(step: physical.MergeAggregate | physical.MergeCombined) -> tuple[physical.AggSpec, ...]:
    return step.aggs if isinstance(step, physical.MergeAggregate) else ()


def _sub_partition(batch: pa.RecordBatch, keys: tuple[str, ...], piece: int, pieces: int) -> pa.RecordBatch:
    """The rows of a batch that fall into `piece`: by other bits than the partition was chosen by."""
    hashes = hash_rows([batch.column(key) for key in keys]) * _SPREAD
    order, bounds = partition_rows(hashes, pieces)
    return take_rows(batch, order[bounds[piece] : bounds[piece + 1]])


def _write_part(
    batches: Iterator[pa.RecordBatch], end: physical.ToParquet | physical.ToArrow, context: TaskContext
) -> TaskResult:
    path = context.part_path
    if path is None:
        raise error(Code.INTERNAL, "a sink task was given no place for its file")
    with _part_writer(path, end, context.sync_later) as writer:
        for batch in batches:
            context.check_cancelled()
            writer.write(batch)
        part = writer.close()
    return TaskResult(part.rows, part.bytes, context.spilled_bytes, part, context.counters, context.rejects)


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
