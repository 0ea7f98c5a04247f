"""Several keys of few values: groups by codes are those of the key table alone."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.engine.exec.codedkeys import ROWS_MIN, CodedKeys
from kernelmill.engine.exec.keys import KeyColumns
from kernelmill.kernels.table import KeyTable

ROWS = 2 * ROWS_MIN


def table_of(groups_max=1 << 16):
    table = KeyTable()
    table.reset(groups_max=groups_max, key_bytes_max=1 << 24)
    return table


def column_of(kind, draw):
    low, span = draw(st.integers(-5, 5)), draw(st.integers(1, 12))
    values = np.random.default_rng(draw(st.integers(0, 99))).integers(low, low + span, ROWS)
    nulls = values == low if draw(st.booleans()) else None
    if kind == "code":
        return pa.array([f"v{value}" for value in values], mask=nulls).dictionary_encode()
    if kind == "far":  # one value that no code is for, after the first rows told the span
        values[-3] = 10**12
    return pa.array(values.astype(np.int16) if kind == "int16" else values, mask=nulls)


@st.composite
def tables(draw):
    kinds = draw(st.lists(st.sampled_from(["code", "int16", "int64", "far"]), min_size=2, max_size=3))
    return [column_of(kind, draw) for kind in kinds]


def fields_of(columns):
    types = [c.type.value_type if pa.types.is_dictionary(c.type) else c.type for c in columns]
    return [pa.field(f"k{i}", dtype) for i, dtype in enumerate(types)]


@settings(max_examples=40, deadline=None)
@given(tables(), st.integers(1, ROWS - 1))
def test_rows_are_numbered_as_they_are_first_seen(columns, cut):
    grouping, table = KeyColumns(fields_of(columns)), table_of()
    found = []
    for batch in ([c.slice(0, cut) for c in columns], [c.slice(cut) for c in columns]):
        groups = np.full(len(batch[0]), -7, np.int32)
        assert grouping.group(table, batch, 0, groups) == groups.size
        found += groups.tolist()
    number = {}
    rows = list(zip(*(column.to_pylist() for column in columns), strict=True))
    assert found == [number.setdefault(row, len(number)) for row in rows]
    back = grouping.columns(table, 0, len(table))
    assert list(zip(*(column.to_pylist() for column in back), strict=True)) == list(number)


def test_a_flush_in_the_middle_leaves_no_row_out_and_starts_the_groups_anew():
    values = np.arange(20_000)
    columns = [pa.array(values % 100), pa.array(values // 100 % 100).cast(pa.int32())]
    grouping, table, groups = KeyColumns(fields_of(columns)), table_of(groups_max=1000), np.empty(20_000, np.int32)
    done, flushes, rows = 0, 0, []
    while done < 20_000:
        upto = grouping.group(table, columns, done, groups)
        keys = list(zip(*(c.to_pylist() for c in grouping.columns(table, 0, len(table))), strict=True))
        rows += [keys[group] for group in groups[done:upto].tolist()]
        assert upto == 20_000 or len(table) >= 1000
        table.clear()
        grouping.forget()
        done, flushes = upto, flushes + 1
    assert flushes > 1
    assert rows == list(zip(*(column.to_pylist() for column in columns), strict=True))


def test_another_dictionary_means_other_codes():
    grouping, table = KeyColumns([pa.field("a", pa.string()), pa.field("b", pa.int64())]), table_of()
    found = []
    for values in (["x", "y"], ["y", "x"]):
        columns = [pa.array(values * ROWS_MIN).dictionary_encode(), pa.array([1] * ROWS)]
        groups = np.empty(ROWS, np.int32)
        grouping.group(table, columns, 0, groups)
        found.append(groups[:3].tolist())
    assert found == [[0, 1, 0], [1, 0, 1]]


@pytest.mark.parametrize(
    ("other", "rows"),
    [
        (pa.array(["x"] * ROWS), ROWS),  # plain texts have no codes
        (pa.array([0.5] * ROWS), ROWS),
        (pa.array([0, 10**9] * ROWS_MIN), ROWS),  # nor words that span much
        (pa.array(range(ROWS)), ROWS),  # more combinations than rows to find by them
        (pa.array([1] * ROWS), ROWS_MIN - 1),
    ],
    ids=["text", "float", "wide", "many", "short"],
)
def test_columns_without_few_codes_are_looked_up_as_before(other, rows):
    columns = [pa.array([1, 2] * ROWS_MIN).slice(0, rows), other.slice(0, rows)]
    assert CodedKeys.of(columns) is None
    assert CodedKeys.of([pa.array([1, 2] * ROWS_MIN), pa.array([3] * ROWS)]) is not None
