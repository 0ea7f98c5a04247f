"""Build an inverted index as a user of MapReduce would: FILE OUT CODEC THREADS. Prints the seconds of the job.

A word is a run of A-Z a-z 0-9 and _; its postings are, in order, the offsets of the lines it is in, once for each time.
"""

from __future__ import annotations

import re
import sys
import time
from typing import Any

import kernelmill as km


def postings(row: Any, emit: Any) -> None:
    """Each word of a line, with the line's offset."""
    for word in re.findall("[A-Za-z0-9_]+", row.line):
        emit(word, row.at)


def main(path: str, target: str, codec: str, threads: str) -> None:
    """Run the job; words come out as they were first seen, as the peers' come out in no order."""
    began = time.perf_counter()
    index = km.MapReduce(postings, reduce="list", order=None, key="word", value="at")
    frame = km.scan_text(path, include_offsets="at").pipe(index)
    frame.sink_parquet(target, compression=codec, mode="overwrite", progress=False, threads=int(threads))
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
