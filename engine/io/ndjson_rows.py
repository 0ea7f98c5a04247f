"""JSON lines: an object a line, to record batches by pyarrow's parser with types that were fixed at scan.

What pyarrow 26 takes for rows besides objects is refused here: a first line `null` ends the process, a later one is a
row of nulls, and several objects of one line are several rows.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.errors import Code
from kernelmill.engine.io.blocks import FileReader
from kernelmill.engine.io.textrows import Piece
from kernelmill.engine.lazymodules import imported

BLOCK_BYTES = 4 << 20
LINE_BYTES_MAX = 64 << 20
_PARSED_BYTES_MAX = 1 << 30
_BLANKS = b" \t\r\n"
_NOT_AN_OBJECT = "a line is not one object"
_OF_VALUES = ("Failed to convert JSON", "changed from")


class JsonParser:
    """Makes rows with the columns of `schema` of whole lines; `infer`: of all columns, with types found for others."""

    def __init__(self, schema: pa.Schema, *, infer: bool = False) -> None:
        self._json = imported("pyarrow.json")
        self._schema, self._infer = schema, infer
        self._read = self._json.ReadOptions(use_threads=False, block_size=_PARSED_BYTES_MAX)
        self._parse = self._json.ParseOptions(
            explicit_schema=schema if len(schema) else None, unexpected_field_behavior="infer" if infer else "ignore"
        )

    def parse(self, data: bytes) -> pa.RecordBatch:
        """The rows of `data`; see Parser."""
        starts = self.starts(data)
        if not len(starts):
            return pa.RecordBatch.from_pylist([], schema=self._schema)
        bytes_ = np.frombuffer(data, np.uint8)
        if not (bytes_[starts] == ord("{")).all():
            firsts = (data[start : start + 64].lstrip(_BLANKS)[:1] for start in starts.tolist())
            if any(first != b"{" for first in firsts):
                raise pa.ArrowInvalid(_NOT_AN_OBJECT)
        table = self._json.read_json(pa.py_buffer(data), self._read, self._parse)
        if table.num_rows != len(starts):
            raise pa.ArrowInvalid(_NOT_AN_OBJECT)
        batch: pa.RecordBatch = table.combine_chunks().to_batches()[0]
        return batch if self._infer else batch.select(self._schema.names).cast(self._schema)

    def starts(self, data: bytes) -> NDArray[np.int64]:
        """Where lines begin that are not blank; see Parser."""
        if not data:
            return np.empty(0, np.int64)
        view = np.frombuffer(data, np.uint8)
        newlines = np.flatnonzero(view == 10)
        starts = np.concatenate((np.zeros(1, np.int64), newlines + 1))
        starts = starts[starts < len(data)]
        odd = np.flatnonzero(view[starts] != ord("{"))
        if not len(odd):
            return starts
        stops = np.append(starts[1:], len(data))
        blank = [row for row in odd.tolist() if not data[int(starts[row]) : int(stops[row])].strip(_BLANKS)]
        return np.delete(starts, blank)

    def explain(self, problem: pa.ArrowInvalid) -> tuple[Code, str, str]:
        """What is wrong with a line; see Parser."""
        text = str(problem).removeprefix("JSON parse error: ").removesuffix(" in row 0")
        if any(sign in text for sign in _OF_VALUES):
            hint = 'scan_ndjson(..., schema_overrides={"name": "type"}), or on_bad="reject"'
            return Code.CAST, f"a value is not of its column's type: {text}", hint
        hint = "on_bad='reject' sets such lines aside"
        return Code.FORMAT, f"a line is no JSON object: {text}", hint


def line_pieces(reader: FileReader, path: str) -> Iterator[Piece]:
    """The lines that `reader` reads, in pieces."""
    for block in reader.blocks(BLOCK_BYTES, None, LINE_BYTES_MAX):
        for good in reader.checked(block):
            data = good.data[good.start : good.stop].tobytes()
            yield Piece(data, good.offset, good.offset_counts_characters, reader, path)
