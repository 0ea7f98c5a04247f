from __future__ import annotations

from datetime import date, datetime

import pyarrow as pa
import pytest

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.schema import Schema, dtype_text, find, parse_dtype

COLUMNS = pa.schema([pa.field("word", pa.string()), pa.field("len", pa.int64(), nullable=False)])


def test_a_schema_is_a_mapping_in_column_order():
    schema = Schema.of(COLUMNS)
    assert list(schema) == ["word", "len"] == schema.names
    assert dict(schema) == {"word": pa.string(), "len": pa.int64()}
    assert schema == {"word": pa.string(), "len": pa.int64()}
    assert schema != {"len": pa.int64(), "word": pa.string()}
    assert "word" in schema and "other" not in schema
    assert schema.is_nullable("word") and not schema.is_nullable("len")


def test_a_schema_goes_to_arrow_and_back_without_metadata():
    noted = COLUMNS.with_metadata({"a": "b"})
    assert Schema.of(noted).to_arrow().equals(COLUMNS, check_metadata=True)
    assert Schema.of(noted) == Schema.of(COLUMNS)
    assert hash(Schema.of(noted)) == hash(Schema.of(COLUMNS))


def test_a_schema_shows_types_as_users_write_them():
    shown = repr(Schema.of(pa.schema([pa.field("x", pa.float64(), nullable=False), pa.field("y", pa.float32())])))
    assert shown == "Schema(x: float64 not null, y: float32)"


def test_a_missing_column_names_the_closest_and_what_is_there():
    with pytest.raises(KeyError) as caught:
        find(COLUMNS, "wrod", where="report.py:9")
    exc = caught.value
    assert isinstance(exc, KernelmillError)
    assert exc.code is Code.COLUMN_NOT_FOUND
    assert exc.where == "report.py:9"
    assert "'word'" in exc.hint and "word, len" in exc.hint


def test_a_name_in_another_case_is_suggested():
    with pytest.raises(KernelmillError) as caught:
        find(pa.schema([("ID", pa.int64())]), "id")
    assert "'ID'" in caught.value.hint


def test_a_name_that_occurs_twice_is_refused():
    with pytest.raises(KernelmillError) as caught:
        find(pa.schema([("a", pa.int64()), ("a", pa.string())]), "a")
    assert caught.value.code is Code.DUPLICATE_COLUMN


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (pa.int8(), pa.int8()),
        ("int64", pa.int64()),
        (" string ", pa.string()),
        ("timestamp[us]", pa.timestamp("us")),
        ("timestamp[ns, tz=Europe/Berlin]", pa.timestamp("ns", "Europe/Berlin")),
        ("list<int64>", pa.list_(pa.int64())),
        ("list<item: list<string>>", pa.list_(pa.list_(pa.string()))),
        ("decimal128(12, 2)", pa.decimal128(12, 2)),
        ("float64", pa.float64()),
        ("double", pa.float64()),
        (int, pa.int64()),
        (float, pa.float64()),
        (str, pa.string()),
        (bool, pa.bool_()),
        (bytes, pa.binary()),
        (date, pa.date32()),
        (datetime, pa.timestamp("us")),
    ],
)
def test_types_are_read_from_what_users_write(given, meant):
    assert parse_dtype(given) == meant
    assert parse_dtype(dtype_text(meant)) == meant


@pytest.mark.parametrize("given", ["int46", "float", "decimal128(99, 1)", "", None, 3, dict, "list<>"])
def test_what_is_no_type_is_a_bad_setting(given):
    with pytest.raises(KernelmillError) as caught:
        parse_dtype(given)
    assert caught.value.code is Code.BAD_SETTING
    assert caught.value.hint


@pytest.mark.parametrize(
    ("given", "near"),
    [("date", "date32"), ("dates", "date32"), ("datetime", "timestamp[us]"), ("str", "string"), ("Integer", "int64")],
)
def test_a_type_by_another_name_suggests_ours(given, near):
    with pytest.raises(KernelmillError) as caught:
        parse_dtype(given)
    assert caught.value.hint == f"did you mean {near!r}?"
    assert parse_dtype(near)


@pytest.mark.parametrize("name", ["\ud800", 3, None])
def test_what_can_be_no_name_names_no_column(name):
    with pytest.raises(KernelmillError) as caught:
        find(pa.schema([("a", pa.int64())]), name)
    assert caught.value.code is Code.COLUMN_NOT_FOUND
