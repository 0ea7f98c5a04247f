"""Aggregates on both sides of a shuffle: against Python, across flushes and tasks, bit for bit."""

import math

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.engine.batch import batch_bytes
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec import aggregate
from kernelmill.engine.exec.aggregate import merge_aggregate, partial_aggregate
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.exchange import to_partitions
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.plan.partial import finished_schema
from kernelmill.engine.plan.physical import AggSpec, MergeAggregate, PartialAggregate

SCHEMA = pa.schema([("k", pa.string()), ("i", pa.int64()), ("f", pa.float64()), ("u", pa.uint16())])
AGGS = (
    AggSpec("rows", "len", None),
    AggSpec("counted", "count", "f"),
    AggSpec("total", "sum", "i"),
    AggSpec("total_f", "sum", "f"),
    AggSpec("total_u", "sum", "u"),
    AggSpec("middle", "mean", "f"),
    AggSpec("least", "min", "f"),
    AggSpec("most", "max", "i"),
    AggSpec("most_u", "max", "u"),
)
ROWS = st.tuples(
    st.sampled_from(["a", "b", "c", "a long key of many bytes", "", None]),
    st.none() | st.integers(-(2**40), 2**40),
    st.none() | st.floats(-1e6, 1e6) | st.sampled_from([math.nan, -0.0]),
    st.none() | st.integers(0, 2**16 - 1),
)


def context():
    return TaskContext(AttemptId(TaskId(0, 0), 0))


def by_partition(pairs, partitions):
    made = [[] for _ in range(partitions)]
    for part, batch in pairs:
        made[part].append(batch)
    return made


def batch_of(rows, schema=SCHEMA):
    columns = [pa.array([row[i] for row in rows], field.type) for i, field in enumerate(schema)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def partial(batches, keys=("k",), aggs=AGGS, schema=SCHEMA):
    return list(partial_aggregate(iter(batches), PartialAggregate(keys, aggs), schema, context()))


def merged(partials, keys=("k",), aggs=AGGS, schema=SCHEMA):
    operator = MergeAggregate(keys, aggs, finished_schema(keys, aggs, schema))
    rows, size = sum(batch.num_rows for batch in partials), sum(map(batch_bytes, partials))
    made = list(merge_aggregate(iter(partials), rows, size, operator, context()))
    for batch in made:
        batch.validate(full=True)
    return pa.Table.from_batches(made, operator.schema)


def known(values):
    return [value for value in values if value is not None]


def expected(tasks, keys=True):
    """The groups in first-seen order; float sums add each task's sum, in the order of tasks."""
    groups = {} if keys else {None: None}
    for row in (row for rows in tasks for row in rows):
        groups.setdefault(row[0] if keys else None)
    return [_expected_group(tasks, key, keys) for key in groups]


def _expected_group(tasks, key, keys):
    own = [[row for row in rows if not keys or row[0] == key] for rows in tasks]
    rows = [row for task in own for row in task]
    floats, total_f = known(row[2] for row in rows), 0.0
    for task in own:
        part = 0.0
        for value in known(row[2] for row in task):
            part += value
        total_f += part
    numbers = [value for value in floats if not math.isnan(value)]
    return {
        **({"k": key} if keys else {}),
        "rows": len(rows),
        "counted": len(floats),
        "total": sum(known(row[1] for row in rows)),
        "total_f": total_f,
        "total_u": sum(known(row[3] for row in rows)),
        "middle": total_f / len(floats) if floats else None,
        "least": min(numbers, default=None),
        "most": max(known(row[1] for row in rows), default=None),
        "most_u": max(known(row[3] for row in rows), default=None),
    }


def same(found, wanted):
    """Equal, where NaN equals NaN."""
    return len(found) == len(wanted) and all(
        a.keys() == b.keys() and all(a[k] == b[k] or (a[k] != a[k] and b[k] != b[k]) for k in a)
        for a, b in zip(found, wanted, strict=True)
    )


@settings(max_examples=60)
@given(st.lists(st.lists(ROWS, max_size=25), min_size=1, max_size=4), st.booleans())
def test_tasks_then_a_merge_give_what_python_gives(tasks, with_keys):
    keys = ("k",) if with_keys else ()
    partials = [batch for rows in tasks for batch in partial([batch_of(rows)] if rows else [], keys)]
    found = merged(partials, keys).to_pylist()
    assert same(found, expected(tasks, with_keys)), found


def test_without_keys_no_rows_are_one_group():
    found = merged(partial([], ()), ()).to_pylist()
    assert same(found, expected([[]], keys=False))


def test_a_batch_cut_anywhere_gives_the_same_partial_rows():
    rows = [(f"k{i % 7}", i, i / 3, i % 100) for i in range(100)]
    whole = batch_of(rows)
    (expected_rows,) = partial([whole])
    for cut in (1, 8, 50, 99):
        (found,) = partial([whole.slice(0, cut), whole.slice(cut)])
        assert found.equals(expected_rows)


# Flushes --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limit", "value"), [("FLUSH_GROUPS", 3_000), ("FLUSH_KEY_BYTES", 20_000), ("FLUSH_ROWS", 9_999)]
)
@pytest.mark.parametrize("keys", [("k",), ("k", "u"), ("i",)])
def test_flushes_in_the_middle_of_a_task_lose_and_double_nothing(monkeypatch, limit, value, keys):
    rows = [(f"key number {i % 9_000} of many", i % 9_001, 0.5, i % 5) for i in range(30_000)]
    batches = [batch_of(rows[first : first + 10_000]) for first in range(0, 30_000, 10_000)]
    unflushed = partial(batches, keys)
    monkeypatch.setattr(aggregate, limit, value)
    flushed = partial(batches, keys)
    assert len(unflushed) == 1
    if not (limit == "FLUSH_KEY_BYTES" and keys == ("i",)):  # words have no bytes in the arena
        assert len(flushed) > 1
    assert merged(flushed, keys).to_pylist() == merged(unflushed, keys).to_pylist()


def test_dictionary_keys_flush_as_well(monkeypatch):
    values = pa.array([f"key number {i % 9_000} of many" for i in range(30_000)])
    schema = pa.schema([("k", pa.dictionary(pa.int32(), pa.string()))])
    batch = pa.RecordBatch.from_arrays([values.dictionary_encode()], schema=schema)
    aggs = (AggSpec("n", "len", None),)
    monkeypatch.setattr(aggregate, "FLUSH_GROUPS", 2_500)
    plain = pa.schema([("k", pa.string())])
    made = partial([batch.slice(0, 11_111), batch.slice(11_111)], aggs=aggs, schema=schema)
    assert len(made) > 3
    found = merged(made, aggs=aggs, schema=plain)
    assert dict(zip(found["k"].to_pylist(), found["n"].to_pylist(), strict=True)) == {
        f"key number {i} of many": 30_000 // 9_000 + (i < 30_000 % 9_000) for i in range(9_000)
    }


@pytest.mark.parametrize("partitions", [1, 2, 7])
@pytest.mark.parametrize("keys", [("k",), ("k", "u"), ("i",)])
def test_rows_placed_by_partition_are_those_of_the_exchange(partitions, keys):
    rows = [(None if i % 50 == 0 else f"key {i % 700}" * (i % 4), i % 701, i / 8, i % 3) for i in range(5_000)]
    batches = [batch_of(rows)]
    plain = by_partition(to_partitions(iter(partial(batches, keys)), keys, partitions, context()), partitions)
    flow = partial_aggregate(iter(batches), PartialAggregate(keys, AGGS), SCHEMA, context(), partitions)
    placed = by_partition(to_partitions(flow, keys, partitions, context()), partitions)
    assert [[b.to_pylist() for b in part] for part in placed] == [[b.to_pylist() for b in part] for part in plain]


# Merging --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("types", [(pa.int16(), pa.int16()), (pa.bool_(), pa.int8(), pa.int16()), (pa.string(),) * 3])
def test_narrow_keys_that_grow_when_they_are_encoded_can_be_merged(types):
    """Nine bytes stand for a bit of a bool: a table sized by the blocks' bytes would ask for a flush (KM0901)."""
    rows = 50_000
    radix = [2 if pa.types.is_boolean(dtype) else 100 for dtype in types[:-1]]
    columns, rest = [], np.arange(rows)
    for dtype, base in zip(types, [*radix, rows], strict=True):
        column = pa.array(rest % base)
        columns.append(column.cast(dtype))
        rest = rest // base
    schema = pa.schema([(f"k{i}", dtype) for i, dtype in enumerate(types)])
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    keys, aggs = tuple(schema.names), (AggSpec("n", "len", None),)
    table = merged(partial([batch], keys, aggs, schema), keys, aggs, schema)
    assert table.num_rows == rows
    assert table.select(keys).to_batches()[0].to_pylist()[:100] == batch.to_pylist()[:100]


def test_float_sums_follow_the_order_of_tasks():
    values = [1e16, 1.0, -1e16, 1.0]
    partials = [partial([batch_of([("a", 1, value, 1)])])[0] for value in values]
    one_way = merged(partials).to_pylist()[0]["total_f"]
    other_way = merged(partials[::-1]).to_pylist()[0]["total_f"]
    assert (one_way, other_way) == (((1e16 + 1.0) - 1e16) + 1.0, ((1.0 - 1e16) + 1.0) + 1e16)


# Values ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "largest"), [(pa.int64(), 2**63 - 1), (pa.uint64(), 2**64 - 1)])
def test_an_integer_sum_that_leaves_64_bits_is_an_overflow_on_either_side(dtype, largest):
    schema = pa.schema([("k", pa.string()), ("v", dtype)])
    aggs = (AggSpec("total", "sum", "v"),)
    fits = batch_of([("a", largest), ("b", 1), ("a", 0), ("a", None)], schema)
    assert merged(partial([fits], aggs=aggs, schema=schema), aggs=aggs, schema=schema).to_pylist() == [
        {"k": "a", "total": largest},
        {"k": "b", "total": 1},
    ]
    one_more = batch_of([("b", 1), ("a", 1)], schema)
    with pytest.raises(KernelmillError) as mapping:
        partial([fits, one_more], aggs=aggs, schema=schema)
    partials = [partial([batch], aggs=aggs, schema=schema)[0] for batch in (fits, one_more)]
    with pytest.raises(KernelmillError) as merging:
        merged(partials, aggs=aggs, schema=schema)
    assert mapping.value.code is merging.value.code is Code.OVERFLOW
    assert "total" in mapping.value.what


@pytest.mark.parametrize(
    "values",
    [
        pa.array([True, None, False]),
        pa.array([-128, None, 127], pa.int8()),
        pa.array([3, None, 2**64 - 1], pa.uint64()),
        pa.array([1.5, None, -2.5], pa.float32()),
        pa.array([5, None, -7], pa.timestamp("ms", "UTC")),
        pa.array([5, None, -7], pa.date32()),
        pa.array([5, None, -7], pa.duration("us")),
    ],
    ids=lambda values: str(values.type),
)
def test_min_and_max_keep_the_type(values):
    schema = pa.schema([("k", pa.string()), ("v", values.type)])
    aggs = (AggSpec("low", "min", "v"), AggSpec("high", "max", "v"), AggSpec("n", "count", "v"))
    batch = pa.RecordBatch.from_arrays([pa.array(["a", "none", "a"]), values], schema=schema)
    found = merged(partial([batch], aggs=aggs, schema=schema), aggs=aggs, schema=schema)
    ordered = sorted([values[0], values[2]], key=lambda scalar: scalar.as_py())
    assert found["low"].combine_chunks().equals(pa.array([ordered[0], None], values.type))
    assert found["high"].combine_chunks().equals(pa.array([ordered[1], None], values.type))
    assert found["n"].to_pylist() == [2, 0]


def test_nan_is_skipped_by_min_and_max_and_kept_by_sum_and_mean():
    rows = [("a", 1, math.nan, 1), ("a", 1, 2.0, 1), ("only", 1, math.nan, 1)]
    a, only = merged(partial([batch_of(rows)])).to_pylist()
    assert (a["least"], only["least"]) == (2.0, None)
    assert all(math.isnan(group[name]) for group in (a, only) for name in ("total_f", "middle"))


def test_a_column_of_the_null_type_can_be_counted():
    schema = pa.schema([("k", pa.string()), ("v", pa.null())])
    batch = pa.RecordBatch.from_arrays([pa.array(["a", "a"]), pa.nulls(2)], schema=schema)
    aggs = (AggSpec("n", "count", "v"), AggSpec("rows", "len", None))
    found = merged(partial([batch], aggs=aggs, schema=schema), aggs=aggs, schema=schema)
    assert found.to_pylist() == [{"k": "a", "n": 0, "rows": 2}]


def test_a_cancelled_task_stops():
    cancelled = TaskContext(AttemptId(TaskId(0, 0), 0), is_cancelled=lambda: True)
    with pytest.raises(KernelmillError) as caught:
        list(partial_aggregate(iter([batch_of([])]), PartialAggregate(("k",), AGGS), SCHEMA, cancelled))
    assert caught.value.code is Code.CANCELLED


@settings(max_examples=25, deadline=None)
@given(tasks=st.lists(st.lists(ROWS, max_size=4), min_size=2, max_size=12), large=st.integers(0, 11))
def test_small_blocks_are_merged_to_the_same_bits_one_by_one_and_several_at_once(tasks, large):
    wide = [("x" * 70_000, 1, 0.1, 2)] if large < len(tasks) else []
    tasks[min(large, len(tasks) - 1)] += wide  # one that is not small, in the middle of the others
    lists = (*AGGS, AggSpec("all", "list", "f"))
    partials = [block for rows in tasks for block in partial([batch_of(rows)], aggs=lists)]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(aggregate, "_SMALL_ROWS", 0)
        one_by_one = repr(merged(partials, aggs=lists).to_pylist())  # tells NaN and -0.0 as well
    for joined_max in (2, 256):
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(aggregate, "_JOINED_MAX", joined_max)
            assert repr(merged(partials, aggs=lists).to_pylist()) == one_by_one
