"""`import kernelmill` is quick, its names come on first use, and an unknown one is answered with the nearest."""

from __future__ import annotations

import subprocess
import sys

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError


def loaded_after(code: str) -> set[str]:
    command = f"{code}\nimport sys; print(*(name for name in sys.modules if '.' not in name))"
    run = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True, timeout=60)
    return set(run.stdout.splitlines()[-1].split())


def test_the_import_alone_loads_nothing_heavy():
    heavy = {"pyarrow", "numpy", "numba", "llvmlite", "msgspec", "rich", "click", "zmq", "tomllib"}
    assert not heavy & loaded_after("import kernelmill")


def test_planning_and_explaining_load_no_compiler(tmp_path):
    (tmp_path / "a.txt").write_text("to be")
    code = f"""
import kernelmill as km
words = km.scan_text({str(tmp_path)!r}).select(word=km.col("line").str.tokenize()).explode("word")
words.group_by("word").agg(km.len()).top_k(3, by="len").explain()"""
    assert not {"numba", "llvmlite", "zmq", "pandas", "polars"} & loaded_after(code)


@pytest.mark.parametrize("name", km.__all__)
def test_every_public_name_is_there(name):
    assert getattr(km, name) is not None
    assert name in dir(km)


def test_public_names_are_those_of_their_modules():
    from kernelmill.engine.expr import len as length
    from kernelmill.engine.frame import LazyFrame

    assert (km.len, km.LazyFrame) == (length, LazyFrame)


def members_of(protocol):
    return [name for name in vars(protocol) if not name.startswith("_")]


@pytest.mark.parametrize("missing", [None, *members_of(km.DataSource)])
def test_a_source_needs_all_that_its_type_has(missing):
    members = {
        "schema": pa.schema([("n", pa.int64())]),
        "splits": lambda self: [1, 2],
        "read": lambda self, split: [pa.record_batch({"n": [split]})],
    }
    members.pop(missing, None)
    source = type("Numbers", (), members)()
    if missing is None:
        assert members.keys() == set(members_of(km.DataSource))
        assert km.scan_source(source).collect().rows() == [(1,), (2,)]
        return
    with pytest.raises(KernelmillError) as caught:
        km.scan_source(source)
    assert caught.value.code is Code.BAD_SETTING and missing in str(caught.value)


@pytest.mark.parametrize("missing", [None, *members_of(km.DataSink)])
def test_a_sink_needs_all_that_its_type_has(missing):
    received = []
    members = {
        "begin": lambda self, schema, parts: None,
        "write": lambda self, part, batches: [row for batch in batches for row in batch.column(0).to_pylist()],
        "commit": lambda self, receipts: received.extend(receipts),
        "abort": lambda self: None,
    }
    members.pop(missing, None)
    frame = km.from_arrow(pa.table({"n": [1, 2]}))
    if missing is None:
        assert members.keys() == set(members_of(km.DataSink))
        frame.sink(type("Shelf", (), members)())
        assert received == [[1, 2]]
        return
    with pytest.raises(KernelmillError) as caught:
        frame.sink(type("Shelf", (), members)())
    assert caught.value.code is Code.BAD_SETTING and missing in str(caught.value)


@pytest.mark.parametrize(
    ("name", "near"), [("scan_txt", "scan_text"), ("scan_lines", "scan_text"), ("Lazyframe", "LazyFrame")]
)
def test_an_unknown_name_is_answered_with_the_nearest(name, near):
    with pytest.raises(AttributeError) as caught:
        getattr(km, name)
    assert isinstance(caught.value, KernelmillError)
    assert (caught.value.code, near in caught.value.hint) == (Code.UNKNOWN_NAME, True)


def test_private_names_are_plainly_missing():
    assert not hasattr(km, "__wrapped__")
    assert not hasattr(km, "_private")
