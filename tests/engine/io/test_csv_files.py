"""CSV: rows come back as they were written, whatever the splits; bad rows are named, and no quote cuts one in two."""

from __future__ import annotations

import bz2
import gzip
from datetime import date, datetime

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError

TEXT = st.one_of(st.none(), st.text(st.sampled_from('ab,"é€ ;#'), max_size=6))
TEXT_OF_LINES = st.one_of(st.none(), st.text(st.sampled_from('a,"\n'), max_size=6))
NUMBER = st.one_of(st.none(), st.integers(-(1 << 63), (1 << 63) - 1))
FLOAT = st.one_of(st.none(), st.floats(allow_nan=False))
FIELD = st.sampled_from(["", '""', "a", " b ", '"x,y"', '"q""q"', "7", "-1.5"])
TYPES = {"n": "int64", "s": "string", "x": "float64"}
few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def code_of(call) -> Code:
    with pytest.raises(KernelmillError) as caught:
        call()
    return caught.value.code


def csv_field(value: object) -> str:
    if value is None:
        return ""
    return '"' + value.replace('"', '""') + '"' if isinstance(value, str) else repr(value)


def csv_bytes(rows, end="\n", header="n,s,x") -> bytes:
    return "".join(line + end for line in [header, *(",".join(map(csv_field, row)) for row in rows)]).encode()


@pytest.fixture
def save(tmp_path):
    def save(data: bytes, name: str = "a.csv"):
        (tmp_path / name).write_bytes(data)
        return tmp_path / name

    return save


@few
@given(st.lists(st.tuples(NUMBER, TEXT, FLOAT), max_size=30), st.sampled_from(["\n", "\r\n"]), st.integers(1, 200))
def test_rows_come_back_as_they_were_written(save, rows, end, split_size):
    path = save(csv_bytes(rows, end))
    frame = km.scan_csv(path, schema_overrides=TYPES)
    assert frame.collect(split_size=split_size, threads=2, progress=False).rows() == rows
    assert frame.select("x").collect(split_size=split_size, threads=1).rows() == [(row[2],) for row in rows]


@few
@given(
    st.lists(st.lists(st.sampled_from(["", '""', "a", " b ", '"x,y"', '"q""q"', "7", "-1.5"]), min_size=2, max_size=2))
)
def test_fields_mean_what_polars_takes_them_for(save, rows):
    path = save("".join(",".join(row) + "\n" for row in [["a", "b"], *rows]).encode())
    kinds = {"a": pl.String, "b": pl.String}
    expected = pl.read_csv(path, schema=kinds).rows()
    assert km.scan_csv(path, schema_overrides={"a": "string", "b": "string"}).collect(split_size=9).rows() == expected


@few
@given(st.lists(st.tuples(NUMBER, TEXT_OF_LINES, FLOAT), max_size=30), st.integers(1, 60))
def test_values_with_newlines_come_back_where_files_are_read_whole(save, rows, split_size):
    path = save(csv_bytes(rows))
    frame = km.scan_csv(path, schema_overrides=TYPES, newlines_in_values=True)
    assert frame.collect(split_size=split_size).rows() == rows
    by_sample = km.scan_csv(path, schema_overrides=TYPES)
    assert by_sample.collect(split_size=split_size).rows() == rows


@few
@given(
    st.lists(st.tuples(NUMBER, TEXT, FLOAT), max_size=8),
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(['# a,"b', ""])), max_size=4),
    st.integers(0, 2),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    st.integers(1, 60),
)
def test_what_stands_above_and_between_rows_is_no_row_wherever_files_are_cut(save, rows, between, skip, encoding, size):
    lines = csv_bytes(rows).decode().splitlines(keepends=True)
    for at, line in between:
        lines.insert(at, line + "\n")
    text = "".join(['ti,"tle\n', "x\n"][:skip] + lines)
    path = save(text.encode(encoding))
    frame = km.scan_csv(path, skip_rows=skip, comment_prefix="# ", encoding=encoding, schema_overrides=TYPES)
    assert frame.collect(split_size=size, threads=1).rows() == rows


@few
@given(st.lists(st.sampled_from(["1,a", "x,a", "1", "2,b,c", '3,"c"', "", "4,"]), max_size=30), st.integers(1, 50))
def test_bad_rows_go_to_the_rejects_with_their_line_and_the_others_stay(save, lines, split_size):
    path = save("".join(line + "\n" for line in ["n,s", *lines]).encode())
    frame = km.scan_csv(path, schema_overrides={"n": "int64", "s": "string"})
    good = {"1,a": (1, "a"), '3,"c"': (3, "c"), "4,": (4, None)}
    found = frame.collect(split_size=split_size, on_bad="reject", threads=2)
    assert found.rows() == [good[line] for line in lines if line in good]
    bad = [(number, line) for number, line in enumerate(lines, 2) if line and line not in good]
    rejects = found.rejects.to_dict() if bad else {"line": [], "record": [], "offset": []}
    assert [(n, r.decode()) for n, r in zip(rejects["line"], rejects["record"], strict=True)] == bad
    data = path.read_bytes()
    assert all(data[at:].startswith(r) for at, r in zip(rejects["offset"], rejects["record"], strict=True))
    if bad:
        first = bad[0][1]
        expected = Code.CAST if first == "x,a" else Code.FORMAT
        assert code_of(lambda: frame.collect(split_size=split_size, threads=1)) is expected


def test_an_error_names_file_line_column_and_what_stands_there(save):
    path = save(b"n,s\n1,a\n2,b\nthree,c\n")
    with pytest.raises(KernelmillError) as caught:
        km.scan_csv(path, schema_overrides={"n": "int64"}).collect()
    assert caught.value.code is Code.CAST
    assert caught.value.where == f"{path}, byte 12, line 4"
    assert "'n'" in caught.value.what and "three,c" in caught.value.what


def test_types_are_told_by_the_first_rows(save):
    path = save(b"i,f,t,b,d,at,none\n1,1.5,x,true,2020-01-02,2020-01-02 03:04:05,\n2,2,,false,,2020-01-02T00:00:00,\n")
    frame = km.scan_csv(path)
    at = pa.timestamp("us")
    kinds = [pa.int64(), pa.float64(), pa.string(), pa.bool_(), pa.date32(), at, pa.string()]
    assert list(frame.schema.values()) == kinds
    first = (1, 1.5, "x", True, date(2020, 1, 2), datetime(2020, 1, 2, 3, 4, 5), None)
    assert frame.collect().rows()[0] == first


def test_later_rows_do_not_change_types(save):
    path = save(b"n\n1\n2\n3.5\n")
    assert km.scan_csv(path).schema["n"] == pa.float64()
    frame = km.scan_csv(path, infer_rows=2)
    assert frame.schema["n"] == pa.int64()
    assert code_of(frame.collect) is Code.CAST


def test_empty_is_null_and_quoted_empty_is_text(save):
    path = save(b'a,b\n"",1\n,2\nNA,3\n"NA",4\n')
    frame = km.scan_csv(path, null_values="NA")
    assert frame.collect().rows() == [("", 1), (None, 2), (None, 3), ("NA", 4)]


def test_options_of_a_file_without_header(save):
    path = save(b"title\n\n# a note\n1;x\n# b;c\n2;'y;z'\n", "a.txt")
    frame = km.scan_csv(path, has_header=False, skip_rows=2, comment_prefix="#", separator=";", quote_char="'")
    assert frame.columns == ["column_1", "column_2"]
    assert frame.collect(split_size=5).rows() == [(1, "x"), (2, "y;z")]


def test_a_blank_line_of_one_column_is_a_null(save):
    assert km.scan_csv(save(b"a\n1\n\n2\n")).collect().rows() == [(1,), (None,), (2,)]


def test_quotes_can_mean_nothing(save):
    frame = km.scan_csv(save(b'a,b\n"x,y"\n'), quote_char=None)
    assert frame.collect().rows() == [('"x', 'y"')]


def test_a_quoted_newline_in_a_file_that_is_cut_is_an_error_that_says_what_to_do(save):
    path = save(b"a,b\n" + b"1,x\n" * 200 + b'2,"y\nz"\n' + b"3,w\n" * 200)
    frame = km.scan_csv(path, newlines_in_values=False)
    for on_bad in ("error", "reject"):
        with pytest.raises(KernelmillError) as caught:
            frame.collect(split_size=100, on_bad=on_bad)
        assert caught.value.code is Code.FORMAT
        assert "newlines_in_values=True" in caught.value.hint
    assert "line 202" in caught.value.where
    whole = km.scan_csv(path, newlines_in_values=True).collect(split_size=100).rows()
    assert (len(whole), whole[200]) == (401, (2, "y\nz"))
    assert frame.collect().rows() == whole  # in one split nothing is cut


def test_a_row_whose_first_line_may_be_in_another_range_says_what_to_do(save):
    with pytest.raises(KernelmillError) as caught:
        km.scan_csv(save(b'a,b\n1,x\nz"\n')).collect()
    assert "newlines_in_values=True" in caught.value.hint and "on_bad='reject'" in caught.value.hint


def test_a_quote_that_is_never_closed_is_an_error(save):
    assert code_of(lambda: km.scan_csv(save(b'a,b\n1,"x\n2,y\n'))) is Code.FORMAT


def test_compressed_and_encoded_files_are_read(save):
    data = csv_bytes([(1, "é", 2.5)])
    for name, packed in (("a.csv.gz", gzip.compress(data)), ("b.csv.bz2", bz2.compress(data))):
        assert km.scan_csv(save(packed, name)).collect(split_size=4).rows() == [(1, "é", 2.5)]
    latin = save("n,s\n1,é\n2,ü\nx,ö\n".encode("latin-1"), "c.csv")
    frame = km.scan_csv(latin, encoding="latin-1", schema_overrides={"n": "int64"})
    found = frame.collect(split_size=5, on_bad="reject")
    assert found.rows() == [(1, "é"), (2, "ü")]
    assert found.rejects["offset"].to_pylist() == [12]


def test_bytes_that_are_no_text_are_an_error_or_rejected_or_replaced(save):
    path = save(b"a,b\n1,x\n2,\xff\n3,z\n")
    assert code_of(lambda: km.scan_csv(path)) is Code.ENCODING
    assert km.scan_csv(path, invalid="replace").collect().rows()[1] == (2, "�")
    skipped = km.scan_csv(path, invalid="skip").collect()
    assert (skipped.rows(), skipped.rejects["line"].to_pylist()) == ([(1, "x"), (3, "z")], [3])


def test_files_of_a_folder_are_one_table_with_their_paths(save, tmp_path):
    for number in range(5):
        save(f"n,s\n{number},x\n".encode(), f"{number}.csv")
    frame = km.scan_csv(tmp_path, include_file_paths="path")
    assert frame.collect().rows() == [(n, "x", str(tmp_path / f"{n}.csv")) for n in range(5)]
    assert frame.select("path").collect().height == 5
    assert "1 task" in frame.explain()  # small files share a split


def test_another_header_is_an_error_that_names_file_and_column(save, tmp_path):
    save(b"a,b\n1,2\n", "1.csv")
    other = save(b"a,c\n1,2\n", "2.csv")
    frame = km.scan_csv(tmp_path, infer_rows=1)
    with pytest.raises(KernelmillError) as caught:
        frame.collect()
    assert (caught.value.code, caught.value.where) == (Code.SCHEMA_CONFLICT, str(other))


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"separator": ""}, Code.BAD_SETTING),
        ({"separator": '"'}, Code.BAD_SETTING),
        ({"delimiter": ";"}, Code.BAD_SETTING),
        ({"infer_rows": 0}, Code.BAD_SETTING),
        ({"newlines_in_values": "yes"}, Code.BAD_SETTING),
        ({"schema_overrides": {"z": "int64"}}, Code.COLUMN_NOT_FOUND),
        ({"schema_overrides": {"a": "list<int64>"}}, Code.TYPE_MISMATCH),
        ({"schema": {"a": "int64", "z": "int64"}}, Code.SCHEMA_CONFLICT),
        ({"invalid": "binary"}, Code.BAD_SETTING),
    ],
)
def test_what_cannot_be_is_said_by_the_scan(save, options, code):
    path = save(b"a,b\n1,2\n")
    assert code_of(lambda: km.scan_csv(path, **options)) is code


def test_files_without_rows_have_columns_if_they_have_a_header(save):
    assert km.scan_csv(save(b"a,b\n")).collect().rows() == []
    assert km.scan_csv(save(b"a,b")).columns == ["a", "b"]
    assert code_of(lambda: km.scan_csv(save(b"", "e.csv"))) is Code.FORMAT
    assert km.scan_csv(save(b"", "e.csv"), schema={"a": int}).collect().rows() == []
    assert code_of(lambda: km.scan_csv(save(b"a,a\n1,2\n"))) is Code.DUPLICATE_COLUMN
