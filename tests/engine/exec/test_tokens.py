"""Text to tokens: counted straight from files, or as a column of lists."""

import collections
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.engine.exec import tokens
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.exchange import to_partitions
from kernelmill.engine.ids import AttemptId, TaskId
from kernelmill.engine.io import blocks
from kernelmill.engine.nodes import Column, Tokenize
from kernelmill.engine.plan.fileformats import TextOptions
from kernelmill.engine.plan.partial import partial_schema
from kernelmill.engine.plan.physical import AggSpec, CountTokens
from kernelmill.engine.splits import FileRange, FileStamp, TextSplit

MODES = ["whitespace", "word", "identifier", "separators"]
SEPARATORS = ",;"
TEXTS = st.lists(
    st.sampled_from(["a", "Bc", "É", "7x", "_", " ", "\n", ",", ";", "\u00a0", "x" * 20]), max_size=40
).map("".join)


def context():
    return TaskContext(AttemptId(TaskId(0, 0), 0))


def by_partition(pairs, partitions):
    made = [[] for _ in range(partitions)]
    for part, batch in pairs:
        made[part].append(batch)
    return made


def expected_tokens(text, mode):
    """The tokens of UTF-8 text as str; splits are those of bytes, so U+00A0 separates nothing."""
    raw = text.encode()
    if mode == "whitespace":
        found = raw.split()
    elif mode == "separators":
        found = [one for one in re.split(b"[,;]", raw) if one]
    else:
        found = re.findall(rb"[A-Za-z0-9_\x80-\xff]+", raw)
        found = [one for one in found if mode == "word" or not one[:1].isdigit()]
    return [one.decode() for one in found]


def node(mode, lowercase=False, min_len=1):
    separators = SEPARATORS.encode() if mode == "separators" else b""
    return Tokenize(Column("c"), mode=mode, lowercase=lowercase, min_len=min_len, separators=separators)


# A column of lists ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", [pa.string(), pa.large_string(), pa.binary()], ids=str)
@settings(max_examples=25)
@given(cells=st.lists(st.none() | TEXTS, max_size=12), start=st.integers(0, 4))
def test_lists_hold_each_rows_tokens(mode, dtype, cells, start):
    array = pa.array([c if c is None or dtype != pa.binary() else c.encode() for c in cells], dtype).slice(start)
    made = tokens.tokenize(array, node(mode))
    made.validate(full=True)
    expected = [None if cell is None else expected_tokens(cell, mode) for cell in cells[start:]]
    if dtype == pa.binary():
        expected = [None if row is None else [token.encode() for token in row] for row in expected]
    assert made.to_pylist() == expected


def test_text_under_a_null_makes_no_token():
    whole = pa.array(["a b", "under null", "c"])
    bits = pa.py_buffer(b"\x05")
    array = pa.Array.from_buffers(pa.string(), 3, [bits, *whole.buffers()[1:]])
    assert tokens.tokenize(array, node("whitespace")).to_pylist() == [["a", "b"], None, ["c"]]


def test_lower_case_and_shortest_length_count_characters():
    array = pa.array(["ÀB É éé x", None, "", "Y zz"])
    made = tokens.tokenize(array, node("whitespace", lowercase=True, min_len=2))
    assert made.to_pylist() == [["àb", "éé"], None, [], ["zz"]]


def test_no_rows_make_no_lists():
    assert tokens.tokenize(pa.array([], pa.string()), node("word")).to_pylist() == []


def test_the_lower_table_is_that_of_arrow():
    table = tokens.lower_table()
    assert (table[ord("A")], table[ord("É")], table[ord("ß")], table[0xD800]) == (ord("a"), ord("é"), ord("ß"), 0xD800)
    assert table.size == 0x20000


# Counted straight from files ------------------------------------------------------------------------------------------


@pytest.fixture
def count(tmp_path):
    """Count the tokens of a text in one task: (token, count) in the order of the partial rows, by partition."""

    def run(text, mode="whitespace", lowercase=False, partitions=1, copies=1, ranges=None):
        path = tmp_path / "in.txt"
        path.write_bytes(text)
        status = path.stat()
        file = FileStamp(str(path), status.st_size, status.st_mtime_ns)
        cut = ranges or [(0, status.st_size)]
        split = TextSplit(tuple(FileRange(file, start, stop) for start, stop in cut))
        aggs = tuple(AggSpec(f"n{i}", "len", None) for i in range(copies))
        separators = SEPARATORS.encode() if mode == "separators" else b""
        operator = CountTokens(TextOptions(), mode, lowercase, separators, "t", aggs)
        schema = partial_schema(("t",), aggs, pa.schema([pa.field("t", pa.string(), nullable=False)]))
        flow = tokens.count_tokens(split, operator, schema, context(), partitions)
        made = by_partition(to_partitions(flow, ("t",), partitions, context()), partitions)
        for batch in (batch for part in made for batch in part):
            batch.validate(full=True)
            assert batch.schema == schema
        return [[tuple(row.values()) for batch in part for row in batch.to_pylist()] for part in made]

    return run


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("lowercase", [False, True])
def test_files_are_counted_in_first_seen_order(count, mode, lowercase):
    text = "The the É é 7seas; a,b a;b\n_x The\r\nİ ẞ\n" * 3
    folded = "".join(chr(tokens.lower_table()[ord(c)]) for c in text) if lowercase else text
    expected = list(collections.Counter(expected_tokens(folded, mode)).items())
    assert count(text.encode(), mode, lowercase) == [expected]


def test_partitions_hold_the_tokens_of_their_hash_in_first_seen_order(count):
    words = [f"w{i * i % 997}" + "long" * (i % 7) for i in range(5000)]
    text = " ".join(words).encode()
    ((*whole,),) = count(text)
    parts = count(text, partitions=5)
    assert sorted(row for part in parts for row in part) == sorted(whole)
    batch = pa.RecordBatch.from_arrays([pa.array([word for word, _ in whole])], names=["t"])
    expected = by_partition(to_partitions(iter([batch]), ("t",), 5, context()), 5)
    assert [[word for word, _ in part] for part in parts] == [
        [row["t"] for one in part for row in one.to_pylist()] for part in expected
    ]


def test_small_blocks_and_flushes_change_no_sum(count, monkeypatch):
    text = b"\n".join(b"%d line of words %d" % (i, i % 3000) for i in range(20_000))
    ((*whole,),) = count(text)
    monkeypatch.setattr(tokens, "FLUSH_GROUPS", 2_000)
    monkeypatch.setattr(blocks.read_blocks, "__kwdefaults__", {"is_separator": None, "block_bytes": 4096})
    ((*flushed,),) = count(text)
    assert len(flushed) > len(whole)
    total = collections.Counter()
    for word, n in flushed:
        total[word] += n
    assert total == collections.Counter(dict(whole))


def test_counts_that_are_asked_for_twice_come_twice(count):
    assert count(b"a b a", copies=2) == [[("a", 2, 2), ("b", 1, 1)]]


def test_ranges_cut_anywhere_count_each_line_once(count):
    text = b"one two\nthree\n\nfour five six\nseven"
    ((*whole,),) = count(text)
    for cut in range(len(text) + 1):
        total = collections.Counter()
        for ranges in ([(0, cut)], [(cut, len(text))]):
            ((*part,),) = count(text, ranges=ranges)
            total.update(dict(part))
        assert total == collections.Counter(dict(whole)), cut


def test_an_empty_file_has_no_rows(count):
    assert count(b"") == count(b" \n \t") == [[]]
    assert np.array(count(b"", partitions=3), object).shape == (3, 0)
