"""What columns CSV and JSON files have, found in their first rows when they are scanned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from msgspec.structs import replace

from kernelmill.engine.errors import Code, error
from kernelmill.engine.io.blocks import FileReader
from kernelmill.engine.io.bytestream import InputFile
from kernelmill.engine.io.context import PlainContext
from kernelmill.engine.io.csv_rows import CsvParser, CsvPieces, Records, fields_of, names_of
from kernelmill.engine.io.ndjson_rows import JsonParser, line_pieces
from kernelmill.engine.io.textrows import read_piece
from kernelmill.engine.plan.fileformats import CsvFormat, JsonFormat
from kernelmill.engine.schema import find
from kernelmill.engine.splits import FileRange, FileStamp


def csv_columns(
    files: Sequence[FileStamp], form: CsvFormat, rows: int, schema: pa.Schema | None, overrides: pa.Schema
) -> tuple[pa.Schema, bool]:
    """The columns of CSV files by their header and first `rows` rows, and whether values there hold newlines.

    `schema` names and types all columns and is only checked, `overrides` gives types of some. Raises KM0101 for an
    override of no column, KM0102 for a type that CSV has no values of, KM0103 for two columns of one name, KM0202 where
    there is nothing to tell columns by, KM0206 where the header is not that of `schema`.
    """
    sampled = form if schema is None else replace(form, columns=schema)
    header, data, has_newlines = _csv_sample(files, sampled, rows)
    given = overrides if schema is None else schema
    if schema is None:
        names = header if header is not None else _numbered(files, data, form)
        for number, name in enumerate(names):
            if name in names[:number]:
                what, hint = f"two columns are called {name!r}", "name them: scan_csv(..., schema={...})"
                raise error(Code.DUPLICATE_COLUMN, what, where=files[0].path, hint=hint)
        unknown = pa.schema([pa.field(name, pa.string()) for name in names])
        found = CsvParser(replace(form, columns=unknown), None, skip_bad=True).parse(data).schema
        schema = found if len(found) else unknown
    columns = _overridden(schema, overrides)
    _check_types(form, pa.schema([columns.field(name) for name in given.names]))
    return columns, has_newlines


def json_columns(files: Sequence[FileStamp], form: JsonFormat, rows: int, overrides: pa.Schema) -> pa.Schema:
    """The columns of JSON lines by the first `rows` of them, and `overrides`, which may name others.

    Lines that are no objects are left to the job. Raises KM0202 if there is no object, KM0206 for a key whose values
    have no type in common.
    """
    parser = JsonParser(overrides, infer=True)
    context = PlainContext("reject")
    schemas: list[pa.Schema] = [overrides]
    left = rows
    for file in files:
        for reader, part in _opened(file, form, context):
            for piece in line_pieces(reader, part.file.path):
                starts = parser.starts(piece.data).tolist()
                stop = starts[left] if left < len(starts) else len(piece.data)
                schemas += [batch.schema for batch, _ in read_piece(piece.part(0, stop), parser, context)]
                left -= len(starts)
                if left <= 0:
                    break
        if left <= 0:
            break
    try:
        found = pa.unify_schemas(schemas, promote_options="permissive")
    except (pa.ArrowInvalid, pa.ArrowTypeError) as problem:
        hint = 'name a type that fits all: scan_ndjson(..., schema_overrides={"name": "string"})'
        raise error(
            Code.SCHEMA_CONFLICT, f"values of one key differ: {problem}", where=files[0].path, hint=hint
        ) from None
    if not len(found):
        hint = "each line has to be an object; give schema= for files that have no lines yet"
        raise error(Code.FORMAT, "there is no JSON object to tell columns by", where=files[0].path, hint=hint)
    return _overridden(found, overrides)


def _csv_sample(files: Sequence[FileStamp], form: CsvFormat, rows: int) -> tuple[list[str] | None, bytes, bool]:
    """The first header, the bytes of the first rows of all files, and whether values hold newlines."""
    header: list[str] | None = None
    sample: list[bytes] = []
    has_newlines = False
    left = rows
    for file in files:
        for reader, part in _opened(file, form, PlainContext("reject")):
            found = CsvPieces(reader, part, form)
            for piece in found.pieces():
                starts = Records(piece.data, form).all_starts().tolist()
                stop = starts[left] if left < len(starts) else len(piece.data)
                taken = piece.data[:stop]
                sample += [taken] if taken.endswith((b"\n", b"\r")) or not taken else [taken, b"\n"]
                left -= len(starts)
                if left <= 0:
                    break
            header = header if header is not None else found.header
            has_newlines |= found.has_newlines
        if left <= 0:
            break
    return header, b"".join(sample), has_newlines


def _opened(
    file: FileStamp, form: CsvFormat | JsonFormat, context: PlainContext
) -> Iterator[tuple[FileReader, FileRange]]:
    part = FileRange(file, 0, file.size_bytes)
    with InputFile(file) as opened:
        reader = FileReader(opened, part, form.text, context, 0)
        try:
            yield reader, part
        finally:
            reader.close()


def _numbered(files: Sequence[FileStamp], data: bytes, form: CsvFormat) -> list[str]:
    if not data.strip(b"\r\n") or form.has_header:
        hint = "give schema= for files that have no rows yet"
        raise error(Code.FORMAT, "there is no row to tell columns by", where=files[0].path, hint=hint)
    data = data.lstrip(b"\r\n")
    starts = Records(data, form).all_starts().tolist()
    first = data[: starts[1]] if len(starts) > 1 else data
    return names_of([""] * len(fields_of(first, form)))


def _overridden(schema: pa.Schema, overrides: pa.Schema) -> pa.Schema:
    """All columns nullable, with types that hold what later rows may have."""
    for name in overrides.names:
        find(schema, name)
    types = {field.name: _settled(field.type) for field in schema}
    types.update({field.name: field.type for field in overrides})
    return pa.schema([pa.field(name, dtype) for name, dtype in types.items()])


def _settled(dtype: Any) -> pa.DataType:
    """The type for a column whose first values are of `dtype`: text where there are none, microseconds for seconds."""
    if pa.types.is_null(dtype):
        return pa.string()
    if pa.types.is_timestamp(dtype) and dtype.unit == "s":
        return pa.timestamp("us", dtype.tz)
    if pa.types.is_list(dtype):
        return pa.list_(_settled(dtype.value_type))
    if pa.types.is_struct(dtype):
        return pa.struct([pa.field(field.name, _settled(field.type)) for field in dtype])
    return dtype  # type: ignore[no-any-return]


def _check_types(form: CsvFormat, columns: pa.Schema) -> None:
    for field in columns:
        one = pa.schema([field])
        try:
            CsvParser(replace(form, columns=one, quote=-1), one).parse(b"\n")
        except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as problem:
            hint = "read it as string and cast it"
            what = f"column {field.name!r}: CSV has no values of type {field.type}"
            raise error(Code.TYPE_MISMATCH, what, hint=hint) from problem
