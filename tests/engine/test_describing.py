"""describe against Polars where both take a type, and by hand where only we do."""

from __future__ import annotations

import math
from datetime import date
from decimal import Decimal

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernelmill as km

numbers = st.none() | st.integers(-5, 5)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.tuples(numbers, numbers.map(lambda n: None if n is None else n / 4), st.none() | st.booleans())))
def test_numbers_and_booleans_are_described_as_in_polars(rows):
    names = ("n", "x", "b")
    columns = list(zip(*rows, strict=True)) or [[], [], []]
    types = (pa.int64(), pa.float64(), pa.bool_())
    table = pa.table(dict(zip(names, map(pa.array, columns, types), strict=True)))
    ours, theirs = km.from_arrow(table).describe(), pl.DataFrame(table).describe()
    assert ours["statistic"].to_pylist() == theirs["statistic"].to_list()
    for name in names:
        for statistic, mine, other in zip(
            ours["statistic"].to_pylist(), ours[name].to_pylist(), theirs[name].to_list(), strict=True
        ):
            if statistic in ("25%", "50%", "75%") and name == "b":
                continue  # Polars has no quantiles of booleans, or has them, by version
            is_close = mine == other or (mine is not None and other is not None and math.isclose(mine, other))
            assert is_close, (name, statistic, mine, other)


def test_other_types_are_described_as_text():
    table = pa.table(
        {
            "k": ["b", "a", None],
            "d": [date(2024, 1, 2), None, None],
            "m": [Decimal("1.50"), None, Decimal("-2.25")],
            "xs": [[1], None, []],
            "z": pa.nulls(3),
            "statistic": ["x", "y", "z"],
        }
    )
    found = km.from_arrow(table).describe()
    told = {
        name: dict(zip(found["statistic"].to_pylist(), found[name].to_pylist(), strict=True)) for name in found.columns
    }
    asked = ("count", "null_count", "min", "max", "mean")
    assert {name: tuple(told[name][one] for one in asked) for name in found.columns if name != "statistic"} == {
        "k": ("2", "1", "a", "b", None),
        "d": ("1", "2", "2024-01-02", "2024-01-02", None),
        "m": ("2", "1", "-2.25", "1.50", None),
        "xs": ("2", "1", None, None, None),
        "z": ("0", "3", None, None, None),
        "statistic'": ("3", "0", "x", "z", None),
    }


@pytest.mark.parametrize("rows", [0, 1])
def test_frames_of_few_rows_are_described(rows):
    found = km.from_arrow(pa.table({"n": pa.array([7] * rows, pa.int64())})).describe()
    assert found["n"].to_pylist()[:3] == [float(rows), 0.0, 7.0 if rows else None]
