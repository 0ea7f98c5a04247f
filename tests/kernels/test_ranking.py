"""The least words of each group, and words by rank: against sorting."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelmill.kernels import ranking

WORDS = st.integers(0, 2**64 - 1) | st.integers(0, 4)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 2), WORDS, st.booleans()), max_size=40), st.integers(1, 5), st.booleans())
def test_the_least_words_of_a_group_are_kept_in_order(rows, limit, masked):
    kept, lengths = np.zeros(3 * limit, np.uint64), np.zeros(3, np.int64)
    validity = np.array([row[2] for row in rows], np.uint8) if masked else np.empty(0, np.uint8)
    groups = np.array([row[0] for row in rows], np.int32)
    ranking.keep_least_words(groups, np.array([row[1] for row in rows], np.uint64), validity, limit, kept, lengths)
    wanted = [sorted(w for g, w, v in rows if g == group and (v or not masked))[:limit] for group in range(3)]
    out = np.empty(int(lengths.sum()), np.uint64)
    ranking.join_kept(lengths, limit, kept, out)
    assert lengths.tolist() == [len(own) for own in wanted]
    assert out.tolist() == [word for own in wanted for word in own]


def selected(lists, ranks):
    words = np.array([word for one in lists for word in one], np.uint64)
    offsets = np.cumsum([0, *map(len, lists)]).astype(np.int32)
    found, following = np.zeros(len(lists), np.uint64), np.zeros(len(lists), np.uint64)
    ranking.select_ranks(words, offsets, np.array(ranks, np.int64), found, following)
    return found.tolist(), following.tolist()


@settings(max_examples=80)
@given(st.lists(st.tuples(st.lists(WORDS, max_size=30), st.floats(0, 1)), max_size=4))
def test_words_of_a_rank_are_those_of_the_sorted_list(drawn):
    ranks = [min(len(words) - 1, int(share * len(words))) for words, share in drawn]
    found, following = selected([words for words, _ in drawn], ranks)
    for (words, _), rank, one, after in zip(drawn, ranks, found, following, strict=True):
        in_order = sorted(words)
        if words:
            assert one == in_order[rank] and after == in_order[min(rank + 1, len(words) - 1)]


@pytest.mark.parametrize("tries", [0, 1, 40])
def test_lists_that_are_sorted_or_equal_or_wide_are_selected_from(monkeypatch, tries):
    """Without a compiler also with no choice of the middle of three, so that the range is halved from the start."""
    monkeypatch.setattr(ranking, "_TRIES", tries)
    lists = [list(range(300)), list(range(300))[::-1], [7] * 300, [2**64 - 1, 0] * 150, [2**k for k in range(64)]]
    ranks = [100, 100, 100, 149, 40]
    assert selected(lists, ranks) == ([100, 100, 7, 0, 2**40], [101, 101, 7, 2**64 - 1, 2**41])
