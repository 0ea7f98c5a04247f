"""The plan node of rows that a plan asks for several times and that are made once: see `sharing`."""

from __future__ import annotations

import pyarrow as pa

from kernelmill.engine.plan.logical import LogicalPlan, unique_names


class Common(LogicalPlan, frozen=True, eq=False):
    """These columns of the rows of `made`, which are made once for all nodes of the same `number`.

    It is a leaf to every rule: what makes the rows is optimized apart, and is None until it is.
    """

    number: int
    columns: pa.Schema
    made: LogicalPlan | None = None

    def _derive(self) -> pa.Schema:
        return unique_names(list(self.columns))
