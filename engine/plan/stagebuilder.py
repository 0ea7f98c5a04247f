"""Stages of a job as they are closed, and the exchanges between them: what every node of a plan is planned with."""

from __future__ import annotations

import pyarrow as pa
from msgspec.structs import replace

from kernelmill.engine.errors import Code, error
from kernelmill.engine.plan import physical, rowsteps
from kernelmill.engine.plan.carried import carried_as_dictionaries
from kernelmill.engine.plan.codec import encode_pipeline
from kernelmill.engine.plan.inputs import Inputs, tested_as_dictionaries
from kernelmill.engine.plan.physical import Pipeline
from kernelmill.engine.plan.pipes import Pipe, Shared, columns_alone
from kernelmill.engine.plan.stages import Edge, EdgeKind, Stage
from kernelmill.engine.userfunctions import Partitioning, UserFunction

BYTES_PER_PARTITION = 64 << 20
BLOCKS_MAX = 1 << 23
_COUNTS_MAX = 1 << 12  # rows of tasks that a step names: it travels with each task
_SAMPLED_ROWS_PER_PARTITION = 256  # partitions then differ by some 6 % in rows
_SAMPLED_ROWS_MAX = 1 << 14


def partition_count(input_bytes: int, map_tasks: int) -> int:
    """How many partitions an exchange has: one for 64 MiB of input, at most 2^23 blocks for all map tasks."""
    wanted = -(-input_bytes // BYTES_PER_PARTITION)
    return max(1, min(wanted, BLOCKS_MAX // max(1, map_tasks)))


class StageBuilder:
    """The stages of one job: pipes are closed here, and the next ones read what they leave.

    Splits depend on inputs and `split_bytes` alone; `partitions` is how many the user asked for, if he did.
    """

    def __init__(self, split_bytes: int, partitions: int | None) -> None:
        self.inputs, self.partitions = Inputs(split_bytes), partitions
        self.stages: list[Stage] = []
        self.pipelines: list[Pipeline] = []
        self.functions: list[UserFunction] = []
        self.shared: Shared | None = None

    def partition_count(self, tasks: int, asked: int | None = None) -> int:
        """How many partitions the rows of so many tasks go to: as `asked` or set for the job, else by input size."""
        wanted = asked or self.partitions or partition_count(self.inputs.input_bytes, tasks)
        return min(wanted, max(1, BLOCKS_MAX // tasks))

    def unshared(self, pipe: Pipe) -> Pipe:
        """A pipe whose tasks read what a map with several outputs left for this one; others as they are."""
        if pipe.branch is None:
            return pipe
        edge = self.feed(pipe, physical.ToBlocks(), 1, EdgeKind.ONE_TO_ONE)
        return Pipe("emitted", pipe.schema, pipe.tasks, inputs=(edge,))

    def feed(self, pipe: Pipe, end: physical.ToBlocks, partitions: int, kind: EdgeKind) -> Edge:
        """Close `pipe`, and give the edge by which the next stage reads it."""
        if pipe.branch is None or self.shared is None:
            return Edge(self.close(pipe, end, partitions), kind)
        branches, emitted = self.shared.branches, self.shared.emitted(pipe.branch)
        branches[pipe.branch] = physical.Branch(pipe.steps, end, partitions, emitted, pipe.schema)
        return Edge(self.shared.number, kind, pipe.branch)

    def close(self, pipe: Pipe, end: physical.End, partitions: int) -> int:
        """Make a stage of `pipe`; its number."""
        number, pipe = len(self.stages), carried_as_dictionaries(tested_as_dictionaries(pipe), end)
        pipeline = Pipeline(pipe.source, pipe.steps, end, pipe.schema)
        self.pipelines.append(pipeline)
        operators = encode_pipeline(pipeline)
        self.stages.append(Stage(number, pipe.label, operators, pipe.tasks, partitions, pipe.inputs, pipe.splits))
        return number

    def gather(self, pipe: Pipe, label: str = "gather") -> Pipe:
        """One task that reads all rows of `pipe`, in the order of its tasks."""
        edge = self.feed(pipe, physical.ToBlocks(), 1, EdgeKind.GATHER)
        return Pipe(label, pipe.schema, 1, inputs=(edge,))

    def counted(self, pipe: Pipe, *, needs_total: bool) -> tuple[Pipe, rowsteps.Counts]:
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

    def call(self, function: UserFunction) -> physical.UserCall:
        """What names a user's function in a step: its number among those of the job."""
        number = next((n for n, one in enumerate(self.functions) if one.is_same_as(function)), len(self.functions))
        if number == len(self.functions):
            self.functions.append(function)
        return physical.UserCall(number, function.role, function.name, function.where)

    def exchange(self, pipe: Pipe, keys: tuple[str, ...], how: Partitioning, label: str) -> Pipe:
        """Close `pipe`; the new one's tasks get the rows of one key together."""
        partitions = self.partition_count(pipe.tasks, how.count) if keys else 1
        if how.by_range and partitions > 1:
            return self.by_range(pipe, tuple((key, False, False) for key in keys), partitions, label)
        function = None if how.function is None else self.call(how.function)
        kind = EdgeKind.HASH if keys else EdgeKind.GATHER
        edge = self.feed(pipe, physical.ToBlocks(keys, function, how.is_tuple), partitions, kind)
        return Pipe(label, pipe.schema, partitions, inputs=(edge,))

    def sorted_partitions(self, pipe: Pipe) -> int:
        """How many part files a sort of all rows makes: one where it is of what a group_by left, usually few rows."""
        if pipe.tasks == 1 or pipe.is_reduced:
            return 1
        return self.partition_count(pipe.tasks)

    def by_range(self, pipe: Pipe, keys: tuple[tuple[str, bool, bool], ...], partitions: int, label: str) -> Pipe:
        """Close `pipe`; each of the new one's tasks gets the rows between two splitters, picked from samples."""
        names = tuple(dict.fromkeys(name for name, _, _ in keys))
        picked = pa.schema([pipe.schema.field(name) for name in names])
        weight = "rows"
        while weight in names:
            weight += "'"
        sampled = picked.append(pa.field(weight, pa.int64(), nullable=False))
        rows_each = min(_SAMPLED_ROWS_MAX, -(-_SAMPLED_ROWS_PER_PARTITION * partitions // pipe.tasks))
        sampling, placing = self._read_twice(pipe, names)
        step: physical.Step = physical.SampleKeys(names, rows_each, sampled)
        picking = self.gather(sampling.then(step, sampled), "splitters")
        step = physical.PickSplitters(keys, partitions, picked)
        splitters = Edge(self.close(picking.then(step, picked), physical.ToBlocks(), 1), EdgeKind.BROADCAST)
        placing = replace(placing, inputs=(*placing.inputs, splitters))
        placed = self.close(placing, physical.ToRanges(keys), partitions)
        return Pipe(label, pipe.schema, partitions, inputs=(Edge(placed, EdgeKind.RANGE),))

    def _read_twice(self, pipe: Pipe, keys: tuple[str, ...]) -> tuple[Pipe, Pipe]:
        """Two pipes with the rows of `pipe`, one of them at least with the columns `keys`, the other with all.

        Where the keys alone are cheap to read the input is read twice; else what `pipe` makes is left as blocks.
        """
        alone = columns_alone(pipe, keys)
        if alone is not None:
            return replace(alone, label="sample"), pipe
        own = self.feed(pipe, physical.ToBlocks(), 1, EdgeKind.ONE_TO_ONE)
        sampling = Pipe("sample", pipe.schema, pipe.tasks, inputs=(own,))
        return sampling, replace(sampling, label="ranges")

    def shared_out(self, pipe: Pipe, parts: int) -> Pipe:
        """Close `pipe`; each of the new one's tasks gets an equal share of all rows, in their order."""
        if parts > BLOCKS_MAX // pipe.tasks:
            what = f"files={parts:,} of {pipe.tasks:,} tasks are too many"
            raise error(Code.BAD_SETTING, what, hint=f"at most {BLOCKS_MAX // pipe.tasks:,} are possible for this job")
        counted, counts = self.counted(pipe, needs_total=True)
        shared = self.close(counted, rowsteps.ToEqualParts(counts), parts)
        return Pipe("write", pipe.schema, parts, inputs=(Edge(shared, EdgeKind.RANGE),))
