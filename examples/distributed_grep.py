"""Distributed grep: the lines that hold a pattern, with their files and offsets (OSDI 2004, section 2.3).

Map emits a line if it matches; there is no reduce, so the lines only come into order.

    python examples/distributed_grep.py --pattern Bethlehem
    python examples/distributed_grep.py 'logs/*.log' --pattern error --regex '[0-9]+ms' -o found/
    kernelmill run examples/distributed_grep.py:grep 'books/*.txt' -o found/
"""

import kernelmill as km
from inputs import KJV, arguments

PATTERN = "Bethlehem"


def map(row, emit, pattern):
    emit.count("lines")
    if pattern in row.line:
        emit((row.path, row.offset), row.line)
        emit.count("matches")


def grep(inputs, pattern=PATTERN, regex=""):
    """The frame of the matching lines. A regular expression is an expression: it filters before map is called."""
    lines = km.scan_text(inputs, include_file_paths="path", include_offsets="offset")
    if regex:
        lines = lines.filter(km.col("line").str.contains(regex))
    return lines.pipe(km.MapReduce(map, key=("path", "offset"), value="line", side={"pattern": pattern}))


def main():
    given = arguments(__doc__, "distributed_grep", KJV, pattern=PATTERN, regex="")
    result = grep(given.inputs, given.pattern, given.regex).sink_parquet(given.output, mode="overwrite")
    print(result, dict(result.counters))
    km.scan_parquet(f"{given.output}/*.parquet").show()


if __name__ == "__main__":
    main()
