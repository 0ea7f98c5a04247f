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
from kernelmill.engine.mapreduce.inference import infer_types
from kernelmill.engine.mapreduce.lane import Lane
from kernelmill.engine.mapreduce.naive import Recipe, run_naively
from kernelmill.engine.mapreduce.verifying import Verified, verify_job
from kernelmill.engine.options import column_name, one_of
from kernelmill.engine.origin import located, users_line
from kernelmill.engine.plan.logical import LogicalPlan, ScanTable
from kernelmill.engine.plan.userlogical import MapRecords, Pairs
from kernelmill.engine.scan import scan_text
from kernelmill.engine.userfunctions import UserFunction, user_function

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
            self._lane = Lane(reduce, combine, partition, key, value, schema, order, partitions, compiling)
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
        lane = self._lane
        steps += [f"combine={_called(lane.combine)}"] if lane.combine is not None else []
        steps += [f"reduce={_called(lane.reduce)}"] if lane.reduce is not None else []
        return f"MapReduce({', '.join(steps)})"

    # The plan --------------------------------------------------------------------------------------------------------

    def _plan(self, below: LogicalPlan) -> LogicalPlan:
        return self._above(below, self._pairs(below.schema))

    def _above(self, below: LogicalPlan, pairs: Pairs) -> LogicalPlan:
        origin = users_line()
        mapped = MapRecords(below, self._map, pairs, self.name, origin=origin)
        return self._lane.above(mapped, pairs, origin)

    def _pairs(self, schema: pa.Schema | None) -> Pairs:
        # Asked though schema= is given: what cannot be compiled is said here, in the user's thread.
        lane = self._lane
        inferred = None if schema is None else infer_types(self._map, schema, lane.key, lane.value)
        return lane.pairs(inferred, self._map)

    def _recipe(self, schema: pa.Schema | None) -> Recipe:
        """The job for the naive engine, which knows no plan; without types where there are none."""
        pairs = made = None
        lane = self._lane
        if lane.types is not None or schema is not None:
            pairs = self._pairs(schema)
            made = self._above(ScanTable((), schema or _ANY_RECORD), pairs).schema
        kind = lane.reduce if lane.reduce is not None else lane.combine
        return Recipe(self._map, kind, lane.combine, lane.key, lane.value, lane.order, pairs, made)


def _called(given: str | UserFunction | None) -> str:
    return given.name if isinstance(given, UserFunction) else repr(given)


def _frame_of(inputs: Any) -> LazyFrame:
    return inputs if isinstance(inputs, LazyFrame) else scan_text(inputs)
