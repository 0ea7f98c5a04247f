"""A user's function called record by record: what it emitted becomes rows, what went wrong an error or a reject."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.emits import Shape, Staging
from kernelmill.engine.exec.pycolumns import NOT_FITTING
from kernelmill.engine.io.context import Reject, RowPlace
from kernelmill.engine.userfunctions import UserFunction, is_interrupt

FAILURES = BaseException
"""What a user's function may raise: all is about the record but MemoryError and what `is_interrupt`."""
EMITS_MAX = 1 << 16
"""So many emits are made to rows at once; a single record may emit more."""
_RECORD_BYTES_MAX = 64 << 10


class Record(NamedTuple):
    """A record for people: where it comes from, its bytes for the rejects, its text for messages."""

    place: RowPlace
    data: bytes
    text: str


Describe = Callable[[int], Record]
"""Describes a record by its number among those staged."""


class _Bad(NamedTuple):
    reason: str
    code: Code


class Calls:
    """Staged calls of one function in one task. Use: call, then `kept` or `failed`; `flush` once there is enough."""

    def __init__(self, function: UserFunction, staged: Staging, shape: Shape, context: TaskContext) -> None:
        self.function, self.staged, self._shape, self._context = function, staged, shape, context
        # a combined value stands for many records, of which none could be named
        self._rejecting = context.on_bad == "reject" and function.role in ("map", "reduce")
        self._bad: dict[int, _Bad] = {}
        self.side_batches: list[pa.RecordBatch] = []
        """What was emitted to each named output up to the last `flush`."""

    def kept(self) -> None:
        """The function returned after it had counted or rejected something."""
        why = self.staged.keep()
        if why is not None:
            self._bad[len(self.staged.ends) - 1] = _Bad(why, Code.FUNCTION_FAILED)

    def failed(self, problem: BaseException, describe: Describe) -> None:
        """The function raised: KM0301 naming the record, or it is set aside where on_bad says so.

        A record that had rejected itself is set aside with its own reason whatever on_bad says. A MemoryError is
        KM0401 naming the record, which is never set aside for it.
        """
        self._context.check_cancelled()  # then it failed because its values ended
        if isinstance(problem, MemoryError) or is_interrupt(problem):
            record = describe(len(self.staged.ends))
            raise self.function.failed(problem, record.text, str(record.place))
        if self.staged.is_rejected:
            self.kept()
            return
        number = len(self.staged.ends)
        self.staged.undo()
        if not self._rejecting:
            self._batches(describe)  # an earlier record may be wrong as well, and is named then
            record = describe(number)
            raise self.function.failed(problem, record.text, str(record.place)) from problem
        made = self.function.failed(problem, "", "")
        self._bad[number] = _Bad(made.reason, made.code)

    def flush(self, describe: Describe) -> tuple[pa.RecordBatch, NDArray[np.int64]]:
        """The rows of what was emitted, and how many there are up to the end of each record; forgets the records."""
        batch, *self.side_batches = self._batches(describe)
        for _, name, n in self.staged.counts:
            self._context.count(name, n)
        for number in sorted(self._bad):
            record, (reason, code) = describe(number), self._bad[number]
            place, data = record.place, record.data[:_RECORD_BYTES_MAX]
            self._context.reject(Reject(place.file, place.offset, None, data, reason, code.id, place.row))
        ends = np.array(self.staged.ends, np.int64)
        self.staged.clear()
        self._bad.clear()
        return batch, ends

    def part(self) -> pa.RecordBatch | None:
        """What the only record, whose call is not over, emitted so far: the staging forgets it.

        None, and it is kept, where it does not fit: `flush` says so.
        """
        try:
            batch = self._shape.batch(self.staged)
        except NOT_FITTING as problem:
            if isinstance(problem, KernelmillError):
                raise
            return None
        self.staged.keys.clear()
        self.staged.values.clear()
        return batch

    def _batches(self, describe: Describe) -> list[pa.RecordBatch]:
        """The rows of what was emitted, then those of each named output."""
        staged = self.staged
        try:
            return [self._shape.batch(staged), *(side.shape.batch(side) for side in staged.sides)]
        except NOT_FITTING as problem:
            if isinstance(problem, KernelmillError):
                raise
            wrong = self._shape.unfit(staged)
            for side in staged.sides:
                wrong = side.shape.unfit(side) | wrong
            if not self._rejecting:
                number = min(wrong)
                raise self._unfit(wrong[number], describe(number)) from problem
        reason = f"{self.function.title} emitted what does not fit schema="
        self._bad.update((number, _Bad(reason, Code.CAST)) for number in wrong)
        staged.drop(set(wrong))
        return [self._shape.batch(staged), *(side.shape.batch(side) for side in staged.sides)]

    def _unfit(self, wrong: str, record: Record) -> KernelmillError:
        where = f" [{self.function.where}]" if self.function.where else ""
        hint = f"{record.text}; convert the value before it is emitted, or change schema="
        return error(Code.CAST, f"{self.function.title} {wrong}{where}", where=str(record.place), hint=hint)
