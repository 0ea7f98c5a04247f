"""examples/custom_source.py against loops over the files of which the database was made."""

from pathlib import Path

import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError


@pytest.fixture
def database(load, tmp_path):
    return load("custom_source").write_database(tmp_path / "books.sqlite")


def expected_of(pattern):
    for file in sorted(Path(pattern).parent.glob(Path(pattern).name)):
        lines = file.read_text().splitlines()
        yield file.stem, len(lines), sum(len(line.split()) for line in lines)


def test_it_counts_the_lines_and_words_of_each_book(load, inputs, database):
    assert load("custom_source").words_of_books([database]).collect().rows() == list(expected_of(inputs.KJV))


def test_the_table_is_read_in_splits_that_hold_each_row_once(load, database):
    example = load("custom_source")
    table = example.SqliteTable(database, "lines", example.LINES, rows=999)
    splits = table.splits()
    assert splits[0] == [1, 1000] and len(splits) == -(-splits[-1][1] // 999)
    rows = km.scan_source(table).collect(threads=2).rows()
    assert rows == table._select("SELECT book, line FROM lines ORDER BY rowid", ())


def test_one_and_two_threads_give_equal_bytes(load, database, bytes_of):
    frame = load("custom_source").words_of_books([database])
    assert bytes_of(frame, 1) == bytes_of(frame, 2)


def test_a_table_that_is_not_there_is_an_error_that_names_it(load, database):
    example = load("custom_source")
    with pytest.raises(KernelmillError) as caught:
        km.scan_source(example.SqliteTable(database, "verses", example.LINES))
    assert caught.value.code is Code.FUNCTION_FAILED and "no such table: verses" in caught.value.what


def test_main_shows_the_longest_books(run_main):
    assert "19-psalms    2,461  42,685" in run_main("custom_source", "-o", "words")
