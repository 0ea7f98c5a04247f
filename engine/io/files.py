"""Reading CSV, JSON lines, Arrow files and fixed-width records: the ranges of a split as record batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa

from kernelmill.engine.io.arrow_files import read_arrow
from kernelmill.engine.io.blocks import FileReader
from kernelmill.engine.io.bytestream import InputFile
from kernelmill.engine.io.context import ReadContext
from kernelmill.engine.io.csv_rows import CsvParser, CsvPieces, first_row_of, is_whole
from kernelmill.engine.io.fixed_records import read_records
from kernelmill.engine.io.folders import with_path_columns
from kernelmill.engine.io.lines import joined
from kernelmill.engine.io.ndjson_rows import JsonParser, line_pieces
from kernelmill.engine.io.textrows import Located, read_piece
from kernelmill.engine.plan.fileformats import CsvFormat, Format, IpcFormat, JsonFormat, RecordFormat
from kernelmill.engine.plan.physical import ReadFiles
from kernelmill.engine.splits import FileRange, TextSplit

_NOTHING: list[pa.Field[Any]] = [pa.field("", pa.string())]


def read_files(split: TextSplit, operator: ReadFiles, context: ReadContext) -> Iterator[pa.RecordBatch]:
    """Yield the rows that begin in the split as batches of operator.schema; none is empty.

    Raises KM0201, KM0203 (missing, changed), KM0202, KM0205 (not of the format, truncated), KM0204 (not text), KM0206
    (a header that is another), KM0207 (a value that is not of its type), KM0209 (a record that is too long). Rows that
    are KM0202 or KM0207 for themselves are set aside with on_bad="reject".
    """
    for batch, place in joined(_batches(split, operator, context)):
        context.rows_from(place)
        yield batch


def _batches(split: TextSplit, operator: ReadFiles, context: ReadContext) -> Iterator[Located]:
    elsewhere = operator.path_columns.names
    wanted = pa.schema([field for field in operator.schema if field.name not in elsewhere])
    parser = _parser(operator.format, wanted)
    done_bytes = 0
    for part in split.ranges:
        with InputFile(part.file) as file:
            for batch, place in _of_range(file, part, operator.format, wanted, parser, context, done_bytes):
                yield with_path_columns(batch, part.file, operator.schema, operator.path_columns), place
            file.check()
        done_bytes += part.stop - part.start
        context.progress(done_bytes)


def _parser(form: Format, wanted: pa.Schema) -> CsvParser | JsonParser | None:
    """What makes the rows of a text format; it serves all files of a split."""
    match form:
        case CsvFormat():  # where only the path is wanted, a column is read so that there are rows
            return CsvParser(form, wanted if len(wanted) else pa.schema([pa.field(form.columns.names[0], pa.string())]))
        case JsonFormat():
            return JsonParser(wanted if len(wanted) else pa.schema(_NOTHING))
        case _:
            return None


def _of_range(
    file: InputFile,
    part: FileRange,
    form: Format,
    wanted: pa.Schema,
    parser: CsvParser | JsonParser | None,
    context: ReadContext,
    done_bytes: int,
) -> Iterator[Located]:
    match form:
        case IpcFormat():
            yield from read_arrow(file, part, wanted, context)
        case RecordFormat():
            yield from read_records(file, part, form, wanted, context)
        case CsvFormat() | JsonFormat():
            assert parser is not None  # there is one for each of these formats
            reader = FileReader(file, part, form.text, context, done_bytes)
            try:
                if isinstance(form, CsvFormat):
                    first_row = 0 if is_whole(part) else first_row_of(file, form)
                    pieces = CsvPieces(reader, part, form, first_row).pieces()
                else:
                    pieces = line_pieces(reader, part.file.path)
                for piece in pieces:
                    yield from read_piece(piece, parser, context)
            finally:
                reader.close()
