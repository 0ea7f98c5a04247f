"""The rows of a task, from what it reads through the steps of its stage."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import pyarrow as pa

from kernelmill.engine.batch import is_word_like, without_codes
from kernelmill.engine.exec import operators
from kernelmill.engine.exec.aggregate import (
    MERGE_BYTES_MAX,
    MERGE_LIST_BYTES_MAX,
    MERGE_ROWS_MAX,
    MERGE_WORD_LIST_BYTES_MAX,
    merge_aggregate,
    partial_aggregate,
)
from kernelmill.engine.exec.apart import RowsApart
from kernelmill.engine.exec.buildside import BuildSide
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.distinct import unique_rows
from kernelmill.engine.exec.folds import combine_rows, merge_combined
from kernelmill.engine.exec.joining import REREADS_MAX, fits_shared, join_pieces, join_pieces_of, join_rows
from kernelmill.engine.exec.listwords import is_word
from kernelmill.engine.exec.namedstages import ToSide
from kernelmill.engine.exec.placing import Functions, function_of
from kernelmill.engine.exec.ranges import pick_splitters, sample_keys
from kernelmill.engine.exec.rowverbs import Beside, run_row_step
from kernelmill.engine.exec.sorting import sort_rows
from kernelmill.engine.exec.taskinputs import (
    Flow,
    own_blocks,
    placed_partitions,
    read_blocks,
    read_piece,
    rows_of_input,
    sub_partition,
)
from kernelmill.engine.exec.usersteps import run_user_step, user_schema
from kernelmill.engine.io.parquet_join import encode_row_groups
from kernelmill.engine.plan import physical, rowsteps
from kernelmill.engine.plan.partial import partial_schema
from kernelmill.engine.plan.stages import BlockRef, EdgeKind, Task
from kernelmill.engine.remembering import remembered
from kernelmill.engine.shuffle.taskblocks import TaskBlocks

_partial_schema = remembered(partial_schema)


def run_steps(
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
    _make_builds(pipeline.steps, task, store, context)
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
                placed = placed_partitions(task, pipeline, step is pipeline.steps[-1])
                batches = partial_aggregate(batches, step, schema, context, placed)
                schema = _partial_schema(step.keys, step.aggs, schema)
            case physical.CombineRows():
                placed = placed_partitions(task, pipeline, step is pipeline.steps[-1])
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
                end = pipeline.end if step is pipeline.steps[-1] else None
                group_rows = end.row_group_rows if isinstance(end, physical.ToParquet) else None
                batches = _unplaced(sort_rows(batches, step, context, group_rows=group_rows), context)
            case physical.SampleKeys():
                batches = sample_keys(batches, step, rows_of_input(task, store), context)
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
                batches = unique_rows(store, own_blocks(task), step, sub_partition, context)
            case _ if isinstance(step, rowsteps.RowStep):
                batches, schema = run_row_step(batches, step, schema, beside_of(task, store), context)
            case physical.EncodeRowGroups(to=to):
                batches = encode_row_groups(batches, to)
                schema = physical.ENCODED
            case _:
                then = pipeline.steps[number + 1 : number + 2]
                batches = run_user_step(batches, step, functions, context, then[0] if then else None, to_side)
                schema = user_schema(step, schema)
    return batches


def beside_of(task: Task, store: TaskBlocks) -> Beside:
    """What a step that knows all tasks' rows may ask of one of them."""

    def rows() -> int:
        return sum(count for count, _ in store.rows(iter(own_blocks(task))))

    def inputs(count: int) -> Flow:
        return read_blocks([ref for one in task.inputs[:count] for ref in one.blocks()], store)

    return Beside(task.index, rows, inputs, lambda: list(read_blocks(list(task.inputs[1].blocks()), store)))


def _unplaced(batches: Iterator[pa.RecordBatch], context: TaskContext) -> Iterator[pa.RecordBatch]:
    """Batches of rows from anywhere: the place that was told of last is that of another batch."""
    for batch in batches:
        context.rows_from(None)
        yield batch
        del batch  # what makes the next one may use its memory again


def _merge(
    task: Task,
    step: physical.MergeAggregate | physical.MergeCombined,
    store: TaskBlocks,
    context: TaskContext,
    merge: Callable[..., Iterator[pa.RecordBatch]],
) -> Iterator[pa.RecordBatch]:
    """Merge a partition; a large one piece by piece, in the order of (sub-partition, first seen)."""
    sizes = store.rows(iter(own_blocks(task)))
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
        yield from merge(read_piece(own_blocks(task), step.keys, piece, pieces, store), rows, size)


def _make_builds(steps: tuple[physical.Step, ...], task: Task, store: TaskBlocks, context: TaskContext) -> None:
    """Make the build sides that all tasks of the stage share, where it has several joins: each task another first.

    Else all tasks would wait for the one that makes the last join's, then all for the one before.
    """
    joins = [
        (number, step, list(task.inputs[step.input].blocks()))
        for number, step in enumerate(steps)
        if isinstance(step, physical.Join) and task.inputs[step.input].kind is EdgeKind.BROADCAST
    ]
    if context.builds is None or len(joins) < 2:
        return
    for number, step, build in joins:
        if fits_shared(store.rows(iter(build))):
            context.check_cancelled()
            context.builds.make_if_nobody_does(task.stage, number, partial(_build_side, build, step, store))


def _build_side(build: list[BlockRef], step: physical.Join, store: TaskBlocks) -> BuildSide:
    return BuildSide(list(read_blocks(build, store)), store.schema(build[0]), step)


def _join(
    batches: Flow, number: int, step: physical.Join, task: Task, store: TaskBlocks, context: TaskContext
) -> Iterator[pa.RecordBatch]:
    """Join rows with those of another input: the same for all tasks of the stage, or a partition beside a partition."""
    other = task.inputs[step.input]
    build, probe = list(other.blocks()), own_blocks(task)
    schema, sizes = store.schema(build[0]), store.rows(iter(build))
    make = partial(_build_side, build, step, store)
    if other.kind is not EdgeKind.BROADCAST:
        pieces = join_pieces(sizes, store.rows(iter(probe)), step)
        if pieces == 1 and step.shares > 1 and context.builds is not None:
            part = task.index // step.shares
            shared = context.builds.get_part(task.stage, number, part, make)
            yield from join_rows(batches, shared, context)
            return
        with (
            _pieces_of(build, step.build_keys, pieces, store, context) as build_rows,
            _pieces_of(probe, step.probe_keys, pieces, store, context) as probe_rows,
        ):
            yield from join_pieces_of(build_rows, probe_rows, pieces, schema, step, context)
        return
    if fits_shared(sizes):
        shared = make() if context.builds is None else context.builds.get(task.stage, number, make)
        yield from join_rows(batches, shared, context)
        return
    pieces = join_pieces(sizes, [], step)
    with (
        RowsApart(map(without_codes, batches), step.probe_keys, pieces, context) as apart,
        _pieces_of(build, step.build_keys, pieces, store, context) as build_rows,
    ):
        yield from join_pieces_of(build_rows, apart.rows, pieces, schema, step, context)


@contextmanager
def _pieces_of(
    blocks: list[BlockRef], keys: tuple[str, ...], pieces: int, store: TaskBlocks, context: TaskContext
) -> Iterator[Callable[[int], Flow]]:
    """What gives each sub-partition of these blocks: a few are read from them anew each time, more lie apart."""
    if pieces <= REREADS_MAX:
        yield lambda piece: read_piece(blocks, keys, piece, pieces, store)
        return
    with RowsApart(read_blocks(blocks, store), keys, pieces, context) as apart:
        yield apart.rows


def _aggs(step: physical.MergeAggregate | physical.MergeCombined) -> tuple[physical.AggSpec, ...]:
    return step.aggs if isinstance(step, physical.MergeAggregate) else ()
