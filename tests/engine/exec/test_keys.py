"""Key columns of batches: any type to group numbers and back, alone, together, as dictionaries."""

import datetime as dt
from decimal import Context, Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec.exchange import hash_rows, in_order, partition_rows
from kernelmill.engine.exec.keys import KeyColumns, decode_rows, encode_rows
from kernelmill.kernels.table import KeyTable

WIDE = Context(prec=40)
COLUMNS = {
    "string": (pa.string(), st.text(max_size=12) | st.sampled_from(["", "é" * 9, "x" * 40])),
    "binary": (pa.binary(), st.binary(max_size=20)),
    "large": (pa.large_string(), st.text(max_size=5)),
    "int8": (pa.int8(), st.integers(-128, 127)),
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    "uint64": (pa.uint64(), st.integers(0, 2**64 - 1)),
    "bool": (pa.bool_(), st.booleans()),
    "float": (pa.float64(), st.floats(allow_nan=False).map(lambda x: x + 0.0)),
    "date": (pa.date32(), st.dates(dt.date(1900, 1, 1))),
    "decimal": (
        pa.decimal128(38, 3),
        st.integers(-(10**38) + 1, 10**38 - 1).map(lambda n: Decimal(n).scaleb(-3, WIDE)),
    ),
    "fixed": (pa.binary(5), st.binary(min_size=5, max_size=5)),
    "half": (pa.float16(), st.floats(width=16, allow_nan=False).map(lambda x: x + 0.0)),
    "null": (pa.null(), st.none()),
    "zoned": (pa.timestamp("us", "Europe/Paris"), st.integers(-(10**15), 10**15)),
    "code": (pa.dictionary(pa.int8(), pa.string()), st.sampled_from(["a", "bb", ""])),
}


@st.composite
def keys(draw, columns_max=3):
    names = draw(st.lists(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=columns_max))
    rows = draw(st.integers(0, 25))
    made = []
    for name in names:
        dtype, values = COLUMNS[name]
        made.append(pa.array(draw(st.lists(st.none() | values, min_size=rows, max_size=rows)), dtype))
    return made, draw(st.integers(0, 3))


def fields_of(columns):
    types = [c.type.value_type if pa.types.is_dictionary(c.type) else c.type for c in columns]
    return [pa.field(f"k{i}", dtype) for i, dtype in enumerate(types)]


def new_table():
    table = KeyTable()
    table.reset(groups_max=1 << 16, key_bytes_max=1 << 24)
    return table


def first_seen(rows):
    number = {}
    return [number.setdefault(row, len(number)) for row in rows], list(number)


def rows_of(columns):
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


@settings(max_examples=80)
@given(keys())
def test_rows_are_numbered_as_their_values_are_first_seen(drawn):
    whole, start = drawn
    columns = [column.slice(start) for column in whole]
    grouping, table = KeyColumns(fields_of(columns)), new_table()
    groups = np.full(len(columns[0]), -7, np.int32)
    assert grouping.group(table, columns, 0, groups) == len(groups)
    expected, order = first_seen(rows_of(columns))
    assert groups.tolist() == expected
    back = grouping.columns(table, 0, len(table))
    assert rows_of(back) == order
    assert [column.type for column in back] == [field.type for field in fields_of(columns)]
    for column in back:
        column.validate(full=True)
    if grouping.is_one_string and order:
        turned = np.arange(len(order), dtype=np.uint32)[::-1].copy()
        *parts, key_bytes = table.partitions_of_strings(0, len(order), 3)
        assert rows_of(grouping.placed(table, 0, turned, key_bytes)[0]) == order[::-1]
        for found, wanted in zip(in_order(*parts), partition_rows(hash_rows(back), 3), strict=True):
            assert found.tolist() == wanted.tolist()


@settings(max_examples=60)
@given(keys(columns_max=4))
def test_encoded_rows_come_back_and_are_equal_for_equal_rows_only(drawn):
    columns = [c.cast(c.type.value_type) if pa.types.is_dictionary(c.type) else c for c in drawn[0]]
    data, offsets = encode_rows(columns)
    back = decode_rows(data, offsets, [column.type for column in columns])
    assert rows_of(back) == rows_of(columns)
    bytes_of_row = [data[a:b].tobytes() for a, b in zip(offsets, offsets[1:], strict=False)]
    assert first_seen(bytes_of_row)[0] == first_seen(rows_of(columns))[0]


def test_nulls_of_several_columns_and_empty_strings_are_keys_of_their_own():
    columns = [pa.array(["", None, "", None, ""]), pa.array([None, None, 0, 0, None], pa.int32())]
    grouping, table, groups = KeyColumns(fields_of(columns)), new_table(), np.empty(5, np.int32)
    grouping.group(table, columns, 0, groups)
    assert groups.tolist() == [0, 1, 2, 3, 0]


def test_dictionaries_that_repeat_a_value_or_hold_a_null_group_by_value():
    values = pa.array(["a", "b", "a", None])
    codes = pa.array([0, 2, 3, None, 1], pa.int8())
    column = pa.DictionaryArray.from_arrays(codes, values)
    grouping, table, groups = KeyColumns([pa.field("k", pa.string())]), new_table(), np.empty(5, np.int32)
    grouping.group(table, [column], 0, groups)
    assert groups.tolist() == [0, 0, 1, 1, 2]
    assert grouping.columns(table, 0, 3)[0].to_pylist() == ["a", None, "b"]


def test_dictionaries_that_change_from_batch_to_batch_keep_one_numbering():
    grouping, table = KeyColumns([pa.field("k", pa.string())]), new_table()
    found = []
    batches = [["a", "b"], ["b", "a", "c"], ["c"], ["b", "a", "c"], ["z", None]]
    for batch in batches:
        for column in (pa.array(batch).dictionary_encode(), pa.array(batch)):  # a row group may be plain
            groups = np.empty(len(batch), np.int32)
            grouping.group(table, [column], 0, groups)
            found += groups.tolist()
    assert found == first_seen([value for batch in batches for value in batch * 2])[0]


def test_slices_of_one_dictionary_after_a_flush_are_looked_up_anew():
    column = pa.array(["a", "b", "c", "a"]).dictionary_encode()
    grouping, table, groups = KeyColumns([pa.field("k", pa.string())]), new_table(), np.empty(2, np.int32)
    grouping.group(table, [column.slice(0, 2)], 0, groups)
    table.clear()
    grouping.forget()
    grouping.group(table, [column.slice(2)], 0, groups)
    assert groups.tolist() == [0, 1]
    assert grouping.columns(table, 0, 2)[0].to_pylist() == ["c", "a"]


@pytest.mark.parametrize("dtype", [pa.list_(pa.int8()), pa.decimal256(9), pa.struct([])], ids=str)
def test_a_type_that_cannot_be_a_key_is_told_by_name(dtype):
    with pytest.raises(KernelmillError) as caught:
        KeyColumns([pa.field("culprit", dtype)])
    assert caught.value.code is Code.TYPE_MISMATCH
    assert "culprit" in caught.value.what
