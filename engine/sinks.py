"""Sinks that a job writes to beside Parquet: an object of the user's with four methods, called so that it can be whole.

begin(schema, parts)  ->  write(part, batches) for each part, in several threads  ->  commit(receipts)
                                                    \\->  abort() if anything fails
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import msgspec
import pyarrow as pa

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.userfunctions import is_interrupt, method_failed, shown

_log = logging.getLogger("kernelmill.commit")
Receipt = bytes
"""What a sink's write returned, as JSON."""
_METHODS = ("begin", "write", "commit", "abort")


class DataSink(Protocol):
    """What `LazyFrame.sink` writes to. All or nothing is the sink's to keep, in these steps.

    begin(schema, parts): once, first; parts is how many times rows will come. write(part, batches): in a task, all
    rows of part 0 to parts - 1, to a place that nobody reads yet; again for the same part if the task runs again, and
    then it replaces what the first call wrote. It returns a receipt: a small value that JSON has. commit(receipts):
    once, when all parts are written, with their receipts in order of parts: makes everything visible in one step.
    abort(): instead of a commit, or after one that raised, when no write runs any more: throws away what was written.

    On a cluster begin, commit and abort run in your process, write in those of workers, which get a copy of the object
    as it is after begin. There two writes of one part may run at once, or one after abort, for what was given up for
    lost may live on: write to names that no other write has, and return them as the receipt.

    A fifth method is optional: rejects(table), before commit, takes the records that were set aside. Without it a job
    with such records fails, for they would be lost.
    """

    def begin(self, schema: pa.Schema, parts: int) -> None:
        """Make a place for parts."""

    def write(self, part: int, batches: Iterator[pa.RecordBatch]) -> Any:
        """Write the rows of one part where nobody reads yet; returns a receipt."""

    def commit(self, receipts: Sequence[Any]) -> None:
        """Make all parts visible at once."""

    def abort(self) -> None:
        """Throw away what was written."""


class HeldSink:
    """An object of the user's, checked: what it raises or leaves out is an error that names it and the part."""

    def __init__(self, given: Any) -> None:
        missing = [name for name in _METHODS if not callable(getattr(given, name, None))]
        if missing:
            hint = "a sink has begin(schema, parts), write(part, batches), commit(receipts) and abort()"
            raise error(Code.BAD_SETTING, f"{type(given).__name__} is no sink: it has no {missing[0]}()", hint=hint)
        self._given = given
        name = getattr(given, "name", None)
        self.label = name if isinstance(name, str) and name else type(given).__name__

    @property
    def takes_rejects(self) -> bool:
        """Whether it has a place for records that are set aside."""
        return callable(getattr(self._given, "rejects", None))

    def begin(self, schema: pa.Schema, parts: int) -> None:
        """Call its begin. Raises KM0301 for what that raises, as the others do."""
        self._called("begin", self._given.begin, schema, parts)

    def write(self, part: int, batches: Iterator[pa.RecordBatch]) -> Receipt:
        """Call its write with all rows of a part; the receipt, as JSON. What `batches` raise comes out as it is."""
        where = f"{self.label}, part {part}"
        problems: list[BaseException] = []
        source = _watched(batches, problems)
        try:
            receipt = self._called("write", self._given.write, part, source, where=where)
        except Exception:
            if problems:  # of the job, whatever the sink made of it
                raise problems[0] from None
            raise
        if problems:
            raise problems[0]
        if next(source, None) is not None:
            hint = "read batches to their end: every row must be written"
            raise self._wrong("write left rows of its part unread", hint, where)
        try:
            return msgspec.json.encode(receipt)
        except (TypeError, ValueError) as problem:
            hint = "return text, a number, or a list or dict of such: it must cross from other processes"
            raise self._wrong(f"write returned {shown(receipt)}: {problem}", hint, where) from problem

    def rejects(self, table: pa.Table) -> None:
        """Call its rejects. Raises KM0503 where it has no such method."""
        if not self.takes_rejects:
            what = f"{table.num_rows:,} records were rejected, and sink {self.label} has no place for them"
            raise error(Code.REJECT_LIMIT, what, hint="give it a method rejects(table), or mend the input")
        self._called("rejects", self._given.rejects, table)

    def commit(self, receipts: Sequence[Receipt]) -> None:
        """Call its commit."""
        self._called("commit", self._given.commit, [msgspec.json.decode(receipt) for receipt in receipts])

    def abort(self) -> None:
        """Call its abort; what that raises is logged, for the job has an error of its own."""
        try:
            self._given.abort()
        except BaseException as problem:
            if is_interrupt(problem):
                raise
            _log.warning("sink %s: abort raised", self.label, exc_info=True)

    def _called(self, name: str, call: Callable[..., Any], *arguments: Any, where: str = "") -> Any:
        try:
            return call(*arguments)
        except BaseException as problem:  # also what would end a task, or this process: it is about the sink
            raise method_failed(f"sink {self.label}", name, problem, where) from problem

    def _wrong(self, what: str, hint: str, where: str = "") -> KernelmillError:
        return error(Code.FUNCTION_FAILED, f"sink {self.label}: {what}", where=where, hint=hint)


def is_sink(given: Any) -> bool:
    """Whether this is meant to be a sink, and no path."""
    return callable(getattr(given, "write", None)) or callable(getattr(given, "commit", None))


def _watched(batches: Iterator[pa.RecordBatch], problems: list[BaseException]) -> Iterator[pa.RecordBatch]:
    """The batches that have rows; what they raise is noted."""
    try:
        for batch in batches:
            if batch.num_rows:
                yield batch
    except Exception as problem:
        problems.append(problem)
        raise
