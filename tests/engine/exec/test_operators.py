"""Row-wise steps: filter, project, explode, limit."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec import operators
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.io.context import RowPlace
from kernelmill.engine.plan import physical
from kernelmill.engine.plan.physical import NamedNode

BATCH = pa.record_batch({"a": pa.array([1, None, 3, 4], pa.int32()), "s": ["x y", None, "", "z"]})


def context(**more):
    return TaskContext(AttemptId(TaskId(0, 0), 0), **more)


def rows(batches):
    return [row for batch in batches for row in batch.to_pylist()]


def node(expr):
    return expr.node


def test_filter_keeps_what_is_true_and_null_is_not():
    kept = operators.filter_rows(iter([BATCH, BATCH.slice(1, 1)]), physical.Filter(node(km.col("a") > 2)), context())
    assert [batch.to_pydict() for batch in kept] == [{"a": [3, 4], "s": ["", "z"]}]


def test_project_makes_the_columns_of_its_schema():
    columns = (
        NamedNode("twice", node(km.col("a") * 2)),
        NamedNode("one", node(km.lit(1))),
        NamedNode("s", node(km.col("s"))),
    )
    operator = physical.Project(columns)
    schema = operators.projected(operator, BATCH.schema)
    (made,) = operators.project(iter([BATCH]), operator, schema, context())
    assert made.schema == schema
    assert made.to_pydict() == {"twice": [2, None, 6, 8], "one": [1] * 4, "s": BATCH["s"].to_pylist()}


LISTS = st.lists(st.none() | st.lists(st.none() | st.integers(0, 9), max_size=4), max_size=12)
LIST_TYPES = [pa.list_(pa.int64()), pa.large_list(pa.int64())]


@pytest.mark.parametrize("dtype", LIST_TYPES, ids=str)
@pytest.mark.parametrize("empty_as_null", [False, True])
@pytest.mark.parametrize("keep_nulls", [False, True])
def test_explode_gives_each_element_a_row(dtype, empty_as_null, keep_nulls):
    operator = physical.Explode("l", empty_as_null, keep_nulls)

    @settings(max_examples=40)
    @given(LISTS, st.integers(0, 3))
    def check(lists, start):
        whole = pa.RecordBatch.from_arrays(
            [
                pa.array(range(len(lists)), pa.int64()),
                pa.array(lists, dtype),
                pa.array(map(str, range(len(lists))), pa.string()),
            ],
            names=["before", "l", "after"],
        )
        batch = whole.slice(start)
        schema = operators.exploded(operator, batch.schema)
        made = list(operators.explode(iter([batch]), operator, schema, context()))
        expected = []
        for row in batch.to_pylist():
            elements = row["l"]
            if elements is None:
                elements = [None] if keep_nulls else []
            elif not elements and empty_as_null:
                elements = [None]
            expected += [{**row, "l": element} for element in elements]
        assert rows(made) == expected
        assert all(one.schema == schema for one in made)

    check()


def test_explode_of_the_only_column():
    batch = pa.record_batch({"l": pa.array([["a", "b"], None, []])})
    operator = physical.Explode("l")
    schema = operators.exploded(operator, batch.schema)
    made = operators.explode(iter([batch]), operator, schema, context())
    assert rows(made) == [{"l": "a"}, {"l": "b"}, {"l": None}]


def test_tokens_are_exploded_without_a_column_of_lists():
    tokens = node(km.col("s").str.tokenize())
    operator = physical.TokenizeExplode("t", tokens, (NamedNode("a", node(km.col("a"))),), ("t", "a"))
    schema = operators.tokens_exploded(operator, BATCH.schema)
    made = operators.explode_tokens(iter([BATCH]), operator, schema, context())
    assert rows(made) == [{"t": "x", "a": 1}, {"t": "y", "a": 1}, {"t": None, "a": None}, {"t": "z", "a": 4}]
    assert schema.names == ["t", "a"]


@pytest.mark.parametrize(("limit", "asked"), [(0, 0), (1, 1), (4, 1), (5, 2), (8, 2), (99, 3)])
def test_limit_asks_for_no_batch_more_than_it_needs(limit, asked):
    taken = []

    def source():
        for number in range(3):
            taken.append(number)
            yield BATCH

    found = rows(operators.limit(source(), physical.Limit(limit), context()))
    assert found == (rows([BATCH]) * 3)[:limit]
    assert len(taken) == asked


@pytest.mark.parametrize(
    "step",
    [
        lambda c: operators.filter_rows(iter([BATCH]), physical.Filter(node(km.col("a") > 2)), c),
        lambda c: operators.project(iter([BATCH]), physical.Project(()), pa.schema([]), c),
        lambda c: operators.limit(iter([BATCH]), physical.Limit(3), c),
    ],
)
def test_a_cancelled_step_stops(step):
    with pytest.raises(KernelmillError) as caught:
        list(step(context(is_cancelled=lambda: True)))
    assert caught.value.code is Code.CANCELLED


# Where a bad value comes from ----------------------------------------------------------------------------------------


def numbered(batches, context):
    """The batches as a reader hands them on: rows are numbered through all of them."""
    first = 0
    for batch in batches:
        context.rows_from(lambda row, first=first: RowPlace("f", row=first + row))
        first += batch.num_rows
        yield batch


TO_INTEGER = physical.Project((NamedNode("n", node(km.col("s").cast("int64"))),))
CAST_SCHEMA = pa.schema([("n", pa.int64())])


def after_filter(batches, context):
    return operators.filter_rows(batches, physical.Filter(node(km.col("k") > 0)), context)


def after_failing_filter(batches, context):
    return operators.filter_rows(batches, physical.Filter(node(km.col("t").cast("int64") > 0)), context)


def after_project(batches, context):
    schema = pa.schema([("s", pa.string())])
    return operators.project(batches, physical.Project((NamedNode("s", node(km.col("s"))),)), schema, context)


def after_explode(batches, context):
    lists = NamedNode("l", node(km.col("s").str.tokenize()))
    operator = physical.TokenizeExplode("w", lists.node, (NamedNode("s", node(km.col("s"))),), ("w", "s"))
    schema = operators.tokens_exploded(operator, LINES[0].schema)
    return operators.explode_tokens(batches, operator, schema, context)


def after_limit(batches, context):
    return operators.limit(batches, physical.Limit(8), context)


LINES = [
    pa.record_batch({"k": [0, 1, 1], "s": ["zero", "1", "two"], "t": ["0", "1", "2"]}),
    pa.record_batch(
        {"k": [1, None, 0, 1, 1], "s": ["3", "four", "five", "6", "seven"], "t": ["3", "4", "5", "?", "7"]}
    ),
]
BAD_OF_STEP = [
    ([], [0, 2, 4, 5, 7]),
    ([after_project, after_limit], [0, 2, 4, 5, 7]),
    ([after_filter], [2, 7]),
    ([after_filter, after_explode, after_project], [2, 7]),
    ([after_failing_filter, after_explode], [6, 2, 4, 5, 7]),
]


@pytest.mark.parametrize(("steps", "bad"), BAD_OF_STEP)
def test_a_bad_value_is_traced_to_its_row_through_any_steps(steps, bad):
    for on_bad in ("reject", "error"):
        one = context(on_bad=on_bad)
        batches = numbered(LINES, one)
        for step in steps:
            batches = step(batches, one)
        cast = operators.project(batches, TO_INTEGER, CAST_SCHEMA, one)
        if on_bad == "reject":
            assert set(rows_of(cast)) <= {1, 3, 6}
            assert sorted((r.file, r.row, r.offset) for r in one.rejects) == sorted(("f", row, None) for row in bad)
            continue
        with pytest.raises(KernelmillError) as caught:
            list(cast)
        assert caught.value.where in {f"f, row {row}" for row in bad}


def rows_of(batches):
    return [value for batch in batches for value in batch.column(0).to_pylist()]


def test_rows_of_which_nobody_says_where_they_come_from_have_the_task_s_origin():
    one = context(on_bad="reject")
    one.origin = "here"
    list(operators.project(iter(LINES), TO_INTEGER, CAST_SCHEMA, one))
    assert {(r.file, r.row, r.offset) for r in one.rejects} == {("here", None, None)}
