"""Rows that pyarrow makes of text: pieces of whole records, and the few records among them that it cannot read.

A piece is parsed at once. Where that fails it is cut in two again and again until the records are alone that fail: they
are the error, or go to the rejects, with their line; pyarrow itself names no row of a file.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Protocol

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.errors import Code, KernelmillError, error
from kernelmill.engine.io.blocks import RECORD_BYTES_KEPT, FileReader
from kernelmill.engine.io.context import Place, ReadContext, Reject, RowPlace

Located = tuple[pa.RecordBatch, Place]


class Parser(Protocol):
    """What a format makes of the bytes of whole records."""

    def parse(self, data: bytes) -> pa.RecordBatch:
        """The rows of `data`. Raises pa.ArrowInvalid where one of them cannot be read."""

    def starts(self, data: bytes) -> NDArray[np.int64]:
        """Where in `data` the records begin that give a row each."""

    def explain(self, problem: pa.ArrowInvalid) -> tuple[Code, str, str]:
        """What is wrong with a record: code, text, what to do."""


class Piece:
    """Whole records of a file: their bytes as UTF-8, and where they are in it."""

    def __init__(self, data: bytes, offset: int, counts_characters: bool, reader: FileReader, path: str) -> None:
        self.data, self.offset, self.counts_characters = data, offset, counts_characters
        self.reader, self.path = reader, path

    def part(self, start: int, stop: int) -> Piece:
        """The records of data[start:stop]."""
        return Piece(self.data[start:stop], self.offset_of(start), self.counts_characters, self.reader, self.path)

    def offset_of(self, at: int) -> int:
        """Where in the file data[at] lies, as TextBlock.offset counts."""
        return self.offset + (len(self.data[:at].decode()) if self.counts_characters else at)

    def place_of(self, at: int) -> RowPlace:
        """Where the record is that begins at data[at]."""
        offset = self.offset_of(at)
        return RowPlace(self.path, offset, None, lambda: self.reader.line_for_error(offset))


def read_piece(piece: Piece, parser: Parser, context: ReadContext) -> Iterator[Located]:
    """Yield the rows of a piece, in order, with where each comes from; batches are never empty.

    A record that cannot be read is KM0202 or KM0207, or a reject with on_bad="reject".
    """
    context.check_cancelled()
    try:
        batch = parser.parse(piece.data)
    except pa.ArrowInvalid:
        yield from _Search(piece, parser, context).rows()
        return
    if batch.num_rows:
        yield batch, _Places(piece, parser, 0)


class _Places:
    """Tells the places of the rows of data[start:]; the records are only looked for when the first is asked for."""

    def __init__(self, piece: Piece, parser: Parser, start: int) -> None:
        self._piece, self._parser, self._start = piece, parser, start

    @cached_property
    def _starts(self) -> NDArray[np.int64]:
        return self._parser.starts(self._piece.data[self._start :]) + self._start

    def __call__(self, row: int) -> RowPlace:
        return self._piece.place_of(int(self._starts[row]))


class _Search:
    """Finds the records of a piece that cannot be read, and the runs of rows between them."""

    def __init__(self, piece: Piece, parser: Parser, context: ReadContext) -> None:
        self._piece, self._parser, self._context = piece, parser, context
        self._starts = parser.starts(piece.data)
        self._bounds = [*self._starts.tolist(), len(piece.data)]

    def rows(self) -> Iterator[Located]:
        yield from self._between(0, len(self._starts))

    def _between(self, first: int, last: int) -> Iterator[Located]:
        """The rows of records [first, last)."""
        if first == last:
            return
        start, stop = self._bounds[first], self._bounds[last]
        try:
            batch = self._parser.parse(self._piece.data[start:stop])
        except pa.ArrowInvalid as problem:
            if last - first == 1:
                self._bad(start, stop, problem)
                return
            self._context.check_cancelled()
            middle = (first + last) // 2
            yield from self._between(first, middle)
            yield from self._between(middle, last)
            return
        if batch.num_rows:
            yield batch, _Places(self._piece, self._parser, start)

    def _bad(self, start: int, stop: int, problem: pa.ArrowInvalid) -> None:
        code, what, hint = self._parser.explain(problem)
        piece, offset = self._piece, self._piece.offset_of(start)
        record = piece.data[start:stop].rstrip(b"\r\n")
        if self._context.on_bad != "reject":
            raise bad_record(piece, start, code, f"{what}: {shown(record)}", hint) from problem
        line = piece.reader.line_for_reject(offset)
        self._context.reject(Reject(piece.path, offset, line, record[:RECORD_BYTES_KEPT], what, code.id))


def bad_record(piece: Piece, at: int, code: Code, what: str, hint: str) -> KernelmillError:
    """The error for the record at data[at], which names file, offset and line."""
    return error(code, what, where=str(piece.place_of(at)), hint=hint)


def shown(record: bytes) -> str:
    """A record as messages show it: its first 80 characters, quoted."""
    text = record[:320].decode(errors="replace")
    return repr(text[:80]) + ("..." if len(text) > 80 or len(record) > 320 else "")
