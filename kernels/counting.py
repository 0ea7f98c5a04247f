"""Tokenize, hash and count in one kernel: the inner loop of a word count. No token is ever written out.

A chunk of text is tokenized into (start, length) pairs that fit the L1/L2 cache, then hashed, then looked up with
prefetches; Phoenix++ (Talbot et al., 2011) credits the same two things: combining on every emit, everything inlined.
"""

from __future__ import annotations

from typing import Any

from kernelmill.kernels._jit import (
    i32_out,
    i64,
    i64_out,
    kernel,
    u8_in,
    u8_out,
    u32_out,
    u64,
    u64_2d_out,
    u64_out,
)
from kernelmill.kernels.keytable import DONE, FLUSH, REASON, ROWS_MAX, ROWS_SEEN, load_keys, probe, room
from kernelmill.kernels.tokenize import tokenize_block

CHUNK_BYTES = 32 << 10
CHUNK_TOKENS = CHUNK_BYTES // 2 + 2
"""A chunk is stretched to the end of its last token, which adds bytes but no token."""


@kernel(
    i64(
        u8_in, i64, i64, i64, u8_in, u64, i32_out, i32_out, u64_out, i64, i64,
        u32_out, u64_2d_out, u8_out, i64_out,
    )
)  # fmt: skip
def count_tokens(
    data: Any, at: Any, stop: Any, mode: Any, table: Any, seed: Any, starts: Any, lengths: Any, keys: Any,
    groups_max: Any, arena_max: Any, slots: Any, rows: Any, arena: Any, state: Any,
) -> Any:  # fmt: skip
    """Count the tokens of data[at:stop) in the table; returns where it stopped, the reason in state[REASON].

    Shapes: data u8, readable to stop + 64, `stop` no cut through a token; table u8[256], 1 where a byte separates;
    starts, lengths i32[CHUNK_TOKENS]; keys u64[4 * (CHUNK_TOKENS + SLOT_AHEAD)].
    """
    while at < stop:
        end = min(at + CHUNK_BYTES, stop)
        while end < stop and table[data[end]] == 0:
            end += 1
        tokens_max = min((end - at) // 2 + 1, CHUNK_TOKENS)
        state[REASON] = room(state, slots, rows, arena, groups_max, arena_max, tokens_max, end - at)
        if state[ROWS_SEEN] > ROWS_MAX - CHUNK_TOKENS:
            state[REASON] = FLUSH
        if state[REASON] != DONE:
            return at
        tokens = tokenize_block(data, at, end, mode, table, starts, lengths)
        load_keys(data, at, tokens, starts, lengths, data.size - 16, seed, keys)
        probe(data, tokens, keys, slots, rows, arena, state, lengths, 0, True)
        state[ROWS_SEEN] += tokens
        at = end
    state[REASON] = DONE
    return at
