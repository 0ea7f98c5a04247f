"""One file of many tasks' row groups: what one writer of the same row groups would have written, to the byte."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.engine.errors import Code, KernelmillError
from kernelmill.engine.io import parquet_join
from kernelmill.engine.io.parquet_join import JoiningWriter, encode_row_groups
from kernelmill.engine.io.parquet_write import PartWriter
from kernelmill.engine.plan.physical import ENCODED, ToOneParquet

SCHEMA = pa.schema(
    [
        pa.field("word", pa.string(), nullable=False),
        ("n", pa.int64()),
        ("at", pa.list_(pa.int64())),
        ("x", pa.float64()),
    ]
)


def operator(*, rows=10, compression="zstd", schema=SCHEMA):
    return ToOneParquet(compression, rows, True, schema, ("word",))


def batch(first, rows):
    numbers = range(first, first + rows)
    columns = [[f"w{n}" for n in numbers], [n % 7 or None for n in numbers], [[n] * (n % 4) for n in numbers]]
    return pa.RecordBatch.from_arrays([*map(pa.array, columns), pa.array([n / 3 for n in numbers])], schema=SCHEMA)


def encoded(first, rows, plan, cut=10**9):
    whole = batch(first, rows)
    return list(encode_row_groups((whole.slice(at, cut) for at in range(0, rows, cut)), plan))


def joined(path, tasks, plan):
    with JoiningWriter(str(path), plan) as writer:
        for made in tasks:
            for one in made:
                assert one.schema == ENCODED
                writer.write(one)
        return writer.close()


def groups_in(path):
    metadata = pq.read_metadata(path)
    return [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]


@pytest.mark.parametrize("compression", ["zstd", "none"])
@pytest.mark.parametrize("rows_max", [10, 1 << 20])
def test_full_row_groups_of_tasks_are_the_file_that_one_writer_would_write(
    tmp_path, monkeypatch, compression, rows_max
):
    monkeypatch.setattr(parquet_join, "ENCODED_BYTES_MIN", 1)
    plan = operator(rows=rows_max, compression=compression)
    sizes = [30, 0, 10, 20, 170] if rows_max == 10 else [170]
    firsts = [sum(sizes[:n]) for n in range(len(sizes))]
    part = joined(tmp_path / "a.parquet", [encoded(a, n, plan) for a, n in zip(firsts, sizes, strict=True)], plan)
    with PartWriter(str(tmp_path / "b.parquet"), plan) as writer:
        writer.write(batch(0, sum(sizes)))
        writer.close()
    data = (tmp_path / "a.parquet").read_bytes()
    assert data == (tmp_path / "b.parquet").read_bytes()
    assert (part.name, part.rows, part.bytes) == ("a.parquet", sum(sizes), len(data))
    assert part.checksum == xxhash.xxh3_128_hexdigest(data)


def test_rows_too_few_for_a_row_group_go_into_one_with_those_of_the_next_tasks(tmp_path):
    plan = operator(rows=25)
    joined(tmp_path / "a.parquet", [encoded(n, 10, plan) for n in range(0, 120, 10)], plan)
    assert groups_in(tmp_path / "a.parquet") == [25, 25, 25, 25, 20]
    with PartWriter(str(tmp_path / "b.parquet"), plan) as writer:
        writer.write(batch(0, 120))
        writer.close()
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_few_rows_between_large_tasks_are_a_row_group_of_their_own(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_join, "ENCODED_BYTES_MIN", 2000)
    plan = operator(rows=1 << 20)
    joined(tmp_path / "a.parquet", [encoded(0, 200, plan), encoded(200, 3, plan), encoded(203, 200, plan)], plan)
    assert groups_in(tmp_path / "a.parquet") == [200, 3, 200]
    assert pq.read_table(tmp_path / "a.parquet") == pa.table(batch(0, 403))


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(0, 90), max_size=6),
    rows_max=st.integers(1, 40),
    cuts=st.tuples(*[st.integers(1, 40)] * 2),
)
def test_rows_come_back_in_order_and_bytes_do_not_depend_on_how_batches_are_cut(
    tmp_path_factory, sizes, rows_max, cuts
):
    plan, folder = operator(rows=rows_max), tmp_path_factory.mktemp("cut")
    firsts = [sum(sizes[:n]) for n in range(len(sizes))]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_join, "ENCODED_BYTES_MIN", 1500)
        patch.setattr(parquet_join, "_BODY_BYTES_MAX", 900)
        for cut in set(cuts):
            tasks = [encoded(a, n, plan, cut) for a, n in zip(firsts, sizes, strict=True)]
            joined(folder / f"{cut}.parquet", tasks, plan)
    assert pq.read_table(folder / f"{cuts[0]}.parquet") == pa.table(batch(0, sum(sizes)))
    assert len({(folder / f"{cut}.parquet").read_bytes() for cut in cuts}) == 1


def test_no_rows_make_a_valid_file(tmp_path):
    part = joined(tmp_path / "a.parquet", [encoded(0, 0, operator())], operator())
    assert part.rows == 0
    assert pq.read_table(tmp_path / "a.parquet").schema == SCHEMA


def test_many_row_groups_of_wide_tables_are_read_back_by_each_column(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_join, "ENCODED_BYTES_MIN", 1)
    schema = pa.schema([(f"c{n}", pa.int32()) for n in range(300)])
    plan = operator(rows=5, schema=schema)
    wide = pa.RecordBatch.from_arrays([pa.array(range(n, n + 40), pa.int32()) for n in range(300)], schema=schema)
    halves = [list(encode_row_groups(iter([wide.slice(at, 20)]), plan)) for at in (0, 20)]
    joined(tmp_path / "a.parquet", halves, plan)
    assert groups_in(tmp_path / "a.parquet") == [5] * 8
    assert pq.read_table(tmp_path / "a.parquet", columns=["c299", "c7"]) == pa.table(wide).select(["c299", "c7"])


def test_a_value_that_parquet_cannot_hold_is_said_of_its_column():
    schema = pa.schema([("when", pa.timestamp("s"))])
    far = pa.record_batch([pa.array([1 << 60], pa.timestamp("s"))], schema=schema)
    with pytest.raises(KernelmillError) as caught, pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet_join, "ENCODED_BYTES_MIN", 1)
        list(encode_row_groups(iter([far]), operator(schema=schema)))
    assert caught.value.code is Code.CAST and "'when'" in caught.value.what


def test_a_file_given_up_is_deleted(tmp_path):
    with pytest.raises(RuntimeError), JoiningWriter(str(tmp_path / "a.parquet"), operator()):
        raise RuntimeError
    assert os.listdir(tmp_path) == []
