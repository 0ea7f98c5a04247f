"""The build side of a join: its rows in memory, laid out by key, ready to be gathered from."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import Words, concatenated, fixed_view, is_string_like, strings_view
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.exec.asof import in_order, moments_of, nearest
from kernelmill.engine.exec.exchange import Rows, RowSource
from kernelmill.engine.exec.joinkeys import number_keys
from kernelmill.engine.io.parquet_encodings import repeats
from kernelmill.engine.io.parquet_texts import DICTIONARY_BYTES_MAX
from kernelmill.engine.plan.physical import Join
from kernelmill.engine.pyvalues import python_values
from kernelmill.kernels import gathering, joining

T = TypeVar("T")

_SPARSE, _DENSE = 12, 4
"""Numbers a row that integer keys may take by their distance from the least: with one row a key a number costs 4 bytes,
with several 12."""
_CODED_ROWS_MIN = 1 << 16
"""Of fewer texts a dictionary costs nothing, beside the rows that they will be in."""


class BuildSide:
    """The rows, of `schema`, that probe rows are joined with. Nothing in it changes once it is made.

    Raises KM0210 for a key that is there twice where the step forbids it.
    """

    def __init__(self, batches: Sequence[pa.RecordBatch], schema: pa.Schema, step: Join) -> None:
        self.step = step
        self.rows = sum(batch.num_rows for batch in batches)
        whole = _whole(batches, schema, has_null_row=step.how in ("left", "full", "asof"))
        keys = [whole.column(name).slice(0, self.rows) for name in step.build_keys]
        self._finder, groups = number_keys(keys, self.rows, step.nulls_equal, _SPARSE if step.asof is None else _DENSE)
        self._moments_at: Words = np.empty(0, np.uint64)
        self.row_of = np.full(self._finder.groups, joining.NO_GROUP, np.int32)
        again = joining.row_of_groups(groups, self.row_of)
        if again >= 0 and step.unique_build:
            raise repeated_key(step.build_keys, keys, again, step.build_name)
        self.is_unique = again < 0
        self.starts: NDArray[np.int64] = np.zeros(1, np.int64)
        self.row_at: Rows = np.empty(0, np.uint32)
        if step.asof is not None:
            self.is_unique, self.row_of = False, np.empty(0, np.int32)
            moments = moments_of(whole.column(step.asof.build_on).slice(0, self.rows))
            order, groups = in_order(groups, moments)
            self._lay_out(groups)
            self.row_at = order[self.row_at].astype(np.uint32)
            self._moments_at = moments.words[self.row_at]
        elif not self.is_unique:
            self.row_of = np.empty(0, np.int32)
            if self._finder.groups > _DENSE * self.rows:
                self._finder, groups = number_keys(keys, self.rows, step.nulls_equal, _DENSE)
            self._lay_out(groups)
        taken: dict[str, Any] = {
            column.column: whole.column(column.column) for column in step.columns if column.from_build
        }
        for name in {column.column for column in step.columns if column.name in step.coded}:
            taken[name] = _as_codes(taken[name])
        self._sources = {name: RowSource(column.slice(0, self.rows)) for name, column in taken.items()}
        has_null_row = whole.num_rows > self.rows
        self._with_null = {name: RowSource(column) for name, column in taken.items()} if has_null_row else {}
        self.text_bytes_max = max(map(longest_text, taken.values()), default=0)

    def _lay_out(self, groups: NDArray[np.int32]) -> None:
        self.starts = np.zeros(self._finder.groups + 1, np.int64)
        joining.count_groups(groups, self.starts[:-1])
        self.starts[-1] = self.starts[-2] if self._finder.groups else 0
        self.row_at = np.empty(int(self.starts[-1]), np.uint32)
        joining.place_rows(groups, self.starts[:-1], self.row_at)

    def find(self, batch: pa.RecordBatch) -> NDArray[np.int32]:
        """The groups of a probe batch's rows."""
        keys: list[Any] = [batch.column(name) for name in self.step.probe_keys]
        if len(keys) == 1 and isinstance(keys[0], pa.DictionaryArray) and len(keys[0].dictionary) <= batch.num_rows:
            return self._find_codes(keys[0])
        return self._finder.find(keys, batch.num_rows)

    def _find_codes(self, column: Any) -> NDArray[np.int32]:
        """The groups of codes: each text is looked up once."""
        texts, codes = column.dictionary, column.indices
        if codes.null_count:
            texts = pa.concat_arrays([texts, pa.nulls(1, texts.type)])
            codes = codes.fill_null(len(texts) - 1)
        groups, of_text = np.empty(len(codes), np.int32), self._finder.find([texts], len(texts))
        gathering.gather_u32(of_text.view(np.uint32), fixed_view(codes, np.uint32), groups.view(np.uint32))
        return groups

    def matching(self, batch: pa.RecordBatch) -> NDArray[np.bool_]:
        """Whether each row of a probe batch has a match."""
        marks = np.empty(batch.num_rows, np.uint8)
        if self.is_unique:
            joining.mark_found(self.find(batch), self.row_of, marks)
        else:
            joining.mark_matching(self.find(batch), self.starts, marks)
        return marks.view(np.bool_)

    def nearest(self, batch: pa.RecordBatch) -> Rows:
        """The row that `step.asof` puts beside each row of a probe batch; `self.rows` where there is none."""
        asof = self.step.asof
        assert asof is not None
        groups = self.find(batch)
        has_group = groups >= 0
        group = np.where(has_group, groups, 0)
        first = self.starts[group]
        last = np.where(has_group, self.starts[np.minimum(group + 1, self.starts.size - 1)], first)
        at, found = nearest(asof, moments_of(batch.column(asof.probe_on)), self._moments_at, first, last)
        if not self.row_at.size:
            return np.full(batch.num_rows, self.rows, np.uint32)
        return np.where(found, self.row_at[np.where(found, at, 0)], np.uint32(self.rows))

    def take(self, name: str, rows: Rows, has_missing: bool) -> pa.Array[Any]:
        """Column `name` of these build rows; with `has_missing` the row number `self.rows` stands for nulls."""
        return (self._with_null if has_missing else self._sources)[name].take(rows)


class SharedBuilds:
    """Build sides that all tasks of a stage read, made once in this process by the first that asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[tuple[int, int], threading.Lock] = {}
        self._made: dict[tuple[int, int], Any] = {}
        self._of_parts: dict[tuple[int, int], _OfParts] = {}

    def get(self, stage: int, number: int, make: Callable[[], T]) -> T:
        """The build side of a stage's step, made by `make` if there is none yet; others wait for it."""
        with self._lock_of(stage, number):
            return self._get(stage, number, make)

    def make_if_nobody_does(self, stage: int, number: int, make: Callable[[], object]) -> None:
        """Make the build side of a stage's step, if there is none yet and nobody else is making it; never wait."""
        lock = self._lock_of(stage, number)
        if lock.acquire(blocking=False):
            try:
                self._get(stage, number, make)
            finally:
                lock.release()

    def _lock_of(self, stage: int, number: int) -> threading.Lock:
        with self._lock:
            return self._locks.setdefault((stage, number), threading.Lock())

    def _get(self, stage: int, number: int, make: Callable[[], T]) -> T:
        place = stage, number
        if place not in self._made:
            self._made[place] = make()
        found: T = self._made[place]
        return found

    def get_part(self, stage: int, number: int, part: int, make: Callable[[], BuildSide]) -> BuildSide:
        """That of a partition that several tasks join: kept while one of them has it, and until another is made."""
        with self._lock:
            of_parts = self._of_parts.setdefault((stage, number), _OfParts())
        return of_parts.get(part, make)

    def drop(self, stage: int) -> None:
        """Forget those of a stage that is done."""
        with self._lock:
            for held in (self._made, self._of_parts):
                for place in [place for place in held if place[0] == stage]:
                    del held[place]


class _OfParts:
    """The build sides of partitions: those that tasks have, and the last one, for its next task may not have begun."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._locks: dict[int, threading.Lock] = {}
        self._known: weakref.WeakValueDictionary[int, BuildSide] = weakref.WeakValueDictionary()
        self._last: BuildSide | None = None

    def get(self, part: int, make: Callable[[], BuildSide]) -> BuildSide:
        with self._lock:
            lock = self._locks.setdefault(part, threading.Lock())
        with lock:
            build = self._known.get(part)
            if build is None:
                self._last = None
                build = self._known[part] = make()
            self._last = build
            return build


def longest_text(column: Any) -> int:
    """The bytes of the longest text in a column; 0 for other types."""
    if isinstance(column, pa.DictionaryArray):
        return longest_text(column.dictionary)
    if not len(column) or not is_string_like(column.type):
        return 0
    return int(np.diff(strings_view(column)[1]).max())


def _as_codes(texts: Any) -> Any:
    """A column of texts as codes, if they repeat and their dictionary is small enough to be written."""
    if len(texts) > _CODED_ROWS_MIN and not repeats(texts):
        return texts
    coded = texts.dictionary_encode()
    return coded if coded.dictionary.nbytes <= DICTIONARY_BYTES_MAX else texts


def repeated_key(names: tuple[str, ...], keys: list[pa.Array[Any]], row: int, side: str) -> KernelmillError:
    """KM0210 for a row whose key came before."""
    key = {name: python_values(column.slice(row, 1))[0] for name, column in zip(names, keys, strict=True)}
    what = f"validate= says that each key is once on the {side} side of the join, and {key} is there again"
    return error(Code.KEY_REPEATED, what, hint="leave validate= out, or make the keys unique: group_by(...).agg(...)")


def _whole(batches: Sequence[pa.RecordBatch], schema: pa.Schema, *, has_null_row: bool) -> pa.RecordBatch:
    """All rows in one batch; a row of nulls at its end, if asked for, stands beside probe rows without a match."""
    if not has_null_row:
        return concatenated(list(batches)) if batches else pa.RecordBatch.from_pylist([], schema=schema)
    nullable = pa.schema([field.with_nullable(True) for field in schema])
    held = [pa.RecordBatch.from_arrays(batch.columns, schema=nullable) for batch in batches]
    null = pa.RecordBatch.from_arrays([pa.nulls(1, field.type) for field in schema], schema=nullable)
    return concatenated([*held, null])
