"""The rows of a task as several Parquet files: for each value of some columns, and no larger than was asked for.

One file is open at a time, for rows of equal values stand side by side. Where a file ends follows from the rows and the
bytes that they became, and from nothing else (I1).
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
from msgspec.structs import replace

from kernelmill.engine.batch import plain
from kernelmill.engine.commit import PartFile, PlacedFile
from kernelmill.engine.durable import output_errors
from kernelmill.engine.io.folders import folder_of
from kernelmill.engine.io.parquet_write import RowGroupFile, RowGroups, SyncLater
from kernelmill.engine.plan.physical import ToParquetFiles
from kernelmill.engine.syncing import Syncs

StartsOf = Callable[[Sequence[Any]], Iterable[int]]


class FilesWriter:
    """Write batches to new files in the new folder `path`: `write` them in order, then `close` for what was made.

    `starts_of` tells the first row of each run of equal values of columns. `before_file` is called before each file,
    of which a batch may need thousands; it may raise. Leaving the context without `close` deletes the folder. Errors as
    PartWriter, and KM0207 for a value that cannot be the name of a folder.
    """

    def __init__(
        self,
        path: str,
        operator: ToParquetFiles,
        starts_of: StartsOf,
        sync_later: SyncLater | None = None,
        before_file: Callable[[], None] = lambda: None,
    ) -> None:
        self.path, self._operator, self._starts_of, self._before_file = path, operator, starts_of, before_file
        self._syncs = Syncs()  # for small files most of the time goes into waiting for the disk
        self._sync_later = sync_later or self._syncs.add
        # two row groups at least: the last one decides how near a file comes to what was asked for
        self._groups = RowGroups(operator, None if operator.file_bytes is None else max(1, operator.file_bytes // 2))
        self._file: RowGroupFile | None = None
        self._folder, self._rows, self._count, self._is_closed = "", 0, 0, False
        self._parts: list[PlacedFile] = []
        with output_errors("making a folder of part files", path):
            os.mkdir(path)

    def write(self, batch: pa.RecordBatch) -> None:
        """Append the rows of a batch, which has the columns of the operator's schema and of its folders."""
        rows = batch.select(self._operator.schema.names)
        folders = self._operator.folders
        if not len(folders) or not batch.num_rows:
            self._append(rows)
            return
        columns = [plain(batch.column(name)) for name in folders.names]
        starts = [int(start) for start in self._starts_of(columns)]
        for start, end in zip(starts, [*starts[1:], batch.num_rows], strict=True):
            folder = folder_of(folders, [column[start] for column in columns])
            if folder != self._folder:
                self._end_file()
                self._folder = folder
            self._append(rows.slice(start, end - start))

    def close(self) -> tuple[PlacedFile, ...]:
        """Write what waits, finish the last file, and describe all: names go from the folder above `path`.

        A task without rows leaves one file without rows, which has all columns.
        """
        self._end_file()
        if not self._parts:
            self._folder = ""
            columns = pa.schema([*self._operator.schema, *self._operator.folders])
            self._file = self._new_file(replace(self._operator, schema=columns))
            self._close_file()
        self._syncs.wait()
        self._syncs.close()
        self._is_closed = True
        return tuple(self._parts)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_closed:
            return
        if self._file is not None:
            self._file.abort()
        self._syncs.close()
        shutil.rmtree(self.path, ignore_errors=True)

    def _append(self, rows: pa.RecordBatch) -> None:
        """Add rows to the open file, and to others after it."""
        rows_max = self._operator.file_rows_max
        while rows.num_rows:
            taken = rows if rows_max is None else rows.slice(0, rows_max - self._rows)
            for table in self._groups.add(taken):
                self._write(table)
            self._rows = self._groups.waiting_rows + (0 if self._file is None else self._file.rows)
            if self._rows == rows_max:
                self._end_file()
            rows = rows.slice(taken.num_rows)

    def _write(self, table: pa.Table) -> None:
        if self._file is None:
            self._file = self._new_file(self._operator)
        before = self._file.bytes
        self._file.write(table)
        target, size = self._operator.file_bytes, self._file.bytes
        if target is not None and size + (size - before) // 2 >= target:  # another row group would take it further off
            self._close_file()

    def _end_file(self) -> None:
        """The rows that wait are the last ones of their file."""
        for table in self._groups.rest():
            self._write(table)
        if self._file is not None:
            self._close_file()
        self._rows = 0

    def _new_file(self, operator: ToParquetFiles) -> RowGroupFile:
        self._before_file()
        path = os.path.join(self.path, f"{self._count:05d}.parquet")
        self._count += 1
        return RowGroupFile(path, operator, self._sync_later)

    def _close_file(self) -> None:
        assert self._file is not None
        made: PartFile = self._file.close()
        self._file = None
        name = os.path.join(os.path.basename(self.path), made.name)
        self._parts.append(PlacedFile(name, made.rows, made.bytes, made.checksum, self._folder))
