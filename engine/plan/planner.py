"""From a logical plan to stages: operators of one task until rows must change places, then an exchange.

Aggregate     partial rows -> hash by keys -> merge        (partitions: `partition_count`; one without keys)
Sort          rows -> sample of keys -> splitters -> rows by range -> sort       (partitions: `partition_count`)
Limit, top_k  each task its own first rows -> gather -> one task for all rows
MapReduce     map, combine -> hash, range or the user's partition -> sort -> reduce
one file      gather -> one writer
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import msgspec
import pyarrow as pa

from kernelmill.engine.errors import Code, error
from kernelmill.engine.io.encodings import is_splittable
from kernelmill.engine.io.pruning import may_match
from kernelmill.engine.nodes import Column, Node
from kernelmill.engine.plan import logical, physical, userlogical
from kernelmill.engine.plan.codec import encode_pipeline
from kernelmill.engine.plan.lowering import unaliased
from kernelmill.engine.plan.optimizer import map_of, optimize
from kernelmill.engine.plan.partial import partial_schema
from kernelmill.engine.plan.physical import AggSpec, NamedNode, Pipeline
from kernelmill.engine.plan.stages import Edge, EdgeKind, Stage, StageGraph
from kernelmill.engine.sources import HeldSource
from kernelmill.engine.splits import (
    ParquetSplit,
    SourceSplit,
    Split,
    TableSplit,
    split_row_groups,
    split_text_files,
)
from kernelmill.engine.typing import columns_of
from kernelmill.engine.userfunctions import Partitioning, UserFunction

BYTES_PER_PARTITION = 64 << 20
BLOCKS_MAX = 1 << 23
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
        if plan.single_file and pipe.tasks > 1:
            pipe = planner.gather(pipe)
        planner.sink(pipe, plan, plan.input)
    elif isinstance(plan, logical.SinkRows):
        planner.close(planner.open(plan.input), physical.ToSink(), 0)
    else:
        pipe = planner.open(plan)
        is_reduced = pipe.is_reduced
        planner.close(pipe, physical.ToBlocks(), 1)
    graph = StageGraph(tuple(planner.stages))
    functions = tuple(planner.functions)
    pipelines, tables = tuple(planner.pipelines), planner.tables
    held = functions, planner.sources
    return JobPlan(graph, pipelines, tables, plan.schema, planner.input_bytes, *held, named, is_reduced)


def partition_count(input_bytes: int, map_tasks: int) -> int:
    """How many partitions an exchange has: one for 64 MiB of input, at most 2^23 blocks for all map tasks."""
    wanted = -(-input_bytes // BYTES_PER_PARTITION)
    return max(1, min(wanted, BLOCKS_MAX // max(1, map_tasks)))


def text_split_bytes(input_bytes: int, split_bytes: int) -> int:
    """The size of a split of text: `split_bytes` up to 8 splits, then larger ones up to 4 times that.

    Each split combines in a table of its own, so a word has a partial row in each: few large splits make fewer. From
    64 MiB to 128 the word count of 1 GB of prose took 3.3 CPU-seconds instead of 3.8. Eight keep eight cores busy.
    """
    count = max(min(8, -(-input_bytes // split_bytes)), -(-input_bytes // (4 * split_bytes)), 1)
    return max(split_bytes, -(-input_bytes // count))


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
        case logical.Filter() | logical.Sort() | logical.Limit() | userlogical.SortPartitions():
            return unique_columns(plan.input)
        case _:
            return ()


@dataclass(frozen=True)
class _Pipe:
    """A stage that is still open at its end: steps may be added. `schema` is that of its rows so far.

    is_reduced: its rows are one a group.
    """

    label: str
    schema: pa.Schema
    tasks: int
    source: physical.Source | None = None
    splits: tuple[Split, ...] = ()
    inputs: tuple[Edge, ...] = ()
    steps: tuple[physical.Step, ...] = field(default=())
    is_reduced: bool = False
    branch: int | None = None
    """Which output of the shared map stage this is, None if it is a stage of its own."""

    def then(self, step: physical.Step, schema: pa.Schema) -> _Pipe:
        return replace(self, steps=(*self.steps, step), schema=schema)


@dataclass
class _Shared:
    """The stage of a map with several outputs, open up to its map step, and the steps and ends of its outputs."""

    number: int
    pipe: _Pipe
    branches: dict[int, physical.Branch] = field(default_factory=dict)

    def emitted(self, output: int) -> pa.Schema:
        """The columns of what is emitted to an output."""
        step = self.pipe.steps[-1]
        named = step.named if isinstance(step, physical.MapRecords) else ()
        return named[output - 1].schema if output else self.pipe.schema


class _Planner:
    """Walks a plan from its scans up; holds the stages that are closed."""

    def __init__(self, split_bytes: int, partitions: int | None) -> None:
        self.split_bytes, self.partitions = split_bytes, partitions
        self.stages: list[Stage] = []
        self.pipelines: list[Pipeline] = []
        self.tables: dict[str, tuple[pa.RecordBatch, ...]] = {}
        self.functions: list[UserFunction] = []
        self.sources: dict[str, HeldSource] = {}
        self.input_bytes = 0
        self._shared: _Shared | None = None

    def sink(self, pipe: _Pipe, sink: logical.SinkParquet, plan: logical.LogicalPlan) -> int:
        """Close `pipe`, whose rows are those of `plan`, by writing files; the stage's number."""
        options = sink.compression, sink.row_group_rows, sink.statistics
        return self.close(pipe, physical.ToParquet(*options, pipe.schema, unique_columns(plan)), 0)

    def sink_several(self, sink: logical.SinkParquet) -> tuple[tuple[str, int, pa.Schema], ...]:
        """Plan one map stage for all outputs, and the stages after it for each, the main one's last.

        Gives name, last stage and schema of each named one.
        """
        pipe = self._map_records(self.open((node := map_of(sink.input)).input), node, 0)
        number = self.close(pipe, physical.ToBlocks(), 1)  # to be closed again once its branches are known
        self._shared = _Shared(number, pipe)
        named = []
        for name, plan in (*sink.named, ("", sink.input)):
            made = self.unshared(self.open(plan))
            named.append((name, self.sink(made, sink, plan), plan.schema))
        self._close_shared(self._shared)
        return tuple(named[:-1])

    def _close_shared(self, shared: _Shared) -> None:
        main, *branches = (shared.branches[number] for number in range(len(shared.branches)))
        pipe, stage = shared.pipe, self.stages[shared.number]
        pipeline = Pipeline(pipe.source, (*pipe.steps, *main.steps), main.end, main.schema, tuple(branches))
        self.pipelines[shared.number] = pipeline
        operators = encode_pipeline(pipeline)
        self.stages[shared.number] = msgspec.structs.replace(stage, operators=operators, partitions=main.partitions)

    def unshared(self, pipe: _Pipe) -> _Pipe:
        """A pipe whose tasks read what a map with several outputs left for this one; others as they are."""
        if pipe.branch is None:
            return pipe
        edge = self.feed(pipe, physical.ToBlocks(), 1, EdgeKind.ONE_TO_ONE)
        return _Pipe("emitted", pipe.schema, pipe.tasks, inputs=(edge,))

    def feed(self, pipe: _Pipe, end: physical.ToBlocks, partitions: int, kind: EdgeKind) -> Edge:
        """Close `pipe`, and give the edge by which the next stage reads it."""
        if pipe.branch is None or self._shared is None:
            return Edge(self.close(pipe, end, partitions), kind)
        branches, emitted = self._shared.branches, self._shared.emitted(pipe.branch)
        branches[pipe.branch] = physical.Branch(pipe.steps, end, partitions, emitted, pipe.schema)
        return Edge(self._shared.number, kind, pipe.branch)

    def close(self, pipe: _Pipe, end: physical.End, partitions: int) -> int:
        """Make a stage of `pipe`; its number."""
        number = len(self.stages)
        pipeline = Pipeline(pipe.source, pipe.steps, end, pipe.schema)
        self.pipelines.append(pipeline)
        operators = encode_pipeline(pipeline)
        self.stages.append(Stage(number, pipe.label, operators, pipe.tasks, partitions, pipe.inputs, pipe.splits))
        return number

    def gather(self, pipe: _Pipe, label: str = "gather") -> _Pipe:
        """One task that reads all rows of `pipe`, in the order of its tasks."""
        edge = self.feed(pipe, physical.ToBlocks(), 1, EdgeKind.GATHER)
        return _Pipe(label, pipe.schema, 1, inputs=(edge,))

    def open(self, plan: logical.LogicalPlan) -> _Pipe:
        """The open stage whose rows are those of `plan`."""
        match plan:
            case logical.ScanText():
                return self._scan_text(plan)
            case logical.ScanParquet():
                return self._scan_parquet(plan)
            case logical.ScanTable():
                return self._scan_table(plan)
            case logical.ScanSource():
                return self._scan_source(plan)
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
                return self._open_user(plan)

    def _open_user(self, plan: logical.LogicalPlan) -> _Pipe:
        """Plan a node of `userlogical`."""
        match plan:
            case userlogical.MapRecords():
                return self._map_records(self.open(plan.input), plan, 0)
            case userlogical.MapOutput(number=number) if self._shared is not None:
                return _Pipe("emitted", plan.schema, self._shared.pipe.tasks, branch=number)
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

    def _map_records(self, pipe: _Pipe, plan: userlogical.MapRecords, flows: int) -> _Pipe:
        """Add the step of a map whose main output goes on, or its named one `flows`."""
        p, call = plan.pairs, self._call(plan.function)
        named = tuple(
            physical.NamedPairs(name, q.keys, q.values, q.key_is_tuple, q.value_is_tuple, q.schema)
            for name, q in plan.named
        )
        columns, forms = tuple(plan.input.schema.names), (p.key_is_tuple, p.value_is_tuple)
        step = physical.MapRecords(call, columns, p.keys, p.values, *forms, p.schema, named, flows)
        return pipe.then(step, named[flows - 1].schema if flows else p.schema)

    def _combine_by_key(self, plan: userlogical.CombineByKey) -> _Pipe:
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

    def _exchange(self, pipe: _Pipe, keys: tuple[str, ...], how: Partitioning, label: str) -> _Pipe:
        """Close `pipe`; the new one's tasks get the rows of one key together."""
        partitions = how.count or self.partitions or partition_count(self.input_bytes, pipe.tasks)
        partitions = min(partitions, max(1, BLOCKS_MAX // pipe.tasks)) if keys else 1
        if how.by_range and partitions > 1:
            return self._by_range(pipe, tuple((key, False, False) for key in keys), partitions, label)
        function = None if how.function is None else self._call(how.function)
        kind = EdgeKind.HASH if keys else EdgeKind.GATHER
        edge = self.feed(pipe, physical.ToBlocks(keys, function, how.is_tuple), partitions, kind)
        return _Pipe(label, pipe.schema, partitions, inputs=(edge,))

    def _sorted_partitions(self, pipe: _Pipe) -> int:
        """How many part files a sort of all rows makes: one where it is of what a group_by left, usually few rows."""
        if pipe.tasks == 1 or pipe.is_reduced:
            return 1
        return min(self.partitions or partition_count(self.input_bytes, pipe.tasks), max(1, BLOCKS_MAX // pipe.tasks))

    def _by_range(self, pipe: _Pipe, keys: tuple[tuple[str, bool, bool], ...], partitions: int, label: str) -> _Pipe:
        """Close `pipe`; each of the new one's tasks gets the rows between two splitters, picked from samples."""
        names = tuple(dict.fromkeys(name for name, _, _ in keys))
        picked = pa.schema([pipe.schema.field(name) for name in names])
        weight = "rows"
        while weight in names:
            weight += "'"
        sampled = picked.append(pa.field(weight, pa.int64(), nullable=False))
        rows_each = min(_SAMPLED_ROWS_MAX, -(-_SAMPLED_ROWS_PER_PARTITION * partitions // pipe.tasks))
        own = self.feed(pipe, physical.ToBlocks(), 1, EdgeKind.ONE_TO_ONE)
        sampling = _Pipe("sample", pipe.schema, pipe.tasks, inputs=(own,))
        step: physical.Step = physical.SampleKeys(names, rows_each, sampled)
        picking = self.gather(sampling.then(step, sampled), "splitters")
        step = physical.PickSplitters(keys, partitions, picked)
        splitters = Edge(self.close(picking.then(step, picked), physical.ToBlocks(), 1), EdgeKind.BROADCAST)
        placing = _Pipe("ranges", pipe.schema, pipe.tasks, inputs=(own, splitters))
        placed = self.close(placing, physical.ToRanges(keys), partitions)
        return _Pipe(label, pipe.schema, partitions, inputs=(Edge(placed, EdgeKind.RANGE),))

    def _aggregate(self, plan: logical.Aggregate) -> _Pipe:
        pipe = _read_keys_as_dictionaries(self.open(plan.input), plan)
        partial = physical.PartialAggregate(plan.keys, plan.aggs)
        pipe = pipe.then(partial, partial_schema(plan.keys, plan.aggs, plan.input.schema))
        return self._merge(pipe, plan, plan.aggs, plan.partitioning)

    def _count_tokens(self, plan: logical.CountTokens) -> _Pipe:
        aggs = (AggSpec(plan.name, "len", None),)
        tokens, options = plan.tokens, plan.input.options
        source = physical.CountTokens(
            options, tokens.mode, tokens.lowercase, tokens.separators, plan.key_field.name, aggs
        )
        splits = self._text_splits(plan.input)
        # no token is null, whatever the plan's types can say of lists of them
        schema = partial_schema((plan.key_field.name,), aggs, pa.schema([plan.key_field.with_nullable(False)]))
        return self._merge(_Pipe("count tokens", schema, len(splits), source, splits), plan, aggs)

    def _merge(
        self, pipe: _Pipe, plan: logical.LogicalPlan, aggs: tuple[AggSpec, ...], how: Partitioning | None = None
    ) -> _Pipe:
        """Close `pipe`, whose rows are partial, and open the stage that merges them by key."""
        keys = tuple(plan.schema.names[: len(plan.schema) - len(aggs)])
        merged = self._exchange(pipe, keys, how or Partitioning(), "merge")
        return replace(merged, is_reduced=True).then(physical.MergeAggregate(keys, aggs, plan.schema), plan.schema)

    def _text_splits(self, scan: logical.ScanText) -> tuple[Split, ...]:
        may_cut = [is_splittable(file.path, scan.options) for file in scan.files]
        self.input_bytes += sum(file.size_bytes for file in scan.files)
        size = text_split_bytes(sum(file.size_bytes for file in scan.files), self.split_bytes)
        return tuple(split_text_files(scan.files, size, splittable=may_cut))

    def _scan_text(self, scan: logical.ScanText) -> _Pipe:
        splits = self._text_splits(scan)
        return _Pipe("read text", scan.schema, len(splits), physical.ReadText(scan.options, scan.schema), splits)

    def _scan_parquet(self, scan: logical.ScanParquet) -> _Pipe:
        splits: list[Split] = []
        # a quarter: compressed columns unpack to several times their size, text does not
        size_max = max(1, self.split_bytes // 4)
        for file, info in zip(scan.files, scan.infos, strict=True):
            kept = [
                (number, group.bytes_of(scan.columns.names))
                for number, group in enumerate(info.row_groups)
                if scan.predicate is None or may_match(scan.predicate, group.stats)
            ]
            splits += split_row_groups(file, kept, size_max)
            self.input_bytes += sum(size for _, size in kept)
        tasks = tuple(splits) or (ParquetSplit(scan.files[0], (), 0),)
        return _Pipe("read parquet", scan.schema, len(tasks), physical.ReadParquet(scan.schema, scan.missing), tasks)

    def _scan_table(self, scan: logical.ScanTable) -> _Pipe:
        name = f"table{len(self.tables)}"
        batches = tuple(batch.select(scan.schema.names) for batch in scan.batches)
        self.tables[name] = batches
        splits: list[Split] = []
        start = size = 0
        for stop, batch in enumerate(batches):
            if stop > start and size + batch.nbytes > self.split_bytes:
                splits.append(TableSplit(name, start, stop, size))
                start, size = stop, 0
            size += batch.nbytes
            self.input_bytes += batch.nbytes
        splits.append(TableSplit(name, start, len(batches), size))
        return _Pipe("read table", scan.schema, len(splits), physical.ReadTable(scan.schema), tuple(splits))

    def _scan_source(self, scan: logical.ScanSource) -> _Pipe:
        name, source = f"source{len(self.sources)}", scan.source
        self.sources[name] = source
        self.input_bytes += source.input_bytes
        splits = tuple(
            SourceSplit(name, number, value, size) for number, (value, size) in enumerate(source.sized_splits)
        ) or (SourceSplit(name, -1, b"", 0),)
        reading = physical.ReadSource(scan.schema)
        label = f"read {source.label}"
        return _Pipe(label, scan.schema, len(splits), reading, splits, is_reduced=scan.is_reduced)


def _read_keys_as_dictionaries(pipe: _Pipe, plan: logical.Aggregate) -> _Pipe:
    """Let Parquet text columns that do nothing but serve as keys arrive as dictionaries: fewer strings to hash."""
    if not isinstance(pipe.source, physical.ReadParquet):
        return pipe
    used: set[str] = {agg.column for agg in plan.aggs if agg.column is not None}
    names = {key: key for key in plan.keys}
    for step in reversed(pipe.steps):
        match step:
            case physical.Filter(predicate=predicate):
                used |= columns_of(predicate)
            case physical.Project(columns=columns):
                names, used = _through(columns, names, used)
            case _:
                return pipe
    schema = pipe.source.schema
    only_keys = [name for name in schema.names if name in names.values() and name not in used]
    texts = tuple(name for name in only_keys if _is_text(schema.field(name).type))
    return replace(pipe, source=physical.ReadParquet(schema, pipe.source.missing, texts)) if texts else pipe


def _through(columns: Sequence[NamedNode], names: dict[str, str], used: set[str]) -> tuple[dict[str, str], set[str]]:
    """Key names and used columns, as they are called below a Project."""
    below: dict[str, Node] = {column.name: unaliased(column.node) for column in columns}
    keys = {key: node.name for key, name in names.items() if isinstance(node := below[name], Column)}
    others = [below[name] for name in below if name in used or name not in names.values()]
    others += [node for node in below.values() if not isinstance(node, Column)]
    return keys, set().union(*(columns_of(node) for node in others))


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind)
