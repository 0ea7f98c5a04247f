"""Rows of several batches in one order: the same as from one batch, whatever the types, offsets and nulls."""

import decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.engine.exec.across import Across
from kernelmill.engine.exec.exchange import RowSource
from kernelmill.engine.exec.picked import pick_rows
from kernelmill.engine.exec.reused import Reused

VALUES = {
    "bytes of 10": (pa.binary(10), st.binary(min_size=10, max_size=10)),
    "bytes of 90": (pa.binary(90), st.binary(min_size=90, max_size=90)),
    "bytes of 3": (pa.binary(3), st.binary(min_size=3, max_size=3)),
    "bytes of none": (pa.binary(0), st.just(b"")),
    "decimals": (pa.decimal128(20, 2), st.integers(-(10**18), 10**18).map(lambda n: decimal.Decimal(n).scaleb(-2))),
    "wide decimals": (pa.decimal256(50, 0), st.integers(-(10**40), 10**40).map(decimal.Decimal)),
    "numbers": (pa.int32(), st.integers(-5, 5)),
    "texts": (pa.string(), st.text(max_size=12)),
    "lists": (pa.list_(pa.int64()), st.lists(st.integers(0, 9), max_size=3)),
}


@pytest.mark.parametrize("kind", VALUES)
@settings(max_examples=30)
@given(data=st.data())
def test_pieces_give_what_the_whole_gives(kind, data):
    dtype, values = VALUES[kind]
    some = st.none() | values if data.draw(st.booleans()) else values
    pieces = [
        pa.array(data.draw(st.lists(some, max_size=8)), dtype)[data.draw(st.integers(0, 2)) :]
        for _ in range(data.draw(st.integers(1, 4)))
    ]
    whole = pa.concat_arrays(pieces)
    picks = data.draw(st.lists(st.integers(0, 10**6), max_size=20)) if len(whole) else []
    rows = np.array([pick % len(whole) for pick in picks], np.uint32)
    expected = whole.take(pa.array(rows, pa.uint32()))
    across = Across([pa.record_batch([piece], names=["v"]) for piece in pieces], Reused())
    for taken in (across.take(rows).column(0), RowSource(whole).take(rows)):
        taken.validate(full=True)
        assert taken.equals(expected)


@settings(max_examples=40)
@given(st.data())
def test_rows_that_were_only_picked_are_found_where_they_are(data):
    """Batches that were moved, that were not, and that could not be left in place since they have nulls."""
    held = []
    for _ in range(data.draw(st.integers(1, 4))):
        values = st.binary(min_size=40, max_size=40)
        values = st.none() | values if data.draw(st.booleans()) else values
        drawn = data.draw(st.lists(values, min_size=1, max_size=8))
        whole = pa.record_batch({"k": pa.array(range(len(drawn)), pa.int64()), "v": pa.array(drawn, pa.binary(40))})
        picks = data.draw(st.lists(st.integers(0, len(drawn) - 1), min_size=1, max_size=9))
        picked = pick_rows(whole, ("k",), np.array(picks, np.uint32))
        held.append(data.draw(st.sampled_from([whole, picked, picked.slice(1, 3)])))
    gathered = [rows if isinstance(rows, pa.RecordBatch) else rows.gathered() for rows in held]
    whole = pa.concat_batches(gathered)
    if whole.num_rows:
        picks = data.draw(st.lists(st.integers(0, whole.num_rows - 1), max_size=20))
        taken = Across(held, Reused()).take(np.array(picks, np.uint32))
        taken.validate(full=True)
        assert taken == whole.take(pa.array(picks, pa.uint32()))


def test_what_was_taken_stays_while_more_is_taken_and_its_memory_is_used_again_when_it_is_gone():
    reused = Reused()
    pieces = [pa.record_batch([pa.array([bytes([n]) * 16] * 5, pa.binary(16))], names=["v"]) for n in range(2)]
    across = Across(pieces, reused)
    first = across.take(np.array([0, 9], np.uint32)).column(0)
    place = first.buffers()[1].address
    kept = first.slice(1)
    del first
    second = across.take(np.array([9, 0], np.uint32)).column(0)
    assert second.buffers()[1].address != place
    assert (kept.to_pylist(), second.to_pylist()) == ([b"\1" * 16], [b"\1" * 16, b"\0" * 16])
    del kept
    assert across.take(np.array([4, 5], np.uint32)).column(0).buffers()[1].address == place
