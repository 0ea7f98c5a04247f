"""What a third reader of the documentation got wrong: each refusal says what is wrong with it, and what to do."""

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import BadSettingError, Code, KernelmillError, PlanError, UserCodeError
from kernelmill.kernels import _jit

compiled = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")
LINES = km.from_arrow(pa.table({"line": ["a b", "c"]}))


def starred(*numbers):
    return numbers[0]


def of_starred(line, emit):
    emit(line, starred(len(line), 2))


def by_name(number, *, factor=3):
    return number * factor


def of_by_name(line, emit):
    emit(line, by_name(len(line)))


def letters(line):
    return iter(line.split())


def of_iterator(line, emit):
    for word in letters(line):
        emit(word, 1)


def of_bytes(line, emit):
    for byte in line.encode():
        emit(line, byte)


def of_exit(line, emit):
    if line == "c":
        raise SystemExit(3)
    emit(line, 1)


@compiled
@pytest.mark.parametrize(
    ("function", "words"),
    [
        (of_starred, "starred takes *args"),
        (of_by_name, "by_name takes factor by name alone"),
        (of_bytes, "a loop over such a value is not supported"),
        (of_exit, "raising such an exception is not supported"),
        (of_iterator, "an iterator that leaves its function is not supported"),
    ],
)
def test_reasons_are_about_the_function_and_not_about_the_compiler(function, words):
    with pytest.raises(UserCodeError) as raised:
        LINES.pipe(km.MapReduce(function, order=None, compile="require"))
    assert raised.value.code == Code.INTERPRETED
    assert words in raised.value.what


@compiled
@pytest.mark.parametrize("reduce", ["max", "list"])
def test_verify_speaks_of_64_bits_where_one_side_has_more_rows(reduce):
    job = km.MapReduce(lambda line, emit: emit(line, 2**62 * len(line)), reduce)
    with pytest.raises(KernelmillError) as raised:
        job.verify(LINES)
    assert raised.value.code == Code.VERIFY_DIFFERS
    assert "64 bits" in raised.value.hint


def test_a_dataframe_is_no_input_and_the_hint_makes_one_of_it(tmp_path):
    job = km.MapReduce(lambda line, emit: emit(line, 1), "sum", schema={"key": "string", "value": "int64"})
    frame = LINES.collect(progress=False)
    for wrong in (lambda: job.run(frame, output=tmp_path / "out"), lambda: job(frame), lambda: job.explain(frame)):
        with pytest.raises(BadSettingError) as raised:
            wrong()
        assert "DataFrame" in raised.value.what
        assert "lazy()" in raised.value.hint
    assert frame.lazy().pipe(job).collect(progress=False).height == 2


@compiled
def test_a_map_that_emits_to_named_outputs_alone_is_told_of_the_main_one(tmp_path):
    def routed(line, emit):
        emit.to("words", line, 1)

    outputs = {"words": km.Output("sum")}
    with pytest.raises(PlanError) as raised:
        LINES.pipe(km.MapReduce(routed, outputs=outputs))
    assert raised.value.code == Code.SCHEMA_REQUIRED
    assert "it emits to 'words' alone, and a job has a main output too" in raised.value.hint
    job = km.MapReduce(routed, outputs=outputs, schema={"key": "string", "value": "int64"})
    job.run(LINES, output=tmp_path / "out", progress=False)
    assert km.read_parquet(tmp_path / "out").height == 0
    assert km.read_parquet(tmp_path / "out" / "words").height == 2
