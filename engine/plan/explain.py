"""Plans as text: the tree of what was asked or optimized, and the stages that it becomes; also JSON and Mermaid."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from kernelmill.engine.nodes import Column, Tokenize
from kernelmill.engine.plan import fileformats, logical, physical, rowlogical, rowsteps, userlogical
from kernelmill.engine.plan.common import Common
from kernelmill.engine.plan.explainrows import node_of_rows, step_of_rows
from kernelmill.engine.plan.joins import Join
from kernelmill.engine.plan.logical import LogicalPlan
from kernelmill.engine.plan.optimizer import map_of, optimize
from kernelmill.engine.plan.physical import AggSpec, NamedNode, Pipeline
from kernelmill.engine.plan.planner import JobPlan, plan_stages
from kernelmill.engine.plan.stages import EdgeKind, Stage
from kernelmill.engine.schema import dtype_text
from kernelmill.engine.sizes import format_bytes
from kernelmill.engine.typing import node_text
from kernelmill.engine.userfunctions import Partitioning, UserFunction

_COLUMNS_SHOWN_MAX = 20
_FORMAT_TITLES: dict[type, str] = {
    fileformats.CsvFormat: "Csv",
    fileformats.JsonFormat: "Ndjson",
    fileformats.IpcFormat: "Ipc",
    fileformats.RecordFormat: "Records",
}


def explain_plan(plan: LogicalPlan, *, optimized: bool, format: str, split_bytes: int, partitions: int | None) -> str:
    """The plan, as asked or as it would run, and its stages. `format` is text, json or mermaid."""
    shown = optimize(plan) if optimized else plan
    job = plan_stages(shown, split_bytes=split_bytes, partitions=partitions)
    if format == "json":
        tree = {"optimized": optimized, "plan": plan_tree(shown), "stages": [_stage_tree(job, s) for s in _stages(job)]}
        return msgspec.json.format(msgspec.json.encode(tree), indent=2).decode()
    if format == "mermaid":
        return _mermaid(job)
    title = "plan, optimized" if optimized else "plan, as asked"
    return f"{title}\n{_indented(plan_text(shown))}\n\nstages\n{_indented(stages_text(job))}"


def plan_text(plan: LogicalPlan, *, origins: bool = True) -> str:
    """The plan as an indented tree, what happens last on top; `origins` adds the users' file and line."""
    lines = list(_plan_lines(plan, 0, set()))
    width = max(len(text) for text, origin in lines) + 2
    width = min(width, 100)
    return "\n".join(f"{text:<{width}}  {origin}" if origins and origin else text for text, origin in lines)


def _plan_lines(plan: LogicalPlan, depth: int, shown: set[int]) -> Iterator[tuple[str, str]]:
    """The text of each node and its origin; of a sink with several outputs, what makes each, then what all share.

    What makes common rows comes under the first that reads them; `shown` are the numbers of those that have come.
    """
    yield "  " * depth + node_line(plan), plan.origin
    if isinstance(plan, logical.SinkParquet) and plan.named:
        for name, made in (("", plan.input), *plan.named):
            yield "  " * (depth + 1) + (f"output {name}" if name else "main output"), ""
            yield from (
                (f"{'  ' * (depth + 2 + n)}{node_line(node)}", node.origin) for n, node in enumerate(_steps(made))
            )
        yield from _plan_lines(map_of(plan.input), depth + 1, shown)
    elif isinstance(plan, Common) and plan.made is not None and plan.number not in shown:
        shown.add(plan.number)
        yield from _plan_lines(plan.made, depth + 1, shown)
    else:
        for below in plan.inputs:
            yield from _plan_lines(below, depth + 1, shown)


def _steps(plan: LogicalPlan) -> Iterator[LogicalPlan]:
    """The nodes of an output down to the map, which the outputs share."""
    while not isinstance(plan, userlogical.MapOutput):
        yield plan
        plan = plan.inputs[0]


def plan_tree(plan: LogicalPlan) -> dict[str, Any]:
    """The plan as nested plain values."""
    return {
        "node": type(plan).__name__,
        "text": node_line(plan),
        "origin": plan.origin,
        "schema": {item.name: dtype_text(item.type) for item in plan.schema},
        "inputs": [plan_tree(below) for below in _below(plan)],
        **({"outputs": {name: plan_tree(made) for name, made in named}} if (named := _named(plan)) else {}),
    }


def _below(plan: LogicalPlan) -> tuple[LogicalPlan, ...]:
    return (plan.made,) if isinstance(plan, Common) and plan.made is not None else plan.inputs


def _named(plan: LogicalPlan) -> tuple[tuple[str, LogicalPlan], ...]:
    return plan.named if isinstance(plan, logical.SinkParquet) else ()


def node_line(plan: LogicalPlan) -> str:
    """One node of a plan on one line."""
    match plan:
        case logical.ScanText():
            return f"ScanText {_source(plan.label, plan.files)}: {_fields(plan.schema)}{_text_options(plan.options)}"
        case logical.ScanParquet():
            skip = f", row groups where {node_text(plan.predicate)}" if plan.predicate is not None else ""
            return f"ScanParquet {_source(plan.label, plan.files)}: {_fields(plan.schema)}{skip}"
        case logical.ScanFiles(format=form):
            kind = _FORMAT_TITLES[type(form)]
            return f"Scan{kind} {_source(plan.label, plan.files)}: {_fields(plan.schema)}{_format_options(form)}"
        case logical.ScanTable():
            return f"ScanTable {plan.label}: {_fields(plan.schema)}"
        case logical.ScanSource(source=source):
            return f"ScanSource {source.label}: {_fields(plan.schema)}"
        case Common(number=number):
            return f"Common rows {number}: {_fields(plan.schema)}"
        case logical.Project(columns=columns):
            return f"Project {_columns(columns)}"
        case logical.Filter(predicate=predicate):
            return f"Filter {node_text(predicate)}"
        case logical.Explode():
            return f"Explode {plan.column}{_flags(empty_as_null=plan.empty_as_null, drop_nulls=not plan.keep_nulls)}"
        case logical.Aggregate():
            return f"Aggregate {_by(plan.keys)}: {_aggs(plan.aggs)}{_partitioned(plan.partitioning)}"
        case logical.Sort():
            return f"Sort {_sort(plan.keys)}" if plan.limit is None else f"TopK {plan.limit} by {_sort(plan.keys)}"
        case Join():
            return f"Join {plan.how}{_join_keys(plan)}: {_fields(plan.schema)}"
        case logical.Limit(rows=rows):
            return f"Limit {rows}"
        case logical.SinkParquet():
            several = "folders" if plan.named else "folder" if plan.files is None else f"{plan.files} files"
            several = f"folders by {', '.join(plan.partition_by)}" if plan.partition_by else several
            shape = "one file" if plan.single_file else several
            return f"SinkParquet {plan.path} ({shape}, {plan.compression})"
        case logical.SinkRows(label=label):
            return f"SinkRows {label}"
        case logical.CountTokens():
            return f"CountTokens {plan.key_field.name}={node_text(plan.tokens)}, {plan.name}=len()"
        case logical.TokenizeExplode():
            parts = [*plan.others, NamedNode(plan.name, plan.tokens)]
            return f"TokenizeExplode {_columns([part for name in plan.names for part in parts if part.name == name])}"
        case userlogical.MapRecords(function=function):
            title = f" ({plan.title})" if plan.title != function.name else ""
            also = "".join(f"; to {name}: {_fields(pairs.schema)}" for name, pairs in plan.named)
            return f"MapRecords {_called(function)}: {_fields(plan.schema)}{also}{title}"
        case userlogical.MapOutput(name=name):
            return f"MapOutput {name}" if name else "MapOutput, the main one"
        case userlogical.CombineRows(function=function):
            by = ", ".join(plan.pairs.keys)
            return f"CombineRows by {by}: {plan.kind if function is None else _called(function)}"
        case userlogical.CombineByKey(function=function):
            by = ", ".join(plan.pairs.keys)
            how = _partitioned(plan.partitioning)
            return f"CombineByKey by {by}: {_called(function)}: {_fields(plan.schema)}{how}"
        case userlogical.Partition():
            return f"Partition by {', '.join(plan.keys)}{_partitioned(plan.partitioning)}"
        case userlogical.SortPartitions(keys=keys) | userlogical.GatherGroups(keys=keys):
            return f"{type(plan).__name__} by {', '.join(keys)}"
        case userlogical.ReduceGroups(function=function):
            made = plan.kind if function is None else _called(function)
            return f"ReduceGroups by {', '.join(plan.pairs.keys)}: {made}: {_fields(plan.schema)}"
        case userlogical.MapBatches(function=function):
            return f"MapBatches {_called(function)}: {_fields(plan.schema)}"
        case userlogical.MapColumn(function=function, column=column, made=made):
            return f"MapColumn {_called(function)} of {column}: {_fields(pa.schema([made]))}"
        case userlogical.MapGroups(function=function):
            return f"MapGroups by {', '.join(plan.keys)}: {_called(function)}: {_fields(plan.schema)}"
        case _:
            return node_of_rows(plan) if isinstance(plan, rowlogical.RowNode) else type(plan).__name__


def stages_text(job: JobPlan) -> str:
    """The stages in the order in which they run, each with its operators."""
    lines: list[str] = []
    for stage in _stages(job):
        pipeline = job.pipelines[stage.number]
        lines.append(f"stage {stage.number}: {stage.label}, {_tasks(stage)}{_reads(stage)}")
        lines += [f"  {operator_line(operator)}" for operator in _operators(pipeline)]
        lines[-1] += f" -> {stage.partitions} partitions" if stage.partitions > 1 else ""
        for number, branch in enumerate(pipeline.branches, 1):
            operators = "; ".join(operator_line(operator) for operator in (*branch.steps, branch.end))
            lines.append(f"  output {number}: {operators}")
            lines[-1] += f" -> {branch.partitions} partitions" if branch.partitions > 1 else ""
    return "\n".join(lines)


def operator_line(operator: physical.Source | physical.Step | physical.End) -> str:
    """One operator of a stage on one line."""
    match operator:
        case physical.ReadText():
            return f"ReadText {_fields(operator.schema)}{_text_options(operator.options)}"
        case physical.CountTokens():
            tokens = Tokenize(Column("bytes"), operator.mode, operator.lowercase, 1, operator.separators)
            return f"CountTokens {operator.key}={node_text(tokens)}: {_aggs(operator.aggs)}"
        case physical.ReadParquet():
            as_codes = ", ".join(operator.dictionary_columns)
            return f"ReadParquet {_fields(operator.schema)}{f', as dictionaries: {as_codes}' if as_codes else ''}"
        case physical.ReadFiles(format=form):
            return f"Read{_FORMAT_TITLES[type(form)]} {_fields(operator.schema)}{_format_options(form)}"
        case physical.ReadTable():
            return f"ReadTable {_fields(operator.schema)}"
        case physical.ReadSource():
            return f"ReadSource {_fields(operator.schema)}"
        case physical.Filter(predicate=predicate):
            return f"Filter {node_text(predicate)}"
        case physical.Project(columns=columns):
            return f"Project {_columns(columns)}"
        case physical.Explode():
            return f"Explode {operator.column}"
        case physical.TokenizeExplode():
            return f"TokenizeExplode {operator.name}={node_text(operator.tokens)}, {_columns(operator.others)}"
        case physical.PartialAggregate() | physical.MergeAggregate():
            return f"{type(operator).__name__} {_by(operator.keys)}: {_aggs(operator.aggs)}"
        case physical.Sort():
            return f"Sort {_sort(operator.keys)}{'' if operator.limit is None else f', first {operator.limit}'}"
        case physical.Limit(rows=rows):
            return f"Limit {rows}"
        case physical.MapRecords(named=named) if named:
            also = "".join(f"; to {pairs.name}: {_fields(pairs.schema)}" for pairs in named)
            return f"MapRecords {_called(operator.call)}: {_fields(operator.schema)}{also}"
        case physical.Join():
            pairs = zip(operator.probe_keys, operator.build_keys, strict=True)
            on = ", ".join(probe if probe == build else f"{probe}={build}" for probe, build in pairs)
            keys = f" on {on}" if on else ", all pairs" if operator.asof is None else ""
            keys += "" if operator.asof is None else _asof_text(operator.asof)
            what = f"{operator.how}{keys}, build side {operator.build_name}"
            return f"Join {what}: {_fields(operator.schema)}"
        case physical.SampleKeys(keys=keys, rows=rows):
            return f"SampleKeys {', '.join(keys)}: up to {rows:,} rows a task"
        case physical.PickSplitters(keys=by):
            return f"PickSplitters {_sort(by)}: for {operator.partitions:,} partitions"
        case physical.MapRecords() | physical.MapBatches():
            return f"{type(operator).__name__} {_called(operator.call)}: {_fields(operator.schema)}"
        case physical.MapColumn(column=column, schema=schema):
            return (
                f"MapColumn {_called(operator.call)} of {column}: {_fields(pa.schema([schema.field(len(schema) - 1)]))}"
            )
        case physical.CombineRows():
            return f"CombineRows by {', '.join(operator.keys)}: {_called(operator.call)}"
        case physical.MergeCombined(combined=made_by):
            called = f"{_called(made_by.call)}: {_fields(operator.schema)}"
            return f"MergeCombined by {', '.join(operator.keys)}: {called}"
        case physical.GatherGroups(keys=keys):
            return f"GatherGroups by {', '.join(keys)}"
        case physical.ReduceGroups() | physical.MapGroups():
            made = _called(operator.call)
            if isinstance(operator, physical.ReduceGroups) and operator.kind != "function":
                made = f"{operator.kind} {made}".rstrip()
            return f"{type(operator).__name__} by {', '.join(operator.keys)}: {made}: {_fields(operator.schema)}"
        case physical.ToBlocks(keys=keys, partition=None):
            return f"ToBlocks{f' by hash of {chr(44).join(keys)}' if keys else ''}"
        case physical.ToBlocks(keys=keys, partition=call):
            return f"ToBlocks by {_called(call)} of {', '.join(keys)}"
        case physical.ToShares(keys=keys, shares=shares, is_copied=copied):
            return f"ToShares by hash of {', '.join(keys)}, {'to all' if copied else 'to one'} of {shares}"
        case physical.ToRanges(keys=by):
            return f"ToRanges {_sort(by)}"
        case physical.ToArrow():
            return "ToArrow"
        case physical.ToSink():
            return "ToSink"
        case rowsteps.ToEqualParts():
            return "ToEqualParts"
        case rowsteps.ToShare():
            return f"ToShare of {operator.tasks:,} tasks from {operator.first:,} on"
        case _ if isinstance(operator, rowsteps.RowStep):
            return step_of_rows(operator)
        case physical.EncodeRowGroups(to=to):
            return f"EncodeRowGroups {to.compression}, of {to.row_group_rows:,} rows"
        case physical.ToOneParquet():
            return "ToOneParquet"
        case physical.ToParquet():
            cut = _files_cut(operator) if isinstance(operator, physical.ToParquetFiles) else ""
            return f"ToParquet {operator.compression}, row groups of {operator.row_group_rows:,}{cut}"


def _files_cut(end: physical.ToParquetFiles) -> str:
    """Where files begin and end."""
    by = f", a folder for each {', '.join(end.folders.names)}" if len(end.folders) else ""
    rows = f", at most {end.file_rows_max:,} rows a file" if end.file_rows_max is not None else ""
    size = f", about {format_bytes(end.file_bytes)} a file" if end.file_bytes is not None else ""
    return by + rows + size


def _stages(job: JobPlan) -> Sequence[Stage]:
    return job.graph.stages


def _operators(pipeline: Pipeline) -> list[physical.Source | physical.Step | physical.End]:
    source = [] if pipeline.source is None else [pipeline.source]
    return [*source, *pipeline.steps, pipeline.end]


def _stage_tree(job: JobPlan, stage: Stage) -> dict[str, Any]:
    return {
        "number": stage.number,
        "label": stage.label,
        "tasks": stage.tasks,
        "partitions": stage.partitions,
        "inputs": [{"stage": edge.source, "kind": edge.kind.value} for edge in stage.inputs],
        "input_bytes": sum(split.size_bytes for split in stage.splits),
        "operators": [operator_line(operator) for operator in _operators(job.pipelines[stage.number])],
    }


def _mermaid(job: JobPlan) -> str:
    lines = ["flowchart TD"]
    for stage in _stages(job):
        rows = [f"stage {stage.number}: {stage.label}, {_tasks(stage)}"]
        rows += [operator_line(operator) for operator in _operators(job.pipelines[stage.number])]
        text = "<br/>".join(row.replace('"', "#quot;").replace("<", "#lt;").replace(">", "#gt;") for row in rows)
        lines.append(f'  s{stage.number}["{text}"]')
        lines += [f"  s{edge.source} -->|{edge.kind.value}| s{stage.number}" for edge in stage.inputs]
    return "\n".join(lines)


def _tasks(stage: Stage) -> str:
    size = sum(split.size_bytes for split in stage.splits)
    tasks = f"{stage.tasks} task" + ("s" if stage.tasks != 1 else "")
    return f"{tasks}, {format_bytes(size)}" if stage.splits else tasks


def _reads(stage: Stage) -> str:
    words = {
        EdgeKind.GATHER: "all of",
        EdgeKind.HASH: "by hash from",
        EdgeKind.RANGE: "by range from",
        EdgeKind.ONE_TO_ONE: "its task of",
        EdgeKind.BROADCAST: "for every task",
    }
    return "".join(
        f", reads {words.get(edge.kind, edge.kind.value)} stage {edge.source}"
        + (f", output {edge.output}" if edge.output else "")
        for edge in stage.inputs
    )


def _asof_text(asof: physical.Asof) -> str:
    on = asof.probe_on if asof.probe_on == asof.build_on else f"{asof.probe_on}={asof.build_on}"
    return f", {asof.strategy} by {on}" + (f", at most {asof.tolerance} off" if asof.tolerance is not None else "")


def _join_keys(plan: Join) -> str:
    pairs = zip(plan.left_on, plan.right_on, strict=True)
    on = ", ".join(left if left == right else f"{left}={right}" for left, right in pairs)
    more = "" if plan.validate == "m:m" else f", {plan.validate}"
    if plan.asof is not None:
        more = _asof_text(plan.asof)
    return (f" on {on}" if on else "") + more + (", nulls equal" if plan.nulls_equal else "")


def _source(label: str, files: Sequence[object]) -> str:
    return label if len(files) == 1 else f"{label} ({len(files)} files)"


def _fields(schema: pa.Schema) -> str:
    shown = [f"{item.name}: {dtype_text(item.type)}" for item in schema][:_COLUMNS_SHOWN_MAX]
    more = [f"{len(schema) - len(shown)} more"] if len(schema) > len(shown) else []
    return ", ".join([*shown, *more])


def _columns(columns: Sequence[NamedNode]) -> str:
    shown = [
        column.name if column.node == Column(column.name) else f"{column.name}={node_text(column.node)}"
        for column in columns[:_COLUMNS_SHOWN_MAX]
    ]
    more = [f"{len(columns) - len(shown)} more"] if len(columns) > len(shown) else []
    return ", ".join([*shown, *more])


def _aggs(aggs: Sequence[AggSpec]) -> str:
    return ", ".join(map(_agg, aggs)) or "distinct"


def _agg(agg: AggSpec) -> str:
    inner = [agg.column or "", *agg.more, *(f"{name}={value}" for name, value in agg.options)]
    where = f" where {agg.where}" if agg.where is not None else ""
    return f"{agg.name}={agg.kind}({', '.join(inner)}){where}"


def _by(keys: Sequence[str]) -> str:
    return f"by {', '.join(keys)}" if keys else "of all rows"


def _sort(keys: Sequence[tuple[str, bool, bool]]) -> str:
    words = [f"{name}{' descending' if down else ''}{' nulls last' if last else ''}" for name, down, last in keys]
    return ", ".join(words)


def _text_options(options: fileformats.TextOptions) -> str:
    """What differs from the usual."""
    usual = fileformats.TextOptions()
    told = [
        f"{name}={getattr(options, name)!r}"
        for name in ("invalid", "separator", "whole_file", "encoding")
        if getattr(options, name) != getattr(usual, name)
    ]
    return f" ({', '.join(told)})" if told else ""


def _format_options(form: fileformats.Format) -> str:
    match form:
        case fileformats.CsvFormat(is_cut=False):
            return " (not splittable: newlines in values)"
        case fileformats.RecordFormat(width=width):
            return f" (width={width})"
        case _:
            return ""


def _called(function: UserFunction | physical.UserCall | None) -> str:
    if function is None:
        return ""
    called = f"{function.name} at {function.where}" if function.where else function.name
    compiled = function.is_compiled if isinstance(function, UserFunction) else None
    if compiled is None:
        return called
    return f"{called} ({'compiled' if compiled else 'plain Python'})"


def _partitioned(how: Partitioning) -> str:
    function = "" if how.function is None else f", partitioned by {_called(how.function)}"
    function += ", by range" if how.by_range else ""
    return function + ("" if how.count is None else f", {how.count} partitions")


def _flags(**flags: bool) -> str:
    told = [name for name, is_set in flags.items() if is_set]
    return f" ({', '.join(told)})" if told else ""


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())
