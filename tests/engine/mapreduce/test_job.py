"""km.MapReduce: the paper's programs, what each part of a job does, and that naive Python gives the same."""

from __future__ import annotations

import math
from collections import Counter, defaultdict

import pyarrow as pa
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError

PAIRS = {"key": "string", "value": "int64"}


def mapreduce(*functions, **options):
    """A job of plain Python: these tests are about what that does."""
    return km.MapReduce(*functions, **({"compile": "never"} | options))


LINES = ["to be or not to be", "", "that is the question", "be that as it may"]


def lines_of(*lines):
    return km.from_arrow(pa.table({"line": pa.array(lines, pa.string())}))


def rows_of(job, frame, **settings):
    return job(frame).collect(progress=False, **settings).rows()


def words(line, emit):
    for word in line.split():
        emit(word, 1)


def code_of(call, *arguments, **options):
    with pytest.raises(KernelmillError) as caught:
        call(*arguments, **options)
    return caught.value.code


# The paper's programs -------------------------------------------------------------------------------------------------


def add(key, values, emit):
    emit(sum(values))


@pytest.mark.parametrize(
    "how",
    [
        {"reduce": "sum"},
        {"reduce": add},
        {"combine": "sum"},
        {"combine": lambda a, b: a + b},
        {"reduce": add, "combine": "sum"},
        {"reduce": add, "combine": lambda a, b: a + b},
        {"reduce": "sum", "combine": lambda a, b: a + b},
        {"reduce": "sum", "combine": "sum"},
    ],
    ids=lambda how: " ".join(f"{step} {getattr(means, '__name__', means)}" for step, means in how.items()),
)
@pytest.mark.parametrize("order", ["key", "value", None])
def test_word_count_in_every_form(how, order):
    job = mapreduce(words, schema=PAIRS, order=order, **how)
    frame = lines_of(*LINES * 50)
    expected = Counter(word for line in LINES * 50 for word in line.split())
    got = rows_of(job, frame, split_size=400, partitions=1)
    assert dict(got) == expected and len(got) == len(expected)
    if order:
        assert got == sorted(got)


def test_order_none_gives_keys_as_first_seen():
    job = mapreduce(words, add, schema=PAIRS, order=None)
    assert [key for key, _ in rows_of(job, lines_of(*LINES))] == list(dict.fromkeys(" ".join(LINES).split()))


def test_grep_is_a_map_alone_and_keeps_the_order_of_lines():
    def match(line, emit):
        if "be" in line:
            emit(line)

    job = mapreduce(match, key="line", schema={"line": "string"}, order=None)
    assert rows_of(job, lines_of(*LINES)) == [(LINES[0],), (LINES[3],)]


def test_inverted_index_with_another_type_from_reduce():
    def map(row, emit):
        for word in set(row.text.split()):
            emit(word, row.doc)

    def reduce(word, docs, emit):
        emit(sorted(docs))

    frame = km.from_arrow(pa.table({"doc": [3, 1, 2], "text": ["a b", "b", "b a"]}))
    schema = ({"word": "string", "doc": "int64"}, {"docs": "list<int64>"})
    job = mapreduce(map, reduce, key="word", value="doc", schema=schema)
    assert job(frame).columns == ["word", "docs"]
    assert rows_of(job, frame) == [("a", [2, 3]), ("b", [1, 2, 3])]


def test_values_of_a_key_come_sorted_for_order_value():
    def map(row, emit):
        emit(row.user, (row.at, row.page))

    def reduce(user, visits, emit):
        emit(">".join(page for _, page in visits))

    frame = km.from_arrow(pa.table({"user": ["b", "a", "b"], "at": [9, 2, 1], "page": ["x", "y", "z"]}))
    schema = ({"user": "string", "at": "int64", "page": "string"}, {"path": "string"})
    job = mapreduce(map, reduce, key="user", value=("at", "page"), schema=schema, order="value")
    assert rows_of(job, frame) == [("a", "y"), ("b", "z>x")]


def test_values_come_in_input_order_otherwise():
    frame = km.from_arrow(pa.table({"k": [n % 3 for n in range(1000)], "v": list(range(1000))}))
    job = mapreduce(
        lambda row, emit: emit(row.k, row.v), "list", schema={"key": "int64", "value": "int64"}, partitions=2
    )
    got = dict(rows_of(job, frame, split_size=100))
    assert got == {k: list(range(k, 1000, 3)) for k in range(3)}


@pytest.mark.parametrize(
    ("reduce", "expected"),
    [
        ("sum", {"a": 6, "b": 0}),
        ("count", {"a": 3, "b": 0}),
        ("min", {"a": 1, "b": None}),
        ("max", {"a": 3, "b": None}),
        ("mean", {"a": 2.0, "b": None}),
        ("first", {"a": 2, "b": None}),
        ("list", {"a": [2, 1, 3], "b": [None]}),
        ("unique", {"a": [2, 1, 3], "b": [None]}),
    ],
)
def test_reduces_by_name_leave_nulls_out_where_aggregates_do(reduce, expected):
    frame = km.from_arrow(pa.table({"k": ["a", "a", "b", "a"], "v": [2, 1, None, 3]}))
    job = mapreduce(lambda row, emit: emit(row.k, row.v), reduce, schema=PAIRS)
    assert dict(rows_of(job, frame)) == expected
    assert dict(job.trial(records_of(frame)).rows()) == expected


def records_of(frame):
    return [dict(zip(frame.columns, row, strict=True)) for row in frame.collect(progress=False).rows()]


def test_the_least_text_of_a_key():
    job = mapreduce(lambda line, emit: emit(len(line), line), "min", schema={"key": "int64", "value": "string"})
    assert rows_of(job, lines_of("bb", "ab", "c")) == [(1, "c"), (2, "ab")]


def test_keys_alone_are_counted():
    def map(line, emit):
        for word in line.split():
            emit(word)

    job = mapreduce(map, "count", key="word", value="n", schema={"word": "string"})
    assert rows_of(job, lines_of("b a", "b")) == [("a", 1), ("b", 2)]


def test_tuples_are_several_columns():
    def map(line, emit):
        a, b, n = line.split()
        emit((a, b), (int(n), float(n)))

    schema = {"a": "string", "b": "string", "n": "int64", "x": "float64"}
    job = mapreduce(map, "sum", key=("a", "b"), value=("n", "x"), schema=schema)
    assert rows_of(job, lines_of("p q 1", "p q 2", "p r 3")) == [("p", "q", 3, 3.0), ("p", "r", 3, 3.0)]


def test_keys_that_are_null_or_nan_are_groups_of_their_own():
    table = pa.table({"x": [float("nan"), 1.0, None, float("nan"), -0.0, 0.0, None]})
    job = mapreduce(
        lambda x, emit: emit(x, 1),
        lambda key, values, emit: emit(sum(values)),
        schema={"key": "float64", "value": "int64"},
    )
    got = rows_of(job, km.from_arrow(table))
    assert [n for _, n in got] == [2, 2, 1, 2]
    assert got[0][0] is None and math.copysign(1, got[1][0]) == 1 and math.isnan(got[3][0])


def test_a_reduce_may_emit_other_keys_and_none():
    def reduce(key, values, emit):
        if key != "be":
            emit(key.upper(), len(list(values)))

    got = rows_of(mapreduce(words, reduce, schema=PAIRS), lines_of("to be to"))
    assert got == [("TO", 2)]


def test_values_need_not_be_used_and_may_be_used_late():
    kept = []

    def reduce(key, values, emit):
        kept.append(values)
        emit(next(values))

    frame = km.from_arrow(pa.table({"v": list(range(30_000))}))
    job = mapreduce(
        lambda v, emit: emit(v // 20_000, v), reduce, schema={"key": "int64", "value": "int64"}, partitions=1
    )
    assert rows_of(job, frame) == [(0, 0), (1, 20_000)]
    assert [len(list(values)) for values in kept] == [19_999, 9_999]


def test_a_users_partition_decides_the_part_file(tmp_path):
    job = mapreduce(words, "sum", schema=PAIRS, partition=lambda key, n: 0 if key < "m" else n - 1, partitions=3)
    frame = lines_of(*LINES)
    job.run(frame, output=tmp_path / "out", progress=False)
    parts = [km.read_parquet(path)["key"].to_pylist() for path in sorted((tmp_path / "out").glob("*.parquet"))]
    assert len(parts) == 3 and parts[1] == []
    assert all(key < "m" for key in parts[0]) and all(key >= "m" for key in parts[2])
    assert [sorted(part) for part in parts] == parts


def test_hash_in_a_users_function_is_the_same_in_every_process():
    job = mapreduce(lambda line, emit: emit(line, hash(line)), schema=PAIRS)
    digest = xxhash.xxh64_intdigest(b"a", seed=int.from_bytes(b"kernelmi", "big"))
    assert rows_of(job, lines_of("a"))[0][1] % 2**64 == digest
    assert job.trial(["a"]).rows() == rows_of(job, lines_of("a"))


def test_side_binds_arguments_of_map():
    def map(line, emit, *, stop):
        for word in line.split():
            if word not in stop:
                emit(word, 1)

    job = mapreduce(map, "sum", schema=PAIRS, side={"stop": {"be", "to"}})
    assert dict(rows_of(job, lines_of("to be or not"))) == {"or": 1, "not": 1}


def test_a_job_is_a_step_of_a_plan_and_jobs_chain():
    first = mapreduce(words, "sum", key="word", value="n", schema={"word": "string", "n": "int64"})
    by_count = mapreduce(
        lambda row, emit: emit(row.n, row.word), "list", key="n", value="words",
        schema={"n": "int64", "words": "string"},
    )  # fmt: skip
    frame = lines_of("a b a c").pipe(first).filter(km.col("word") != "c").pipe(by_count)
    assert frame.collect(progress=False).rows() == [(1, ["b"]), (2, ["a"])]
    assert frame.filter(km.col("n") > 1).select("n").collect(progress=False).rows() == [(2,)]
    assert lines_of("a b a").pipe(first).top_k(1, by="n").collect(progress=False).rows() == [("a", 2)]


def test_explain_names_the_functions_and_their_lines():
    text = mapreduce(words, add, combine="sum", schema=PAIRS, name="wc").explain(lines_of("a"))
    for part in ("MapRecords words at ", "(wc)", "ReduceGroups by key: add at ", "CombineRows by key: sum"):
        assert part in text


@pytest.mark.parametrize(("reduce", "rows"), [(None, [("a",), ("a",), ("b",)]), ("count", [("a", 2), ("b", 1)])])
def test_a_trial_of_keys_alone_has_the_columns_of_a_run_without_schema(reduce, rows):
    def keys(line, emit):
        emit(line)
        emit.to("too", line)

    def valued(line, emit):
        emit(line, None)

    job = km.MapReduce(keys, reduce, outputs={"too": km.Output(reduce)})
    tried = job.trial(["b", "a", "a"])
    assert tried.rows() == rows == tried.outputs["too"].rows()
    assert km.MapReduce(valued).trial(["a"]).rows() == [("a", None)]


def test_trial_runs_here_with_what_it_raises_as_it_is():
    with pytest.raises(ZeroDivisionError):
        mapreduce(lambda x, emit: emit(x, 1 / 0), schema=PAIRS).trial(["a"])
    got = mapreduce(words, "sum").trial(["b a", "b"])
    assert (got.columns, got.rows()) == (["key", "value"], [("a", 1), ("b", 2)])


# Wrong jobs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"map": 3}, Code.BAD_SETTING),
        ({"map": lambda line: None}, Code.BAD_SETTING),
        ({"reduce": "total"}, Code.BAD_SETTING),
        ({"reduce": lambda key, values: None}, Code.BAD_SETTING),
        ({"combine": "list"}, Code.BAD_SETTING),
        ({"reduce": "mean", "combine": lambda a, b: a}, Code.BAD_SETTING),
        ({"reduce": "sum", "combine": "max"}, Code.BAD_SETTING),
        ({"order": "down"}, Code.BAD_SETTING),
        ({"partitions": 0}, Code.BAD_SETTING),
        ({"partition": lambda key: 0}, Code.BAD_SETTING),
        ({"side": {"stop": 1}}, Code.BAD_SETTING),
        ({"schema": {"word": "string", "n": "int64"}}, Code.BAD_SETTING),
        ({"schema": {"key": "text", "value": "int64"}}, Code.BAD_SETTING),
        ({"schema": 7}, Code.BAD_SETTING),
        ({"key": ()}, Code.BAD_SETTING),
        ({"schema": None}, Code.SCHEMA_REQUIRED),
        ({"key": "k", "value": "k", "schema": {"k": "int64"}}, Code.DUPLICATE_COLUMN),
        ({"schema": {"key": "list<int64>", "value": "int64"}}, Code.TYPE_MISMATCH),
        ({"reduce": "sum", "schema": {"key": "string", "value": "string"}}, Code.TYPE_MISMATCH),
        ({"reduce": "sum", "schema": {"key": "string"}}, Code.BAD_SETTING),
        ({"reduce": add, "schema": {"key": "string"}}, Code.SCHEMA_REQUIRED),
        ({"compile": "always"}, Code.BAD_SETTING),
    ],
)
def test_a_wrong_job_is_refused_before_it_runs(options, code):
    arguments = {"map": words, "schema": PAIRS} | options
    assert code_of(lambda: mapreduce(**arguments)(lines_of("a"))) is code


def test_the_hint_for_a_missing_schema_is_the_dict_to_write():
    with pytest.raises(KernelmillError) as caught:
        mapreduce(words, key="word", value="n")(lines_of("a"))
    assert 'schema={"word": "string", "n": "int64"}' in caught.value.hint


# Against plain Python -------------------------------------------------------------------------------------------------

RECORDS = st.lists(st.tuples(st.sampled_from(["a", "b", "é", ""]) | st.none(), st.integers(-99, 99) | st.none()))


@settings(max_examples=25)
@given(RECORDS, st.sampled_from(["sum", "count", "min", "max", "first", "list", "unique"]), st.booleans())
def test_reduces_equal_naive_ones(records, reduce, sort):
    table = pa.table({"k": pa.array([k for k, _ in records], pa.string()), "v": [v for _, v in records]})
    table = table.set_column(1, "v", table["v"].cast(pa.int64()))
    job = mapreduce(lambda row, emit: emit(row.k, row.v), reduce, schema=PAIRS, order="key" if sort else None)
    groups = defaultdict(list)
    for k, v in records:
        groups[k].append(v)
    there = {k: [v for v in vs if v is not None] for k, vs in groups.items()}
    expected = {
        "sum": lambda k: sum(there[k]),
        "count": lambda k: len(there[k]),
        "min": lambda k: min(there[k], default=None),
        "max": lambda k: max(there[k], default=None),
        "first": lambda k: groups[k][0],
        "list": lambda k: groups[k],
        "unique": lambda k: list(dict.fromkeys(groups[k])),
    }[reduce]
    got = rows_of(job, km.from_arrow(table), split_size=40, partitions=2)
    assert dict(got) == {k: expected(k) for k in groups} and len(got) == len(groups)


@settings(max_examples=15)
@given(st.lists(st.text("ab \n", max_size=6)))
def test_any_lines_verify(lines):
    if lines:
        mapreduce(words, add, combine=lambda a, b: a + b, schema=PAIRS).verify(lines_of(*lines))
