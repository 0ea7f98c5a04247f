"""LazyFrame: the verbs. Each builds one plan node, checked at once; nothing runs before collect, show or a sink."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Concatenate, NoReturn, ParamSpec, TypeVar

import pyarrow as pa

from kernelmill.engine.columns import Columns, expand, expand_named, predicates
from kernelmill.engine.dataframe import DataFrame
from kernelmill.engine.display import plan_html
from kernelmill.engine.errors import Code, error
from kernelmill.engine.execute import (
    Progress,
    run_batches,
    run_cached,
    run_collect,
    run_settings,
    run_to_sink,
)
from kernelmill.engine.expr import Expr
from kernelmill.engine.foreign import FOREIGN_VERBS
from kernelmill.engine.grouping import GroupBy
from kernelmill.engine.job import JobResult
from kernelmill.engine.nodes import Cast, Column
from kernelmill.engine.options import column_name, flag, one_of, unknown_name, whole_number
from kernelmill.engine.origin import located, users_line
from kernelmill.engine.plan.explain import explain_plan, plan_text
from kernelmill.engine.plan.logical import (
    Explode,
    Filter,
    LogicalPlan,
    Project,
    SinkRows,
    keep,
)
from kernelmill.engine.plan.lowering import lower_group_by, lower_sort
from kernelmill.engine.plan.physical import NamedNode
from kernelmill.engine.plan.planner import JobPlan, plan_job, unique_columns
from kernelmill.engine.plan.userlogical import MapBatches
from kernelmill.engine.rowverbs import RowVerbs
from kernelmill.engine.schema import Schema, columns_given, find, parse_dtype
from kernelmill.engine.settings import Settings, resolve
from kernelmill.engine.sinks import DataSink, HeldSink
from kernelmill.engine.typing import contains_aggregate
from kernelmill.engine.userfunctions import user_function
from kernelmill.engine.writing import write_files

if TYPE_CHECKING:
    from kernelmill.engine.cachedframe import CachedFrame

P = ParamSpec("P")
T = TypeVar("T")


class LazyFrame(RowVerbs):
    """A plan that has not run. Made by `scan_text`, `scan_parquet`, `from_arrow` and its own verbs."""

    __slots__ = ("_plan",)

    def __init__(self, plan: LogicalPlan) -> None:
        self._plan = plan

    def _over(self, plan: LogicalPlan) -> LazyFrame:
        return LazyFrame(plan)

    # Verbs -----------------------------------------------------------------------------------------------------------

    def select(self, *exprs: Columns, **named: Any) -> LazyFrame:
        """Keep or compute exactly these columns: `select("a", km.col("b") * 2, c=km.col("a") + 1)`.

        Aggregates alone give one row, of all rows: `select(km.len(), km.col("n").sum())`, also if there are none.
        KM0101 for a column that is not there, KM0102 for a type that does not fit, KM0103 for a name twice.
        """
        origin = users_line()
        with located(origin):
            columns = tuple(expand_named(exprs, named))
            if columns and all(contains_aggregate(column.node) for column in columns):
                return LazyFrame(lower_group_by(self._plan, (), columns, origin))
            return LazyFrame(Project(self._plan, columns, origin=origin))

    def with_columns(self, *exprs: Columns, **named: Any) -> LazyFrame:
        """Add columns, or replace those of the same name where they stand; errors as `select`."""
        origin = users_line()
        with located(origin):
            added = expand_named(exprs, named)
            by_name = {column.name: column for column in added}
            if len(by_name) < len(added):  # let the node say which
                LazyFrame(Project(self._plan, tuple(added), origin=origin))
            old = [by_name.pop(name, NamedNode(name, Column(name))) for name in self._plan.schema.names]
            return LazyFrame(Project(self._plan, (*old, *by_name.values()), origin=origin))

    def drop(self, *columns: Columns, strict: bool = True) -> LazyFrame:
        """Leave these columns out. KM0101 for one that is not there, unless `strict=False`."""
        origin = users_line()
        with located(origin):
            names = {_plain_name(column, "drop") for column in expand(columns)}
            if flag("strict", strict):
                for name in sorted(names):
                    find(self._plan.schema, name, where=origin)
            left = [name for name in self._plan.schema.names if name not in names]
            return LazyFrame(Project(self._plan, keep(self._plan.schema, left), origin=origin))

    def rename(self, mapping: Any, *, strict: bool = True) -> LazyFrame:
        """Give columns new names: `rename({"old": "new"})`. KM0101 for one that is not there, unless `strict=False`."""
        origin = users_line()
        with located(origin):
            if not isinstance(mapping, Mapping):
                raise error(Code.BAD_SETTING, "rename takes a mapping", hint='rename({"old": "new"})')
            if flag("strict", strict):
                for name in mapping:
                    find(self._plan.schema, name, where=origin)
            names = self._plan.schema.names
            new = {name: column_name(mapping[name]) if name in mapping else name for name in names}
            columns = tuple(NamedNode(new[name], Column(name)) for name in new)
            return LazyFrame(Project(self._plan, columns, origin=origin))

    def cast(self, dtypes: Any, *, strict: bool = True) -> LazyFrame:
        """Change types: one for all columns, or `{column: type}`. A value that does not fit: KM0207, or null.

        A type is a pyarrow type, its name, or one of Python's int float str bool bytes date datetime.
        """
        origin = users_line()
        with located(origin):
            schema = self._plan.schema
            wanted = dict(dtypes) if isinstance(dtypes, Mapping) else dict.fromkeys(schema.names, dtypes)
            types = {find(schema, name, where=origin).name: parse_dtype(kind) for name, kind in wanted.items()}
            flag("strict", strict)
            columns = tuple(
                NamedNode(name, Cast(Column(name), types[name], strict) if name in types else Column(name))
                for name in schema.names
            )
            return LazyFrame(Project(self._plan, columns, origin=origin))

    def filter(self, *conditions: Any, **equals: Any) -> LazyFrame:
        """Keep the rows for which all conditions hold: `filter(km.col("n") > 3, country="DE")`. Null drops the row."""
        origin = users_line()
        with located(origin):
            plan = self._plan
            for predicate in predicates(conditions, equals):
                plan = Filter(plan, predicate, origin=origin)
            return LazyFrame(plan)

    def explode(self, columns: str | Expr, *, empty_as_null: bool = False, keep_nulls: bool = True) -> LazyFrame:
        """Give each element of a list its own row. An empty list gives no row, a null list one null row.

        KM0102 for a column that holds no lists.
        """
        origin = users_line()
        with located(origin):
            nodes = expand((columns,))
            if len(nodes) != 1:
                raise error(Code.BAD_SETTING, "explode takes one column", hint="explode one after the other")
            name = _plain_name(nodes[0], "explode")
            flags = flag("empty_as_null", empty_as_null), flag("keep_nulls", keep_nulls)
            return LazyFrame(Explode(self._plan, name, *flags, origin=origin))

    def group_by(self, *keys: Columns, **named: Any) -> GroupBy:
        """Group rows by keys; `.agg(...)` or `.len()` follows. Nulls are one group, NaN equals NaN, -0.0 equals 0.0."""
        origin = users_line()
        with located(origin):
            columns = tuple(expand_named(keys, named))
            if not columns:
                hint = 'name it: group_by("word"); all rows at once: select(km.len())'
                raise error(Code.BAD_SETTING, "group_by needs at least one key", hint=hint)
            return GroupBy(self._plan, columns, origin, LazyFrame)

    def sort(
        self,
        by: Columns,
        *more: Columns,
        descending: bool | list[bool] = False,
        nulls_last: bool | list[bool] = False,
    ) -> LazyFrame:
        """Order all rows, stably; nulls come first unless `nulls_last`, NaN after all numbers. Lists: one a key."""
        origin = users_line()
        with located(origin):
            columns = expand((by, *more))
            down = _for_each("descending", descending, len(columns))
            last = _for_each("nulls_last", nulls_last, len(columns))
            return LazyFrame(lower_sort(self._plan, columns, down, last, None, origin))

    def top_k(self, k: int, *, by: Columns, reverse: bool | list[bool] = False) -> LazyFrame:
        """The `k` rows with the largest values of `by`, largest first; the smallest if `reverse`. Nulls come last."""
        origin = users_line()
        with located(origin):
            columns = expand((by,))
            down = tuple(not up for up in _for_each("reverse", reverse, len(columns)))
            last = (True,) * len(columns)
            return LazyFrame(lower_sort(self._plan, columns, down, last, whole_number("k", k, 0), origin))

    def map_batches(self, function: Callable[[pa.RecordBatch], Any], *, schema: Any = None) -> LazyFrame:
        """Call `function` with each pyarrow.RecordBatch (some 64 Ki rows): it returns one, or a Table, of `schema`.

        It must work row by row, for where batches end is free, and it runs in several threads. schema: `{"n": "int64"}`
        or a pyarrow.Schema; none: the same columns. KM0301 if it raises, or returns other columns.
        """
        origin = users_line()
        with located(origin):
            called = user_function(function, "map_batches", positional=1)
            return LazyFrame(MapBatches(self._plan, called, columns_given(schema, self._plan.schema), origin=origin))

    def pipe(self, function: Callable[Concatenate[LazyFrame, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call `function(frame, *args, **kwargs)`: for own verbs in a chain."""
        return function(self, *args, **kwargs)

    # What it is ------------------------------------------------------------------------------------------------------

    @property
    def schema(self) -> Schema:
        """Names and types of the columns, known without running."""
        return Schema.of(self._plan.schema)

    @property
    def columns(self) -> list[str]:
        """Names of the columns."""
        return list(self._plan.schema.names)

    def collect_schema(self) -> Schema:
        """The schema, by the name that other libraries use."""
        return self.schema

    def explain(self, *, optimized: bool = True, format: str = "text") -> str:
        """Show what would run, without running it: the plan and its stages. `format` is text, json or mermaid."""
        one_of("format", format, ("text", "json", "mermaid"))
        settings = resolve()
        return explain_plan(
            self._plan,
            optimized=flag("optimized", optimized),
            format=format,
            split_bytes=settings.split_bytes,
            partitions=settings.partitions,
        )

    def __repr__(self) -> str:
        columns = ", ".join(f"{item.name}: {item.type}" for item in self._plan.schema)
        return f"LazyFrame [{columns}]\n{plan_text(self._plan)}"

    def _repr_html_(self) -> str:
        return plan_html(self._plan.schema, plan_text(self._plan))

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("_"):  # copy, pickle and notebooks ask for names that are not there
            raise AttributeError(name)
        known = [verb for verb in dir(type(self)) if not verb.startswith("_")]
        raise unknown_name("LazyFrame", name, known, FOREIGN_VERBS)

    def __bool__(self) -> NoReturn:
        what, hint = "a LazyFrame has no truth value: it has not run", "len(frame.collect()) > 0 runs it"
        raise error(Code.AMBIGUOUS_TRUTH, what, where=users_line(), hint=hint)

    # Running ---------------------------------------------------------------------------------------------------------

    def collect(
        self,
        *,
        progress: Progress = None,
        on_bad: str | None = None,
        max_rejects: int | None = None,
        **settings: Any,
    ) -> DataFrame:
        """Run, and hold the result in memory. `settings` are those of `km.configure`, for this run alone.

        KM0401 if the result exceeds the memory budget: use `sink_parquet`.
        """
        resolved, on_event = run_settings(progress, on_bad=on_bad, max_rejects=max_rejects, **settings)
        table, summary = run_collect(self._job(resolved), resolved, on_event)
        return DataFrame(table, counters=summary.counters, rejects=summary.rejects)

    def cache(
        self,
        *,
        progress: Progress = None,
        on_bad: str | None = None,
        max_rejects: int | None = None,
        **settings: Any,
    ) -> CachedFrame:
        """Run now, and hold the rows in this process for any number of plans: a loop's input, a job's output.

        At most a quarter of memory= holds cached rows, the others are on disk in spill_dir. Plans over them give the
        bytes that they would give without. Freed by `close()`, `with`, or once no plan uses them. Options as `collect`.
        """
        resolved, on_event = run_settings(progress, on_bad=on_bad, max_rejects=max_rejects, **settings)
        rows = run_cached(self._job(resolved), resolved, on_event)
        # it imports this module at its head; the way back is taken when it is there
        made: type[CachedFrame] = importlib.import_module("kernelmill.engine.cachedframe").CachedFrame
        return made(rows, self._plan.schema, unique_columns(self._plan))

    def collect_batches(
        self,
        *,
        batch_rows: int = 65_536,
        progress: Progress = None,
        on_bad: str | None = None,
        max_rejects: int | None = None,
        **settings: Any,
    ) -> Iterator[pa.RecordBatch]:
        """Run, and give record batches of at most `batch_rows` rows as they are ready; closing the iterator cancels."""
        resolved, on_event = run_settings(progress, on_bad=on_bad, max_rejects=max_rejects, **settings)
        return run_batches(self._job(resolved), resolved, on_event, batch_rows)

    def sink_parquet(
        self,
        path: Any,
        *,
        mode: str = "error",
        partition_by: str | Sequence[str] | None = None,
        files: int | None = None,
        max_rows_per_file: int | None = None,
        target_file_bytes: int | str | None = None,
        compression: str = "zstd",
        compression_level: int | None = None,
        row_group_rows: int = 1_048_576,
        statistics: bool = True,
        on_bad: str | None = None,
        max_rejects: int | None = None,
        job_id: str | None = None,
        progress: Progress = None,
        **settings: Any,
    ) -> JobResult:
        """Run, and write Parquet: one file if `path` ends in `.parquet`, else a folder of part files and a manifest.

        All or nothing: the output appears when the job is done. mode: error (KM0501 if it is there) or overwrite.
        files: exactly so many part files, which share the rows out evenly in their order, or have the rows of as many
        tasks if the last stage has so many; some are empty if there are fewer rows. partition_by: columns whose values
        become folders, `out/year=2020/city=Oslo/part-00000.parquet`; the files are without them, and rows keep their
        order in each folder. max_rows_per_file, target_file_bytes ("128MB"): a task's rows go to several files, none of
        more rows, or each of about so many bytes. compression: zstd, snappy, lz4, gzip or none; compression_level:
        zstd's 1 to 22, gzip's 1 to 9. row_group_rows: at most so many rows a row group. statistics: least and greatest
        values in the footers, by which readers leave row groups out. on_bad: error, or reject, with at most max_rejects
        (KM0503).
        job_id: on a cluster, your name for the job: run again, by any process, it finds the one that runs or has run.
        Further `settings` are those of `km.configure`, for this run alone: threads=, memory=, partitions=...
        """
        return write_files(
            self._plan,
            path,
            mode=mode,
            partition_by=partition_by,
            files=files,
            max_rows_per_file=max_rows_per_file,
            target_file_bytes=target_file_bytes,
            compression=compression,
            compression_level=compression_level,
            row_group_rows=row_group_rows,
            statistics=statistics,
            on_bad=on_bad,
            max_rejects=max_rejects,
            job_id=job_id,
            progress=progress,
            **settings,
        )

    def sink(
        self,
        sink: DataSink,
        *,
        on_bad: str | None = None,
        max_rejects: int | None = None,
        progress: Progress = None,
        **settings: Any,
    ) -> JobResult:
        """Run, and give the rows to an object of yours: begin(schema, parts), write(part, batches), commit(receipts).

        write is called in several threads, once a part or again if its task is; commit once, after all of them; abort()
        instead of it if anything fails. See `DataSink` for what each owes. Options as `sink_parquet`; KM0107 for an
        object that is no sink, KM0301 for what it raises.
        """
        origin = users_line()
        with located(origin):
            held = HeldSink(sink)
        resolved, on_event = run_settings(progress, on_bad=on_bad, max_rejects=max_rejects, **settings)
        plan = SinkRows(self._plan, held.label, origin=origin)
        job = plan_job(plan, split_bytes=resolved.split_bytes, partitions=resolved.partitions)
        return run_to_sink(job, held, resolved, on_event)

    def show(self, n: int = 10) -> None:
        """Run for the first `n` rows and print them as a table."""
        whole_number("n", n, 0)
        some = self.head(n + 1).collect()
        print(some.head(n).text(more=some.height > n))  # noqa: T201 -- printing is what show is for

    def __arrow_c_schema__(self) -> object:
        return self._plan.schema.__arrow_c_schema__()

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        batches = self.collect_batches()
        reader = pa.RecordBatchReader.from_batches(self._plan.schema, batches)
        return reader.__arrow_c_stream__(requested_schema)  # type: ignore[no-untyped-call]

    def _job(self, settings: Settings) -> JobPlan:
        return plan_job(self._plan, split_bytes=settings.split_bytes, partitions=settings.partitions)


def _plain_name(column: NamedNode, verb: str) -> str:
    if column.node != Column(column.name):
        raise error(Code.BAD_SETTING, f"{verb} takes names of columns", hint=f'{verb}("name")')
    return column.name


def _for_each(name: str, value: bool | list[bool] | tuple[bool, ...], columns: int) -> tuple[bool, ...]:
    values = tuple(value) if isinstance(value, list | tuple) else (value,) * columns
    if len(values) != columns:
        what = f"{name} has {len(values)} values for {columns} columns"
        raise error(Code.BAD_SETTING, what, hint="give one for all, or one for each")
    return tuple(flag(name, item) for item in values)
