"""The states of aggregates, one array entry a group: rows or partial rows in, partial or finished columns out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import (
    array_of_words,
    is_word_like,
    numbers_of,
    validity_buffer,
    validity_bytes,
)
from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.exec.dense import Column, Dense, fixed_array, with_floats
from kernelmill.engine.exec.distinctstate import Distinct
from kernelmill.engine.exec.keys import Repeated
from kernelmill.engine.exec.liststate import Lists
from kernelmill.engine.exec.listwords import WordRoom
from kernelmill.engine.exec.momentstates import Correlation, Variance
from kernelmill.engine.exec.pickstates import Picks
from kernelmill.engine.exec.productstate import Product
from kernelmill.engine.exec.rankstates import Quantiles, RankedFew, RankedMany
from kernelmill.engine.exec.widestates import ExtremeBytes, SumDecimals
from kernelmill.engine.plan.physical import AggSpec
from kernelmill.kernels import combining
from kernelmill.kernels.orderedwords import values_of_words
from kernelmill.kernels.table import NO_MASK, Groups

if TYPE_CHECKING:
    from kernelmill.engine.exec.draining import StagedWords
    from kernelmill.engine.exec.keys import Call

_FEW = 16  # values of each group for which room is made beforehand: 8 MiB for the groups of a batch
_NO_VALUES: NDArray[Any] = np.empty(0)


class State(Protocol):
    """The states of one aggregate for all groups."""

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        """What `add` needs of the input columns, whole batch at once."""

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        """Take rows of the input (partial side) or of partial rows (merge side) into the states."""

    def partial(self, first: int, last: int) -> list[pa.Array[Any]]:
        """State columns of groups [first, last)."""

    def finished(self, first: int, last: int) -> list[pa.Array[Any]]:
        """Result columns of groups [first, last)."""

    def clear(self, groups: int) -> None:
        """Forget `groups` groups."""


class FoldCall(NamedTuple):
    """A call that folds staged rows, with `last` at that place of its frame, while groups stay below `groups_max`.

    `state` is what it takes last.
    """

    call: Call
    last: int
    groups_max: int
    state: NDArray[np.int64]


@runtime_checkable
class Folds(Protocol):
    """A state that machine code can fold rows into, as a map's driver stages them."""

    def folding_call(self, staged: StagedWords, groups: Groups, used: int) -> FoldCall | None:
        """The call, for rows of these groups, of which `used` are known; None where Python is to take the rows."""


@runtime_checkable
class Holds(Protocol):
    """A state that holds values of any number or size: it is flushed when they are many, and bounded by memory.

    copies: how many of what it holds there are at most while columns are made of it; 0: no room for that is asked for.
    """

    copies: int

    @property
    def held_bytes(self) -> int:
        """Bytes that it holds."""


class Count:
    """len and count: rows, or values that are not null."""

    def __init__(self, *, merging: bool) -> None:
        self._counts, self._merging = Dense(np.int64), merging

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        if self._merging:
            return [(numbers_of(columns[0]).view(np.int64), NO_MASK)]
        return [(_NO_VALUES, validity_bytes(columns[0]) if columns else NO_MASK)]

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        values, validity = columns[0]
        if self._merging:
            combining.add_integers(groups, values, NO_MASK, self._counts.cover(used))
        else:
            combining.count_rows(groups, validity, self._counts.cover(used))

    def weight(self, columns: list[Any]) -> int | None:
        """What each row adds to its group, if that is the same for all rows."""
        return 1 if not columns or isinstance(columns[0], Repeated) else None

    def add_rows(self, counts: NDArray[np.int64], weight: int) -> None:
        """Add `weight` to each group as often as `counts` says."""
        self._counts.cover(counts.size)[: counts.size] += counts * weight

    def weighted(self, counts: NDArray[Any], weight: int) -> pa.Array[Any]:
        """The partial column of groups that had `weight` added so often, and nothing else.

        `counts`, of uint32 or int64, is only read, and may become the column: so it must stay as it is.
        """
        counts = counts.astype(np.uint32, copy=False)
        return fixed_array(counts if weight == 1 else counts * np.uint32(weight), pa.uint32())

    def partial(self, first: int, last: int) -> list[pa.Array[Any]]:
        return [fixed_array(self._counts.cover(last)[first:last].astype(np.uint32), pa.uint32())]

    def finished(self, first: int, last: int) -> list[pa.Array[Any]]:
        return [fixed_array(self._counts.cover(last)[first:last].copy(), pa.int64())]

    def clear(self, groups: int) -> None:
        self._counts.clear(min(groups, self._counts.values.size))


class Sum:
    """Sums in row order; an integer sum that leaves 64 bits is KM0208, never a silent wrap."""

    def __init__(self, name: str, dtype: pa.DataType) -> None:
        self._name, self._type = name, dtype
        self._numpy = np.int64 if pa.types.is_duration(dtype) else dtype.to_pandas_dtype()
        self._sums = Dense(self._numpy)

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        values = numbers_of(columns[0])
        return [(values.astype(self._numpy, copy=False), validity_bytes(columns[0]))]

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        values, validity = columns[0]
        sums = self._sums.cover(used)
        if self._numpy == np.float64:
            combining.add_floats(groups, values, validity, sums)
            return
        add = combining.add_integers if self._numpy == np.int64 else combining.add_unsigned
        if add(groups, values, validity, sums) >= 0:
            raise self._overflow()

    def weight(self, columns: list[Any]) -> int | None:
        """As `Count.weight`: the number that a column has in every row."""
        return columns[0].value if self._numpy == np.int64 and isinstance(columns[0], Repeated) else None

    def add_rows(self, counts: NDArray[np.int64], weight: int) -> None:
        """As `Count.add_rows`."""
        self._check_product(counts, weight)
        groups = np.arange(counts.size, dtype=np.int32)
        if combining.add_integers(groups, counts * weight, NO_MASK, self._sums.cover(counts.size)) >= 0:
            raise self._overflow()

    def weighted(self, counts: NDArray[Any], weight: int) -> pa.Array[Any]:
        """As `Count.weighted`."""
        self._check_product(counts, weight)
        sums = counts.astype(np.int64, copy=False)
        return fixed_array(sums if weight == 1 else sums * weight, self._type)

    def _check_product(self, counts: NDArray[Any], weight: int) -> None:
        if abs(weight) <= 1 << 31:  # counts have 32 bits: no need to look for the greatest
            return
        if abs(weight) * int(counts.max(initial=0)) > np.iinfo(np.int64).max:
            raise self._overflow()

    def _overflow(self) -> KernelmillError:
        hint = "cast the column to float64 before summing, if an approximate sum will do"
        if pa.types.is_duration(self._type):
            hint = 'cast the column to a coarser unit before summing: "duration[s]"'
        return error(Code.OVERFLOW, f"the sum {self._name!r} of a group leaves {self._type}", hint=hint)

    def partial(self, first: int, last: int) -> list[pa.Array[Any]]:
        return self.finished(first, last)

    def finished(self, first: int, last: int) -> list[pa.Array[Any]]:
        return [fixed_array(self._sums.cover(last)[first:last].copy(), self._type)]

    def clear(self, groups: int) -> None:
        self._sums.clear(min(groups, self._sums.values.size))


class Mean:
    """A float64 sum in row order and a count; null where nothing was counted."""

    def __init__(self, *, merging: bool) -> None:
        self._sums, self._counts, self._merging = Dense(np.float64), Dense(np.int64), merging

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        first = (numbers_of(columns[0]), validity_bytes(columns[0]))
        return [first, (numbers_of(columns[1]).view(np.int64), NO_MASK)] if self._merging else [first]

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        sums, counts = self._sums.cover(used), self._counts.cover(used)
        if self._merging:
            combining.add_floats(groups, columns[0][0], NO_MASK, sums)
            combining.add_integers(groups, columns[1][0], NO_MASK, counts)
            return
        for own, ((values, validity),) in with_floats(groups, columns):
            combining.add_and_count(own, values, validity, sums, counts)

    def partial(self, first: int, last: int) -> list[pa.Array[Any]]:
        counts = self._counts.cover(last)[first:last].astype(np.uint32)
        return [fixed_array(self._sums.cover(last)[first:last].copy(), pa.float64()), fixed_array(counts, pa.uint32())]

    def finished(self, first: int, last: int) -> list[pa.Array[Any]]:
        counts = self._counts.cover(last)[first:last]
        empty = counts == 0
        means = self._sums.cover(last)[first:last] / np.where(empty, 1, counts)
        nulls = int(np.count_nonzero(empty))
        return [fixed_array(means, pa.float64(), validity_buffer((~empty).view(np.uint8), nulls), nulls)]

    def clear(self, groups: int) -> None:
        self._sums.clear(min(groups, self._sums.values.size))
        self._counts.clear(min(groups, self._counts.values.size))


class Extreme:
    """min and max of fixed-width values: NaN is skipped, null where no value was seen."""

    def __init__(self, dtype: pa.DataType, *, largest: bool) -> None:
        self._type, self._largest = dtype, largest
        self._best, self._seen = Dense(np.uint64), Dense(np.uint8)
        self._numpy: Any = np.dtype(np.int64)

    def view(self, columns: list[pa.Array[Any]]) -> list[Column]:
        numbers, validity = numbers_of(columns[0]), validity_bytes(columns[0])
        self._numpy = numbers.dtype
        return [(numbers.view(np.uint64), validity)]

    def add(self, groups: Groups, used: int, columns: list[Column]) -> None:
        (words, validity), best, seen = columns[0], self._best.cover(used), self._seen.cover(used)
        flip = (1 << 64) - 1 if self._largest else 0
        if self._numpy == np.float64:
            combining.keep_least_float(groups, words, validity, flip, best, seen)
        else:
            sign = 1 << 63 if self._numpy == np.int64 else 0
            combining.keep_least(groups, words, validity, flip ^ sign, best, seen)

    def partial(self, first: int, last: int) -> list[pa.Array[Any]]:
        return self.finished(first, last)

    def finished(self, first: int, last: int) -> list[pa.Array[Any]]:
        seen = self._seen.cover(last)[first:last].copy()
        best = self._best.cover(last)[first:last]
        values = values_of_words(~best if self._largest else best.copy(), self._numpy)
        nulls = int(len(seen) - np.count_nonzero(seen))
        return [array_of_words(values.view(np.uint64), seen, nulls, self._type)]

    def clear(self, groups: int) -> None:
        self._best.clear(min(groups, self._best.values.size))
        self._seen.clear(min(groups, self._seen.values.size))


def state_of(
    agg: AggSpec,
    dtype: pa.DataType | None,
    *,
    merging: bool,
    room: WordRoom | None = None,
    inputs: Sequence[pa.DataType] = (),
) -> State:
    """The states of `agg`; `dtype` is the type of its result, `room` where values of lists wait.

    inputs: the types of the columns that it reads, unless it is `merging`.
    """
    assert dtype is not None or agg.kind in ("len", "count", "mean")
    options = dict(agg.options)
    match agg.kind:
        case "len" | "count":
            return Count(merging=merging)
        case "mean":
            return Mean(merging=merging)
        case "var":
            return Variance(int(options["ddof"]), merging=merging)
        case "corr":
            return Correlation(merging=merging)
        case "quantile":
            q, interpolation = float(options["q"]), str(options["interpolation"])
            return Quantiles(agg.name, q, interpolation, merging=merging, room=room)
        case "n_unique":
            return Distinct(inputs[0] if inputs else None, merging=merging)
    assert dtype is not None
    match agg.kind:
        case "list":
            return Lists(agg.name, dtype, merging=merging, room=room)
        case "first" | "last" | "min_by" | "max_by":
            return Picks(agg.kind, dtype, inputs[1] if len(inputs) > 1 else None, merging=merging)
        case "top_k" | "bottom_k":
            k = int(options["k"])
            ranked = RankedFew if k <= _FEW else RankedMany
            return ranked(agg.name, dtype, k, greatest=agg.kind == "top_k", merging=merging)
        case "product":
            return Product(agg.name, dtype)
        case "sum":
            return SumDecimals(agg.name, dtype) if pa.types.is_decimal(dtype) else Sum(agg.name, dtype)
    if is_word_like(dtype):
        return Extreme(dtype, largest=agg.kind == "max")
    return ExtremeBytes(agg.name, dtype, largest=agg.kind == "max")
