"""Words in the order of the numbers they stand for."""

import math
import struct

import numpy as np
import pytest

from kernelmill.kernels.orderedwords import ordered_words, values_of_words

FLOATS = [-math.inf, -1e308, -1.5, -5e-324, 0.0, 5e-324, 1.0, 1e308, math.inf]


@pytest.mark.parametrize(
    ("dtype", "values"),
    [(np.float64, FLOATS), (np.int64, [-(2**63), -1, 0, 1, 2**63 - 1]), (np.uint64, [0, 1, 2**63, 2**64 - 1])],
)
def test_words_keep_the_order_and_lead_back(dtype, values):
    words = ordered_words(np.array(values, dtype))
    assert words.tolist() == sorted(set(words.tolist()))
    assert values_of_words(words, dtype).tolist() == values


def test_equal_floats_have_one_word_and_nan_is_greatest():
    odd_nan = struct.unpack("<d", struct.pack("<Q", 0xFFF0000000000001))[0]
    words = ordered_words(np.array([-0.0, 0.0, math.inf, math.nan, odd_nan])).tolist()
    assert words[0] == words[1] < words[2] < words[3] == words[4]


def test_a_signalling_nan_is_no_cause_for_a_warning():
    assert ordered_words(np.array([0x7FF0000000000001], np.uint64).view(np.float64)).size == 1
