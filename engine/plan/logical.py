"""What the user asked, as frozen nodes, each checked when it is built: a wrong plan cannot exist.

Schemas are derived. Nodes compare by identity: a rule that changes nothing returns the node it was given.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import pyarrow as pa
from msgspec.structs import replace

from kernelmill.engine.aggregates import result_of
from kernelmill.engine.errors import Code, error
from kernelmill.engine.nodes import Column, Node, Tokenize
from kernelmill.engine.origin import located
from kernelmill.engine.plan.fileformats import NO_PATH_COLUMNS, Format, PathColumns, TextOptions
from kernelmill.engine.plan.partial import finished_schema
from kernelmill.engine.plan.physical import AggSpec, NamedNode
from kernelmill.engine.plan.valuekinds import folder_type, is_list, is_storable, may_be_grouped
from kernelmill.engine.schema import find
from kernelmill.engine.sources import HeldSource
from kernelmill.engine.splits import FileStamp
from kernelmill.engine.typing import contains_aggregate, node_text, type_of
from kernelmill.engine.userfunctions import Partitioning

if TYPE_CHECKING:
    from kernelmill.engine.io.many_footers import FileFacts  # the type alone: text plans need no Parquet reader

P = TypeVar("P", bound="LogicalPlan")

DEPTH_MAX = 300
"""Nodes of a plan: planning goes a call or two down at each, and Python allows 1000."""


class LogicalPlan(msgspec.Struct, frozen=True, eq=False, dict=True, kw_only=True):
    """A node of the plan; `origin` is the user's "file.py:12" that asked for it.

    A Struct, for Python takes half a millisecond to make a dataclass, and every job waits for all of these.
    """

    origin: str = ""

    def __post_init__(self) -> None:
        with located(self.origin):
            if self.depth > DEPTH_MAX:
                what = f"a plan has more than {DEPTH_MAX} verbs one upon another"
                raise error(Code.BAD_SETTING, what, hint="collect() on the way and go on with .lazy()")
            self.schema  # noqa: B018 -- deriving the schema is the check

    @property
    def inputs(self) -> tuple[LogicalPlan, ...]:
        """The nodes this one reads, none for a scan."""
        below = getattr(self, "input", None)
        return () if below is None else (below,)

    def over(self: P, inputs: tuple[LogicalPlan, ...]) -> P:
        """The same node over other inputs, in the order of `inputs`; a node of several inputs has its own."""
        return replace(self, input=inputs[0])

    @cached_property
    def depth(self) -> int:
        """How many nodes there are down to the scan, this one included."""
        return 1 + max((below.depth for below in self.inputs), default=0)

    @cached_property
    def schema(self) -> pa.Schema:
        """The columns of the rows that come out."""
        return self._derive()

    def _derive(self) -> pa.Schema:
        raise error(Code.INTERNAL, f"{type(self).__name__} derives no schema")


def with_inputs(node: P, inputs: tuple[LogicalPlan, ...]) -> P:
    """`node` over other inputs; the node itself if these are what it has."""
    if all(new is old for new, old in zip(inputs, node.inputs, strict=True)):
        return node
    return node.over(inputs)


def with_input(node: P, below: LogicalPlan) -> P:
    """`node`, which has one input, over another; the node itself if that is what it has."""
    return with_inputs(node, (below,))


# Scans ---------------------------------------------------------------------------------------------------------------


class ScanText(LogicalPlan, frozen=True, eq=False):
    """Lines, or whole documents, of text files; `label` is how the user named the source."""

    files: tuple[FileStamp, ...]
    options: TextOptions
    label: str = ""

    @property
    def text_column(self) -> str:
        """`line`, or `text` where a record is a whole file."""
        return "text" if self.options.whole_file else "line"

    def _derive(self) -> pa.Schema:
        text = pa.binary() if self.options.invalid == "binary" else pa.string()
        fields: list[pa.Field[Any]] = [pa.field(self.text_column, text, nullable=False)]
        if self.options.path_column is not None:
            fields.append(pa.field(self.options.path_column, pa.string(), nullable=False))
        if self.options.offset_column is not None:
            fields.append(pa.field(self.options.offset_column, pa.int64(), nullable=False))
        return unique_names(fields)


class ScanParquet(LogicalPlan, frozen=True, eq=False):
    """Columns of Parquet files. `predicate` only serves to skip row groups: a Filter above still tests each row.

    `path_columns` are those of `columns` that are not in the files.
    """

    files: tuple[FileStamp, ...]
    infos: tuple[FileFacts, ...]
    columns: pa.Schema
    missing: str = "error"
    predicate: Node | None = None
    label: str = ""
    path_columns: PathColumns = NO_PATH_COLUMNS

    def _derive(self) -> pa.Schema:
        return unique_names(_some(self.columns))


class ScanFiles(LogicalPlan, frozen=True, eq=False):
    """Columns of CSV, JSON, Arrow or fixed-width files; `path_columns` are those of them that are not in the files."""

    files: tuple[FileStamp, ...]
    format: Format
    columns: pa.Schema
    path_columns: PathColumns = NO_PATH_COLUMNS
    label: str = ""

    def _derive(self) -> pa.Schema:
        return unique_names(_some(self.columns))


class ScanTable(LogicalPlan, frozen=True, eq=False):
    """Columns of record batches in memory."""

    batches: tuple[pa.RecordBatch, ...]
    columns: pa.Schema
    label: str = "<memory>"

    def _derive(self) -> pa.Schema:
        return unique_names(_some(self.columns))


class ScanSource(LogicalPlan, frozen=True, eq=False):
    """Columns of what a source reads: rows that are cached, or an object of the user's.

    `unique` names a column whose values are all different, if there is one; is_reduced: the rows are one a group.
    """

    source: HeldSource
    columns: pa.Schema
    unique: tuple[str, ...] = ()
    is_reduced: bool = False

    def _derive(self) -> pa.Schema:
        return unique_names(_some(self.columns))


# Verbs ---------------------------------------------------------------------------------------------------------------


class Project(LogicalPlan, frozen=True, eq=False):
    """Exactly these columns, in this order."""

    input: LogicalPlan
    columns: tuple[NamedNode, ...]

    def _derive(self) -> pa.Schema:
        fields = []
        for column in self.columns:
            hint = "alone it gives one row: select(km.len()); beside other columns use group_by(...).agg(...)"
            _no_aggregate(column.node, "a column is made", hint)
            fields.append(type_of(column.node, self.input.schema).with_name(column.name))
        if not fields:
            raise error(Code.BAD_SETTING, "a frame needs at least one column", hint="name one to keep")
        return unique_names(fields)


class Filter(LogicalPlan, frozen=True, eq=False):
    """The rows for which `predicate` is true; null counts as false, as in SQL."""

    input: LogicalPlan
    predicate: Node

    def _derive(self) -> pa.Schema:
        _no_aggregate(self.predicate, "filter works", "aggregate first, then filter the result")
        kind = type_of(self.predicate, self.input.schema).type
        if not pa.types.is_boolean(kind):
            text = node_text(self.predicate)
            what = f"filter({text}) needs a boolean, this is {kind}"
            raise error(Code.TYPE_MISMATCH, what, hint=f"compare it with something: {text} == ...")
        return self.input.schema


class Explode(LogicalPlan, frozen=True, eq=False):
    """A row for each element of the list in `column`; an empty list gives no row, a null list one null row."""

    input: LogicalPlan
    column: str
    empty_as_null: bool = False
    keep_nulls: bool = True

    def _derive(self) -> pa.Schema:
        schema = self.input.schema
        lists = find(schema, self.column, where=self.origin)
        if not is_list(lists.type):
            what = f"explode({self.column!r}) needs a column of lists, this is {lists.type}"
            raise error(Code.TYPE_MISMATCH, what, hint=f'make lists first, e.g. km.col("{self.column}").str.tokenize()')
        item = lists.type.value_field
        nullable = item.nullable or self.empty_as_null or (self.keep_nulls and lists.nullable)
        index = schema.get_field_index(self.column)
        return schema.set(index, pa.field(self.column, item.type, nullable=nullable))


class Aggregate(LogicalPlan, frozen=True, eq=False):
    """One row for each distinct combination of `keys`: the keys, then one column an aggregate.

    Without keys all rows are one group, and there is one row even if there are none.
    """

    input: LogicalPlan
    keys: tuple[str, ...]
    aggs: tuple[AggSpec, ...]
    partitioning: Partitioning = msgspec.field(default_factory=Partitioning)

    def _derive(self) -> pa.Schema:
        schema = self.input.schema
        for key in self.keys:
            kind = find(schema, key, where=self.origin).type
            if not may_be_grouped(kind):
                what = f"group_by({key!r}): values of type {kind} cannot be a key"
                raise error(Code.TYPE_MISMATCH, what, hint="group by its parts, or cast it")
        for agg in self.aggs:
            for name in agg.columns:
                find(schema, name, where=self.origin)
            if agg.column is not None:
                check_aggregate(agg, schema.field(agg.column).type)
        return unique_names(list(finished_schema(self.keys, self.aggs, schema)))


class Sort(LogicalPlan, frozen=True, eq=False):
    """All rows in order of the keys (column, descending, nulls_last); stable; only the first `limit` if given."""

    input: LogicalPlan
    keys: tuple[tuple[str, bool, bool], ...]
    limit: int | None = None

    def _derive(self) -> pa.Schema:
        if not self.keys:
            raise error(Code.BAD_SETTING, "there is no column to sort by", hint='name one: sort("word")')
        for name, _, _ in self.keys:
            kind = find(self.input.schema, name, where=self.origin).type
            if not may_be_grouped(kind):
                what = f"sort({name!r}): values of type {kind} have no order here"
                raise error(Code.TYPE_MISMATCH, what, hint="sort by one of its parts, or cast it")
        return self.input.schema


class Limit(LogicalPlan, frozen=True, eq=False):
    """The first `rows` rows of the input's order."""

    input: LogicalPlan
    rows: int

    def _derive(self) -> pa.Schema:
        return self.input.schema


class SinkParquet(LogicalPlan, frozen=True, eq=False):
    """Parquet at `path`: one file if `single_file`, else a folder with a part file a task, or `files` of them.

    `named` are further outputs of the same map, each with a folder of its own in that folder. The values of the columns
    `partition_by` are names of folders, and come last in what is read back. `file_rows_max`, `file_bytes`: a task's
    rows go to several files, none of more rows, each of about so many bytes.
    """

    input: LogicalPlan
    path: str
    single_file: bool
    compression: str = "zstd"
    row_group_rows: int = 1_048_576
    statistics: bool = True
    named: tuple[tuple[str, LogicalPlan], ...] = ()
    files: int | None = None
    level: int | None = None
    partition_by: tuple[str, ...] = ()
    file_rows_max: int | None = None
    file_bytes: int | None = None

    @property
    def folders(self) -> pa.Schema:
        """The columns of folders, as they are read back."""
        columns = []
        for name in self.partition_by:
            field = find(self.input.schema, name, where=self.origin)
            kind = folder_type(field.type)
            if kind is None:
                what = f"partition_by={name!r}: values of type {field.type} cannot be names of folders"
                hint = "whole numbers, text, bools, dates and timestamps can: cast it, or make a column of its parts"
                raise error(Code.TYPE_MISMATCH, what, hint=hint)
            columns.append(pa.field(name, kind, field.nullable))
        return pa.schema(columns)

    def _derive(self) -> pa.Schema:
        for item in (column for plan in (self.input, *(plan for _, plan in self.named)) for column in plan.schema):
            if not is_storable(item.type):
                what = f"column {item.name!r} is {item.type}, which Parquet cannot hold"
                raise error(Code.TYPE_MISMATCH, what, hint=f"leave it out, drop({item.name!r}), or take its parts")
        if not self.partition_by:
            return self.input.schema
        folders = self.folders
        kept = [field for field in self.input.schema if field.name not in folders.names]
        if not kept:
            what = "partition_by= names all columns, and the files would have none"
            raise error(Code.BAD_SETTING, what, hint="name fewer, or add a column")
        return pa.schema([*kept, *folders])


class SinkRows(LogicalPlan, frozen=True, eq=False):
    """All rows to a sink of the user's, a part a task; `label` is how messages call it."""

    input: LogicalPlan
    label: str

    def _derive(self) -> pa.Schema:
        return self.input.schema


# Made by the optimizer -----------------------------------------------------------------------------------------------


class CountTokens(LogicalPlan, frozen=True, eq=False):
    """How often each token of a text scan occurs, in one kernel: `key_field`, then the count `name`."""

    input: ScanText
    tokens: Tokenize
    key_field: pa.Field[Any]
    name: str

    def _derive(self) -> pa.Schema:
        return pa.schema([self.key_field, pa.field(self.name, pa.int64(), nullable=False)])


class TokenizeExplode(LogicalPlan, frozen=True, eq=False):
    """Each token of a text column in a row of its own, beside the `others`, columns in the order of `names`.

    A null text gives one null row.
    """

    input: LogicalPlan
    name: str
    tokens: Tokenize
    others: tuple[NamedNode, ...]
    names: tuple[str, ...]

    def _derive(self) -> pa.Schema:
        fields = {other.name: type_of(other.node, self.input.schema).with_name(other.name) for other in self.others}
        lists = type_of(self.tokens, self.input.schema)
        item = lists.type.value_field
        fields[self.name] = pa.field(self.name, item.type, nullable=item.nullable or lists.nullable)
        return pa.schema([fields[name] for name in self.names])


# Helpers -------------------------------------------------------------------------------------------------------------


def keep(schema: pa.Schema, names: Sequence[str]) -> tuple[NamedNode, ...]:
    """The columns of a Project that passes `names` through as they are; KM0101 for one that is not there."""
    return tuple(NamedNode(name, Column(find(schema, name, where="").name)) for name in names)


def _some(columns: pa.Schema) -> list[pa.Field[Any]]:
    if not len(columns):
        what = "the input has no columns, and a frame needs at least one"
        raise error(Code.BAD_SETTING, what, hint="rows without columns can be neither read nor counted here")
    return list(columns)


def unique_names(fields: Sequence[pa.Field[Any]]) -> pa.Schema:
    """The schema of these fields; KM0103 if two have one name."""
    seen: set[str] = set()
    for item in fields:
        if item.name in seen:
            what = f"two columns would be called {item.name!r}"
            raise error(Code.DUPLICATE_COLUMN, what, hint='rename one: km.col("x").alias("y"), or y=km.col("x")')
        seen.add(item.name)
    return pa.schema(list(fields))


def _no_aggregate(node: Node, what_works: str, hint: str) -> None:
    if contains_aggregate(node):
        what = f"{what_works} row by row, {node_text(node)} is an aggregate"
        raise error(Code.TYPE_MISMATCH, what, hint=hint)


def check_aggregate(agg: AggSpec, kind: pa.DataType) -> None:
    """KM0102 where values of type `kind` have no such aggregate in groups, beside what `partial` refuses."""
    if agg.kind in ("min", "max"):
        result_of(agg.kind, [pa.field(repr(agg.column), kind)])
