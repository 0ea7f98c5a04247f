"""Records of 100 bytes to sort, byte for byte those of gensort (C. Nyberg, sortbenchmark.org), as one Parquet file.

A record's number n gives a 128-bit word x = a * x + c, n + 1 times from 0. Its key is the word's first 10 bytes; then
come 00 11, the number in 32 hexadecimal digits, 88 99 AA BB, each of the word's last 12 digits four times, CC DD EE FF.
The checksum is valsort's, the sum of the CRC-32 of all records, whatever their order.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

RECORD_BYTES, KEY_BYTES = 100, 10
PAYLOAD_BYTES = RECORD_BYTES - KEY_BYTES
ROW_GROUP_ROWS = 1 << 18
FIELDS: list[pa.Field[Any]] = [
    pa.field("key", pa.binary(KEY_BYTES), nullable=False),
    pa.field("payload", pa.binary(PAYLOAD_BYTES), nullable=False),
]
SCHEMA = pa.schema(FIELDS)
_FACTOR, _ADDEND = 0x2360ED051FC65DA44385DF649FCCF645, 0x4A696D47726179524950202020202001
_MASK, _LOW = (1 << 128) - 1, (1 << 64) - 1
_BLOCK_ROWS = 1 << 16
_DIGITS = np.frombuffer(b"0123456789ABCDEF", np.uint8)
_HALF, _LOW_HALF = np.uint64(32), np.uint64(0xFFFFFFFF)

Bytes = NDArray[np.uint8]
Words = NDArray[np.uint64]


def write_records(target: Path, *, rows: int) -> dict[str, Any]:
    """Write the first `rows` records, snappy, no dictionaries; returns what describes the file."""
    checksum = 0
    options: dict[str, Any] = {"compression": "snappy", "use_dictionary": False, "store_schema": False}
    with pq.ParquetWriter(target, SCHEMA, **options) as writer:
        waiting: list[pa.RecordBatch] = []
        for block in record_blocks(rows):
            checksum += checksum_of(block)
            waiting.append(_batch(block))
            if len(waiting) * _BLOCK_ROWS == ROW_GROUP_ROWS:
                writer.write_table(pa.Table.from_batches(waiting).combine_chunks(), row_group_size=ROW_GROUP_ROWS)
                waiting = []
        if waiting:
            writer.write_table(pa.Table.from_batches(waiting).combine_chunks(), row_group_size=ROW_GROUP_ROWS)
    return {
        "name": target.name,
        "bytes": target.stat().st_size,
        "rows": rows,
        "record_bytes": RECORD_BYTES,
        "checksum": f"{checksum:x}",
        "row_group_rows": ROW_GROUP_ROWS,
        "compression": "snappy",
        "formulas": "gensort 1.5, binary records",
        "pyarrow": pa.__version__,
        "numpy": np.__version__,
    }


def checksum_of(records: Bytes) -> int:
    """The sum of the records' CRC-32, an (n, 100) array of bytes."""
    view = np.ascontiguousarray(records).reshape(-1).data
    return sum(zlib.crc32(view[start : start + RECORD_BYTES]) for start in range(0, len(view), RECORD_BYTES))


def record_blocks(rows: int) -> Iterator[Bytes]:
    """The first `rows` records in arrays of (n, 100) bytes."""
    factors, addends = _steps(min(rows, _BLOCK_ROWS))
    word = 0
    for first in range(0, rows, _BLOCK_ROWS):
        count = min(_BLOCK_ROWS, rows - first)
        high, low = _after(word, factors, addends)
        yield _records(high[:count], low[:count], first)
        word = int(high[-1]) << 64 | int(low[-1])


def _steps(count: int) -> tuple[tuple[Words, Words], tuple[Words, Words]]:
    """What a word is multiplied by, and what is added, to come to the 1st, 2nd... word after it: high and low words."""
    factors, addends = [_FACTOR], [_ADDEND]
    for _ in range(count - 1):
        factors.append(factors[-1] * _FACTOR & _MASK)
        addends.append((addends[-1] * _FACTOR + _ADDEND) & _MASK)
    return _words(factors), _words(addends)


def _words(numbers: list[int]) -> tuple[Words, Words]:
    high = np.array([number >> 64 for number in numbers], np.uint64)
    return high, np.array([number & _LOW for number in numbers], np.uint64)


def _after(word: int, factors: tuple[Words, Words], addends: tuple[Words, Words]) -> tuple[Words, Words]:
    """word * factors + addends modulo 2^128, as high and low words."""
    high, low = factors
    by_high, by_low = np.uint64(word >> 64), np.uint64(word & _LOW)
    with np.errstate(over="ignore"):
        product = low * by_low
        total = product + addends[1]
        carry = (total < product).astype(np.uint64)
        return _high_product(low, by_low) + high * by_low + low * by_high + addends[0] + carry, total


def _high_product(words: Words, by: np.uint64) -> Words:
    """The upper 64 bits of words * by."""
    low, high, by_low, by_high = words & _LOW_HALF, words >> _HALF, by & _LOW_HALF, by >> _HALF
    middle = high * by_low + (low * by_low >> _HALF)
    other = low * by_high + (middle & _LOW_HALF)
    made: Words = high * by_high + (middle >> _HALF) + (other >> _HALF)
    return made


def _records(high: Words, low: Words, first: int) -> Bytes:
    """The records of these words, the first of which has the number `first`."""
    records = np.empty((high.size, RECORD_BYTES), np.uint8)
    records[:, :8] = high.astype(">u8").view(np.uint8).reshape(-1, 8)
    records[:, 8:10] = low.astype(">u8").view(np.uint8).reshape(-1, 8)[:, :2]
    records[:, 10:12] = (0x00, 0x11)
    records[:, 12:28] = ord("0")
    records[:, 28:44] = _hexadecimal(np.arange(first, first + high.size, dtype=np.uint64), 16)
    records[:, 44:48] = (0x88, 0x99, 0xAA, 0xBB)
    records[:, 48:96] = np.repeat(_hexadecimal(low, 12), 4, axis=1)
    records[:, 96:] = (0xCC, 0xDD, 0xEE, 0xFF)
    return records


def _hexadecimal(words: Words, digits: int) -> Bytes:
    """The last `digits` hexadecimal digits of each word."""
    shifts = np.arange(4 * (digits - 1), -1, -4, dtype=np.uint64)
    written: Bytes = _DIGITS[(words[:, None] >> shifts & np.uint64(15)).astype(np.intp)]
    return written


def _batch(records: Bytes) -> pa.RecordBatch:
    columns: list[pa.Array[Any]] = [
        pa.Array.from_buffers(field.type, len(records), [None, pa.py_buffer(np.ascontiguousarray(part).data)])
        for field, part in zip(FIELDS, (records[:, :KEY_BYTES], records[:, KEY_BYTES:]), strict=True)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
