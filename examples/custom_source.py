"""A source of one's own: a table of an SQLite database as the input of a job.

A source is an object with three members: `schema`, the columns; `splits()`, how the table is cut, here by its row ids;
and `read(split)`, the rows of one cut. Splits are read by several threads at once, so each read has a connection of its
own. `size_bytes` is optional: from it follow the numbers of partitions, and what memory is set aside.

    python examples/custom_source.py
    python examples/custom_source.py books.sqlite -o words/
    kernelmill run examples/custom_source.py:words_of_books books.sqlite -o words/
"""

import sqlite3
from pathlib import Path

import pyarrow as pa

import kernelmill as km
from inputs import KJV, arguments, made


class SqliteTable:
    """The rows of `table`, in order of their ids, `rows` a split."""

    def __init__(self, path, table, schema, rows=5_000):
        self.name = f"{path}, table {table}"
        self.schema, self._path, self._table, self._rows = schema, path, table, rows

    def splits(self):
        ((last,),) = self._select(f"SELECT coalesce(max(rowid), 0) FROM {self._table}", ())
        return [[start, min(start + self._rows, last + 1)] for start in range(1, last + 1, self._rows)]

    def read(self, split):
        columns = ", ".join(self.schema.names)
        query = f"SELECT {columns} FROM {self._table} WHERE rowid >= ? AND rowid < ? ORDER BY rowid"
        rows = self._select(query, split)
        yield pa.RecordBatch.from_pylist([dict(zip(self.schema.names, row, strict=True)) for row in rows], self.schema)

    def size_bytes(self, split):
        return 100 * (split[1] - split[0])

    def _select(self, query, values):
        connection = sqlite3.connect(f"file:{self._path}?mode=ro", uri=True)
        try:
            return connection.execute(query, values).fetchall()
        finally:
            connection.close()


LINES = pa.schema([("book", pa.string()), ("line", pa.string())])


def map(row, emit):
    emit(row.book, (1, len(row.line.split())))


job = km.MapReduce(map, "sum", key="book", value=("lines", "words"))


def words_of_books(inputs):
    """The frame: how many lines and words each book has."""
    (path,) = inputs
    return km.scan_source(SqliteTable(path, "lines", LINES)).pipe(job)


def write_database(path, pattern=KJV):
    """Make the database: a row for each line of the files that `pattern` names."""
    path = Path(path)
    path.unlink(missing_ok=True)
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE lines (book TEXT, line TEXT)")
    for file in sorted(Path(pattern).parent.glob(Path(pattern).name)):
        rows = [(file.stem, line) for line in file.read_text().splitlines()]
        connection.executemany("INSERT INTO lines VALUES (?, ?)", rows)
    connection.commit()
    connection.close()
    return str(path)


def main():
    given = arguments(__doc__, "custom_source")
    inputs = given.inputs or [write_database(made(given.output, "books.sqlite"))]
    result = words_of_books(inputs).sink_parquet(given.output, mode="overwrite")
    print(result)
    km.scan_parquet(f"{given.output}/*.parquet").top_k(5, by="words").show()


if __name__ == "__main__":
    main()
