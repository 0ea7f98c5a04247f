import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.ids import TaskId
from kernelmill.engine.io.context import Reject
from kernelmill.engine.io.rejects import REJECT_SCHEMA, RejectList, RejectWriter, reject_table


def reject(n, reason="invalid UTF-8", line=None):
    return Reject(f"f{n}.txt", n, line, b"\xff%d" % n, reason, "KM0204")


def test_rejects_come_in_task_order_whatever_order_tasks_end_in():
    ends = {TaskId(0, 10): [reject(3)], TaskId(0, 2): [reject(1, line=7), reject(2)], TaskId(1, 0): [reject(4)]}
    for order in (list(ends), list(reversed(ends))):
        writer = RejectWriter(rejects_max=10)
        for task in order:
            writer.add(task, ends[task])
        table = writer.table()
        assert table["offset"].to_pylist() == [1, 2, 3, 4]
        assert table["line"].to_pylist() == [7, None, None, None]
        assert table["record"].to_pylist()[0] == b"\xff1"
        assert table.schema.equals(REJECT_SCHEMA)


def test_a_file_whose_name_is_not_utf8_is_named_too():
    (row,) = reject_table([Reject("caf\udce9.txt", None, None, b"x", "why", "KM0207", row=3)]).to_pylist()
    assert row == {
        "file": "caf\\xe9.txt",
        "offset": None,
        "line": None,
        "row": 3,
        "record": b"x",
        "reason": "why",
        "code": "KM0207",
    }


def test_a_tasks_second_result_replaces_its_first():
    writer = RejectWriter(rejects_max=2)
    writer.add(TaskId(0, 0), [reject(1), reject(2)])
    writer.add(TaskId(0, 0), [reject(1), reject(2)])
    assert writer.rows == 2
    writer.add(TaskId(0, 0), [])
    assert writer.rows == 0


def test_more_than_allowed_is_an_error_with_counts_by_reason_and_the_first_ten():
    writer = RejectWriter(rejects_max=11)
    writer.add(TaskId(0, 1), [reject(n) for n in range(9)])
    with pytest.raises(KernelmillError) as caught:
        writer.add(TaskId(0, 0), [reject(100 + n, "too short") for n in range(3)])
    assert caught.value.code is Code.REJECT_LIMIT
    assert "9 x invalid UTF-8" in caught.value.what
    assert "3 x too short" in caught.value.what
    assert [f"f{n}.txt" in caught.value.what for n in (100, 101, 102, 0, 6, 7)] == [True] * 5 + [False]
    assert writer.by_reason() == {"invalid UTF-8": 9, "too short": 3}


def test_a_task_stops_at_the_first_reject_too_many():
    kept = RejectList(rejects_max=2)
    kept.add(reject(1))
    kept.add(reject(2))
    with pytest.raises(KernelmillError) as caught:
        kept.add(reject(3))
    assert caught.value.code is Code.REJECT_LIMIT


def test_none_allowed_means_the_first_is_an_error():
    with pytest.raises(KernelmillError) as caught:
        RejectList(rejects_max=0).add(reject(1))
    assert caught.value.code is Code.REJECT_LIMIT


@given(st.dictionaries(st.integers(0, 20), st.lists(st.integers(0, 99), max_size=4), max_size=8), st.randoms())
@settings(max_examples=30)
def test_records_do_not_depend_on_the_order_of_adding(of_task, random):
    tasks = list(of_task)
    random.shuffle(tasks)
    writer = RejectWriter(rejects_max=1000)
    for index in tasks:
        writer.add(TaskId(0, index), [reject(n) for n in of_task[index]])
    assert [r.offset for r in writer.records()] == [n for index in sorted(of_task) for n in of_task[index]]
