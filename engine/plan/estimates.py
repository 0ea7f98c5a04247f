"""How large the rows of a plan may be, from the sizes of its inputs alone: what decides which side of a join builds.

An estimate knows nothing of how many rows a filter keeps or a group_by makes; it is a function of plan and inputs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import pyarrow as pa

from kernelmill.engine.io.decompress import codec_of
from kernelmill.engine.plan import logical, rowlogical, userlogical
from kernelmill.engine.plan.common import Common
from kernelmill.engine.plan.joins import Join

BROADCAST_BYTES_MAX, BROADCAST_ROWS_MAX = 64 << 20, 1 << 21
"""A build side of at most so much is read by every task; a larger one is partitioned, as is the other side."""

_TEXT_BYTES, _NESTED_BYTES, _ROW_BYTES = 24, 64, 64
_GROWTH = 8  # of rows by an explode or a user's function: nobody knows
_UNPACKED = 4  # bytes for one in a compressed file, or in a source


class Estimate(NamedTuple):
    """Rows, and their bytes in memory."""

    rows: int
    bytes: int

    @property
    def is_small(self) -> bool:
        """Whether every task of a stage may hold all of it."""
        return self.bytes <= BROADCAST_BYTES_MAX and self.rows <= BROADCAST_ROWS_MAX


def estimate(plan: logical.LogicalPlan) -> Estimate:
    """At most about so many rows and bytes, where the plan tells; an explode may make more."""
    match plan:
        case logical.ScanParquet():
            rows = sum(group.rows for info in plan.infos for group in info.row_groups)
            stored = sum(group.bytes_of(plan.schema.names) for info in plan.infos for group in info.row_groups)
            return Estimate(rows, max(stored, rows * _row_bytes(plan.schema)))
        case logical.ScanTable():
            batches = [batch.select(plan.schema.names) for batch in plan.batches]
            return Estimate(sum(batch.num_rows for batch in batches), sum(batch.nbytes for batch in batches))
        case logical.ScanText() | logical.ScanFiles():
            size = sum(file.size_bytes * (1 if codec_of(file.path) is None else _UNPACKED) for file in plan.files)
            row_bytes = _ROW_BYTES if isinstance(plan, logical.ScanText) else _row_bytes(plan.schema)
            return Estimate(size // row_bytes, 2 * size)
        case logical.ScanSource():
            size = _UNPACKED * plan.source.input_bytes
            return Estimate(size // _row_bytes(plan.schema), size)
        case logical.CountTokens():
            return estimate(plan.input)
        case Common(made=logical.LogicalPlan() as made):
            return estimate(made)
        case logical.Limit(rows=limit) | logical.Sort(limit=int(limit)):
            below = estimate(plan.inputs[0])
            rows = min(below.rows, limit)
            return Estimate(rows, below.bytes * rows // max(1, below.rows))
        case logical.Aggregate(keys=()):
            return Estimate(1, _row_bytes(plan.schema))
        case rowlogical.Concat(frames=frames):
            each = [estimate(frame) for frame in frames]
            return Estimate(sum(one.rows for one in each), sum(one.bytes for one in each))
        case rowlogical.Unpivot(on=on):
            rows = estimate(plan.input).rows * len(on)
            return Estimate(rows, rows * _row_bytes(plan.schema))
        case rowlogical.Unique() | rowlogical.EveryRow() | rowlogical.LastRows() | rowlogical.SampleRows():
            return estimate(plan.input)
        case rowlogical.RowIndex():
            below = estimate(plan.input)
            return Estimate(below.rows, below.bytes + 8 * below.rows)
        case logical.Project() | logical.Filter() | logical.Aggregate() | logical.Sort():
            return estimate(plan.inputs[0])
        case userlogical.Partition() | userlogical.SortPartitions() | userlogical.GatherGroups():
            return estimate(plan.inputs[0])
        case Join(how="cross"):
            left, right = estimate(plan.left), estimate(plan.right)
            rows = left.rows * right.rows
            return Estimate(rows, rows * _row_bytes(plan.schema))
        case Join(how="semi" | "anti"):
            return estimate(plan.left)
        case Join():
            left, right = estimate(plan.left), estimate(plan.right)
            return Estimate(max(left.rows, right.rows), left.bytes + right.bytes)
        case _:
            sizes = [estimate(one) for one in plan.inputs]
            return Estimate(_GROWTH * sum(one.rows for one in sizes), _GROWTH * sum(one.bytes for one in sizes))


def _row_bytes(schema: pa.Schema) -> int:
    return max(1, sum(_value_bytes(field.type) for field in schema))


def _value_bytes(kind: Any) -> int:
    if pa.types.is_nested(kind):
        return _NESTED_BYTES
    try:
        return int(-(-kind.bit_width // 8))
    except ValueError:  # what pyarrow says of types without one
        return _TEXT_BYTES
