"""Count words as a script would: a dict and a loop; FILE OUT.parquet CODEC. Prints the seconds of it."""

from __future__ import annotations

import sys
import time
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq


def count_words(path: str) -> dict[str, int]:
    """Words of a text file, as `str.split()` gives them, and how often each comes."""
    counts: dict[str, int] = {}
    with open(path, encoding="utf-8", newline="\n") as lines:
        for line in lines:
            for word in line.split():
                counts[word] = counts.get(word, 0) + 1
    return counts


def main(path: str, target: str, codec: Any) -> None:
    """Count and write."""
    began = time.perf_counter()
    counts = count_words(path)
    table = pa.table({"word": list(counts), "len": list(counts.values())})
    pq.write_table(table, target, compression=codec)
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
