"""The hash of rows that users ask for: `Expr.hash`. The partition hash under a seed of theirs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from kernelmill.engine.batch import buffer_of
from kernelmill.engine.exec.exchange import add_to_hashes


def hashed(values: list[Any], seed: int) -> Any:
    """The uint64 hash of each row of columns and single values; a single value if there are no columns.

    Each further value is hashed under the hash so far as its seed. A struct counts as its fields in turn, a null one as
    one of null fields.
    """
    rows = next((len(one) for one in values if isinstance(one, pa.Array)), None)
    hashes = np.full(1 if rows is None else rows, seed, np.uint64)
    for value in values:
        column = value if isinstance(value, pa.Array) else pa.repeat(value, hashes.size)
        for part in _parts(column):
            add_to_hashes(part, hashes)
    made = pa.Array.from_buffers(pa.uint64(), hashes.size, [None, buffer_of(hashes)], 0)
    return made[0] if rows is None else made


def _parts(column: Any) -> list[Any]:
    if not pa.types.is_struct(column.type):
        return [column]
    return [part for field in column.flatten() for part in _parts(field)]
