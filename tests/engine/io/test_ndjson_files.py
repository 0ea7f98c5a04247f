"""JSON lines: objects come back as they were written, whatever the splits; what is no object is named."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError

few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
SCHEMA = {"a": "int64", "s": "string", "l": "list<float64>"}
OBJECTS = st.fixed_dictionaries(
    {},
    optional={
        "a": st.one_of(st.none(), st.integers(-(1 << 63), (1 << 63) - 1)),
        "s": st.one_of(st.none(), st.text(max_size=5)),
        "l": st.one_of(st.none(), st.lists(st.floats(-1e9, 1e9), max_size=3)),
        "other": st.sampled_from([1, {"x": []}, "y"]),
    },
)


def code_of(call) -> Code:
    with pytest.raises(KernelmillError) as caught:
        call()
    return caught.value.code


@pytest.fixture
def save(tmp_path):
    def save(data: bytes, name: str = "a.jsonl"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return save


@few
@given(st.lists(OBJECTS, max_size=25), st.booleans(), st.integers(1, 100))
def test_objects_come_back_as_they_were_written(save, objects, ascii_only, split_size):
    path = save("".join(json.dumps(one, ensure_ascii=ascii_only) + "\n" for one in objects).encode())
    frame = km.scan_ndjson(path, schema=SCHEMA)
    assert frame.collect(split_size=split_size, threads=2).rows() == [
        tuple(one.get(name) for name in SCHEMA) for one in objects
    ]


@few
@given(
    st.lists(
        st.sampled_from(
            ['{"a": 1}', "null", "3", "[1]", '{"a": "x"}', '{"a":', '{"a":1}{"a":2}', "", ' {"a": 2}', "{}"]
        ),
        max_size=20,
    ),
    st.integers(1, 40),
)
def test_what_is_no_object_goes_to_the_rejects_with_its_line(save, lines, split_size):
    path = save("".join(line + "\n" for line in lines).encode())
    good = {'{"a": 1}': (1,), ' {"a": 2}': (2,), "{}": (None,)}
    frame = km.scan_ndjson(path, schema={"a": "int64"})
    found = frame.collect(split_size=split_size, on_bad="reject", threads=1)
    assert found.rows() == [good[line] for line in lines if line in good]
    bad = [number for number, line in enumerate(lines, 1) if line and line not in good]
    assert (found.rejects["line"].to_pylist() if bad else []) == bad
    if bad:
        expected = Code.CAST if lines[bad[0] - 1] == '{"a": "x"}' else Code.FORMAT
        assert code_of(lambda: frame.collect(split_size=split_size, threads=1)) is expected


def test_objects_in_objects_become_structs_and_types_are_told_by_the_first_lines(save):
    path = save(b'{"a":1,"b":{"x":[1,2],"t":"2020-01-02"}}\n{"a":2.5,"c":null}\nnot json\n')
    frame = km.scan_ndjson(path)
    assert frame.schema["a"] == pa.float64()
    assert frame.schema["b"] == pa.struct([("x", pa.list_(pa.int64())), ("t", pa.timestamp("us"))])
    assert frame.schema["c"] == pa.string()
    assert frame.select("a").collect(on_bad="reject").rows() == [(1.0,), (2.5,)]


def test_values_without_a_common_type_need_one_named(save):
    path = save(b'{"a":1}\n{"a":"x"}\n')
    assert code_of(lambda: km.scan_ndjson(path)) is Code.SCHEMA_CONFLICT
    assert code_of(lambda: km.scan_ndjson(save(b"\n", "b.jsonl"))) is Code.FORMAT


def test_one_path_is_a_column_and_can_be_all_that_is_read(save, tmp_path):
    save(b'{"a":1}\n{"a":2}\n', "1.ndjson")
    save(b'{"a":3}\n', "2.ndjson")
    frame = km.scan_ndjson(tmp_path, include_file_paths="path")
    assert frame.select("path").collect().height == 3
    assert frame.collect().rows()[2] == (3, str(tmp_path / "2.ndjson"))
