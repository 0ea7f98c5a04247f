"""Lists as an aggregate: all values of a group in the order of their rows, whatever is flushed and merged between."""

import datetime as dt

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.batch import buffer_of
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec import aggregate, liststate
from kernelmill.engine.exec.liststate import Lists
from kernelmill.engine.exec.listwords import WordRoom
from kernelmill.kernels.table import NO_MASK

VALUES = {
    "int64": (pa.int64(), st.none() | st.integers(-(2**63), 2**63 - 1)),
    "float64": (pa.float64(), st.none() | st.floats(allow_nan=False)),
    "int8": (pa.int8(), st.none() | st.integers(-128, 127)),
    "bool": (pa.bool_(), st.none() | st.booleans()),
    "string": (pa.string(), st.none() | st.text(max_size=20)),
    "date32": (pa.date32(), st.none() | st.dates(dt.date(1900, 1, 1), dt.date(2100, 1, 1))),
    "list": (pa.list_(pa.int64()), st.none() | st.lists(st.integers(0, 9), max_size=3)),
    "no nulls": (pa.int64(), st.integers(0, 99)),
}


def taken_in(states, rows, groups, dtype):
    """Lists of the rows, cut into some batches."""
    cut = max(1, len(rows) // 3)
    for start in range(0, len(rows), cut):
        part = pa.array(rows[start : start + cut], dtype)
        states.add(np.array(groups[start : start + cut], np.int32), max(groups) + 1, states.view([part]))


@pytest.mark.parametrize("kind", VALUES)
@given(data=st.data())
def test_partial_lists_joined_are_the_values_of_each_group_in_order(kind, data):
    dtype, strategy = VALUES[kind]
    rows = data.draw(st.lists(st.tuples(st.integers(0, 4), strategy), min_size=1, max_size=30))
    seen = list(dict.fromkeys(group for group, _ in rows))
    expected = [[value for group, value in rows if group == one] for one in seen]
    halves = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    merged = Lists("v", pa.list_(dtype), merging=True)
    for half in filter(None, halves):
        own = list(dict.fromkeys(group for group, _ in half))
        partial = Lists("v", pa.list_(dtype), merging=False)
        taken_in(partial, [value for _, value in half], [own.index(group) for group, _ in half], dtype)
        (column,) = partial.partial(0, len(own))
        column.validate(full=True)
        merged.add(np.array([seen.index(group) for group in own], np.int32), len(seen), merged.view([column]))
    (found,) = merged.finished(0, len(seen))
    found.validate(full=True)
    assert found.type == pa.list_(dtype)
    assert found.to_pylist() == expected
    assert merged.finished(1, len(seen))[0].to_pylist() == expected[1:]
    order = data.draw(st.permutations(range(len(seen) - 1)))
    placed = merged.placed(1, len(seen), np.array(order, np.uint32))
    placed.validate(full=True)
    assert placed.to_pylist() == [expected[1 + one] for one in order]


def test_a_column_in_borrowed_memory_may_change_after_it_was_taken_in():
    words = np.arange(3, dtype=np.int64)
    column = pa.Array.from_buffers(pa.int64(), 3, [None, buffer_of(words)], 0)
    lists = Lists("v", pa.list_(pa.int64()), merging=False)
    lists.add(np.zeros(3, np.int32), 1, [(column, NO_MASK)])
    words[:] = 9
    assert lists.finished(0, 1)[0].to_pylist() == [[0, 1, 2]]


def test_the_room_that_values_wait_in_serves_one_task_after_another():
    room = WordRoom()
    for rows in (3, 20_000, 5):
        lists = Lists("v", pa.list_(pa.int64()), merging=False, room=room)
        for start in (0, rows):
            column = pa.array(range(start, start + rows), pa.int64())
            lists.add(np.zeros(rows, np.int32), 1, lists.view([column]))
        assert lists.longest() == (0, 2 * rows)
        assert lists.finished(0, 1)[0].to_pylist() == [list(range(2 * rows))]


def test_groups_without_a_row_have_empty_lists_and_clearing_forgets():
    lists = Lists("v", pa.list_(pa.string()), merging=False)
    assert lists.finished(0, 1)[0].to_pylist() == [[]]
    lists.clear(1)
    lists.add(np.zeros(1, np.int32), 1, lists.view([pa.array(["a"])]))
    assert lists.held_bytes > 0
    assert lists.finished(0, 1)[0].to_pylist() == [["a"]]
    lists.clear(1)
    assert lists.held_bytes == 0
    assert lists.finished(0, 1)[0].to_pylist() == [[]]


def test_more_elements_than_a_column_of_lists_can_have_are_an_error(monkeypatch):
    monkeypatch.setattr(liststate, "_ELEMENTS_MAX", 2)
    lists = Lists("v", pa.list_(pa.int64()), merging=False)
    lists.add(np.zeros(3, np.int32), 1, lists.view([pa.array([1, 2, 3])]))
    with pytest.raises(KernelmillError) as raised:
        lists.finished(0, 1)
    assert raised.value.code is Code.MEMORY_LIMIT


def test_a_list_that_does_not_fit_the_memory_is_an_error_that_names_its_key(monkeypatch):
    monkeypatch.setattr(liststate, "_WORD_COPIES", 1 << 20)
    lines = ["a 1", "b 2", "b 3", "c 4"] * 2000

    def fields(line, emit):
        key, number = line.split()
        emit(key, int(number))

    job = km.MapReduce(fields, "list", order=None)(km.from_arrow(pa.table({"line": lines})))
    with pytest.raises(KernelmillError) as raised:
        job.collect()
    assert raised.value.code is Code.MEMORY_LIMIT and "'b'" in raised.value.what and "4,000" in raised.value.what


@pytest.mark.parametrize("flush_bytes", [1, 1000, 1 << 26])
@pytest.mark.parametrize("order", [None, "key", "value"])
def test_a_job_lists_the_same_however_often_it_flushes(monkeypatch, tmp_path, flush_bytes, order):
    monkeypatch.setattr(aggregate, "FLUSH_LIST_BYTES", flush_bytes)
    lines = [f"k{n * 7 % 11} {n * 31 % 17} v{n}" for n in range(3000)]
    (tmp_path / "a.txt").write_text("\n".join(lines))

    def fields(line, emit):
        key, number, text = line.split()
        emit(key, (int(number), text))

    job = km.MapReduce(fields, "list", value=("n", "t"), order=order, partitions=2)
    found = {row[0]: row[1:] for row in job(km.scan_text(tmp_path / "a.txt")).collect(split_size=9000).rows()}
    groups: dict[str, list[tuple[int, str]]] = {}
    for line in lines:
        key, number, text = line.split()
        groups.setdefault(key, []).append((int(number), text))
    for key, pairs in groups.items():
        pairs = sorted(pairs) if order == "value" else pairs
        assert found[key] == ([n for n, _ in pairs], [t for _, t in pairs])
