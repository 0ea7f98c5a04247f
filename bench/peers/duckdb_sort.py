"""Sort records by key with DuckDB: FILE OUT.parquet CODEC THREADS MEMORY. Prints the seconds of the sort as JSON.

MEMORY as memory_limit takes it, or "any"; what does not fit is spilled beside OUT.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import duckdb

from bench.peers.timing import print_runs


def main(path: str, target: str, codec: str, threads: str, memory: str) -> None:
    """Run the sort once."""
    with tempfile.TemporaryDirectory(dir=Path(target).parent) as spills:
        settings = {"threads": int(threads), "preserve_insertion_order": False, "temp_directory": spills}
        if memory != "any":
            settings["memory_limit"] = memory
        connection = duckdb.connect(config=settings)
        connection.execute("SET enable_progress_bar = false")
        query = f"SELECT key, payload FROM read_parquet('{path}') ORDER BY key"
        print_runs(lambda: connection.execute(f"COPY ({query}) TO '{target}' (FORMAT parquet, CODEC {codec})"), 1)
        connection.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
