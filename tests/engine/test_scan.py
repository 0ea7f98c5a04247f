"""Readers: options are checked where they are written, schemas are known, foreign data comes in as plain types."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.plan.logical import ScanText


def code_of(call) -> Code:
    with pytest.raises(KernelmillError) as caught:
        call()
    return caught.value.code


@pytest.fixture
def text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"one\r\ntwo\n\nlast")
    return tmp_path / "a.txt"


def test_lines_are_one_column_that_holds_no_null(text):
    lazy = km.scan_text(text)
    assert lazy.schema.to_arrow() == pa.schema([pa.field("line", pa.string(), nullable=False)])
    assert lazy.collect().rows() == [("one",), ("two",), ("",), ("last",)]


def test_paths_and_offsets_are_further_columns(text):
    lazy = km.scan_text(text, include_file_paths="path", include_offsets="at")
    assert dict(lazy.schema) == {"line": pa.string(), "path": pa.string(), "at": pa.int64()}
    assert lazy.select("at", "path").collect().rows()[-1] == (10, str(text))


def test_whole_files_are_called_text(text):
    assert km.scan_text(text, whole_file=True).columns == ["text"]


def test_unchecked_text_is_binary(text):
    assert dict(km.scan_text(text, invalid="binary").schema) == {"line": pa.binary()}


@pytest.mark.parametrize(
    "options",
    [
        {"invalid": "ignore"},
        {"separator": ""},
        {"separator": 3},
        {"max_line": "long"},
        {"max_line": 0},
        {"whole_file": "yes"},
        {"include_file_paths": ""},
        {"encoding": "utf-9"},
        {"encoding": "idna"},
        {"encoding": "hex"},
        {"encoding": None},
        {"encoding": ["utf-8"]},
        {"errors": "replace"},
        {"n_rows": 3},
    ],
)
def test_a_bad_option_of_text_is_a_bad_setting(text, options):
    assert code_of(lambda: km.scan_text(text, **options)) is Code.BAD_SETTING


def test_names_of_encodings_are_settled(text):
    plan = km.scan_text(text, encoding="UTF8")._plan
    assert isinstance(plan, ScanText)
    assert plan.options.encoding == "utf-8"


def test_a_column_name_twice_is_found_at_the_scan(text):
    assert code_of(lambda: km.scan_text(text, include_offsets="line")) is Code.DUPLICATE_COLUMN


@pytest.mark.parametrize("name", ["a.txt.xz", "A.ZIP", "a.7z"])
def test_text_in_a_format_that_is_not_read_is_refused_not_counted(text, name):
    (text.parent / name).write_bytes(text.read_bytes())
    assert code_of(lambda: km.scan_text(text.parent, invalid="replace")) is Code.FORMAT


@pytest.mark.parametrize(("scan", "suffix"), [(km.scan_text, "txt"), (km.scan_parquet, "parquet")])
def test_an_iterator_may_name_the_inputs(tmp_path, scan, suffix):
    for name in ("a", "b"):
        pq.write_table(pa.table({"n": [1]}), tmp_path / f"{name}.parquet")
        (tmp_path / f"{name}.txt").write_bytes(b"1\n")
    assert scan(tmp_path.glob(f"*.{suffix}")).collect().height == 2


@pytest.mark.parametrize("scan", [km.scan_text, km.scan_parquet, km.read_text, km.read_parquet])
def test_a_missing_file_is_found_at_the_scan(tmp_path, scan):
    assert code_of(lambda: scan(tmp_path / "nothing")) is Code.INPUT_NOT_FOUND


def test_types_are_widened_across_parquet_files(tmp_path):
    pq.write_table(pa.table({"n": pa.array([1], pa.int32())}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"n": pa.array([2], pa.int64())}), tmp_path / "b.parquet")
    lazy = km.scan_parquet(tmp_path)
    assert dict(lazy.schema) == {"n": pa.int64()}
    assert lazy.collect().to_dict() == {"n": [1, 2]}


def test_parquet_files_that_disagree_are_a_conflict(tmp_path):
    pq.write_table(pa.table({"n": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"n": ["x"]}), tmp_path / "b.parquet")
    assert code_of(lambda: km.scan_parquet(tmp_path)) is Code.SCHEMA_CONFLICT


def test_a_missing_column_is_an_error_or_null_as_asked(tmp_path):
    pq.write_table(pa.table({"n": [1], "m": [2]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"n": [3]}), tmp_path / "b.parquet")
    assert code_of(lambda: km.scan_parquet(tmp_path)) is Code.SCHEMA_CONFLICT
    assert km.scan_parquet(tmp_path, missing_columns="null").collect().to_dict() == {"n": [1, 3], "m": [2, None]}
    assert code_of(lambda: km.scan_parquet(tmp_path, missing_columns="skip")) is Code.BAD_SETTING
    assert code_of(lambda: km.scan_parquet(tmp_path, columns=["n"])) is Code.BAD_SETTING


def test_what_is_no_parquet_is_a_format_error(text):
    assert code_of(lambda: km.scan_parquet(text)) is Code.FORMAT


def test_a_file_without_row_groups_gives_no_rows(tmp_path):
    pq.write_table(pa.table({"n": pa.array([], pa.int64())}), tmp_path / "a.parquet")
    assert km.scan_parquet(tmp_path).collect().shape == (0, 1)


def test_tables_batches_readers_and_capsules_come_in():
    table = pa.table({"n": [1, 2]})
    for data in (table, table.to_batches()[0], table.to_reader(), pl.DataFrame({"n": [1, 2]})):
        assert km.from_arrow(data).collect().to_dict() == {"n": [1, 2]}
    assert code_of(lambda: km.from_arrow([1, 2])) is Code.BAD_SETTING


def test_every_layout_of_text_and_dictionaries_become_plain():
    words = ["a", None, "b"]
    table = pa.table(
        {
            "view": pa.array(words, pa.string_view()),
            "large": pa.array(words, pa.large_string()),
            "coded": pa.array(words).dictionary_encode(),
            "bytes": pa.array([b"a", None, b"b"], pa.large_binary()),
            "lists": pa.array([["a"], None, []], pa.large_list(pa.large_string())),
        }
    )
    lazy = km.from_arrow(table)
    assert [str(kind) for kind in lazy.schema.values()] == [*["string"] * 3, "binary", "list<item: string>"]
    assert lazy.collect().to_dict() == table.to_pydict()


def test_columns_of_the_same_name_are_refused():
    batch = pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], names=["n", "n"])
    assert code_of(lambda: km.from_arrow(batch)) is Code.DUPLICATE_COLUMN


def test_values_that_are_no_columns_are_refused(tmp_path):
    pq.write_table(pa.table({}), tmp_path / "none.parquet")
    assert code_of(lambda: km.scan_parquet(tmp_path / "none.parquet")) is Code.BAD_SETTING
    for given in (pa.chunked_array([[1]]), pl.Series("a", [1]), pa.table({})):
        assert code_of(lambda given=given: km.from_arrow(given)) is Code.BAD_SETTING


@pytest.mark.parametrize("option", ["separator", "include_file_paths", "include_offsets"])
def test_half_a_character_is_no_text_of_an_option(text, option):
    assert code_of(lambda: km.scan_text(text, **{option: "\ud800"})) is Code.BAD_SETTING
