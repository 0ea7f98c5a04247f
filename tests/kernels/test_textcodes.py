import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.kernels import textcodes

TEXTS = st.lists(st.one_of(st.none(), st.binary(max_size=12), st.sampled_from([b"", b"a\0", b"a", b"prefix--1"])))


def arrays(texts):
    data = b"".join(text or b"" for text in texts)
    offsets = np.cumsum([0, *(len(text or b"") for text in texts)]).astype(np.int32)
    nulls = np.array([text is not None for text in texts], np.uint8)
    return np.frombuffer(data, np.uint8), offsets, nulls if None in texts else np.empty(0, np.uint8)


@settings(max_examples=200, deadline=None)
@given(TEXTS)
def test_the_least_and_the_greatest_are_those_of_python(texts):
    found = np.empty(2, np.int64)
    textcodes.least_and_greatest(*arrays(texts), found)
    there = [text for text in texts if text is not None]
    assert [None if row < 0 else texts[row] for row in found] == ([min(there), max(there)] if there else [None, None])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.one_of(st.none(), st.integers(0, 5)), max_size=20), max_size=3))
def test_numbers_go_by_first_use_from_call_to_call(batches):
    meanings = np.array([3, 0, 3, 1, 2, 4], np.int32)  # codes 0 and 2 stand for the same
    numbers, used, first_uses = np.full(5, textcodes.UNUSED, np.int32), 0, []
    for batch in batches:
        codes = np.array([code or 0 for code in batch], np.int32)
        validity = np.array([code is not None for code in batch], np.uint8) if None in batch else np.empty(0, np.uint8)
        out = np.empty(len(batch), np.int32)
        used = textcodes.number_by_use(codes, validity, meanings, used, numbers, out)
        for code, number in zip(batch, out, strict=True):
            if code is None:
                assert number == 0
                continue
            if meanings[code] not in first_uses:
                first_uses.append(meanings[code])
            assert first_uses[number] == meanings[code]
    assert used == len(first_uses)
