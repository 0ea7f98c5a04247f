"""LazyFrame.sink: begin, a write for each part, then one commit; an abort instead of it whatever goes wrong."""

from __future__ import annotations

import os
import signal
import threading

import pyarrow as pa
import pytest

import kernelmill as km
from kernelmill.engine.errors import Code, KernelmillError

PAIRS = {"key": "int64", "value": "int64"}


class Shelf:
    """Keeps parts aside and shows them at commit; notes the calls."""

    def __init__(self):
        self.calls, self.parts, self.shown, self.lock = [], {}, None, threading.Lock()

    def note(self, *call):
        with self.lock:
            self.calls.append(call)

    def begin(self, schema, parts):
        self.note("begin", schema.names, parts)

    def write(self, part, batches):
        rows = [row for batch in batches for row in zip(*batch.to_pydict().values(), strict=True)]
        self.note("write", part)
        self.parts[part] = rows
        return {"part": part, "rows": len(rows)}

    def commit(self, receipts):
        self.note("commit", [receipt["part"] for receipt in receipts])
        self.shown = [row for receipt in receipts for row in self.parts[receipt["part"]]]

    def abort(self):
        self.note("abort")
        self.parts.clear()

    def names(self):
        return [call[0] for call in self.calls]


def numbers(count=100, chunk=10):
    table = pa.table({"n": list(range(count))})
    return km.from_arrow(pa.Table.from_batches(table.to_batches(max_chunksize=chunk)))


def by_ten(n, emit):
    emit(n % 10, n)


JOB = km.MapReduce(by_ten, "sum", schema=PAIRS, compile="never", partitions=3)


def caught(call, *arguments, **options):
    with pytest.raises(KernelmillError) as found:
        call(*arguments, **options)
    return found.value


@pytest.mark.parametrize("threads", [1, 3])
def test_a_sink_gets_all_rows_in_order_of_parts_and_commits_once(threads):
    shelf = Shelf()
    result = numbers().sink(shelf, threads=threads, split_size=100)
    parts = len(shelf.parts)
    assert parts > 3 and shelf.shown == [(n,) for n in range(100)]
    assert shelf.calls[0] == ("begin", ["n"], parts) and shelf.calls[-1] == ("commit", list(range(parts)))
    assert sorted(shelf.calls[1:-1]) == [("write", part) for part in range(parts)]
    assert (result.path, result.rows, result.files) == ("Shelf", 100, ())


def test_a_job_runs_into_a_sink_as_into_a_folder(tmp_path):
    shelf = Shelf()
    result = JOB.run(numbers(), output=shelf)
    JOB.run(numbers(), output=tmp_path / "out")
    assert shelf.shown == km.read_parquet(tmp_path / "out").rows() and len(shelf.parts) == 3
    assert result.rows == 10


def test_a_part_without_rows_is_written_too():
    shelf = Shelf()
    numbers().filter(km.col("n") < 0).sink(shelf, split_size=100)
    assert shelf.shown == [] and len(shelf.parts) > 3


def test_a_part_whose_task_runs_again_is_written_again_and_committed_once(tmp_path, monkeypatch):
    from kernelmill.engine.shuffle import store as stores

    damaged = []
    decode = stores.decode_piece

    def decode_once(data, schema, **options):
        if not damaged:
            damaged.append(1)
            data = data.slice(0, len(data) - 1)
        return decode(data, schema, **options)

    open_output = stores.BlockStore.open

    def open_on_disk(store, *arguments, **options):
        store._room.close_memory()
        return open_output(store, *arguments, **options)

    monkeypatch.setattr(stores, "decode_piece", decode_once)
    monkeypatch.setattr(stores.BlockStore, "open", open_on_disk)
    monkeypatch.setenv("KERNELMILL_SPILL_DIR", str(tmp_path))
    shelf = Shelf()
    numbers().pipe(km.MapReduce(by_ten, "list", schema=PAIRS, compile="never", partitions=2, order=None)).sink(shelf)
    assert damaged and sorted(key for key, _ in shelf.shown) == list(range(10))
    assert shelf.names().count("commit") == 1 and "abort" not in shelf.names()


# What goes wrong ------------------------------------------------------------------------------------------------------


class Failing(Shelf):
    """A shelf of which one method raises."""

    def __init__(self, where):
        super().__init__()
        self.where = where

    def note(self, *call):
        super().note(*call)
        if call[0] == self.where:
            raise OSError("the shelf broke")


@pytest.mark.parametrize("where", ["begin", "write", "commit"])
def test_what_a_sink_raises_names_it_and_ends_in_an_abort(where):
    shelf = Failing(where)
    found = caught(numbers().sink, shelf, threads=2, split_size=100)
    assert found.code is Code.FUNCTION_FAILED and f"sink Failing: {where} raised OSError" in found.what
    assert shelf.names()[-1] == "abort" and shelf.shown is None and shelf.names().count("abort") == 1
    if where == "write":
        assert found.where.startswith("Failing, part ")


def test_an_abort_that_raises_leaves_the_first_error():
    class Twice(Failing):
        def abort(self):
            raise ValueError("no")

    assert "write raised OSError" in caught(numbers().sink, Twice("write")).what


def test_a_job_that_fails_aborts_its_sink_when_nothing_writes_any_more():
    def fails(n, emit):
        emit(n, 1 // (n - 77))

    class Slow(Shelf):
        def write(self, part, batches):
            try:
                return super().write(part, batches)
            finally:
                self.note("left")

    shelf = Slow()
    job = km.MapReduce(fails, schema=PAIRS, compile="never", order=None)
    found = caught(numbers().pipe(job).sink, shelf, threads=3, split_size=100)
    assert found.code is Code.FUNCTION_FAILED and "ZeroDivisionError" in found.what
    assert shelf.names()[-1] == "abort" and shelf.shown is None


def test_an_error_of_the_job_is_not_taken_for_one_of_the_sink_that_wraps_it():
    class Wrapping(Shelf):
        def write(self, part, batches):
            try:
                return super().write(part, batches)
            except Exception as problem:
                raise RuntimeError("wrapped") from problem

    class Swallowing(Shelf):
        def write(self, part, batches):
            try:
                return super().write(part, batches)
            except Exception:
                return None

    for kind in (Wrapping, Swallowing):
        found = caught(numbers().with_columns(m=(km.col("n") * 2).cast("int8")).sink, kind())
        assert found.code is Code.CAST, kind


def test_ctrl_c_aborts(signals_reach_children):
    class Pressing(Shelf):
        def begin(self, schema, parts):
            super().begin(schema, parts)
            os.kill(os.getpid(), signal.SIGINT)

    shelf = Pressing()
    with pytest.raises(KeyboardInterrupt):
        numbers().sink(shelf)
    assert shelf.names()[-1] == "abort" and shelf.shown is None


def test_rows_that_a_sink_leaves_unread_are_an_error():
    class Lazy(Shelf):
        def write(self, part, batches):
            next(batches, None)
            return 0

    found = caught(numbers().map_batches(lambda b: b).sink, Lazy(), split_size="1MB")
    assert found.code is Code.FUNCTION_FAILED and "unread" in found.what


def test_a_receipt_must_be_a_value_that_json_has():
    class Odd(Shelf):
        def write(self, part, batches):
            super().write(part, batches)
            return object()

    assert "write returned" in caught(numbers().sink, Odd()).what


@pytest.mark.parametrize("given", [object(), "out/", Shelf])
def test_an_object_that_is_no_sink_is_refused(given):
    if given is Shelf:
        given = Shelf()
        given.abort = None
    assert caught(numbers().sink, given).code is Code.BAD_SETTING


def test_a_sink_takes_no_mode_and_one_output():
    assert caught(JOB.run, numbers(), output=Shelf(), mode="overwrite").code is Code.BAD_SETTING
    several = km.MapReduce(by_ten, "sum", schema=PAIRS, compile="never", outputs={"x": km.Output(schema=PAIRS)})
    assert caught(several.run, numbers(), output=Shelf()).code is Code.BAD_SETTING


# Rejects --------------------------------------------------------------------------------------------------------------


def only_even(n, emit):
    if n % 2:
        emit.reject("odd")
    emit(n, 1)


def test_a_sink_with_a_place_for_rejects_gets_them_before_it_commits():
    class WithRejects(Shelf):
        def rejects(self, table):
            self.note("rejects", table.num_rows, set(table.column("reason").to_pylist()))

    shelf = WithRejects()
    job = km.MapReduce(only_even, "sum", schema=PAIRS, compile="never")
    result = job.run(numbers(), output=shelf, on_bad="reject")
    assert shelf.calls[-2] == ("rejects", 50, {"odd"}) and shelf.names()[-1] == "commit"
    assert dict(result.rejects) == {"odd": 50} and len(shelf.shown) == 50


def test_without_such_a_place_nothing_is_dropped_quietly():
    shelf = Shelf()
    job = km.MapReduce(only_even, "sum", schema=PAIRS, compile="never")
    assert caught(job.run, numbers(), output=shelf, on_bad="reject").code is Code.BAD_SETTING
    assert shelf.calls == []


def test_lines_that_are_skipped_fail_a_sink_that_cannot_keep_them(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"ok\nb\xffd\n")
    shelf = Shelf()
    found = caught(km.scan_text(tmp_path / "a.txt", invalid="skip").sink, shelf)
    assert found.code is Code.REJECT_LIMIT and shelf.names()[-1] == "abort"
