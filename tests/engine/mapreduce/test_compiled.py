"""Compiled and interpreted runs of one job: the same rows, counters, rejects and errors."""

import datetime as dt
import re
import warnings

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.compiling import InterpretedFunctionWarning
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

LINES = ["the quick brown fox", "", "jumps over the lazy dog " * 30, "näive Ünïcode", None, "1 2 x 3", "the " * 9000]
NUMBERED = pa.table({"line": LINES, "n": [1, None, 3, 4, 5, 6, 7], "ratio": [0.5, 1.5, None, 2.0, 3.0, 4.0, 5.0]})


def words(line, emit):
    if line is not None:
        for word in line.split():
            emit(word, 1)


def pairs(row, emit):
    emit.count("rows")
    if row.line is None or row.n is None:
        emit.reject("incomplete")
        emit.count("incomplete")
    else:
        emit((row.line[:3].upper(), row.n % 2), (len(row.line), row.ratio))


def keys(line, emit):
    emit(line.lower() if line is not None else None)


def weighed(line, emit):
    if line is not None:
        for word in line.split():
            if word == "dog":
                emit.count("dogs")
            emit(word, (-3, len(word), -3))


def two_literals(line, emit):
    for word in (line or "").split():
        if word[0] == "t":
            emit(word, 1)
        else:
            emit(word, 2)


def number_and_none(line, emit):
    emit(line, 1)
    emit(line, None)


def only_literals(line, emit):
    emit(7, 1)


THREE = {"key": "string", "a": "int64", "b": "int64", "c": "int64"}
JOBS = [
    (weighed, NUMBERED.select(["line"]), {"reduce": "sum", "value": ("a", "b", "c")}, THREE),
    (weighed, NUMBERED.select(["line"]), {"reduce": "count", "value": ("a", "b", "c")}, THREE),
    (weighed, NUMBERED.select(["line"]), {"reduce": "min", "value": ("a", "b", "c")}, THREE),
    (weighed, NUMBERED.select(["line"]), {"reduce": None, "value": ("a", "b", "c")}, THREE),
    (two_literals, NUMBERED.select(["line"]), {"reduce": "sum"}, {"key": "string", "value": "int64"}),
    (number_and_none, NUMBERED.select(["line"]), {"reduce": "sum"}, {"key": "string", "value": "int64"}),
    (only_literals, NUMBERED.select(["line"]), {"reduce": "sum"}, {"key": "int64", "value": "int64"}),
    (words, NUMBERED.select(["line"]), {"reduce": "sum"}, {"key": "string", "value": "int64"}),
    (words, NUMBERED.select(["line"]), {"reduce": None}, {"key": "string", "value": "int64"}),
    (words, NUMBERED.select(["line"]), {"reduce": "mean", "order": None}, {"key": "string", "value": "int64"}),
    (keys, NUMBERED.select(["line"]), {"reduce": "count"}, {"key": "string"}),
    (
        pairs,
        NUMBERED,
        {"reduce": "max", "key": ("a", "b"), "value": ("n", "r")},
        {"a": "string", "b": "int64", "n": "int64", "r": "float64"},
    ),
]


@pytest.mark.parametrize(("function", "table", "options", "schema"), JOBS)
def test_compiled_and_interpreted_give_the_same(tmp_path, function, table, options, schema):
    def run(compile_, **given):
        job = km.MapReduce(function, compile=compile_, **options, **given)
        output = tmp_path / compile_
        result = job.run(km.from_arrow(table), output=output, on_bad="reject", progress=False)
        rows = km.scan_parquet(f"{output}/*.parquet").collect()
        return rows.to_arrow(), dict(result.counters), dict(result.rejects)

    compiled, plain = run("require"), run("never", schema=schema)
    assert compiled == plain
    assert compiled[0].num_rows > 0


@pytest.mark.parametrize("literal", [1 << 62, -(1 << 62)])
def test_a_sum_of_one_literal_beyond_64_bits_is_an_error(literal):
    def large(line, emit):
        emit("a", literal)

    job = km.MapReduce(large, "sum", compile="require")
    small = job(km.from_arrow(pa.table({"line": ["x"]})))
    assert small.collect().rows() == [("a", literal)]
    with pytest.raises(KernelmillError) as raised:
        job(km.from_arrow(pa.table({"line": ["x"] * 3}))).collect()
    assert raised.value.code is Code.OVERFLOW


def test_records_left_to_python_are_summed_with_those_that_the_table_counted():
    def numbers(line, emit):
        if int(line) >= 0:  # an int beyond 64 bits is Python's
            emit("n", 1)

    lines = ["5", str(1 << 70), "7", "-2", str(1 << 80)] * 50
    job = km.MapReduce(numbers, "sum", compile="require")
    assert job(km.from_arrow(pa.table({"line": lines}))).collect().rows() == [("n", 200)]


def test_text_files_need_no_schema_and_count_as_the_built_in_does(tmp_path):
    (tmp_path / "a.txt").write_text("\n".join(line for line in LINES if line))
    job = km.MapReduce(words, "sum", key="word", value="n", order=None, compile="require")
    found = job(km.scan_text(tmp_path / "a.txt")).collect().rows()
    built_in = km.scan_text(tmp_path / "a.txt").select(w=km.col("line").str.tokenize()).explode("w")
    assert dict(found) == dict(built_in.group_by("w").agg(km.len()).collect().rows())


def test_an_error_is_the_one_that_python_raises(tmp_path):
    def numbers(line, emit):
        for word in line.split():
            emit(int(word))

    (tmp_path / "a.txt").write_text("1 2\n3 x\n")
    for compile_ in ("require", "never"):
        job = km.MapReduce(numbers, "count", key="n", schema={"n": "int64"}, compile=compile_)
        with pytest.raises(KernelmillError) as caught:
            job(km.scan_text(tmp_path / "a.txt")).collect()
        assert caught.value.code is Code.FUNCTION_FAILED
        assert "ValueError: invalid literal for int() with base 10: 'x'" in caught.value.what
        assert "byte 4, line 2" in caught.value.where


def test_what_cannot_be_compiled_runs_with_one_warning_that_names_the_line():
    def stranger(line, emit):
        emit(str(sorted(set(line))), 1)

    job = km.MapReduce(stranger, "sum", schema={"key": "string", "value": "int64"})
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert job(km.from_arrow(pa.table({"line": ["ba"]}))).collect().rows() == [("['a', 'b']", 1)]
    assert [one.category for one in caught] == [InterpretedFunctionWarning]
    assert "test_compiled.py:" in str(caught[0].message)
    assert (caught[0].filename, km.InterpretedFunctionWarning) == (__file__, InterpretedFunctionWarning)
    refused = km.MapReduce(stranger, "sum", compile="require", schema={"key": "string", "value": "int64"})
    with pytest.raises(KernelmillError) as problem:
        refused(km.from_arrow(pa.table({"line": ["ba"]})))
    assert problem.value.code is Code.INTERPRETED


def test_what_emits_other_types_than_schema_says_is_left_to_python():
    job = km.MapReduce(lambda line, emit: emit(line, 1.5), "sum", schema={"key": "string", "value": "int64"})
    with pytest.raises(KernelmillError) as caught:
        job(km.from_arrow(pa.table({"line": ["a"]}))).collect()
    assert caught.value.code is Code.CAST


def test_an_edited_function_is_compiled_anew():
    def times(factor):
        def mapped(line, emit):
            emit(line, factor)

        return km.MapReduce(mapped, "sum", compile="require")

    table = km.from_arrow(pa.table({"line": ["a", "a"]}))
    assert [times(factor)(table).collect().rows() for factor in (1, 5)] == [[("a", 2)], [("a", 10)]]


def test_a_trial_compiles_nothing_though_a_map_of_rows_could_not_be_compiled_for_texts():
    types = {"head": "string", "odd": "int64", "size": "int64", "ratio": "float64"}
    job = km.MapReduce(pairs, "sum", key=("head", "odd"), value=("size", "ratio"), schema=types)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert job.trial([{"line": "abcd", "n": 3, "ratio": 0.5}]).rows() == [("ABC", 1, 4, 0.5)]


def test_columns_that_a_map_does_not_read_may_be_of_any_type():
    days = pa.array([dt.date(2020, 1, 1), None, dt.date(2021, 1, 1)])
    frame = km.from_arrow(pa.table({"day": days, "n": [1, 2, 3], "links": [[1], [2], []], "s": ["a", None, "c"]}))

    def one(row, emit):
        emit(row.n, 1)

    def two(row, emit):
        if row.s is not None:
            emit(row.s.upper(), row.n)

    def none(row, emit):
        emit("rows", 1)

    for function, expected in ((one, [(1, 1), (2, 1), (3, 1)]), (two, [("A", 1), ("C", 3)]), (none, [("rows", 3)])):
        assert km.MapReduce(function, "sum", compile="require")(frame).collect().rows() == expected

    def rejects(row, emit):
        emit.reject("no") if row.n == 2 else emit(row.n, 1)

    rejected = km.MapReduce(rejects, "sum", compile="require")(frame).collect(on_bad="reject").rejects.to_arrow()
    assert b'"day"' in rejected["record"][0].as_py()  # the record whole, as Python sees it


def test_a_row_that_is_used_as_a_whole_has_all_its_columns():
    frame = km.from_arrow(pa.table({"n": [1, 2], "day": [dt.date(2020, 1, 1)] * 2}))
    with pytest.warns(InterpretedFunctionWarning, match="'day'"):
        job = km.MapReduce(lambda row, emit: emit(row[0], len(row)), "sum", schema={"key": "int64", "value": "int64"})(
            frame
        )
    assert job.collect().rows() == [(1, 2), (2, 2)]


def test_a_map_that_is_a_generator_or_async_is_refused():
    def yields(line, emit):
        yield line

    async def waits(line, emit):
        emit(line, 1)

    for function in (yields, waits):
        with pytest.raises(KernelmillError) as raised:
            km.MapReduce(function, "sum")
        assert raised.value.code is Code.BAD_SETTING


def test_a_variable_without_a_value_is_pythons_error_and_outer_variables_are_pythons():
    def last(line, emit):
        for word in line.split():
            if word == "q":
                found = word
        emit(found, 1)

    table = km.from_arrow(pa.table({"line": ["a q", "b"]}))
    types = {"key": "string", "value": "int64"}
    with pytest.warns(InterpretedFunctionWarning, match="found may have no value"):
        job = km.MapReduce(last, "sum", schema=types)(table)
    with pytest.raises(KernelmillError) as raised:
        job.collect()
    assert raised.value.code is Code.FUNCTION_FAILED and "UnboundLocalError" in raised.value.what
    seen = 0

    def counts(line, emit):
        nonlocal seen
        seen += 1
        emit(line, 1)

    with pytest.warns(InterpretedFunctionWarning, match="outer function"):
        km.MapReduce(counts, "sum", schema=types)(table).collect()
    assert seen == 2


def test_a_surrogate_and_a_count_that_is_no_whole_number_are_pythons_errors():
    def surrogate(line, emit):
        emit(chr(int(line)), 1)

    table = km.from_arrow(pa.table({"line": ["65", "55296"]}))
    types = {"key": "string", "value": "int64"}
    for compile_ in ("require", "never"):
        made = km.MapReduce(surrogate, "sum", schema=types, compile=compile_)(table).collect(on_bad="reject")
        assert made.rows() == [("A", 1)] and made.rejects.height == 1

    def halves(line, emit):
        emit.count("half", 0.5)
        emit(line, 1)

    with pytest.warns(InterpretedFunctionWarning):
        job = km.MapReduce(halves, "sum", schema=types)(table)
    with pytest.raises(KernelmillError) as raised:
        job.collect()
    assert raised.value.code is Code.FUNCTION_FAILED


def test_float_and_int_take_numbers_that_may_be_none():
    def converted(row, emit):
        emit(row.n, (float(row.n), int(row.x)))

    columns = {"n": [1, None, 3, 4, 5], "x": [1.5, 2.5, None, float("nan"), -2.5]}
    frame, types = km.from_arrow(pa.table(columns)), {"key": "int64", "a": "float64", "b": "int64"}
    job = km.MapReduce(converted, value=("a", "b"), order=None, schema=types, compile="require")(frame)
    made = job.collect(on_bad="reject")
    assert made.rows() == [(1, 1.0, 1), (5, 5.0, -2)] and made.rejects.height == 3


WORDS = re.compile(r"\w{2,}")


def test_words_by_a_pattern_are_those_of_re_and_another_pattern_is_compiled_anew():
    lines = ["one, two; ünïcode", None, "", "x yy zzz", "日本 go_1 é"]
    frame = km.from_arrow(pa.table({"line": lines, "n": range(5)})).filter(km.col("line").is_not_null())

    def job(pattern, literal):
        def found(row, emit):
            if literal:
                for word in re.findall("[a-z]+", row.line):
                    emit(word, row.n)
            for word in pattern.findall(row.line):
                emit(word, row.n)

        return km.MapReduce(found, "list", order=None, compile="require")

    for pattern, literal in ((WORDS, True), (WORDS, False), (re.compile("[^a-z]+"), False)):
        expected: dict[str, list[int]] = {}
        for n, line in enumerate(lines):
            for word in (re.findall("[a-z]+", line or "") if literal else []) + pattern.findall(line or ""):
                expected.setdefault(word, []).append(n)
        assert dict(job(pattern, literal)(frame).collect().rows()) == expected


def test_a_pattern_that_is_not_compiled_is_named_with_its_line_and_runs_as_python():
    def found(line, emit):
        for word in re.findall("ab?c", line):
            emit(word, 1)

    frame = km.from_arrow(pa.table({"line": ["abc ac", "bc"]}))
    job = km.MapReduce(found, "sum", schema={"key": "string", "value": "int64"})
    with pytest.warns(InterpretedFunctionWarning, match="one class of characters"):
        assert job(frame).collect().rows() == [("abc", 1), ("ac", 1)]
