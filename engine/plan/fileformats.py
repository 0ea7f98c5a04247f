"""How the rows of files lie in them, as values of the plan: what scans say and readers go by."""

from __future__ import annotations

import msgspec
import pyarrow as pa

NO_COLUMNS = pa.schema([])


class TextOptions(msgspec.Struct, frozen=True):
    """How text files are read: see `scan_text`. `invalid` is error, replace, skip or binary."""

    invalid: str = "error"
    separator: bytes = b"\n"
    max_line_bytes: int = 64 << 20
    whole_file: bool = False
    path_column: str | None = None
    offset_column: str | None = None
    encoding: str = "utf-8"


class PathColumns(msgspec.Struct, frozen=True):
    """Columns that are in the paths of files and not in the files: `path`, and those of folders `name=value`."""

    folders: pa.Schema = NO_COLUMNS
    path: str | None = None

    @property
    def names(self) -> set[str]:
        """What they are called."""
        return {*self.folders.names, *(() if self.path is None else (self.path,))}


NO_PATH_COLUMNS = PathColumns()


class CsvFormat(msgspec.Struct, frozen=True, tag="csv"):
    """Rows of delimited text; `columns` are all that a row has, in order. `separator`, `quote`: a byte, quote -1: none.

    `skip_lines` come before the header, lines that start with `comment` are none. is_cut: files are cut at any newline,
    and one inside quotes is KM0202; else only between rows.
    """

    columns: pa.Schema
    text: TextOptions
    separator: int = 44
    quote: int = 34
    has_header: bool = True
    comment: bytes = b""
    null_values: tuple[str, ...] = ()
    skip_lines: int = 0
    is_cut: bool = True


class JsonFormat(msgspec.Struct, frozen=True, tag="json"):
    """A JSON object a line."""

    text: TextOptions


class IpcFormat(msgspec.Struct, frozen=True, tag="ipc"):
    """Arrow record batches, as an IPC file or a stream."""


class RecordFormat(msgspec.Struct, frozen=True, tag="records"):
    """Records of `width` bytes, cut into `fields`: (name, bytes)."""

    width: int
    fields: tuple[tuple[str, int], ...]


Format = CsvFormat | JsonFormat | IpcFormat | RecordFormat
FORMAT_NAMES: dict[type, str] = {CsvFormat: "csv", JsonFormat: "ndjson", IpcFormat: "arrow", RecordFormat: "records"}
