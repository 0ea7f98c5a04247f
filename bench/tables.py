"""The group-by table of h2o's db-benchmark, from its published column formulas, as one Parquet file.

With N rows and K = N / groups: id1, id2 = "id%03d" of 1..K, id3 = "id%010d" of 1..N/K, id4, id5 = 1..K, id6 = 1..N/K,
v1 = 1..5, v2 = 1..15, v3 = a number in [0, 100) of 6 decimals; all drawn uniformly. Kept here are the columns that our
comparisons read: id3 (string key), id6 (integer key), v1, v2 and v3.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_ROWS = 1_000_000
FIELDS: list[pa.Field[Any]] = [
    pa.field("id3", pa.string()),
    pa.field("id6", pa.int64()),
    pa.field("v1", pa.int64()),
    pa.field("v2", pa.int64()),
    pa.field("v3", pa.float64()),
]
SCHEMA = pa.schema(FIELDS)


def write_group_by_table(target: Path, *, rows: int, groups: int, seed: int) -> dict[str, Any]:
    """Write `rows` rows whose keys id3 and id6 have `groups` values each, snappy; returns what describes the file."""
    random = np.random.default_rng(seed)
    key_names = pa.array([f"id{number:010d}" for number in range(1, groups + 1)])
    distinct_id3, distinct_id6 = np.zeros(groups, dtype=bool), np.zeros(groups, dtype=bool)
    with pq.ParquetWriter(target, SCHEMA, compression="snappy") as writer:
        for start in range(0, rows, ROW_GROUP_ROWS):
            count = min(ROW_GROUP_ROWS, rows - start)
            id3, id6 = random.integers(0, groups, count), random.integers(0, groups, count)
            distinct_id3[id3] = distinct_id6[id6] = True
            columns = [
                key_names.take(id3),
                pa.array(id6 + 1),
                pa.array(random.integers(1, 6, count)),
                pa.array(random.integers(1, 16, count)),
                pa.array(np.round(random.random(count) * 100, 6)),
            ]
            writer.write_batch(pa.record_batch(columns, schema=SCHEMA), row_group_size=ROW_GROUP_ROWS)
    return {
        "name": target.name,
        "bytes": target.stat().st_size,
        "rows": rows,
        "distinct_id3": int(distinct_id3.sum()),
        "distinct_id6": int(distinct_id6.sum()),
        "row_group_rows": ROW_GROUP_ROWS,
        "compression": "snappy",
        "seed": seed,
        "formulas": "h2o db-benchmark, groupby-datagen.R",
        "pyarrow": pa.__version__,
        "numpy": np.__version__,
    }


H2O_FIELDS: list[pa.Field[Any]] = [
    *(pa.field(name, pa.string()) for name in ("id1", "id2", "id3")),
    *(pa.field(name, pa.int64()) for name in ("id4", "id5", "id6", "v1", "v2")),
    pa.field("v3", pa.float64()),
]
H2O_SCHEMA = pa.schema(H2O_FIELDS)


def write_h2o_table(target: Path, *, rows: int, rows_each: int, seed: int) -> dict[str, Any]:
    """Write all nine columns, `rows_each` (K) rows in the middle for each value of id3 and id6; snappy. Its facts."""
    random = np.random.default_rng(seed)
    few, many = rows_each, rows // rows_each
    small = pa.array([f"id{number:03d}" for number in range(1, few + 1)])
    large = pa.array([f"id{number:010d}" for number in range(1, many + 1)])
    with pq.ParquetWriter(target, H2O_SCHEMA, compression="snappy") as writer:
        for start in range(0, rows, ROW_GROUP_ROWS):
            count = min(ROW_GROUP_ROWS, rows - start)
            columns = [
                *(names.take(random.integers(0, len(names), count)) for names in (small, small, large)),
                *(pa.array(random.integers(1, last + 1, count)) for last in (few, few, many, 5, 15)),
                pa.array(np.round(random.random(count) * 100, 6)),
            ]
            writer.write_batch(pa.record_batch(columns, schema=H2O_SCHEMA), row_group_size=ROW_GROUP_ROWS)
    return {
        "name": target.name,
        "bytes": target.stat().st_size,
        "rows": rows,
        "k": rows_each,
        "row_group_rows": ROW_GROUP_ROWS,
        "compression": "snappy",
        "seed": seed,
        "formulas": "h2o db-benchmark, groupby-datagen.R",
        "pyarrow": pa.__version__,
        "numpy": np.__version__,
    }
