"""Functions sent by name: a worker that lists them runs them, and nothing else; the client says what has no name."""

import functools
import importlib
import sys

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traveling import KEY, opened, packed, run_all, written

import kernelmill as km
from kernelmill.cluster.jobspec.code import Contents
from kernelmill.cluster.jobspec.parts import spec_digest
from kernelmill.cluster.jobspec.registered import open_registered, pack_registered
from kernelmill.cluster.keys.signing import sign_spec
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.plan.logical import SinkParquet
from kernelmill.engine.plan.planner import plan_job
from kernelmill.engine.userfunctions import UserFunction

MODULE = """
STOP = {"the"}

def words(line, emit, least):
    for word in line.split():
        if len(word) >= least and word not in STOP:
            emit(word, 1)

def other(line, emit):
    emit(line, 2)

def outer():
    def inner(line, emit):
        emit(line, 1)
    return inner
"""
LISTED = ("fleet_jobs:words",)


@pytest.fixture
def jobs(tmp_path, monkeypatch):
    """A module that clients and workers have."""
    folder = tmp_path / "modules"
    folder.mkdir()
    (folder / "fleet_jobs.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.delitem(sys.modules, "fleet_jobs", raising=False)
    yield importlib.import_module("fleet_jobs")
    sys.modules.pop("fleet_jobs", None)


def a_job(function, folder, side=None, **more):
    (folder / "in.txt").write_text("the cat and the dog\na cat\n")
    job = km.MapReduce(function, "sum", schema={"key": "string", "value": "int64"}, side=side)
    plan = plan_job(
        SinkParquet(job(km.scan_text(str(folder / "in.txt")))._plan, str(folder / "out"), False), split_bytes=1 << 20
    )
    return packed(None, folder, plan=plan, **more)


def refused(call):
    with pytest.raises(KernelmillError) as caught:
        call()
    return caught.value


def function_of(given, **more):
    return UserFunction(given, "map", "f", "job.py:1", **more)


def test_a_listed_function_is_run_with_what_side_binds(jobs, tmp_path):
    job = a_job(jobs.words, tmp_path, {"least": 3}, code_policy="registered")
    assert job.sheet.policy.code == "registered"
    assert b"fleet_jobs" in b"".join(job.contents.values())
    found = opened(job, written(job, tmp_path / "parts"), tmp_path, registered=LISTED)
    files = run_all(found, tmp_path / "spill")[1]
    assert sorted(pa.parquet.read_table(files[0]).to_pylist(), key=str) == [
        {"key": word, "value": n} for word, n in (("and", 1), ("cat", 2), ("dog", 1))
    ]


@pytest.mark.parametrize("listed", [None, (), ("fleet_jobs:other",), ("fleet_jobs:word",)])
def test_a_function_that_is_not_listed_is_not_even_imported(jobs, tmp_path, listed):
    job = a_job(jobs.words, tmp_path, {"least": 3}, code_policy="registered")
    parts = written(job, tmp_path / "parts")
    sys.modules.pop("fleet_jobs")
    problem = refused(lambda: opened(job, parts, tmp_path, registered=listed))
    assert problem.code is Code.CODE_REFUSED
    assert "fleet_jobs:words" in problem.what and "fleet_jobs" not in sys.modules


def test_code_that_is_brought_along_is_not_unpickled_where_functions_are_registered(jobs, tmp_path, monkeypatch):
    job = a_job(jobs.words, tmp_path, {"least": 3})
    monkeypatch.setattr("kernelmill.cluster.jobspec.opening.unpack_code", lambda data: pytest.fail("it was unpickled"))
    problem = refused(lambda: opened(job, written(job, tmp_path / "parts"), tmp_path, registered=LISTED))
    assert problem.code is Code.CODE_REFUSED and "code_policy" in problem.hint


@pytest.mark.parametrize("listed", [None, LISTED])
def test_a_pickle_under_the_policy_of_names_is_not_unpickled(jobs, tmp_path, monkeypatch, listed):
    job = a_job(jobs.words, tmp_path, {"least": 3})
    policy = msgspec.structs.replace(job.sheet.policy, code="registered")
    sheet = msgspec.structs.replace(job.sheet, policy=policy)
    signature = sign_spec(KEY, spec_digest(job.job, sheet, job.parts, job.expires_s), job.expires_s)
    monkeypatch.setattr("kernelmill.cluster.jobspec.opening.unpack_code", lambda data: pytest.fail("it was unpickled"))
    parts = written(job, tmp_path / "parts")
    problem = refused(lambda: opened(job, parts, tmp_path, sheet=sheet, signature=signature, registered=listed))
    assert problem.code is Code.PROTOCOL


def test_a_job_without_code_runs_there_too(tmp_path):
    frame = km.from_arrow(pa.table({"n": [1, 2]}))
    job = packed(frame, tmp_path)
    assert opened(job, written(job, tmp_path / "parts"), tmp_path, registered=LISTED).plan.functions == ()


def test_another_version_of_the_function_is_refused(jobs, tmp_path):
    job = a_job(jobs.words, tmp_path, {"least": 3}, code_policy="registered")
    source = tmp_path / "modules" / "fleet_jobs.py"
    source.write_text(MODULE.replace("emit(word, 1)", "emit(word, 2)"))
    exec(compile(source.read_text(), str(source), "exec"), vars(jobs))
    problem = refused(lambda: opened(job, written(job, tmp_path / "parts"), tmp_path, registered=LISTED))
    assert problem.code is Code.CODE_REFUSED and "another function" in problem.what


def test_a_listed_function_whose_module_is_missing_is_named(jobs, tmp_path, monkeypatch):
    job = a_job(jobs.words, tmp_path, {"least": 3}, code_policy="registered")
    parts = written(job, tmp_path / "parts")
    monkeypatch.setitem(sys.modules, "fleet_jobs", None)
    problem = refused(lambda: opened(job, parts, tmp_path, registered=LISTED))
    assert problem.code is Code.CODE_REFUSED and "ModuleNotFoundError" in problem.what


def test_what_has_no_name_is_refused_by_the_client(jobs, tmp_path):
    def local(line, emit):
        emit(line, 1)

    for function in (local, lambda line, emit: emit(line, 1), jobs.outer(), functools.partial(jobs.other), len):
        problem = refused(lambda function=function: pack_registered(Contents((function_of(function),), {}, None)))
        assert problem.code is Code.CODE_REFUSED and "--registered" in problem.hint
    main = type(local)(jobs.other.__code__, {}, "other")
    main.__module__, main.__qualname__ = "__main__", "other"
    assert "the program itself" in refused(lambda: pack_registered(Contents((function_of(main),), {}, None))).what
    problem = refused(lambda: a_job(local, tmp_path, code_policy="registered"))
    assert problem.code is Code.CODE_REFUSED and "test_registered.py" in problem.where


@pytest.mark.parametrize("value", [object(), 1 << 70, [1, {2: {object}}], pa.array([1]), type("L", (list,), {})()])
def test_side_values_that_are_objects_are_refused_by_the_client(jobs, value):
    function = function_of(jobs.words, keywords={"least": value})
    assert refused(lambda: pack_registered(Contents((function,), {}, None))).code is Code.CODE_REFUSED


_hashable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(1 << 63), (1 << 64) - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=3),
    max_leaves=5,
)
_values = st.recursive(
    _hashable | st.sets(_hashable, max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_hashable, inner, max_size=4),
    max_leaves=10,
)


def plain(line, emit, value):
    emit(line, 1)


@settings(max_examples=60, deadline=None)
@given(_values)
def test_side_values_arrive_as_they_are(value):
    data = pack_registered(Contents((function_of(plain, keywords={"value": value}),), {}, None))
    found = open_registered(data, [f"{__name__}:plain"]).functions[0].keywords["value"]
    assert found == value and type(found) is type(value)


@settings(max_examples=100, deadline=None)
@given(
    st.binary(max_size=60)
    | st.recursive(st.none() | st.integers(0, 5) | st.text(max_size=3), st.lists).map(
        lambda body: msgspec.msgpack.encode([1, [[["a:b", b"d"], "map", "f", "w", {"k": body}, "auto", []]]])
    )
)
def test_bytes_that_are_no_list_of_functions_are_an_error_and_import_nothing(data):
    before = set(sys.modules)
    problem = refused(lambda: open_registered(data, ()))
    assert problem.code in (Code.PROTOCOL, Code.CODE_REFUSED)
    assert set(sys.modules) == before
