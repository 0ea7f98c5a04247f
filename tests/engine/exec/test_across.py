"""Rows of several batches in one order: the same as from one batch, whatever the types, offsets and nulls."""

import decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.engine.exec.across import Across
from kernelmill.engine.exec.exchange import RowSource

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
    across = Across([pa.record_batch([piece], names=["v"]) for piece in pieces])
    for taken in (across.take(rows).column(0), RowSource(whole).take(rows)):
        taken.validate(full=True)
        assert taken.equals(expected)
