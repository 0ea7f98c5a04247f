"""What a function does wrong is named, at its line, where no row could come of it; and why others are not compiled."""

import itertools
import sys

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

LINES = pa.table({"line": ["a b", "12"]})
ROWS = pa.table({"s": ["a b", "b"], "t": ["x", None], "n": [1, None], "x": [1.5, None]})


def error_of(function, table=ROWS, reduce="sum", **options):
    with pytest.raises(KernelmillError) as caught:
        km.from_arrow(table).pipe(km.MapReduce(function, reduce, **options)).collect(progress=False)
    return caught.value


def misspelled(line, emit):
    emit(line.spilt(), 1)


def misspelled_in_a_row(row, emit):
    for word in row.s.split():
        emit(word.lwoer(), 1)


def misspelled_of_a_number(row, emit):
    emit(row.s, row.x.is_intger())


@pytest.mark.parametrize(
    ("function", "table", "below", "reason"),
    [
        (misspelled, LINES, 1, "text has no 'spilt': did you mean split?"),
        (misspelled_in_a_row, ROWS, 2, "text has no 'lwoer': did you mean lower?"),
        (misspelled_of_a_number, ROWS, 1, "a float has no 'is_intger': did you mean is_integer?"),
    ],
)
def test_a_misspelled_method_is_named_with_the_one_that_was_meant(function, table, below, reason):
    problem = error_of(function, table)
    assert problem.code is Code.SCHEMA_REQUIRED
    assert f":{function.__code__.co_firstlineno + below}: " in problem.what
    assert problem.what.endswith(reason)
    assert "schema" not in problem.hint


def test_a_column_that_is_the_record_is_still_told_from_a_method():
    problem = error_of(lambda line, emit: emit(line.text, 1), LINES)
    assert problem.what.endswith("a record of one column is its value: write line, not line.text")


def undefined(row, emit):
    count = 1
    emit(cleaned(row.s), count)  # noqa: F821 - that is what is tested


def test_an_undefined_name_is_said_to_be_so_at_its_line():
    problem = error_of(undefined)
    assert problem.what.endswith(": cleaned is not defined")
    assert f":{undefined.__code__.co_firstlineno + 2}: " in problem.what
    assert "schema" not in problem.hint


def tuples_from_the_reduce(key, values, emit):
    emit((sum(values), 1))


def test_names_that_were_meant_for_the_reduce_are_led_to_the_pair_of_schema():
    problem = error_of(lambda row, emit: emit(row.s, 1), reduce=tuples_from_the_reduce, value=("total", "n"))
    assert problem.code is Code.SCHEMA_REQUIRED
    assert 'schema=({"key": "string", "total": "int64"}, {"total": ..., "n": ...})' in problem.hint
    made = {"total": "int64", "n": "int64"}
    job = km.MapReduce(
        lambda row, emit: emit(row.s, 1),
        tuples_from_the_reduce,
        value="total",
        schema=({"key": "string", "total": "int64"}, made),
    )
    assert km.from_arrow(ROWS).pipe(job).collect().rows() == [("a b", 1, 1), ("b", 1, 1)]


def lists_of_two_kinds(row, emit):
    words = [row.t]
    words = words + ["x"]
    words[0:1] = ["k", row.t]
    emit(len(words), 1)


def split_in_a_slice(row, emit):
    words = ["a" + word for word in row.s.split()]
    words[:0] = row.s.split()[:1]
    emit(len(words), 1)


def lists_compared(row, emit):
    emit(row.s, 1)
    if [row.n] == [row.n]:
        emit(row.s, 2)


def key_by_name(row, emit):
    emit(row.s, 1)
    emit(max("a", row.t, key=len), 1)


def float_of_none(row, emit):
    nothing = None
    emit(float(nothing), 1)


def tuples_compared(row, emit):
    here = row.n, row.s
    if here < (1, "b"):
        emit(row.s, 1)


@pytest.mark.parametrize(
    ("function", "below", "words"),
    [
        (lists_of_two_kinds, 3, "a list of texts stands where a list of texts that may be None does"),
        (split_in_a_slice, 2, "what split gives is put where a list stands"),
        (lists_compared, 2, "comparing lists that hold a number that may be None"),
        (key_by_name, 2, "max() with key= is not supported for such values"),
        (float_of_none, 2, "float() of None raises, in Python too"),
        (tuples_compared, 2, "comparing tuples that hold texts or numbers that may be None"),
    ],
)
def test_what_the_compiler_says_nothing_about_is_named_at_its_line(function, below, words):
    problem = error_of(function, key="key", compile="require")
    assert problem.code is Code.INTERPRETED
    assert f":{function.__code__.co_firstlineno + below}: " in problem.what
    assert words in problem.what


def test_a_partition_function_that_returns_text_is_told_so():
    problem = error_of(lambda row, emit: emit(row.s, 1), partition=lambda key, n: key, compile="require")
    assert problem.what.endswith("it returns text, and a partition is an int")


def walrus_in_a_comprehension(row, emit):
    emit(row.s, len([word for word in row.s.split() if (last := word[-1:]) and last != "b"]))


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="comprehensions are functions of their own before 3.12")
def test_an_assignment_within_a_comprehension_is_named():
    problem = error_of(walrus_in_a_comprehension, compile="require")
    assert "(:=) is not supported in compiled functions within a comprehension" in problem.what


def test_float_takes_bools_that_may_be_none():
    flags = pa.table({"flag": [True, False, None], "n": [1, 2, 3]})
    job = km.MapReduce(lambda row, emit: emit(row.n, float(row.flag)), compile="require")
    result = km.from_arrow(flags).pipe(job).collect(on_bad="reject", max_rejects=1)
    assert result.rows() == [(1, 1.0), (2, 0.0)]
    assert result.rejects.height == 1


@pytest.mark.parametrize("given", [print, int, len, str.split])
def test_pythons_own_functions_are_refused_as_maps_when_the_job_is_made(given):
    with pytest.raises(KernelmillError) as caught:
        km.MapReduce(given, "sum")
    assert caught.value.code is Code.BAD_SETTING
    assert "never calls emit" in caught.value.what


def test_verify_says_what_a_map_did_and_then_did():
    numbers = itertools.count()
    types = {"key": "string", "value": "int64"}
    job = km.MapReduce(lambda row, emit: emit(row.s, next(numbers)), "sum", schema=types, compile="never")
    with pytest.raises(KernelmillError) as caught:
        job.verify(km.from_arrow(ROWS))
    assert caught.value.code is Code.NONDETERMINISTIC
    assert caught.value.what.endswith("it emitted [('a b', 0)], then it emitted [('a b', 1)]")


@pytest.mark.parametrize(("given", "named"), [(5, "not an int: 5"), (b"a", "not a bytes object: b'a'")])
def test_what_is_no_list_of_records_is_named_by_its_kind(given, named):
    with pytest.raises(KernelmillError) as caught:
        km.MapReduce(misspelled, "sum").trial(given)
    assert caught.value.what.endswith(named)


def test_one_rejected_record_was_rejected():
    job = km.MapReduce(lambda row, emit: emit(row.s, row.n + 1), "sum")
    with pytest.raises(KernelmillError, match="1 record was rejected, max_rejects allows 0"):
        km.from_arrow(ROWS).pipe(job).collect(on_bad="reject", max_rejects=0)
