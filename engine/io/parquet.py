"""Reading Parquet: row groups of a split as record batches of the operator's schema, and schemas of several files.

Files are read, not mapped: a mapping of a file that shrinks kills the process, and buffered reads cost the same
(measured, 1e7 rows of int64 and two float64: 9.9 ns a row mapped, 10.0 through a 1 MiB buffer).
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.io.context import Place, ReadContext, RowPlace
from kernelmill.engine.io.folders import repeated, value_of
from kernelmill.engine.io.lines import joined
from kernelmill.engine.io.parquet_footer import ParquetInfo, RowGroup, parquet_info, system_error
from kernelmill.engine.io.parquet_pages import worth_a_dictionary
from kernelmill.engine.io.widening import unify_schemas
from kernelmill.engine.lazymodules import pq
from kernelmill.engine.plaintypes import plain_column
from kernelmill.engine.plan.physical import ReadParquet
from kernelmill.engine.splits import FileStamp, ParquetFilesSplit, ParquetSplit

__all__ = ["BATCH_ROWS_MAX", "ParquetInfo", "RowGroup", "parquet_info", "read_row_groups", "unify_schemas"]

# Few and large: each batch costs Python and two GIL hand-overs a step, which two threads wait for. A group-by of 1e7
# rows took 0.86 CPU-seconds at 64 Ki rows a batch, 0.74 at 256 Ki, 0.65 at 1 Mi, far larger than L2 as those are.
_BATCH_ROWS_MIN, BATCH_ROWS_MAX = 1 << 10, 1 << 20
_BATCH_BYTES = 48 << 20
_BUFFER_BYTES = 1 << 20
# Up to this many uncompressed bytes a row group with dictionary columns is decoded at once, so that its batches share
# one dictionary; batch by batch, each would carry its own copy of it and whoever groups by it would start again.
_WHOLE_GROUP_BYTES = 128 << 20
_FILES_OPEN = 4  # per thread
_thread = threading.local()


def read_row_groups(split: ParquetSplit, operator: ReadParquet, context: ReadContext) -> Iterator[pa.RecordBatch]:
    """Yield the rows of a split in batches of at most 1 Mi rows or some 48 MiB: the columns of `operator.schema`.

    Row groups that follow one another share a batch where they fit. A column of `operator.dictionary_columns` comes as
    dictionary<int32, its type> in the row groups where its pages are coded so, and plain in others; the batches of a
    row group then share one dictionary. Values are widened to the
    schema's types. Raises KM0202 for damaged pages, KM0203 if the file is no longer what was scanned, KM0206 for a
    column that is missing, KM0207 for a value that does not fit the schema's type.
    """
    info = parquet_info(split.file)
    _check_unchanged(split.file)
    source = _Source(info, operator)
    done = 0
    context.progress(0)
    for run in source.runs(split.row_groups):
        for numbers, batches in _whole_run(source, run, context):
            groups = [info.row_groups[number] for number in numbers]
            size_bytes = sum(group.bytes_of(operator.schema.names) for group in groups)
            rows, expected = 0, sum(group.rows for group in groups)
            for batch in batches:
                context.rows_from(source.place(numbers[0], rows))
                rows += batch.num_rows
                yield batch
                context.progress(done + size_bytes * rows // max(1, expected))
            if rows != expected:  # a short read of a file that has just been cut gives fewer rows and no error
                _check_unchanged(split.file)
                raise _damaged(split.file, numbers[0], f"it has {rows} rows, the footer says {expected}")
            done += size_bytes
            context.progress(done)
    _check_unchanged(split.file)


def _whole_run(source: _Source, run: Run, context: ReadContext) -> Iterator[tuple[Run, Iterable[pa.RecordBatch]]]:
    """The batches of a run of row groups; where one cannot be read, each by itself, so that it is named."""
    if len(run) > 1:
        context.check_cancelled()
        try:
            batches = list(source.batches(run))
        except (KernelmillError, pa.ArrowException, OSError):
            _forget(source.info)
        else:
            yield run, batches
            context.check_cancelled()
            return
    for number in run:
        yield (number,), _guarded(source, (number,), context)


def read_small_files(split: ParquetFilesSplit, operator: ReadParquet, context: ReadContext) -> Iterator[pa.RecordBatch]:
    """Yield the rows of many small files as `read_row_groups` does, those of several files in one batch.

    No column comes as a dictionary: each file has another.
    """
    reader = _SmallFiles(context)
    plain = msgspec.structs.replace(operator, dictionary_columns=())

    def located() -> Iterator[tuple[pa.RecordBatch, Place]]:
        for part in split.parts:
            for batch in read_row_groups(part, plain, reader):
                yield batch, reader.place
            reader.done_bytes += part.size_bytes

    for batch, place in joined(located()):
        context.rows_from(place)
        yield batch


def rows_of_groups(split: ParquetSplit | ParquetFilesSplit) -> int:
    """How many rows a split has, as the footers say."""
    if isinstance(split, ParquetFilesSplit):
        return sum(map(rows_of_groups, split.parts))
    groups = parquet_info(split.file).row_groups
    return sum(groups[number].rows for number in split.row_groups)


class _SmallFiles:
    """The context of each of several files: adds up what is read of them, and keeps where rows come from."""

    def __init__(self, context: ReadContext) -> None:
        self._context, self.on_bad = context, context.on_bad
        self.done_bytes = 0
        self.place: Place = lambda _: RowPlace("")
        self.check_cancelled, self.reject = context.check_cancelled, context.reject
        self.count, self.buffer = context.count, context.buffer

    def progress(self, bytes_done: int) -> None:
        """Report what is read of this file, beside the files before it."""
        self._context.progress(self.done_bytes + bytes_done)

    def rows_from(self, place: Place) -> None:
        """Keep the place of the batch that comes next."""
        self.place = place


Run = tuple[int, ...]
"""Numbers of row groups that follow one another in a file and are read together."""


class _Source:
    """One file and what is wanted of it."""

    def __init__(self, info: ParquetInfo, operator: ReadParquet) -> None:
        self.info, self.operator, self.file = info, operator, info.file
        self.present = [name for name in operator.schema.names if info.schema.get_field_index(name) >= 0]
        elsewhere = set(operator.path_columns.names)
        self.present = [name for name in self.present if name not in elsewhere]
        self._there = frozenset(self.present)  # a set, for there may be ten thousand columns
        known = self._there | elsewhere
        absent = [name for name in operator.schema.names if name not in known]
        self._values = {
            field.name: value_of(info.file, field, operator.path_columns)
            for field in operator.schema
            if field.name in elsewhere
        }
        if absent and operator.missing != "null":
            hint = "missing_columns='null' fills such columns with nulls"
            raise error(Code.SCHEMA_CONFLICT, f"the file has no column {absent[0]!r}", where=self.file.path, hint=hint)

    def place(self, number: int, first: int) -> Place:
        """Where the rows of a batch come from that begins at row `first` of row group `number`."""

        def place(row: int) -> RowPlace:
            before = sum(group.rows for group in self.info.row_groups[:number])
            return RowPlace(self.file.path, row=before + first + row)

        return place

    def runs(self, numbers: Iterable[int]) -> Iterator[Run]:
        """The row groups in runs that make one batch each: neighbours, up to its rows and bytes, coded alike."""
        run: list[int] = []
        rows = size = 0
        for number in numbers:
            group = self.info.metadata.row_group(number)
            own_size = _bytes_of(group, self.present)
            fits = rows + group.num_rows <= BATCH_ROWS_MAX and size + own_size <= _BATCH_BYTES
            if run and not (
                fits and number == run[-1] + 1 and self._coded_columns(number) == self._coded_columns(run[-1])
            ):
                yield tuple(run)
                run, rows, size = [], 0, 0
            run.append(number)
            rows, size = rows + group.num_rows, size + own_size
        if run:
            yield tuple(run)

    def batches(self, run: Run) -> Iterator[pa.RecordBatch]:
        """The batches of these row groups, fitted to the schema."""
        groups = [self.info.metadata.row_group(number) for number in run]
        if not self.present:
            total = sum(group.num_rows for group in groups)
            for start in range(0, total, BATCH_ROWS_MAX):
                yield self._fit(None, min(BATCH_ROWS_MAX, total - start), run[0])
            return
        coded = self._coded_columns(run[0])
        reader = _open(self.info, coded)
        rows = _batch_rows(groups[0], self.present) if len(run) == 1 else BATCH_ROWS_MAX
        if len(run) > 1 or (coded and groups[0].total_byte_size <= _WHOLE_GROUP_BYTES):
            table = reader.read_row_groups(list(run), columns=self.present, use_threads=False)
            if coded and len(run) > 1:
                table = table.unify_dictionaries()
            table = table.combine_chunks()
            pieces: Iterator[pa.RecordBatch] = iter(table.to_batches(max_chunksize=rows))
        else:
            pieces = reader.iter_batches(rows, row_groups=list(run), columns=self.present, use_threads=False)
        for piece in pieces:
            yield self._fit(piece, piece.num_rows, run[0])

    def _coded_columns(self, number: int) -> tuple[str, ...]:
        known = self.info.dictionary_chunks
        wanted = [name for name in self.operator.dictionary_columns if name in self.present]
        if any((number, name) not in known for name in wanted):
            self._ask_pages(number, wanted)
        return tuple(name for name in wanted if known[number, name])

    def _ask_pages(self, number: int, names: Sequence[str]) -> None:
        group, known = self.info.metadata.row_group(number), self.info.dictionary_chunks
        handle = os.open(self.file.opened_path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            columns = (group.column(position) for position in range(group.num_columns))
            found = {
                column.path_in_schema: worth_a_dictionary(handle, column, group.num_rows)
                for column in columns
                if column.path_in_schema in names
            }
        finally:
            os.close(handle)
        known.update(((number, name), found.get(name, False)) for name in names)

    def _fit(self, piece: pa.RecordBatch | None, rows: int, number: int) -> pa.RecordBatch:
        fields: list[pa.Field[Any]] = []
        arrays: list[pa.Array[Any]] = []
        for field in self.operator.schema:
            if field.name in self._values:
                array: pa.Array[Any] = repeated(self._values[field.name], rows)
            elif piece is None or field.name not in self._there:
                array = pa.nulls(rows, field.type)
            else:
                array = self._cast(piece.column(field.name), field, number)
            arrays.append(array)
            fields.append(pa.field(field.name, array.type, field.nullable))
        if not arrays:
            return _rows_without_columns(rows)
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    def _cast(self, array: Any, field: pa.Field[Any], number: int) -> Any:
        kind = field.type
        if pa.types.is_dictionary(array.type):
            if field.name in self.operator.dictionary_columns:
                if array.type.index_type == pa.int32() and array.type.value_type == kind:
                    return array
                values = array.dictionary.cast(kind)
                return pa.DictionaryArray.from_arrays(array.indices.cast(pa.int32()), values)
            array = array.dictionary_decode()
        try:
            return plain_column(array, kind)
        except pa.ArrowInvalid as problem:
            where = f"{self.file.path}, row group {number}, column {field.name!r}"
            what = f"a {array.type} value does not fit {kind}, the type that all files were given: {problem}"
            raise error(Code.CAST, what, where=where, hint="read these files apart, or cast the column") from problem


def _batch_rows(group: pq.RowGroupMetaData, names: Sequence[str]) -> int:
    """Rows of a batch, from the footer alone: as many as are some 48 MiB before they were compressed."""
    rows = _BATCH_BYTES * max(1, group.num_rows) // max(1, _bytes_of(group, names))
    return max(_BATCH_ROWS_MIN, min(BATCH_ROWS_MAX, rows))


def _bytes_of(group: pq.RowGroupMetaData, names: Sequence[str]) -> int:
    """Bytes of these columns before they were compressed, from the footer."""
    columns, wanted = (group.column(number) for number in range(group.num_columns)), frozenset(names)
    return sum(c.total_uncompressed_size for c in columns if c.path_in_schema.split(".")[0] in wanted)


def _guarded(source: _Source, run: Run, context: ReadContext) -> Iterator[pa.RecordBatch]:
    """The batches of row groups, with what pyarrow raises turned into typed errors that name the first."""
    number = run[0]
    context.check_cancelled()
    batches = source.batches(run)
    while True:
        try:
            batch = next(batches, None)
        except KernelmillError:
            raise
        except pa.ArrowMemoryError as problem:
            where = f"{source.file.path}, row group {number}"
            hint = "give the job less memory, so that fewer tasks run at once; or the file is damaged"
            raise error(Code.MEMORY_LIMIT, f"no memory to decode: {problem}", where=where, hint=hint) from problem
        except (pa.ArrowException, OSError) as problem:
            _forget(source.info)
            _check_unchanged(source.file)
            if isinstance(problem, OSError) and problem.errno:
                raise system_error(problem, source.file.path) from problem
            raise _damaged(source.file, number, str(problem)) from problem
        if batch is None:
            return
        yield batch
        context.check_cancelled()


def _damaged(file: FileStamp, number: int, what: str) -> KernelmillError:
    hint = "write or copy the file again: its pages are damaged"
    why = " ".join(what.split())  # thrift's texts have line ends
    return error(Code.FORMAT, f"cannot decode: {why}", where=f"{file.path}, row group {number}", hint=hint)


def _check_unchanged(file: FileStamp) -> None:
    hint = "run again when nothing writes to the inputs"
    try:
        status = os.stat(file.opened_path)
    except FileNotFoundError:
        raise error(Code.INPUT_CHANGED, "the file is gone since it was scanned", where=file.path, hint=hint) from None
    except OSError as problem:
        raise system_error(problem, file.path) from problem
    if (status.st_size, status.st_mtime_ns) != (file.size_bytes, file.mtime_ns):
        what = f"the file changed since it was scanned: {file.size_bytes} bytes then, {status.st_size} now"
        raise error(Code.INPUT_CHANGED, what, where=file.path, hint=hint)


def _rows_without_columns(rows: int) -> pa.RecordBatch:
    """A batch that has rows and no columns: what counting needs."""
    nothing: Any = pa.StructArray.from_buffers(pa.struct([]), rows, [None])
    return pa.RecordBatch.from_struct_array(nothing)


def _open(info: ParquetInfo, coded: tuple[str, ...]) -> pq.ParquetFile:
    """This thread's reader of the file; the last few stay open, since a thread's next split is often of one of them."""
    readers = _readers()
    key = (info.file, coded)
    found = readers.pop(key, None)
    if found is None:
        found = pq.ParquetFile(
            pa.OSFile(os.fsencode(info.file.opened_path), "r"),  # type: ignore[arg-type]  # bytes: a name need not be UTF-8
            metadata=info.metadata,
            read_dictionary=list(coded),
            memory_map=False,
            buffer_size=_BUFFER_BYTES,
            pre_buffer=False,
            page_checksum_verification=True,
        )
        while len(readers) >= _FILES_OPEN:
            readers.popitem(last=False)[1].close(force=True)
    readers[key] = found
    return found


def _forget(info: ParquetInfo) -> None:
    readers = _readers()
    for key in [key for key in readers if key[0] == info.file]:
        readers.pop(key).close(force=True)


def _readers() -> OrderedDict[tuple[FileStamp, tuple[str, ...]], pq.ParquetFile]:
    readers: OrderedDict[tuple[FileStamp, tuple[str, ...]], pq.ParquetFile] | None
    readers = getattr(_thread, "readers", None)
    if readers is None:
        readers = _thread.readers = OrderedDict()
    return readers
