import numpy as np
import pytest

from kernelmill.kernels.arrays import (
    LARGE_FROM_BYTES,
    LARGE_PAGE_BYTES,
    LINE_BYTES,
    cleared,
    side_by_side,
    uncleared,
    zeroed,
)


@pytest.mark.parametrize("make", [uncleared, zeroed])
@pytest.mark.parametrize(
    ("count", "unit"),
    [(1, LINE_BYTES), (LARGE_FROM_BYTES // 4 - 1, LINE_BYTES), (LARGE_FROM_BYTES // 4, LARGE_PAGE_BYTES)],
)
def test_small_arrays_begin_with_a_cache_line_and_large_ones_with_a_large_page(make, count, unit):
    made = make(count, np.uint32)
    assert made.size == count and made.dtype == np.uint32 and made.flags.writeable and made.flags.c_contiguous
    assert made.ctypes.data % unit == 0


def test_zeroed_is_zero_where_memory_was_used_before():
    for count in (1000, LARGE_FROM_BYTES // 8):
        uncleared(count, np.uint64)[:] = 7
        assert not zeroed(count, np.uint64).any()
        uncleared(count, np.uint64)[:] = 7
        assert not cleared(count, np.uint64).any()


def test_cleared_begins_with_a_large_page_from_one_on():
    assert cleared(LARGE_PAGE_BYTES // 4, np.uint32).ctypes.data % LARGE_PAGE_BYTES == 0
    assert cleared(1000, np.uint32).ctypes.data % LINE_BYTES == 0


def test_arrays_side_by_side_do_not_overlap_and_outlive_one_another():
    text, none, numbers = side_by_side((5, np.uint8), (0, np.int32), (3, np.int64))
    text[:], numbers[:] = 255, -1
    assert (text.size, none.size, numbers.size) == (5, 0, 3)
    assert text.tolist() == [255] * 5 and numbers.ctypes.data % LINE_BYTES == 0
    del text, none
    numbers += 1
    assert numbers.tolist() == [0, 0, 0]
