"""Inputs that are large in one way: very wide, in very many files, of very much text, or of very many groups.

`python -m bench.largetables KIND SIZE TARGET` makes one. Values follow from their row's number, so that results are
known without an engine; memory stays at some hundreds of megabytes, but for text, whose row group is made at once.

    wide     SIZE columns `c0`, `c1`... of 2,000 rows: c<i> of row r is (r * (2 i + 1)) mod 1009; `g` is r mod 7
    files    SIZE tiny Parquet files of ten rows, below parquet/, and as many text files of three lines, below text/
    text     one row group with SIZE bytes in the string column `s`: a key of 8 digits, (r * 7919) mod rows, then
             padding up to 1,000 bytes; `k` is that key as a number, `r` the row
    groups   SIZE rows, each a group: `k` is a permutation of 0 .. SIZE - 1 (r * 400,009 mod the next prime), `v` is r
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

WIDE_ROWS, WIDE_VALUES, WIDE_GROUPS = 2_000, 1_009, 7
FILE_ROWS, FOLDER_FILES, WORDS = 10, 1_000, ("the", "of", "and", "to", "in", "that")
TEXT_BYTES, KEY_DIGITS, TEXT_STEP = 1_000, 8, 7_919
GROUP_STEP = 400_009
_BATCH_ROWS = 1 << 16


def make(kind: str, size: int, target: Path) -> None:
    """Make one input at `target`, a folder for files and else a Parquet file; it is there whole or not at all."""
    growing = target.with_name(f"{target.name}.part")
    shutil.rmtree(growing, ignore_errors=True)
    growing.unlink(missing_ok=True) if growing.is_file() else None
    growing.parent.mkdir(parents=True, exist_ok=True)
    {"wide": _wide, "files": _files, "text": _text, "groups": _groups}[kind](size, growing)
    growing.rename(target)


def wide_column(number: int) -> Any:
    """The values of column c<number>."""
    return np.arange(WIDE_ROWS, dtype=np.int64) * (2 * number + 1) % WIDE_VALUES


def keys_of_text(rows: int) -> Any:
    """The keys of the text table's rows, all different where `rows` is no multiple of 7919."""
    return np.arange(rows, dtype=np.int64) * TEXT_STEP % rows


def text_rows(size: int) -> int:
    """How many rows hold `size` bytes of text."""
    rows = -(-size // TEXT_BYTES)
    return rows + (rows % TEXT_STEP == 0)


def _wide(columns: int, target: Path) -> None:
    made = {f"c{number}": wide_column(number) for number in range(columns)}
    made["g"] = np.arange(WIDE_ROWS, dtype=np.int64) % WIDE_GROUPS
    pq.write_table(pa.table(made), target, row_group_size=WIDE_ROWS // 2, compression="snappy")


def _files(count: int, target: Path) -> None:
    for number in range(count):
        folder = f"{number // FOLDER_FILES:03}"
        if number % FOLDER_FILES == 0:
            for kind in ("parquet", "text"):
                os.makedirs(target / kind / folder)
        first = number * FILE_ROWS
        table = pa.table({"n": np.arange(first, first + FILE_ROWS), "g": [WORDS[number % len(WORDS)]] * FILE_ROWS})
        pq.write_table(table, target / "parquet" / folder / f"{number:06}.parquet", compression="none")
        word = WORDS[number % len(WORDS)]
        (target / "text" / folder / f"{number:06}.txt").write_text(f"{word}\nfile {number}\n{word} {word}\n")


def _text(size: int, target: Path) -> None:
    rows, schema = text_rows(size), pa.schema([("s", pa.string()), ("k", pa.int64()), ("r", pa.int64())])
    keys, padding = keys_of_text(rows), "-" * (TEXT_BYTES - KEY_DIGITS)
    batches = []  # all of them: pyarrow makes one row group of what it is given at once, and of nothing more
    for first, stop in _ranges(rows):
        some = keys[first:stop]
        texts = pa.array([f"{key:0{KEY_DIGITS}}{padding}" for key in some.tolist()], pa.string())
        batches.append(pa.record_batch([texts, pa.array(some), pa.array(np.arange(first, stop))], schema=schema))
    table = pa.Table.from_batches(batches)
    pq.write_table(table, target, compression="zstd", use_dictionary=False, row_group_size=rows)


def _groups(rows: int, target: Path) -> None:
    modulus = next_prime(rows)
    with pq.ParquetWriter(target, pa.schema([("k", pa.int64()), ("v", pa.int64())]), compression="snappy") as writer:
        at = 0
        for first, stop in _ranges(modulus):
            keys = np.arange(first, stop, dtype=np.int64) * GROUP_STEP % modulus
            keys = keys[keys < rows]
            writer.write_batch(pa.record_batch([keys, np.arange(at, at + keys.size)], names=["k", "v"]))
            at += keys.size


def _ranges(rows: int) -> Iterator[tuple[int, int]]:
    for first in range(0, rows, _BATCH_ROWS):
        yield first, min(rows, first + _BATCH_ROWS)


def next_prime(number: int) -> int:
    """The least prime that is not below `number` and does not divide the step of keys."""
    while any(number % divisor == 0 for divisor in range(2, int(number**0.5) + 1)) or number in (1, GROUP_STEP):
        number += 1
    return number


if __name__ == "__main__":
    make(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
