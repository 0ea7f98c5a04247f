"""CSV: blocks of text, cut where rows end, to record batches by pyarrow's parser with types that were fixed at scan.

A file that is cut into ranges is cut at newlines. A row with one inside quotes could be cut in two there, so it is an
error in such a file: the line it begins on is read in some range, and seen there. A range that is a whole file may have
such rows.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.errors import Code, error
from kernelmill.engine.io.blocks import FileReader
from kernelmill.engine.io.bytestream import InputFile
from kernelmill.engine.io.context import PlainContext, where
from kernelmill.engine.io.textrows import Piece, bad_record, shown
from kernelmill.engine.lazymodules import imported
from kernelmill.engine.plan.fileformats import CsvFormat
from kernelmill.engine.splits import FileRange
from kernelmill.kernels.records import find_records

BLOCK_BYTES = 4 << 20
_HEAD_BYTES = 64 << 10
_PARSED_BYTES_MAX = 1 << 30  # at once, so that a piece is one batch
_WHOLE_FILES = "scan_csv(..., newlines_in_values=True) reads each such file whole, in one task"
_ROW = re.compile(r"Row #\d+: ")
_COLUMN = re.compile(r"In CSV column #(\d+): ")


class CsvParser:
    """Makes rows with the columns of `schema` of whole records; without a schema, of all columns, with types found."""

    def __init__(self, form: CsvFormat, schema: pa.Schema | None, *, skip_bad: bool = False) -> None:
        self._form, self._schema = form, schema
        self._csv = imported("pyarrow.csv")
        self._names = form.columns.names
        handler = (lambda _: "skip") if skip_bad else None
        self._has_blank_rows = len(self._names) == 1
        self._read = self._csv.ReadOptions(column_names=self._names, use_threads=False, block_size=_PARSED_BYTES_MAX)
        self._parse = {
            has_quotes: self._csv.ParseOptions(
                delimiter=chr(form.separator),
                quote_char=chr(form.quote) if has_quotes else False,
                newlines_in_values=has_quotes,
                ignore_empty_lines=not self._has_blank_rows,
                invalid_row_handler=handler,
            )
            for has_quotes in {False, form.quote >= 0}
        }
        self._convert = self._csv.ConvertOptions(
            check_utf8=False,  # the bytes were checked as they were read
            column_types=None if schema is None else {field.name: field.type for field in schema},
            include_columns=None if schema is None else schema.names,
            null_values=["", *form.null_values],
            strings_can_be_null=True,
            quoted_strings_can_be_null=False,
        )

    def parse(self, data: bytes) -> pa.RecordBatch:
        """The rows of `data`; see Parser."""
        is_blank = data[:1] in (b"", b"\r", b"\n") and not data.strip(b"\r\n")  # strip copies: only where it may be so
        if not data or (is_blank and not self._has_blank_rows):
            return pa.RecordBatch.from_pylist([], schema=self._schema or pa.schema([]))
        options = self._parse[_has_quotes(data, self._form)]
        table = self._csv.read_csv(pa.py_buffer(data), self._read, options, self._convert)
        return _one_batch(table, self._schema)

    def starts(self, data: bytes) -> NDArray[np.int64]:
        """Where records begin that give rows; see Parser."""
        found = Records(data, self._form)
        starts = found.all_starts()
        if self._has_blank_rows:
            return starts
        is_blank = np.isin(np.frombuffer(data, np.uint8)[starts], np.frombuffer(b"\r\n", np.uint8))
        return starts[~is_blank]

    def explain(self, problem: pa.ArrowInvalid) -> tuple[Code, str, str]:
        """What is wrong with a record; see Parser."""
        text = _ROW.sub("", str(problem))
        column = _COLUMN.match(text)
        if column is None:
            what = text.removeprefix("CSV parse error: ")
            hint = "on_bad='reject' sets such rows aside, with their lines"
            if self._form.quote >= 0 and what.count(chr(self._form.quote)) % 2:  # perhaps a file's range begins in it
                hint += f"; if a quote opens in a line before it: {_WHOLE_FILES}"
            what = re.sub(r"(got \d+): .*", r"\1", what, flags=re.DOTALL).replace("Expected", "expected")
            return Code.FORMAT, f"not a row: {what}", hint
        assert self._schema is not None  # only what has a type can fail to be of it
        field = self._schema.field(self._names[int(column[1])])
        what = f"a value of column {field.name!r} is no {field.type}"
        hint = f'scan_csv(..., schema_overrides={{"{field.name}": "string"}}), or on_bad="reject"'
        return Code.CAST, what, hint


class Records:
    """The records of `data`: where each begins, if `has_starts` is set, and whether the last one ends."""

    def __init__(self, data: bytes, form: CsvFormat, *, has_starts: bool = True) -> None:
        self._size = len(data)
        room = data.count(b"\n") + data.count(b"\r") + 1 if has_starts else 0
        starts, found = np.empty(room, np.int64), np.zeros(3, np.int64)
        view, comment = np.frombuffer(data, np.uint8), np.frombuffer(form.comment, np.uint8)
        count = int(find_records(view, 0, self._size, form.separator, form.quote, comment, starts, found))
        self.starts, self.end = starts[:count], int(found[0])
        self.newlines, self.is_open = int(found[1]), bool(found[2])

    def all_starts(self) -> NDArray[np.int64]:
        """Where records begin, one that has no line end included."""
        return self.starts if self.end == self._size else np.append(self.starts, self.end)


class CsvPieces:
    """The records that begin in a range of a file, as pieces; what stands above the rows of a file is left out.

    `first_row` is where in the file the rows begin: a range that is not the whole file must be told. `header` is what
    the file's first record says; `has_newlines`: a newline inside quotes was found.
    """

    def __init__(self, reader: FileReader, part: FileRange, form: CsvFormat, first_row: int = 0) -> None:
        self._reader, self._part, self._form, self._first_row = reader, part, form, first_row
        self._is_whole = is_whole(part)
        self._lines_to_skip = form.skip_lines if self._is_whole else 0
        self._wants_header = form.has_header and self._is_whole
        self.header: list[str] | None = None
        self.has_newlines = False

    def pieces(self, block_bytes: int = BLOCK_BYTES) -> Iterator[Piece]:
        """All of them, in order."""
        carried: Piece | None = None
        length_max = self._form.text.max_line_bytes
        for block in self._reader.blocks(block_bytes, None, length_max):
            for good in self._reader.checked(block):
                data = good.data[good.start : good.stop].tobytes()
                piece = Piece(data, good.offset, good.offset_counts_characters, self._reader, self._part.file.path)
                piece = self._after_skipped(piece)
                if not piece.data:
                    continue
                if carried is not None:
                    before = carried
                    piece = Piece(
                        before.data + piece.data, before.offset, before.counts_characters, self._reader, before.path
                    )
                end, parts = self._whole_records(piece)
                yield from parts
                carried = piece.part(end, len(piece.data)) if end < len(piece.data) else None
                if carried is not None and len(carried.data) > length_max:
                    raise self._unclosed(carried)
        if carried is not None:
            if Records(carried.data, self._form).is_open:
                raise self._unclosed(carried)
            yield from self._rows_of(carried, np.zeros(1, np.int64), len(carried.data))

    def _whole_records(self, piece: Piece) -> tuple[int, list[Piece]]:
        """Where the last record ends that is whole, and the pieces up to there."""
        data = piece.data
        if not self._form.comment and not _has_quotes(data, self._form):
            return len(data), self._rows_of(piece, None, len(data))
        has_starts = bool(self._form.comment)
        found = Records(data, self._form, has_starts=has_starts)
        self.has_newlines |= found.newlines > 0
        if not self._is_whole:
            if found.newlines or found.is_open:
                raise self._cut_in_two(piece)
            return len(data), self._rows_of(piece, found.all_starts() if has_starts else None, len(data))
        return found.end, self._rows_of(piece, found.starts, found.end)

    def _rows_of(self, piece: Piece, starts: NDArray[np.int64] | None, end: int) -> list[Piece]:
        """The pieces of data[:end] without comments and header; `starts` are its records, if they are known."""
        runs = [(0, end)]
        if self._form.comment:
            assert starts is not None  # they are looked for where there may be comments
            runs = list(_between_comments(piece.data, starts.tolist(), end, self._form.comment))
        if self._wants_header:
            runs = self._without_header(piece, runs)
        return [piece.part(start, stop) if (start, stop) != (0, len(piece.data)) else piece for start, stop in runs]

    def _without_header(self, piece: Piece, runs: list[tuple[int, int]]) -> list[tuple[int, int]]:
        for number, (start, stop) in enumerate(runs):
            data = piece.data[start:stop]
            filled = len(data) - len(data.lstrip(b"\r\n"))
            if filled == len(data):
                continue
            starts = Records(data[filled:], self._form).all_starts().tolist()
            end = filled + starts[1] if len(starts) > 1 else len(data)
            self._take_header(data[filled:end], piece)
            return [(start + end, stop), *runs[number + 1 :]]
        return []

    def _take_header(self, record: bytes, piece: Piece) -> None:
        self._wants_header = False
        self.header = names_of(fields_of(record, self._form))
        expected = self._form.columns.names
        if expected and self.header != expected:
            differ = next((pair for pair in zip(self.header, expected, strict=False) if pair[0] != pair[1]), None)
            how = f"{differ[0]!r} where others have {differ[1]!r}" if differ else f"{len(self.header)} columns"
            what = f"the header is not that of the scan, which has {len(expected)} columns: it has {how}"
            hint = "read files with other columns apart, and name them alike by rename or select"
            raise error(Code.SCHEMA_CONFLICT, what, where=piece.path, hint=hint)

    def _after_skipped(self, piece: Piece) -> Piece:
        """The lines of a piece without those that come before the header, or before the first row."""
        at, before = 0, self._first_row - piece.offset
        if before > 0:
            at = len(piece.data.decode()[:before].encode()) if piece.counts_characters else min(before, len(piece.data))
        while self._lines_to_skip and at < len(piece.data):
            newline = piece.data.find(b"\n", at)
            at = newline + 1 if newline >= 0 else len(piece.data)
            self._lines_to_skip -= 1
        return piece.part(at, len(piece.data)) if at else piece

    def _cut_in_two(self, piece: Piece) -> Exception:
        starts = Records(piece.data, self._form).all_starts().tolist()
        bounds = [*starts, len(piece.data)]
        pairs = zip(bounds, bounds[1:], strict=False)
        at = next((start for start, stop in pairs if b"\n" in piece.data[start : stop - 1]), bounds[-2])
        line = piece.data[at:].split(b"\n", 1)[0]
        what = f"a quote opens and does not close in the same line: {shown(line)}"
        return bad_record(piece, at, Code.FORMAT, what, _WHOLE_FILES)

    def _unclosed(self, piece: Piece) -> Exception:
        what = f"a quote opens that is never closed: {shown(piece.data)}"
        hint = "if quotes mean nothing in this file: scan_csv(..., quote_char=None)"
        return error(Code.FORMAT, what, where=where(piece.path, piece.offset, None), hint=hint)


def is_whole(part: FileRange) -> bool:
    """Whether a range is all of its file."""
    return part.start == 0 and part.stop == part.file.size_bytes


def first_row_of(file: InputFile, form: CsvFormat) -> int:
    """Where in the file the rows begin, behind header and skipped lines. Raises KM0206 for another header."""
    if not form.has_header and not form.skip_lines:
        return 0
    context = PlainContext()  # what it reads is read again, and told, with the range that has it
    part = FileRange(file.stamp, 0, file.stamp.size_bytes)
    reader = FileReader(file, part, form.text, context, 0)
    try:
        for piece in CsvPieces(reader, part, form).pieces(_HEAD_BYTES):
            return piece.offset
    finally:
        reader.close()
    return file.stamp.size_bytes


def fields_of(record: bytes, form: CsvFormat) -> list[str]:
    """The values of one record as text."""
    csv = imported("pyarrow.csv")
    read = csv.ReadOptions(autogenerate_column_names=True, use_threads=False)
    quote = chr(form.quote) if form.quote >= 0 else False
    parse = csv.ParseOptions(delimiter=chr(form.separator), quote_char=quote, newlines_in_values=True)
    # a type for more columns than there can be: no value is taken for a number
    types = {f"f{number}": pa.string() for number in range(record.count(bytes([form.separator])) + 1)}
    table = csv.read_csv(pa.py_buffer(record + b"\n"), read, parse, csv.ConvertOptions(column_types=types))
    return [str(column[0].as_py()) for column in table.columns]


def names_of(fields: Sequence[str]) -> list[str]:
    """What columns are called by a header: column_3 where the third has no name."""
    return [name or f"column_{number}" for number, name in enumerate(fields, 1)]


def _has_quotes(data: bytes, form: CsvFormat) -> bool:
    return form.quote >= 0 and bytes([form.quote]) in data


def _between_comments(data: bytes, starts: list[int], end: int, comment: bytes) -> Iterator[tuple[int, int]]:
    begin: int | None = None
    for start in starts:
        if data.startswith(comment, start):
            if begin is not None:
                yield begin, start
            begin = None
        elif begin is None:
            begin = start
    if begin is not None:
        yield begin, end


def _one_batch(table: pa.Table, schema: pa.Schema | None) -> pa.RecordBatch:
    """The rows of a table as one batch; a schema's own fields, for pyarrow's are all nullable."""
    whole = table.combine_chunks()
    columns: list[Any] = [
        column.chunk(0) if column.num_chunks else pa.array([], column.type) for column in whole.columns
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema or table.schema)
