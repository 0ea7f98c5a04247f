"""Reasons name what numba cannot compile, not what stands beside it, and in no words of numba's own."""

import re
import warnings

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.kernels import _jit

pytestmark = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")

LINES = pa.table({"line": ["a b", "12"]})
TYPES = {"key": "string", "value": "int64"}
INSIDES = re.compile(
    r"<function|0x|Literal|unicode_|Optional|Error|numba|Resolution|@overload|Pieces|__locals__|vphi|mismatch|list\("
)
"""Words about the compiler, not about the function."""


def failure_of(function, side=None):
    job = km.MapReduce(function, side=side, schema=TYPES, compile="require")
    with pytest.raises(KernelmillError) as caught:
        km.from_arrow(LINES).pipe(job).collect(progress=False)
    assert caught.value.code is Code.INTERPRETED
    reason = caught.value.what.partition("cannot be compiled: ")[2]
    assert not INSIDES.search(reason), reason
    return caught.value.what


def last_of_four(line, emit):
    length = len(line.encode())
    emit(max(line, "a", "b", "c"), length)


def last_of_four_after_a_sum(line, emit):
    letters = sum(1 for _ in line)
    emit(max(line, "a", "b", "c"), letters)


def counted_by_a_half(line, emit):
    emit.count("x", 1.5)
    emit(line, 1)


def replaced(line, emit):
    emit("x".replace(line, "Z", 3), 1)


def letters_joined(line, emit):
    letters = set(line)
    emit(",".join(letters), 1)


def discarded(line, emit):
    words = set(line.split())
    words.discard("a")
    emit(line, len(words))


def written_set(line, emit):
    found = {"ab", "c"} if line else {"d"}
    emit(line, len(found))


def mixed_in_a_comprehension(line, emit):
    found = [word or 1 for word in line.split()]
    emit(line, len(found))


def by_name_alone(line, emit):
    def twice(a, *, b=1):
        return a * b

    emit(line, twice(1, b=2))


def dict_filled(line, emit):
    found = {}
    for word in line.split():
        if word not in found:
            found[word] = 1
    emit(line, len(found))


def dict_called(line, emit):
    found = dict()  # noqa: C408
    found[line] = 1
    emit(line, len(found))


def pieces_emitted(line, emit):
    emit(line, line.split())


SAID = [
    (last_of_four, "max() is not supported for such values", 2),
    (last_of_four_after_a_sum, "max() is not supported for such values", 2),
    (counted_by_a_half, "emit.count takes a whole number after the name", 1),
    (replaced, "replace() is not supported for such values", 1),
    (letters_joined, "what is done here is not supported", 2),
    (discarded, "discard() is not supported for such values", 2),
    (written_set, "a set that is written out is not supported", 1),
    (mixed_in_a_comprehension, "what is made inside is now of one type", 1),
    (by_name_alone, "twice takes b by name alone (*)", 1),
    (dict_filled, "a dict that is made inside a function is not supported", 1),
    (dict_called, "a dict that is made inside a function is not supported", 1),
    (pieces_emitted, "emit is called with what split gives", 1),
]


@pytest.mark.timeout(60)
@pytest.mark.parametrize(("function", "said", "below"), SAID, ids=[one[0].__name__ for one in SAID])
def test_the_reason_is_what_numba_means_at_its_line(function, said, below):
    what = failure_of(function)
    assert said in what
    assert f"test_reasons_named.py:{function.__code__.co_firstlineno + below}: map function" in what


SIDE = {
    "beyond 64 bits": 2**70,
    "a function of yours": lambda n: n,
    "instance of range": range(5),
    "instance of object": object(),
}


@pytest.mark.parametrize("said", SIDE)
def test_what_cannot_be_given_by_side_is_named_with_its_kind(said):
    def looks_up(line, emit, *, given):
        emit(line, 0 if given is None else 1)

    what = failure_of(looks_up, {"given": SIDE[said]})
    assert "'given' is a" in what and said in what


def test_a_generator_expression_without_its_source_is_told_so():
    names = {}
    exec("def sums(line, emit):\n    emit(line, sum(len(word) for word in line.split()))\n", names)
    assert "takes the function's source, which is not at hand: write [...]" in failure_of(names["sums"])


def test_a_job_that_is_refused_for_its_types_does_not_warn_of_running_as_python():
    def split_and_listed(line, emit):
        emit(line, [1])

    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(KernelmillError) as caught:
            km.from_arrow(LINES).pipe(km.MapReduce(split_and_listed)).collect(progress=False)
    assert caught.value.code is Code.SCHEMA_REQUIRED and "emit is called with a list" in caught.value.what
    assert not said
    with pytest.warns(km.InterpretedFunctionWarning, match="it runs as plain Python"):
        job = km.MapReduce(split_and_listed, schema={"key": "string", "value": "list<int64>"})
        km.from_arrow(LINES).pipe(job).collect(progress=False)
