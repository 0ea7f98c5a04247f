"""Groups of rows by keys, with the states of their aggregates: rows in, columns out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import fixed_view, plain, validity_bytes
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.exec.dense import Column
from kernelmill.engine.exec.exchange import in_order, take_columns
from kernelmill.engine.exec.keptkeys import KeptKeys
from kernelmill.engine.exec.keys import STRINGS_BYTES_MAX, Folding, KeyColumns, Repeated, StagedText
from kernelmill.engine.exec.liststate import Lists
from kernelmill.engine.exec.states import Count, Folds, Holds, State, Sum
from kernelmill.kernels.table import Groups, KeyTable, Order

if TYPE_CHECKING:
    from kernelmill.engine.exec.draining import StagedWords

OUTPUT_ROWS = 1 << 20

KeyOf = Callable[[int], list[Any]]
"""The key columns of one group."""
MakeStates = Callable[[KeyOf], list[State]]


class Placing(NamedTuple):
    """Groups in order of partition, where each partition's begin, and the bytes of their keys."""

    order: Order
    bounds: NDArray[np.int64]
    key_bytes: int


class Grouping:
    """A key table, its key columns and the aggregates' states: rows in, columns out.

    filtered: states that take only rows for which the last of their inputs is true. keeps_keys: of several keys, which
    come in the types of `keys`, the first row of each group is held.
    """

    def __init__(
        self,
        table: KeyTable,
        keys: list[pa.Field[Any]],
        make_states: MakeStates,
        filtered: Sequence[bool] = (),
        *,
        keeps_keys: bool = False,
    ) -> None:
        self._table, self._filtered = table, filtered
        self.states = make_states(lambda group: self.key_columns(group, group + 1))
        self._holding = [state for state in self.states if isinstance(state, Holds)]  # asked once: it is slow to ask
        self._keys = KeyColumns(keys) if keys else None
        self._kept = KeptKeys() if keeps_keys and KeptKeys.may_keep(keys) else None
        self._groups: Groups = np.empty(0, np.int32)
        self._used = 0 if keys else 1  # without keys there is one group, even of no rows
        self._weights: list[int] = []
        self._has_added = self._is_settled = False

    def __len__(self) -> int:
        return self._used

    @property
    def list_bytes(self) -> int:
        """Bytes that wait to become lists."""
        return sum(state.held_bytes for state in self._holding)

    @property
    def list_bytes_made(self) -> int:
        """Bytes of all copies of them, once they are lists."""
        return sum(state.held_bytes * state.copies for state in self._holding)

    def too_long(self, names: Sequence[str]) -> KernelmillError:
        """KM0401 for lists that do not fit the memory: names the key with the longest."""
        lists = [one for one in self.states if isinstance(one, Lists)]
        if not lists:
            what = f"values of {self.list_bytes:,} bytes that aggregates hold do not fit this job's memory"
            return error(Code.MEMORY_LIMIT, what, hint="raise memory= or partitions=")
        state = max(lists, key=lambda one: one.held_bytes)
        group, values = state.longest()
        key = {name: column[0].as_py() for name, column in zip(names, self.key_columns(group, group + 1), strict=True)}
        what = f"lists of {self.list_bytes:,} bytes do not fit this job's memory; that of {key} has {values:,} values"
        hint = "raise memory= or partitions=, or reduce the values to less than a list: a function gets them one by one"
        return error(Code.MEMORY_LIMIT, what, hint=hint)

    def add(self, key_columns: list[Any], value_columns: list[list[Any]], rows: int) -> Iterator[None]:
        """Take the rows of a batch; yields whenever the table wants to be flushed and cleared before it goes on.

        Columns are arrays, or what a compiled map staged: keys as StagedText, values as Repeated.
        """
        weights = self._weights_of(key_columns, value_columns)
        if weights:
            yield from self._count(key_columns, weights, rows)
            return
        self._has_added = True
        value_columns = [[c.array() if isinstance(c, Repeated) else c for c in columns] for columns in value_columns]
        if self._groups.size < rows:
            self._groups = np.empty(rows, np.int32)
        views = self._views(value_columns)
        done = self._take_numbered(key_columns, views)
        while done < rows:
            if self._keys is None:
                self._groups[:rows], upto = 0, rows
            else:
                upto = self._keys.group(self._table, key_columns, done, self._groups[:rows])
                if self._kept is not None:
                    own = [column.slice(done, upto - done) for column in key_columns]
                    self._kept.add(own, self._groups[done:upto], self._used)
                self._used = len(self._table)
            self._take(views, done, upto)
            if upto < rows:
                yield
            done = upto

    def _take(self, views: list[list[Column]], first: int, last: int) -> None:
        """Take rows whose groups are known into the states."""
        groups = self._groups[first:last]
        if not groups.size:
            return
        for number, (state, columns) in enumerate(zip(self.states, views, strict=True)):
            own, rows = groups, [_rows(column, first, last) for column in columns]
            if self._filtered and self._filtered[number]:
                kept = np.flatnonzero(rows.pop()[1]).astype(np.uint32)
                own, rows = groups[kept], [_taken(column, kept) for column in rows]
            state.add(own, self._used, rows)

    def _views(self, value_columns: list[list[Any]]) -> list[list[Column]]:
        """What each state needs of its columns; behind it, where it is filtered, one byte a row: 1 is taken."""
        if not any(self._filtered):
            return [state.view(columns) for state, columns in zip(self.states, value_columns, strict=True)]
        views = []
        for state, columns, is_filtered in zip(self.states, value_columns, self._filtered, strict=True):
            if is_filtered:
                *columns, tested = columns
                views.append([*state.view(columns), (_NO_VALUES, _true_bytes(tested))])
            else:
                views.append(state.view(columns))
        return views

    def _take_numbered(self, keys: list[Any], views: list[list[Column]]) -> int:
        """Take those rows, the first of staged ones, that a driver has numbered but could not fold; how many they are.

        Where one state is all there is, drivers may fold what they stage from now on.
        """
        if len(keys) != 1 or not isinstance(keys[0], StagedText):
            return 0
        known, folds = keys[0].known, [state for state in self.states if isinstance(state, Folds)]
        if len(folds) == len(self.states) == 1:
            keys[0].drains_to(lambda staged: self._folding(folds[0], staged))
        if known.size:
            self._groups[: known.size], self._used = known, len(self._table)
            self._take(views, 0, known.size)
        return known.size

    def _folding(self, state: Folds, staged: StagedWords) -> Folding | None:
        """What a driver calls to have staged rows numbered, and folded into the state."""
        groups = np.empty(staged.rows, np.int32)
        fold = state.folding_call(staged, groups, len(self._table))
        if fold is None:
            return None
        numbering = self._table.numbering_call(staged.base, staged.addresses, staged.sizes, groups, fold.groups_max)
        return None if numbering is None else Folding(numbering, fold.call, fold.last, groups, fold.state)

    def _weights_of(self, keys: list[Any], values: list[list[Any]]) -> list[int]:
        """What each row adds to each state, if that is known beforehand and the table can count the rows; else []."""
        if len(keys) != 1 or not isinstance(keys[0], StagedText) or any(self._filtered):
            return []
        found = [
            state.weight(columns) if isinstance(state, Count | Sum) else None
            for state, columns in zip(self.states, values, strict=True)
        ]
        weights = [weight for weight in found if weight is not None]
        return weights if len(weights) == len(found) else []

    def _count(self, keys: list[StagedText], weights: list[int], rows: int) -> Iterator[None]:
        """As `add`: rows are counted beside their keys, where the look-up touches memory anyway."""
        self._weights = weights
        keys[0].drains_to(lambda staged: self._table.counting_call(staged.base, staged.addresses, staged.sizes))
        done = 0
        while True:
            done = self._table.count_staged(*keys[0][:3], done)
            self._used = len(self._table)
            if done == rows:
                return
            yield

    def singles(self, key_columns: list[Any], value_columns: list[list[Any]], rows: int) -> list[pa.Array[Any]]:
        """The columns of partial rows, one for each row of a batch, while there are no groups."""
        self._groups, self._used = np.arange(rows, dtype=np.int32), rows
        self._take(self._views(value_columns), 0, rows)
        columns = [plain(column) for column in key_columns]
        columns += [column for state in self.states for column in state.partial(0, rows)]
        for state in self.states:
            state.clear(rows)
        self._used = 0
        return columns

    def settle(self) -> None:
        """Take the rows that the table counted into the states: before these are read."""
        if not self._weights or self._is_settled:
            return
        counts = self._table.counts(0, self._used).astype(np.int64)
        for state, weight in zip(self.states, self._weights, strict=True):
            assert isinstance(state, Count | Sum)
            state.add_rows(counts, weight)
        self._is_settled = True

    def key_columns(self, first: int, last: int) -> list[pa.Array[Any]]:
        """The keys of groups [first, last)."""
        if self._kept is not None and last > first:
            return self._kept.columns(first, last)
        return [] if self._keys is None else self._keys.columns(self._table, first, last)

    def placing(self, first: int, last: int, partitions: int) -> Placing | None:
        """Groups [first, last) in order of partition; None if keys must be read first."""
        if partitions == 1 or self._keys is None or not self._keys.is_one_string:
            return None
        parts, groups_of_part, key_bytes = self._table.partitions_of_strings(first, last, partitions)
        order = self._table.room("order", last - first, np.uint32)
        return Placing(*in_order(parts, groups_of_part, order), key_bytes)

    def placed(self, first: int, last: int, placing: Placing) -> list[pa.Array[Any]]:
        """The key and the partial columns of groups first + order."""
        assert self._keys is not None
        counted: type[np.uint32 | np.int64] | None = None
        if self._weights and not self._has_added:  # all there is to know of a group is how often it came
            counted = np.int64 if all(isinstance(state, Sum) for state in self.states) else np.uint32
        else:
            self.settle()
        keys, counts = self._keys.placed(self._table, first, placing.order, placing.key_bytes, counted)
        if counted is None:
            return keys + _placed_values(self.states, first, last, placing.order)
        weighted = zip(self.states, self._weights, strict=True)
        return keys + [state.weighted(counts, weight) for state, weight in weighted if isinstance(state, Count | Sum)]

    def pieces(self) -> Iterator[tuple[int, int]]:
        """Ranges of groups whose keys stay below the size of one batch."""
        if self._keys is not None:
            self._used = len(self._table)  # a driver may have counted more since the last batch came
        first = 0
        while first < self._used:
            last = self._table.cut(first, OUTPUT_ROWS, STRINGS_BYTES_MAX) if self._keys else self._used
            yield first, last
            first = last

    def clear(self) -> None:
        """Forget all groups."""
        for state in self.states:
            state.clear(self._used)
        self._table.clear()
        self._has_added = self._is_settled = False  # the weights stay: rows of the batch at hand may be left
        self._used = 0 if self._keys else 1
        if self._keys is not None:
            self._keys.forget()
        if self._kept is not None:
            self._kept.clear()


def _rows(column: Column, first: int, last: int) -> Column:
    values, validity = column
    return values[first:last] if len(values) else values, validity[first:last] if validity.size else validity


_NO_VALUES: NDArray[Any] = np.empty(0)


def _true_bytes(tested: Any) -> NDArray[np.uint8]:
    """One byte a row: 1 where a boolean is true, 0 where it is false or null."""
    true = fixed_view(tested.cast(pa.uint8()), np.uint8)
    valid = validity_bytes(tested)
    return true & valid if valid.size else true


def _taken(column: Column, rows: NDArray[np.uint32]) -> Column:
    values, validity = column
    if isinstance(values, pa.Array):
        taken: Any = take_columns([values], rows)[0]
    else:
        taken = values[rows] if len(values) else values
    return taken, validity[rows] if validity.size else validity


def _placed_values(states: list[State], first: int, last: int, order: Order) -> list[pa.Array[Any]]:
    """The partial columns of groups first + order."""
    placed: list[pa.Array[Any]] = []
    for state in states:
        if isinstance(state, Lists):
            placed.append(state.placed(first, last, order))
        else:
            placed += take_columns(state.partial(first, last), order)
    return placed
