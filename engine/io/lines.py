"""Text as Arrow batches: a row a line (or a document), with the file's path and the row's offset on request."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import buffer_of, concatenated, view_of
from kernelmill.engine.io.blocks import FileReader, TextBlock
from kernelmill.engine.io.bytestream import InputFile
from kernelmill.engine.io.context import Place, ReadContext, RowPlace
from kernelmill.engine.io.linesinplace import PLACE, LinesInPlace
from kernelmill.engine.io.source import arrow_path
from kernelmill.engine.plan.fileformats import TextOptions
from kernelmill.engine.remembering import remembered
from kernelmill.engine.splits import FileRange, TextSplit
from kernelmill.kernels.intrinsics import SLACK_BYTES
from kernelmill.kernels.lines import count_characters_before, find_lines, split_lines, split_records
from kernelmill.kernels.utf8 import repair_utf8

BATCH_ROWS = 64 << 10
BATCH_BYTES = 2 << 20
"""Text of a batch of lines: 64 Ki of them are rarely longer, and the columns beside it stay in the cache too."""
IN_PLACE_BYTES = 8 << 20
"""Text of a block whose lines stay in place. They have no columns beside them, and what Python does for a batch finds
the core's caches full of text and tables: it takes half a millisecond, a tenth of a compiled map's time at 2 MiB. Such
a batch has up to twice BATCH_ROWS, which is what the room for their places holds."""
_JOIN_BELOW_ROWS, _JOIN_BELOW_BYTES = BATCH_ROWS // 2, BATCH_BYTES // 2
_STRING_BYTES_MAX = (1 << 31) - 1
_SMALL_BYTES = 64 << 10
"""Text of a block whose lines are copied to memory of numpy's: Arrow's costs a small task more, and need not shrink."""


def read_batches(
    split: TextSplit, options: TextOptions, schema: pa.Schema, context: ReadContext, *, in_place: bool = False
) -> Iterator[Any]:
    r"""Read the lines that begin in the split as batches of `schema`, at most 64 Ki rows or about 2 MiB each.

    Columns: `options.path_column` (string, or a dictionary, which costs 4 bytes a row), `options.offset_column`
    (int64, where the line begins, as TextBlock.offset counts), any other is the line: string, or binary for
    `invalid="binary"`. A \r before the separator \n is dropped; with `whole_file` nothing is. An empty file has no
    lines, but is one document. No empty batches. Raises what `read_blocks` raises, and KM0209 for a line over
    `max_line_bytes`.

    With `in_place`, what may be is left where it was read, as LinesInPlace, for a next step that knows these, in
    batches of up to 4 MiB.
    """
    in_place = in_place and _may_stay(options, schema)
    for batch, place in joined(_batches(split, options, schema, context, in_place)):
        context.rows_from(place)
        yield batch


def _may_stay(options: TextOptions, schema: pa.Schema) -> bool:
    """Whether rows are nothing but lines as `find_lines` finds them."""
    extra = {options.path_column, options.offset_column}
    is_lines = len(schema) == 1 and schema.field(0).type == pa.string() and schema.names[0] not in extra
    return is_lines and options.separator == b"\n" and not options.whole_file


Located = tuple[Any, Place]
"""A RecordBatch, or LinesInPlace."""


def joined(batches: Iterator[Located]) -> Iterator[Located]:
    """Small batches put together; not the first, which may be all that a head() wants: it must wait for no other."""
    if (first := next(batches, None)) is not None:
        yield first
    waiting: list[Located] = []
    rows = size = 0
    for batch, place in batches:
        is_in_place = isinstance(batch, LinesInPlace)
        if is_in_place and waiting:
            yield _one_of(waiting)
            waiting, rows, size = [], 0, 0
        if is_in_place or (not waiting and (batch.num_rows >= _JOIN_BELOW_ROWS or batch.nbytes >= _JOIN_BELOW_BYTES)):
            yield batch, place
            continue
        if waiting and (rows + batch.num_rows > BATCH_ROWS or size + batch.nbytes > 2 * BATCH_BYTES):
            yield _one_of(waiting)
            waiting, rows, size = [], 0, 0
        waiting.append((batch, place))
        rows, size = rows + batch.num_rows, size + batch.nbytes
    if waiting:
        yield _one_of(waiting)


def _one_of(parts: Sequence[Located]) -> Located:
    if len(parts) == 1:
        return parts[0]
    batches = [batch for batch, _ in parts]
    ends = list(accumulate(batch.num_rows for batch in batches))

    def place(row: int) -> RowPlace:
        part = bisect_right(ends, row)
        return parts[part][1](row - ends[part] + batches[part].num_rows)

    if not batches[0].num_columns:
        return _of_columns([], batches[0].schema, ends[-1]), place
    return concatenated(batches), place


def _batches(
    split: TextSplit, options: TextOptions, schema: pa.Schema, context: ReadContext, in_place: bool
) -> Iterator[Located]:
    done_bytes = 0
    for part in split.ranges:
        with InputFile(part.file) as file:
            reader = FileReader(file, part, options, context, done_bytes)
            rows = _Rows(reader, part, options, schema, context)
            try:
                yield from rows.documents() if options.whole_file else rows.lines(in_place)
                file.check()
            finally:
                reader.close()
        done_bytes += part.stop - part.start
        context.progress(done_bytes)


class _Column(NamedTuple):
    """A column to make: what it holds ("texts", "bytes", "offsets", "paths") and its type."""

    holds: str
    type: pa.DataType
    is_string: bool


@remembered
def _columns_of(schema: pa.Schema, options: TextOptions) -> tuple[_Column, ...]:
    def holds(field: pa.Field[Any]) -> str:
        if field.name == options.path_column:
            return "paths"
        if field.name == options.offset_column:
            return "offsets"
        return "bytes" if field.type in (pa.binary(), pa.large_binary()) else "texts"

    return tuple(_Column(holds(field), field.type, field.type == pa.string()) for field in schema)


class _Rows:
    """Makes the batches of one range."""

    def __init__(
        self, reader: FileReader, part: FileRange, options: TextOptions, schema: pa.Schema, context: ReadContext
    ) -> None:
        self._reader, self._part, self._options = reader, part, options
        self._schema, self._context = schema, context
        self._length_max = min(options.max_line_bytes, _STRING_BYTES_MAX)
        self._columns = _columns_of(schema, options)
        self._has_offsets = any(column.holds == "offsets" for column in self._columns)
        self._separator = np.frombuffer(options.separator, np.uint8)
        rows = BATCH_ROWS
        self._ends_in_place = np.frombuffer(context.buffer("line_ends", 4 * 2 * (rows + 1)), np.int32)[: 2 * rows]
        self._ends = self._ends_in_place[: rows + 1]
        self._starts = np.frombuffer(context.buffer("line_starts", 8 * (rows + 1)), np.int64)[: rows + 1]
        self._found = np.zeros(1, np.int64)

    def lines(self, in_place: bool) -> Iterator[Located]:
        """A row a line; `in_place`: those of blocks that are large and without fault stay where they are."""
        for block in self._reader.blocks(IN_PLACE_BYTES if in_place else BATCH_BYTES, None, self._length_max):
            size = block.stop - block.start
            may_stay = in_place and not block.offset_counts_characters
            rows = self._find(block, block.start) if may_stay and _JOIN_BELOW_BYTES <= size <= self._length_max else 0
            # Of lines that were found it is known whether they are ASCII: text of such alone needs no second look.
            is_ascii = rows and self._found[0] == block.stop and self._starts.view(np.int32)[:rows].min() >= 0
            is_checked = is_ascii or self._options.invalid == "binary"
            bad = -1 if is_checked else self._reader.find_invalid(block, block.start)
            if bad >= 0 and self._options.invalid == "error":
                raise self._reader.encoding_error(block, bad)
            if rows and bad < 0:
                yield from self._in_place(block, rows)
                continue
            at = block.start
            while at < block.stop:
                begin = at
                rows, at, data = self._cut(block, begin)
                bad_rows, bad = self._bad_rows(block, rows, at, bad)
                yield from self._batch(block, rows, at, data, bad_rows)

    def _in_place(self, block: TextBlock, rows: int) -> Iterator[Located]:
        """The lines of a block, of which `_find` has found the first `rows`."""
        at, starts, ends = block.start, self._starts.view(np.int32), self._ends_in_place
        while True:
            lines = LinesInPlace(self._schema, block.data[at:], starts[:rows], ends[:rows])
            yield lines, self._place_in(block, at, starts[:rows])
            at = int(self._found[0])
            if at == block.stop:
                return
            rows = self._find(block, at)

    def _find(self, block: TextBlock, at: int) -> int:
        """Find lines from data[at] on, as many as a batch may have; returns how many, and leaves where to go on."""
        ends = self._ends_in_place
        starts = self._starts.view(np.int32)[: ends.size]
        return int(find_lines(block.data, at, block.stop, starts, ends, self._found))

    def _place_in(self, block: TextBlock, start: int, starts: NDArray[np.int32]) -> Place:
        """As `_place`, for rows that begin at data[start + starts]."""
        first, path = block.offset_of(start), block.file.path

        def place(row: int) -> RowPlace:
            offset = first + int(starts[row] & PLACE)
            return RowPlace(path, offset, None, lambda: self._reader.line_for_error(offset))

        return place

    def documents(self) -> Iterator[Located]:
        """One row: the whole file."""
        block_bytes = min(self._part.file.size_bytes, self._length_max) + SLACK_BYTES
        found = list(self._reader.blocks(block_bytes, None, self._length_max))
        nothing = TextBlock(np.zeros(SLACK_BYTES, np.uint8), 0, 0, self._part.file, 0)
        block = found[0] if found else nothing
        size = block.stop - block.start
        if size > self._length_max:
            raise self._reader.too_long(block, block.start, size, self._length_max)
        bad = -1 if self._options.invalid == "binary" else self._reader.find_invalid(block, block.start)
        if bad >= 0 and self._options.invalid == "error":
            raise self._reader.encoding_error(block, bad)
        self._ends[0], self._ends[1], self._starts[0] = 0, size, block.start
        data = pa.py_buffer(block.data[block.start : block.stop].tobytes())
        yield from self._batch(block, 1, block.stop, data, [0] if bad >= 0 else [])

    def _cut(self, block: TextBlock, begin: int) -> tuple[int, int, pa.Buffer]:
        """Cut lines from data[begin] on, up to a batch: their number, where to go on, their bytes."""
        size = block.stop - begin
        is_small = size <= _SMALL_BYTES
        if is_small:
            out = np.empty(size + SLACK_BYTES, np.uint8)
        else:
            buffer = pa.allocate_buffer(size + SLACK_BYTES, None, resizable=True)
            out = view_of(buffer, np.uint8)
        where = np.zeros(1, np.int64)
        self._ends[0] = 0
        ends, starts = self._ends[1:], self._starts[:-1]
        if self._options.separator == b"\n":
            rows = int(split_lines(block.data, begin, block.stop, out, ends, starts, where))
        else:
            rows = int(split_records(block.data, begin, block.stop, self._separator, out, ends, starts, where))
        if size > self._length_max:
            lengths = np.diff(self._ends[: rows + 1])
            too_long = int(np.argmax(lengths > self._length_max))  # the first such row, else 0
            if lengths[too_long] > self._length_max:
                raise self._reader.too_long(block, int(starts[too_long]), int(lengths[too_long]), self._length_max)
        used = int(self._ends[rows]) + SLACK_BYTES  # with its slack, which compiled functions read to
        if is_small:
            return rows, int(where[0]), buffer_of(out[:used])
        del out  # a buffer that numpy looks at cannot be made smaller
        buffer.resize(used, shrink_to_fit=int(where[0]) < block.stop)
        return rows, int(where[0]), buffer

    def _bad_rows(self, block: TextBlock, rows: int, stop: int, bad: int) -> tuple[list[int], int]:
        """The rows, all before data[stop], that are not UTF-8, and the first bad byte from data[stop] on (or -1)."""
        found: list[int] = []
        while 0 <= bad < stop:
            row = int(np.searchsorted(self._starts[:rows], bad, side="right")) - 1
            found.append(row)
            bad = self._reader.find_invalid(block, int(self._starts[row + 1]) if row + 1 < rows else stop)
        return found, bad

    def _batch(self, block: TextBlock, rows: int, stop: int, data: pa.Buffer, bad_rows: list[int]) -> Iterator[Located]:
        """The batch of these rows, all before data[stop], if any are left, and where each comes from."""
        ends, keep = self._ends[: rows + 1].copy(), None
        place = self._place(block, rows, ends, data)
        offsets = self._offsets(block, rows) if self._has_offsets else None
        if bad_rows and self._options.invalid == "replace":
            ends, data = self._repaired(block, ends, data, bad_rows)
        elif bad_rows:
            for row in bad_rows:
                start, next_start = int(self._starts[row]), int(self._starts[row + 1]) if row + 1 < rows else stop
                self._reader.reject(block, start, start + int(ends[row + 1] - ends[row]), next_start)
            keep = np.ones(rows, np.bool_)
            keep[bad_rows] = False
        columns = [self._column(column, rows, ends, data, offsets, keep) for column in self._columns]
        kept = rows if keep is None else int(keep.sum())
        if kept:
            row_of_kept = None if keep is None else np.flatnonzero(keep)
            batch = _of_columns(columns, self._schema, kept)
            yield batch, place if row_of_kept is None else lambda row: place(int(row_of_kept[row]))

    def _place(self, block: TextBlock, rows: int, ends: NDArray[np.int32], data: pa.Buffer) -> Place:
        """Where each row comes from: as `_offsets` has it, but of what is still there when the next batch is made."""
        starts, first, path = self._starts[:rows].copy(), block.offset_of(int(self._starts[0])), block.file.path
        separator = self._separator if block.offset_counts_characters else None

        def place(row: int) -> RowPlace:
            offset = first + int(starts[row] - starts[0])
            if separator is not None:
                text = view_of(data, np.uint8)[: int(ends[row])]
                offset -= _continuation_bytes(text) + row * _continuation_bytes(separator)
            return RowPlace(path, offset, None, lambda: self._reader.line_for_error(offset))

        return place

    def _column(
        self,
        column: _Column,
        rows: int,
        ends: NDArray[np.int32],
        data: pa.Buffer,
        offsets: NDArray[np.int64] | None,
        keep: NDArray[np.bool_] | None,
    ) -> pa.Array[Any]:
        if column.holds == "paths":
            kept = rows if keep is None else int(keep.sum())
            codes = pa.array(np.zeros(kept, np.int32), pa.int32())
            paths = pa.DictionaryArray.from_arrays(codes, pa.array([arrow_path(self._part.file.path)], pa.string()))
            return paths.cast(column.type) if column.type != paths.type else paths
        if column.holds == "offsets":
            assert offsets is not None  # they were counted, for the schema has this column
            array: pa.Array[Any] = pa.array(offsets, pa.int64())
        else:
            kind = pa.string() if column.holds == "texts" and keep is None else pa.binary()
            array = pa.Array.from_buffers(kind, rows, [None, buffer_of(ends), data], null_count=0)
            if column.is_string and keep is None:
                return array
        if keep is not None:  # as binary first: rows that are not UTF-8 must not be called strings
            array = array.filter(pa.array(keep))
        return array if array.type == column.type else array.cast(column.type)

    def _offsets(self, block: TextBlock, rows: int) -> NDArray[np.int64]:
        starts = self._starts[:rows]
        if not block.offset_counts_characters:
            return starts + (block.offset - block.start)
        characters = np.empty(rows, np.int64)
        count_characters_before(block.data, block.start, starts, rows, characters)
        return characters + block.offset

    def _repaired(
        self, block: TextBlock, ends: NDArray[np.int32], data: pa.Buffer, bad_rows: list[int]
    ) -> tuple[NDArray[np.int32], pa.Buffer]:
        content = memoryview(data)
        pieces: list[bytes | memoryview] = []
        lengths = np.diff(ends).astype(np.int64)
        replaced = np.zeros(1, np.int64)
        done = 0
        for row in bad_rows:
            pieces.append(content[done : ends[row]])
            line = np.frombuffer(bytes(content[ends[row] : ends[row + 1]]) + bytes(SLACK_BYTES), np.uint8)
            size = line.size - SLACK_BYTES
            out = np.empty(3 * size + 2 * SLACK_BYTES, np.uint8)
            pieces.append(out[: int(repair_utf8(line, 0, size, out, replaced))].tobytes())
            lengths[row] = len(pieces[-1])
            done = int(ends[row + 1])
        pieces.append(content[done : ends[-1]])
        if (size := int(lengths.sum())) > _STRING_BYTES_MAX:  # only a huge document of bad bytes grows so far
            raise self._reader.too_long(block, block.start, size, _STRING_BYTES_MAX)
        self._context.count("utf8_replaced", int(replaced[0]))
        new_ends = np.zeros(ends.size, np.int32)
        np.cumsum(lengths, out=new_ends[1:])
        return new_ends, pa.py_buffer(b"".join(pieces))


def _continuation_bytes(text: NDArray[np.uint8]) -> int:
    """How many bytes more than characters the UTF-8 has."""
    return int(np.count_nonzero((text & 0xC0) == 0x80))


def _of_columns(columns: list[pa.Array[Any]], schema: pa.Schema, rows: int) -> pa.RecordBatch:
    if columns:
        return pa.RecordBatch.from_arrays(columns, schema=schema)
    # from_arrays would say that a batch of no columns has no rows
    structs: Any = pa.Array.from_buffers(pa.struct([]), rows, [None])
    return pa.RecordBatch.from_struct_array(structs)
