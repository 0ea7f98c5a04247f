"""From a logical plan to stages: operators of one task until rows must change places, then an exchange.

Aggregate     partial rows -> hash by keys -> merge        (partitions: `partition_count`; one without keys)
Sort          rows -> sample of keys -> splitters -> rows by range -> sort       (partitions: `partition_count`)
Join          probe rows beside build rows, read by every task; or both sides by hash of keys -> join
Limit, top_k  each task its own first rows -> gather -> one task for all rows
MapReduce     map, combine -> hash, range or the user's partition -> sort -> reduce
unique        rows -> hash by keys -> first row of each
tail, sample  rows -> counts of all tasks -> rows by their numbers               (with_row_index, gather_every too)
concat        rows of each frame -> by range of tasks -> all frames' rows
files=n       rows -> counts of rows -> rows by their number -> n writers
partition_by  rows -> sort by these columns in each task -> a file for each value
one file      row groups, encoded by each task -> gather -> one writer
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pyarrow as pa
from msgspec.structs import replace

from kernelmill.engine.errors import Code, error
from kernelmill.engine.nodes import Column
from kernelmill.engine.plan import logical, physical, rowlogical, userlogical
from kernelmill.engine.plan.codec import encode_pipeline
from kernelmill.engine.plan.common import Common
from kernelmill.engine.plan.inputs import keys_as_dictionaries
from kernelmill.engine.plan.joins import Join
from kernelmill.engine.plan.joinsides import sides_of
from kernelmill.engine.plan.lowering import unaliased
from kernelmill.engine.plan.optimizer import map_of, optimize
from kernelmill.engine.plan.partial import partial_schema
from kernelmill.engine.plan.physical import AggSpec, Pipeline
from kernelmill.engine.plan.pipes import Pipe, Shared
from kernelmill.engine.plan.rowplanner import open_rows
from kernelmill.engine.plan.stagebuilder import BLOCKS_MAX, StageBuilder
from kernelmill.engine.plan.stages import Edge, EdgeKind, StageGraph
from kernelmill.engine.sources import HeldSource
from kernelmill.engine.userfunctions import Partitioning, UserFunction


class JobPlan(msgspec.Struct, frozen=True):
    """All that a runner needs: the stages, the tables that splits name, and what the result looks like.

    `pipelines` are the operators of each stage before they were encoded, `input_bytes` what the splits add up to;
    `functions` are the user's, which operators name by their number; `sources` are those that splits name. `named` are
    further outputs: name, the stage that writes it, schema. is_reduced: the rows that come out are one a group.
    """

    graph: StageGraph
    pipelines: tuple[Pipeline, ...]
    tables: dict[str, tuple[pa.RecordBatch, ...]]
    schema: pa.Schema
    input_bytes: int
    functions: tuple[UserFunction, ...] = ()
    sources: Mapping[str, HeldSource] = msgspec.field(default_factory=dict)
    named: tuple[tuple[str, int, pa.Schema], ...] = ()
    is_reduced: bool = False


def plan_job(plan: logical.LogicalPlan, *, split_bytes: int, partitions: int | None = None) -> JobPlan:
    """Optimize `plan` and cut it into stages. A sink at its top takes the rows, else the last stage leaves blocks.

    Splits depend on inputs and `split_bytes` alone, partitions on plan and input size, or on `partitions` if given.
    """
    return plan_stages(optimize(plan), split_bytes=split_bytes, partitions=partitions)


def plan_stages(plan: logical.LogicalPlan, *, split_bytes: int, partitions: int | None = None) -> JobPlan:
    """Cut an already optimized plan into stages: see `plan_job`."""
    planner = _Planner(split_bytes, partitions)
    named: tuple[tuple[str, int, pa.Schema], ...] = ()
    is_reduced = False
    if isinstance(plan, logical.SinkParquet) and plan.named:
        named = planner.sink_several(plan)
    elif isinstance(plan, logical.SinkParquet):
        pipe = planner.open(plan.input)
        if plan.partition_by and not _stand_together(plan.input, plan.partition_by):
            pipe = pipe.then(physical.Sort(tuple((name, False, False) for name in plan.partition_by)), pipe.schema)
        if (plan.single_file or plan.files == 1) and pipe.tasks > 1:
            planner.sink_joined(pipe, plan)
        elif plan.files is not None and plan.files != pipe.tasks:
            planner.sink(planner.shared_out(pipe, plan.files), plan, plan.input)
        else:
            planner.sink(pipe, plan, plan.input)
    elif isinstance(plan, logical.SinkRows):
        planner.close(planner.open(plan.input), physical.ToSink(), 0)
    else:
        pipe = planner.open(plan)
        is_reduced = pipe.is_reduced
        planner.close(pipe, physical.ToBlocks(), 1)
    graph = StageGraph(tuple(planner.stages))
    functions = tuple(planner.functions)
    pipelines, inputs = tuple(planner.pipelines), planner.inputs
    held = functions, inputs.sources
    return JobPlan(graph, pipelines, inputs.tables, plan.schema, inputs.input_bytes, *held, named, is_reduced)


def unique_columns(plan: logical.LogicalPlan) -> tuple[str, ...]:
    """The column, if there is one, whose values are all different: the key of a group_by by one column."""
    match plan:
        case logical.Aggregate(keys=(key,)) | userlogical.CombineByKey(pairs=userlogical.Pairs(keys=(key,))):
            return (key,)
        case logical.CountTokens():
            return (plan.key_field.name,)
        case logical.ScanSource(unique=unique):
            return tuple(name for name in unique if name in plan.schema.names)
        case logical.Project():
            below = unique_columns(plan.input)
            kept = (c.name for c in plan.columns if isinstance(n := unaliased(c.node), Column) and n.name in below)
            return tuple(kept)
        case Join(how="semi" | "anti"):
            return unique_columns(plan.left)
        case rowlogical.Unique(keys=(key,)):
            return (key,)
        case logical.Filter() | logical.Sort() | logical.Limit() | userlogical.SortPartitions():
            return unique_columns(plan.input)
        case Common(made=logical.LogicalPlan() as made):
            return tuple(name for name in unique_columns(made) if name in plan.columns.names)
        case _:
            return ()


def _written(sink: logical.SinkParquet, pipe: Pipe, plan: logical.LogicalPlan) -> tuple[Any, ...]:
    """What a ToParquet says about the rows of `pipe`, which are those of `plan`."""
    columns = pa.schema([field for field in pipe.schema if field.name not in sink.partition_by])
    unique = tuple(name for name in unique_columns(plan) if name in columns.names)
    return sink.compression, sink.row_group_rows, sink.statistics, columns, unique, sink.level


def _stand_together(plan: logical.LogicalPlan, columns: tuple[str, ...]) -> bool:
    """Whether in each task rows with equal values of these columns stand side by side: it sorts by them first."""
    while isinstance(plan, logical.Filter | logical.Limit):
        plan = plan.input
    return isinstance(plan, logical.Sort) and {name for name, _, _ in plan.keys[: len(columns)]} == {*columns}


def _by_hash(keys: tuple[str, ...], shares: int, *, is_copied: bool) -> physical.ToBlocks | physical.ToShares:
    """Partition one side of a join, each partition in so many shares."""
    return physical.ToBlocks(keys) if shares == 1 else physical.ToShares(keys, shares, is_copied)


class _Planner(StageBuilder):
    """Walks a plan from its scans up."""

    def __init__(self, split_bytes: int, partitions: int | None) -> None:
        super().__init__(split_bytes, partitions)
        self._common_rows: dict[int, Pipe] = {}

    def sink(self, pipe: Pipe, sink: logical.SinkParquet, plan: logical.LogicalPlan) -> int:
        """Close `pipe`, whose rows are those of `plan`, by writing files; the stage's number."""
        written = _written(sink, pipe, plan)
        if not sink.partition_by and sink.file_rows_max is None and sink.file_bytes is None:
            return self.close(pipe, physical.ToParquet(*written), 0)
        where: dict[str, Any] = {
            "folders": sink.folders,
            "file_rows_max": sink.file_rows_max,
            "file_bytes": sink.file_bytes,
        }
        return self.close(pipe, physical.ToParquetFiles(*written, **where), 0)

    def sink_joined(self, pipe: Pipe, sink: logical.SinkParquet) -> None:
        """Close `pipe` by writing one file: each of its tasks encodes its own rows."""
        written = _written(sink, pipe, sink.input)
        encoded = pipe.then(physical.EncodeRowGroups(physical.ToParquet(*written)), physical.ENCODED)
        self.close(self.gather(encoded), physical.ToOneParquet(*written), 0)

    def sink_several(self, sink: logical.SinkParquet) -> tuple[tuple[str, int, pa.Schema], ...]:
        """Plan one map stage for all outputs, and the stages after it for each, the main one's last.

        Gives name, last stage and schema of each named one.
        """
        pipe = self._map_records(self.open((node := map_of(sink.input)).input), node, 0)
        number = self.close(pipe, physical.ToBlocks(), 1)  # to be closed again once its branches are known
        self.shared = Shared(number, pipe)
        named = []
        for name, plan in (*sink.named, ("", sink.input)):
            made = self.unshared(self.open(plan))
            named.append((name, self.sink(made, sink, plan), plan.schema))
        self._close_shared(self.shared)
        return tuple(named[:-1])

    def _close_shared(self, shared: Shared) -> None:
        main, *branches = (shared.branches[number] for number in range(len(shared.branches)))
        pipe, stage = shared.pipe, self.stages[shared.number]
        pipeline = Pipeline(pipe.source, (*pipe.steps, *main.steps), main.end, main.schema, tuple(branches))
        self.pipelines[shared.number] = pipeline
        operators = encode_pipeline(pipeline)
        self.stages[shared.number] = replace(stage, operators=operators, partitions=main.partitions)

    def open(self, plan: logical.LogicalPlan) -> Pipe:
        """The open stage whose rows are those of `plan`."""
        match plan:
            case logical.ScanText() | logical.ScanParquet() | logical.ScanFiles():
                return self.inputs.open(plan)
            case logical.ScanTable() | logical.ScanSource():
                return self.inputs.open(plan)
            case Common():
                return self._common(plan)
            case logical.CountTokens():
                return self._count_tokens(plan)
            case logical.Aggregate():
                return self._aggregate(plan)
            case logical.Sort(limit=limit):
                pipe = self.open(plan.input)
                partitions = self.sorted_partitions(pipe) if limit is None else 1
                if partitions > 1:
                    pipe = self.by_range(pipe, plan.keys, partitions, "sort")
                elif pipe.tasks > 1:
                    first = pipe if limit is None else pipe.then(physical.Sort(plan.keys, limit), pipe.schema)
                    pipe = self.gather(first, "sort" if limit is None else "top_k")
                return pipe.then(physical.Sort(plan.keys, limit), pipe.schema)
            case Join():
                return self._join(plan)
            case logical.Limit(rows=rows):
                pipe = self.open(plan.input)
                pipe = pipe.then(physical.Limit(rows), pipe.schema)
                return self.gather(pipe, "head").then(physical.Limit(rows), pipe.schema) if pipe.tasks > 1 else pipe
            case logical.Filter(predicate=predicate):
                return self.open(plan.input).then(physical.Filter(predicate), plan.schema)
            case logical.Project(columns=columns):
                return self.open(plan.input).then(physical.Project(columns), plan.schema)
            case logical.Explode():
                step = physical.Explode(plan.column, plan.empty_as_null, plan.keep_nulls)
                return self.open(plan.input).then(step, plan.schema)
            case logical.TokenizeExplode():
                tokens = physical.TokenizeExplode(plan.name, plan.tokens, plan.others, plan.names)
                return self.open(plan.input).then(tokens, plan.schema)
            case _ if isinstance(plan, rowlogical.RowNode):
                return open_rows(plan, self, self.open)
            case _:
                return self._open_user(plan)

    def _open_user(self, plan: logical.LogicalPlan) -> Pipe:
        """Plan a node of `userlogical`."""
        match plan:
            case userlogical.MapRecords():
                return self._map_records(self.open(plan.input), plan, 0)
            case userlogical.MapOutput(number=number) if self.shared is not None:
                return Pipe("emitted", plan.schema, self.shared.pipe.tasks, branch=number)
            case userlogical.MapOutput(input=node, number=number):
                return self._map_records(self.open(node.input), node, number)
            case userlogical.CombineRows(function=None):
                step: physical.Step = physical.PartialAggregate(plan.pairs.keys, plan.aggs)
            case userlogical.CombineRows(pairs=p, function=UserFunction() as function):
                call = self.call(function)
                step = physical.CombineRows(
                    call, p.keys, p.values, p.key_is_tuple, p.value_is_tuple, plan.schema, "value", p.value_is_tuple
                )
            case userlogical.CombineByKey():
                return self._combine_by_key(plan)
            case userlogical.Partition(keys=keys, partitioning=how):
                return self.exchange(self.open(plan.input), keys, how, "group")
            case userlogical.SortPartitions(keys=keys):
                step = physical.Sort(tuple((key, False, False) for key in keys))
            case userlogical.GatherGroups(keys=keys):
                step = physical.GatherGroups(keys)
            case userlogical.ReduceGroups(pairs=p, function=reduce):
                made_by = None if reduce is None else self.call(reduce)
                forms = p.key_is_tuple, p.value_is_tuple, plan.made_is_tuple
                step = physical.ReduceGroups(plan.kind, made_by, p.keys, p.values, *forms, plan.schema)
            case userlogical.MapBatches():
                step = physical.MapBatches(self.call(plan.function), plan.schema)
            case userlogical.MapColumn(column=column):
                step = physical.MapColumn(self.call(plan.function), column, plan.schema)
            case userlogical.MapGroups(keys=keys):
                step = physical.MapGroups(self.call(plan.function), keys, plan.schema)
            case _:
                raise error(Code.INTERNAL, f"{type(plan).__name__} cannot be planned here")
        return self.open(plan.input).then(step, plan.schema)

    def _map_records(self, pipe: Pipe, plan: userlogical.MapRecords, flows: int) -> Pipe:
        """Add the step of a map whose main output goes on, or its named one `flows`."""
        p, call = plan.pairs, self.call(plan.function)
        named = tuple(
            physical.NamedPairs(name, q.keys, q.values, q.key_is_tuple, q.value_is_tuple, q.schema)
            for name, q in plan.named
        )
        columns, forms = tuple(plan.input.schema.names), (p.key_is_tuple, p.value_is_tuple)
        step = physical.MapRecords(call, columns, p.keys, p.values, *forms, p.schema, named, flows)
        return pipe.then(step, named[flows - 1].schema if flows else p.schema)

    def _combine_by_key(self, plan: userlogical.CombineByKey) -> Pipe:
        p, below = plan.pairs, plan.input.schema
        values = pa.schema([below.field(name) for name in p.values])
        forms = p.key_is_tuple, p.value_is_tuple
        combine = physical.CombineRows(
            self.call(plan.function), p.keys, p.values, *forms, plan.states, plan.state, plan.state_is_tuple
        )
        pipe = self.open(plan.input).then(combine, plan.states)
        merged = self.exchange(pipe, p.keys, plan.partitioning, "combine")
        merged = replace(merged, is_reduced=True)
        return merged.then(physical.MergeCombined(combine, values, plan.made_is_tuple, plan.schema), plan.schema)

    def _aggregate(self, plan: logical.Aggregate) -> Pipe:
        pipe = keys_as_dictionaries(self.open(plan.input), plan)
        partial = physical.PartialAggregate(plan.keys, plan.aggs)
        pipe = pipe.then(partial, partial_schema(plan.keys, plan.aggs, plan.input.schema))
        return self._merge(pipe, plan, plan.aggs, plan.partitioning)

    def _join(self, plan: Join) -> Pipe:
        """Open both sides: the build side is read by each task of the probe side, or both are partitioned by keys."""
        sides = sides_of(plan)
        probe = sides.probe.narrowed(self.unshared(self.open(sides.probe.plan)), moves=not sides.is_broadcast)
        build = sides.build.narrowed(self.unshared(self.open(sides.build.plan)), moves=True)
        if sides.is_broadcast:
            edge = Edge(self.close(build, physical.ToBlocks(), 1), EdgeKind.BROADCAST)
            step = sides.step(plan, len(probe.inputs))
            return replace(probe, inputs=(*probe.inputs, edge)).then(step, plan.schema)
        tasks = max(probe.tasks, build.tasks)
        partitions = self.partition_count(tasks)
        shares = sides.shares(probe.tasks, partitions)
        whole = -(-partitions // shares) * shares
        if not sides.build.keys:  # all rows are of one partition
            partitions = shares
        elif self.partitions is None and whole * tasks <= BLOCKS_MAX:
            partitions = whole
        else:  # so many were asked for, or are possible
            shares = next(count for count in range(shares, 0, -1) if partitions % count == 0)
        edges = tuple(
            Edge(
                self.close(pipe, _by_hash(side.keys, shares, is_copied=side is sides.build), partitions), EdgeKind.HASH
            )
            for pipe, side in ((probe, sides.probe), (build, sides.build))
        )
        joined = Pipe("join", probe.schema, partitions, inputs=edges, is_reduced=probe.is_reduced)
        return joined.then(sides.step(plan, 1, shares), plan.schema)

    def _common(self, plan: Common) -> Pipe:
        """Tasks that read what the stage of common rows left, which the first reader plans."""
        if plan.made is None:
            raise error(Code.INTERNAL, "common rows were never planned")
        if plan.number not in self._common_rows:
            made = self.unshared(self.open(plan.made))
            edge = self.feed(made, physical.ToBlocks(), 1, EdgeKind.ONE_TO_ONE)
            self._common_rows[plan.number] = Pipe(
                "common", made.schema, made.tasks, inputs=(edge,), is_reduced=made.is_reduced
            )
        pipe, names = self._common_rows[plan.number], plan.columns.names
        return (
            pipe
            if names == pipe.schema.names
            else pipe.then(physical.Project(logical.keep(pipe.schema, names)), plan.schema)
        )

    def _count_tokens(self, plan: logical.CountTokens) -> Pipe:
        aggs = (AggSpec(plan.name, "len", None),)
        tokens, options = plan.tokens, plan.input.options
        source = physical.CountTokens(
            options, tokens.mode, tokens.lowercase, tokens.separators, plan.key_field.name, aggs
        )
        splits = self.inputs.text_splits(plan.input)
        # no token is null, whatever the plan's types can say of lists of them
        schema = partial_schema((plan.key_field.name,), aggs, pa.schema([plan.key_field.with_nullable(False)]))
        return self._merge(Pipe("count tokens", schema, len(splits), source, splits), plan, aggs)

    def _merge(
        self, pipe: Pipe, plan: logical.LogicalPlan, aggs: tuple[AggSpec, ...], how: Partitioning | None = None
    ) -> Pipe:
        """Close `pipe`, whose rows are partial, and open the stage that merges them by key."""
        keys = tuple(plan.schema.names[: len(plan.schema) - len(aggs)])
        merged = self.exchange(pipe, keys, how or Partitioning(), "merge")
        return replace(merged, is_reduced=True).then(physical.MergeAggregate(keys, aggs, plan.schema), plan.schema)
