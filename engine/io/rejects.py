"""Rejected records: bounded while tasks run, then one Parquet file in an order that threads do not change."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pyarrow as pa

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.ids import TaskId
from kernelmill.engine.io.context import Reject, where
from kernelmill.engine.io.source import arrow_path
from kernelmill.engine.sizes import format_things

_FIELDS: list[pa.Field[Any]] = [
    pa.field("file", pa.string(), nullable=False),
    pa.field("offset", pa.int64()),
    pa.field("line", pa.int64()),
    pa.field("row", pa.int64()),
    pa.field("record", pa.binary(), nullable=False),
    pa.field("reason", pa.string(), nullable=False),
    pa.field("code", pa.string(), nullable=False),
]
REJECT_SCHEMA = pa.schema(_FIELDS)
"""`offset`, `line` and `row` say where the record is, as Reject does; `record` is binary, for it may be no text."""

_SHOWN = 10
_SHOWN_BYTES = 80
_ROW_GROUP_ROWS = 64 << 10


class RejectList:
    """The rejects of one task while it runs: `add` raises KM0503 as soon as there are more than `rejects_max`."""

    def __init__(self, rejects_max: int) -> None:
        self.records: list[Reject] = []
        self._rejects_max = rejects_max

    def add(self, record: Reject) -> None:
        """Set a record aside, in order of occurrence."""
        self.records.append(record)
        if len(self.records) > self._rejects_max:
            raise too_many_rejects(self.records, self._rejects_max)


class RejectWriter:
    """The rejects of a job: take each task's once, in whatever order tasks end, and write them in task order.

    Raises KM0503, with counts by reason and the first ten, once there are more than `rejects_max` in all.
    """

    def __init__(self, rejects_max: int) -> None:
        self._rejects_max = rejects_max
        self._of_task: dict[TaskId, tuple[Reject, ...]] = {}
        self._rows = 0

    @property
    def rows(self) -> int:
        """How many records are rejected so far."""
        return self._rows

    def add(self, task: TaskId, records: Iterable[Reject]) -> None:
        """Take the rejects of the attempt whose result counts; a task's second result replaces its first."""
        self._rows -= len(self._of_task.pop(task, ()))
        kept = tuple(records)
        if kept:
            self._of_task[task] = kept
            self._rows += len(kept)
        if self._rows > self._rejects_max:
            raise too_many_rejects(self.records(), self._rejects_max)

    def records(self) -> list[Reject]:
        """All rejects: by task, within a task in order of occurrence."""
        return [record for task in sorted(self._of_task) for record in self._of_task[task]]

    def by_reason(self) -> dict[str, int]:
        """How many for each reason, in the order of the reasons' text; the manifest holds this."""
        counts = Counter(record.reason for record in self.records())
        return {reason: counts[reason] for reason in sorted(counts)}

    def table(self) -> pa.Table:
        """All rejects as a table of REJECT_SCHEMA."""
        return reject_table(self.records())


def reject_table(records: Sequence[Reject]) -> pa.Table:
    """Rejects as a table of REJECT_SCHEMA, in the order given."""
    values = {name: [getattr(record, name) for record in records] for name in REJECT_SCHEMA.names}
    values["file"] = [arrow_path(record.file) for record in records]
    columns = [pa.array(values[field.name], field.type) for field in REJECT_SCHEMA]
    return pa.Table.from_arrays(columns, schema=REJECT_SCHEMA)


def too_many_rejects(records: Sequence[Reject], rejects_max: int) -> KernelmillError:
    """KM0503: counts by reason, most frequent first, and the first ten records."""
    counts = sorted(Counter(record.reason for record in records).items(), key=lambda item: (-item[1], item[0]))
    were = f"{format_things(len(records), 'record')} {'was' if len(records) == 1 else 'were'}"
    lines = [f"{were} rejected, max_rejects allows {rejects_max:,}"]
    lines += [f"  {count:,} x {reason}" for reason, count in counts[:_SHOWN]]
    lines += ["  the first of them:" if len(records) > 1 else "  it is:"]
    for record in records[:_SHOWN]:
        place = where(record.file, record.offset, record.line, record.row)
        lines.append(f"  {place}: {record.record[:_SHOWN_BYTES]!r}")
    hint = "look at the input, or raise max_rejects= if so many bad records are expected"
    return error(Code.REJECT_LIMIT, "\n".join(lines), hint=hint)
