"""Why a function is not compiled: in words about the user's code, at the line that is meant; and in seconds."""

import re
import time

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

LINES = pa.table({"line": ["a b", "12"]})
INSIDES = re.compile(r"<function|0x|Function\(|Literal|unicode_type|Optional|LLVM|\bIR\b|Error|numba|\{i\d|iv=|list\(")
"""Words about the compiler, not about the function."""


def padded(word):
    return "%r" % word  # noqa: UP031


def twice_padded(word):
    return padded(word)


def rounded(number):
    return round(number, None)


def by_helper(line, emit):
    emit(padded(line), 1)


def by_two_helpers(line, emit):
    emit(twice_padded(line), 1)


def by_rounding_helper(line, emit):
    emit(line, rounded(line))


def rounding(line, emit):
    emit(line, round(len(line), None))


def text_of_float(line, emit):
    emit(str(float(line)), 1)


def bits(line, emit):
    emit(line, len(line).bit_length())


def hash_of_character(line, emit):
    emit(line, hash(chr(len(line))))


def joined(line, emit):
    emit(",".join([len(line)]), 1)


def counter_of_record(line, emit):
    emit.count("x" + line)
    emit(line, 1)


def deleted(line, emit):
    words = line.split()
    del words
    emit(line, 1)


def item_deleted(line, emit):
    words = line
    del words[0]
    emit(line, 1)


def attribute_set(line, emit):
    emit.done = True
    emit(line, 1)


def list_emitted(line, emit):
    emit(line, [1])


def bytes_emitted(line, emit):
    emit(line.encode(), 1)


def ordered_tuples(line, emit):
    emit(line, 1 if (line, 1) < (line, 2) else 0)


def text_called(line, emit):
    emit(line(), 1)


def in_itself(line, emit):
    found = []
    for _ in line.split(","):
        found = [found]
    emit(line, len(found))


def in_a_tuple(line, emit):
    found = None
    for word in line.split(","):
        found = (word, found)
    emit(line, 1 if found is None else 2)


SAID = [
    (by_helper, "the operator % is not supported for such values", padded, 1),
    (by_two_helpers, "the operator % is not supported for such values", padded, 1),
    (by_rounding_helper, "round() of text that may be None and None raises, in Python too", rounded, 1),
    (rounding, "round() is not supported for such values", rounding, 1),
    (text_of_float, "str() is not supported for such values", text_of_float, 1),
    (bits, "bit_length", bits, 1),
    (hash_of_character, "hash() is not supported for such values", hash_of_character, 1),
    (joined, "join() of text with a list of ints raises, in Python too", joined, 1),
    (counter_of_record, "emit.count takes a name that is written in the call", counter_of_record, 1),
    (deleted, "del of a variable is not supported", deleted, 2),
    (item_deleted, "the operator del", item_deleted, 2),
    (attribute_set, "an attribute cannot be given a value", attribute_set, 1),
    (list_emitted, "emit is called with a list", list_emitted, 1),
    (bytes_emitted, "emit is called with bytes", bytes_emitted, 1),
    (ordered_tuples, "may be None is not supported: compare their items", ordered_tuples, 1),
    (text_called, "a value is called that is no function", text_called, 1),
    (in_itself, "a variable holds itself in a list or tuple", in_itself, 3),
    (in_a_tuple, "a variable holds itself in a list or tuple", in_a_tuple, 3),
]


def failure_of(job, table=LINES):
    with pytest.raises(KernelmillError) as caught:
        km.from_arrow(table).pipe(job).collect(progress=False)
    return caught.value


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("function", "said", "place", "below"), SAID, ids=[one[0].__name__ for one in SAID])
def test_the_reason_is_in_plain_words_at_its_line(function, said, place, below):
    before = time.process_time()
    types = {"k": "string", "v": "int64"}
    problem = failure_of(km.MapReduce(function, key="k", value="v", schema=types, compile="require"))
    assert problem.code is Code.INTERPRETED
    reason = problem.what.partition("cannot be compiled: ")[2]
    assert said in reason and not INSIDES.search(reason), reason
    line = place.__code__.co_firstlineno + below
    assert f"test_reasons.py:{line}: map function {function.__name__!r}" in problem.what
    assert time.process_time() - before < 20


def test_a_column_that_is_not_compiled_comes_with_the_functions_place():
    table = pa.table({"numbers": [[1, 2]]})
    job = km.MapReduce(lambda numbers, emit: emit(len(numbers)), key="n", schema={"n": "int64"}, compile="require")
    assert re.match(r".*test_reasons\.py:\d+: map function '.*' cannot be compiled", failure_of(job, table).what)


def test_a_combiner_whose_state_is_a_list_is_told_so():
    def empty():
        return []

    combiner = km.Combiner(init=empty, step=lambda state, n: [*state, n], merge=lambda a, b: a + b)
    job = km.MapReduce(
        lambda line, emit: emit(line, 1), combine=combiner, schema={"key": "string", "value": "list<int64>"}
    )
    with pytest.warns(km.InterpretedFunctionWarning) as caught:
        km.from_arrow(LINES).pipe(job).explain()
    reasons = [str(one.message).partition("cannot be compiled: ")[2] for one in caught]
    assert reasons and not any(map(INSIDES.search, reasons)), reasons


def counts_values(key, values, emit):
    emit(len(values))


def first_value(key, values, emit):
    emit(values[0])


@pytest.mark.parametrize("reduce", [counts_values, first_value])
def test_values_of_a_reduce_are_no_list_and_the_message_says_so(reduce):
    types = {"key": "string", "value": "int64"}

    def ones(line, emit):
        emit(line, 1)

    for how in ("require", "never"):
        problem = failure_of(km.MapReduce(ones, reduce, schema=types, compile=how))
        assert "values come one by one: values = list(values)" in str(problem)
        assert problem.code is (Code.INTERPRETED if how == "require" else Code.FUNCTION_FAILED)


def test_of_two_lambdas_in_one_line_each_has_its_generator_expressions():
    job = km.MapReduce(lambda line, emit: emit("x", sum(1 for c in line if c != " ")), lambda _, vs, emit: emit(sum(v + 1 for v in vs)), compile="require")  # fmt: skip  # noqa: E501
    assert km.from_arrow(LINES).pipe(job).collect().rows() == [("x", 2 + 1 + 2 + 1)]
