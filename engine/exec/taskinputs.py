"""What a task reads: the rows of its split, or the blocks of the stages before it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.exchange import Rows, hash_rows, partition_rows, take_rows
from kernelmill.engine.exec.tokens import count_tokens
from kernelmill.engine.exec.usersteps import takes_lines
from kernelmill.engine.io.context import RowPlace
from kernelmill.engine.io.files import read_files
from kernelmill.engine.io.parquet import read_row_groups, read_small_files, rows_of_groups
from kernelmill.engine.io.text import read_batches
from kernelmill.engine.plan import physical
from kernelmill.engine.plan.partial import partial_schema
from kernelmill.engine.plan.stages import BlockRef, EdgeKind, Task
from kernelmill.engine.shuffle.taskblocks import TaskBlocks
from kernelmill.engine.sources import HeldSource
from kernelmill.engine.splits import ParquetFilesSplit, ParquetSplit, SourceSplit, TableSplit, TextSplit

Tables = Mapping[str, Sequence[pa.RecordBatch]]
Sources = Mapping[str, HeldSource]
Flow = Iterator[Any]
"""Record batches from step to step; `Placed` ones only where the blocks come next, as `placed_partitions` sees to."""
_SPREAD = np.uint64(0x9E3779B97F4A7C15)


def source_rows(
    task: Task, pipeline: physical.Pipeline, store: TaskBlocks, context: TaskContext, tables: Tables, sources: Sources
) -> Flow:
    """The rows of the task's split, or of its own blocks; KM0901 where split and source do not belong together."""
    source, split = pipeline.source, task.split
    match source, split:
        case physical.CountTokens(), TextSplit():
            schema = input_schema(task, pipeline, store)
            placed = placed_partitions(task, pipeline, not pipeline.steps)
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
            if pipeline.steps and isinstance(pipeline.steps[0], physical.Sort):  # it takes rows as they are held
                return (rows for ref in own_blocks(task) for rows in store.read_held(ref))
            return read_blocks(own_blocks(task), store)
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
    context.check_cancelled()  # a sign of life: from here on what is silent is the source, not a compiler
    for batch in source.read(split):
        context.check_cancelled()

        def place(row: int, first: int = first) -> RowPlace:
            return RowPlace(name, row=first + row)

        context.rows_from(place)
        first += batch.num_rows
        yield batch.select(schema.names)


def input_schema(task: Task, pipeline: physical.Pipeline, store: TaskBlocks) -> pa.Schema:
    """The columns of the rows that reach the first step."""
    source = pipeline.source
    if isinstance(source, physical.CountTokens):
        text = pa.binary() if source.text.invalid == "binary" else pa.string()
        return partial_schema((source.key,), source.aggs, pa.schema([pa.field(source.key, text, nullable=False)]))
    return store.schema(next(task.inputs[0].blocks())) if source is None else source.schema


def placed_partitions(task: Task, pipeline: physical.Pipeline, is_last: bool) -> int:
    """How many partitions partial rows may be placed into as they leave the table: 1 if other steps come after it."""
    end = pipeline.end
    by_hash = isinstance(end, physical.ToBlocks) and end.keys and end.partition is None
    return task.partitions if is_last and by_hash else 1


def origin_of(task: Task) -> str:
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


def own_blocks(task: Task) -> list[BlockRef]:
    """The blocks whose rows go through the steps: those of the first input. Steps name the others by number."""
    return [] if task.split is not None else list(task.inputs[0].blocks())


def rows_of_input(task: Task, store: TaskBlocks) -> int:
    """How many rows the task reads, of Parquet files or of its own blocks, before its first step."""
    if isinstance(task.split, ParquetSplit | ParquetFilesSplit):
        return rows_of_groups(task.split)
    return sum(count for count, _ in store.rows(iter(own_blocks(task))))


def broadcast_blocks(task: Task) -> list[BlockRef]:
    """The blocks that every task of the stage reads beside its own."""
    return [ref for one in task.inputs if one.kind is EdgeKind.BROADCAST for ref in one.blocks()]


def read_blocks(refs: Sequence[BlockRef], store: TaskBlocks) -> Iterator[pa.RecordBatch]:
    """The rows of blocks, one block after the other."""
    for ref in refs:
        yield from store.read(ref)


def read_piece(
    refs: Sequence[BlockRef], keys: tuple[str, ...], piece: int, pieces: int, store: TaskBlocks
) -> Iterator[pa.RecordBatch]:
    """The rows of blocks whose `keys` fall into one of several pieces."""
    for batch in read_blocks(refs, store):
        yield batch if pieces == 1 else sub_partition(batch, keys, piece, pieces)


def sub_partition(batch: pa.RecordBatch, keys: tuple[str, ...], piece: int, pieces: int) -> pa.RecordBatch:
    """The rows of a batch that fall into `piece`: by other bits than the partition was chosen by."""
    order, bounds = _apart(batch, keys, pieces)
    return take_rows(batch, order[bounds[piece] : bounds[piece + 1]])


def sub_partitions(batch: pa.RecordBatch, keys: tuple[str, ...], pieces: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """The rows of a batch by piece, as `sub_partition` tells them apart, but for pieces without any."""
    if pieces == 1:
        yield 0, batch
        return
    order, bounds = _apart(batch, keys, pieces)
    placed = take_rows(batch, order)
    for piece in np.flatnonzero(np.diff(bounds)):
        yield int(piece), placed.slice(bounds[piece], bounds[piece + 1] - bounds[piece])


def _apart(batch: pa.RecordBatch, keys: tuple[str, ...], pieces: int) -> tuple[Rows, NDArray[np.int64]]:
    return partition_rows(hash_rows([batch.column(key) for key in keys]) * _SPREAD, pieces)
