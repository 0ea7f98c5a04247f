"""The four tables of h2o's db-benchmark for joins, from its published formulas, each as one Parquet file.

With N rows there are three key ranges, of N/1e6, N/1e3 (at least 10) and N, each 1.1 times as many numbers, shuffled:
0.9 of a range are keys of both sides, 0.1 of the left alone, 0.1 of the right alone. Every key of a side is there at
least once, the others are drawn. id4, id5, id6 are the keys as texts, "id%d"; v1, v2 a
number in [0, 100) of 6 decimals.

    x       N rows      id1 id2 id3 id4 id5 id6 v1
    small   N/1e6       id1 id4 v2
    medium  N/1e3       id1 id2 id4 id5 v2
    big     N           id1 id2 id3 id4 id5 id6 v2
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

ROW_GROUP_ROWS = 1_000_000
_LEVELS = {"x": 3, "small": 1, "medium": 2, "big": 3}


def write_join_tables(folder: Path, *, rows: int, seed: int) -> dict[str, Any]:
    """Write x, small, medium and big .parquet into `folder`, snappy; returns what describes them."""
    random = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    counts = [max(10, rows // 1_000_000), max(10, rows // 1_000), rows]
    sides = [_keys(random, count) for count in counts]
    facts: dict[str, Any] = {}
    for name, level in _LEVELS.items():
        size = rows if name == "x" else counts[level - 1]
        keys = [_sampled(random, left if name == "x" else right, size) for left, right in sides[:level]]
        columns: dict[str, Any] = {f"id{n}": pa.array(key) for n, key in enumerate(keys, 1)}
        for n, key in enumerate(keys, 4):
            texts = pa.array([f"id{number}" for number in range(int(key.max()) + 1)])
            columns[f"id{n}"] = texts.take(pa.array(key))
        columns["v1" if name == "x" else "v2"] = pa.array(np.round(random.random(size) * 100, 6))
        target = folder / f"{name}.parquet"
        pq.write_table(pa.table(columns), target, compression="snappy", row_group_size=ROW_GROUP_ROWS)
        facts[name] = {"rows": size, "bytes": target.stat().st_size}
    about = {"seed": seed, "compression": "snappy", "formulas": "h2o db-benchmark, join-datagen.R"}
    return {"name": folder.name, **facts, **about, "pyarrow": pa.__version__, "numpy": np.__version__}


def _keys(random: np.random.Generator, count: int) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """The keys of the left side and of the right: nine in ten of each are on both."""
    shuffled = random.permutation(int(count * 1.1)) + 1
    both, left = int(count * 0.9), count
    return shuffled[:left], np.concatenate([shuffled[:both], shuffled[left:]])


def _sampled(random: np.random.Generator, keys: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """All of the keys, as many as fit, and others drawn from them, shuffled."""
    drawn = random.choice(keys, max(0, size - keys.size))
    whole: np.ndarray[Any, Any] = random.permutation(np.concatenate([keys[:size], drawn]))
    return whole
