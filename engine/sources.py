"""Sources that a job reads beside files and tables: an object of the user's with three members, or cached rows.

A job's splits name such a source and a split of it; the object itself stays with the runner.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import msgspec
import pyarrow as pa

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.plaintypes import plain_batch
from kernelmill.engine.schema import field_text
from kernelmill.engine.splits import SourceSplit
from kernelmill.engine.userfunctions import method_failed, shown

BATCH_ROWS = 65_536
_SPLITS_MAX = 1 << 20


class DataSource(Protocol):
    """What `km.scan_source` reads: its columns, how it is cut, and the rows of one cut.

    splits(): a list of small values that JSON has (text, numbers, lists, dicts of them): the same list, in the same
    order, as long as the data is the same. read(split): the split's record batches, always the same ones; it is called
    in any of several threads, once for each split and again where a task is run again. A third method is optional:
    size_bytes(split), about how much there is to read, from which the number of partitions and memory are planned.
    """

    @property
    def schema(self) -> pa.Schema:
        """The columns; a plain attribute will do."""

    def splits(self) -> Sequence[Any]:
        """How the source is cut; called once, by scan_source."""

    def read(self, split: Any) -> Iterable[pa.RecordBatch]:
        """The rows of one split."""


class HeldSource(Protocol):
    """A source as plans and tasks know it. `sized_splits`: each split's name as JSON, and its size in bytes.

    `input_bytes` decides how many partitions an exchange has.
    """

    @property
    def label(self) -> str:
        """What plans and messages call it."""

    @property
    def input_bytes(self) -> int:
        """What there is to read in all."""

    @property
    def sized_splits(self) -> Sequence[tuple[bytes, int]]:
        """Its splits, in order."""

    def split_name(self, split: SourceSplit) -> str:
        """What messages and rejects call a split."""

    def read(self, split: SourceSplit) -> Iterator[pa.RecordBatch]:
        """The record batches of a split, all columns."""


class UserSource:
    """An object of the user's, checked: what it raises or gives wrongly is an error that names it and the split.

    `schema` are the columns as plans have them, to which what the object gives is cast.
    """

    def __init__(self, given: Any, schema: pa.Schema) -> None:
        self._given, self._declared, self.schema = given, declared_schema(given), schema
        self.label = _label(given)
        splits = self._called("splits", given.splits)
        if isinstance(splits, str | bytes) or not isinstance(splits, Iterable):
            raise self._wrong(f"splits() returned {shown(splits)}", "return a list of small values, one for each split")
        self._values: list[Any] = []
        sized = []
        for value in splits:
            data = self._encoded(value)
            self._values.append(value)
            sized.append((data, self._size_of(value)))
            if len(sized) > _SPLITS_MAX:
                raise self._wrong(f"splits() gives more than {_SPLITS_MAX:,}", "cut the source into larger pieces")
        self.sized_splits: Sequence[tuple[bytes, int]] = tuple(sized)

    @property
    def input_bytes(self) -> int:
        """The sum of what size_bytes(split) says; 0 where the object has no such method."""
        return sum(size for _, size in self.sized_splits)

    def split_name(self, split: SourceSplit) -> str:
        """The source, and the split as the object calls it."""
        return f"{self.label}, split {split.value.decode()}"

    def read(self, split: SourceSplit) -> Iterator[pa.RecordBatch]:
        """The rows of a split, checked against the declared schema. Raises KM0301 naming source and split."""
        where = self.split_name(split)
        made = self._called("read", self._given.read, msgspec.json.decode(split.value), where=where)
        if not isinstance(made, Iterable):
            raise self._wrong(f"read gave {shown(made)}", "yield pyarrow.RecordBatch objects", where)
        batches = iter(made)
        while True:
            batch = self._called("read", next, batches, None, where=where)
            if batch is None:
                return
            self._check(batch, where)
            for start in range(0, batch.num_rows, BATCH_ROWS):
                # cut first: a cast of one slice at a time cannot overflow the 32-bit offsets of string
                yield plain_batch(batch.slice(start, BATCH_ROWS), self.schema)

    def _check(self, batch: Any, where: str) -> None:
        if not isinstance(batch, pa.RecordBatch):
            hint = "yield pyarrow.RecordBatch objects; a table has them in to_batches()"
            raise self._wrong(f"read gave {shown(batch)}", hint, where)
        found = [(field.name, field.type) for field in batch.schema]
        if found != [(field.name, field.type) for field in self._declared]:
            columns = ", ".join(field_text(field) for field in batch.schema) or "none"
            hint = "its schema says " + ", ".join(field_text(field) for field in self._declared)
            raise self._wrong(f"read gave the columns {columns}", hint, where)
        for field, column in zip(self._declared, batch.columns, strict=True):
            if not field.nullable and column.null_count:
                raise self._wrong(f"read gave nulls in {field.name!r}", f"its schema says {field.name} has none", where)

    def _called(self, name: str, call: Any, *arguments: Any, where: str = "") -> Any:
        try:
            return call(*arguments)
        except BaseException as problem:  # also what would end a task, or this process: it is about the source
            raise method_failed(f"source {self.label}", name, problem, where) from problem

    def _encoded(self, value: Any) -> bytes:
        try:
            data = msgspec.json.encode(value)
        except (TypeError, ValueError) as problem:
            hint = "a split is text, a number, or a list or dict of such: it must cross to other processes"
            raise self._wrong(f"splits() gave {shown(value)}: {problem}", hint) from problem
        return data

    def _size_of(self, value: Any) -> int:
        ask = getattr(self._given, "size_bytes", None)
        size = 0 if ask is None else self._called("size_bytes", ask, msgspec.json.decode(msgspec.json.encode(value)))
        if isinstance(size, bool) or not isinstance(size, int) or size < 0:
            raise self._wrong(f"size_bytes({shown(value)}) returned {shown(size)}", "return a number of bytes")
        return size

    def _wrong(self, what: str, hint: str, where: str = "") -> KernelmillError:
        return error(Code.FUNCTION_FAILED, f"source {self.label}: {what}", where=where, hint=hint)


def declared_schema(given: Any) -> pa.Schema:
    """The schema that a source declares. Raises KM0107 for an object that is no source."""
    missing = [name for name in ("splits", "read") if not callable(getattr(given, name, None))]
    schema = getattr(given, "schema", None)
    if missing or not isinstance(schema, pa.Schema):
        wanted = f"has no {missing[0]}()" if missing else f"has {shown(schema)} as its schema"
        hint = "a source has schema (a pyarrow.Schema), splits() and read(split)"
        raise error(Code.BAD_SETTING, f"{type(given).__name__} is no source: it {wanted}", hint=hint)
    return schema


def _label(given: Any) -> str:
    name = getattr(given, "name", None)
    return name if isinstance(name, str) and name else type(given).__name__
