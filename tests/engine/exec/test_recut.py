"""Batches are cut by their rows alone."""

import itertools

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from kernelmill.engine.exec import recut


@given(st.lists(st.text("a", max_size=9), max_size=30), st.lists(st.integers(0, 30), max_size=9), st.integers(1, 60))
def test_cuts_do_not_depend_on_how_rows_came(texts, cuts, bytes_max):
    whole = pa.record_batch({"s": pa.array(texts, pa.string())})
    bounds = sorted([0, len(texts), *(cut % (len(texts) + 1) for cut in cuts)])
    pieces = [whole.slice(a, b - a) for a, b in itertools.pairwise(bounds)]
    made = list(recut.recut(iter(pieces), bytes_max))
    assert made == list(recut.recut(iter([whole]), bytes_max))
    assert [text for batch in made for text in batch["s"].to_pylist()] == texts
    sizes = [[len(text) + 4 for text in batch["s"].to_pylist()] for batch in made]
    for size, after in itertools.zip_longest(sizes, sizes[1:]):
        assert sum(size) <= bytes_max or len(size) == 1
        assert after is None or sum(size) + after[0] > bytes_max


def test_no_batch_has_more_rows_than_64_ki():
    made = list(recut.recut(iter([pa.record_batch({"n": range(200_000)})] * 2)))
    assert {batch.num_rows for batch in made[:-1]} == {1 << 16}
    assert sum(batch.num_rows for batch in made) == 400_000
