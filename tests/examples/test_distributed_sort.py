"""examples/distributed_sort.py against sorted()."""

import pyarrow.parquet as pq
import pytest

import kernelmill as km


@pytest.fixture
def records(inputs, tmp_path):
    return inputs.write_records(tmp_path / "records.txt", rows=20_000)


def lines_of(path):
    with open(path) as file:
        return [line.rstrip("\n") for line in file]


@pytest.mark.parametrize("name", ["job", "job_for_random_keys"])
def test_the_part_files_one_after_the_other_are_the_sorted_records(load, records, tmp_path, name):
    job = getattr(load("distributed_sort"), name)
    job.run(records, output=tmp_path / "out", partitions=4, progress=False)
    parts = [pq.read_table(path).to_pylist() for path in sorted((tmp_path / "out").glob("*.parquet"))]
    assert len(parts) == 4 and min(map(len, parts)) > 4_000
    assert [row["key"] + row["rest"] for part in parts for row in part] == sorted(lines_of(records))


def test_keys_that_are_not_random_are_shared_out_too(load, tmp_path):
    lines = [f"zebra{number * 7919 % 10_000:05}{'' if number % 3 else ' again'}" for number in range(10_000)]
    (tmp_path / "records.txt").write_text("\n".join(lines))
    load("distributed_sort").job.run(tmp_path / "records.txt", output=tmp_path / "out", partitions=4, progress=False)
    parts = [pq.read_table(path).to_pylist() for path in sorted((tmp_path / "out").glob("*.parquet"))]
    assert len(parts) == 4 and min(map(len, parts)) > 2_000
    assert [row["key"] + row["rest"] for part in parts for row in part] == sorted(lines)


def test_records_have_a_hundred_bytes_with_their_newline(records):
    assert {len(line) for line in lines_of(records)} == {99}


def test_one_and_two_threads_give_equal_bytes(load, records, bytes_of):
    frame = load("distributed_sort").job(km.scan_text(records))
    settings = {"split_size": "200KiB", "partitions": 3}
    assert bytes_of(frame, 1, **settings) == bytes_of(frame, 2, **settings)


def test_main_sorts_records_of_its_own(run_main, tmp_path):
    said = run_main("distributed_sort", "--partitions", 2, "-o", "sorted")
    assert "wrote sorted: 2 files, 200,000 rows" in said
