"""Text to tokens: fused with counting straight from files, or as a column of lists."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from kernelmill.engine.batch import Bytes, array_of_strings, buffer_of, strings_view, validity_bytes
from kernelmill.engine.errors import Code, error
from kernelmill.engine.exec.aggregate import FLUSH_GROUPS, FLUSH_KEY_BYTES
from kernelmill.engine.exec.context import TaskContext
from kernelmill.engine.exec.exchange import Placed, in_order
from kernelmill.engine.exec.groupstates import OUTPUT_ROWS
from kernelmill.engine.exec.keys import STRINGS_BYTES_MAX
from kernelmill.engine.io.text import read_blocks
from kernelmill.engine.lazymodules import pc
from kernelmill.engine.nodes import Tokenize
from kernelmill.engine.plan.physical import CountTokens
from kernelmill.engine.splits import TextSplit
from kernelmill.kernels import gathering, lowercase
from kernelmill.kernels import tokenize as kernels
from kernelmill.kernels.intrinsics import SLACK_BYTES
from kernelmill.kernels.table import KeyTable, counting_scratch

MODE_OF_NAME = {
    "whitespace": kernels.WHITESPACE,
    "word": kernels.WORD,
    "identifier": kernels.IDENTIFIER,
    "separators": kernels.TABLE,
}


def count_tokens(
    split: TextSplit, operator: CountTokens, schema: pa.Schema, context: TaskContext, partitions: int = 1
) -> Iterator[pa.RecordBatch | Placed]:
    """Count the tokens of a split in one table: yields partial rows (token, count), at each flush and at the end.

    With several `partitions` they come in order of partition.
    """
    mode = MODE_OF_NAME[operator.mode]
    separators = kernels.separator_table(mode, operator.separators)
    with context.scratch.lend(KeyTable) as table, context.scratch.lend(counting_scratch) as scratch:
        table.reset(groups_max=FLUSH_GROUPS, key_bytes_max=FLUSH_KEY_BYTES)
        for block in read_blocks(split, operator.text, context, is_separator=separators):
            context.check_cancelled()
            data, at, stop = block.data, block.start, block.stop
            if operator.lowercase:
                data, at, stop = _lowered(data, at, stop, operator.text.invalid != "binary", context)
            while (at := table.count_tokens(data, at, stop, mode, separators, scratch)) < stop:
                yield from _counted(table, schema, len(operator.aggs), partitions)
        yield from _counted(table, schema, len(operator.aggs), partitions)


def _counted(table: KeyTable, schema: pa.Schema, copies: int, partitions: int) -> Iterator[pa.RecordBatch | Placed]:
    first = 0
    while first < len(table):
        last = table.cut(first, OUTPUT_ROWS, STRINGS_BYTES_MAX)
        if partitions > 1:
            parts, groups_of_part, key_bytes = table.partitions_of_strings(first, last, partitions)
            order, bounds = in_order(parts, groups_of_part, table.room("order", last - first, np.uint32))
            keys, counts = table.placed_strings(first, order, key_bytes, np.uint32)
        else:
            keys, counts = table.strings(first, last), table.counts(first, last)
        column = pa.Array.from_buffers(pa.uint32(), last - first, [None, buffer_of(counts)], 0)
        columns = [array_of_strings(*keys, schema.field(0).type), *[column] * copies]
        batch = pa.RecordBatch.from_arrays(columns, schema=schema)
        yield Placed(batch, bounds) if partitions > 1 else batch
        first = last
    table.clear()


def _lowered(data: Bytes, start: int, stop: int, is_text: bool, context: TaskContext) -> tuple[Bytes, int, int]:
    """The block in lower case: in place while it is ASCII, else as `pc.utf8_lower` has it, in a buffer of its own.

    Of bytes that need not be text only A-Z are lowered.
    """
    beyond = lowercase.lower_ascii(data, start, stop)
    if beyond < 0 or not is_text:
        return data, start, stop
    room = lowercase.lowered_bytes_max(stop - start) + SLACK_BYTES
    out = np.frombuffer(context.buffer("lowercase", room), np.uint8)
    written = lowercase.lower_utf8(data, start, stop, out, lower_table())
    return out, 0, int(written)


@functools.cache
def lower_table() -> NDArray[np.uint32]:
    """Code point -> code point in lower case as Arrow's `utf8_lower` has it, for 0 .. 0x1FFFF."""
    points = np.arange(0x20000, dtype=np.uint32)
    surrogates = (points >= 0xD800) & (points < 0xE000)
    encoded = np.where(surrogates, ord("a"), points).astype("<u4")
    texts = pa.array([chr(point) for point in encoded.tolist()], pa.string())
    lowered: list[Any] = pc.utf8_lower(texts).to_pylist()
    table = np.fromiter((ord(text) for text in lowered), np.uint32, len(points))
    return np.where(surrogates, points, table)


def tokenize(array: pa.Array[Any], node: Tokenize) -> pa.Array[Any]:
    """The lists of tokens of a text column; a null text has a null list."""
    is_text = not (pa.types.is_binary(array.type) or pa.types.is_large_binary(array.type))
    if node.lowercase and is_text:
        array = pc.utf8_lower(array)
    counts, tokens = _tokens_of(array, node, pa.string() if is_text else pa.binary())
    if node.min_len > 1:
        lengths = pc.call_function("utf8_length" if is_text else "binary_length", [tokens])
        long_enough = np.asarray(lengths) >= node.min_len
        rows = np.repeat(np.arange(counts.size), counts)
        counts = np.bincount(rows[long_enough], minlength=counts.size).astype(np.int64)
        tokens = tokens.filter(pa.array(long_enough))
    offsets = np.zeros(counts.size + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    validity = validity_bytes(array)
    mask = pa.array(validity == 0) if validity.size else None
    kind = pa.list_(pa.field("item", tokens.type, nullable=False))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), tokens, type=kind, mask=mask)


def _tokens_of(array: pa.Array[Any], node: Tokenize, dtype: pa.DataType) -> tuple[NDArray[np.int64], pa.Array[Any]]:
    """Tokens a row, and all tokens in order."""
    mode = MODE_OF_NAME[node.mode]
    separators = kernels.separator_table(mode, node.separators)
    text, offsets = strings_view(array)
    base, size = int(offsets[0]), int(offsets[-1] - offsets[0])
    data = np.zeros(size + SLACK_BYTES, np.uint8)  # a foreign buffer has no slack to read masks from
    data[:size] = text[base : base + size]
    if node.lowercase and pa.types.is_binary(dtype):
        lowercase.lower_ascii(data, 0, size)
    offsets = offsets - base
    counts = np.zeros(len(array), np.int32)
    room = kernels.tokens_max(size) + len(array)
    starts, lengths = np.empty(room, np.int32), np.empty(room, np.int32)
    done = kernels.tokenize_rows(
        data, offsets, validity_bytes(array), 0, len(array), mode, separators, counts, starts, lengths
    )
    if done < len(array):
        raise error(Code.INTERNAL, f"row {done} of a text column could not be tokenized")
    found = int(counts.sum())
    spans = np.empty(2 * found + 1, np.int32)
    spans[0:-1:2], spans[1:-1:2] = starts[:found], starts[:found] + lengths[:found]
    rows = np.arange(0, 2 * found, 2, dtype=np.uint32)
    token_offsets = np.empty(found + 1, np.int32)
    total = gathering.gather_string_lengths(spans, rows, 0, found, token_offsets)
    out = np.empty(total + gathering.SLACK_BYTES, np.uint8)
    gathering.gather_strings(data, spans, rows, 0, found, token_offsets, out)
    return counts.astype(np.int64), array_of_strings(out, token_offsets, np.empty(0, np.uint8), 0, dtype)
