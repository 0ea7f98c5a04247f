"""The first row of each group, kept batch by batch, against a dict."""

import numpy as np
import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.engine.exec.keptkeys import KeptKeys

ROWS = st.tuples(st.sampled_from(["a", "bb", None]), st.none() | st.integers(0, 3))
TYPES = [pa.string(), pa.int16()]


@settings(max_examples=100)
@given(st.lists(st.lists(ROWS, max_size=12), max_size=5), st.data())
def test_keys_are_those_of_the_first_rows_in_any_range_of_groups(batches, data):
    kept, number = KeptKeys(), {}
    for batch in batches:
        used = len(number)
        groups = np.array([number.setdefault(row, len(number)) for row in batch], np.int32)
        kept.add([pa.array([row[i] for row in batch], TYPES[i]) for i in range(2)], groups, used)
    if number:
        first = data.draw(st.integers(0, len(number) - 1))
        last = data.draw(st.integers(first + 1, len(number)))
        columns = kept.columns(first, last)
        assert [column.type for column in columns] == TYPES
        rows = zip(*(column.to_pylist() for column in columns), strict=True)
        assert list(rows) == list(number)[first:last]


def test_a_batch_of_new_rows_alone_is_not_copied():
    kept, columns = KeptKeys(), [pa.array([1, 2, 3]), pa.array([4, 5, 6])]
    kept.add(columns, np.arange(3, dtype=np.int32), 0)
    (held, _) = kept.columns(1, 3)
    assert held.to_pylist() == [2, 3]
    assert held.buffers()[1].address == columns[0].buffers()[1].address


def test_floats_are_not_kept_for_equal_ones_may_have_other_bits():
    names = [pa.field("a", pa.int64()), pa.field("b", pa.float32())]
    assert not KeptKeys.may_keep(names)
    assert KeptKeys.may_keep(names[:1] * 2)
    assert not KeptKeys.may_keep(names[:1])
