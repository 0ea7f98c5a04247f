"""MapReduce: the model of Dean and Ghemawat (OSDI 2004), the user's functions as steps of a plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from kernelmill.engine.compiling import for_run
from kernelmill.engine.dataframe import DataFrame
from kernelmill.engine.errors import Code, article, error
from kernelmill.engine.execute import Progress
from kernelmill.engine.frame import LazyFrame
from kernelmill.engine.io.source import Source
from kernelmill.engine.job import JobResult
from kernelmill.engine.mapreduce.lane import Lane
from kernelmill.engine.mapreduce.naive import Recipe, run_naively
from kernelmill.engine.mapreduce.outputs import Output, named_lanes
from kernelmill.engine.mapreduce.verifying import Verified, verify_job
from kernelmill.engine.options import column_name, one_of
from kernelmill.engine.origin import located, users_line
from kernelmill.engine.plan.logical import LogicalPlan, ScanTable, SinkParquet
from kernelmill.engine.plan.userlogical import MapOutput, MapRecords, Pairs
from kernelmill.engine.scan import scan_text
from kernelmill.engine.sinks import is_sink
from kernelmill.engine.userfunctions import UserFunction, shown, side_of, user_function
from kernelmill.engine.writing import write_files

_ANY_RECORD = pa.schema([pa.field("record", pa.string())])


class MapReduce:
    """A map and a reduce, as in the paper: `km.MapReduce(map, "sum", key="word", value="n", schema={...})`.

    map(record, emit): called with each line of text, or each row (`row.city`) of a frame with several columns; it calls
    emit(key, value), or emit(key), any number of times; a None is a null. emit.count("name") adds to a counter of the
    job; emit.reject("why") sets the record aside and undoes its emits.
    reduce: "sum" "count" "min" "max" "mean" "first" "list" "unique", or reduce(key, values, emit), called with each key
    and an iterator over its values, in input order; it calls emit(value), or emit(key, value). None: pairs as emitted.
    combine: "sum" "min" "max", or combine(a, b), associative and commutative: applied before pairs travel. Without
    reduce it is the reduce. Or a `km.Combiner`, whose state need not be a value. partition(key, n): the part file, 0 to
    n - 1, of a key; default: by its hash; "range": all part files together are in order of keys.
    key, value: names of the columns; tuples of names where map emits tuples. schema: their types, `{"word": "string",
    "n": "int64"}`; where reduce emits other types than map a pair, the second for what reduce emits beside the key.
    order: "key": each part file is sorted by key; "value": each key's values too; None: keys as first seen.
    partitions: the number of part files. side: `{"stop": words}` binds further arguments of map, and of the other
    functions that have one of that name. name: for plans.
    outputs: further outputs, `{"bad": km.Output(...)}`, to which map emits by emit.to("bad", key, value); `run` writes
    each in a folder of its name within the output, `outputs(frame)` gives each as a frame.
    compile: "auto"; "never": run as plain Python; "require": KM0302 for what cannot be compiled.

    Functions must be deterministic, may run more than once, and run in several threads. Raises KM0107 for a bad
    argument, KM0102 and KM0103 for types and names that do not go, KM0104 where schema= is needed.
    """

    def __init__(
        self,
        map: Callable[..., Any],
        reduce: str | Callable[..., Any] | None = None,
        *,
        combine: Any = None,
        partition: str | Callable[..., Any] | None = None,
        key: str | tuple[str, ...] = "key",
        value: str | tuple[str, ...] = "value",
        schema: Any = None,
        order: str | None = "key",
        partitions: int | None = None,
        side: Mapping[str, Any] | None = None,
        outputs: Mapping[str, Output] | None = None,
        name: str | None = None,
        compile: str = "auto",
    ) -> None:
        with located(users_line()):
            if side is not None and not isinstance(side, Mapping):
                raise error(Code.BAD_SETTING, f"side cannot be {side!r}", hint='name what it binds: {"stop": words}')
            compiling = one_of("compile", compile, ("auto", "require", "never"))
            side = dict(side or {})
            bound = side_of(map, 2, side)
            self._map = user_function(map, "map", positional=2, keywords=bound, compile=compiling)
            self._lane = Lane(reduce, combine, partition, key, value, schema, order, partitions, compiling, side)
            self._named = named_lanes(outputs, compiling, side)
            lanes = [self._lane, *self._named.values()]
            _check_side(side, [self._map, *(function for lane in lanes for function in lane.functions)])
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
        job_id: str | None = None,
        progress: Progress = None,
        **settings: Any,
    ) -> JobResult:
        """Run over text files (a path, glob, directory or list: a record is a line) or a frame, and write the output.

        output: a folder, or one file if it ends in `.parquet`; or a sink of yours, see `LazyFrame.sink`.

        All or nothing, several outputs too: the main one is `output`, each named one a folder in it, read once from the
        input; options as `LazyFrame.sink_parquet`. on_bad="reject" sets records aside that map raises for, or
        whose emits do not fit schema= (KM0301, KM0207 else), up to max_rejects (KM0503).
        """
        options: dict[str, Any] = {"on_bad": on_bad, "max_rejects": max_rejects, "progress": progress, **settings}
        main, named = self._plans(_frame_of(inputs)._plan, users_line())
        if is_sink(output):
            if named or mode != "error" or job_id is not None:
                option = "job_id=" if job_id is not None else f"mode={mode!r}"
                what = "a sink takes one output" if named else f"{option} is for folders, and output= is a sink"
                raise error(Code.BAD_SETTING, what, where=users_line(), hint="name a folder as output=")
            return LazyFrame(main).sink(output, **options)
        return write_files(main, output, named, mode=mode, job_id=job_id, **options)

    def __call__(self, frame: LazyFrame) -> LazyFrame:
        """The job's rows as a frame, to go on with: `lf.pipe(job).top_k(10, by="n")`; of several, the main output."""
        with located(users_line()):
            return LazyFrame(self._plans(_checked(frame)._plan, users_line())[0])

    def outputs(self, frame: LazyFrame) -> dict[str, LazyFrame]:
        """The named outputs as frames, by name. Each runs the map anew: `run` makes all of them in one pass."""
        with located(users_line()):
            named = self._plans(_checked(frame)._plan, users_line())[1]
            return {name: LazyFrame(plan) for name, plan in named}

    def explain(self, inputs: Source | LazyFrame, **options: Any) -> str:
        """Show what would run, without running it: options as `LazyFrame.explain`."""
        origin = users_line()
        main, named = self._plans(_frame_of(inputs)._plan, origin)
        if not named:
            return LazyFrame(main).explain(**options)
        return LazyFrame(SinkParquet(main, "output/", False, named=named, origin=origin)).explain(**options)

    def trial(self, records: Iterable[Any]) -> DataFrame:
        """Run over these records in this thread, as plain Python: for unit tests, breakpoints and prints.

        A record is what map is called with: a text, a number, or for several columns a mapping or a tuple. What a
        function raises comes out as it is; types are those of schema=, or of the values if there is none. `outputs` of
        what comes back has the named outputs. Raises KM0107 for what is no list of records, KM0301 for emit.to with a
        name that outputs= has not.
        """
        _check_records(records)
        run = run_naively(self._recipe(None), records)
        outputs = {name: DataFrame(one.table()) for name, one in run.named.items()}
        return DataFrame(run.table(), counters=run.all_counters, rejects=run.rejects_table(), outputs=outputs)

    def verify(self, inputs: Source | LazyFrame, sample: str | int = "16MiB") -> Verified:
        """Run the beginning of the input, `sample` bytes, here and as plain Python, and compare rows and counters.

        Also: is combine associative and commutative on real values (KM0303), does map emit the same twice (KM0304).
        Raises KM0309 with the first row that differs.
        """
        frame = _frame_of(inputs)
        return verify_job(self, self.run, self._recipe(frame._plan.schema), frame, sample)

    def __repr__(self) -> str:
        steps = [f"map={self._map.name}"]
        lane = self._lane
        steps += [f"combine={_called(lane.combine)}"] if lane.combine is not None else []
        steps += [f"reduce={_called(lane.reduce)}"] if lane.reduce is not None else []
        return f"MapReduce({', '.join(steps)})"

    # The plan --------------------------------------------------------------------------------------------------------

    def _plans(
        self,
        below: LogicalPlan,
        origin: str,
        function: UserFunction | None = None,
        known: Mapping[str, Pairs] | None = None,
    ) -> tuple[LogicalPlan, tuple[tuple[str, LogicalPlan], ...]]:
        """The plan of the main output, and those of the named ones: all over one map."""
        function = function or for_run(self._map)  # constants and side data may have changed since the last plan
        pairs_of = self._pairs(function, below.schema) if known is None else known
        pairs, named = pairs_of[""], tuple((name, pairs_of[name]) for name in self._named)
        mapped = MapRecords(below, function, pairs, self.name, named, origin=origin)
        if not named:
            return self._lane.above(mapped, pairs, origin), ()
        main = self._lane.above(MapOutput(mapped, 0, origin=origin), pairs, origin)
        plans = []
        for number, (name, its) in enumerate(named, 1):
            plans.append((name, self._named[name].above(MapOutput(mapped, number, origin=origin), its, origin)))
        return main, tuple(plans)

    def _pairs(self, function: UserFunction, schema: pa.Schema | None) -> dict[str, Pairs]:
        """What the map emits to each output, by name; "" is the main one."""
        return {name: lane.pairs(function, schema, name) for name, lane in self._lanes().items()}

    def _lanes(self) -> dict[str, Lane]:
        return {"": self._lane, **self._named}

    def _recipe(self, schema: pa.Schema | None) -> Recipe:
        """The job for the naive engine, which knows no plan; without types where there are none."""
        lanes = self._lanes()
        pairs_of: dict[str, Pairs] = {}
        made_of: dict[str, pa.Schema] = {}
        if schema is not None or all(lane.types is not None for lane in lanes.values()):
            function = for_run(self._map)
            pairs_of = self._pairs(function, schema)
            main, named = self._plans(ScanTable((), schema or _ANY_RECORD), "", function, pairs_of)
            made_of = {name: plan.schema for name, plan in (("", main), *named)}
        recipes = {
            name: Recipe(
                self._map,
                lane.reduce if lane.reduce is not None else lane.combine,
                lane.combine,
                lane.key,
                lane.value,
                lane.order,
                pairs_of.get(name),
                made_of.get(name),
            )
            for name, lane in lanes.items()
        }
        main_recipe = recipes.pop("")
        return replace(main_recipe, named=recipes)


def _check_side(side: Mapping[str, Any], functions: Iterable[UserFunction]) -> None:
    functions = list(functions)
    unused = [name for name in side if not any(name in function.keywords for function in functions)]
    if unused:
        names = ", ".join(function.name for function in functions)
        what = f"side= names {unused[0]!r}, and none of {names} has such an argument behind those it is called with"
        hint = f"def {functions[0].name}(record, emit, *, {unused[0]})"
        raise error(Code.BAD_SETTING, what, where=functions[0].where, hint=hint)


def _check_records(records: Any) -> None:
    if isinstance(records, Iterable) and not isinstance(records, str | bytes | Mapping | LazyFrame):
        return
    hint = 'give the records themselves: job.trial([\'to be\', \'or not\']), job.trial([{"word": "to", "n": 1}])'
    if isinstance(records, LazyFrame):
        hint = "of a frame frame.head(10).pipe(job).collect() shows rows, and job.verify(frame) compares them"
    what = f"trial takes a list of records, not {article(records)}: {shown(records)}"
    if isinstance(records, LazyFrame):
        what = "trial takes a list of records, not a frame that was not run yet"
    raise error(Code.BAD_SETTING, what, where=users_line(), hint=hint)


def _called(given: str | UserFunction | None) -> str:
    return given.name if isinstance(given, UserFunction) else repr(given)


def _checked(frame: LazyFrame) -> LazyFrame:
    found: object = frame
    if not isinstance(found, LazyFrame):
        hint = "km.scan_text(...), km.from_arrow(...); files go to run(inputs, output=...)"
        hint = _AS_FRAME if isinstance(found, DataFrame) else hint
        raise error(Code.BAD_SETTING, f"a job takes a LazyFrame, not {article(frame)}", hint=hint)
    return found


_AS_FRAME = "df.lazy() makes one of a DataFrame"


def _frame_of(inputs: Any) -> LazyFrame:
    if isinstance(inputs, DataFrame):
        what = "a job runs over text files or a LazyFrame, not over a DataFrame"
        raise error(Code.BAD_SETTING, what, where=users_line(), hint=_AS_FRAME)
    return inputs if isinstance(inputs, LazyFrame) else scan_text(inputs)
