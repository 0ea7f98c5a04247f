"""Codes that are written as they came, statistics of texts, and columns whose values do not repeat."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kernelmill.engine.io.parquet_texts import one_column
from kernelmill.engine.io.parquet_write import PartWriter
from kernelmill.engine.plan.physical import ToParquet


def written(path, batches, schema, rows=1 << 20, unique=()):
    with PartWriter(str(path), ToParquet("snappy", rows, True, schema, unique)) as writer:
        for batch in batches:
            writer.write(batch)
        writer.close()
    return pq.ParquetFile(path)


def batch_of(**columns):
    return pa.RecordBatch.from_pydict(columns)


def coded(codes, texts, kind=None):
    return pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(texts, kind or pa.string()))


SCHEMA = pa.schema({"t": pa.string()})


def test_codes_come_back_as_plain_text_whatever_their_dictionaries(tmp_path):
    pieces = [coded([2, None, 0], ["x", "unused", "y"]), coded([0, 1], ["y", "z"]), coded([1, 1], ["", "x"])]
    file = written(tmp_path / "p.parquet", [batch_of(t=piece) for piece in pieces], SCHEMA)
    assert file.schema_arrow.field("t").type == pa.string()
    assert file.read()["t"].to_pylist() == ["y", None, "x", "y", "z", "x", "x"]


def test_a_row_groups_dictionary_has_what_its_rows_use_in_order_of_first_use():
    made = one_column([coded([2, None, 0], ["x", "unused", "y"]), coded([0, 1], ["y", "z"])])
    assert made.dictionary.to_pylist() == ["y", "x", "z"]
    assert made.to_pylist() == ["y", None, "x", "y", "z"]


def test_codes_beside_plain_text_and_large_dictionaries_become_plain():
    assert one_column([coded([0], ["x"]), pa.array(["y"])]).equals(pa.array(["x", "y"]))
    many = [f"{n:040d}" for n in range(40_000)]
    assert one_column([coded(range(40_000), many)]).equals(pa.array(many))
    assert one_column([coded([7, 7], many)]).dictionary.to_pylist() == [many[7]]


def test_row_groups_with_and_without_codes_are_of_one_file(tmp_path):
    plain, codes = pa.array(["a", None, "b"]), coded([0, None, 0], ["c"])
    for name, order in {"codes first": (codes, plain, codes), "plain first": (plain, codes, plain)}.items():
        file = written(tmp_path / name, [batch_of(t=piece) for piece in order], SCHEMA, rows=3)
        assert file.metadata.num_row_groups == 3
        assert file.read()["t"].to_pylist() == [text for piece in order for text in piece.to_pylist()]


def test_a_row_group_ends_by_the_bytes_of_texts_whether_or_not_they_are_codes(tmp_path, monkeypatch):
    monkeypatch.setattr("kernelmill.engine.io.parquet_write.ROW_GROUP_BYTES_MAX", 10_000)
    codes = coded([n % 3 if n % 7 else None for n in range(2_000)], ["", "four", "x" * 50])
    groups = []
    for name, column in {"codes": codes, "plain": codes.dictionary_decode()}.items():
        about = written(tmp_path / name, [batch_of(t=column)], SCHEMA).metadata
        groups.append([about.row_group(n).num_rows for n in range(about.num_row_groups)])
    assert groups[0] == groups[1] and len(groups[0]) > 3


@pytest.mark.parametrize("kind", [pa.string(), pa.binary()])
@pytest.mark.parametrize(
    "texts", [["b", "ab", None, "c" * 40, ""], [None, None], ["é", "z", "e"], ["same"], ["x" * 5_000, "y"]]
)
def test_statistics_are_those_that_pyarrow_makes(tmp_path, kind, texts):
    values = pa.array(texts, pa.string()).cast(kind)
    columns = {"n": pa.array(range(len(texts))), "t": values, "u": values.dictionary_encode()}
    schema = pa.schema({"n": pa.int64(), "t": kind, "u": kind})
    made = written(tmp_path / "p.parquet", [batch_of(**columns)] * 2, schema, rows=len(texts)).metadata
    pq.write_table(pa.table({**columns, "u": values}), tmp_path / "q.parquet")
    expected = pq.ParquetFile(tmp_path / "q.parquet").metadata
    for group in range(2):
        for at in range(3):
            ours, theirs = made.row_group(group).column(at).statistics, expected.row_group(0).column(at).statistics
            assert ours.to_dict() == theirs.to_dict()


def test_texts_beside_nested_columns_have_statistics_too(tmp_path):
    rows = batch_of(t=pa.array(["b", "a"]), l=pa.array([["x"], []]))
    about = written(tmp_path / "p.parquet", [rows], rows.schema).metadata.row_group(0)
    assert (about.column(0).statistics.min, about.column(0).statistics.max) == ("a", "b")


def test_without_statistics_there_are_none(tmp_path):
    with PartWriter(str(tmp_path / "p.parquet"), ToParquet("none", 100, False, SCHEMA)) as writer:
        writer.write(batch_of(t=["x"]))
        writer.close()
    assert pq.ParquetFile(tmp_path / "p.parquet").metadata.row_group(0).column(0).statistics is None


def test_columns_that_do_not_repeat_have_no_dictionary(tmp_path):
    rng, rows = np.random.default_rng(1), 40_000
    columns = {
        "repeats": pa.array(rng.integers(0, 1_000, rows)),
        "alone": pa.array(rng.permutation(rows)),
        "float": pa.array(rng.random(rows)),
        "text": pa.array([f"id{n}" for n in range(rows)]),
        "short": pa.array(rng.integers(0, 100, rows).astype(np.int8)),
        "mostly_null": pa.array([n if n % 200 == 0 else None for n in range(rows)]),
        "bytes": pa.array([b"%016d" % n for n in range(rows)], pa.binary(16)),
        "few_bytes": pa.array([b"%04d" % (n % 900) for n in range(rows)], pa.binary(4)),
    }
    rows = batch_of(**columns)
    file = written(tmp_path / "p.parquet", [rows], rows.schema)
    about = file.metadata.row_group(0)
    has = {name: about.column(at).has_dictionary_page for at, name in enumerate(columns)}
    alone = {"alone", "float", "text", "bytes"}
    assert has == {name: name not in alone for name in columns}
    assert "DELTA_BINARY_PACKED" in about.column(1).encodings
    assert file.read().combine_chunks().equals(pa.table(columns))
