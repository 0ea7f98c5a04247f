"""km.scan_source: an object of the user's as input; what it does wrongly is named with the source and the split."""

from __future__ import annotations

import hashlib
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError

SCHEMA = pa.schema([pa.field("shelf", pa.string(), nullable=False), pa.field("n", pa.int64())])


class Shelves:
    """Each split is a shelf: `books` of them are its rows, in batches of 7."""

    schema = SCHEMA

    def __init__(self, **books):
        self.books, self.asked = books, []

    def splits(self):
        return [{"shelf": name} for name in self.books]

    def read(self, split):
        self.asked.append(split["shelf"])
        count = self.books[split["shelf"]]
        for start in range(0, count, 7):
            numbers = list(range(start, min(count, start + 7)))
            yield pa.record_batch([pa.array([split["shelf"]] * len(numbers)), pa.array(numbers)], schema=SCHEMA)


class Giving:
    """A source of one split that gives what it was made with."""

    name = "giving"

    def __init__(self, *batches, schema=SCHEMA, splits=("only",)):
        self.schema, self._batches, self._splits = schema, batches, splits

    def splits(self):
        return self._splits

    def read(self, split):
        yield from self._batches


def caught(call, *arguments, **options):
    with pytest.raises(KernelmillError) as found:
        call(*arguments, **options)
    return found.value


def batch(**columns):
    return pa.record_batch(columns)


def test_the_rows_of_a_source_come_in_the_order_of_its_splits():
    frame = km.scan_source(Shelves(b=10, a=3, empty=0))
    expected = [("b", n) for n in range(10)] + [("a", n) for n in range(3)]
    assert frame.collect(threads=3).rows() == expected
    assert frame.columns == ["shelf", "n"] and "ScanSource Shelves" in frame.explain()


def test_only_the_splits_that_a_job_needs_are_read_and_each_once():
    source = Shelves(a=5, b=50, c=9)
    frame = km.scan_source(source)
    assert frame.group_by("shelf").len().collect(threads=2).height == 3
    assert sorted(source.asked) == ["a", "b", "c"]


def test_a_source_may_have_no_splits_and_its_columns_may_be_left_out():
    assert km.scan_source(Shelves()).select("n").collect().rows() == []
    assert km.scan_source(Shelves(a=3)).select(km.col("n") + 1).collect().rows() == [(1,), (2,), (3,)]


def test_the_same_bytes_for_any_threads(tmp_path):
    job = km.MapReduce(lambda row, emit: emit(row.n % 5, 1), "sum", schema={"key": "int64", "value": "int64"},
                       compile="never", partitions=2)  # fmt: skip
    expected = None
    for threads in (1, 2, 5):
        km.scan_source(Shelves(a=70, b=30, c=1)).pipe(job).sink_parquet(tmp_path / str(threads), threads=threads)
        found = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in Path(tmp_path / str(threads)).iterdir()}
        expected = expected or found
        assert found == expected and len(found) == 3
    assert dict(km.read_parquet(tmp_path / "1").rows()) == Counter(n % 5 for c in (70, 30, 1) for n in range(c))


def test_strings_of_any_layout_and_dictionaries_are_taken():
    schema = pa.schema([("t", pa.large_string()), ("d", pa.dictionary(pa.int8(), pa.string()))])
    columns = pa.array(["x", None], pa.large_string()), pa.array(["p", "q"]).cast(schema.field(1).type)
    given = pa.record_batch(list(columns), schema=schema)
    frame = km.scan_source(Giving(given, schema=schema))
    assert frame.collect().rows() == [("x", "p"), (None, "q")]
    assert str(frame.schema["t"]) == "string"


def test_size_bytes_decides_how_many_partitions_there_are():
    class Sized(Shelves):
        def size_bytes(self, split):
            return 200 << 20

    grouped = km.scan_source(Sized(a=1, b=1)).group_by("shelf").len()
    assert "-> 7 partitions" in grouped.explain()
    assert "partitions" not in km.scan_source(Shelves(a=1, b=1)).group_by("shelf").len().explain()


class NoRead:
    schema = SCHEMA

    def splits(self):
        return []


@pytest.mark.parametrize("given", [object(), Giving(schema=None), Giving(schema={"a": "int64"}), NoRead()])
def test_an_object_that_is_no_source_is_refused(given):
    assert caught(km.scan_source, given).code is Code.BAD_SETTING


@pytest.mark.parametrize("splits", ["one", None, [object()], [{1, 2j}]])
def test_splits_must_be_a_list_of_values_that_json_has(splits):
    found = caught(km.scan_source, Giving(splits=splits))
    assert found.code is Code.FUNCTION_FAILED and "giving" in found.what and "splits" in found.what


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (batch(shelf=["a"], m=[1]), "m: int64"),
        (batch(n=[1], shelf=["a"]), "n: int64, shelf: string"),
        (batch(shelf=["a"], n=[1.5]), "n: float64"),
        (batch(shelf=pa.array([None], pa.string()), n=[1]), "nulls in 'shelf'"),
        (pa.table({"shelf": ["a"], "n": [1]}), "read gave"),
    ],
)
def test_batches_must_have_the_declared_columns(given, said):
    found = caught(km.scan_source(Giving(given)).collect)
    assert found.code is Code.FUNCTION_FAILED and said in found.what
    assert found.where == 'giving, split "only"'


def test_a_source_that_reads_nothing_at_all_is_named():
    class Silent(Giving):
        def read(self, split):
            return None

    problem = caught(km.scan_source(Silent()).collect, progress=False)
    assert problem.code is Code.FUNCTION_FAILED
    assert "read gave None" in problem.what


def test_what_a_source_raises_names_it_and_the_split():
    class Failing(Shelves):
        def read(self, split):
            yield from super().read(split)
            raise OSError("no such shelf")

    found = caught(km.scan_source(Failing(a=3)).collect)
    assert found.code is Code.FUNCTION_FAILED and "OSError: no such shelf" in found.what
    assert found.where == 'Failing, split {"shelf":"a"}'


def test_rejected_rows_name_the_split_and_the_row():
    def odd(row, emit):
        emit(12 // (row.n % 2 - 1), 1)

    job = km.MapReduce(odd, "sum", schema={"key": "int64", "value": "int64"}, compile="never")
    found = km.scan_source(Shelves(a=2, b=20)).pipe(job).collect(on_bad="reject").rejects.to_dict()
    expected = [("a", 1), *(("b", n) for n in range(1, 20, 2))]
    assert list(zip(found["file"], found["row"], strict=True)) == [
        (f'Shelves, split {{"shelf":"{shelf}"}}', row) for shelf, row in expected
    ]


def test_long_batches_are_cut():
    given = batch(shelf=["a"] * 200_000, n=list(range(200_000)))
    sizes = [b.num_rows for b in km.scan_source(Giving(given)).collect_batches(batch_rows=1 << 20)]
    assert max(sizes) <= 65_536 and sum(sizes) == 200_000
