"""combine functions and Combiners: compiled and interpreted give what naive Python gives, however the table flushes."""

import functools
import math
from contextlib import nullcontext

import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.exec import aggregate
from kernelmill.engine.exec.plainstates import decoded, encoded
from kernelmill.kernels import _jit

compiled_only = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")
QUICK = settings(max_examples=15, deadline=None, phases=(Phase.explicit, Phase.generate))
SPECIAL = st.sampled_from([0.0, -0.0, math.nan, math.inf, 1.5])


def pair(row, emit):
    emit(row.k, row.v)


def two(row, emit):
    emit((row.k, row.n), (row.v, row.w))


def add(a, b):
    return a + b


def greatest(a, b):
    return b if b > a else a


def add_there_is(a, b):
    if a is None:
        return b
    return a if b is None else a + b


def both(a, b):
    return a and b


def none_above(a, b):
    return None if a is None or b is None or a + b > 50 else a + b


class Mean:
    def init(self):
        return 0.0, 0

    def step(self, state, value):
        return state[0] + value, state[1] + 1

    def merge(self, a, b):
        return a[0] + b[0], a[1] + b[1]

    def finish(self, state):
        return state[0] / state[1]


LENGTHS = km.Combiner(lambda: 0, lambda state, text: state + len(text), lambda a, b: a + b)
WORDS = km.Combiner(list, lambda state, text: sorted({*state, text}), lambda a, b: sorted({*a, *b}), " ".join)


def rows_of(table, combine, compile_, **options):
    options = {"key": "k", "value": "v"} | options
    job = km.MapReduce(options.pop("map", pair), combine=combine, compile=compile_, order=None, **options)
    result = job(km.from_arrow(table)).collect(progress=False, split_size=64, partitions=2)
    return result.to_arrow()


def same(first, second):
    return repr(first.to_pylist()) == repr(second.to_pylist()) and first.schema == second.schema


@compiled_only
@pytest.mark.parametrize(
    ("combine", "values", "dtype"),
    [
        (add, st.integers(-(2**40), 2**40), pa.int64()),
        (max, st.integers(), pa.int64()),
        (greatest, SPECIAL, pa.float64()),
        (add, SPECIAL, pa.float64()),
        (add_there_is, st.none() | st.integers(-5, 5), pa.int64()),
        (none_above, st.none() | st.integers(0, 60), pa.int64()),
        (both, st.booleans(), pa.bool_()),
    ],
)
@QUICK
@given(data=st.data())
def test_compiled_and_interpreted_combine_alike(combine, values, dtype, data):
    if pa.types.is_integer(dtype) and combine is max:
        values = st.integers(-(2**63), 2**63 - 1)
    rows = data.draw(st.lists(st.tuples(st.sampled_from(["", "a", "b", None, "Zoë" * 9]), values), max_size=30))
    table = pa.table({"k": pa.array([row[0] for row in rows], pa.string()), "v": pa.array([r[1] for r in rows], dtype)})
    small = pa.Table.from_batches(table.to_batches(max_chunksize=4), schema=table.schema)
    schema = {"k": pa.string(), "v": dtype}
    made = [rows_of(small, combine, how, schema=schema) for how in ("require", "never")]
    assert same(*made)
    expected = {key: functools.reduce(combine, [v for k, v in rows if k == key]) for key, _ in rows}
    if combine not in (add, none_above) or not pa.types.is_floating(dtype):
        assert len(expected) == made[0].num_rows
    if combine in (max, add_there_is, both):  # of these no order of folding shows
        assert {row["k"]: row["v"] for row in made[0].to_pylist()} == expected


@compiled_only
@QUICK
@given(rows=st.lists(st.tuples(st.text(max_size=3), st.integers(0, 3), st.integers(-9, 9), SPECIAL), max_size=20))
def test_tuples_are_combined_alike(rows):
    def least_and_sum(a, b):
        return min(a[0], b[0]), a[1] + b[1]

    columns = list(zip(*rows, strict=True)) or [()] * 4
    types = [pa.string(), pa.int64(), pa.int64(), pa.float64()]
    table = pa.table({name: pa.array(c, t) for name, c, t in zip("knvw", columns, types, strict=True)})
    schema = dict(zip("knvw", types, strict=True))
    options = {"map": two, "key": ("k", "n"), "value": ("v", "w"), "schema": schema}
    assert same(*(rows_of(table, least_and_sum, how, **options) for how in ("require", "never")))


TEXTS = pa.table({"k": ["a", "b", "a", None, "b", "a"], "v": ["x", "yy", "", "zzz", "Zoë", "x"]})
NUMBERS = pa.table({"k": ["a", "b", "a", None, "b", "a"], "v": [1, 2, 4, 8, 16, 35]})


@compiled_only
def test_a_combiners_types_are_known_without_schema():
    made = rows_of(NUMBERS, Mean, "require")
    assert made.to_pylist() == [{"k": "a", "v": 40 / 3}, {"k": "b", "v": 9.0}, {"k": None, "v": 8.0}]
    types = {"k": "string", "v": "int64"}, {"mean": "float64"}
    plain = rows_of(NUMBERS, Mean(), "never", schema=types)
    assert plain.column("mean").to_pylist() == made.column("v").to_pylist()


@compiled_only
def test_texts_are_folded_into_numbers_by_machine_code():
    made = rows_of(TEXTS, LENGTHS, "require")
    assert made.to_pylist() == [{"k": "a", "v": 2}, {"k": "b", "v": 5}, {"k": None, "v": 3}]


def test_states_of_any_plain_values_travel_in_plain_python():
    schema = {"k": "string", "v": "string"}
    made = rows_of(TEXTS, WORDS, "never", schema=schema)
    assert dict(zip(*made.to_pydict().values(), strict=True)) == {"a": " x", "b": "Zoë yy", None: "zzz"}


@pytest.mark.parametrize(
    "state",
    [
        None,
        True,
        -5,
        2**80,
        1.5,
        "é",
        b"\xff",
        (1, ("a", None)),
        [1, []],
        {1, "x"},
        frozenset({(2, 3)}),
        {"a": {1: ()}},
    ],
    ids=lambda state: type(state).__name__,
)
def test_a_plain_state_is_itself_again(state):
    assert decoded(encoded(state)) == state and type(decoded(encoded(state))) is type(state)


def test_other_states_are_an_error_that_names_the_key():
    combiner = km.Combiner(object, lambda state, value: state, lambda a, b: a, lambda state: 1)
    with pytest.raises(KernelmillError) as caught:
        rows_of(TEXTS, combiner, "never", schema=({"k": "string", "v": "string"}, {"n": "int64"}))
    assert caught.value.code is Code.CAST and "'a'" in caught.value.what


@pytest.mark.parametrize("compile_", [pytest.param("require", marks=compiled_only), "never"])
def test_what_combine_raises_names_the_key_and_both_values(compile_):
    def picky(a, b):
        if b == 16:
            raise ValueError("not 16")
        return a + b

    with pytest.raises(KernelmillError) as caught:
        rows_of(NUMBERS, picky, compile_, schema={"k": "string", "v": "int64"})
    assert caught.value.code is Code.FUNCTION_FAILED
    assert "the key is 'b', the values are 2 and 16" in str(caught.value)


@pytest.mark.parametrize("compile_", [pytest.param("require", marks=compiled_only), "never"])
def test_flushes_and_sub_partitions_do_not_show(monkeypatch, compile_):
    rows = [(f"k{n % 50}", n) for n in range(2000)]
    table = pa.table({"k": [row[0] for row in rows], "v": [row[1] for row in rows]})
    expected = {f"k{n}": sum(range(n, 2000, 50)) for n in range(50)}
    monkeypatch.setattr(aggregate, "FLUSH_GROUPS", 8)
    made = rows_of(table, add, compile_, schema={"k": "string", "v": "int64"})
    assert dict(zip(*made.to_pydict().values(), strict=True)) == expected


@compiled_only
def test_files_are_equal_over_threads_and_memory(tmp_path):
    def words(line, emit):
        for word in line.split():
            emit(word, len(word) / 3)

    (tmp_path / "a.txt").write_text("".join(f"word{n % 9973} of line {n}\n" for n in range(30_000)))
    made = set()
    for number, (compile_, threads, memory) in enumerate(
        [("require", 1, "1GiB"), ("require", 2, "1GiB"), ("require", 2, "300MiB"), ("never", 2, "1GiB")]
    ):
        schema = {"key": "string", "value": "float64"}
        job = km.MapReduce(words, combine=add, schema=schema, compile=compile_, partitions=3)
        output = tmp_path / str(number)
        job.run(tmp_path / "a.txt", output=output, progress=False, threads=threads, memory=memory, split_size=100_000)
        made.add(tuple(file.read_bytes() for file in sorted(output.glob("*.parquet"))))
    assert len(made) == 1


@compiled_only
def test_values_that_a_combine_gives_must_fit_schema():
    def wrong(a, b):
        return a + 2.5

    for compile_ in ("auto", "never"):
        said = pytest.warns(km.InterpretedFunctionWarning, match="it makes float64 of int64")
        with pytest.raises(KernelmillError) as caught, said if compile_ == "auto" else nullcontext():
            rows_of(NUMBERS, wrong, compile_, schema={"k": "string", "v": "int64"})
        assert caught.value.code is Code.CAST


def test_a_combiner_stands_alone_and_must_be_callable():
    with pytest.raises(KernelmillError) as caught:
        km.MapReduce(pair, "sum", combine=LENGTHS)
    assert caught.value.code is Code.BAD_SETTING
    with pytest.raises(KernelmillError) as caught:
        km.MapReduce(pair, combine=km.Combiner(lambda: 0, lambda state: state, lambda a, b: a))
    assert caught.value.code is Code.BAD_SETTING


def test_trial_and_verify_know_combiners():
    schema = {"k": "string", "v": "int64"}, {"mean": "float64"}
    job = km.MapReduce(pair, combine=Mean, key="k", value="v", schema=schema, compile="never")
    assert job.trial(NUMBERS.to_pylist()).rows() == [(None, 8.0), ("a", 40 / 3), ("b", 9.0)]
    assert job.verify(km.from_arrow(NUMBERS)).rows == 3
    last = km.Combiner(lambda: 0, lambda state, value: value, lambda a, b: b)
    wrong = km.MapReduce(pair, combine=last, key="k", value="v", schema=schema[0], compile="never")
    with pytest.raises(KernelmillError) as caught:
        wrong.verify(km.from_arrow(NUMBERS))
    assert caught.value.code is Code.COMBINER_CONTRACT
