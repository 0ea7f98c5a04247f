"""The key table: one design for all group keys; numbers the distinct keys of a stream in first-seen order.

    slots  u32[2**b]        low b bits: group number + 1, 0 is empty; above: salt, those bits of the hash's high half.
                            Linear probing, <= 60 % full
    rows   u64[groups, 4]   one 32-byte record a group: key word 0, key word 1, hash, length (low 32) | count (high 32)
    arena  u8[]             keys longer than 16 bytes; their record's word 0 is the offset here, word 1 the last 8 bytes
    state  i64[STATE_SIZE]  what is used of each, see the constants below

A key of at most 16 bytes lies in its record, filled up with zeros. A fixed-width key is 8 bytes long. NULL has a length
of its own, so it equals nothing else. A look-up of a rare key waits for memory twice, and most tables are larger than a
core's cache: so a slot is 4 bytes, and a record must lie in one cache line (`aligned`). Records stay in first-seen
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
    u32_out,
    u64,
    u64_2d_out,
    u64_in,
    u64_out,
)
from kernelmill.kernels.intrinsics import (
    add_count,
    load_u32,
    load_u64,
    multiply_fold,
    prefetch,
    prefetch_early,
    same_key,
    store_u64,
)

USED, ARENA_USED, ROWS_SEEN, REASON, LONGEST_PROBE, STATE_SIZE = 0, 1, 2, 3, 4, 8
DONE, SLOTS_FULL, ARENA_FULL, FLUSH, ROWS_FULL = 0, 1, 2, 3, 4

CHUNK_ROWS = 4096
SCRATCH_SIZE = 2 * CHUNK_ROWS
ROWS_MAX = 1 << 31
"""A table flushes before a count could pass 32 bits."""
PROBE_LENGTH_MAX = 256
"""A longer probe means colliding keys, by accident or on purpose: the table is rebuilt under its next seed."""

LOW = np.uint64(0xFFFFFFFF)
NULL_LENGTH = np.uint64(0x80000000)
_LONG = NULL_LENGTH
"""Set in the length of a key that is looked up and is longer than 16 bytes: as it is, it equals no record."""
_ONE, _TWO, _THREE, KEY_WORDS = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(4)
ZERO = np.uint64(0)
_EIGHT, _SIXTEEN = np.uint64(8), np.uint64(16)
SHIFT = np.uint64(32)
_MIX_A, _MIX_B = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xE7037ED1A0B428DB)
SLOT_AHEAD, ROW_AHEAD = 128, 64
_SLOT_AHEAD, _ROW_AHEAD = np.uint64(4 * SLOT_AHEAD), np.uint64(4 * ROW_AHEAD)

_MASKS = np.array([(1 << 8 * bytes_) - 1 for n in range(17) for bytes_ in (min(n, 8), max(n - 8, 0))], np.uint64)
"""The bytes of words 0 and 1 that belong to a key of n bytes, at 2 n."""


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
def _load_part(data: Any, start: Any, length: Any) -> Any:
    """The first `length` bytes, 8 at most, as a word, without reading beyond them."""
    if length >= 8:
        return load_u64(data, start)
    if length >= 4:
        low = np.uint64(load_u32(data, start))
        high = np.uint64(load_u32(data, start + length - 4))
        return low | (high << (np.uint64(length - 4) * _EIGHT))
    word = ZERO
    for i in range(length):
        word |= np.uint64(data[start + i]) << np.uint64(8 * i)
    return word


@helper
def load_keys(
    data: Any, base: Any, count: Any, starts: Any, lengths: Any, wide_until: Any, seed: Any, keys: Any
) -> None:
    """Write `keys`, of `count` texts data[base + starts[i]:][:lengths[i]]; negative lengths are nulls.

    A key is a record as the table's, but for long texts: word 0 is their place in `data`, and _LONG is set.

    16 bytes are read from the start of a key up to `wide_until`; of later ones no byte outside: buffers of others have
    no slack.
    """
    for i in range(count):
        at = np.uint64(i)
        length = lengths[at]
        start = base + starts[at]
        if np.uint64(length) <= _SIXTEEN and start <= wide_until:
            # No branch on the length up to 16: it is as good as random in prose, and a wrong guess costs 7 ns.
            mask = np.uint64(length) * _TWO
            word0 = load_u64(data, start) & _MASKS[mask]
            word1 = load_u64(data, start + 8) & _MASKS[mask + _ONE]
            put_key(keys, at, word0, word1, np.uint64(length), seed)
        elif length > 16:
            last_word = load_u64(data, start + length - 8)
            put_key(keys, at, np.uint64(start), last_word, np.uint64(length) | _LONG, seed)
            keys[at * KEY_WORDS + _TWO] = hash_long(data, start, length, seed)
        else:
            word0 = _load_part(data, start, length)
            word1 = _load_part(data, start + 8, length - 8)
            put_key(keys, at, word0, word1, np.uint64(length) if length >= 0 else NULL_LENGTH, seed)


@inlined
def put_key(keys: Any, at: Any, word0: Any, word1: Any, length: Any, seed: Any) -> None:
    """Write key `at`, which lies in two words."""
    first = at * KEY_WORDS
    keys[first] = word0
    keys[first + _ONE] = word1
    keys[first + _TWO] = hash_words(word0, word1, length, seed)
    keys[first + _THREE] = length


@helper
def same_long(arena: Any, at: Any, data: Any, start: Any, length: Any) -> bool:
    """True if `length` (> 16) bytes are equal; the last 8 were compared before."""
    done = 0
    while done + 8 < length:
        if load_u64(arena, at + done) != load_u64(data, start + done):
            return False
        done += 8
    return True


@helper
def append(arena: Any, used: Any, data: Any, start: Any, length: Any) -> None:
    """Copy `length` (> 16) bytes to the arena in 8-byte steps, the last one overlapping."""
    done = 0
    while done + 8 < length:
        store_u64(arena, used + done, load_u64(data, start + done))
        done += 8
    store_u64(arena, used + length - 8, load_u64(data, start + length - 8))


@helper
def probe(
    data: Any, count: Any, keys: Any, slots: Any, rows: Any, arena: Any, state: Any, groups: Any, groups_from: Any,
    counting: Any,
) -> None:  # fmt: skip
    """Find or add the first `count` of a chunk's `keys`; their groups go to groups[groups_from + i].

    `counting` adds one to the group's count instead. The caller has made sure that all may be new. keys: records, and
    SLOT_AHEAD more of any content, for the hashes in them are looked ahead at.

    Nearly all keys of a text lie in the slot where their search begins. That is tried first, in code so short that it
    stays in registers: so a word of prose takes 7 ns with its loading, where one search for all took 9.4.
    """
    mask = np.uint64(slots.size - 1)
    used = state[USED]
    arena_used = state[ARENA_USED]
    longest = state[LONGEST_PROBE]
    for i in range(min(count, SLOT_AHEAD)):  # of these nobody has looked ahead
        prefetch_early(slots, np.int64(keys[np.uint64(i) * KEY_WORDS + _TWO] & mask))
    for i in range(min(count, ROW_AHEAD)):
        prefetch_early(rows, np.int64(np.uint64(slots[keys[np.uint64(i) * KEY_WORDS + _TWO] & mask]) & mask) - 1)
    for i in range(count):
        at = np.uint64(i)
        place = at * KEY_WORDS + _TWO
        prefetch_early(slots, np.int64(keys[place + _SLOT_AHEAD] & mask))
        prefetch_early(rows, np.int64(np.uint64(slots[keys[place + _ROW_AHEAD] & mask]) & mask) - 1)
        hashed = keys[place]
        # an empty slot, or another salt, leaves a number beyond all groups
        group = (np.uint64(slots[hashed & mask]) ^ ((hashed >> SHIFT) & ~mask)) - _ONE
        if group < mask and same_key(rows, group, keys, at):
            if counting:
                add_count(rows, group)
            else:
                groups[np.uint64(groups_from + i)] = np.int32(group)
            continue
        first = at * KEY_WORDS
        word0 = keys[first]
        word1 = keys[first + _ONE]
        stored_length = keys[first + _THREE]
        is_long = stored_length > _LONG
        if is_long:
            stored_length ^= _LONG
        salt = (hashed >> SHIFT) & ~mask
        slot = hashed & mask
        steps = 0
        while True:
            found = np.uint64(slots[slot])
            if found == ZERO:
                group = np.uint64(used)
                if is_long:
                    append(arena, arena_used, data, np.int64(word0), np.int64(stored_length))
                    word0 = np.uint64(arena_used)
                    arena_used += np.int64(stored_length)
                rows[group, 0] = word0
                rows[group, 1] = word1
                rows[group, 2] = hashed
                rows[group, 3] = stored_length
                used += 1
                slots[slot] = np.uint32(salt | np.uint64(used))
                break
            if (found & ~mask) == salt:
                group = (found & mask) - _ONE
                if (rows[group, 3] & LOW) == stored_length and rows[group, 1] == word1:
                    if not is_long:
                        if rows[group, 0] == word0:
                            break
                    elif same_long(arena, np.int64(rows[group, 0]), data, np.int64(word0), np.int64(stored_length)):
                        break
            slot = (slot + _ONE) & mask
            steps += 1
        longest = max(longest, steps)
        if counting:
            add_count(rows, group)
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
        u64_in, u8_in, i64, i64, u64, i32_out, u64, u64_out, i32_out, i64, i64,
        u32_out, u64_2d_out, u8_out, i64_out, i32_out,
    )
)  # fmt: skip
def group_words(
    values: Any, validity: Any, row: Any, last: Any, seed: Any, direct: Any, direct_base: Any, keys: Any, scratch: Any,
    groups_max: Any, arena_max: Any, slots: Any, rows: Any, arena: Any, state: Any, groups: Any,
) -> Any:  # fmt: skip
    """Number fixed-width keys: groups[r] for rows from `row` on; returns the first row not done, reason in state.

    Shapes: values u64[n] (bit patterns); validity u8[n], or empty when nothing is null; direct i32[d], a cache of the
    groups of the values direct_base + i (-1: not seen), may be empty; keys u64[4 * (CHUNK_ROWS + SLOT_AHEAD)]; scratch
    i32[SCRATCH_SIZE]; groups i32[n].
    """
    waiting = scratch[:CHUNK_ROWS]
    found = scratch[CHUNK_ROWS:]
    direct_size = np.uint64(direct.size)
    while row < last:
        end = min(row + CHUNK_ROWS, last)
        state[REASON] = room(state, slots, rows, arena, groups_max, arena_max, end - row, 0)
        if state[REASON] != DONE:
            return row
        count = 0
        for r in range(row, end):
            at = np.uint64(r)
            value = values[at]
            is_null = validity.size != 0 and validity[at] == 0
            offset = value - direct_base
            if not is_null and offset < direct_size:
                group = direct[offset]
                if group >= 0:
                    groups[at] = group
                    continue
            put_key(keys, np.uint64(count), ZERO if is_null else value, ZERO, NULL_LENGTH if is_null else _EIGHT, seed)
            waiting[count] = r - row
            count += 1
        probe(arena, count, keys, slots, rows, arena, state, found, 0, False)
        for i in range(count):
            groups[np.uint64(row + waiting[i])] = found[i]
            at = np.uint64(i) * KEY_WORDS
            offset = keys[at] - direct_base
            if keys[at + _THREE] != NULL_LENGTH and offset < direct_size:
                direct[offset] = found[i]
        row = end
    state[REASON] = DONE
    return row


@helper
def spans(offsets: Any, validity: Any, row: Any, end: Any, starts: Any, lengths: Any) -> Any:
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
        u8_in, i32_in, u8_in, i64, i64, u64, u64_out, i32_out, i64, i64,
        u32_out, u64_2d_out, u8_out, i64_out, i32_out,
    )
)  # fmt: skip
def group_strings(
    data: Any, offsets: Any, validity: Any, row: Any, last: Any, seed: Any, keys: Any, scratch: Any, groups_max: Any,
    arena_max: Any, slots: Any, rows: Any, arena: Any, state: Any, groups: Any,
) -> Any:  # fmt: skip
    """Number variable-width keys, as `group_words` does; row r is data[offsets[r]:offsets[r + 1]]."""
    starts = scratch[:CHUNK_ROWS]
    lengths = scratch[CHUNK_ROWS:]
    while row < last:
        end = min(row + CHUNK_ROWS, last)
        long_bytes = spans(offsets, validity, row, end, starts, lengths)
        state[REASON] = room(state, slots, rows, arena, groups_max, arena_max, end - row, long_bytes)
        if state[REASON] != DONE:
            return row
        load_keys(data, 0, end - row, starts, lengths, data.size - 16, seed, keys)
        probe(data, end - row, keys, slots, rows, arena, state, groups, row, False)
        row = end
    state[REASON] = DONE
    return row


@kernel(
    i64(
        i32_in, u8_in, i64, i64, u64, u8_in, i32_in, u8_in, i32_out, u64_out, i32_out, i64, i64,
        u32_out, u64_2d_out, u8_out, i64_out, i32_out,
    )
)  # fmt: skip
def group_codes(
    codes: Any, validity: Any, row: Any, last: Any, seed: Any, data: Any, offsets: Any, dictionary_validity: Any,
    direct: Any, keys: Any, scratch: Any, groups_max: Any, arena_max: Any, slots: Any, rows: Any, arena: Any,
    state: Any, groups: Any,
) -> Any:  # fmt: skip
    """Number dictionary-encoded strings: each dictionary value is looked up once, when a row first shows it.

    direct i32[dictionary size]: groups of the codes seen so far, -1 before. Stops at the row it has no room for.
    """
    start = scratch[:1]
    length = scratch[1:2]
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
            load_keys(data, 0, 1, start, length, data.size - 16, seed, keys)
            probe(data, 1, keys, slots, rows, arena, state, groups, r, False)
            group = groups[at]
            if is_null:
                null_group = group
            else:
                direct[np.uint64(code)] = group
        groups[at] = group
    state[REASON] = DONE
    return last


@kernel(i64(u64_2d_out, i64, u8_in, u32_out, boolean, u64))
def fill_slots(rows: Any, used: Any, arena: Any, slots: Any, reseed: Any, seed: Any) -> Any:
    """Fill empty `slots` from the records; with `reseed` hash each under `seed` first. Returns the longest probe."""
    mask = np.uint64(slots.size - 1)
    longest = 0
    for i in range(used):
        group = np.uint64(i)
        if reseed:
            length = np.int64(rows[group, 3] & LOW)
            if length > 16 and np.uint64(length) != NULL_LENGTH:
                rows[group, 2] = hash_long(arena, np.int64(rows[group, 0]), length, seed)
            else:
                rows[group, 2] = hash_words(rows[group, 0], rows[group, 1], np.uint64(length), seed)
        if i + SLOT_AHEAD < used and not reseed:
            prefetch(slots, np.int64(rows[np.uint64(i + SLOT_AHEAD), 2] & mask))
        slot = rows[group, 2] & mask
        steps = 0
        while slots[slot] != ZERO:
            slot = (slot + _ONE) & mask
            steps += 1
        slots[slot] = np.uint32(((rows[group, 2] >> SHIFT) & ~mask) | np.uint64(i + 1))
        longest = max(longest, steps)
    return longest
