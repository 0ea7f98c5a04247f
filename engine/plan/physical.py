"""Physical operators: what a stage's tasks do, as values. `exec/` holds an executor for each; `plan/codec` their bytes.

A stage's operators are a source (none where the stage reads blocks), steps in order, and an end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa

from kernelmill.engine.nodes import Node
from kernelmill.engine.plan.fileformats import NO_COLUMNS, NO_PATH_COLUMNS, Format, PathColumns, TextOptions
from kernelmill.engine.plan.rowsteps import RowStep, ToEqualParts, ToShare


class NamedNode(msgspec.Struct, frozen=True, array_like=True):
    """An expression and the name of the column it makes."""

    name: str
    node: Node


class AggSpec(msgspec.Struct, frozen=True, array_like=True):
    """An aggregate over column `column` (None for len) that makes column `name`; the kinds are in `engine/aggregates`.

    more: further columns that it reads; where: a boolean column, rows for which it is not true are left out.
    """

    name: str
    kind: str
    column: str | None
    more: tuple[str, ...] = ()
    options: tuple[tuple[str, str | int | float], ...] = ()
    where: str | None = None

    @property
    def columns(self) -> tuple[str, ...]:
        """All columns that it reads: the one it is over, `more`, and `where`, as far as it has them."""
        return tuple(name for name in (self.column, *self.more, self.where) if name is not None)


HOLDING_KINDS = frozenset({"list", "quantile", "n_unique", "first", "last", "min_by", "max_by", "top_k", "bottom_k"})
"""Aggregates whose states are more than some numbers a group: lists of values, or values of any size."""


def has_lists(aggs: Sequence[AggSpec]) -> bool:
    """Whether states grow with the rows, or with the size of their values."""
    return any(agg.kind in HOLDING_KINDS for agg in aggs)


class UserCall(msgspec.Struct, frozen=True, array_like=True):
    """A user's function: the `number`th of the job's; it stays with the job, only this crosses as bytes."""

    number: int
    role: str
    name: str
    where: str


# Sources -------------------------------------------------------------------------------------------------------------


class ReadText(msgspec.Struct, frozen=True, tag="read_text"):
    """Batches of lines (or whole documents) with the columns of `schema`."""

    options: TextOptions
    schema: pa.Schema


class CountTokens(msgspec.Struct, frozen=True, tag="count_tokens"):
    """Read text, tokenize, hash and count in one kernel: partial rows (key, count). Tokens are never materialised.

    `names` are the output names of the counts, one partial column serves them all.
    """

    text: TextOptions
    mode: str
    lowercase: bool
    separators: bytes
    key: str
    aggs: tuple[AggSpec, ...]


class ReadParquet(msgspec.Struct, frozen=True, tag="read_parquet"):
    """The columns of `schema` from row groups; `missing` says what a file without one of them gives: error or null.

    `path_columns` are not in the files.

    `dictionary_columns` are text columns that only serve as keys, are only tested, or go on into a Parquet file as they
    are: they are best read as dictionaries.
    """

    schema: pa.Schema
    missing: str = "error"
    dictionary_columns: tuple[str, ...] = ()
    path_columns: PathColumns = NO_PATH_COLUMNS


class ReadFiles(msgspec.Struct, frozen=True, tag="read_files"):
    """The columns of `schema` from files of `format`, but for `path_columns`, which are not in the files."""

    format: Format
    schema: pa.Schema
    path_columns: PathColumns = NO_PATH_COLUMNS


class ReadTable(msgspec.Struct, frozen=True, tag="read_table"):
    """Record batches of a table that the runner holds."""

    schema: pa.Schema


class ReadSource(msgspec.Struct, frozen=True, tag="read_source"):
    """The columns of `schema` from a source that the runner holds: rows that are cached, or an object of the user's."""

    schema: pa.Schema


# Steps ---------------------------------------------------------------------------------------------------------------


class Filter(msgspec.Struct, frozen=True, tag="filter"):
    """The rows for which `predicate` is true; null counts as false."""

    predicate: Node


class Project(msgspec.Struct, frozen=True, tag="project"):
    """Exactly these columns, in this order."""

    columns: tuple[NamedNode, ...]


class Explode(msgspec.Struct, frozen=True, tag="explode"):
    """A row for each element of the list in `column`; an empty list gives no row, a null list one null row."""

    column: str
    empty_as_null: bool = False
    keep_nulls: bool = True


class TokenizeExplode(msgspec.Struct, frozen=True, tag="tokenize_explode"):
    """Tokenize column `tokens.input` and give each token a row under `name`, with `others` repeated beside it."""

    name: str
    tokens: Node
    others: tuple[NamedNode, ...]
    names: tuple[str, ...]


class PartialAggregate(msgspec.Struct, frozen=True, tag="partial_aggregate"):
    """Combine rows into one partial row a group: the keys, then the state columns of each aggregate."""

    keys: tuple[str, ...]
    aggs: tuple[AggSpec, ...]


class MergeAggregate(msgspec.Struct, frozen=True, tag="merge_aggregate"):
    """Merge partial rows of a partition in block order; one finished row a group, in first-seen order.

    `schema` is that of the finished rows.
    """

    keys: tuple[str, ...]
    aggs: tuple[AggSpec, ...]
    schema: pa.Schema


class Sort(msgspec.Struct, frozen=True, tag="sort"):
    """All rows in order of the keys (column, descending, nulls_last); stable; only the first `limit` if given."""

    keys: tuple[tuple[str, bool, bool], ...]
    limit: int | None = None


class Limit(msgspec.Struct, frozen=True, tag="limit"):
    """The first `rows` rows that come."""

    rows: int


class SampleKeys(msgspec.Struct, frozen=True, tag="sample_keys"):
    """Columns `keys` of up to `rows` rows of the task, and, last in `schema`, how many rows each stands for."""

    keys: tuple[str, ...]
    rows: int
    schema: pa.Schema


class PickSplitters(msgspec.Struct, frozen=True, tag="pick_splitters"):
    """Of sampled keys those of partitions - 1 rows that share all rows out evenly, in order; `schema` is theirs."""

    keys: tuple[tuple[str, bool, bool], ...]
    partitions: int
    schema: pa.Schema


class JoinColumn(msgspec.Struct, frozen=True, array_like=True):
    """A column `name` of joined rows: column `column` of the build side, or of the probe side."""

    name: str
    column: str
    from_build: bool


class Asof(msgspec.Struct, frozen=True, array_like=True):
    """Of the build rows with equal keys the one whose `build_on` is nearest to the probe row's `probe_on`.

    strategy: backward, the last that is not after it; forward, the first not before it; nearest. tolerance: how far off
    it may be, in units of the columns' type.
    """

    probe_on: str
    build_on: str
    strategy: str
    tolerance: int | float | None = None


class Join(msgspec.Struct, frozen=True, tag="join"):
    """Probe rows, those that come, beside the build rows with equal keys, which are the task's input number `input`.

    how: inner; left: probe rows without a match too, beside nulls; asof: these, each once, as `asof` says; full: and
    build rows without a match, last; semi, anti: probe rows with, without a match. No keys: all pairs. unique_build,
    unique_probe: a key twice on that side is KM0210; build_name, probe_name are what the user calls the sides: left and
    right. shares: so many tasks, one after the other, have the same build rows. coded: text columns that may come out
    of the build side as codes of a dictionary.
    """

    how: str
    input: int
    probe_keys: tuple[str, ...]
    build_keys: tuple[str, ...]
    columns: tuple[JoinColumn, ...]
    schema: pa.Schema
    nulls_equal: bool = False
    unique_probe: bool = False
    unique_build: bool = False
    probe_name: str = "left"
    build_name: str = "right"
    shares: int = 1
    asof: Asof | None = None
    coded: tuple[str, ...] = ()


# Steps that call users' functions ------------------------------------------------------------------------------------


class NamedPairs(msgspec.Struct, frozen=True):
    """What emit.to(name, key, value) takes: as the fields of MapRecords for emit(key, value)."""

    name: str
    keys: tuple[str, ...]
    values: tuple[str, ...]
    key_is_tuple: bool
    value_is_tuple: bool
    schema: pa.Schema


class MapRecords(msgspec.Struct, frozen=True, tag="map_records"):
    """Call map(record, emit) for each row: rows of `schema`, the columns `keys` and then `values` of what it emits.

    A record is the value of the only column in `columns`, or a row of several. `key_is_tuple`, `value_is_tuple`: map
    emits these as tuples; without `values` it emits keys alone. `named` is what emit.to takes; `flows` says whose rows
    go on from step to step: 0 those of emit, n those of the nth named output. The others go to the pipeline's branches.
    """

    call: UserCall
    columns: tuple[str, ...]
    keys: tuple[str, ...]
    values: tuple[str, ...]
    key_is_tuple: bool
    value_is_tuple: bool
    schema: pa.Schema
    named: tuple[NamedPairs, ...] = ()
    flows: int = 0


class CombineRows(msgspec.Struct, frozen=True, tag="combine_rows"):
    """Fold the rows of a task that have one key into a state, as they come; `schema` is keys, then columns of states.

    `state` is how a state lies in its columns: "value": it is what the values are, for combine(a, b); "columns": a
    number, or a tuple of numbers where `state_is_tuple`; "encoded": any plain value as bytes.
    """

    call: UserCall
    keys: tuple[str, ...]
    values: tuple[str, ...]
    key_is_tuple: bool
    value_is_tuple: bool
    schema: pa.Schema
    state: str = "value"
    state_is_tuple: bool = False


class MergeCombined(msgspec.Struct, frozen=True, tag="merge_combined"):
    """Merge the states of a partition in block order; one finished row of `schema` a key, in first-seen order.

    `combined` is the step that made the states, `values` its input's columns, `made_is_tuple`: finish gives a tuple.
    """

    combined: CombineRows
    values: pa.Schema
    made_is_tuple: bool
    schema: pa.Schema

    @property
    def keys(self) -> tuple[str, ...]:
        """The columns by which states are merged."""
        return self.combined.keys


class GatherGroups(msgspec.Struct, frozen=True, tag="gather_groups"):
    """All rows of a task, those of one key side by side; keys in first-seen order, rows of a key as they came."""

    keys: tuple[str, ...]


class ReduceGroups(msgspec.Struct, frozen=True, tag="reduce_groups"):
    """Make rows of `schema` of rows whose keys stand side by side.

    `kind` is function (reduce(key, values, emit)), or first, list, unique, min, max. The first columns of `schema`, as
    many as there are `keys`, are the key's; `made_is_tuple`: a function emits the others as a tuple.
    """

    kind: str
    call: UserCall | None
    keys: tuple[str, ...]
    values: tuple[str, ...]
    key_is_tuple: bool
    value_is_tuple: bool
    made_is_tuple: bool
    schema: pa.Schema


class MapBatches(msgspec.Struct, frozen=True, tag="map_batches"):
    """Call a function with each record batch; what it returns has the columns of `schema`."""

    call: UserCall
    schema: pa.Schema


class MapColumn(msgspec.Struct, frozen=True, tag="map_column"):
    """Call a function with the values of `column` of each batch; what it returns is the last column of `schema`."""

    call: UserCall
    column: str
    schema: pa.Schema


class MapGroups(msgspec.Struct, frozen=True, tag="map_groups"):
    """Call a function with a table of the rows of each key, which stand side by side; it returns rows of `schema`."""

    call: UserCall
    keys: tuple[str, ...]
    schema: pa.Schema


# Ends ----------------------------------------------------------------------------------------------------------------


class ToBlocks(msgspec.Struct, frozen=True, tag="to_blocks"):
    """Partition the rows by the hash of `keys`, or by `partition`(key, n); no keys: everything is partition 0."""

    keys: tuple[str, ...] = ()
    partition: UserCall | None = None
    key_is_tuple: bool = False


class ToShares(msgspec.Struct, frozen=True, tag="to_shares"):
    """Partition the rows by the hash of `keys`, and each partition in `shares`, one after the other.

    All rows of a task go to the share of its number, or copied, is_copied, to every one: so tasks that join a partition
    have all its build rows, and each other probe rows.
    """

    keys: tuple[str, ...]
    shares: int
    is_copied: bool

    def partitions_of(self, partition: int, task: int) -> range:
        """Where the rows of a task in a partition by hash go."""
        first = partition * self.shares
        if self.is_copied:
            return range(first, first + self.shares)
        return range(first + task % self.shares, first + task % self.shares + 1)


class ToRanges(msgspec.Struct, frozen=True, tag="to_ranges"):
    """Partition the rows by where they belong among the splitters, which are the task's broadcast input, by `keys`."""

    keys: tuple[tuple[str, bool, bool], ...]


class ToParquet(msgspec.Struct, frozen=True, tag="to_parquet"):
    """Write the rows to one part file; `level` is the codec's, None for ours."""

    compression: str
    row_group_rows: int
    statistics: bool
    schema: pa.Schema
    unique_columns: tuple[str, ...] = ()
    level: int | None = None


_ENCODED: list[pa.Field[Any]] = [
    pa.field("rows", pa.int64(), nullable=False),
    pa.field("is_parquet", pa.bool_(), nullable=False),
    pa.field("body", pa.large_binary(), nullable=False),
]
ENCODED = pa.schema(_ENCODED)
"""What EncodeRowGroups makes: the rows in a body; whether it is a Parquet file, else an Arrow IPC stream; its bytes."""


class EncodeRowGroups(msgspec.Struct, frozen=True, tag="encode_row_groups"):
    """Make row groups of the rows, as `to` says: bytes for a ToOneParquet, see `io/parquet_join`."""

    to: ToParquet


class ToOneParquet(ToParquet, frozen=True, tag="to_one_parquet"):
    """Write what EncodeRowGroups made in other tasks to one file."""


class ToParquetFiles(ToParquet, frozen=True, tag="to_parquet_files"):
    """Write the rows to several files: others for each value of `folders`, whose equal values stand side by side.

    `folders` are columns that rows have beside those of `schema`: they go into names of folders. A file ends at
    `file_rows_max` rows, and with the row group that takes it to about `file_bytes` bytes.
    """

    folders: pa.Schema = NO_COLUMNS
    file_rows_max: int | None = None
    file_bytes: int | None = None


class ToArrow(msgspec.Struct, frozen=True, tag="to_arrow"):
    """Write the rows to one file as an Arrow IPC stream: how a cluster hands rows to the client that collects them."""

    schema: pa.Schema


class ToSink(msgspec.Struct, frozen=True, tag="to_sink"):
    """Hand the rows to a sink that the runner holds, as one part."""


Source = ReadText | CountTokens | ReadParquet | ReadFiles | ReadTable | ReadSource
UserStep = MapRecords | CombineRows | MergeCombined | GatherGroups | ReduceGroups | MapBatches | MapColumn | MapGroups
Sampling = SampleKeys | PickSplitters
Step = (
    Filter
    | Project
    | Explode
    | TokenizeExplode
    | PartialAggregate
    | MergeAggregate
    | Sort
    | Limit
    | Join
    | EncodeRowGroups
    | Sampling
    | UserStep
    | RowStep
)
End = (
    ToBlocks
    | ToShares
    | ToRanges
    | ToShare
    | ToEqualParts
    | ToParquet
    | ToOneParquet
    | ToParquetFiles
    | ToArrow
    | ToSink
)


class Branch(msgspec.Struct, frozen=True):
    """A further output of a stage: what becomes of the rows that a map emits to its nth named output.

    `emitted` is their schema, `schema` that of the rows at the end, which leaves `partitions` partitions.
    """

    steps: tuple[Step, ...]
    end: ToBlocks
    partitions: int
    emitted: pa.Schema
    schema: pa.Schema


class Pipeline(msgspec.Struct, frozen=True):
    """What every task of a stage does; `schema` is that of the rows when they reach the end.

    `branches` has one for each named output of its MapRecords, or is empty: output n of the stage is branches[n - 1].
    """

    source: Source | None
    steps: tuple[Step, ...]
    end: End
    schema: pa.Schema
    branches: tuple[Branch, ...] = ()
