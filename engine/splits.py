"""Splits: pieces of input, fixed by the inputs and the split size alone (I1). Pure values, no file is opened here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec


class FileStamp(msgspec.Struct, frozen=True, array_like=True):
    """A file as it was when it was scanned; a difference at the end of a read is KM0203.

    `path` is what its user calls it, in messages and rows too; `place` where another process finds it, if elsewhere.
    """

    path: str
    size_bytes: int
    mtime_ns: int
    place: str = ""

    @property
    def opened_path(self) -> str:
        """The path by which to open it here."""
        return self.place or self.path


class FileRange(msgspec.Struct, frozen=True, array_like=True):
    """Bytes [start, stop) of a file. A line belongs to the range in which its first byte lies."""

    file: FileStamp
    start: int
    stop: int


class TextSplit(msgspec.Struct, frozen=True, tag="text"):
    """A byte range of one large file, or several small whole files in order."""

    ranges: tuple[FileRange, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of input, as they lie in the files."""
        return sum(part.stop - part.start for part in self.ranges)


class ParquetSplit(msgspec.Struct, frozen=True, tag="parquet"):
    """Consecutive row groups of one Parquet file; `size_bytes` counts the projected columns only."""

    file: FileStamp
    row_groups: tuple[int, ...]
    size_bytes: int


class ParquetFilesSplit(msgspec.Struct, frozen=True, tag="parquet_files"):
    """Row groups of many small Parquet files, in order."""

    parts: tuple[ParquetSplit, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of the projected columns of all files."""
        return sum(part.size_bytes for part in self.parts)


class TableSplit(msgspec.Struct, frozen=True, tag="table"):
    """Record batches [start, stop) of an in-memory table that the runner holds under `table`."""

    table: str
    start: int
    stop: int
    size_bytes: int


class SourceSplit(msgspec.Struct, frozen=True, tag="source"):
    """Split `number` of a source that the runner holds under `source`; `value` is what it calls the split, as JSON.

    Number -1 stands for a source without splits: it has no rows.
    """

    source: str
    number: int
    value: bytes
    size_bytes: int


Split = TextSplit | ParquetSplit | ParquetFilesSplit | TableSplit | SourceSplit

PARQUET_TASKS_LEAST = 64
"""So many tasks there are, if there are files enough: only beyond that do small files share one."""


def split_text_files(files: Sequence[FileStamp], split_bytes: int, *, splittable: Sequence[bool]) -> list[TextSplit]:
    """Cut large splittable files at multiples of `split_bytes`; put runs of small whole files into shared splits.

    `splittable[i]` is False for a file that can only be read from its beginning (compressed, whole documents).
    """
    splits: list[TextSplit] = []
    waiting: list[FileRange] = []
    waiting_bytes = 0

    def flush() -> None:
        nonlocal waiting, waiting_bytes
        if waiting:
            splits.append(TextSplit(tuple(waiting)))
        waiting, waiting_bytes = [], 0

    for file, may_cut in zip(files, splittable, strict=True):
        if waiting and waiting_bytes + file.size_bytes > split_bytes:
            flush()
        if file.size_bytes > split_bytes:
            cuts = [*range(0, file.size_bytes, split_bytes), file.size_bytes] if may_cut else [0, file.size_bytes]
            splits += [TextSplit((FileRange(file, a, b),)) for a, b in zip(cuts, cuts[1:], strict=False)]
        else:
            waiting.append(FileRange(file, 0, file.size_bytes))
            waiting_bytes += file.size_bytes
    flush()
    return splits


def split_row_groups(file: FileStamp, group_bytes: Iterable[tuple[int, int]], split_bytes: int) -> list[ParquetSplit]:
    """Put consecutive row groups, given as (number, projected bytes), together up to `split_bytes` each."""
    splits: list[ParquetSplit] = []
    groups: list[int] = []
    total = 0
    for number, size in group_bytes:
        if groups and total + size > split_bytes:
            splits.append(ParquetSplit(file, tuple(groups), total))
            groups, total = [], 0
        groups.append(number)
        total += size
    if groups:
        splits.append(ParquetSplit(file, tuple(groups), total))
    return splits


def shared_splits(splits: Sequence[ParquetSplit], split_bytes: int) -> tuple[ParquetSplit | ParquetFilesSplit, ...]:
    """Put neighbours that are small together, so that many tiny files make some 64 tasks and not one each.

    A split holds at most a 64th of all bytes and of all splits, where that is more than one, and at most `split_bytes`.
    """
    total = sum(split.size_bytes for split in splits)
    bytes_max = min(split_bytes, total // PARQUET_TASKS_LEAST)
    count_max = -(-len(splits) // PARQUET_TASKS_LEAST)
    shared: list[ParquetSplit | ParquetFilesSplit] = []
    waiting: list[ParquetSplit] = []
    size_bytes = 0

    def flush() -> None:
        nonlocal waiting, size_bytes
        if waiting:
            shared.append(waiting[0] if len(waiting) == 1 else ParquetFilesSplit(tuple(waiting)))
        waiting, size_bytes = [], 0

    for split in splits:
        if waiting and (size_bytes + split.size_bytes > bytes_max or len(waiting) >= count_max):
            flush()
        waiting.append(split)
        size_bytes += split.size_bytes
    flush()
    return tuple(shared)
