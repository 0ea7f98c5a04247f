"""Joins of a task: probe rows stream past a build side; see `kernels/joining`.

Pairs come in order of (probe row, build row), whatever the size of batches. A partition is joined in sub-partitions if
its build side is large. One that is still too large holds keys with many rows: its build rows are taken block by block,
and the probe rows come anew for each.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import batch_of
from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec.buildside import BuildSide, longest_text, repeated_key
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.exchange import Rows, RowSource, take_rows
from kernelmill.engine.exec.joinkeys import FirstSeen
from kernelmill.engine.exec.recut import BATCH_BYTES_MAX, recut
from kernelmill.engine.io.rowbytes import bytes_of
from kernelmill.engine.plan.physical import Join
from kernelmill.kernels import joining

PAIRS_MAX = 1 << 17
"""Rows of a batch that a join makes."""
BUILD_ROWS_MAX, BUILD_BYTES_MAX = 1 << 21, 128 << 20
"""A partition with a larger build side is joined in sub-partitions; one twice as large, in blocks of so much. Both
decide the order of rows, so they follow from rows and their values alone (I1)."""
SHARED_ROWS_MAX, SHARED_BYTES_MAX = 2 * BUILD_ROWS_MAX, 2 * BUILD_BYTES_MAX
"""A build side that every task has is made once for all if it is no larger; else each task joins it in pieces."""
REREADS_MAX = 4
"""Up to so many pieces are read from a partition's blocks, each by reading all; more are set apart first, once."""
_TEXT_BYTES_MAX = 1 << 30  # of a column of a batch: int32 offsets end at 2 GiB

Batches = Iterator[pa.RecordBatch]


def join_pieces(build: list[tuple[int, int]], probe: list[tuple[int, int]], step: Join) -> int:
    """In how many sub-partitions a partition is joined: from rows and bytes of its blocks, never from free memory."""
    rows, size = (sum(counts) for counts in zip(*build, strict=True)) if build else (0, 0)
    if not step.build_keys:  # no hash tells rows of all pairs apart: they are taken in blocks
        return 1
    if step.unique_probe:  # their keys are remembered
        rows = max(rows, sum(count for count, _ in probe))
    return max(-(-rows // BUILD_ROWS_MAX), -(-size // BUILD_BYTES_MAX), 1)


def fits_shared(build: list[tuple[int, int]]) -> bool:
    """Whether blocks of so many rows and bytes may be one build side for all tasks of a stage."""
    rows, size = (sum(counts) for counts in zip(*build, strict=True)) if build else (0, 0)
    return rows <= SHARED_ROWS_MAX and size <= SHARED_BYTES_MAX


def join_rows(batches: Batches, build: BuildSide, context: TaskContext) -> Batches:
    """Join the probe rows in `batches` with a build side; of a full join, last the build rows that nothing met."""
    step = build.step
    matched = np.zeros(build.rows + 1, np.uint8)
    for batch in _checked(batches, step, context):
        if step.how in ("semi", "anti"):
            yield from _kept(batch, build.matching(batch) == (step.how == "semi"), step)
        else:
            yield from _paired(batch, build, matched, step.how in ("left", "full"), context)
    if step.how == "full":
        yield from _unmatched(build, matched)


def join_pieces_of(
    build_rows: Callable[[int], Batches],
    probe_rows: Callable[[int], Batches],
    pieces: int,
    schema: pa.Schema,
    step: Join,
    context: TaskContext,
) -> Batches:
    """Join the pieces of two sides one after the other; each is given as often as it is asked for."""
    for piece in range(pieces):
        yield from join_partition(build_rows(piece), partial(probe_rows, piece), schema, step, context)


def join_partition(
    build_rows: Batches, probe_rows: Callable[[], Batches], schema: pa.Schema, step: Join, context: TaskContext
) -> Batches:
    """Join a partition, or a piece of one; `probe_rows` gives its probe rows as often as it is asked."""
    held, rest = _held(build_rows, 2 * BUILD_BYTES_MAX, 2 * BUILD_ROWS_MAX, context)
    if rest is not None and step.how == "asof":
        what = (
            f"over {2 * BUILD_BYTES_MAX:,} bytes of right rows of a join_asof that belong together: they are in memory"
        )
        raise error(Code.MEMORY_LIMIT, what, hint="give by=, whose values divide them, or select fewer columns before")
    if rest is None:
        build = BuildSide(held, schema, step)
        held.clear()  # laid out in `build`: not both for as long as probe rows come
        yield from join_rows(probe_rows(), build, context)
        return
    waiting = _Waiting()
    seen = FirstSeen(step.nulls_equal) if step.unique_build else None
    blocks = _blocks(recut(itertools.chain(_emptied(held), rest), min(BATCH_BYTES_MAX, BUILD_BYTES_MAX)))
    block = next(blocks)
    while block:
        after = next(blocks, [])
        build = BuildSide(block, schema, step)
        if seen is not None:
            _check_unique(block, seen, step.build_keys, step.build_name)
        block = after
        yield from _join_block(probe_rows(), build, waiting, not after, context)


def _join_block(batches: Batches, build: BuildSide, waiting: _Waiting, is_last: bool, context: TaskContext) -> Batches:
    """Join all probe rows with one block of several; with the last one, those that met no row of any."""
    step, first = build.step, 0
    matched = np.zeros(build.rows + 1, np.uint8)
    for batch in _checked(batches, step, context):
        had = waiting.of(first, batch.num_rows)
        has = build.matching(batch)
        waiting.keep(first, had & ~has)
        first += batch.num_rows
        if step.how == "semi":
            yield from _kept(batch, had & has, step)
            continue
        if step.how != "anti":
            yield from _paired(batch, build, matched, False, context)
        alone = had & ~has
        if not is_last or not alone.any() or step.how == "inner":
            continue
        if step.how == "anti":
            yield from _kept(batch, alone, step)
        else:
            lone = take_rows(batch, np.flatnonzero(alone).astype(np.uint32))
            yield _made(_ProbeRows(lone, step), None, build, np.full(lone.num_rows, build.rows, np.uint32))
    if step.how == "full":
        yield from _unmatched(build, matched)


class _Waiting:
    """Which rows of a stream that comes again and again still wait for a match: a bit a row."""

    def __init__(self) -> None:
        self._bits: NDArray[np.uint8] = np.full(1 << 10, 0xFF, np.uint8)

    def of(self, first: int, rows: int) -> NDArray[np.bool_]:
        """Whether each of these rows waits; all do at first."""
        while 8 * self._bits.size < first + rows:
            self._bits = np.concatenate([self._bits, np.full(self._bits.size, 0xFF, np.uint8)])
        return self._unpacked(first, rows)[first % 8 : first % 8 + rows].astype(np.bool_)

    def keep(self, first: int, waits: NDArray[np.bool_]) -> None:
        """Set whether these rows, of which `of` was asked, wait from now on."""
        bits = self._unpacked(first, waits.size)
        bits[first % 8 : first % 8 + waits.size] = waits
        self._bits[first // 8 : (first + waits.size + 7) // 8] = np.packbits(bits, bitorder="little")

    def _unpacked(self, first: int, rows: int) -> NDArray[np.uint8]:
        return np.unpackbits(self._bits[first // 8 : (first + rows + 7) // 8], bitorder="little")


def _held(
    batches: Batches, bytes_max: int, rows_max: int, context: TaskContext
) -> tuple[list[pa.RecordBatch], Batches | None]:
    """Batches up to these sizes, and those after them if there are more."""
    held: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        context.check_cancelled()
        held.append(batch)
        rows, size = rows + batch.num_rows, size + bytes_of(batch.columns)
        if rows > rows_max or size > bytes_max:
            return held, batches
    return held, None


def _emptied(held: list[pa.RecordBatch]) -> Batches:
    """What is held, forgotten as it is taken."""
    held.reverse()
    while held:
        yield held.pop()


def _blocks(batches: Batches) -> Iterator[list[pa.RecordBatch]]:
    block: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        more = bytes_of(batch.columns)
        if block and (rows + batch.num_rows > BUILD_ROWS_MAX or size + more > BUILD_BYTES_MAX):
            yield block
            block, rows, size = [], 0, 0
        block.append(batch)
        rows, size = rows + batch.num_rows, size + more
    if block:
        yield block


def _checked(batches: Batches, step: Join, context: TaskContext) -> Batches:
    """Probe batches; KM0210 for a key that is there twice, where the step forbids it."""
    seen = FirstSeen(step.nulls_equal) if step.unique_probe else None
    for batch in batches:
        context.check_cancelled()
        context.rows_from(None)
        if seen is not None:
            _check_unique([batch], seen, step.probe_keys, step.probe_name)
        if batch.num_rows:
            yield batch


def _check_unique(batches: list[pa.RecordBatch], seen: FirstSeen, names: tuple[str, ...], side: str) -> None:
    for batch in batches:
        keys = [batch.column(name) for name in names]
        again = seen.repeated(keys, batch.num_rows)
        if again is not None:
            raise repeated_key(names, keys, again, side)


def _kept(batch: pa.RecordBatch, keep: NDArray[np.bool_], step: Join) -> Batches:
    """These rows of a probe batch, for semi and anti joins."""
    rows = np.flatnonzero(keep).astype(np.uint32)
    if not rows.size:
        return
    kept = batch.select([column.column for column in step.columns])
    if rows.size < batch.num_rows:
        kept = take_rows(kept, rows)
    yield batch_of(kept.columns, step.schema)


def _paired(
    batch: pa.RecordBatch, build: BuildSide, matched: NDArray[np.uint8], keeps_all: bool, context: TaskContext
) -> Batches:
    """The joined rows of a probe batch, PAIRS_MAX at a time at most; `keeps_all`: those without a match too."""
    probe = _ProbeRows(batch, build.step)
    gives_one = build.is_unique or build.step.how == "asof"
    longest = build.text_bytes_max if gives_one else max(probe.text_bytes_max(), build.text_bytes_max)
    room = min(PAIRS_MAX, max(1, _TEXT_BYTES_MAX // max(1, longest)))
    for probe_rows, build_rows in _pairs(batch, build, keeps_all, room):
        context.check_cancelled()
        if build.step.how == "full":
            joining.mark_rows(build_rows, matched)
        is_whole = gives_one and probe_rows.size == batch.num_rows  # each row once, in order
        yield _made(probe, None if is_whole else probe_rows, build, build_rows)


def _made(probe: _ProbeRows, probe_rows: Rows | None, build: BuildSide, build_rows: Rows) -> pa.RecordBatch:
    """Joined rows: these of a probe batch, all if None, beside these of the build side."""
    step = build.step
    has_missing = step.how in ("left", "full", "asof") and bool((build_rows == build.rows).any())
    columns = [
        build.take(column.column, build_rows, has_missing)
        if column.from_build
        else probe.take(column.column, probe_rows)
        for column in step.columns
    ]
    return batch_of(columns, step.schema)


def _pairs(batch: pa.RecordBatch, build: BuildSide, keeps_all: bool, room: int) -> Iterator[tuple[Rows, Rows]]:
    """Numbers of rows of a probe batch and build rows that go together, `room` pairs at a time."""
    if build.step.how == "asof":
        every, nearest = np.arange(batch.num_rows, dtype=np.uint32), build.nearest(batch)
        for first in range(0, batch.num_rows, room):
            yield every[first : first + room], nearest[first : first + room]
        return
    groups = build.find(batch)
    if build.is_unique:
        probe_rows, build_rows = np.empty(groups.size, np.uint32), np.empty(groups.size, np.uint32)
        count = joining.pair_unique(groups, build.row_of, keeps_all, build.rows, probe_rows, build_rows)
        for first in range(0, count, room):
            yield probe_rows[first : min(first + room, count)], build_rows[first : min(first + room, count)]
        return
    place = np.zeros(2, np.int64)
    while place[0] < groups.size:
        probe_rows, build_rows = np.empty(room, np.uint32), np.empty(room, np.uint32)
        at = place, probe_rows, build_rows
        count = joining.pair_rows(groups, build.starts, build.row_at, keeps_all, build.rows, *at)
        if count:
            yield probe_rows[:count], build_rows[:count]


class _ProbeRows:
    """A probe batch to gather from."""

    def __init__(self, batch: pa.RecordBatch, step: Join) -> None:
        self._batch = batch
        self._names = [column.column for column in step.columns if not column.from_build]
        self._sources: dict[str, RowSource] = {}

    def text_bytes_max(self) -> int:
        """The bytes of the longest text in a column that comes out."""
        return max((longest_text(self._batch.column(name)) for name in self._names), default=0)

    def take(self, name: str, rows: Rows | None) -> pa.Array[Any]:
        """Column `name` of these rows, or as it is."""
        column = self._batch.column(name)
        if rows is None:
            return column
        if name not in self._sources:
            self._sources[name] = RowSource(column)
        return self._sources[name].take(rows)


def _unmatched(build: BuildSide, matched: NDArray[np.uint8]) -> Batches:
    """The build rows of a full join that no probe row met, in their order, beside nulls."""
    rows = np.flatnonzero(matched[: build.rows] == 0).astype(np.uint32)
    room = min(PAIRS_MAX, max(1, _TEXT_BYTES_MAX // max(1, build.text_bytes_max)))
    for first in range(0, rows.size, room):
        part = rows[first : first + room]
        columns = [
            build.take(column.column, part, False) if column.from_build else pa.nulls(part.size, field.type)
            for column, field in zip(build.step.columns, build.step.schema, strict=True)
        ]
        yield batch_of(columns, build.step.schema)
