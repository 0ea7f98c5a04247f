"""What goes wrong in functions once a job runs, or would never end: said with its culprit, not as something else."""

import warnings

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.compiling import InterpretedFunctionWarning
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.settings import PARTITIONS_MAX

PAIRS = {"key": "string", "value": "int64"}
LINES = pa.table({"line": ["a", "bb", "a"]})


def ones(line, emit):
    emit(line, 1)


def nested(line, emit):
    emit((line, (1, 2)), 1)


def exhausting(line, emit):
    raise MemoryError("mine")


def too_large(line, emit):
    emit(line, len(str(1 << 10**18)))


def twice(key, values, emit):
    emit(sum(values) + max(values))


def refused(call, *arguments, **options):
    with pytest.raises(KernelmillError) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore", InterpretedFunctionWarning)
        call(*arguments, **options)
    return caught.value


def collected(job, **options):
    return job(km.from_arrow(LINES)).collect(progress=False, **options)


@pytest.mark.parametrize("given", [{"schema": {"a": "string", "b": "int64", "value": "int64"}}, {}])
def test_a_tuple_in_a_tuple_of_keys_is_refused(given):
    problem = refused(lambda: collected(km.MapReduce(nested, "sum", key=("a", "b"), **given)))
    assert problem.code in (Code.SCHEMA_REQUIRED, Code.CAST)
    assert "nested" in str(problem)


@pytest.mark.parametrize("function", [exhausting, too_large])
def test_a_memory_error_of_a_function_names_it_and_the_record_and_rejects_nothing(function):
    problem = refused(collected, km.MapReduce(function, "sum", schema=PAIRS), on_bad="reject")
    assert problem.code is Code.MEMORY_LIMIT
    assert function.__name__ in problem.what
    assert "MemoryError" in problem.what
    assert "the record is 'a'" in problem.hint


def test_values_that_a_reduce_has_used_up_are_said_to_be_so():
    problem = refused(collected, km.MapReduce(ones, twice, schema=(PAIRS, PAIRS)))
    assert problem.code is Code.FUNCTION_FAILED
    assert "list(values)" in problem.hint


def test_more_partitions_than_a_job_may_have_are_refused():
    problem = refused(km.MapReduce, ones, "sum", partitions=PARTITIONS_MAX + 1)
    assert problem.code is Code.BAD_SETTING
    assert str(PARTITIONS_MAX) in problem.hint


def test_a_list_of_names_is_told_to_be_a_tuple():
    problem = refused(km.MapReduce, ones, "sum", key=["word", "n"])
    assert problem.code is Code.BAD_SETTING
    assert '("word", "n")' in problem.hint
