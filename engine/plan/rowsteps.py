"""Physical steps of verbs that keep, number, or turn rows as they are: unique, row numbers, unpivot, concat."""

from __future__ import annotations

from typing import Any

import msgspec
import pyarrow as pa

_ROWS: list[pa.Field[Any]] = [pa.field("rows", pa.int64(), nullable=False)]
COUNTED = pa.schema(_ROWS)
"""What CountRows and GatherCounts make: how many rows a task has, in the order of tasks."""


class ThinRows(msgspec.Struct, frozen=True, tag="thin_rows"):
    """Leave out rows whose `keys` an earlier row of the task has; not all of them, only what is cheap to find."""

    keys: tuple[str, ...]


class UniqueRows(msgspec.Struct, frozen=True, tag="unique_rows"):
    """Of the rows of a partition that agree in `keys` the first, the last, or none if there are several.

    `keep` is first, last or none. It reads the task's blocks itself, some more than once: the first step of its stage.
    """

    keys: tuple[str, ...]
    keep: str


class CountRows(msgspec.Struct, frozen=True, tag="count_rows"):
    """How many rows the task's blocks have, without reading them: one row of COUNTED."""


class GatherCounts(msgspec.Struct, frozen=True, tag="gather_counts"):
    """The counts of all tasks in one batch."""


Counts = tuple[int, ...] | None
"""How many rows each task has; None: the task's second input tells. One task may not know, and say 0."""


class RowIndex(msgspec.Struct, frozen=True, tag="row_index"):
    """Number the rows of all tasks from `offset`, in a first column `name`."""

    name: str
    offset: int
    counts: Counts


class EveryRow(msgspec.Struct, frozen=True, tag="every_row"):
    """Each `each`th row of all tasks, from row `offset` on."""

    each: int
    offset: int
    counts: Counts


class LastRows(msgspec.Struct, frozen=True, tag="last_rows"):
    """The last `rows` rows of all tasks."""

    rows: int
    counts: Counts


class SampleRows(msgspec.Struct, frozen=True, tag="sample_rows"):
    """Some rows of all tasks, `rows` of them or, if that is None, a `fraction`; which ones follows from `seed`."""

    rows: int | None
    fraction: float
    seed: int
    counts: Counts


class Unpivot(msgspec.Struct, frozen=True, tag="unpivot"):
    """A row for each of the columns `on`: the columns `index`, the column's name, its value; `schema` is theirs."""

    on: tuple[str, ...]
    index: tuple[str, ...]
    schema: pa.Schema


class AsSchema(msgspec.Struct, frozen=True, tag="as_schema"):
    """The same rows under the nullability of `schema`, whose names and types they have."""

    schema: pa.Schema


class ReadInputs(msgspec.Struct, frozen=True, tag="read_inputs"):
    """The rows of the task's first `count` inputs, one after the other: the first step of its stage."""

    count: int


class ToShare(msgspec.Struct, frozen=True, tag="to_share"):
    """Leave all rows of a task in one partition of `partitions`, by the task's number: in order, and shared out evenly.

    Of `tasks` tasks of several stages those of this stage are `first` and those after it.
    """

    first: int
    tasks: int
    partitions: int

    def partition_of(self, task: int) -> int:
        """The partition of a task's rows."""
        return (self.first + task) * self.partitions // self.tasks


class ToEqualParts(msgspec.Struct, frozen=True, tag="to_equal_parts"):
    """Share the rows of all tasks out evenly, in their order: row r of n goes to partition r * partitions // n."""

    counts: Counts


Numbering = RowIndex | EveryRow | LastRows | SampleRows
RowStep = ReadInputs | ThinRows | UniqueRows | CountRows | GatherCounts | Numbering | Unpivot | AsSchema
