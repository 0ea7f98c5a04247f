"""The key table: one design for all group keys; numbers the distinct keys of a stream in first-seen order.

    slots  u64[2**b]        salt (high 32 bits of the hash) | group number + 1; 0 is empty. Linear probing, <= 60 % full
    rows   u64[groups, 4]   one 32-byte record a group: key word 0, key word 1, hash, length (low 32) | count (high 32)
    arena  u8[]             keys longer than 16 bytes; their record's word 0 is the offset here, word 1 the last 8 bytes
    state  i64[STATE_SIZE]  what is used of each, see the constants below

A key of at most 16 bytes lies in its record: up to 8 bytes in word 0, else its first 8 and its last 8 (they overlap). A
fixed-width key is 8 bytes long. NULL has a length of its own, so it equals nothing else. Records stay in first-seen
order whatever the size of `slots`, so output never depends on when a table grew (I1). Shape after DuckDB's aggregate
hash table and DataFusion's GroupsAccumulator; the hash is a multiply-fold like wyhash's and differs from the partition
hash, or all keys of one partition would share bits.

Kernels stop before a chunk that may not fit and say why in state[REASON]; the caller mends that and calls again.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels._jit import (
    boolean,
    helper,
    i32_in,
    i32_out,
    i64,
    i64_out,
    inlined,
    kernel,
    u8_in,
    u8_out,
    u32_in,
    u32_out,
    u64,
    u64_2d_in,
    u64_2d_out,
    u64_in,
    u64_out,
    void,
)
from kernelmill.kernels.hashing import xxh64_bytes, xxh64_null, xxh64_short
from kernelmill.kernels.intrinsics import load_u32, load_u64, multiply_fold, prefetch, store_u64

USED, ARENA_USED, ROWS_SEEN, REASON, LONGEST_PROBE, STATE_SIZE = 0, 1, 2, 3, 4, 8
DONE, SLOTS_FULL, ARENA_FULL, FLUSH, ROWS_FULL = 0, 1, 2, 3, 4

CHUNK_ROWS = 4096
SCRATCH_WORDS = 5 * CHUNK_ROWS
PROBE_LENGTH_MAX = 256
"""A longer probe means colliding keys, by accident or on purpose: the table is rebuilt under its next seed."""

_LOW = np.uint64(0xFFFFFFFF)
_HIGH = np.uint64(0xFFFFFFFF00000000)
_NULL_LENGTH = np.uint64(0x80000000)
_ONE = np.uint64(1)
_ZERO = np.uint64(0)
_EIGHT = np.uint64(8)
_SIXTEEN = np.uint64(16)
_COUNT_ONE = np.uint64(1 << 32)
_SHIFT = np.uint64(32)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)
_MIX_A, _MIX_B = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xE7037ED1A0B428DB)
_SLOT_AHEAD, _ROW_AHEAD = 24, 12


@inlined
def hash_words(word0: Any, word1: Any, length: Any, seed: Any) -> Any:
    """Table hash of a key that lies in two words.

    The seed is in both factors: a factor of 0 hashes to 0 whatever the other is, and must not do so under every seed.
    """
    return multiply_fold(word0 ^ _MIX_A ^ seed, word1 ^ _MIX_B ^ seed ^ length)


@helper
def hash_long(data: Any, start: Any, length: Any, seed: Any) -> Any:
    """Table hash of a key of more than 16 bytes: 16 at a time, the last 16 overlapping."""
    hashed = np.uint64(length) ^ seed
    at = start
    last = start + length - 16
    while at < last:
        hashed = multiply_fold(load_u64(data, at) ^ _MIX_A ^ hashed, load_u64(data, at + 8) ^ _MIX_B ^ seed)
        at += 16
    return multiply_fold(load_u64(data, last) ^ _MIX_A ^ hashed, load_u64(data, last + 8) ^ _MIX_B ^ seed)


@helper
def _load_short(data: Any, start: Any, length: Any) -> Any:
    """Up to 7 bytes as a word without reading outside them: buffers of others have no slack."""
    if length >= 4:
        low = np.uint64(load_u32(data, start))
        high = np.uint64(load_u32(data, start + length - 4))
        return low | (high << (np.uint64(length - 4) * _EIGHT))
    word = _ZERO
    for i in range(length):
        word |= np.uint64(data[start + i]) << np.uint64(8 * i)
    return word


@helper
def load_keys(
    data: Any, base: Any, first: Any, last: Any, starts: Any, lengths: Any, slack: Any, seed: Any,
    words0: Any, words1: Any, hashes: Any,
) -> None:  # fmt: skip
    """Words and hashes of the keys data[base + starts[i]:][:lengths[i]] for i in [first, last), stored from 0 on.

    With `slack`, 8 bytes may be read from any key's start; without, no byte outside the keys is touched. Negative
    lengths are nulls.
    """
    for i in range(first, last):
        length = lengths[i]
        start = base + starts[i]
        at = np.uint64(i - first)
        if length > 16:
            words0[at] = np.uint64(start)
            words1[at] = load_u64(data, start + length - 8)
            hashes[at] = hash_long(data, start, length, seed)
            continue
        if slack and length > 0:
            # No branch on the length up to 16: it is as good as random in prose, and a wrong guess costs 7 ns.
            word0 = load_u64(data, start) & (_ALL >> np.uint64(64 - 8 * min(length, 8)))
            word1 = load_u64(data, start + max(length - 8, 0))
            word1 = word1 if length > 8 else _ZERO
        else:
            word0 = _ZERO
            word1 = _ZERO
            if length > 8:
                word0 = load_u64(data, start)
                word1 = load_u64(data, start + length - 8)
            elif length == 8:
                word0 = load_u64(data, start)
            elif length > 0:
                word0 = _load_short(data, start, length)
        words0[at] = word0
        words1[at] = word1
        hashes[at] = hash_words(word0, word1, np.uint64(length) if length >= 0 else _NULL_LENGTH, seed)


@helper
def _same_long(arena: Any, at: Any, data: Any, start: Any, length: Any) -> bool:
    """True if `length` (> 16) bytes are equal; the last 8 were compared before."""
    done = 0
    while done + 8 < length:
        if load_u64(arena, at + done) != load_u64(data, start + done):
            return False
        done += 8
    return True


@helper
def _append(arena: Any, used: Any, data: Any, start: Any, length: Any) -> None:
    """Copy `length` (> 16) bytes to the arena in 8-byte steps, the last one overlapping."""
    done = 0
    while done + 8 < length:
        store_u64(arena, used + done, load_u64(data, start + done))
        done += 8
    store_u64(arena, used + length - 8, load_u64(data, start + length - 8))


@helper
def probe(
    data: Any, first: Any, last: Any, lengths: Any, lengths_from: Any, words0: Any, words1: Any, hashes: Any,
    slots: Any, rows: Any, arena: Any, state: Any, groups: Any, groups_from: Any, counting: Any,
) -> None:  # fmt: skip
    """Find or add the keys first..last-1 of the chunk; their groups go to groups[groups_from + i].

    `counting` adds one to the group's count instead. The caller has made sure that all may be new.
    """
    mask = np.uint64(slots.size - 1)
    used = state[USED]
    arena_used = state[ARENA_USED]
    longest = state[LONGEST_PROBE]
    for i in range(first, last):
        if i + _SLOT_AHEAD < last:
            prefetch(slots, np.int64(hashes[np.uint64(i + _SLOT_AHEAD)] & mask))
        if i + _ROW_AHEAD < last:
            ahead = slots[hashes[np.uint64(i + _ROW_AHEAD)] & mask] & _LOW
            if ahead != _ZERO:
                prefetch(rows, np.int64(ahead) - 1)
        at = np.uint64(i)
        hashed = hashes[at]
        word0 = words0[at]
        word1 = words1[at]
        length = lengths[np.uint64(lengths_from + i)]
        stored_length = np.uint64(length) if length >= 0 else _NULL_LENGTH
        salt = hashed & _HIGH
        slot = hashed & mask
        steps = 0
        group = _ZERO
        while True:
            found = slots[slot]
            if found == _ZERO:
                group = np.uint64(used)
                if length > 16:
                    _append(arena, arena_used, data, np.int64(word0), length)
                    word0 = np.uint64(arena_used)
                    arena_used += length
                rows[group, 0] = word0
                rows[group, 1] = word1
                rows[group, 2] = hashed
                rows[group, 3] = stored_length
                used += 1
                slots[slot] = salt | np.uint64(used)
                break
            if (found & _HIGH) == salt:
                group = (found & _LOW) - _ONE
                if (rows[group, 3] & _LOW) == stored_length and rows[group, 1] == word1:
                    if length <= 16:
                        if rows[group, 0] == word0:
                            break
                    elif _same_long(arena, np.int64(rows[group, 0]), data, np.int64(word0), length):
                        break
            slot = (slot + _ONE) & mask
            steps += 1
        if steps > longest:
            longest = steps
        if counting:
            rows[group, 3] += _COUNT_ONE
        else:
            groups[np.uint64(groups_from + i)] = np.int32(group)
    state[USED] = used
    state[ARENA_USED] = arena_used
    state[LONGEST_PROBE] = longest


@inlined
def room(state: Any, slots: Any, rows: Any, arena: Any, groups_max: Any, arena_max: Any, keys: Any, bytes_: Any) -> Any:
    """Why a chunk of `keys` keys with `bytes_` bytes of long ones may not come now, or DONE.

    Flush reasons first, from the table's contents alone: slots grow at other times on other machines, output does not.
    """
    used = state[USED]
    reason = DONE
    if used >= groups_max:
        reason = FLUSH
    elif state[ARENA_USED] >= arena_max:
        reason = FLUSH
    elif used + keys > rows.shape[0]:
        reason = ROWS_FULL
    elif state[ARENA_USED] + bytes_ + 16 > arena.size:
        reason = ARENA_FULL
    elif (used + keys) * 10 > slots.size * 6 or state[LONGEST_PROBE] > PROBE_LENGTH_MAX:
        reason = SLOTS_FULL
    return reason


@kernel(
    i64(
        u64_in, u8_in, i64, i64, u64, i32_out, u64, u64_out, i64, i64,
        u64_out, u64_2d_out, u8_out, i64_out, i32_out,
    )
)  # fmt: skip
def group_words(
    values: Any, validity: Any, row: Any, last: Any, seed: Any, direct: Any, direct_base: Any, scratch: Any,
    groups_max: Any, arena_max: Any, slots: Any, rows: Any, arena: Any, state: Any, groups: Any,
) -> Any:  # fmt: skip
    """Number fixed-width keys: groups[r] for rows from `row` on; returns the first row not done, reason in state.

    Shapes: values u64[n] (bit patterns); validity u8[n], or empty when nothing is null; direct i32[d], a cache of the
    groups of the values direct_base + i (-1: not seen), may be empty; scratch u64[SCRATCH_WORDS]; groups i32[n].
    """
    words0 = scratch[:CHUNK_ROWS]
    hashes = scratch[CHUNK_ROWS : 2 * CHUNK_ROWS]
    waiting = scratch[2 * CHUNK_ROWS : 3 * CHUNK_ROWS].view(np.int64)
    zeros = scratch[3 * CHUNK_ROWS : 4 * CHUNK_ROWS]
    halves = scratch[4 * CHUNK_ROWS : 5 * CHUNK_ROWS].view(np.int32)
    lengths = halves[:CHUNK_ROWS]
    found = halves[CHUNK_ROWS:]
    direct_size = np.uint64(direct.size)
    zeros[:] = _ZERO
    while row < last:
        end = min(row + CHUNK_ROWS, last)
        state[REASON] = room(state, slots, rows, arena, groups_max, arena_max, end - row, 0)
        if state[REASON] != DONE:
            return row
        count = 0
        for r in range(row, end):
            at = np.uint64(r)
            value = values[at]
            if validity.size and validity[at] == 0:
                words0[count] = _ZERO
                lengths[count] = -1
                hashes[count] = hash_words(_ZERO, _ZERO, _NULL_LENGTH, seed)
                waiting[count] = r
                count += 1
                continue
            offset = value - direct_base
            if offset < direct_size:
                group = direct[offset]
                if group >= 0:
                    groups[at] = group
                    continue
            words0[count] = value
            lengths[count] = 8
            hashes[count] = hash_words(value, _ZERO, _EIGHT, seed)
            waiting[count] = r
            count += 1
        probe(arena, 0, count, lengths, 0, words0, zeros, hashes, slots, rows, arena, state, found, 0, False)
        for i in range(count):
            groups[np.uint64(waiting[i])] = found[i]
            offset = words0[i] - direct_base
            if lengths[i] >= 0 and offset < direct_size:
                direct[offset] = found[i]
        row = end
    state[REASON] = DONE
    return row


@helper
def _spans(offsets: Any, validity: Any, row: Any, end: Any, starts: Any, lengths: Any) -> Any:
    """Starts and lengths (-1: null) of a string column's rows; returns the bytes of keys too long for a record."""
    long_bytes = 0
    for r in range(row, end):
        length = offsets[np.uint64(r + 1)] - offsets[np.uint64(r)]
        if validity.size and validity[np.uint64(r)] == 0:
            length = np.int32(-1)
        at = np.uint64(r - row)
        starts[at] = offsets[np.uint64(r)]
        lengths[at] = length
        if length > 16:
            long_bytes += length
    return long_bytes


@kernel(
    i64(
        u8_in, i32_in, u8_in, i64, i64, u64, u64_out, i64, i64,
        u64_out, u64_2d_out, u8_out, i64_out, i32_out,
    )
)  # fmt: skip
def group_strings(
    data: Any, offsets: Any, validity: Any, row: Any, last: Any, seed: Any, scratch: Any, groups_max: Any,
    arena_max: Any, slots: Any, rows: Any, arena: Any, state: Any, groups: Any,
) -> Any:  # fmt: skip
    """Number variable-width keys, as `group_words` does; row r is data[offsets[r]:offsets[r + 1]]."""
    words0 = scratch[:CHUNK_ROWS]
    words1 = scratch[CHUNK_ROWS : 2 * CHUNK_ROWS]
    hashes = scratch[2 * CHUNK_ROWS : 3 * CHUNK_ROWS]
    spans = scratch[3 * CHUNK_ROWS : 4 * CHUNK_ROWS].view(np.int32)
    starts = spans[:CHUNK_ROWS]
    lengths = spans[CHUNK_ROWS:]
    while row < last:
        end = min(row + CHUNK_ROWS, last)
        long_bytes = _spans(offsets, validity, row, end, starts, lengths)
        state[REASON] = room(state, slots, rows, arena, groups_max, arena_max, end - row, long_bytes)
        if state[REASON] != DONE:
            return row
        load_keys(data, 0, 0, end - row, starts, lengths, False, seed, words0, words1, hashes)
        probe(data, 0, end - row, lengths, 0, words0, words1, hashes, slots, rows, arena, state, groups, row, False)
        row = end
    state[REASON] = DONE
    return row


@kernel(
    i64(
        i32_in, u8_in, i64, i64, u64, u8_in, i32_in, u8_in, i32_out, u64_out, i64, i64,
        u64_out, u64_2d_out, u8_out, i64_out, i32_out,
    )
)  # fmt: skip
def group_codes(
    codes: Any, validity: Any, row: Any, last: Any, seed: Any, data: Any, offsets: Any, dictionary_validity: Any,
    direct: Any, scratch: Any, groups_max: Any, arena_max: Any, slots: Any, rows: Any, arena: Any, state: Any,
    groups: Any,
) -> Any:  # fmt: skip
    """Number dictionary-encoded strings: each dictionary value is looked up once, when a row first shows it.

    direct i32[dictionary size]: groups of the codes seen so far, -1 before. Stops at the row it has no room for.
    """
    word0 = scratch[:1]
    word1 = scratch[1:2]
    hashed = scratch[2:3]
    span = scratch[3:4].view(np.int32)
    start = span[:1]
    length = span[1:]
    null_group = np.int32(-1)
    for r in range(row, last):
        at = np.uint64(r)
        code = codes[at]
        is_null = validity.size != 0 and validity[at] == 0
        group = null_group if is_null else direct[np.uint64(code)]
        if group < 0:
            start[0] = 0
            length[0] = -1
            if not is_null and (dictionary_validity.size == 0 or dictionary_validity[np.uint64(code)] != 0):
                start[0] = offsets[np.uint64(code)]
                length[0] = offsets[np.uint64(code) + _ONE] - offsets[np.uint64(code)]
            state[REASON] = room(state, slots, rows, arena, groups_max, arena_max, 1, max(0, length[0]))
            if state[REASON] != DONE:
                return r
            load_keys(data, 0, 0, 1, start, length, False, seed, word0, word1, hashed)
            probe(data, 0, 1, length, 0, word0, word1, hashed, slots, rows, arena, state, groups, r, False)
            group = groups[at]
            if is_null:
                null_group = group
            else:
                direct[np.uint64(code)] = group
        groups[at] = group
    state[REASON] = DONE
    return last


@kernel(i64(u64_2d_out, i64, u8_in, u64_out, boolean, u64))
def fill_slots(rows: Any, used: Any, arena: Any, slots: Any, reseed: Any, seed: Any) -> Any:
    """Fill empty `slots` from the records; with `reseed` hash each under `seed` first. Returns the longest probe."""
    mask = np.uint64(slots.size - 1)
    longest = 0
    for i in range(used):
        group = np.uint64(i)
        if reseed:
            length = np.int64(rows[group, 3] & _LOW)
            if length > 16 and np.uint64(length) != _NULL_LENGTH:
                rows[group, 2] = hash_long(arena, np.int64(rows[group, 0]), length, seed)
            else:
                rows[group, 2] = hash_words(rows[group, 0], rows[group, 1], np.uint64(length), seed)
        if i + _SLOT_AHEAD < used and not reseed:
            prefetch(slots, np.int64(rows[np.uint64(i + _SLOT_AHEAD), 2] & mask))
        slot = rows[group, 2] & mask
        steps = 0
        while slots[slot] != _ZERO:
            slot = (slot + _ONE) & mask
            steps += 1
        slots[slot] = (rows[group, 2] & _HIGH) | np.uint64(i + 1)
        longest = max(longest, steps)
    return longest


# Reading a table -----------------------------------------------------------------------------------------------------


@kernel(i64(u64_2d_in, i64, i64, u64_out, u8_out))
def read_words(rows: Any, first: Any, last: Any, values: Any, validity: Any) -> Any:
    """Fixed-width keys of groups [first, last) and their validity (1 valid, 0 null); returns how many are null."""
    nulls = 0
    for i in range(first, last):
        at = np.uint64(i - first)
        values[at] = rows[np.uint64(i), 0]
        is_null = (rows[np.uint64(i), 3] & _LOW) == _NULL_LENGTH
        validity[at] = np.uint8(0) if is_null else np.uint8(1)
        nulls += 1 if is_null else 0
    return nulls


@kernel(i64(u64_2d_in, i64, i64, i32_out, u8_out))
def read_offsets(rows: Any, first: Any, last: Any, offsets: Any, validity: Any) -> Any:
    """Offsets (from 0) of the strings of groups [first, last) and their validity; returns how many are null.

    The caller has made sure that they are below 2 GiB together.
    """
    total = np.int64(0)
    nulls = 0
    offsets[0] = 0
    for i in range(first, last):
        length = rows[np.uint64(i), 3] & _LOW
        is_null = length == _NULL_LENGTH
        validity[np.uint64(i - first)] = np.uint8(0) if is_null else np.uint8(1)
        nulls += 1 if is_null else 0
        total += np.int64(0) if is_null else np.int64(length)
        offsets[np.uint64(i - first + 1)] = np.int32(total)
    return nulls


@kernel(void(u64_2d_in, u8_in, i64, i64, i32_in, u8_out))
def read_strings(rows: Any, arena: Any, first: Any, last: Any, offsets: Any, data: Any) -> None:
    """The bytes of the strings of groups [first, last) at their `offsets`; `data` ends in 16 slack bytes."""
    for i in range(first, last):
        group = np.uint64(i)
        at = np.int64(offsets[np.uint64(i - first)])
        length = np.int64(offsets[np.uint64(i - first + 1)]) - at
        if length <= 8:
            store_u64(data, at, rows[group, 0])
        elif length <= 16:
            store_u64(data, at, rows[group, 0])
            store_u64(data, at + length - 8, rows[group, 1])
        else:
            _append(data, at, arena, np.int64(rows[group, 0]), length)


@kernel(void(u64_2d_in, u8_in, i64, u64_out))
def hash_strings_of_groups(rows: Any, arena: Any, first: Any, hashes: Any) -> None:
    """The partition hash (`hashing`) of the strings of groups from `first` on; `hashes` holds the seeds on entry."""
    short = np.zeros(32, np.uint8)
    for i in range(hashes.size):
        group = np.uint64(first + i)
        length = rows[group, 3] & _LOW
        if length == _NULL_LENGTH:
            hashes[i] = xxh64_null(hashes[i])
        elif length > _SIXTEEN:
            hashes[i] = xxh64_bytes(arena, np.int64(rows[group, 0]), np.int64(length), hashes[i])
        else:
            store_u64(short, 0, rows[group, 0])
            if length > _EIGHT:
                store_u64(short, np.int64(length) - 8, rows[group, 1])
            hashes[i] = xxh64_short(short, 0, np.int64(length), hashes[i])


@kernel(i64(u64_2d_in, i64, u32_in, i32_out, u8_out))
def place_offsets(rows: Any, first: Any, order: Any, offsets: Any, validity: Any) -> Any:
    """As `read_offsets`, for the groups first + order[i]."""
    total = np.int64(0)
    nulls = 0
    offsets[0] = 0
    for i in range(order.size):
        length = rows[np.uint64(first + order[i]), 3] & _LOW
        is_null = length == _NULL_LENGTH
        validity[np.uint64(i)] = np.uint8(0) if is_null else np.uint8(1)
        nulls += 1 if is_null else 0
        total += np.int64(0) if is_null else np.int64(length)
        offsets[np.uint64(i + 1)] = np.int32(total)
    return nulls


@kernel(void(u64_2d_in, u8_in, i64, u32_in, i32_in, u8_out))
def place_strings(rows: Any, arena: Any, first: Any, order: Any, offsets: Any, data: Any) -> None:
    """As `read_strings`, for the groups first + order[i]: from the records straight to their partition's place."""
    for i in range(order.size):
        prefetch(rows, np.int64(first + order[min(i + _ROW_AHEAD, order.size - 1)]))
        group = np.uint64(first + order[i])
        at = np.int64(offsets[np.uint64(i)])
        length = np.int64(offsets[np.uint64(i + 1)]) - at
        if length <= 8:
            store_u64(data, at, rows[group, 0])
        elif length <= 16:
            store_u64(data, at, rows[group, 0])
            store_u64(data, at + length - 8, rows[group, 1])
        else:
            _append(data, at, arena, np.int64(rows[group, 0]), length)


@kernel(void(u64_2d_in, i64, u32_in, u32_out))
def place_counts(rows: Any, first: Any, order: Any, counts: Any) -> None:
    """The counts that fused counting left in the records of groups first + order[i]; they fit 32 bits."""
    for i in range(order.size):
        counts[np.uint64(i)] = np.uint32(rows[np.uint64(first + order[i]), 3] >> _SHIFT)


@kernel(void(u64_2d_in, i64, u32_out))
def read_counts(rows: Any, first: Any, counts: Any) -> None:
    """The counts that fused counting left in the records of groups from `first` on; they fit 32 bits."""
    for i in range(counts.size):
        counts[np.uint64(i)] = np.uint32(rows[np.uint64(first + i), 3] >> _SHIFT)
