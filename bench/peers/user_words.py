"""Count words as a user of MapReduce would: FILE OUT WAY CODEC THREADS. Prints the seconds of the job.

WAY: compiled, interpreted (compile="never"), or built-in: the same count by verbs, as `kernelmill wordcount` plans it.
"""

from __future__ import annotations

import sys
import time
from typing import Any

import kernelmill as km


def words(line: Any, emit: Any) -> None:
    """The paper's map: each word, once."""
    for word in line.split():
        emit(word, 1)


def plan(way: str, path: str) -> km.LazyFrame:
    """The frame to run, with columns word and len."""
    lines = km.scan_text(path)
    if way == "built-in":
        tokens = lines.select(word=km.col("line").str.tokenize("whitespace"))
        return tokens.explode("word").group_by("word").agg(km.len())
    compiling = {"compiled": "require", "interpreted": "never"}[way]
    types = {"word": "string", "len": "int64"}
    job = km.MapReduce(words, reduce="sum", order=None, key="word", value="len", schema=types, compile=compiling)
    return lines.pipe(job)


def main(path: str, target: str, way: str, codec: str, threads: str) -> None:
    """Run the count."""
    began = time.perf_counter()
    plan(way, path).sink_parquet(target, compression=codec, mode="overwrite", progress=False, threads=int(threads))
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
