"""Groups that end within a batch or go on over many: whatever the cuts, the same is made of each."""

import itertools

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.groupruns import OpenGroup, group_runs
from kernelmill.engine.exec.groups import reduce_groups
from kernelmill.engine.exec.usersteps import map_groups
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.plan.physical import MapGroups, ReduceGroups, UserCall
from kernelmill.engine.shuffle.store import BlockStore
from kernelmill.engine.userfunctions import UserFunction

INT = pa.int64()
SCHEMA = pa.schema([("k", pa.string()), ("f", pa.float64()), ("v", pa.int64())])
KEYS = st.sampled_from([(None, 1.0), ("", 1.0), ("a", None), ("a", 0.0), ("a", float("nan")), ("b", 2.0), (None, None)])
GROUPS = st.lists(st.tuples(KEYS, st.integers(1, 7)), max_size=6, unique_by=lambda group: str(group[0]))
CUTS = st.lists(st.integers(0, 99), max_size=8)


def context(**more):
    return TaskContext(AttemptId(TaskId(0, 0), 0), **more)


def rows_of_groups(groups):
    keys = [key for key, size in groups for _ in range(size)]
    return [(*key, number) for number, key in enumerate(keys)]


def batches_of(rows, cuts, schema=SCHEMA):
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    whole = pa.RecordBatch.from_arrays(
        [pa.array(c, f.type) for c, f in zip(columns, schema, strict=True)], schema=schema
    )
    bounds = sorted([0, len(rows), *(cut % (len(rows) + 1) for cut in cuts)])
    return [whole.slice(a, b - a) for a, b in itertools.pairwise(bounds)]  # empty ones too


def step_of(kind, made=INT):
    schema = pa.schema([*list(SCHEMA)[:2], pa.field("v", made)])
    return ReduceGroups(kind, None, ("k", "f"), ("v",), True, False, False, schema)


def reduced(batches, kind, function=None, made=INT, **more):
    called = None if function is None else UserFunction(function, "reduce", "reduce", "")
    surroundings = context(**more)
    out = list(reduce_groups(iter(batches), step_of(kind, made), called, surroundings))
    return [tuple(row.values()) for batch in out for row in batch.to_pylist()], surroundings


def same(found, expected):
    assert [str(row) for row in found] == [str(row) for row in expected]  # NaN is not equal to itself


def in_groups(rows):
    return [(key, [row[2] for row in part]) for key, part in itertools.groupby(rows, key=lambda r: (r[0], str(r[1])))]


@settings(max_examples=60)
@given(GROUPS, CUTS)
def test_the_runs_of_all_batches_are_the_groups(groups, cuts):
    rows = rows_of_groups(groups)
    found, ended = [], True
    for run in group_runs(iter(batches_of(rows, cuts)), ["k", "f"]):
        values = run.batch["v"].to_pylist()
        parts = [values[start:end] for start, end in zip(run.starts, run.ends, strict=True)]
        assert run.continues != ended
        if run.continues:
            found[-1] += parts.pop(0)
        found += parts
        ended = not run.goes_on
    assert ended
    assert found == [values for _, values in in_groups(rows)]


@settings(max_examples=60)
@given(GROUPS, CUTS, st.integers(0, 5))
def test_a_reduce_gets_each_groups_values_whatever_it_takes_of_them(groups, cuts, taken):
    rows = rows_of_groups(groups)

    def some(_, values, emit):
        emit(sum(itertools.islice(values, taken)))

    found, _ = reduced(batches_of(rows, cuts), "function", some)
    same([row[2] for row in found], [sum(values[:taken]) for _, values in in_groups(rows)])
    same(found, reduced(batches_of(rows, []), "function", some)[0])


@settings(max_examples=40)
@given(GROUPS, CUTS, st.sampled_from(["first", "list", "unique", "min"]))
def test_reduces_by_name_are_the_same_for_any_cuts(groups, cuts, kind):
    rows = rows_of_groups(groups)
    made = pa.list_(pa.int64()) if kind in ("list", "unique") else pa.int64()
    found, _ = reduced(batches_of(rows, cuts), kind, made=made)
    same(found, reduced(batches_of(rows, []), kind, made=made)[0])
    if kind == "list":
        same([row[2] for row in found], [values for _, values in in_groups(rows)])


@settings(max_examples=30)
@given(GROUPS, CUTS, st.integers(0, 3))
def test_rejected_groups_are_told_with_all_their_values(groups, cuts, bad):
    rows = rows_of_groups(groups)

    def picky(_, values, emit):
        emit.count("groups")
        for value in values:
            emit(value)
            if value % 4 == bad:
                raise ValueError("bad")

    found, told = reduced(batches_of(rows, cuts), "function", picky, on_bad="reject")
    whole, expected = reduced(batches_of(rows, []), "function", picky, on_bad="reject")
    same(found, whole)
    assert told.rejects == expected.rejects
    assert told.counters == expected.counters


def test_a_list_that_does_not_fit_names_its_key():
    batches = batches_of([("a", 1.0, n) for n in range(1000)], range(0, 99, 3))
    with pytest.raises(KernelmillError) as caught:
        reduced(batches, "list", made=pa.list_(pa.int64()), memory_bytes_max=100)
    assert caught.value.code is Code.MEMORY_LIMIT
    assert "'a'" in caught.value.what
    assert reduced(batches, "first", memory_bytes_max=100)[0] == [("a", 1.0, 0)]


def test_what_the_rows_source_raises_is_no_failure_of_the_function():
    def source():
        yield from batches_of([("a", 1.0, n) for n in range(10)], [5])
        raise error(Code.DISK_FULL, "full")

    def careless(_, values, emit):
        try:
            emit(sum(values))
        except Exception:
            emit(0)

    with pytest.raises(KernelmillError) as caught:
        reduced(source(), "function", careless)
    assert caught.value.code is Code.DISK_FULL


@pytest.mark.parametrize("taken", [0, 1, 6])
def test_values_of_a_group_that_went_by_cannot_be_used_late(taken):
    kept = []

    def reduce(_, values, emit):
        kept.append(values)
        emit(sum(itertools.islice(values, taken)))

    reduced(batches_of([("a", 1.0, n) for n in range(9)], [3, 5]), "function", reduce)
    with pytest.raises(ValueError, match="gone"):
        list(kept[0])


@pytest.mark.parametrize("is_rejected", [False, True])
def test_what_a_long_call_emits_waits_on_disk_until_it_is_over(tmp_path, is_rejected):
    rows = [("a", 1.0, n) for n in range(40_000)]
    waiting = []

    def same(_, values, emit):
        for value in values:
            emit(value)
        waiting.append(store.task_bytes)
        if is_rejected:
            emit.reject("after all")

    with BlockStore(memory_bytes_max=0, spill_dir=str(tmp_path), spill_bytes_max=1 << 30) as store:
        surroundings = context()
        surroundings.store = store
        called = UserFunction(same, "reduce", "reduce", "")
        batches = batches_of(rows, [10_000, 20_000, 30_000])
        made = list(reduce_groups(iter(batches), step_of("function"), called, surroundings))
        surroundings.close_spills()
        assert store.task_bytes == 0
    assert waiting[0] > 0
    assert len(surroundings.rejects) == int(is_rejected)
    assert [v for batch in made for v in batch["v"].to_pylist()] == ([] if is_rejected else list(range(40_000)))


def test_of_an_open_group_no_more_than_a_batch_is_asked_for_ahead():
    asked = []

    def source():
        for number, batch in enumerate(batches_of([("a", 1.0, n) for n in range(10)], range(0, 10, 2))):
            asked.append(number)
            yield batch

    runs = group_runs(source(), ["k", "f"])
    group = OpenGroup(next(runs), runs)
    parts = group.parts()
    next(parts)
    assert len(asked) <= 3
    group.skip()
    assert group.rows == 10


@settings(max_examples=30)
@given(GROUPS, CUTS)
def test_map_groups_gets_whole_tables_for_any_cuts(groups, cuts):
    rows = rows_of_groups(groups)
    seen = []

    def keep(table):
        seen.append(table["v"].to_pylist())
        return table

    step = MapGroups(UserCall(0, "map_groups", "keep", ""), ("k", "f"), SCHEMA)
    function = UserFunction(keep, "map_groups", "keep", "")
    made = list(map_groups(iter(batches_of(rows, cuts)), step, function, context()))
    assert seen == [values for _, values in in_groups(rows)]
    assert [v for batch in made for v in batch["v"].to_pylist()] == [row[2] for row in rows]


def test_a_group_whose_table_does_not_fit_is_named():
    step = MapGroups(UserCall(0, "map_groups", "keep", ""), ("k", "f"), SCHEMA)
    function = UserFunction(lambda table: table, "map_groups", "keep", "")
    batches = batches_of([("a", 1.0, n) for n in range(1000)], range(0, 99, 3))
    with pytest.raises(KernelmillError) as caught:
        list(map_groups(iter(batches), step, function, context(memory_bytes_max=100)))
    assert caught.value.code is Code.MEMORY_LIMIT
    assert "'a'" in caught.value.what
