"""The greatest or least words of each group, and words by their rank in a list."""

from __future__ import annotations

from typing import Any

import numpy as np

from kernelmill.kernels._jit import helper, i32_in, i64, i64_in, i64_out, kernel, u8_in, u64_in, u64_out, void

_TRIES = 40  # partitions of a list around the middle of three of its words, before the middle of their range is taken


@kernel(void(i32_in, u64_in, u8_in, i64, u64_out, i64_out))
def keep_least_words(groups: Any, words: Any, validity: Any, limit: Any, kept: Any, lengths: Any) -> None:
    """Keep the `limit` smallest words of each group, ascending, in kept[limit * group...]; lengths: how many it has.

    Shapes: groups i32[n], words u64[n], validity u8[n] or empty; kept u64[limit * g], lengths i64[g].
    """
    masked = validity.size != 0
    for row in range(groups.size):
        if masked and validity[row] == 0:
            continue
        group = np.uint64(groups[row])
        word = words[row]
        start = np.int64(group) * limit
        count = lengths[group]
        if count == limit:
            if word >= kept[np.uint64(start + limit - 1)]:
                continue
            count -= 1
        else:
            lengths[group] = count + 1
        place = start + count
        while place > start and kept[np.uint64(place - 1)] > word:
            kept[np.uint64(place)] = kept[np.uint64(place - 1)]
            place -= 1
        kept[np.uint64(place)] = word


@kernel(void(i64_in, i64, u64_in, u64_out))
def join_kept(lengths: Any, limit: Any, kept: Any, out: Any) -> None:
    """Copy the first lengths[group] words of each group's `limit` one behind the other."""
    slot = 0
    for group in range(lengths.size):
        for place in range(lengths[group]):
            out[slot] = kept[np.uint64(group * limit + place)]
            slot += 1


@helper
def _middle_of(words: Any, first: Any, last: Any) -> Any:
    """The middle one of the first, middle and last word."""
    a, b, c = words[first], words[(first + last) >> 1], words[last]
    if a > b:
        a, b = b, a
    return max(a, min(b, c))


@helper
def _middle_of_range(words: Any, first: Any, last: Any) -> Any:
    low, high = words[first], words[first]
    for at in range(first, last + 1):
        low, high = min(low, words[at]), max(high, words[at])
    return low + ((high - low) >> np.uint64(1))


@kernel(void(u64_out, i32_in, i64_in, u64_out, u64_out))
def select_ranks(words: Any, offsets: Any, ranks: Any, found: Any, next_found: Any) -> None:
    """The word of rank ranks[i] (0 is the smallest) in each list, and the one that follows it, if any, else it again.

    Shapes: words u64[m], moved about within their lists; offsets i32[n + 1]; ranks i64[n], not used for an empty list,
    whose results are not set; found, next_found u64[n]. Source: Hoare's Find, 1961; where its choice goes wrong, the
    range of values is halved instead, so a list of n words never takes more than some 100 n steps.
    """
    for i in range(ranks.size):
        first, last = np.int64(offsets[i]), np.int64(offsets[i + 1]) - 1
        end = last
        if last < first:
            continue
        target = first + ranks[i]
        tries = 0
        while first < last:
            tries += 1
            if tries <= _TRIES:
                pivot = _middle_of(words, first, last)
            else:
                pivot = _middle_of_range(words, first, last)
            left, right = first, last
            # words up to `right` are <= pivot, from `left` on >= pivot, those between equal it
            while left <= right:
                while words[left] < pivot:
                    left += 1
                while words[right] > pivot:
                    right -= 1
                if left <= right:
                    words[left], words[right] = words[right], words[left]
                    left += 1
                    right -= 1
            if target <= right:
                last = right
            elif target >= left:
                first = left
            else:
                break
        word = words[target]
        found[i] = word
        following = word
        for at in range(target + 1, end + 1):
            if at == target + 1 or words[at] < following:
                following = words[at]
        next_found[i] = following
