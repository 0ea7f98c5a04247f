"""n_unique as two groupings: where it is done, where it must not be, and that the rows are the same."""

from textwrap import dedent

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.plan.distinct import group_values_first
from kernelmill.engine.plan.explain import plan_text
from kernelmill.engine.plan.optimizer import apply

SCHEMA = pa.schema([("k", pa.string()), ("n", pa.int64()), ("f", pa.float64())])
c = km.col


def frame(rows=()):
    return km.from_arrow(pa.Table.from_pylist(list(rows), SCHEMA))


def test_values_are_grouped_first():
    lazy = frame().group_by("k").agg(f=c("n").max(), u=c("f").n_unique(), rows=km.len(), s=c("n").sum())
    assert plan_text(apply(lazy._plan, group_values_first), origins=False) == dedent("""\
        Aggregate by k: f=max(f'), u=len(), rows=sum(rows), s=sum(s)
          Aggregate by k, f: f'=max(n), rows=len(), s=sum(n)
            ScanTable <memory>: k: string, n: int64, f: float64""")


@pytest.mark.parametrize(
    "aggs",
    [
        [c("n").n_unique(), c("f").n_unique()],
        [c("n").n_unique(), c("f").sum()],
        [c("n").n_unique(), c("f").mean()],
        [c("k").n_unique().alias("own")],
        [c("n").n_unique().filter(c("f") > 0)],
        [c("n").n_unique(), km.len().filter(c("f") > 0)],
        [c("n").sum()],
    ],
    ids=str,
)
def test_what_would_change_the_result_is_left_alone(aggs):
    lazy = frame().group_by("k").agg(*aggs)
    assert apply(lazy._plan, group_values_first) is lazy._plan


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "k": st.sampled_from(["a", "b", None]),
                "n": st.none() | st.integers(-3, 3),
                "f": st.none() | st.sampled_from([0.0, -0.0, 1.5, float("nan")]),
            }
        ),
        max_size=20,
    ),
    st.booleans(),
)
def test_rows_are_those_of_plain_python(rows, keys):
    aggs = {"u": c("f").n_unique(), "rows": km.len(), "s": c("n").sum(), "low": c("n").min(), "known": c("f").count()}
    made = (frame(rows).group_by("k").agg(**aggs) if keys else frame(rows).select(**aggs)).collect(progress=False)
    groups = {} if keys else {None: []}
    for row in rows:
        groups.setdefault(row["k"] if keys else None, []).append(row)
    wanted = []
    for key, own in groups.items():
        numbers = [row["n"] for row in own if row["n"] is not None]
        distinct = {"nan" if row["f"] != row["f"] else row["f"] for row in own}
        known = sum(row["f"] is not None for row in own)
        values = (len(distinct), len(own), sum(numbers), min(numbers, default=None), known)
        wanted.append((key, *values) if keys else values)
    assert sorted(made.rows(), key=repr) == sorted(wanted, key=repr)
