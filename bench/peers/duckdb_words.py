"""Count a text's words with DuckDB into Parquet: FILE OUT.parquet FORMULATION CODEC THREADS. Prints nothing.

FORMULATION is words, pieces or lines; README.md beside this file says what was tried and what it took.
"""

from __future__ import annotations

import sys

import duckdb

LINE_BYTES_MAX = 8_000_000


def spaced(text: str) -> str:
    """SQL that turns the other white space of bytes.split() (9, 11, 12, 13; 10 ended the line) into spaces."""
    for code in (9, 11, 12, 13):
        text = f"replace({text}, chr({code}), ' ')"
    return text


def lines_of(path: str) -> str:
    """SQL that reads a text's lines, in parallel: a separator that no text of ours holds makes each one column."""
    source = "'" + path.replace("'", "''") + "'"
    return (
        f"read_csv({source}, columns={{'line': 'VARCHAR'}}, delim='\x01', quote='', escape='', header=false,"
        f" auto_detect=false, strict_mode=false, max_line_size={LINE_BYTES_MAX})"
    )


def counting_query(path: str, formulation: str) -> str:
    """The query that gives columns word and len."""
    lines = lines_of(path)
    if formulation == "words":
        words = f"SELECT unnest(string_split({spaced('line')}, ' ')) AS word FROM {lines}"
        return f"SELECT word, count(*) AS len FROM ({words}) GROUP BY word HAVING word <> ''"
    if formulation == "pieces":  # spaces first; the other white space only in each different piece
        pieces = f"SELECT unnest(string_split(line, ' ')) AS text FROM {lines}"
    elif formulation == "lines":  # each different line is split once: it pays where lines repeat
        pieces = f"SELECT line AS text FROM {lines}"
    else:
        raise SystemExit(f"no formulation {formulation!r}: words, pieces or lines")
    counted = f"SELECT text, count(*) AS n FROM ({pieces}) GROUP BY text"
    words = f"SELECT unnest(string_split({spaced('text')}, ' ')) AS word, n FROM ({counted})"
    return f"SELECT word, sum(n)::BIGINT AS len FROM ({words}) GROUP BY word HAVING word <> ''"


def main(path: str, target: str, formulation: str, codec: str, threads: str) -> None:
    """Run the count."""
    connection = duckdb.connect(config={"threads": int(threads), "preserve_insertion_order": False})
    connection.execute("SET enable_progress_bar = false")
    query = counting_query(path, formulation)
    connection.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet, CODEC {codec})")


if __name__ == "__main__":
    main(*sys.argv[1:])
