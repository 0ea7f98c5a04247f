"""What a sink of the user's wrote of one part, as a file between a cluster's processes."""

from __future__ import annotations

import os

import msgspec
import xxhash

from kernelmill.engine.commit import PartFile
from kernelmill.engine.durable import output_errors
from kernelmill.engine.errors import Code, error


class SinkReceipt(msgspec.Struct, frozen=True):
    """What a write came to, as a file between processes: JSON with the rows and bytes that it was given."""

    rows: int
    bytes: int
    receipt: msgspec.Raw


def write_receipt(path: str, receipt: SinkReceipt) -> PartFile:
    """Write a receipt to a new file, durably. Raises KM0402 or KM0502."""
    data = msgspec.json.encode(receipt)
    with output_errors("writing a sink's receipt", path), open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return PartFile(os.path.basename(path), receipt.rows, len(data), xxhash.xxh3_128_hexdigest(data))


def read_receipt(path: str) -> SinkReceipt:
    """Read a receipt back. Raises KM0605 for bytes that are none."""
    try:
        with open(path, "rb") as file:
            return msgspec.json.decode(file.read(), type=SinkReceipt)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as problem:
        raise error(Code.CORRUPT_BLOCK, f"a sink's receipt cannot be read: {problem}", where=path) from problem
