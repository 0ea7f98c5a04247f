"""Do one thing with one large input: KIND WORK SOURCE SIZE TARGET MEMORY THREADS; the inputs are bench/largetables'.

Prints the seconds from the first verb to the closed output, those of planning among them, and the rows as JSON; raises
AssertionError where the output is not what the formulas say. It opens at most 256 files at once, or fails.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

import kernelmill as km
from bench import largetables

OPEN_FILES_MAX = 256
FEW = 100
c = km.col


def _wide(work: str, source: str, size: int) -> tuple[km.LazyFrame, Callable[[Any], None]]:
    frame = km.scan_parquet(source)
    few = [f"c{number}" for number in range(0, size, max(1, size // FEW))][:FEW]
    g = np.arange(largetables.WIDE_ROWS) % largetables.WIDE_GROUPS

    def rows_are(order: Any, names: list[str]) -> Callable[[Any], None]:
        def check(out: Any) -> None:
            table = out.to_table(columns=names[:: max(1, len(names) // 50)])
            for name in table.column_names:
                assert np.array_equal(table.column(name).to_numpy(), largetables.wide_column(int(name[1:]))[order]), (
                    name
                )

        return check

    every, names = np.arange(g.size), [f"c{number}" for number in range(size)]
    match work:
        case "write":
            return frame, rows_are(every, names)
        case "select":
            return frame.select(few), rows_are(every, few)
        case "filter":
            return frame.filter(c("g") == 3), rows_are(every[g == 3], names)
        case "sort":
            order = np.argsort(-largetables.wide_column(1), kind="stable")
            return frame.sort("c1", descending=True), rows_are(order, names)
        case "compute":
            added = frame.with_columns(**{name: c(name) + 1 for name in names})

            def check(out: Any) -> None:
                found = out.to_table(columns=[names[-1]]).column(0).to_numpy()
                assert np.array_equal(found, largetables.wide_column(size - 1) + 1)

            return added, check
    aggregated = few if work == "group few" else names

    def sums(out: Any) -> None:
        table = out.to_table(columns=["g", *aggregated[:: max(1, len(aggregated) // 50)]]).sort_by("g")
        for name in table.column_names[1:]:
            column = largetables.wide_column(int(name[1:]))
            expected = [int(column[g == group].sum()) for group in range(largetables.WIDE_GROUPS)]
            assert table.column(name).to_pylist() == expected, name

    return frame.group_by("g").agg([c(name).sum() for name in aggregated]), sums


def _files(work: str, source: str, size: int) -> tuple[km.LazyFrame, Callable[[Any], None]]:
    words = largetables.WORDS
    of_word = {word: len(range(number, size, len(words))) for number, word in enumerate(words)}
    if work.startswith("parquet"):
        frame = km.scan_parquet(f"{source}/parquet").group_by("g").agg(km.len(), c("n").sum())
        expected = {word: count * largetables.FILE_ROWS for word, count in of_word.items() if count}
        total = sum(range(size * largetables.FILE_ROWS))
    else:
        lines = km.scan_text(f"{source}/text").select(g=c("line").str.tokenize())
        frame = lines.explode("g").group_by("g").agg(km.len())
        expected = {word: 3 * count for word, count in of_word.items() if count} | {"file": size}
        expected |= {str(number): 1 for number in range(size)}
        total = None

    def check(out: Any) -> None:
        table = out.to_table()
        assert dict(zip(table.column("g").to_pylist(), table.column("len").to_pylist(), strict=True)) == expected
        assert total is None or pc.sum(table.column("n")).as_py() == total

    return frame, check


def _text(work: str, source: str, size: int) -> tuple[km.LazyFrame, Callable[[Any], None]]:
    frame, rows = km.scan_parquet(source), largetables.text_rows(size)
    key = c("s").str.slice(0, largetables.KEY_DIGITS)

    def rows_are(expected: int, is_sorted: bool) -> Callable[[Any], None]:
        def check(out: Any) -> None:
            seen, below, total = 0, "", 0
            for batch in out.to_batches(columns=["s", "k"], batch_size=1 << 14):
                if not batch.num_rows:
                    continue
                heads = pc.utf8_slice_codeunits(batch.column("s"), 0, largetables.KEY_DIGITS)
                assert pc.all(pc.equal(heads.cast(pa.int64()), batch.column("k"))).as_py()
                assert pc.min(pc.binary_length(batch.column("s"))).as_py() == largetables.TEXT_BYTES
                values = batch.column("k").to_numpy()
                if is_sorted:
                    assert heads[0].as_py() > below and (np.diff(values) > 0).all()
                    below = heads[-1].as_py()
                seen, total = seen + batch.num_rows, total + int(values.sum())
            assert (seen, total) == (expected, expected * (expected - 1) // 2)

        return check

    match work:
        case "filter":
            half = rows // 2
            return frame.filter(key < f"{half:0{largetables.KEY_DIGITS}}"), rows_are(half, False)
        case "sort":
            return frame.sort("s"), rows_are(rows, True)
        case "group":
            return frame.group_by("s").agg(c("k").max()), rows_are(rows, False)
    other = km.scan_parquet(source).filter(c("k") % 10 == 0).select("s", twice=c("k") * 2)

    def joined(out: Any) -> None:
        table = out.to_table(columns=["k", "twice"])
        assert pc.all(pc.equal(pc.multiply(table.column("k"), 2), table.column("twice"))).as_py()
        assert sorted(table.column("k").to_pylist()) == list(range(0, rows, 10))

    return frame.join(other, "s"), joined


def _groups(work: str, source: str, size: int) -> tuple[km.LazyFrame, Callable[[Any], None]]:
    frame = km.scan_parquet(source).group_by("k").agg(km.len(), c("v").sum())

    def check(out: Any) -> None:
        seen = keys = values = 0
        for batch in out.to_batches():
            assert pc.min(batch.column("len")).as_py() in (1, None) and pc.max(batch.column("len")).as_py() in (1, None)
            seen += batch.num_rows
            keys += int(batch.column("k").to_numpy().sum())
            values += int(batch.column("v").to_numpy().sum())
        assert (seen, keys, values) == (size, size * (size - 1) // 2, size * (size - 1) // 2)

    return frame, check


def main(kind: str, work: str, source: str, size: str, target: str, memory: str, threads: str) -> None:
    """Do it, check it, and print the seconds of both parts."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (OPEN_FILES_MAX, OPEN_FILES_MAX))
    began = time.perf_counter()
    frame, check = {"wide": _wide, "files": _files, "text": _text, "groups": _groups}[kind](work, source, int(size))
    scanned = time.perf_counter()
    options: dict[str, Any] = {"memory": memory, "threads": int(threads), "compression": "snappy", "progress": False}
    if work.endswith("cluster"):
        options.pop("memory")
        options.pop("threads")
        with km.LocalCluster(workers=2, memory=memory):
            result = frame.sink_parquet(target, mode="overwrite", **options)
    else:
        result = frame.sink_parquet(target, mode="overwrite", **options)
    done = time.perf_counter()
    files = sorted(str(path) for path in Path(target).glob("*.parquet"))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    check(ds.dataset(files))
    facts = {"scan_s": scanned - began, "job_s": done - scanned, "rows": result.rows, "job_peak_bytes": peak}
    print(json.dumps(facts))


if __name__ == "__main__":
    main(*sys.argv[1:])
