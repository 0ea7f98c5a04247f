"""MapReduce: the model of Dean and Ghemawat (OSDI 2004), the user's functions as steps of a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa

from kernelmill.engine.dataframe import DataFrame
from kernelmill.engine.errors import Code, error
from kernelmill.engine.execute import Progress
from kernelmill.engine.frame import LazyFrame
from kernelmill.engine.io.source import Source
from kernelmill.engine.job import JobResult
from kernelmill.engine.mapreduce.columns import (
    KERNEL_REDUCES,
    REDUCES,
    named_columns,
    names_of,
    pairs_of,
    read_schema,
    reduced_columns,
    schema_required,
)
from kernelmill.engine.mapreduce.inference import infer_types
from kernelmill.engine.mapreduce.naive import Recipe, run_naively
from kernelmill.engine.mapreduce.verifying import Verified, verify_job
from kernelmill.engine.options import column_name, one_of, whole_number
from kernelmill.engine.origin import located, users_line
from kernelmill.engine.plan.logical import Aggregate, LogicalPlan, ScanTable
from kernelmill.engine.plan.physical import AggSpec
from kernelmill.engine.plan.userlogical import (
    COMBINABLE,
    CombineRows,
    GatherGroups,
    MapRecords,
    Pairs,
    Partition,
    ReduceGroups,
    SortPartitions,
)
from kernelmill.engine.scan import scan_text
from kernelmill.engine.userfunctions import Partitioning, UserFunction, user_function

_ORDERS = ("key", "value")
_TEXT_EXTREMES = ("min", "max")
_ANY_RECORD = pa.schema([pa.field("record", pa.string())])


class MapReduce:
    """A map and a reduce, as in the paper: `km.MapReduce(map, "sum", key="word", value="n", schema={...})`.

    map(record, emit): called with each line of text, or each row (`row.city`) of a frame with several columns; it calls
    emit(key, value), or emit(key), any number of times; a None is a null. emit.count("name") adds to a counter of the
    job; emit.reject("why") sets the record aside and undoes its emits.
    reduce: "sum" "count" "min" "max" "mean" "first" "list" "unique", or reduce(key, values, emit), called with each key
    and an iterator over its values, in input order; it calls emit(value), or emit(key, value). None: pairs as emitted.
    combine: "sum" "min" "max", or combine(a, b), associative and commutative: applied before pairs travel. Without
    reduce it is the reduce. partition(key, n): the part file, 0 to n - 1, of a key; default: by its hash.
    key, value: names of the columns; tuples of names where map emits tuples. schema: their types, `{"word": "string",
    "n": "int64"}`; where reduce emits other types than map a pair, the second for what reduce emits beside the key.
    order: "key": each part file is sorted by key; "value": each key's values too; None: keys as first seen.
    partitions: the number of part files. side: `{"stop": words}` binds further arguments of map. name: for plans.
    compile: "auto"; "never": run as plain Python; "require": KM0302 for what cannot be compiled.

    Functions must be deterministic, may run more than once, and run in several threads. Raises KM0107 for a bad
    argument, KM0102 and KM0103 for types and names that do not go, KM0104 where schema= is needed.
    """

    def __init__(
        self,
        map: Callable[..., Any],
        reduce: str | Callable[..., Any] | None = None,
        *,
        combine: str | Callable[..., Any] | None = None,
        partition: Callable[..., Any] | None = None,
        key: str | tuple[str, ...] = "key",
        value: str | tuple[str, ...] = "value",
        schema: Any = None,
        order: str | None = "key",
        partitions: int | None = None,
        side: Mapping[str, Any] | None = None,
        name: str | None = None,
        compile: str = "auto",
    ) -> None:
        with located(users_line()):
            if side is not None and not isinstance(side, Mapping):
                raise error(Code.BAD_SETTING, f"side cannot be {side!r}", hint='name what it binds: {"stop": words}')
            compiling = one_of("compile", compile, ("auto", "require", "never"))
            self._map = user_function(map, "map", positional=2, keywords=side, compile=compiling)
            self._reduce = _named_or_function(reduce, "reduce", 3, REDUCES)
            names = (*COMBINABLE, "count", "mean") if reduce is None else COMBINABLE
            self._combine = _named_or_function(combine, "combine", 2, names)
            self._check_combine()
            self._key, self._value = names_of("key", key), names_of("value", value)
            self._types = read_schema(schema)
            self._order = None if order is None else one_of("order", order, _ORDERS)
            count = None if partitions is None else whole_number("partitions", partitions, 1)
            function = None if partition is None else user_function(partition, "partition", positional=2)
            self._partitioning = Partitioning(function, self._key[1], count)
            self.name = self._map.name if name is None else column_name(name)

    # Running ---------------------------------------------------------------------------------------------------------

    def run(
        self,
        inputs: Source | LazyFrame,
        *,
        output: Any,
        mode: str = "error",
        on_bad: str | None = None,
        max_rejects: int | None = None,
        progress: Progress = None,
        **settings: Any,
    ) -> JobResult:
        """Run over text files (a path, glob, directory or list: a record is a line) or a frame, and write Parquet.

        All or nothing; options as `LazyFrame.sink_parquet`. on_bad="reject" sets records aside that map raises for, or
        whose emits do not fit schema= (KM0301, KM0207 else), up to max_rejects (KM0503).
        """
        frame = self(_frame_of(inputs))
        options: dict[str, Any] = {"on_bad": on_bad, "max_rejects": max_rejects, "progress": progress, **settings}
        return frame.sink_parquet(output, mode=mode, **options)

    def __call__(self, frame: LazyFrame) -> LazyFrame:
        """The job's rows as a frame, to go on with: `lf.pipe(job).top_k(10, by="n")`."""
        found: object = frame
        if not isinstance(found, LazyFrame):
            hint = "km.scan_text(...), km.from_arrow(...); files go to run(inputs, output=...)"
            raise error(Code.BAD_SETTING, f"a job takes a LazyFrame, not {type(frame).__name__}", hint=hint)
        with located(users_line()):
            return LazyFrame(self._plan(frame._plan))

    def explain(self, inputs: Source | LazyFrame, **options: Any) -> str:
        """Show what would run, without running it: options as `LazyFrame.explain`."""
        return self(_frame_of(inputs)).explain(**options)

    def trial(self, records: Iterable[Any]) -> DataFrame:
        """Run over these records in this thread, as plain Python: for unit tests, breakpoints and prints.

        A record is what map is called with: a text, a number, or for several columns a mapping or a tuple. What a
        function raises comes out as it is; types are those of schema=, or of the values if there is none.
        """
        run = run_naively(self._recipe(None), records)
        return DataFrame(run.table(), counters=run.counters, rejects=run.rejects_table())

    def verify(self, inputs: Source | LazyFrame, sample: str | int = "16MiB") -> Verified:
        """Run the beginning of the input, `sample` bytes, here and as plain Python, and compare rows and counters.

        Also: is combine associative and commutative on real values (KM0303), does map emit the same twice (KM0304).
        Raises KM0309 with the first row that differs.
        """
        frame = _frame_of(inputs)
        return verify_job(self, self._recipe(frame._plan.schema), frame, sample)

    def __repr__(self) -> str:
        steps = [f"map={self._map.name}"]
        steps += [f"combine={_called(self._combine)}"] if self._combine is not None else []
        steps += [f"reduce={_called(self._reduce)}"] if self._reduce is not None else []
        return f"MapReduce({', '.join(steps)})"

    # The plan --------------------------------------------------------------------------------------------------------

    def _plan(self, below: LogicalPlan) -> LogicalPlan:
        origin = users_line()
        pairs = self._pairs(below.schema)
        plan: LogicalPlan = MapRecords(below, self._map, pairs, self.name, origin=origin)
        reduce, combine = self._reduce, self._combine
        if reduce is None and combine is None:
            return self._unreduced(plan, pairs, origin)
        if isinstance(combine, UserFunction):
            _needs_values(pairs, "combine")
            plan = CombineRows(plan, pairs, combine, origin=origin)
        kind = reduce if reduce is not None else combine
        if isinstance(kind, str) and self._is_kernels(kind, pairs):
            aggs = _aggregates(kind, pairs, self._value[0])
            plan = Aggregate(plan, pairs.keys, aggs, self._partitioning, origin=origin)
            by = plan.schema.names if self._order == "value" else pairs.keys
            return plan if self._order is None else SortPartitions(plan, tuple(by), origin=origin)
        if isinstance(combine, str) and isinstance(reduce, UserFunction):
            _needs_values(pairs, "combine")
            plan = CombineRows(plan, pairs, None, combine, origin=origin)
        return self._reduced(self._arranged(plan, pairs, origin), pairs, kind, origin)

    def _unreduced(self, plan: LogicalPlan, pairs: Pairs, origin: str) -> LogicalPlan:
        how = self._partitioning
        if self._order is None and how.function is None and how.count is None:
            return plan  # nothing asks for pairs to change places
        placed = Partition(plan, pairs.keys, how, origin=origin)
        by = (*pairs.keys, *pairs.values) if self._order == "value" else pairs.keys
        return placed if self._order is None else SortPartitions(placed, by, origin=origin)

    def _arranged(self, plan: LogicalPlan, pairs: Pairs, origin: str) -> LogicalPlan:
        """Rows of one key side by side, in order."""
        placed = Partition(plan, pairs.keys, self._partitioning, origin=origin)
        if self._order is None:
            return GatherGroups(placed, pairs.keys, origin=origin)
        by = (*pairs.keys, *pairs.values) if self._order == "value" else pairs.keys
        return SortPartitions(placed, by, origin=origin)

    def _reduced(self, plan: LogicalPlan, pairs: Pairs, kind: str | UserFunction | None, origin: str) -> LogicalPlan:
        if isinstance(kind, str):
            columns = named_columns(pairs, kind)
            return ReduceGroups(plan, pairs, kind, None, columns, pairs.value_is_tuple, origin=origin)
        if kind is not None and kind.role == "combine":
            return ReduceGroups(plan, pairs, "combine", kind, pairs.schema, pairs.value_is_tuple, origin=origin)
        columns, is_tuple = reduced_columns(pairs, self._types[1] if self._types else None)
        return ReduceGroups(plan, pairs, "function", kind, columns, is_tuple, origin=origin)

    def _is_kernels(self, kind: str, pairs: Pairs) -> bool:
        """Whether an Aggregate does the reduce: the least and the greatest text are found in Python."""
        value_types = [pairs.schema.field(name).type for name in pairs.values]
        texts = any(pa.types.is_string(dtype) or pa.types.is_binary(dtype) for dtype in value_types)
        return kind in KERNEL_REDUCES and not (kind in _TEXT_EXTREMES and texts)

    def _pairs(self, schema: pa.Schema | None) -> Pairs:
        # Asked though schema= is given: what cannot be compiled is said here, in the user's thread.
        inferred = None if schema is None else infer_types(self._map, schema, self._key, self._value)
        types = inferred if self._types is None else self._types[0]
        if types is None:
            raise schema_required(self._map.title, self._map.where, self._key[0], self._value[0])
        return pairs_of(self._key, self._value, types)

    def _recipe(self, schema: pa.Schema | None) -> Recipe:
        """The job for the naive engine, which knows no plan; without types where there are none."""
        pairs = made = None
        if self._types is not None or schema is not None:
            pairs = self._pairs(schema)
            made = self._plan(ScanTable((), schema or _ANY_RECORD)).schema
        kind = self._reduce if self._reduce is not None else self._combine
        return Recipe(self._map, kind, self._combine, self._key, self._value, self._order, pairs, made)

    def _check_combine(self) -> None:
        reduce, combine = self._reduce, self._combine
        if combine is None or reduce is None or isinstance(reduce, UserFunction):
            return
        if isinstance(combine, str) and combine != reduce:
            what = f"combine={combine!r} changes what reduce={reduce!r} would see"
            raise error(Code.BAD_SETTING, what, hint="leave combine= out: such a reduce combines by itself")
        if reduce not in COMBINABLE:
            what = f"reduce={reduce!r} asks for every value, and combine= leaves one of many"
            raise error(Code.BAD_SETTING, what, hint="leave combine= out")


def _named_or_function(given: Any, role: str, positional: int, names: tuple[str, ...]) -> str | UserFunction | None:
    if given is None:
        return None
    return one_of(role, given, names) if isinstance(given, str) else user_function(given, role, positional=positional)


def _aggregates(kind: str, pairs: Pairs, names: tuple[str, ...]) -> tuple[AggSpec, ...]:
    if not pairs.values:
        if kind != "count":
            raise error(Code.BAD_SETTING, f"reduce={kind!r} takes values, map emits keys alone", hint="reduce='count'")
        return (AggSpec(names[0], "len", None),)
    return tuple(AggSpec(name, kind, name) for name in pairs.values)


def _needs_values(pairs: Pairs, role: str) -> None:
    if not pairs.values:
        hint = "name the value in schema=, or leave combine= out"
        raise error(Code.BAD_SETTING, f"{role} takes values, schema= names none", hint=hint)


def _called(given: str | UserFunction | None) -> str:
    return given.name if isinstance(given, UserFunction) else repr(given)


def _frame_of(inputs: Any) -> LazyFrame:
    return inputs if isinstance(inputs, LazyFrame) else scan_text(inputs)
