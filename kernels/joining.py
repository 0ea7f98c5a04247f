"""Equal keys of two tables: find the build rows of each probe row's key, and list the pairs.

The keys of the build side are numbered: by a key table, or, integers that span little, by their distance from the
least. Its rows are laid out group by group (counts, prefix sum, scatter), each group's in their order: chains would
reverse it. A probe row's key is looked up, never added, so many threads may probe one table. Pairs come in order of
(probe row, build row), and stop where the output is full: many matches of one row do not need memory at once.
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
    i64_in,
    i64_out,
    kernel,
    u8_in,
    u8_out,
    u32_in,
    u32_out,
    u64,
    u64_2d_in,
    u64_in,
    u64_out,
    void,
)
from kernelmill.kernels.intrinsics import prefetch
from kernelmill.kernels.keytable import (
    CHUNK_ROWS,
    KEY_WORDS,
    LOW,
    NULL_LENGTH,
    SHIFT,
    ZERO,
    load_keys,
    put_key,
    same_long,
    spans,
)

NO_GROUP = -1
"""Of a row whose key the build side does not have, or whose null key matches nothing."""

_ONE, _TWO, _THREE, _EIGHT = np.uint64(1), np.uint64(2), np.uint64(3), np.uint64(8)
_SLOT_AHEAD, _ROW_AHEAD = 64, 32
_AHEAD = 32


# The build side ------------------------------------------------------------------------------------------------------


@kernel(i64(i32_in, i64_out))
def count_groups(groups: Any, ends: Any) -> Any:
    """Count the rows of each group and add up: group g's rows end where ends[g] says. Returns the largest count.

    Shapes: groups i32[n], NO_GROUP for rows that match nothing; ends i64[g], zeros before.
    """
    for row in range(groups.size):
        if groups[row] >= 0:
            ends[np.uint64(groups[row])] += 1
    total, most = np.int64(0), np.int64(0)
    for group in range(ends.size):
        most = max(most, ends[group])
        total += ends[group]
        ends[group] = total
    return most


@kernel(void(i32_in, i64_out, u32_out))
def place_rows(groups: Any, ends: Any, row_at: Any) -> None:
    """List the rows group by group, each group's in their order; ends[g] becomes where group g's rows begin.

    Shapes: groups i32[n]; ends i64[g] as `count_groups` left it; row_at u32[rows with a group].
    """
    for row in range(groups.size - 1, -1, -1):  # from the last one back: so ends turn into starts
        group = groups[row]
        if group >= 0:
            at = ends[np.uint64(group)] - 1
            ends[np.uint64(group)] = at
            row_at[at] = row


@kernel(i64(i32_in, i32_out))
def row_of_groups(groups: Any, row_of: Any) -> Any:
    """Note the row of each group, if no group has two; returns the first row whose group has one before, else -1.

    Shapes: groups i32[n]; row_of i32[g], NO_GROUP before.
    """
    for row in range(groups.size):
        prefetch(row_of, max(groups[np.uint64(min(row + _AHEAD, groups.size - 1))], 0))
        if groups[row] >= 0:
            group = np.uint64(groups[row])
            if row_of[group] >= 0:
                return row
            row_of[group] = row
    return -1


# Groups of probe rows ------------------------------------------------------------------------------------------------


@kernel(void(u64_in, u8_in, u64, i64, i64, i32_out))
def find_direct(values: Any, validity: Any, base: Any, span: Any, null_group: Any, groups: Any) -> None:
    """Groups of keys that are numbered by their distance from `base`, those of `span` numbers.

    Shapes: values u64[n]; validity u8[n], or empty if nothing is null; groups i32[n], filled.
    """
    limit = np.uint64(span)
    for row in range(values.size):
        group = values[row] - base
        groups[row] = np.int32(group) if group < limit else np.int32(NO_GROUP)
    if validity.size:
        for row in range(values.size):
            if validity[row] == 0:
                groups[row] = np.int32(null_group)


@helper
def _search(data: Any, count: Any, keys: Any, slots: Any, rows: Any, arena: Any, groups: Any, first: Any) -> None:
    """Look up `count` of a chunk's `keys` (as `keytable.load_keys` makes them): groups[first + i] of each."""
    mask = np.uint64(slots.size - 1)
    for i in range(count):
        ahead = np.uint64(min(i + _SLOT_AHEAD, count - 1)) * KEY_WORDS + _TWO
        prefetch(slots, np.int64(keys[ahead] & mask))
        near = np.uint64(min(i + _ROW_AHEAD, count - 1)) * KEY_WORDS + _TWO
        prefetch(rows, max(np.int64(np.uint64(slots[keys[near] & mask]) & mask) - 1, 0))
        at = np.uint64(i) * KEY_WORDS
        word0, word1, hashed, length = keys[at], keys[at + _ONE], keys[at + _TWO], keys[at + _THREE]
        is_long = length > NULL_LENGTH
        if is_long:
            length ^= NULL_LENGTH
        salt = (hashed >> SHIFT) & ~mask
        slot = hashed & mask
        result = np.int32(NO_GROUP)
        while True:
            found = np.uint64(slots[slot])
            if found == ZERO:
                break
            if (found & ~mask) == salt:
                group = (found & mask) - _ONE
                if (rows[group, 3] & LOW) == length and rows[group, 1] == word1:
                    is_same = rows[group, 0] == word0
                    if is_long:
                        is_same = same_long(arena, np.int64(rows[group, 0]), data, np.int64(word0), np.int64(length))
                    if is_same:
                        result = np.int32(group)
                        break
            slot = (slot + _ONE) & mask
        groups[np.uint64(first + i)] = result


@kernel(void(u64_in, u8_in, u64, u64_out, u32_in, u64_2d_in, u8_in, i32_out))
def find_words(
    values: Any, validity: Any, seed: Any, keys: Any, slots: Any, rows: Any, arena: Any, groups: Any
) -> None:
    """Look up fixed-width keys in a key table. Shapes: values u64[n]; validity u8[n] or empty; groups i32[n], filled.

    keys: u64[4 * CHUNK_ROWS] of working room; the others are the table's.
    """
    row = 0
    while row < values.size:
        end = min(row + CHUNK_ROWS, values.size)
        for r in range(row, end):
            at = np.uint64(r)
            is_null = validity.size != 0 and validity[at] == 0
            value = ZERO if is_null else values[at]
            put_key(keys, np.uint64(r - row), value, ZERO, NULL_LENGTH if is_null else _EIGHT, seed)
        _search(arena, end - row, keys, slots, rows, arena, groups, row)
        row = end


@kernel(void(u8_in, i32_in, u8_in, u64, u64_out, i32_out, u32_in, u64_2d_in, u8_in, i32_out))
def find_strings(
    data: Any, offsets: Any, validity: Any, seed: Any, keys: Any, scratch: Any, slots: Any, rows: Any, arena: Any,
    groups: Any,
) -> None:  # fmt: skip
    """Look up strings in a key table, as `find_words`; scratch: i32[2 * CHUNK_ROWS] of working room."""
    starts = scratch[:CHUNK_ROWS]
    lengths = scratch[CHUNK_ROWS:]
    row = 0
    while row < groups.size:
        end = min(row + CHUNK_ROWS, groups.size)
        spans(offsets, validity, row, end, starts, lengths)
        load_keys(data, 0, end - row, starts, lengths, data.size - 16, seed, keys)
        _search(data, end - row, keys, slots, rows, arena, groups, row)
        row = end


# Pairs ---------------------------------------------------------------------------------------------------------------


@kernel(i64(i32_in, i32_in, boolean, i64, u32_out, u32_out))
def pair_unique(groups: Any, row_of: Any, keeps_all: Any, missing: Any, probe_rows: Any, build_rows: Any) -> Any:
    """Pairs where no group has two build rows: returns how many.

    Shapes: groups i32[n]; row_of i32[g]; probe_rows, build_rows u32[n]. `keeps_all`: a probe row without a match is
    paired with the row number `missing`.
    """
    count = 0
    for row in range(groups.size):
        prefetch(row_of, max(groups[np.uint64(min(row + _AHEAD, groups.size - 1))], 0))
        group = groups[np.uint64(row)]
        found = np.int64(NO_GROUP)
        if group >= 0:
            found = np.int64(row_of[np.uint64(group)])
        if found >= 0 or keeps_all:
            probe_rows[np.uint64(count)] = row
            build_rows[np.uint64(count)] = missing if found < 0 else found
            count += 1
    return count


@kernel(i64(i32_in, i64_in, u32_in, boolean, i64, i64_out, u32_out, u32_out))
def pair_rows(
    groups: Any, starts: Any, row_at: Any, keeps_all: Any, missing: Any, place: Any, probe_rows: Any, build_rows: Any
) -> Any:
    """Pairs of probe and build rows, up to as many as there is room for; returns how many.

    Shapes: groups i32[n]; starts i64[g + 1]; row_at u32[m]; place i64[2]: the probe row to go on with, and how many of
    its matches are done; moved on. probe_rows, build_rows u32[room]. `keeps_all`, `missing` as in `pair_unique`.
    """
    row, done, count = place[0], place[1], 0
    while row < groups.size and count < probe_rows.size:
        prefetch(starts, max(groups[np.uint64(min(row + _AHEAD, groups.size - 1))], 0))
        group = groups[np.uint64(row)]
        first = last = np.int64(0)
        if group >= 0:
            first, last = starts[np.uint64(group)], starts[np.uint64(group) + _ONE]
        if first == last:
            if keeps_all:
                probe_rows[np.uint64(count)] = row
                build_rows[np.uint64(count)] = missing
                count += 1
            row += 1
            continue
        fitting = min(last - first - done, probe_rows.size - count)
        for i in range(fitting):
            probe_rows[np.uint64(count + i)] = row
            build_rows[np.uint64(count + i)] = row_at[np.uint64(first + done + i)]
        count += fitting
        done += fitting
        if done == last - first:
            row += 1
            done = 0
    place[0], place[1] = row, done
    return count


@kernel(void(i32_in, i64_in, u8_out))
def mark_matching(groups: Any, starts: Any, marks: Any) -> None:
    """Set marks[row] to 1 for each probe row that has a match, else to 0.

    Shapes: groups i32[n]; starts i64[g + 1]; marks u8[n].
    """
    for row in range(groups.size):
        prefetch(starts, max(groups[np.uint64(min(row + _AHEAD, groups.size - 1))], 0))
        group = groups[np.uint64(row)]
        has = group >= 0 and starts[np.uint64(group) + _ONE] > starts[np.uint64(group)]
        marks[np.uint64(row)] = np.uint8(1) if has else np.uint8(0)


@kernel(void(i32_in, i32_in, u8_out))
def mark_found(groups: Any, row_of: Any, marks: Any) -> None:
    """As `mark_matching` where no group has two build rows. Shapes: groups i32[n]; row_of i32[g]; marks u8[n]."""
    for row in range(groups.size):
        prefetch(row_of, max(groups[np.uint64(min(row + _AHEAD, groups.size - 1))], 0))
        group = groups[np.uint64(row)]
        has = group >= 0 and row_of[np.uint64(group)] >= 0
        marks[np.uint64(row)] = np.uint8(1) if has else np.uint8(0)


@kernel(void(u32_in, u8_out))
def mark_rows(rows: Any, marks: Any) -> None:
    """Set marks[row] to 1 for each of `rows`. Shapes: rows u32[n], marks u8[m]."""
    for i in range(rows.size):
        marks[np.uint64(rows[i])] = np.uint8(1)
