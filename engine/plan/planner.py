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
one file      row groups, encoded by each task -> gather -> one writer
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from kernelmill.engine.errors import Code, error
from kernelmill.engine.nodes import Column
from kernelmill.engine.plan import logical, physical, rowlogical, rowsteps, userlogical
from kernelmill.engine.plan.codec import encode_pipeline
from kernelmill.engine.plan.inputs import Inputs, keys_as_dictionaries
from kernelmill.engine.plan.joins import Join
from kernelmill.engine.plan.joinsides import sides_of
from kernelmill.engine.plan.lowering import unaliased
from kernelmill.engine.plan.optimizer import map_of, optimize
from kernelmill.engine.plan.partial import partial_schema
from kernelmill.engine.plan.physical import AggSpec, Pipeline
from kernelmill.engine.plan.pipes import Pipe, Shared, last_tasks
from kernelmill.engine.plan.stages import Edge, EdgeKind, Stage, StageGraph
from kernelmill.engine.sources import HeldSource
from kernelmill.engine.userfunctions import Partitioning, UserFunction

BYTES_PER_PARTITION = 64 << 20
BLOCKS_MAX = 1 << 23
_COUNTS_MAX = 1 << 12  # rows of tasks that a step names: it travels with each task
_SAMPLED_ROWS_PER_PARTITION = 256  # partitions then differ by some 6 % in rows
_SAMPLED_ROWS_MAX = 1 << 14


@dataclass(frozen=True)
class JobPlan:
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
    sources: Mapping[str, HeldSource] = field(default_factory=dict)
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


def partition_count(input_bytes: int, map_tasks: int) -> int:
    """How many partitions an exchange has: one for 64 MiB of input, at most 2^23 blocks for all map tasks."""
    wanted = -(-input_bytes // BYTES_PER_PARTITION)
    return max(1, min(wanted, BLOCKS_MAX // max(1, map_tasks)))


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
        case _:
            return ()


def _written(sink: logical.SinkParquet, pipe: Pipe, plan: logical.LogicalPlan) -> tuple[Any, ...]:
    """What a ToParquet says about the rows of `pipe`, which are those of `plan`."""
    return sink.compression, sink.row_group_rows, sink.statistics, pipe.schema, unique_columns(plan)


class _Planner:
    """Walks a plan from its scans up; holds the stages that are closed."""

    def __init__(self, split_bytes: int, partitions: int | None) -> None:
        self.inputs, self.partitions = Inputs(split_bytes), partitions
        self.stages: list[Stage] = []
        self.pipelines: list[Pipeline] = []
        self.functions: list[UserFunction] = []
        self._shared: Shared | None = None

    def sink(self, pipe: Pipe, sink: logical.SinkParquet, plan: logical.LogicalPlan) -> int:
        """Close `pipe`, whose rows are those of `plan`, by writing files; the stage's number."""
        return self.close(pipe, physical.ToParquet(*_written(sink, pipe, plan)), 0)

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
        self._shared = Shared(number, pipe)
        named = []
        for name, plan in (*sink.named, ("", sink.input)):
            made = self.unshared(self.open(plan))
            named.append((name, self.sink(made, sink, plan), plan.schema))
        self._close_shared(self._shared)
        return tuple(named[:-1])

    def _close_shared(self, shared: Shared) -> None:
        main, *branches = (shared.branches[number] for number in range(len(shared.branches)))
        pipe, stage = shared.pipe, self.stages[shared.number]
        pipeline = Pipeline(pipe.source, (*pipe.steps, *main.steps), main.end, main.schema, tuple(branches))
        self.pipelines[shared.number] = pipeline
        operators = encode_pipeline(pipeline)
        self.stages[shared.number] = replace(stage, operators=operators, partitions=main.partitions)

    def unshared(self, pipe: Pipe) -> Pipe:
        """A pipe whose tasks read what a map with several outputs left for this one; others as they are."""
        if pipe.branch is None:
            return pipe
        edge = self.feed(pipe, physical.ToBlocks(), 1, EdgeKind.ONE_TO_ONE)
        return Pipe("emitted", pipe.schema, pipe.tasks, inputs=(edge,))

    def feed(self, pipe: Pipe, end: physical.ToBlocks, partitions: int, kind: EdgeKind) -> Edge:
        """Close `pipe`, and give the edge by which the next stage reads it."""
        if pipe.branch is None or self._shared is None:
            return Edge(self.close(pipe, end, partitions), kind)
        branches, emitted = self._shared.branches, self._shared.emitted(pipe.branch)
        branches[pipe.branch] = physical.Branch(pipe.steps, end, partitions, emitted, pipe.schema)
        return Edge(self._shared.number, kind, pipe.branch)

    def close(self, pipe: Pipe, end: physical.End, partitions: int) -> int:
        """Make a stage of `pipe`; its number."""
        number = len(self.stages)
        pipeline = Pipeline(pipe.source, pipe.steps, end, pipe.schema)
        self.pipelines.append(pipeline)
        operators = encode_pipeline(pipeline)
        self.stages.append(Stage(number, pipe.label, operators, pipe.tasks, partitions, pipe.inputs, pipe.splits))
        return number

    def gather(self, pipe: Pipe, label: str = "gather") -> Pipe:
        """One task that reads all rows of `pipe`, in the order of its tasks."""
        edge = self.feed(pipe, physical.ToBlocks(), 1, EdgeKind.GATHER)
        return Pipe(label, pipe.schema, 1, inputs=(edge,))

    def open(self, plan: logical.LogicalPlan) -> Pipe:
        """The open stage whose rows are those of `plan`."""
        match plan:
            case logical.ScanText() | logical.ScanParquet() | logical.ScanFiles():
                return self.inputs.open(plan)
            case logical.ScanTable() | logical.ScanSource():
                return self.inputs.open(plan)
            case logical.CountTokens():
                return self._count_tokens(plan)
            case logical.Aggregate():
                return self._aggregate(plan)
            case logical.Sort(limit=limit):
                pipe = self.open(plan.input)
                partitions = self._sorted_partitions(pipe) if limit is None else 1
                if partitions > 1:
                    pipe = self._by_range(pipe, plan.keys, partitions, "sort")
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
            case _:
                return self._open_rows(plan) if isinstance(plan, rowlogical.RowNode) else self._open_user(plan)

    def _open_rows(self, plan: rowlogical.RowNode) -> Pipe:
        """Plan a node of `rowlogical`."""
        match plan:
            case rowlogical.Concat():
                return self._concat(plan)
            case rowlogical.Unique(keys=keys):
                pipe = self.open(plan.input)
                pipe = pipe.then(rowsteps.ThinRows(keys), pipe.schema) if plan.keep == "first" else pipe
                return self._exchange(pipe, keys, Partitioning(), "unique").then(
                    rowsteps.UniqueRows(keys, plan.keep), plan.schema
                )
            case rowlogical.RowIndex():
                pipe, counts = self._counted(self.open(plan.input), needs_total=False)
                return pipe.then(rowsteps.RowIndex(plan.name, plan.offset, counts), plan.schema)
            case rowlogical.EveryRow():
                pipe, counts = self._counted(self.open(plan.input), needs_total=False)
                return pipe.then(rowsteps.EveryRow(plan.each, plan.offset, counts), plan.schema)
            case rowlogical.LastRows(rows=rows):
                pipe, counts = self._counted(last_tasks(self.open(plan.input), rows), needs_total=True)
                return pipe.then(rowsteps.LastRows(rows, counts), plan.schema)
            case rowlogical.SampleRows():
                pipe, counts = self._counted(self.open(plan.input), needs_total=True)
                return pipe.then(rowsteps.SampleRows(plan.rows, plan.fraction, plan.seed, counts), plan.schema)
            case rowlogical.Unpivot():
                step = rowsteps.Unpivot(plan.on, plan.index, plan.schema)
                return self.open(plan.input).then(step, plan.schema)

    def _concat(self, plan: rowlogical.Concat) -> Pipe:
        """Tasks of which each has the rows of some tasks of the frames, all in their order."""
        opened = [self.unshared(self.open(frame)) for frame in plan.frames]
        pipes = [pipe.then(rowsteps.AsSchema(plan.schema), plan.schema) for pipe in opened]
        tasks = sum(pipe.tasks for pipe in pipes)
        partitions = min(self.partitions or partition_count(self.inputs.input_bytes, tasks), tasks)
        edges, first = [], 0
        for pipe in pipes:
            share = rowsteps.ToShare(first, tasks, partitions)
            edges.append(Edge(self.close(pipe, share, partitions), EdgeKind.RANGE))
            first += pipe.tasks
        together = Pipe("concat", plan.schema, partitions, inputs=tuple(edges))
        return together.then(rowsteps.ReadInputs(len(edges)), plan.schema)

    def _counted(self, pipe: Pipe, *, needs_total: bool) -> tuple[Pipe, rowsteps.Counts]:
        """The rows of `pipe` in tasks that learn how many rows each of them has, and what is known of that already.

        Rows are left as they are where footers or tables tell, or where one task has all and no total is needed.
        """
        if pipe.rows is not None and pipe.tasks <= _COUNTS_MAX:
            return pipe, pipe.rows
        if pipe.tasks == 1 and not needs_total:
            return pipe, (0,)
        own = self.feed(pipe, physical.ToBlocks(), 1, EdgeKind.ONE_TO_ONE)
        counting = Pipe("count rows", pipe.schema, pipe.tasks, inputs=(own,))
        gathered = self.gather(counting.then(rowsteps.CountRows(), rowsteps.COUNTED), "counts")
        gathered = gathered.then(rowsteps.GatherCounts(), rowsteps.COUNTED)
        counts = Edge(self.close(gathered, physical.ToBlocks(), 1), EdgeKind.BROADCAST)
        return Pipe("number rows", pipe.schema, pipe.tasks, inputs=(own, counts), is_reduced=pipe.is_reduced), None

    def _open_user(self, plan: logical.LogicalPlan) -> Pipe:
        """Plan a node of `userlogical`."""
        match plan:
            case userlogical.MapRecords():
                return self._map_records(self.open(plan.input), plan, 0)
            case userlogical.MapOutput(number=number) if self._shared is not None:
                return Pipe("emitted", plan.schema, self._shared.pipe.tasks, branch=number)
            case userlogical.MapOutput(input=node, number=number):
                return self._map_records(self.open(node.input), node, number)
            case userlogical.CombineRows(function=None):
                step: physical.Step = physical.PartialAggregate(plan.pairs.keys, plan.aggs)
            case userlogical.CombineRows(pairs=p, function=UserFunction() as function):
                call = self._call(function)
                step = physical.CombineRows(
                    call, p.keys, p.values, p.key_is_tuple, p.value_is_tuple, plan.schema, "value", p.value_is_tuple
                )
            case userlogical.CombineByKey():
                return self._combine_by_key(plan)
            case userlogical.Partition(keys=keys, partitioning=how):
                return self._exchange(self.open(plan.input), keys, how, "group")
            case userlogical.SortPartitions(keys=keys):
                step = physical.Sort(tuple((key, False, False) for key in keys))
            case userlogical.GatherGroups(keys=keys):
                step = physical.GatherGroups(keys)
            case userlogical.ReduceGroups(pairs=p, function=reduce):
                made_by = None if reduce is None else self._call(reduce)
                forms = p.key_is_tuple, p.value_is_tuple, plan.made_is_tuple
                step = physical.ReduceGroups(plan.kind, made_by, p.keys, p.values, *forms, plan.schema)
            case userlogical.MapBatches():
                step = physical.MapBatches(self._call(plan.function), plan.schema)
            case userlogical.MapGroups(keys=keys):
                step = physical.MapGroups(self._call(plan.function), keys, plan.schema)
            case _:
                raise error(Code.INTERNAL, f"{type(plan).__name__} cannot be planned here")
        return self.open(plan.input).then(step, plan.schema)

    def _map_records(self, pipe: Pipe, plan: userlogical.MapRecords, flows: int) -> Pipe:
        """Add the step of a map whose main output goes on, or its named one `flows`."""
        p, call = plan.pairs, self._call(plan.function)
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
            self._call(plan.function), p.keys, p.values, *forms, plan.states, plan.state, plan.state_is_tuple
        )
        pipe = self.open(plan.input).then(combine, plan.states)
        merged = self._exchange(pipe, p.keys, plan.partitioning, "combine")
        merged = replace(merged, is_reduced=True)
        return merged.then(physical.MergeCombined(combine, values, plan.made_is_tuple, plan.schema), plan.schema)

    def _call(self, function: UserFunction) -> physical.UserCall:
        number = next((n for n, one in enumerate(self.functions) if one.is_same_as(function)), len(self.functions))
        if number == len(self.functions):
            self.functions.append(function)
        return physical.UserCall(number, function.role, function.name, function.where)

    def _exchange(self, pipe: Pipe, keys: tuple[str, ...], how: Partitioning, label: str) -> Pipe:
        """Close `pipe`; the new one's tasks get the rows of one key together."""
        partitions = how.count or self.partitions or partition_count(self.inputs.input_bytes, pipe.tasks)
        partitions = min(partitions, max(1, BLOCKS_MAX // pipe.tasks)) if keys else 1
        if how.by_range and partitions > 1:
            return self._by_range(pipe, tuple((key, False, False) for key in keys), partitions, label)
        function = None if how.function is None else self._call(how.function)
        kind = EdgeKind.HASH if keys else EdgeKind.GATHER
        edge = self.feed(pipe, physical.ToBlocks(keys, function, how.is_tuple), partitions, kind)
        return Pipe(label, pipe.schema, partitions, inputs=(edge,))

    def _sorted_partitions(self, pipe: Pipe) -> int:
        """How many part files a sort of all rows makes: one where it is of what a group_by left, usually few rows."""
        if pipe.tasks == 1 or pipe.is_reduced:
            return 1
        return min(
            self.partitions or partition_count(self.inputs.input_bytes, pipe.tasks), max(1, BLOCKS_MAX // pipe.tasks)
        )

    def _by_range(self, pipe: Pipe, keys: tuple[tuple[str, bool, bool], ...], partitions: int, label: str) -> Pipe:
        """Close `pipe`; each of the new one's tasks gets the rows between two splitters, picked from samples."""
        names = tuple(dict.fromkeys(name for name, _, _ in keys))
        picked = pa.schema([pipe.schema.field(name) for name in names])
        weight = "rows"
        while weight in names:
            weight += "'"
        sampled = picked.append(pa.field(weight, pa.int64(), nullable=False))
        rows_each = min(_SAMPLED_ROWS_MAX, -(-_SAMPLED_ROWS_PER_PARTITION * partitions // pipe.tasks))
        own = self.feed(pipe, physical.ToBlocks(), 1, EdgeKind.ONE_TO_ONE)
        sampling = Pipe("sample", pipe.schema, pipe.tasks, inputs=(own,))
        step: physical.Step = physical.SampleKeys(names, rows_each, sampled)
        picking = self.gather(sampling.then(step, sampled), "splitters")
        step = physical.PickSplitters(keys, partitions, picked)
        splitters = Edge(self.close(picking.then(step, picked), physical.ToBlocks(), 1), EdgeKind.BROADCAST)
        placing = Pipe("ranges", pipe.schema, pipe.tasks, inputs=(own, splitters))
        placed = self.close(placing, physical.ToRanges(keys), partitions)
        return Pipe(label, pipe.schema, partitions, inputs=(Edge(placed, EdgeKind.RANGE),))

    def shared_out(self, pipe: Pipe, parts: int) -> Pipe:
        """Close `pipe`; each of the new one's tasks gets an equal share of all rows, in their order."""
        if parts > BLOCKS_MAX // pipe.tasks:
            what = f"files={parts:,} of {pipe.tasks:,} tasks are too many"
            raise error(Code.BAD_SETTING, what, hint=f"at most {BLOCKS_MAX // pipe.tasks:,} are possible for this job")
        counted, counts = self._counted(pipe, needs_total=True)
        shared = self.close(counted, rowsteps.ToEqualParts(counts), parts)
        return Pipe("write", pipe.schema, parts, inputs=(Edge(shared, EdgeKind.RANGE),))

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
        partitions = self.partitions or partition_count(self.inputs.input_bytes, tasks)
        partitions = min(partitions, max(1, BLOCKS_MAX // tasks))
        edges = tuple(
            Edge(self.close(pipe, physical.ToBlocks(side.keys), partitions), EdgeKind.HASH)
            for pipe, side in ((probe, sides.probe), (build, sides.build))
        )
        joined = Pipe("join", probe.schema, partitions, inputs=edges, is_reduced=probe.is_reduced)
        return joined.then(sides.step(plan, 1), plan.schema)

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
        merged = self._exchange(pipe, keys, how or Partitioning(), "merge")
        return replace(merged, is_reduced=True).then(physical.MergeAggregate(keys, aggs, plan.schema), plan.schema)
