"""reduce(key, values, emit) as machine code: rows, counters, rejects and errors are those of plain Python."""

import os
import subprocess
import sys

import pyarrow as pa
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

TEXTS = st.sampled_from(["", "a", "b", "Zoë", "x" * 40])
FLOATS = st.floats() | st.sampled_from([0.0, -0.0])


def pair(row, emit):
    emit(row.k, row.v)


def two(row, emit):
    emit((row.k, row.n), (row.v, row.w))


def summed(key, values, emit):
    emit(sum(values))


def extremes(key, values, emit):
    least = greatest = next(values)
    for value in values:
        least = value if value < least else least
        greatest = value if value > greatest else greatest
    emit(least)
    emit(greatest)


def least_twice(key, values, emit):
    emit(min(values))
    for value in values:  # nothing is left
        emit(value)


def joined(key, values, emit):
    emit(",".join(values))


def numbered(key, values, emit):
    for number, value in enumerate(values):
        if number % 2:
            emit(key, value)


def there(key, values, emit):
    for value in values:
        if value is not None:
            emit(value)
    if key is None:
        emit.reject("no key")
    emit.count("groups")
    emit.count("letters", 2)


def careless(key, values, emit):
    total = 0
    for value in values:
        emit(value)
        total += value
    emit(1000 // total)


def pairs_of(key, values, emit):
    text, number = key
    for value, weight in values:
        emit((text + "!", number), (weight, value))


def median(key, values, emit):
    ordered = sorted(values)
    emit(ordered[len(ordered) // 2])


def run(table, reduce, compile_, types, **options):
    options = {"key": "k", "value": "v", "map": pair} | options
    function = options.pop("map")
    schema = types
    job = km.MapReduce(function, reduce, schema=schema, compile=compile_, **options)
    result = job(km.from_arrow(table)).collect(progress=False, on_bad="reject", split_size=200, partitions=2)
    rejects = [] if result.rejects is None else [row[:4] + row[6:] for row in result.rejects.rows()]
    return repr(result.rows()), result.schema, dict(result.counters), rejects


@pytest.mark.parametrize(
    ("reduce", "values", "dtype"),
    [
        (summed, st.integers(-(2**50), 2**50), pa.int64()),
        (summed, FLOATS, pa.float64()),
        (summed, st.none() | st.integers(0, 9), pa.int64()),
        (extremes, FLOATS, pa.float64()),
        (extremes, TEXTS, pa.string()),
        (least_twice, st.booleans(), pa.bool_()),
        (least_twice, FLOATS, pa.float64()),
        (joined, TEXTS, pa.string()),
        (joined, st.none() | TEXTS, pa.string()),
        (numbered, TEXTS, pa.string()),
        (there, st.none() | st.integers(), pa.int64()),
        (there, st.none() | TEXTS, pa.string()),
        (careless, st.integers(-2, 2), pa.int64()),
        (median, st.integers(-9, 9), pa.int64()),
        (median, FLOATS, pa.float64()),
        (median, TEXTS, pa.string()),
    ],
)
@settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(data=st.data())
def test_compiled_and_interpreted_reduce_alike(reduce, values, dtype, data):
    if dtype == pa.int64() and reduce is there:
        values = st.none() | st.integers(-(2**63), 2**63 - 1)
    rows = data.draw(st.lists(st.tuples(st.none() | TEXTS, values), max_size=25))
    table = pa.table({"k": pa.array([row[0] for row in rows], pa.string()), "v": pa.array([r[1] for r in rows], dtype)})
    types = {"k": pa.string(), "v": dtype}
    order = data.draw(st.sampled_from(["key", None]))
    made = [run(table, reduce, compile_, types, order=order) for compile_ in ("require", "never")]
    assert made[0] == made[1]


@settings(max_examples=12, deadline=None, phases=(Phase.explicit, Phase.generate))
@given(rows=st.lists(st.tuples(TEXTS, st.integers(0, 2), TEXTS, FLOATS), max_size=20))
def test_tuples_are_reduced_alike(rows):
    columns = list(zip(*rows, strict=True)) or [()] * 4
    kinds = [pa.string(), pa.int64(), pa.string(), pa.float64()]
    table = pa.table({name: pa.array(c, t) for name, c, t in zip("knvw", columns, kinds, strict=True)})
    types = dict(zip("knvw", kinds, strict=True)), {"weight": pa.float64(), "text": pa.string()}
    options = {"map": two, "key": ("k", "n"), "value": ("v", "w")}
    made = [run(table, pairs_of, compile_, types, **options) for compile_ in ("require", "never")]
    assert made[0] == made[1]


def test_what_reduce_emits_is_known_without_schema():
    def mean(key, values, emit):
        count, total = 0, 0
        for value in values:
            count += 1
            total += value
        emit(total / count)

    table = pa.table({"k": ["a", "b", "a"], "v": [1, 2, 4]})
    result = km.from_arrow(table).pipe(km.MapReduce(pair, mean, key="k", value="v", compile="require")).collect()
    assert result.rows() == [("a", 2.5), ("b", 2.0)]


def test_long_texts_and_many_rows_of_one_group_find_room():
    def everything(key, values, emit):
        text = ""
        for value in values:
            text = text + value
            emit(value)
        emit(text)

    words = [f"word{n}" for n in range(40_000)]
    table = pa.table({"k": ["a"] * len(words), "v": words})
    job = km.MapReduce(pair, everything, key="k", value="v", compile="require", order=None)
    small = km.MapReduce(pair, joined, key="k", value="v", compile="require")
    assert small(km.from_arrow(table)).collect().rows() == [("a", ",".join(words))]
    few = pa.table({"k": ["a"] * 2000, "v": words[:2000]})
    assert job(km.from_arrow(few)).collect()["v"].to_pylist() == [*words[:2000], "".join(words[:2000])]


def test_an_error_is_the_one_that_python_raises():
    table = pa.table({"k": ["a", "a"], "v": [0, 0]})
    for compile_ in ("require", "never"):
        types = {"k": "string", "v": "int64"}
        job = km.MapReduce(pair, careless, key="k", value="v", schema=types, compile=compile_)
        with pytest.raises(KernelmillError) as caught:
            job(km.from_arrow(table)).collect()
        assert caught.value.code is Code.FUNCTION_FAILED
        assert "ZeroDivisionError" in caught.value.what and "the key is 'a', with 2 values" in str(caught.value)


def test_files_are_equal_over_threads_memory_and_compiling(tmp_path):
    def words(line, emit):
        for word in line.split():
            emit(word, len(line))

    (tmp_path / "a.txt").write_text("".join(f"word{n % 997} of line {n}\n" for n in range(20_000)))
    made = set()
    for number, (compile_, threads, memory) in enumerate(
        [("require", 1, "1GiB"), ("require", 2, "300MiB"), ("never", 2, "1GiB")]
    ):
        types = {"key": "string", "value": "int64"}
        job = km.MapReduce(words, extremes, schema=types, compile=compile_, partitions=3)
        output = tmp_path / str(number)
        job.run(tmp_path / "a.txt", output=output, progress=False, threads=threads, memory=memory, split_size=60_000)
        made.add(tuple(file.read_bytes() for file in sorted(output.glob("*.parquet"))))
    assert len(made) == 1


def test_lists_are_left_to_python_with_one_warning():
    types = {"k": "string", "v": "int64"}, {"vs": "list<int64>"}
    table = pa.table({"k": ["a", "a"], "v": [2, 1]})
    job = km.MapReduce(pair, lambda key, values, emit: emit(sorted(values)), key="k", value="v", schema=types)
    with pytest.warns(km.InterpretedFunctionWarning, match="reduce function"):
        assert job(km.from_arrow(table)).collect().rows() == [("a", [1, 2])]


SECOND_PROCESS = """
import sys
import pyarrow as pa
import kernelmill as km
def pair(row, emit):
    emit(row.k, row.v)
def summed(key, values, emit):
    emit(sum(values))
def add(a, b):
    return a + b
def placed(key, n):
    return hash(key) % n
frame = km.from_arrow(pa.table({"k": ["a", "b", "a"], "v": [1, 2, 4]}))
for how in ({"reduce": summed}, {"combine": add}, {"reduce": summed, "combine": add}):
    job = km.MapReduce(pair, key="k", value="v", partition=placed, partitions=2, compile="require", **how)
    assert sorted(job(frame).collect(progress=False).rows()) == [("a", 5), ("b", 2)]
print("numba" in sys.modules)
"""


def test_a_second_process_runs_every_kind_without_numba(tmp_path):
    (tmp_path / "job.py").write_text(SECOND_PROCESS)
    environment = os.environ | {"KERNELMILL_CACHE_DIR": os.environ.get("KERNELMILL_CACHE_DIR", str(tmp_path))}
    words = [sys.executable, str(tmp_path / "job.py")]
    subprocess.run(words, capture_output=True, env=environment, check=True)
    second = subprocess.run(words, capture_output=True, text=True, env=environment, check=True)
    assert second.stdout.split() == ["False"]


def test_explain_says_what_is_compiled():
    def stranger(key, values, emit):
        emit(len(repr(key)))

    frame = km.from_arrow(pa.table({"k": ["a"], "v": [1]}))
    options = {"key": "k", "value": "v", "schema": {"k": "string", "v": "int64"}}
    with pytest.warns(km.InterpretedFunctionWarning):
        text = km.MapReduce(pair, stranger, **options).explain(frame)
    assert "stranger at" in text and "(plain Python)" in text and "(compiled)" in text
    assert "(plain Python)" not in km.MapReduce(pair, summed, **options).explain(frame)
