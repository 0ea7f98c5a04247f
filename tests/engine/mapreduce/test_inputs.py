"""What a map may read: lines, documents, columns of every type and source; compiled or not, the same rows."""

from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError

INTS = {f"{sign}int{bits}": getattr(pa, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)}
INTS.pop("uint64")
FLOATS = {"float32": pa.float32(), "float64": pa.float64()}
VALUES = {
    **{
        name: pa.array([0, 1, 7, 2 ** (kind.bit_width - 1) - 1, None, 7, 0 if name[0] == "u" else -3], kind)
        for name, kind in INTS.items()
    },
    **{name: pa.array([0.0, -0.0, 1.5, math.nan, None, math.inf, -2.25], kind) for name, kind in FLOATS.items()},
    "bool": pa.array([True, False, None, True, True, False, None]),
    "string": pa.array(["a", "", None, "héé", "a b", "x" * 40, "a"]),
    "large_string": pa.array(["a", "", None, "héé", "a b", "x" * 40, "a"], pa.large_string()),
    "dictionary": pa.array(["a", "b", None, "a", "b", "a", "c"]).dictionary_encode(),
}


def with_null(value, emit):
    if value is None:
        emit("null", 1)
    else:
        emit("there", 1)


def as_key(value, emit):
    emit(value, 1)


def rows_of(job, frame):
    return job(frame).collect(progress=False, split_size=1000).rows()


def same(left, right):
    return str(sorted(map(str, left))) == str(sorted(map(str, right)))


@pytest.mark.parametrize("name", VALUES)
def test_a_column_of_every_compiled_type_gives_what_plain_python_gives(name):
    frame = km.from_arrow(pa.table({"value": VALUES[name]}))
    compiled = km.MapReduce(with_null, "sum", compile="require")
    nulls = VALUES[name].null_count
    expected = [("null", nulls), ("there", 7 - nulls)]
    assert rows_of(compiled, frame) == expected
    kind = str(frame.schema["value"])
    kept = {"int": "int64", "uint": "int64", "float": "float64", "double": "float64", "bool": "bool"}
    emitted = next((made for start, made in kept.items() if kind.startswith(start)), "string")
    plain = km.MapReduce(as_key, "sum", schema={"key": emitted, "value": "int64"}, compile="never")
    keyed = km.MapReduce(as_key, "sum", compile="require")
    assert same(rows_of(keyed, frame), rows_of(plain, frame)) and keyed(frame).schema["key"] == emitted


def test_rows_of_all_types_at_once_by_name_and_with_nulls():
    frame = km.from_arrow(pa.table(VALUES))

    def describe(row, emit):
        if row.int8 is not None and row.string is not None and row.float64 is not None:
            emit(row.string, row.int8 + len(row.string))
        if row.dictionary is not None and row.uint32 is not None and row.float32 is not None:
            emit(row.dictionary, row.uint32 + int(row.float32 > 0))
        if row.bool and row.int64 is not None:
            emit("true", row.int64)

    compiled = km.MapReduce(describe, "sum", compile="require")
    plain = km.MapReduce(describe, "sum", schema={"key": "string", "value": "int64"}, compile="never")
    assert rows_of(compiled, frame) == rows_of(plain, frame)


NOT_COMPILED = {
    "uint64": pa.array([1, 2**64 - 1, None], pa.uint64()),
    "date": pa.array([dt.date(2024, 2, 29), None, dt.date(1, 1, 1)]),
    "timestamp": pa.array([dt.datetime(2024, 2, 29, 1, 2, 3), None, None]),
    "time": pa.array([dt.time(1, 2, 3), None, None]),
    "decimal": pa.array([Decimal("1.5"), None, None]),
    "binary": pa.array([b"a\xff", None, b""]),
    "list": pa.array([[1, 2], None, []], pa.list_(pa.int64())),
    "struct": pa.array([{"a": 1}, None, {"a": 2}]),
}


@pytest.mark.parametrize("name", NOT_COMPILED)
def test_other_types_run_as_plain_python_and_the_reason_names_the_column(name):
    values = NOT_COMPILED[name]
    frame = km.from_arrow(pa.table({"value": values}))
    job = km.MapReduce(with_null, "sum", schema={"key": "string", "value": "int64"})
    with pytest.warns(km.InterpretedFunctionWarning, match="'value'"):
        planned = job(frame)
    assert planned.collect().rows() == [("null", values.null_count), ("there", 3 - values.null_count)]
    with pytest.raises(KernelmillError) as caught:
        km.MapReduce(with_null, "sum", schema={"key": "string", "value": "int64"}, compile="require")(frame)
    assert caught.value.code is Code.INTERPRETED and "'value'" in caught.value.what


def test_dates_arrive_as_pythons_own():
    def years(row, emit):
        emit(row.day.year, row.at.hour)

    day, at = [dt.date(2024, 2, 29), dt.date(2023, 1, 1)], [dt.datetime(2024, 1, 1, 7)] * 2
    frame = km.from_arrow(pa.table({"day": day, "at": at}))
    job = km.MapReduce(years, "sum", schema={"key": "int64", "value": "int64"}, compile="never")
    assert rows_of(job, frame) == [(2023, 7), (2024, 7)]


# Sources --------------------------------------------------------------------------------------------------------------


def words(text, emit):
    for word in text.split():
        emit(word, 1)


def line_words(row, emit):
    for word in row.line.split():
        emit(word, row.n)


COUNTS = {"word": "string", "n": "int64"}


@pytest.fixture
def texts(tmp_path):
    (tmp_path / "a.txt").write_text("to be\nor not\n\nto be\n")
    (tmp_path / "b.txt").write_text("be héro\n")
    return tmp_path / "*.txt"


@pytest.mark.parametrize("whole", [False, True])
def test_lines_and_whole_documents(texts, tmp_path, whole):
    seen = km.MapReduce(lambda text, emit: emit(len(text), 1), "sum", key="size", value="n", compile="require")
    frame = km.scan_text(texts, whole_file=whole)
    sizes = [20, 8] if whole else [5, 6, 0, 5, 7]
    assert rows_of(seen, frame) == sorted({size: sizes.count(size) for size in sizes}.items())
    job = km.MapReduce(words, "sum", key="word", value="n", compile="require")
    result = job.run(frame, output=tmp_path / "out")
    expected = [("be", 3), ("héro", 1), ("not", 1), ("or", 1), ("to", 2)]
    assert km.read_parquet(tmp_path / "out").rows() == expected and result.rows == 5


def test_columns_of_parquet_one_and_several(tmp_path):
    table = pa.table({"line": ["a b", None, "b"], "n": pa.array([2, 3, 4], pa.int16()), "x": [0.5, None, 1.5]})
    pq.write_table(table, tmp_path / "t.parquet", row_group_size=2)
    frame = km.scan_parquet(tmp_path / "t.parquet").filter(km.col("line").is_not_null())
    one = km.MapReduce(words, "sum", key="word", value="n", schema=COUNTS, compile="never")
    assert rows_of(one, frame.select("line")) == [("a", 1), ("b", 2)]
    plain = km.MapReduce(line_words, "sum", key="word", value="n", schema=COUNTS, compile="never")
    assert rows_of(plain, frame) == [("a", 2), ("b", 6)]

    def guarded(row, emit):
        if row.line is not None and row.n is not None:
            for word in row.line.split():
                emit(word, row.n)

    compiled = km.MapReduce(guarded, "sum", key="word", value="n", compile="require")
    assert rows_of(compiled, km.scan_parquet(tmp_path / "t.parquet")) == [("a", 2), ("b", 6)]
    columns = compiled.explain(km.scan_parquet(tmp_path / "t.parquet").select("line", "n"))
    assert "ReadParquet line: string, n: int16" in columns  # and not x


def test_the_output_of_another_job_a_cached_frame_and_a_source_of_ones_own(texts):
    first = km.MapReduce(words, "sum", key="word", value="n", compile="require")

    def by_count(row, emit):
        if row.word is not None and row.n is not None:
            emit(row.n, len(row.word))

    second = km.MapReduce(by_count, "sum", key="times", value="letters", compile="require")
    expected = [(1, 9), (2, 2), (3, 2)]
    assert rows_of(second, km.scan_text(texts).pipe(first)) == expected
    with km.scan_text(texts).pipe(first).cache() as cached:
        assert rows_of(second, cached) == expected

    class Pairs:
        schema = pa.schema([("word", pa.string()), ("n", pa.int32())])

        def splits(self):
            return [1, 2]

        def read(self, split):
            yield pa.record_batch([pa.array(["ab", None]), pa.array([split, 5], pa.int32())], schema=self.schema)

    assert rows_of(second, km.scan_source(Pairs())) == [(1, 2), (2, 2)]


def test_a_frame_without_rows():
    frame = km.from_arrow(pa.table({"line": pa.array([], pa.string())}))
    assert rows_of(km.MapReduce(words, "sum", key="word", value="n", compile="require"), frame) == []


def test_sliced_columns_with_offsets():
    table = pa.table({"value": pa.array([None, "a", "b", None, "c"] * 50), "n": pa.array(range(250), pa.int32())})
    frame = km.from_arrow(table.slice(3, 200))

    def pairs(row, emit):
        if row.value is not None and row.n is not None:
            emit(row.value, row.n)

    compiled = km.MapReduce(pairs, "sum", compile="require")
    plain = km.MapReduce(pairs, "sum", schema={"key": "string", "value": "int64"}, compile="never")
    assert rows_of(compiled, frame) == rows_of(plain, frame)
