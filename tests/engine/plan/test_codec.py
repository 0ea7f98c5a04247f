"""Operators and tasks as bytes: they come back equal, the bytes are pinned, and other versions are refused."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from pathlib import Path

import msgspec
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.nodes import Aggregate, Alias, Call, Cast, Column, Literal, Tokenize
from kernelmill.engine.plan import fileformats, physical, rowsteps
from kernelmill.engine.plan.codec import VERSION, decode_pipeline, decode_task, encode_pipeline, encode_task
from kernelmill.engine.plan.fileformats import TextOptions
from kernelmill.engine.plan.physical import AggSpec, NamedNode, Pipeline
from kernelmill.engine.plan.stages import EdgeKind, Task, TaskInput
from kernelmill.engine.splits import (
    FileRange,
    FileStamp,
    ParquetFilesSplit,
    ParquetSplit,
    SourceSplit,
    TableSplit,
    TextSplit,
)

GOLDEN = Path(__file__).parent / "golden"
SCHEMA = pa.schema([pa.field("word", pa.string(), nullable=False), pa.field("n", pa.int64())])
TOKENS = Tokenize(Column("line"), "separators", True, 2, b" ,\n\r")
FILE = FileStamp("books/a.txt", 1234, 5678)

SOURCES = [
    None,
    physical.ReadText(TextOptions(separator=b"\x00\xff", path_column="path"), SCHEMA),
    physical.CountTokens(TextOptions(), "word", True, b"", "word", (AggSpec("len", "len", None),)),
    physical.ReadParquet(SCHEMA, "null", ("word",)),
    physical.ReadFiles(fileformats.CsvFormat(SCHEMA, TextOptions(), comment=b"#", null_values=("NA",)), SCHEMA),
    physical.ReadFiles(fileformats.JsonFormat(TextOptions(encoding="latin-1")), SCHEMA),
    physical.ReadFiles(fileformats.IpcFormat(), SCHEMA, fileformats.PathColumns(SCHEMA, "path")),
    physical.ReadFiles(fileformats.RecordFormat(10, (("word", 3),)), SCHEMA),
    physical.ReadTable(SCHEMA),
    physical.ReadSource(SCHEMA),
]
STEPS = [
    physical.Filter(Call("gt", (Column("n"), Literal(pa.scalar(3), True)))),
    physical.Project((NamedNode("m", Alias(Cast(Column("n"), pa.timestamp("us", "UTC"), False), "q")),)),
    physical.Explode("word", True, False),
    physical.TokenizeExplode("word", TOKENS, (NamedNode("k", Column("k")),), ("k", "word")),
    physical.PartialAggregate(("word",), (AggSpec("s", "sum", "n"), AggSpec("len", "len", None))),
    physical.MergeAggregate(("word",), (AggSpec("s", "sum", "n"),), SCHEMA),
    physical.Sort((("n", True, False),), 10),
    physical.Limit(5),
]
SAMPLING = [
    physical.SampleKeys(("n",), 256, SCHEMA),
    physical.PickSplitters((("n", True, False),), 4, SCHEMA),
]
ENDS = [physical.ToBlocks(("word",)), physical.ToParquet("zstd", 100, True, SCHEMA, ("word",))]
PIPELINES = [Pipeline(source, tuple(STEPS), end, SCHEMA) for source in SOURCES for end in ENDS]
WRITTEN = "zstd", 100, True, SCHEMA, ("word",)
PIPELINES += [
    Pipeline(None, (physical.EncodeRowGroups(physical.ToParquet(*WRITTEN)),), physical.ToBlocks(), physical.ENCODED),
    Pipeline(None, (), physical.ToOneParquet(*WRITTEN), physical.ENCODED),
    Pipeline(
        None, (), physical.ToParquetFiles(*WRITTEN, level=9, folders=SCHEMA, file_rows_max=3, file_bytes=9), SCHEMA
    ),
]
JOIN = physical.Join("left", 1, ("n",), ("m",), (physical.JoinColumn("a", "b", True),), SCHEMA, True, False, True)
PIPELINES += [Pipeline(None, (JOIN,), ENDS[0], SCHEMA)]
PIPELINES += [Pipeline(None, tuple(SAMPLING), physical.ToRanges((("n", True, False),)), SCHEMA)]
OF_ROWS = [
    rowsteps.ThinRows(("word",)),
    rowsteps.UniqueRows(("word", "n"), "last"),
    rowsteps.ReadInputs(3),
    rowsteps.CountRows(),
    rowsteps.GatherCounts(),
    rowsteps.RowIndex("i", -3, None),
    rowsteps.EveryRow(7, 2, (0,)),
    rowsteps.LastRows(5, (3, 1 << 40)),
    rowsteps.SampleRows(None, 0.25, 1 << 60, None),
    rowsteps.SampleRows(10, 0.0, 0, (9, 9)),
    rowsteps.Unpivot(("n",), ("word",), SCHEMA),
    rowsteps.AsSchema(SCHEMA),
]
PIPELINES += [Pipeline(None, tuple(OF_ROWS), rowsteps.ToShare(3, 4, 9), SCHEMA)]
PIPELINES += [Pipeline(None, (), rowsteps.ToEqualParts(counts), SCHEMA) for counts in (None, (3, 1 << 40))]
TASKS = [
    Task(0, 3, b"operators", 8, TextSplit((FileRange(FILE, 0, 100), FileRange(FILE, 100, 1234)))),
    Task(0, 0, b"", 1, ParquetSplit(FILE, (0, 1), 99)),
    Task(0, 0, b"", 1, TableSplit("table0", 0, 4, 99)),
    Task(1, 7, b"\x00\xff", 0, None, (TaskInput(0, EdgeKind.HASH, 7, 0, 20), TaskInput(0, EdgeKind.GATHER, 0, 0, 4))),
]


def code_of(call, data: bytes) -> Code:
    with pytest.raises(KernelmillError) as caught:
        call(data)
    return caught.value.code


@pytest.mark.parametrize("pipeline", PIPELINES)
def test_operators_come_back_equal(pipeline):
    data = encode_pipeline(pipeline)
    assert decode_pipeline(data) == pipeline
    assert encode_pipeline(decode_pipeline(data)) == data


def test_aggregates_come_back_with_all_that_they_read():
    aggs = (
        AggSpec("c", "corr", "x", ("y",), (), "kept"),
        AggSpec("q", "quantile", "x", (), (("q", 1.0), ("interpolation", "linear"))),
        AggSpec("t", "top_k", "x", (), (("k", 3),), "kept"),
    )
    pipeline = Pipeline(None, (physical.PartialAggregate(("word",), aggs),), physical.ToBlocks(), SCHEMA)
    (step,) = decode_pipeline(encode_pipeline(pipeline)).steps
    assert step.aggs == aggs and isinstance(dict(step.aggs[1].options)["q"], float)
    assert aggs[0].columns == ("x", "y", "kept")


@pytest.mark.parametrize(
    "task",
    [
        *TASKS,
        Task(0, 0, b"", 1, SourceSplit("source0", 4, b"[1]", 99)),
        Task(0, 0, b"", 1, ParquetFilesSplit((ParquetSplit(FILE, (0,), 9), ParquetSplit(FILE, (1,), 9)))),
    ],
)
def test_tasks_come_back_equal(task):
    assert decode_task(encode_task(task)) == task


@pytest.mark.parametrize(
    "value",
    [
        pa.scalar(None),
        pa.scalar(1 << 63, pa.uint64()),
        pa.scalar(-(1 << 63)),
        pa.scalar(0.1, pa.float32()),
        pa.scalar("a\0b"),
        pa.scalar(b"\xff"),
        pa.scalar(None, pa.string()),
        pa.scalar(Decimal("1.50")),
        pa.scalar(datetime(2026, 1, 2, 3, 4, 5, 6)),
        pa.scalar(123_456_789_012_345_679, pa.timestamp("ns", "UTC")),
        pa.scalar(["a", None], pa.list_(pa.string())),
        pa.scalar([], pa.list_(pa.int8())),
    ],
    ids=repr,
)
def test_literals_of_every_type_come_back_with_type_and_value(value):
    step = physical.Filter(Call("eq", (Column("x"), Literal(value))))
    (back,) = decode_pipeline(encode_pipeline(Pipeline(None, (step,), ENDS[0], SCHEMA))).steps
    got = back.predicate.args[1].value
    assert (got.type, got.equals(value)) == (value.type, True)


def test_aggregates_in_expressions_have_an_encoding():
    step = physical.Project((NamedNode("s", Aggregate("sum", Column("n"))), NamedNode("c", Aggregate("len", None))))
    pipeline = Pipeline(None, (step,), ENDS[0], SCHEMA)
    assert decode_pipeline(encode_pipeline(pipeline)) == pipeline


def test_a_pipeline_with_several_outputs_comes_back_equal():
    call = physical.UserCall(0, "map", "f", "a.py:1")
    named = (physical.NamedPairs("bad", ("word",), ("n",), False, True, SCHEMA),)
    step = physical.MapRecords(call, ("line",), ("word",), ("n",), False, False, SCHEMA, named, 0)
    branch = physical.Branch(tuple(STEPS[4:5]), physical.ToBlocks(("word",)), 3, SCHEMA, SCHEMA)
    pipeline = Pipeline(SOURCES[1], (step,), ENDS[0], SCHEMA, (branch, branch))
    assert decode_pipeline(encode_pipeline(pipeline)) == pipeline


def test_the_bytes_of_a_task_are_those_of_the_golden_file():
    encoded = b"".join(len(data).to_bytes(4, "little") + data for data in map(encode_task, TASKS))
    assert encoded == (GOLDEN / f"tasks.v{VERSION}.bin").read_bytes()


def test_the_golden_file_of_operators_is_read():
    """Arrow may come to write the same schema in other bytes; what was written must stay readable."""
    assert decode_pipeline((GOLDEN / f"pipeline.v{VERSION}.bin").read_bytes()) == PIPELINES[3]


@pytest.mark.parametrize("version", [0, VERSION + 1, 1 << 40])
def test_another_version_is_refused(version):
    other = msgspec.msgpack.encode([version, msgspec.Raw(msgspec.msgpack.encode({}))])
    assert code_of(decode_pipeline, other) is Code.INTERNAL
    assert code_of(decode_task, other) is Code.INTERNAL


@pytest.mark.parametrize("pipeline", PIPELINES[2:4])
def test_operators_cut_anywhere_are_refused(pipeline):
    data = encode_pipeline(pipeline)
    assert {code_of(decode_pipeline, data[:stop]) for stop in range(len(data))} == {Code.INTERNAL}


def test_a_task_is_not_taken_for_operators():
    assert code_of(decode_pipeline, encode_task(TASKS[0])) is Code.INTERNAL


@given(st.binary(max_size=60))
def test_bytes_from_anywhere_never_raise_anything_else(data):
    assert code_of(decode_task, data) is Code.INTERNAL
    assert code_of(decode_pipeline, data) is Code.INTERNAL


@given(st.integers(0, 10**9), st.integers(0, 255))
def test_a_flipped_byte_gives_a_pipeline_or_a_typed_error(place, flip):
    data = bytearray(encode_pipeline(PIPELINES[3]))
    data[place % len(data)] ^= flip
    try:
        decode_pipeline(bytes(data))
    except KernelmillError as problem:
        assert problem.code is Code.INTERNAL
