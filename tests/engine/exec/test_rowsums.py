"""Checksums of rows: the same for the same rows however they are ordered, cut or encoded; others for other rows."""

import datetime as dt
import decimal

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.engine.exec.rowsums import RowSums, kernels_of_rows, row_sums
from kernelmill.kernels import rowchecks

GOLDEN_SUM, GOLDEN_XOR = 0x4174A95E9F6F756B, 0xE11ECFB7EDEF4853

TYPES = {
    "int32": (pa.int32(), st.integers(-(1 << 31), (1 << 31) - 1)),
    "float64": (pa.float64(), st.floats(allow_nan=False).map(lambda value: value + 0.0)),
    "bool": (pa.bool_(), st.booleans()),
    "string": (pa.string(), st.text(max_size=40)),
    "large binary": (pa.large_binary(), st.binary(max_size=40)),
    "date": (pa.date32(), st.dates()),
    "timestamp": (pa.timestamp("us"), st.datetimes(dt.datetime(1700, 1, 1), dt.datetime(2200, 1, 1))),
    "decimal": (pa.decimal128(20, 2), st.integers(-(10**17), 10**17).map(lambda n: decimal.Decimal(n) / 100)),
    "fixed binary": (pa.binary(3), st.binary(min_size=3, max_size=3)),
    "list": (pa.list_(pa.string()), st.lists(st.none() | st.text(max_size=5), max_size=4)),
    "list of words": (pa.list_(pa.float32()), st.lists(st.none() | st.floats(0, 9, width=32), max_size=4)),
    "large list": (pa.large_list(pa.int64()), st.lists(st.none() | st.integers(0, 9), max_size=4)),
    "list of lists": (pa.list_(pa.list_(pa.int64())), st.lists(st.lists(st.integers(0, 9), max_size=3), max_size=3)),
    "fixed list": (pa.list_(pa.int16(), 2), st.lists(st.integers(0, 99), min_size=2, max_size=2)),
    "struct": (
        pa.struct([("a", pa.int64()), ("b", pa.string())]),
        st.fixed_dictionaries({"a": st.none() | st.integers(0, 9), "b": st.text(max_size=3)}),
    ),
    "map": (pa.map_(pa.string(), pa.int64()), st.lists(st.tuples(st.text(max_size=3), st.integers(0, 9)), max_size=3)),
    "null": (pa.null(), st.none()),
    "interval": (pa.month_day_nano_interval(), st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))),
}


def batch_of(values, dtype):
    numbers = pa.array(range(len(values)), pa.int64())
    return pa.RecordBatch.from_arrays([pa.array(values, dtype), numbers], names=["v", "n"])


def total(batches):
    found = RowSums()
    for batch in batches:
        found = found.plus(row_sums(batch))
    return found


@pytest.mark.parametrize("name", TYPES)
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_sums_are_of_rows_not_of_batches_and_every_value_counts(name, data):
    dtype, values = TYPES[name]
    rows = data.draw(st.lists(st.none() | values, min_size=1, max_size=8))
    whole = batch_of(rows, dtype)
    order = data.draw(st.permutations(range(len(rows))))
    cut = data.draw(st.integers(0, len(rows)))
    mixed = pa.RecordBatch.from_arrays([column.take(pa.array(order)) for column in whole.columns], names=["v", "n"])
    assert total([mixed.slice(cut), mixed.slice(0, cut)]) == row_sums(whole)
    place, other = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.none() | values)
    changed = batch_of([*rows[:place], other, *rows[place + 1 :]], dtype)
    same = changed.column(0).equals(whole.column(0))
    assert (row_sums(changed) == row_sums(whole)) == same


def test_a_list_is_not_the_same_items_in_another_order_or_cut_elsewhere():
    lists = [[["a", "b"], ["c"]], [["b", "a"], ["c"]], [["a"], ["b", "c"]], [["a", "b", "c"], []], [["a", "b"], None]]
    assert len({row_sums(batch_of(rows, pa.list_(pa.string()))) for rows in lists}) == len(lists)


def test_a_dictionary_column_has_the_sums_of_its_values():
    texts = pa.array(["x", "y", None, "x"])
    sums = [row_sums(pa.RecordBatch.from_arrays([each], names=["v"])) for each in (texts, texts.dictionary_encode())]
    assert sums[0] == sums[1] and sums[0].rows == 4


def test_sums_of_these_rows_are_what_they_were_when_the_contract_was_made():
    """Workers of one cluster compare them, and a journal keeps them: another value is another index of blocks."""
    texts = pa.array(["a", None, "kernelmill", "a text of more than 16 bytes", ""])
    lists = pa.array([[1, 2], [], None, [None], [-(1 << 63)]], pa.list_(pa.int64()))
    batch = pa.RecordBatch.from_arrays([texts, pa.array(range(5)), lists], names=["t", "n", "l"])
    assert row_sums(batch) == RowSums(5, GOLDEN_SUM, GOLDEN_XOR)


@pytest.mark.parametrize("name", [*TYPES, "dictionary"])
def test_what_is_called_is_known_before_the_rows_are(name, monkeypatch):
    dtype = pa.dictionary(pa.int32(), pa.string()) if name == "dictionary" else TYPES[name][0]
    values = [[[1]]] if name == "list of lists" else [None]
    batch = pa.RecordBatch.from_arrays([pa.array(values, dtype)], names=["v"])
    expected, called = set(kernels_of_rows(batch.schema)), set()

    def watched(kernel):
        return lambda *arguments: (called.add(kernel), kernel(*arguments))

    for kernel in ("add_rows", "begin_items", "mix_lists", "mix_strings", "mix_word_lists", "mix_words"):
        monkeypatch.setattr(rowchecks, kernel, watched(getattr(rowchecks, kernel)))
    row_sums(batch)
    assert called == expected


def test_lists_that_lie_beyond_the_reach_of_32_bits_are_those_of_their_rows():
    far, size = (1 << 31) + 5, 3
    values = pa.nulls(far + size)  # takes no memory
    lists = pa.LargeListArray.from_arrays(pa.array([far, far + 1, far + size], pa.int64()), values)
    near = pa.array([[None], [None, None]], pa.large_list(pa.null()))
    assert row_sums(pa.record_batch([lists], ["v"])) == row_sums(pa.record_batch([near], ["v"]))
