"""Check sorted records as valsort does: `python -m bench.sortcheck PATH` prints facts of an output as JSON.

PATH is a Parquet file, or a folder whose files, in the order of their names, are to hold the order. Facts: rows, pairs
of neighbours that are out of order (0 is right), pairs of neighbours with one key, and the checksum of `bench.records`,
which does not depend on the order; and the codecs. It reads with pyarrow and compares with numpy, so what it says
depends on no engine that is measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from bench.records import KEY_BYTES, PAYLOAD_BYTES, RECORD_BYTES, Bytes, checksum_of

_BATCH_ROWS = 1 << 16


def sort_facts(path: Path) -> dict[str, Any]:
    """The facts of an output; an error of pyarrow's for a record that does not have 10 and 90 bytes."""
    files = sorted(path.glob("*.parquet")) if path.is_dir() else [path]
    rows = unordered = equal = checksum = 0
    codecs: set[str] = set()
    before: Bytes | None = None
    for file in files:
        with pq.ParquetFile(file) as opened:
            codecs |= _codecs(opened.metadata)
            for records in _records(opened):
                keys = records[:, :KEY_BYTES]
                neighbours = keys if before is None else np.concatenate([before, keys])
                pairs = _compared(neighbours)
                unordered, equal = unordered + int((pairs > 0).sum()), equal + int((pairs == 0).sum())
                rows, checksum = rows + len(records), checksum + checksum_of(records)
                before = keys[-1:].copy()
    return {
        "rows": rows,
        "unordered": unordered,
        "equal": equal,
        "checksum": f"{checksum:x}",
        "codecs": sorted(codecs),
    }


def _codecs(metadata: pq.FileMetaData) -> set[str]:
    groups = (metadata.row_group(number) for number in range(metadata.num_row_groups))
    return {group.column(number).compression.lower() for group in groups for number in range(group.num_columns)}


def _records(file: pq.ParquetFile) -> Iterator[Bytes]:
    """Records as arrays of (n, 100) bytes, whichever type of bytes the file has."""
    for batch in file.iter_batches(_BATCH_ROWS, columns=["key", "payload"]):
        if not batch.num_rows:
            continue
        records = np.empty((batch.num_rows, RECORD_BYTES), np.uint8)
        records[:, :KEY_BYTES] = _bytes(batch.column("key"), KEY_BYTES)
        records[:, KEY_BYTES:] = _bytes(batch.column("payload"), PAYLOAD_BYTES)
        yield records


def _bytes(column: Any, width: int) -> Bytes:
    """The values as an array of (n, width) bytes. Raises ArrowInvalid for a null or another width."""
    if column.null_count:
        raise pa.ArrowInvalid("a record has a null")
    fixed = column.cast(pa.binary(width))
    data = np.frombuffer(memoryview(fixed.buffers()[1]), np.uint8, len(fixed) * width, fixed.offset * width)
    return data.reshape(-1, width)


def _compared(keys: Bytes) -> np.ndarray[Any, np.dtype[np.int8]]:
    """For each neighbour but the first how the key before it compares: -1, 0, or 1, which is out of order."""
    high = np.ascontiguousarray(keys[:, :8]).view(">u8").reshape(-1).astype(np.uint64)
    low = np.ascontiguousarray(keys[:, 8:]).view(">u2").reshape(-1).astype(np.uint16)
    more = (high[:-1] > high[1:]) | ((high[:-1] == high[1:]) & (low[:-1] > low[1:]))
    less = (high[:-1] < high[1:]) | ((high[:-1] == high[1:]) & (low[:-1] < low[1:]))
    compared: np.ndarray[Any, np.dtype[np.int8]] = more.astype(np.int8) - less.astype(np.int8)
    return compared


@click.command(help=__doc__)
@click.argument("path", type=click.Path(exists=True, path_type=Path))
def main(path: Path) -> None:
    """Print the facts of an output."""
    click.echo(json.dumps(sort_facts(path)))


if __name__ == "__main__":
    main()
