"""Stages: where plans are cut, how many tasks and partitions there are, and that memory and threads play no part."""

from __future__ import annotations

from textwrap import dedent

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import kernelmill as km
from kernelmill.engine.frame import LazyFrame
from kernelmill.engine.plan import logical, physical
from kernelmill.engine.plan.codec import decode_pipeline
from kernelmill.engine.plan.explain import stages_text
from kernelmill.engine.plan.optimizer import optimize
from kernelmill.engine.plan.planner import JobPlan, plan_job, unique_columns
from kernelmill.engine.plan.stagebuilder import BLOCKS_MAX, partition_count
from kernelmill.engine.splits import FileRange, ParquetSplit, TableSplit, TextSplit

MIB = 1 << 20


def planned(lazy: LazyFrame, *, split_bytes: int = 64 * MIB, partitions: int | None = None) -> JobPlan:
    return plan_job(lazy._plan, split_bytes=split_bytes, partitions=partitions)


def sunk(lazy: LazyFrame, path: str = "out", *, split_bytes: int = 64 * MIB, partitions: int | None = None) -> JobPlan:
    plan = logical.SinkParquet(lazy._plan, path, path.endswith(".parquet"))
    return plan_job(plan, split_bytes=split_bytes, partitions=partitions)


def stages(lines: str) -> str:
    return dedent(lines).strip("\n")


@pytest.fixture
def text(tmp_path) -> LazyFrame:
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text("x" * 99 + "\n")
    return km.scan_text(tmp_path)


@pytest.fixture
def table() -> LazyFrame:
    data = pa.table({"k": ["a", "b", "c", "d"], "n": [1, 2, 3, 4]})
    return km.from_arrow(pa.Table.from_batches(data.to_batches(max_chunksize=1)))


def test_one_partition_for_each_64_mib_of_input():
    counts = [partition_count(size, 1) for size in (0, 1, 64 * MIB, 64 * MIB + 1, 650 * MIB)]
    assert counts == [1, 1, 1, 2, 11]


def test_so_many_partitions_that_blocks_stay_bounded():
    assert partition_count(1 << 50, BLOCKS_MAX // 4) == 4
    assert partition_count(1 << 50, 2 * BLOCKS_MAX) == 1


def test_word_count_is_two_stages(text):
    lazy = text.select(word=km.col("line").str.tokenize()).explode("word").group_by("word").len()
    assert stages_text(sunk(lazy, split_bytes=100, partitions=4)) == stages("""
        stage 0: count tokens, 3 tasks, 300 B
          CountTokens word=col("bytes").str.tokenize("whitespace"): len=len()
          ToBlocks by hash of word -> 4 partitions
        stage 1: merge, 4 tasks, reads by hash from stage 0
          MergeAggregate by word: len=len()
          ToParquet zstd, row groups of 1,048,576
        """)


def test_one_file_is_written_by_one_task_that_reads_what_the_others_encoded(text):
    lazy = text.select(word=km.col("line").str.tokenize()).explode("word").group_by("word").len()
    job = sunk(lazy, "out.parquet", partitions=4)
    assert [(stage.tasks, stage.partitions) for stage in job.graph.stages] == [(1, 4), (4, 1), (1, 0)]
    assert stages_text(job).splitlines()[-4:] == [
        "  EncodeRowGroups zstd, of 1,048,576 rows",
        "  ToBlocks",
        "stage 2: gather, 1 task, reads all of stage 1",
        "  ToOneParquet",
    ]


def test_a_plan_without_exchange_writes_a_file_a_split(text):
    job = sunk(text, split_bytes=100)
    assert [(stage.tasks, stage.partitions) for stage in job.graph.stages] == [(3, 0)]


def test_what_is_collected_ends_in_blocks(text):
    job = planned(text, split_bytes=100)
    assert [(stage.tasks, stage.partitions) for stage in job.graph.stages] == [(3, 1)]
    assert isinstance(decode_pipeline(job.graph.last.operators).end, physical.ToBlocks)


def test_the_operators_of_a_stage_are_the_bytes_of_its_pipeline(table):
    job = planned(table.group_by("k").agg(km.col("n").sum()).sort("n"), split_bytes=1, partitions=2)
    assert [decode_pipeline(stage.operators) for stage in job.graph.stages] == list(job.pipelines)


def test_top_k_and_head_cut_each_tasks_rows_before_they_are_gathered(table):
    top = planned(table.top_k(2, by="n"), split_bytes=1)
    assert [[type(step).__name__ for step in pipe.steps] for pipe in top.pipelines] == [["Sort"], ["Sort"]]
    assert [pipe.steps[-1].limit for pipe in top.pipelines] == [2, 2]
    head = planned(table.head(2), split_bytes=1)
    assert [pipe.steps for pipe in head.pipelines] == [(physical.Limit(2),), (physical.Limit(2),)]


def test_a_sort_of_everything_sorts_only_after_the_gather(table):
    job = planned(table.sort("n"), split_bytes=1)
    assert [[type(step).__name__ for step in pipe.steps] for pipe in job.pipelines] == [[], ["Sort"]]


def test_one_task_needs_no_gather(table):
    assert len(planned(table.sort("n").head(3)).graph.stages) == 1


def test_a_sort_into_several_partitions_places_rows_by_a_sample_of_their_keys(table):
    assert stages_text(planned(table.sort("n", descending=True), split_bytes=1, partitions=3)) == stages("""
        stage 0: read table, 4 tasks, 52 B
          ReadTable k: string, n: int64
          ToBlocks
        stage 1: sample, 4 tasks, reads its task of stage 0
          SampleKeys n: up to 192 rows a task
          ToBlocks
        stage 2: splitters, 1 task, reads all of stage 1
          PickSplitters n descending: for 3 partitions
          ToBlocks
        stage 3: ranges, 4 tasks, reads its task of stage 0, reads for every task stage 2
          ToRanges n descending -> 3 partitions
        stage 4: sort, 3 tasks, reads by range from stage 3
          Sort n descending
          ToBlocks
        """)


@pytest.fixture
def parquet(tmp_path):
    rows = pa.table({"k": list("dbca"), "n": [4, 2, 3, 1], "v": [0.5, 1.5, 2.5, 3.5]})
    pq.write_table(rows, tmp_path / "t.parquet", row_group_size=1)
    return km.scan_parquet(tmp_path / "t.parquet")


def test_a_sort_of_parquet_samples_the_keys_alone_and_leaves_rows_as_blocks_once(parquet):
    job = planned(parquet.select("v", m=km.col("n")).sort("m"), split_bytes=1, partitions=3)
    assert [(stage.label, stage.tasks) for stage in job.graph.stages] == [
        ("sample", 4), ("splitters", 1), ("read parquet", 4), ("sort", 3),
    ]  # fmt: skip
    sample, _, read, _ = job.pipelines
    assert (sample.source.schema.names, read.source.schema.names) == (["n"], ["n", "v"])
    assert isinstance(read.end, physical.ToRanges)


@pytest.mark.parametrize(
    "rows",
    [
        lambda t: t.filter(km.col("n") > 1),
        lambda t: t.with_columns(k=km.col("k").cast("int64")),
        lambda t: t.map_batches(lambda batch: batch, schema={"k": "string", "n": "int64", "v": "float64"}),
        lambda t: t.with_row_index("i"),
        lambda t: t.select(k=km.lit("a")),
    ],
    ids=["rows left out", "what may fail", "a function", "numbers of rows", "no column"],
)
def test_rows_that_are_not_the_files_or_may_fail_are_made_once_and_left_as_blocks(parquet, rows):
    job = planned(rows(parquet).sort("k"), split_bytes=1, partitions=3)
    labels = [stage.label for stage in job.graph.stages]
    assert labels[-5] != "sample" and labels[-4:] == ["sample", "splitters", "ranges", "sort"]


def test_a_sort_of_what_a_group_by_left_is_one_task(table):
    job = planned(table.group_by("k").len().sort("len"), split_bytes=1, partitions=3)
    assert [stage.label for stage in job.graph.stages] == ["read table", "merge", "sort"]


def test_verbs_after_a_gather_run_in_its_task(table):
    job = planned(table.top_k(3, by="n").select(m=km.col("n") * 2).group_by("m").len(), split_bytes=1, partitions=2)
    assert [stage.label for stage in job.graph.stages] == ["read table", "top_k", "merge"]
    assert [(stage.tasks, stage.partitions) for stage in job.graph.stages] == [(4, 1), (1, 2), (2, 1)]


def test_partial_rows_hold_the_keys_and_the_states(table):
    job = planned(table.group_by("k").agg(m=km.col("n").mean(), s=km.col("n").sum(), c=km.len()))
    assert job.pipelines[0].schema == pa.schema(
        [
            pa.field("k", pa.string()),
            pa.field("m.sum", pa.float64(), nullable=False),
            pa.field("m.count", pa.uint32(), nullable=False),
            pa.field("s", pa.int64(), nullable=False),
            pa.field("c", pa.uint32(), nullable=False),
        ]
    )


def test_partitions_as_asked(table):
    assert planned(table.group_by("k").len(), partitions=7).graph.stages[0].partitions == 7


def test_large_text_is_cut_and_small_files_share_a_split(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"x" * 250)
    for name in ("b.txt", "c.txt"):
        (tmp_path / name).write_bytes(b"y" * 40)
    splits = planned(km.scan_text(tmp_path), split_bytes=100).graph.stages[0].splits
    assert [[(part.start, part.stop) for part in split.ranges] for split in splits] == [
        [(0, 100)],
        [(100, 200)],
        [(200, 250)],
        [(0, 40), (0, 40)],
    ]


@pytest.mark.parametrize(("name", "options"), [("a.txt.gz", {}), ("a.txt", {"whole_file": True})])
def test_what_can_only_be_read_from_its_start_is_one_split(tmp_path, name, options):
    (tmp_path / name).write_bytes(b"x" * 250)
    (split,) = planned(km.scan_text(tmp_path / name, **options), split_bytes=100).graph.stages[0].splits
    assert isinstance(split, TextSplit)
    assert [(part.start, part.stop) for part in split.ranges] == [(0, 250)]


def test_an_empty_file_is_a_task_too(tmp_path):
    (tmp_path / "a.txt").touch()
    (split,) = planned(km.scan_text(tmp_path / "a.txt")).graph.stages[0].splits
    assert isinstance(split, TextSplit)
    assert isinstance(split.ranges[0], FileRange)


def test_row_groups_are_split_by_the_bytes_of_the_columns_that_are_read(tmp_path):
    data = pa.table({"small": [1] * 4000, "large": [str(n) * 20 for n in range(4000)]})
    pq.write_table(data, tmp_path / "a.parquet", row_group_size=1000, compression="none", use_dictionary=False)
    lazy = km.scan_parquet(tmp_path / "a.parquet")
    whole = planned(lazy, split_bytes=320_000).graph.stages[0].splits
    narrow = planned(lazy.select("small"), split_bytes=320_000).graph.stages[0].splits
    assert [split.row_groups for split in whole] == [(0,), (1,), (2,), (3,)]
    assert [split.row_groups for split in narrow] == [(0, 1, 2, 3)]
    assert planned(lazy.select("small")).input_bytes < planned(lazy).input_bytes / 4


def test_where_no_row_group_can_match_one_task_reads_nothing(tmp_path):
    pq.write_table(pa.table({"n": [1, 2, 3]}), tmp_path / "a.parquet")
    (split,) = planned(km.scan_parquet(tmp_path).filter(km.col("n") > 9)).graph.stages[0].splits
    assert isinstance(split, ParquetSplit)
    assert split.row_groups == ()


def test_text_keys_of_parquet_arrive_as_dictionaries_where_nothing_else_needs_them(tmp_path):
    pq.write_table(pa.table({"k": ["a"], "j": ["b"], "n": [1]}), tmp_path / "a.parquet")
    lazy = km.scan_parquet(tmp_path)

    def coded(frame: LazyFrame) -> tuple[str, ...]:
        source = planned(frame).pipelines[0].source
        assert isinstance(source, physical.ReadParquet)
        return source.dictionary_columns

    assert coded(lazy.group_by("k", "n").agg(s=km.col("n").sum())) == ("k",)
    assert coded(lazy.group_by("k", "j").len()) == ("k", "j")
    assert coded(lazy.select(key="k").group_by("key").len()) == ("k",)
    assert coded(lazy.filter(km.col("j") == "b").group_by("k").len()) == ("k", "j")
    assert coded(lazy.filter(km.col("k") == "b").group_by("k").len()) == ("k",)
    assert coded(lazy.filter(km.col("k").str.len_bytes() == 1).group_by("k").len()) == ()
    assert coded(lazy.filter(km.col("k") == km.col("j")).group_by("n").len()) == ()


def test_text_columns_of_parquet_arrive_as_dictionaries_where_they_are_only_tested(tmp_path):
    pq.write_table(pa.table({"k": ["a"], "j": ["b"], "n": [1]}), tmp_path / "a.parquet")
    lazy = km.scan_parquet(tmp_path)

    def coded(frame: LazyFrame) -> tuple[str, ...]:
        source = planned(frame).pipelines[0].source
        assert isinstance(source, physical.ReadParquet)
        return source.dictionary_columns

    tested = lazy.filter(km.col("k").is_in(["a", "b"]), km.col("j").str.starts_with("b"))
    assert coded(tested.select("n")) == ("k", "j")
    assert coded(tested.select("n", "j")) == ("k",)
    assert coded(tested) == ()
    assert coded(lazy.select(is_a=km.col("k") == "a")) == ("k",)
    assert coded(lazy.filter(km.col("k").is_null()).select("n")) == ()
    assert coded(lazy.group_by("k").agg(c=km.col("k").count())) == ()
    assert coded(lazy.group_by("k").agg(s=km.col("k").str.len_bytes().sum())) == ()
    assert coded(lazy.group_by(km.col("k").str.to_lowercase()).len()) == ()


def test_a_table_is_split_between_batches_and_only_used_columns_go_along(table):
    job = planned(table.select("n"), split_bytes=16)
    assert [batch.schema.names for batch in job.tables["table0"]] == [["n"]] * 4
    assert job.graph.stages[0].splits == (TableSplit("table0", 0, 2, 16), TableSplit("table0", 2, 4, 16))


def test_an_empty_table_is_one_task():
    job = planned(km.from_arrow(pa.table({"n": pa.array([], pa.int64())})))
    assert job.graph.stages[0].splits == (TableSplit("table0", 0, 0, 0),)


def test_the_key_of_a_group_by_is_known_to_be_unique(table):
    grouped = table.group_by("k").len()
    assert unique_columns(grouped._plan) == ("k",)
    assert unique_columns(grouped.rename({"k": "q"}).filter(km.col("len") > 1).sort("q")._plan) == ("q",)
    assert unique_columns(grouped.select(km.col("k").str.to_lowercase())._plan) == ()
    assert unique_columns(table.group_by("k", "n").len()._plan) == ()
    assert unique_columns(table._plan) == ()


def test_unique_keys_are_written_without_a_dictionary(table):
    end = sunk(table.group_by("k").len()).pipelines[-1].end
    assert isinstance(end, physical.ToParquet)
    assert end.unique_columns == ("k",)
    assert end.schema == optimize(table.group_by("k").len()._plan).schema
