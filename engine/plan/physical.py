"""Physical operators: what a stage's tasks do, as values. `exec/` holds an executor for each; `plan/codec` their bytes.

A stage's operators are a source (none where the stage reads blocks), steps in order, and an end.
"""

from __future__ import annotations

import msgspec
import pyarrow as pa

from kernelmill.engine.nodes import Node


class NamedNode(msgspec.Struct, frozen=True, array_like=True):
    """An expression and the name of the column it makes."""

    name: str
    node: Node


class AggSpec(msgspec.Struct, frozen=True, array_like=True):
    """An aggregate over column `column` (None for len) that makes column `name`: len count sum mean min max."""

    name: str
    kind: str
    column: str | None


class TextOptions(msgspec.Struct, frozen=True):
    """How text files are read: see `scan_text`. `invalid` is error, replace, skip or binary."""

    invalid: str = "error"
    separator: bytes = b"\n"
    max_line_bytes: int = 64 << 20
    whole_file: bool = False
    path_column: str | None = None
    offset_column: str | None = None
    encoding: str = "utf-8"


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

    `dictionary_columns` are text columns that only serve as group keys: they are best read as dictionaries.
    """

    schema: pa.Schema
    missing: str = "error"
    dictionary_columns: tuple[str, ...] = ()


class ReadTable(msgspec.Struct, frozen=True, tag="read_table"):
    """Record batches of a table that the runner holds."""

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


# Ends ----------------------------------------------------------------------------------------------------------------


class ToBlocks(msgspec.Struct, frozen=True, tag="to_blocks"):
    """Hash-partition the rows by `keys` into the task's partitions; no keys: everything is partition 0."""

    keys: tuple[str, ...] = ()


class ToParquet(msgspec.Struct, frozen=True, tag="to_parquet"):
    """Write the rows to one part file."""

    compression: str
    row_group_rows: int
    statistics: bool
    schema: pa.Schema
    unique_columns: tuple[str, ...] = ()


Source = ReadText | CountTokens | ReadParquet | ReadTable
Step = Filter | Project | Explode | TokenizeExplode | PartialAggregate | MergeAggregate | Sort | Limit
End = ToBlocks | ToParquet


class Pipeline(msgspec.Struct, frozen=True):
    """What every task of a stage does; `schema` is that of the rows when they reach the end."""

    source: Source | None
    steps: tuple[Step, ...]
    end: End
    schema: pa.Schema
