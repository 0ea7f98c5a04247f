"""examples/ngrams_top_k.py against a Counter over slices of each line's words."""

from collections import Counter
from pathlib import Path

import pytest

import kernelmill as km


def counted(pattern, n):
    """n-gram -> how often, over all lines."""
    counts = Counter()
    for path in Path(pattern).parent.glob(Path(pattern).name):
        for line in path.read_text().splitlines():
            words = [word.strip(".,;:!?()'") for word in line.lower().split()]
            words = [word for word in words if word]
            counts.update(" ".join(words[at : at + n]) for at in range(len(words) - n + 1))
    return counts


@pytest.mark.parametrize("n", [1, 3])
def test_it_counts_the_runs_of_n_words_of_the_whole_book(load, inputs, n):
    found = km.scan_text(inputs.KJV).pipe(load("ngrams_top_k").ngrams(n)).collect()
    assert dict(found.rows()) == counted(inputs.KJV, n)


def test_the_top_is_ordered_by_count_and_then_by_the_alphabet(load, inputs):
    example = load("ngrams_top_k")
    found = example.top(km.scan_text(inputs.KJV).pipe(example.job), 500).collect().rows()
    counts = counted(inputs.KJV, 2)
    assert found == sorted(counts.items(), key=lambda row: (-row[1], row[0]))[:500]
    assert found[0][0] == "of the" and len({count for _, count in found}) < 500


def test_one_and_two_threads_give_equal_bytes(load, inputs, bytes_of):
    frame = km.scan_text(inputs.KJV.replace("*", "0*")).pipe(load("ngrams_top_k").job)
    assert bytes_of(frame, 1, split_size="100KiB") == bytes_of(frame, 2, split_size="100KiB")


def test_main_shows_the_most_frequent_ones(inputs, run_main):
    ruth = inputs.KJV.replace("*", "08-*")
    said = run_main("ngrams_top_k", ruth, "--n", 3, "--top", 1, "-o", "ngrams")
    counts = counted(ruth, 3)
    ngram, count = min(counts.items(), key=lambda row: (-row[1], row[0]))
    assert f"{len(counts):,} rows" in said
    assert said.splitlines()[-1].split() == [*ngram.split(), str(count)]
