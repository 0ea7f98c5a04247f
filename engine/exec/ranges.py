"""Total order over partitions: a sample of the keys, splitters picked from it, rows placed between the splitters.

After the sampled partitioning of Dean and Ghemawat's sort (OSDI 2004, 5.3). What is sampled follows from the rows and
the plan alone (I1).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from kernelmill.engine.batch import concatenated
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.exchange import Placing, Rows, take_rows
from kernelmill.engine.exec.sorting import Keys, sort_keys
from kernelmill.engine.plan.physical import PickSplitters, SampleKeys
from kernelmill.kernels.searching import SortedRows
from kernelmill.kernels.sorting import argsort

_SAMPLE_BYTES_MAX = 1 << 20
_MIX = tuple(np.uint64(word) for word in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB))


def sample_keys(
    batches: Iterator[pa.RecordBatch], step: SampleKeys, rows: int, context: TaskContext
) -> Iterator[pa.RecordBatch]:
    """The keys of up to `step.rows` of the task's `rows` rows, and how many rows each stands for.

    One row of every few, not always the same of them: rows may come in periods. Long keys make it fewer.
    """
    each = max(1, -(-rows // step.rows))
    picked = _picked(rows, each)
    held: pa.RecordBatch | None = None
    first = 0
    for batch in batches:
        context.check_cancelled()
        here = picked[np.searchsorted(picked, first) : np.searchsorted(picked, first + batch.num_rows)] - first
        first += batch.num_rows
        keys = take_rows(batch.select(list(step.keys)), here.astype(np.uint32))
        weights = pa.array(np.full(keys.num_rows, each, np.int64))
        part = pa.RecordBatch.from_arrays([*keys.columns, weights], schema=step.schema)
        held = part if held is None else concatenated([held, part])
        while held.nbytes > _SAMPLE_BYTES_MAX and held.num_rows > 1:
            held = _thinned(held)
    if held is not None:
        yield held


def _picked(rows: int, each: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """One row of every `each`, ascending: which one is a hash (splitmix64, G. Steele et al., 2014) of its number."""
    strata = np.arange(-(-rows // each), dtype=np.uint64)
    mixed = (strata + np.uint64(1)) * _MIX[0]
    mixed = (mixed ^ (mixed >> np.uint64(30))) * _MIX[1]
    mixed = (mixed ^ (mixed >> np.uint64(27))) * _MIX[2]
    mixed ^= mixed >> np.uint64(31)
    picked = (strata * np.uint64(each) + mixed % np.uint64(each)).astype(np.int64)
    kept: np.ndarray[tuple[int], np.dtype[np.int64]] = picked[picked < rows]
    return kept


def _thinned(sample: pa.RecordBatch) -> pa.RecordBatch:
    """Every other row, standing for twice as many."""
    half = take_rows(sample, np.arange(0, sample.num_rows, 2, dtype=np.uint32))
    weights = pa.array(np.asarray(half.columns[-1]) * 2)
    return pa.RecordBatch.from_arrays([*half.columns[:-1], weights], schema=sample.schema)


def pick_splitters(batches: Iterator[pa.RecordBatch], step: PickSplitters) -> Iterator[pa.RecordBatch]:
    """The keys of partitions - 1 rows, in order, that share all rows out evenly, as far as samples tell.

    A key that many rows have may come more than once: partitions between are empty then.
    """
    held = [batch for batch in batches if batch.num_rows]
    if not held:
        return
    sample = concatenated(held)
    ordered = take_rows(sample, argsort(sort_keys(sample, step.keys)))
    ends = np.cumsum(np.asarray(ordered.columns[-1]))
    shares = int(ends[-1]) * np.arange(1, step.partitions) // step.partitions
    rows = np.searchsorted(ends, shares, side="right")
    keys = ordered.select(step.schema.names)
    yield take_rows(keys, np.minimum(rows, keys.num_rows - 1).astype(np.uint32))


def range_placing(splitters: Sequence[pa.RecordBatch], keys: Keys) -> Placing:
    """Places each row by how many splitters come no later than it: equal rows go together."""
    found = [batch for batch in splitters if batch.num_rows]
    ordered = SortedRows(sort_keys(concatenated(found), keys)) if found else None

    def place(batch: pa.RecordBatch, partitions: int) -> Rows:
        if ordered is None:
            return np.zeros(batch.num_rows, np.uint32)
        return ordered.counts_up_to(sort_keys(batch, keys)).astype(np.uint32)

    return place
