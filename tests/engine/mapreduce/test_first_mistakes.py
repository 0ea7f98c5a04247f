"""What a user gets wrong at first: each mistake is said with its code, its culprit and what to write."""

import functools
import warnings

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.compiling import InterpretedFunctionWarning
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.plan.planner import plan_job
from kernelmill.kernels import _jit

compiled = pytest.mark.skipif(_jit.JIT_DISABLED or _jit.BOUNDS_CHECKED, reason="nothing is compiled then")
PAIRS = {"key": "string", "value": "int64"}
LINES = pa.table({"line": ["a", "bb", "a"]})
TWO = pa.table({"a": ["x", "y"], "b": ["u", "v"]})


def ones(line, emit):
    emit(line, 1)


def scaled(line, emit, *, by):
    emit(line, by)


def rows_of(job, table=LINES):
    return job(km.from_arrow(table)).collect(progress=False).rows()


def failure_of(call, *arguments, **options):
    with pytest.raises(KernelmillError) as caught, warnings.catch_warnings():
        warnings.simplefilter("ignore", InterpretedFunctionWarning)
        call(*arguments, **options)
    return caught.value


class Ones:
    def __call__(self, line, emit):
        emit(line, 1)


class Added:
    def __call__(self, a, b):
        return a + b


class Totals:
    def __call__(self, key, values, emit):
        emit(sum(values))


class First:
    def __call__(self, key, n):
        return 0


OBJECTS = [
    (lambda: km.MapReduce(Ones(), "sum", schema=PAIRS), "Ones"),
    (lambda: km.MapReduce(ones, Totals(), schema=PAIRS), "Totals"),
    (lambda: km.MapReduce(ones, combine=Added(), schema=PAIRS), "Added"),
    (lambda: km.MapReduce(ones, "sum", partition=First(), schema=PAIRS), "First"),
]


@compiled
@pytest.mark.parametrize(("job", "name"), OBJECTS)
def test_an_object_that_is_called_runs_as_python_with_one_warning(job, name):
    made = job()
    with pytest.warns(InterpretedFunctionWarning, match=f"object of {name}") as caught:
        assert rows_of(made) == [("a", 2), ("bb", 1)]
    assert len(caught) == 1
    assert made.verify(km.from_arrow(LINES)).rows == 2


@compiled
def test_a_partial_of_keywords_is_compiled_for_every_role():
    jobs = [
        km.MapReduce(functools.partial(scaled, by=5), "sum"),
        km.MapReduce(functools.partial(scaled, by=5), functools.partial(lambda k, v, emit, z: emit(sum(v) * z), z=1)),
        km.MapReduce(functools.partial(scaled, by=5), combine=functools.partial(lambda a, b, z: a + b + z, z=0)),
        km.MapReduce(functools.partial(scaled, by=5), "sum", partition=functools.partial(lambda k, n, z: z % n, z=0)),
    ]
    for job in jobs:
        assert rows_of(job) == [("a", 10), ("bb", 5)]
        assert job.verify(km.from_arrow(LINES)).rows == 2
        assert "scaled" in repr(job)


@compiled
def test_a_partial_of_positions_runs_as_python():
    job = km.MapReduce(functools.partial(lambda n, line, emit: emit(line, n), 5), "sum", schema=PAIRS)
    with pytest.warns(InterpretedFunctionWarning, match=r"functools\.partial"):
        assert rows_of(job) == [("a", 10), ("bb", 5)]


@compiled
def test_keyword_only_defaults_are_compiled():
    def weighed(line, emit, *, by=3):
        emit(line, by)

    assert rows_of(km.MapReduce(weighed, "sum")) == [("a", 6), ("bb", 3)]


def rejects_then_raises(line, emit):
    emit.count("seen")
    if line == "bb":
        emit.reject("empty")
        emit.reject("later")
    emit(line, 1 // (1 if line == "a" else 0))


@pytest.mark.parametrize("compile_", ["auto", "never"])
@pytest.mark.parametrize("on_bad", ["error", "reject"])
def test_the_first_reason_of_a_record_that_rejected_itself_stays(compile_, on_bad):
    job = km.MapReduce(rejects_then_raises, "sum", schema=PAIRS, compile=compile_)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", InterpretedFunctionWarning)
        made = job(km.from_arrow(LINES)).collect(progress=False, on_bad=on_bad)
    assert made.rows() == [("a", 2)] and made.counters == {"seen": 2}
    assert made.rejects.to_dict()["reason"] == ["empty"]
    assert job.trial(["a", "bb"]).rejects.to_dict()["reason"] == ["empty"]


def test_a_group_that_rejected_itself_keeps_its_reason_whatever_reduce_raises_then():
    def reduce(key, values, emit):
        emit.reject("no such key")
        raise ValueError(key)

    job = km.MapReduce(ones, reduce, schema=PAIRS, compile="never")
    made = job(km.from_arrow(LINES)).collect(progress=False)
    assert made.rows() == [] and made.rejects.to_dict()["reason"] == ["no such key"] * 2
    assert job.trial(["a"]).rejects.to_dict()["reason"] == ["no such key"]


@compiled
def test_types_that_are_not_known_come_with_the_compilers_reason():
    def padded(line, emit):
        emit(f"{line:>{len(line)}}", 1)

    problem = failure_of(rows_of, km.MapReduce(padded, "sum"))
    assert problem.code is Code.SCHEMA_REQUIRED
    assert "format specification" in problem.what and "test_first_mistakes.py:" in problem.what
    assert 'compile="never"' in failure_of(rows_of, km.MapReduce(padded, "sum", compile="never")).what


def four(line, emit):
    emit(line, (1, 2.0, 3, line))


@compiled
@pytest.mark.parametrize(("value", "named"), [(("a", "b", "c"), "names 3"), ("a", "names 1")])
def test_another_number_of_values_is_said_with_both_counts_and_real_types(value, named):
    problem = failure_of(rows_of, km.MapReduce(four, value=value))
    assert problem.code is Code.SCHEMA_REQUIRED and "'four'" in problem.what
    assert "tuple of 4 (int64, float64, int64, string)" in problem.what and named in problem.what
    assert '"key": "string", "a": "int64"' in problem.hint


@compiled
def test_what_the_hint_for_another_number_of_values_says_can_be_pasted():
    hint = failure_of(rows_of, km.MapReduce(four)).hint
    options = eval(f"dict({hint.partition(': ')[2].replace('; its types are', ',')})")
    assert rows_of(km.MapReduce(four, **options))[0] == ("a", 1, 2.0, 3, "a")


@compiled
def test_a_reduce_and_a_combiner_of_more_values_than_named_are_said_with_real_types():
    def reduce(key, values, emit):
        emit((sum(values), 2.5))

    combiner = km.Combiner(lambda: 0, lambda s, v: s + v, lambda a, b: a + b, lambda s: (s, 2.5))
    for job, what in [
        (
            km.MapReduce(ones, reduce),
            "'test_a_reduce_and_a_combiner_of_more_values_than_named_are_said_with_real_types",
        ),
        (km.MapReduce(ones, combine=combiner), "combine function 'Combiner' gives 2 values"),
    ]:
        problem = failure_of(rows_of, job)
        assert problem.code is Code.SCHEMA_REQUIRED and what in problem.what and "value= names 1" in problem.what
        assert "'value': 'int64', 'value2': 'float64'" in problem.hint


def misspelled(row, emit):
    emit(row.c, 1)


def subscripted(row, emit):
    emit(row["a"], 1)


def attribute_of_text(row, emit):
    emit(row.line, 1)


def counter(line, emit):
    emit.counter("a")
    emit(line, 1)


def conversion(line, emit):
    emit(f"{line!r}", 1)


def pattern(line, emit):
    match line.split():
        case [first]:
            emit(first, 1)


def by_name(row, emit):
    for name in ("a", "b"):
        emit(getattr(row, name), 1)


@compiled
@pytest.mark.parametrize(
    ("function", "table", "said"),
    [
        (misspelled, TWO, "row has no column 'c': it has a, b"),
        (subscripted, TWO, "write row.a"),
        (attribute_of_text, LINES, "write row, not row.line"),
        (counter, LINES, "emit has no 'counter': it has count, reject and to"),
        (conversion, LINES, "(!r, !a)"),
        (pattern, LINES, "match with such a pattern"),
        (by_name, TWO, "getattr()"),
    ],
)
def test_what_cannot_be_compiled_is_said_in_plain_words(function, table, said):
    problem = failure_of(rows_of, km.MapReduce(function, "sum"), table)
    assert problem.code is Code.SCHEMA_REQUIRED and repr(function.__name__) in problem.what
    assert said in problem.what, problem.what


def test_a_map_that_yields_is_refused_for_it_would_emit_nothing():
    def yielding(line, emit):
        yield line

    problem = failure_of(km.MapReduce, yielding, "sum")
    assert problem.code is Code.BAD_SETTING and "generator" in problem.what and "emit" in problem.hint


def test_a_map_of_key_and_value_is_told_where_the_files_name_is():
    problem = failure_of(km.MapReduce, lambda key, value, emit: emit(key, value))
    assert problem.code is Code.BAD_SETTING
    assert "include_file_paths=" in problem.hint and "row.path" in problem.hint


@pytest.mark.parametrize("given", ["text", 3, {"a": 1}, km.from_arrow(LINES)])
def test_trial_takes_a_list_of_records_alone(given):
    problem = failure_of(km.MapReduce(ones, "sum").trial, given)
    assert problem.code is Code.BAD_SETTING and "list of records" in problem.what


def test_trial_tells_of_dicts_where_a_tuple_is_asked_for_a_column():
    with pytest.raises(AttributeError) as caught:
        km.MapReduce(misspelled, "sum").trial([("a", 1)])
    assert "give dicts" in caught.value.__notes__[0]


def test_an_output_that_is_not_there_is_the_error_of_a_run_in_trial_too():
    def lost(line, emit):
        emit.to("nope", line)

    job = km.MapReduce(lost, schema=PAIRS, compile="never", outputs={"there": km.Output(schema=PAIRS)})
    tried, ran = failure_of(job.trial, ["a"]), failure_of(rows_of, job)
    assert tried.code is ran.code is Code.FUNCTION_FAILED
    assert tried.what == ran.what and "'nope'" in tried.what and "'there'" in tried.what


@compiled
def test_the_hint_of_verify_speaks_of_wrapping_where_an_int_differs():
    def wrapping(line, emit):
        emit(line, (1 << 62) * len(line) * 2 // 2)

    seen = []

    def remembering(line, emit):
        seen.append(line)
        emit(line, "odd" if 6 < len(seen) < 10 else "even")

    assert "wrap" in failure_of(km.MapReduce(wrapping).verify, km.from_arrow(LINES)).hint
    texts = {"key": "string", "value": "string"}
    problem = failure_of(km.MapReduce(remembering, schema=texts, compile="never").verify, km.from_arrow(LINES))
    assert problem.code is Code.VERIFY_DIFFERS
    assert "wrap" not in problem.hint and "depend" in problem.hint


def test_a_function_that_returns_and_never_emits_is_refused():
    for make in (
        lambda how: km.MapReduce(ones, lambda key, values, emit: sum(values), compile=how),
        lambda how: km.MapReduce(lambda line, emit: (line, 1), "sum", compile=how),
    ):
        for how in ("auto", "never"):
            problem = failure_of(make, how)
            assert problem.code is Code.BAD_SETTING and "never uses emit" in problem.what
            assert "test_first_mistakes.py" in problem.where and "emit(...)" in problem.hint


def test_functions_that_return_nothing_or_use_emit_in_any_way_are_taken():
    def nothing(key, values, emit):
        for _ in values:
            pass

    def inside(key, values, emit):
        return [emit(value) for value in values]

    def handed_on(key, values, emit):
        return list(map(emit, values))

    for function in (nothing, inside, handed_on, lambda key, values, emit: emit(sum(values))):
        km.MapReduce(ones, function, schema=(PAIRS, PAIRS), compile="never")


class Stop(BaseException):
    pass


@pytest.mark.parametrize("problem", [GeneratorExit, Stop])
@pytest.mark.parametrize("how", ["auto", "never"])
def test_whatever_a_map_raises_names_its_line_and_the_record(problem, how):
    def raises(line, emit):
        if line == "bb":
            raise problem
        emit(line, 1)

    found = failure_of(rows_of, km.MapReduce(raises, "sum", schema=PAIRS, compile=how))
    assert found.code is Code.FUNCTION_FAILED and problem.__name__ in found.what
    assert "test_first_mistakes.py:" in found.what and "bb" in found.hint


def test_an_interrupt_in_a_function_is_no_failure_of_it():
    def interrupted(line, emit):
        raise KeyboardInterrupt

    job = km.MapReduce(interrupted, "sum", schema=PAIRS, compile="never")
    assert failure_of(rows_of, job).code is Code.CANCELLED


@pytest.mark.parametrize("name", ["a" * 101, "-a", "a/b"])
def test_an_output_that_can_be_no_folder_is_refused_when_the_job_is_made(name):
    problem = failure_of(km.MapReduce, ones, "sum", outputs={name: km.Output(key="line")})
    assert problem.code is Code.BAD_SETTING and "up to 100 letters" in problem.hint and len(problem.what) < 200


def test_an_order_that_is_none_of_three_is_told_of_all():
    problem = failure_of(km.MapReduce, ones, "sum", order="keys")
    assert problem.code is Code.BAD_SETTING and problem.hint.endswith("order is one of key, value or None")


def test_splits_so_small_that_there_would_be_a_hundred_thousand_tasks_are_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("word\n" * 100_000)
    counted = km.MapReduce(ones, "sum", schema=PAIRS)(km.scan_text(path))
    problem = failure_of(counted.collect, split_size=1)
    assert problem.code is Code.BAD_SETTING and "125,000 tasks" in problem.what and "2 bytes or more" in problem.hint
    assert plan_job(counted._plan, split_bytes=2).graph.stages[0].tasks <= 100_000
