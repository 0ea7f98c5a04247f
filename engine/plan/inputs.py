"""What a job reads: the splits of its scans, and the tables and sources that splits name."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING

import pyarrow as pa
from msgspec.structs import replace

from kernelmill.engine.errors import Code, error
from kernelmill.engine.io.encodings import is_splittable
from kernelmill.engine.io.folders import stats_of
from kernelmill.engine.io.pruning import ColumnStats, may_match
from kernelmill.engine.nodes import Column, Node
from kernelmill.engine.plan import fileformats, logical, physical
from kernelmill.engine.plan.lowering import unaliased
from kernelmill.engine.plan.physical import NamedNode
from kernelmill.engine.plan.pipes import Pipe
from kernelmill.engine.sizes import format_bytes
from kernelmill.engine.sources import HeldSource
from kernelmill.engine.splits import (
    FileStamp,
    ParquetFilesSplit,
    ParquetSplit,
    SourceSplit,
    Split,
    TableSplit,
    shared_splits,
    split_row_groups,
    split_text_files,
)
from kernelmill.engine.typing import read_beside_tests

if TYPE_CHECKING:
    from kernelmill.engine.io.many_footers import GroupFacts  # the type alone: text plans need no Parquet reader

_TEXT_SPLITS_MAX = 100_000
"""Each costs a task, and a block for each partition: more would take memory and hours for nothing."""

Scan = logical.ScanText | logical.ScanParquet | logical.ScanFiles | logical.ScanTable | logical.ScanSource


def text_split_bytes(input_bytes: int, split_bytes: int) -> int:
    """The size of a split of text: `split_bytes` up to 8 splits, then larger ones up to 4 times that.

    Each split combines in a table of its own, so a word has a partial row in each: few large splits make fewer. From
    64 MiB to 128 the word count of 1 GB of prose took 3.3 CPU-seconds instead of 3.8. Eight keep eight cores busy.
    """
    count = max(min(8, -(-input_bytes // split_bytes)), -(-input_bytes // (4 * split_bytes)), 1)
    return max(split_bytes, -(-input_bytes // count))


class Inputs:
    """The inputs of one job, as its scans are opened: what they add up to, and the rows that are at hand by name."""

    def __init__(self, split_bytes: int) -> None:
        self._split_bytes = split_bytes
        self.input_bytes = 0
        self.tables: dict[str, tuple[pa.RecordBatch, ...]] = {}
        self.sources: dict[str, HeldSource] = {}

    def open(self, scan: Scan) -> Pipe:
        """The open stage whose tasks read the splits of `scan`."""
        match scan:
            case logical.ScanText():
                return self._scan_text(scan)
            case logical.ScanParquet():
                return self._scan_parquet(scan)
            case logical.ScanFiles():
                return self._scan_files(scan)
            case logical.ScanTable():
                return self._scan_table(scan)
            case logical.ScanSource():
                return self._scan_source(scan)

    def text_splits(self, scan: logical.ScanText) -> tuple[Split, ...]:
        """The splits of text files; their bytes are counted."""
        return self._byte_splits(scan, [is_splittable(file.path, scan.options) for file in scan.files])

    def _byte_splits(self, scan: logical.ScanText | logical.ScanFiles, may_cut: Sequence[bool]) -> tuple[Split, ...]:
        total = sum(file.size_bytes for file in scan.files)
        self.input_bytes += total
        size = text_split_bytes(total, self._split_bytes)
        if total > size * _TEXT_SPLITS_MAX:
            what = (
                f"split_size={format_bytes(self._split_bytes)} makes {total // size:,} tasks of {format_bytes(total)}"
            )
            least = -(-total // (4 * _TEXT_SPLITS_MAX))
            hint = f"at most {_TEXT_SPLITS_MAX:,} are possible: split_size is {least} bytes or more for this input"
            raise error(Code.BAD_SETTING, what, hint=hint)
        return tuple(split_text_files(scan.files, size, splittable=may_cut))

    def _scan_text(self, scan: logical.ScanText) -> Pipe:
        splits = self.text_splits(scan)
        return Pipe("read text", scan.schema, len(splits), physical.ReadText(scan.options, scan.schema), splits)

    def _scan_files(self, scan: logical.ScanFiles) -> Pipe:
        match scan.format:
            case fileformats.CsvFormat(is_cut=is_cut, text=text):
                may_cut = [is_cut and is_splittable(file.path, text) for file in scan.files]
            case fileformats.JsonFormat(text=text):
                may_cut = [is_splittable(file.path, text) for file in scan.files]
            case _:
                may_cut = [True] * len(scan.files)
        splits = self._byte_splits(scan, may_cut)
        reading = physical.ReadFiles(scan.format, scan.schema, scan.path_columns)
        return Pipe(f"read {fileformats.FORMAT_NAMES[type(scan.format)]}", scan.schema, len(splits), reading, splits)

    def _scan_parquet(self, scan: logical.ScanParquet) -> Pipe:
        splits: list[ParquetSplit] = []
        rows: list[int] = []
        # a quarter: compressed columns unpack to several times their size, text does not
        size_max = max(1, self._split_bytes // 4)
        for file, info in zip(scan.files, scan.infos, strict=True):
            kept = [
                (number, group.bytes_of(scan.columns.names))
                for number, group in enumerate(info.row_groups)
                if scan.predicate is None or may_match(scan.predicate, _stats(scan, file, group))
            ]
            own = split_row_groups(file, kept, size_max)
            splits += own
            rows += (sum(info.row_groups[number].rows for number in split.row_groups) for split in own)
            self.input_bytes += sum(size for _, size in kept)
        tasks = shared_splits(splits, size_max) or (ParquetSplit(scan.files[0], (), 0),)
        reading = physical.ReadParquet(scan.schema, scan.missing, (), scan.path_columns)
        return Pipe("read parquet", scan.schema, len(tasks), reading, tasks, rows=_rows_of(tasks, rows))

    def _scan_table(self, scan: logical.ScanTable) -> Pipe:
        name = f"table{len(self.tables)}"
        batches = tuple(batch.select(scan.schema.names) for batch in scan.batches)
        self.tables[name] = batches
        splits: list[TableSplit] = []
        start = size = 0
        for stop, batch in enumerate(batches):
            if stop > start and size + batch.nbytes > self._split_bytes:
                splits.append(TableSplit(name, start, stop, size))
                start, size = stop, 0
            size += batch.nbytes
            self.input_bytes += batch.nbytes
        splits.append(TableSplit(name, start, len(batches), size))
        rows = tuple(sum(batch.num_rows for batch in batches[split.start : split.stop]) for split in splits)
        reading = physical.ReadTable(scan.schema)
        return Pipe("read table", scan.schema, len(splits), reading, tuple(splits), rows=rows)

    def _scan_source(self, scan: logical.ScanSource) -> Pipe:
        name, source = f"source{len(self.sources)}", scan.source
        self.sources[name] = source
        self.input_bytes += source.input_bytes
        splits = tuple(
            SourceSplit(name, number, value, size) for number, (value, size) in enumerate(source.sized_splits)
        ) or (SourceSplit(name, -1, b"", 0),)
        reading = physical.ReadSource(scan.schema)
        label = f"read {source.label}"
        return Pipe(label, scan.schema, len(splits), reading, splits, is_reduced=scan.is_reduced)


def keys_as_dictionaries(pipe: Pipe, plan: logical.Aggregate) -> Pipe:
    """Let Parquet text columns that do nothing but serve as keys arrive as dictionaries: fewer strings to hash."""
    if not isinstance(pipe.source, physical.ReadParquet):
        return pipe
    used: set[str] = {name for agg in plan.aggs for name in agg.columns}
    names = {key: key for key in plan.keys}
    for step in reversed(pipe.steps):
        match step:
            case physical.Filter(predicate=predicate):
                used |= read_beside_tests(predicate)
            case physical.Project(columns=columns):
                names, used = _through(columns, names, used)
            case _:
                return pipe
    schema = pipe.source.schema
    only_keys = [name for name in schema.names if name in names.values() and name not in used]
    texts = tuple(name for name in only_keys if _is_text(schema.field(name).type))
    return replace(pipe, source=replace(pipe.source, dictionary_columns=texts)) if texts else pipe


def tested_as_dictionaries(pipe: Pipe) -> Pipe:
    """Let Parquet text columns that are only tested, and then left out, arrive as dictionaries: fewer texts to test."""
    if not isinstance(pipe.source, physical.ReadParquet):
        return pipe
    source, used = pipe.source, set(pipe.source.dictionary_columns)
    for step in pipe.steps:
        match step:
            case physical.Filter(predicate=predicate):
                used |= read_beside_tests(predicate)
            case physical.Project(columns=columns):
                used = used.union(*(read_beside_tests(column.node) for column in columns))
                break
            case physical.PartialAggregate(keys=keys, aggs=aggs):
                used = used.union(keys, *(agg.columns for agg in aggs))
                break
            case _:
                return pipe
    else:
        return pipe
    tested = tuple(field.name for field in source.schema if field.name not in used and _is_text(field.type))
    coded = (*source.dictionary_columns, *tested)
    return replace(pipe, source=replace(source, dictionary_columns=coded)) if tested else pipe


def _rows_of(tasks: Sequence[ParquetSplit | ParquetFilesSplit], rows: Sequence[int]) -> tuple[int, ...]:
    """How many rows each task reads, where `rows` are those of the splits that tasks have or share, in their order."""
    own = iter(rows)
    return tuple(sum(islice(own, len(task.parts) if isinstance(task, ParquetFilesSplit) else 1)) for task in tasks)


def _stats(scan: logical.ScanParquet, file: FileStamp, group: GroupFacts) -> Mapping[str, ColumnStats]:
    """What is known of the columns of a row group, those of its file's folders included."""
    if not len(scan.path_columns.folders):
        return group.stats
    return ChainMap(stats_of(file, scan.path_columns, group.rows), dict(group.stats))


def _through(columns: Sequence[NamedNode], names: dict[str, str], used: set[str]) -> tuple[dict[str, str], set[str]]:
    """Key names and used columns, as they are called below a Project."""
    below: dict[str, Node] = {column.name: unaliased(column.node) for column in columns}
    keys = {key: node.name for key, name in names.items() if isinstance(node := below[name], Column)}
    others = [below[name] for name in below if name in used or name not in names.values()]
    others += [node for node in below.values() if not isinstance(node, Column)]
    return keys, set().union(*map(read_beside_tests, others))


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind)
