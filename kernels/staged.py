"""Texts that a compiled function has staged, as (address, bytes) pairs: into a key table or into a column.

`base` is any array and `base_address` its place: a staged text lies at base[address - base_address:], though not within
`base`. 16 bytes are readable from each text's start. Bytes -1 stand for None.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels._jit import (
    helper,
    i32_out,
    i64,
    i64_in,
    i64_out,
    kernel,
    u8_in,
    u8_out,
    u32_out,
    u64,
    u64_2d_out,
    u64_out,
    void,
)
from kernelmill.kernels.intrinsics import load_u64, store_u64
from kernelmill.kernels.keytable import CHUNK_ROWS, DONE, FLUSH, REASON, ROWS_MAX, ROWS_SEEN, load_keys, probe, room

SLACK_BYTES = 16
LAST_ARGUMENT = 5
"""The place of `last` among the arguments of `count_staged`: who calls it again and again changes no other."""
_ANYWHERE = np.int64(0x7FFFFFFFFFFFFFFF)


@helper
def _look_up(
    base: Any, base_address: Any, addresses: Any, sizes: Any, row: Any, last: Any, seed: Any, keys: Any,
    groups_max: Any, arena_max: Any, slots: Any, rows: Any, arena: Any, state: Any, groups: Any, counting: Any,
) -> Any:  # fmt: skip
    while row < last:
        end = min(row + CHUNK_ROWS, last)
        long_bytes = np.int64(0)
        for r in range(row, end):
            size = sizes[np.uint64(r)]
            long_bytes += size if size > 16 else 0
        state[REASON] = room(state, slots, rows, arena, groups_max, arena_max, end - row, long_bytes)
        if counting and state[ROWS_SEEN] > ROWS_MAX - CHUNK_ROWS:
            state[REASON] = FLUSH
        if state[REASON] != DONE:
            return row
        load_keys(base, -base_address, end - row, addresses[row:end], sizes[row:end], _ANYWHERE, seed, keys)
        probe(base, end - row, keys, slots, rows, arena, state, groups, row, counting)
        if counting:
            state[ROWS_SEEN] += end - row
        row = end
    state[REASON] = DONE
    return row


@kernel(
    i64(
        u8_in, i64, i64_in, i64_in, i64, i64, u64, u64_out, i64, i64,
        u32_out, u64_2d_out, u8_out, i64_out, i32_out,
    )
)  # fmt: skip
def group_staged(
    base: Any, base_address: Any, addresses: Any, sizes: Any, row: Any, last: Any, seed: Any, keys: Any,
    groups_max: Any, arena_max: Any, slots: Any, rows: Any, arena: Any, state: Any, groups: Any,
) -> Any:  # fmt: skip
    """Number staged keys from `row` on, as `keytable.group_strings` does; returns the first row not done."""
    return _look_up(
        base, base_address, addresses, sizes, row, last, seed, keys,
        groups_max, arena_max, slots, rows, arena, state, groups, False,
    )  # fmt: skip


@kernel(
    i64(
        u8_in, i64, i64_in, i64_in, i64, i64, u64, u64_out, i64, i64,
        u32_out, u64_2d_out, u8_out, i64_out, i32_out,
    )
)  # fmt: skip
def count_staged(
    base: Any, base_address: Any, addresses: Any, sizes: Any, row: Any, last: Any, seed: Any, keys: Any,
    groups_max: Any, arena_max: Any, slots: Any, rows: Any, arena: Any, state: Any, unused: Any,
) -> Any:  # fmt: skip
    """Add one to the count of each staged key from `row` on; returns the first row not done."""
    return _look_up(
        base, base_address, addresses, sizes, row, last, seed, keys,
        groups_max, arena_max, slots, rows, arena, state, unused, True,
    )  # fmt: skip


@kernel(i64(i64_in, i32_out, u8_out))
def staged_offsets(sizes: Any, offsets: Any, validity: Any) -> Any:
    """Offsets (from 0) of staged texts and their validity; returns how many are null, or -1 if 2 GiB are exceeded."""
    total = np.int64(0)
    nulls = 0
    offsets[0] = 0
    for i in range(sizes.size):
        is_null = sizes[i] < 0
        validity[i] = np.uint8(0) if is_null else np.uint8(1)
        nulls += 1 if is_null else 0
        total += np.int64(0) if is_null else sizes[i]
        if total > 0x7FFFFFFF:
            return -1
        offsets[i + 1] = np.int32(total)
    return nulls


@kernel(void(u8_in, i64, i64_in, i64_in, i32_out, u8_out))
def copy_staged(base: Any, base_address: Any, addresses: Any, sizes: Any, offsets: Any, out: Any) -> None:
    """The bytes of staged texts at their offsets; `out` ends in SLACK_BYTES more."""
    for i in range(sizes.size):
        start = addresses[i] - base_address
        size = sizes[i]
        at = np.int64(offsets[i])
        if size < 0:
            continue
        store_u64(out, at, load_u64(base, start))
        store_u64(out, at + 8, load_u64(base, start + 8))
        done = np.int64(16)
        while done + 8 < size:
            store_u64(out, at + done, load_u64(base, start + done))
            done += 8
        if size > 16:
            store_u64(out, at + size - 8, load_u64(base, start + size - 8))
