"""Sort of all rows, or of the first few: stable, nulls where they belong, the same however batches are cut."""

import datetime as dt
import itertools
import tempfile
from contextlib import contextmanager

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec import recut, runs, sorting
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.sorting import gather_groups, sort_rows
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.plan.physical import GatherGroups, Sort
from kernelmill.engine.shuffle.store import BlockStore

SCHEMA = pa.schema([("s", pa.string()), ("n", pa.int32()), ("row", pa.int64())])
CELLS = st.tuples(
    st.none() | st.text("abé", max_size=3) | st.sampled_from(["a" * 8, "a" * 9, "a" * 8 + "\0"]),
    st.none() | st.integers(-3, 3),
)


def context(**more):
    return TaskContext(AttemptId(TaskId(0, 0), 0), **more)


def batches_of(rows, cuts):
    columns = [[row[0] for row in rows], [row[1] for row in rows], list(range(len(rows)))]
    arrays = [pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)]
    whole = pa.RecordBatch.from_arrays(arrays, schema=SCHEMA)
    bounds = sorted({0, len(rows), *(cut % (len(rows) + 1) for cut in cuts)})
    return [whole.slice(a, b - a) for a, b in zip(bounds, bounds[1:], strict=False)]


def sorted_rows(rows, keys):
    order = list(range(len(rows)))
    for column, descending, nulls_last in reversed(keys):
        cell = [row["sn".index(column)] for row in rows]
        cell = [c.encode() if isinstance(c, str) else c for c in cell]
        known = sorted((r for r in order if cell[r] is not None), key=cell.__getitem__, reverse=descending)
        nulls = [r for r in order if cell[r] is None]
        order = known + nulls if nulls_last else nulls + known
    return order


KEYS = st.lists(
    st.tuples(st.sampled_from("sn"), st.booleans(), st.booleans()), min_size=1, max_size=2, unique_by=lambda key: key[0]
)


@settings(max_examples=80)
@given(st.lists(CELLS, max_size=40), st.lists(st.integers(0, 99), max_size=3), KEYS, st.none() | st.integers(1, 50))
def test_rows_come_in_order_and_ties_as_they_came(rows, cuts, keys, limit):
    made = list(sort_rows(iter(batches_of(rows, cuts)), Sort(tuple(keys), limit), context()))
    found = [row["row"] for batch in made for row in batch.to_pylist()]
    assert found == sorted_rows(rows, keys)[:limit]


def test_the_first_few_of_many_are_kept_in_little_memory(monkeypatch):
    monkeypatch.setattr(sorting, "_COMPACT_ROWS", 50)
    rows = [(None, i * 7919 % 1000 // 10) for i in range(1000)]
    batches = batches_of(rows, range(0, 1000, 10))
    keys = (("n", True, True),)
    (made,) = sort_rows(iter(batches), Sort(keys, 7), context())
    assert made["row"].to_pylist() == sorted_rows(rows, keys)[:7]


@pytest.mark.parametrize(
    "values",
    [
        [True, None, False],
        [dt.date(2024, 1, 1), None, dt.date(1960, 1, 1)],
        [1.5, float("-inf"), None, -2.0],
        [2**63, 2**64 - 1, None, 0],
        [b"\xff", b"", None, b"\0"],
    ],
    ids=lambda values: type(values[0]).__name__,
)
def test_values_of_any_order_are_sorted(values):
    dtype = pa.uint64() if values[0] == 2**63 else None
    batch = pa.record_batch({"v": pa.array(values, dtype)})
    (made,) = sort_rows(iter([batch]), Sort((("v", False, True),)), context())
    known = sorted(value for value in values if value is not None)
    assert made["v"].to_pylist() == [*known, None]


def test_bytes_of_a_fixed_width_are_sorted_as_bytes_and_nulls_stay_as_they_are():
    """binary(2) is as wide as an int16, but its first byte counts most."""
    columns = {"v": pa.array([b"ba", None, b"ab"], pa.binary(2)), "i": pa.array([0, 1, 2])}
    (made,) = sort_rows(iter([pa.record_batch(columns)]), Sort((("v", False, True),)), context())
    assert made["i"].to_pylist() == [2, 0, 1] and made["v"].to_pylist() == [b"ab", b"ba", None]
    nulls = pa.record_batch({"v": pa.nulls(3), "i": pa.array([2, 0, 1])})
    (made,) = sort_rows(iter([nulls]), Sort((("v", True, False),)), context())
    assert made.equals(nulls)


@pytest.mark.parametrize("values", [pa.array([[1], [2]]), pa.array([{"a": 1}, {"a": 2}])])
def test_a_type_without_an_order_is_told_by_name(values):
    batch = pa.record_batch({"culprit": values})
    with pytest.raises(KernelmillError) as caught:
        list(sort_rows(iter([batch]), Sort((("culprit", False, True),)), context()))
    assert caught.value.code is Code.TYPE_MISMATCH
    assert "culprit" in caught.value.what


def test_no_batches_make_no_batch():
    assert list(sort_rows(iter([]), Sort((("n", False, True),)), context())) == []


# Beyond memory --------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny(monkeypatch):
    """Batches of a few rows, merges of two runs: many passes for a few rows."""
    monkeypatch.setattr(recut, "BATCH_ROWS_MAX", 3)
    monkeypatch.setattr(runs, "RUNS_MAX", 2)


@contextmanager
def spilling(memory, limit=1 << 30):
    """A context that may hold `memory` bytes, and the store that it spills to."""
    with (
        tempfile.TemporaryDirectory() as folder,
        BlockStore(memory_bytes_max=0, spill_dir=folder, spill_bytes_max=limit) as store,
    ):
        surroundings = context(memory_bytes_max=memory)
        surroundings.store = store
        yield surroundings, store
        surroundings.close_spills()
        assert store.task_bytes == 0


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(CELLS, max_size=40),
    st.lists(st.integers(0, 99), max_size=3),
    KEYS,
    st.none() | st.integers(1, 50),
    st.integers(1, 4000),
)
def test_a_sort_that_spills_gives_the_same_batches(tiny, rows, cuts, keys, limit, memory):
    step = Sort(tuple(keys), limit)
    with spilling(memory) as (surroundings, _):
        spilled = list(sort_rows(iter(batches_of(rows, cuts)), step, surroundings))
    assert [row["row"] for batch in spilled for row in batch.to_pylist()] == sorted_rows(rows, keys)[:limit]
    assert spilled == list(sort_rows(iter(batches_of(rows, [])), step, context()))


def test_many_runs_are_merged_in_passes_that_give_the_disk_back(tiny):
    rows = [(str(n * 7919 % 1000), n % 10) for n in range(1000)]
    keys = (("n", True, False), ("s", False, False))
    with spilling(1500) as (surroundings, store):
        made = sort_rows(iter(batches_of(rows, range(0, 1000, 10))), Sort(keys), surroundings)
        first = next(made)
        assert surroundings.spilled_bytes > 4 * store.task_bytes  # written again and again, one copy is left, or two
        found = [n for batch in [first, *made] for n in batch["row"].to_pylist()]
        assert found == sorted_rows(rows, keys)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(CELLS, max_size=40),
    st.lists(st.integers(0, 99), max_size=3),
    st.integers(1, 4000),
    st.sampled_from([("s",), ("n",), ("n", "s")]),
)
def test_groups_are_gathered_the_same_in_any_memory(tiny, rows, cuts, memory, keys):
    step = GatherGroups(keys)
    with spilling(memory) as (surroundings, _):
        spilled = list(gather_groups(iter(batches_of(rows, cuts)), step, surroundings))
    groups = {}
    for number, row in enumerate(rows):
        groups.setdefault(tuple(row["sn".index(key)] for key in keys), []).append(number)
    assert [row["row"] for batch in spilled for row in batch.to_pylist()] == list(itertools.chain(*groups.values()))
    assert spilled == list(gather_groups(iter(batches_of(rows, [])), step, context()))


def test_a_column_may_have_the_name_that_row_numbers_get():
    batch = pa.record_batch({"row": [3, 1, 3, 1], "row'": [1, 2, 3, 4]})
    with spilling(1) as (surroundings, _):
        made = pa.Table.from_batches(gather_groups(iter([batch]), GatherGroups(("row",)), surroundings))
    assert made.to_pydict() == {"row": [3, 3, 1, 1], "row'": [1, 3, 2, 4]}


def test_more_than_the_spill_limit_is_a_full_disk():
    rows = [("a" * 50, n) for n in range(1000)]
    with spilling(10_000, limit=20_000) as (surroundings, _):
        with pytest.raises(KernelmillError) as caught:
            list(sort_rows(iter(batches_of(rows, range(0, 1000, 10))), Sort((("n", True, False),)), surroundings))
        assert caught.value.code is Code.DISK_FULL


def test_columns_of_every_kind_go_through_runs(tiny):
    table = pa.table(
        {
            "k": [3, None, 1, 2] * 5,
            "list": [[1], None, [], [2, 3]] * 5,
            "struct": [{"a": "x"}, {"a": None}, None, {"a": "y"}] * 5,
            "bool": [True, None, False, True] * 5,
            "decimal": pa.array([1, None, 3, 4] * 5, pa.decimal128(5, 2)),
            "nothing": pa.nulls(20),
        }
    )
    (batch,) = table.to_batches()
    step = Sort((("k", False, True),))
    with spilling(100) as (surroundings, _):
        made = list(sort_rows(iter([batch]), step, surroundings))
    assert surroundings.spilled_bytes > 0
    assert made == list(sort_rows(iter([batch]), step, context()))
