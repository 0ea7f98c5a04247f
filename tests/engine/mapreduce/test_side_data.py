"""Side data in compiled maps: sets, dicts, lists, arrays and tables give the rows that Python gives."""

import random
import subprocess
import sys
import warnings

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.compiling import InterpretedFunctionWarning
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.grants import plan_grants
from kernelmill.engine.settings import resolve
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

WORDS = ["", "the", "of", "köln", "\0", "a\0b", "sixteen bytes ok", "seventeen bytes k", "seventeen bytes l", "x" * 70]
TEXT = {"key": "string", "value": "int64"}
STOP = {"the", "of"}
WEIGHTS = {"the": 0.5, "of": float("nan"), "": -0.0}
PLACES = (*range(20), -7)


def lines_of(texts):
    return km.from_arrow(pa.table({"line": pa.array(texts, pa.string())}))


def numbers_of(values):
    return km.from_arrow(pa.table({"n": pa.array(values, pa.int64())}))


def rows_of(function, frame, side, schema, compile="require", **options):
    names = list(schema)
    key, value = names[0], names[1] if len(names) == 2 else tuple(names[1:])
    job = km.MapReduce(function, None, key=key, value=value, schema=schema, order=None, side=side, compile=compile)
    return lines_or(frame).pipe(job).collect(progress=False, **options).rows()


def lines_or(frame):
    return lines_of(frame) if isinstance(frame, list) else frame


def shown(rows):
    """Rows with NaN equal to itself, and 1.0 not equal to 1."""
    return list(map(repr, rows))


def assert_same_as_python(function, frame, side, schema):
    compiled = rows_of(function, frame, side, schema)
    assert shown(compiled) == shown(rows_of(function, frame, side, schema, compile="never"))
    return compiled


# Look-ups ------------------------------------------------------------------------------------------------------------


def look_up(line, emit, *, table, stop):
    if line is None:
        emit(line, -2 if line in table else -3)
        return
    found = table.get(line)
    emit(line, -1 if found is None else found)
    if line not in stop:
        emit("not in", table.get(line, 7))
    if line in table:
        emit(line, table[line] + len(table) - len(stop))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(WORDS), st.text(alphabet="ab\0é€😀", max_size=40))),
    st.dictionaries(st.one_of(st.sampled_from(WORDS), st.text(alphabet="ab\0é€😀", max_size=40)), st.integers(-9, 9)),
)
def test_texts_are_found_as_python_finds_them(lines, table):
    stop = set(list(table)[:3])
    assert_same_as_python(look_up, [*lines, *table, None], {"table": table, "stop": stop}, TEXT)


def test_a_hundred_thousand_keys_of_all_lengths_are_found_and_others_are_not():
    chance = random.Random(5)
    keys = ["".join(chance.choices("abé", k=chance.randrange(40))) + str(n) for n in range(100_000)]
    table = {key: n for n, key in enumerate(keys)}
    lines = [*keys, *(key + "x" for key in keys)]
    rows = rows_of(look_up, lines, {"table": table, "stop": set(keys)}, TEXT)
    assert rows[: 2 * len(keys) : 2] == list(table.items())
    assert rows[2 * len(keys) :: 2] == [(line, -1) for line in lines[len(keys) :]]


def find_numbers(n, emit, *, names, odd):
    if n is None:
        emit("none", n in odd)
    else:
        emit(names.get(n, "?"), n in odd)
        emit(names.get(n), n not in names)
        if n in names:
            emit(names[n] + "!", True)


@settings(max_examples=40, deadline=None)
@given(
    st.dictionaries(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3), st.text(max_size=20), min_size=1),
    st.lists(st.integers(-(2**63), 2**63 - 1) | st.integers(-3, 3)),
)
def test_numbers_are_found_as_python_finds_them(names, numbers):
    schema = {"name": "string", "odd": "bool"}
    side = {"names": names, "odd": frozenset(n for n in names if n % 2)}
    assert_same_as_python(find_numbers, numbers_of([*numbers, *names, None]), side, schema)


def test_what_is_empty_at_first_is_filled_later_by_a_loop():
    found, table = set(), {}
    frame = lines_of(["a", "b", "c"])
    for _ in range(4):
        rows = assert_same_as_python(look_up, frame, {"table": table, "stop": found}, TEXT)
        new = [word for word, n in rows if word in "abc" and n == -1][:1]
        found.update(new)
        table |= {word: len(table) for word in new}
    assert found == {"a", "b", "c"} and table == {"a": 0, "b": 1, "c": 2}


def test_a_key_that_is_not_there_is_a_key_error_and_a_rejected_record():
    def strict(line, emit, *, table):
        emit(line, table[line])

    job = km.MapReduce(strict, None, schema=TEXT, side={"table": {"a": 1}}, compile="require")
    with pytest.raises(KernelmillError) as failed:
        lines_of(["a", "b"]).pipe(job).collect(progress=False)
    assert failed.value.code == Code.FUNCTION_FAILED and "KeyError: 'b'" in str(failed.value)
    found = lines_of(["a", "b", "a"]).pipe(job).collect(progress=False, on_bad="reject")
    assert found.rows() == [("a", 1), ("a", 1)] and found.rejects.height == 1


# Everything else that may be done ------------------------------------------------------------------------------------


def lists(line, emit, *, names, weights, flags, n):
    for i, name in enumerate(names):
        emit(name + line, (weights[i], flags[-1 - i], i * n))
    for name, weight in zip(names, weights):  # noqa: B905 - as users write
        emit(name, (weight, line in names, len(names)))
    if flags:
        emit(names[-1], (n * 1.5, False in flags, 0))


def dicts(line, emit, *, table, weights, empty):
    for key in table:
        emit(key, (0.0, key in table.keys(), len(table.items())))  # noqa: SIM118 - as users write
    for key, value in table.items():
        emit(key + line, (value * 1.0, bool(empty), 0))
    for value in weights.values():
        emit("w", (value, not weights, 0))
    for number in weights.keys():  # noqa: SIM118 - as users write
        emit("k", (weights.get(number, 0), not empty, number))


def arrays(line, emit, *, vector, matrix, flags, whole):
    total = 0.0
    for row in matrix:
        total += row[0] * vector[-1]
    emit(line, (total, flags[0], vector.shape[0]))
    emit(line, (matrix[1, 1] + vector.sum(), len(flags) > 1, whole[2] + matrix.shape[1]))


def tables(line, emit, *, cities, codes):
    for i in range(len(cities)):
        name, size = cities["name"][i], cities["size"][i]
        emit(name, (0.0 if size is None else size, cities["big"][i], codes[i]))
    emit(line, (1.0, "Oslo" in codes_of(cities), cities.num_rows))


def codes_of(cities):
    return cities["code"]


CITIES = pa.table(
    {
        "name": pa.chunked_array([["Oslo", "Köln"], pa.array(["x", None, "y"]).slice(1, 1)]),
        "size": pa.array([0.5, None, 2.5], pa.float32()),
        "big": [True, False, True],
        "code": pa.array(["Oslo", "K", "K"]).dictionary_encode(),
    }
)
OTHER = {"key": "string", "a": "float64", "b": "bool", "c": "int64"}
USES = [
    (lists, {"names": ["x", "yy", "ü"], "weights": [0.5, -1.5, float("inf")], "flags": [True, False, True], "n": 3}),
    (lists, {"names": ["x"], "weights": [float("nan")], "flags": [False], "n": -(2**40)}),
    (dicts, {"table": {"b": 1, "a": 2}, "weights": {3: 0.5, -1: float("nan")}, "empty": []}),
    (
        arrays,
        {
            "vector": np.arange(5.0)[::-1],
            "matrix": np.arange(6.0).reshape(3, 2).T,
            "flags": np.array([True, False]),
            "whole": np.array([1, 2, 3], np.uint8),
        },
    ),
    (tables, {"cities": CITIES, "codes": pa.array([3, 2, 1], pa.int16())}),
    (tables, {"cities": CITIES.slice(1).to_batches()[0], "codes": pa.chunked_array([[3], [2, 1]])}),
]


@pytest.mark.parametrize(("function", "side"), USES, ids=lambda one: getattr(one, "__name__", ""))
def test_lists_dicts_arrays_and_tables_are_as_in_python(function, side):
    assert_same_as_python(function, ["", "yy", "ä"], side, OTHER)


def optional(line, emit, *, names, table):
    for name in names:
        emit(name, 0 if name is None else len(name))
    found = table[line]
    emit(line, -1 if found is None else found)


def test_none_among_items_and_values_is_none():
    side = {"names": ["a", None, "bb"], "table": {"x": 1, "y": None}}
    assert_same_as_python(optional, ["x", "y"], side, TEXT)


# Globals, closures, defaults, helpers --------------------------------------------------------------------------------


def weight_of(word):
    return WEIGHTS.get(word, 0.0) if is_kept(word) else WEIGHTS[word]


def is_kept(word):
    return word not in STOP


def of_globals(line, emit, scale=(1.0, 2.0)):
    for word in line.split():
        emit(word, weight_of(word) * scale[0] + PLACES[-1])


def test_globals_and_helpers_read_side_data():
    assert_same_as_python(of_globals, ["the quick of", "a"], None, {"key": "string", "value": "float64"})


def test_closures_and_defaults_read_side_data():
    names = {"a": "A", "b": "B"}

    def upper(word):
        return names.get(word, word)

    def map(line, emit, stop=frozenset({"the"}), *, n=2):
        for word in [one for one in line.split() if one not in stop]:
            emit(upper(word), n)

    assert assert_same_as_python(map, ["the a b c"], None, TEXT) == [("A", 2), ("B", 2), ("c", 2)]
    assert assert_same_as_python(map, ["the a b c"], {"stop": {"a"}, "n": 3}, TEXT)[0] == ("the", 3)


def test_contents_are_those_of_the_run_and_compile_nothing_anew(monkeypatch):
    stop = {"a"}

    def map(line, emit):
        if line not in stop:
            emit(line, TABLE.get(line, 0))  # noqa: F821 - set below

    monkeypatch.setitem(map.__globals__, "TABLE", {"b": 1})
    job = km.MapReduce(map, None, schema=TEXT, order=None, compile="require")
    planned = lines_of(["a", "b"]).pipe(job)
    assert planned.collect(progress=False).rows() == [("b", 1)]
    from kernelmill.kernels.functions import maps  # it was imported to compile

    monkeypatch.setattr(maps, "compile_map", None)
    stop.add("c")
    stop.remove("a")
    assert planned.collect(progress=False).rows() == [("a", 0), ("b", 1)]
    monkeypatch.setitem(map.__globals__, "TABLE", {"a": 5, "b" * 30: 6})
    assert planned.collect(progress=False).rows() == [("a", 5), ("b", 0)]
    assert lines_of(["b" * 30]).pipe(job).collect(progress=False).rows() == [("b" * 30, 6)]


def test_numbers_given_by_side_compile_nothing_anew(monkeypatch):
    def scaled(line, emit, *, factor, shift):
        emit(line, len(line) * factor + shift)

    schema = {"key": "string", "value": "float64"}
    assert rows_of(scaled, ["abc"], {"factor": 2, "shift": 0.5}, schema) == [("abc", 6.5)]
    from kernelmill.kernels.functions import maps

    monkeypatch.setattr(maps, "compile_map", None)
    assert rows_of(scaled, ["abc"], {"factor": -3, "shift": 0.0}, schema) == [("abc", -9.0)]


@pytest.mark.parametrize("options", [{"threads": 1}, {"threads": 2, "split_size": "64KiB", "memory": "256MiB"}])
def test_threads_share_side_data(tmp_path, options):
    (tmp_path / "a.txt").write_text("the quick brown fox of\n" * 20_000)
    job = km.MapReduce(look_up_words, "sum", schema=TEXT, compile="require")
    job.run(tmp_path / "a.txt", output=tmp_path / "out", progress=False, **options)
    expected = [("brown", 20_000), ("fox", 20_000), ("quick", 20_000)]
    assert km.read_parquet(tmp_path / "out").rows() == expected


def look_up_words(line, emit):
    for word in line.split():
        if word not in STOP:
            emit(word, 1)


SECOND_PROCESS = """
import sys
import pyarrow as pa
import kernelmill as km

def words(line, emit, *, table):
    emit(line, table.get(line, 0))

table = {sys.argv[1]: 9}
types = {"key": "string", "value": "int64"}
job = km.MapReduce(words, None, schema=types, side={"table": table}, compile="require")
frame = km.from_arrow(pa.table({"line": ["a", "b"]}))
print(frame.pipe(job).collect(progress=False).rows(), "numba" in sys.modules)
"""


def test_a_second_process_with_other_contents_does_without_numba(cache_without_functions):
    def run(word):
        cache = str(cache_without_functions)
        environment = {"PATH": "/usr/bin", "KERNELMILL_CACHE_DIR": cache, "PYTHONPATH": ":".join(sys.path)}
        words = [sys.executable, "-c", SECOND_PROCESS, word]
        return subprocess.run(words, capture_output=True, text=True, env=environment, check=True).stdout.strip()

    assert run("a") == "[('a', 9), ('b', 0)] True"
    assert run("b") == "[('a', 0), ('b', 9)] False"


def test_what_is_made_of_side_data_is_taken_from_the_memory_of_the_job():
    def left(count):
        words = {f"{n:0100}": n for n in range(count)}
        job = km.MapReduce(look_up, None, schema=TEXT, side={"table": words, "stop": set()}, compile="require")
        settings = resolve(memory="1GiB", threads=1)
        return plan_grants(lines_of(["a"]).pipe(job)._job(settings), settings).store_bytes

    small, large = left(1), left(100_000)
    assert 100_000 * (2 * 100 + 32) < small - large < 100_000 * 400


# Other functions than map ---------------------------------------------------------------------------------------------


def by_table(key, n, *, place):
    return place.get(key, PLACED[0]) % n


def weighed(a, b, *, place, factor=2):
    return a + b * (factor if len(place) > 1 else 0)


class Weighed:
    """A Combiner whose parts read a global."""

    def init(self):
        return 0

    def step(self, state, value):
        return state + value * PLACED[1]

    def merge(self, a, b):
        return a + b + PLACED[2]

    def finish(self, state):
        return -state if state in PLACED else state


PLACED = [1, 3, 0, 6]


def count_kept(word, values, emit, *, place):
    emit(sum(values) if word in place else -1)


def ones(line, emit):
    for word in line.split():
        emit(word, 1)


@pytest.mark.parametrize(
    "functions",
    [
        {"combine": weighed, "partition": by_table, "side": {"place": {"a": 1, "b": 2}, "factor": 3}},
        {"combine": Weighed()},
        {"reduce": count_kept, "combine": "sum", "partition": by_table, "side": {"place": {"a": 5}}},
    ],
    ids=["combine", "Combiner", "reduce"],
)
def test_the_other_functions_read_side_data(tmp_path, functions):
    def run(compile):
        job = km.MapReduce(ones, schema=TEXT, partitions=3, compile=compile, **functions)
        job.run(lines_of(["a b a", "c", "a b"]), output=tmp_path / compile, progress=False)
        return [km.read_parquet(path).rows() for path in sorted((tmp_path / compile).glob("*.parquet"))]

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = run("auto")
    assert found == run("never") and any(found)


def test_side_names_an_argument_of_some_function():
    with pytest.raises(KernelmillError) as failed:
        km.MapReduce(ones, combine=weighed, schema=TEXT, side={"place": {}, "stop": {"a"}})
    assert failed.value.code == Code.BAD_SETTING and "'stop'" in str(failed.value)
    with pytest.raises(KernelmillError) as failed:
        km.MapReduce(ones, combine=weighed, schema=TEXT)
    assert failed.value.code == Code.BAD_SETTING and "'place'" in str(failed.value)


# What runs as plain Python, and why ----------------------------------------------------------------------------------


def reads(line, emit, *, data):
    emit(line, 1 if line in data else 0)


def adds(line, emit, *, data):
    data.add(line)
    emit(line, len(data))


def iterates(line, emit, *, data):
    for one in data:
        emit(one, 1)


def writes(line, emit, *, data):
    data[line] = 1
    emit(line, len(data))


def slices(line, emit, *, data):
    emit(line, len(data[1:]))


def takes_dates(line, emit, *, data):
    emit(line, data["day"][0].year)


REFUSED = [
    (reads, {1: "a", "b": 2}, "'data' has keys that are int and str"),
    (reads, {"a": 1, "b": "x"}, "'data' has values that are int and str"),
    (reads, {"a": 1, None: 2}, "'data' has keys that are None and str"),
    (reads, {"a": [1]}, "'data' has values that are list"),
    (reads, {("a", "b")}, "'data' has keys that are tuple"),
    (reads, [1, "a"], "'data' has items that are int and str"),
    (reads, {"a": 2**63}, "'data' has values that are int beyond 64 bits"),
    (reads, ["\udc80"], "'data' has items that are str with a lone surrogate"),
    (adds, {"a"}, "the attribute add is not supported"),
    (iterates, {"a"}, "a loop over a set"),
    (takes_dates, pa.table({"day": pa.array([0], pa.date32())}), "column 'day' holds date32"),
    (takes_dates, pa.table({"days": [1]}), "the table has no column 'day'"),
    (writes, {"a": 1}, "cannot be changed"),
    (slices, ["a", "b"], "slices of a list"),
    (reads, {1, 2}, "its keys are int64"),
    (reads, [1.5], "a list of float64 is searched"),
]


@pytest.mark.parametrize(("function", "data", "reason"), REFUSED)
def test_what_cannot_be_read_runs_as_python_with_a_reason(function, data, reason):
    job = km.MapReduce(function, None, schema=TEXT, order=None, side={"data": data})
    with pytest.warns(InterpretedFunctionWarning) as said:
        frame = lines_of(["a", "\n"]).pipe(job)
    assert reason in str(said[0].message) and "test_side_data.py:" in str(said[0].message)
    if "no column" not in reason:  # Python has none either
        assert frame.collect(progress=False).height == 2


def test_a_frame_that_was_not_run_is_no_side_data():
    with pytest.raises(KernelmillError) as failed:
        km.MapReduce(reads, None, schema=TEXT, side={"data": lines_of(["a"])})
    assert failed.value.code == Code.BAD_SETTING


def test_a_data_frame_is_a_table():
    frame = lines_of(["a", "bb"]).collect(progress=False)

    def map(line, emit, *, table):
        emit(table["line"][1], len(table))

    assert assert_same_as_python(map, ["x"], {"table": frame}, TEXT) == [("bb", 2)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        job = km.MapReduce(map, None, schema=TEXT, side={"table": frame})
        assert job.trial(["x"]).rows() == [("bb", 2)]
