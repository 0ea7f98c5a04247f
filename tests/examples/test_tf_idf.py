"""examples/tf_idf.py against Counters, a document each."""

import math
from collections import Counter
from pathlib import Path

import pytest


def weighed(pattern, top):
    """(file, place) -> (word, weight) of the `top` heaviest words of each file."""
    counts = {}
    for path in Path(pattern).parent.glob(Path(pattern).name):
        words = (word.strip(".,;:!?()'") for word in path.read_text().lower().split())
        counts[path.name] = Counter(word for word in words if word)
    files = Counter(word for words in counts.values() for word in words)
    heaviest = {}
    for name, words in counts.items():
        total = words.total()
        weights = [(n / total * math.log(len(counts) / files[word]), word) for word, n in words.items()]
        weights.sort(key=lambda one: (-one[0], one[1]))
        heaviest.update({(name, place + 1): weights[place][::-1] for place in range(min(top, len(weights)))})
    return heaviest


def test_it_finds_the_words_that_tell_a_book_from_the_others(load, inputs):
    found = load("tf_idf").keywords(inputs.KJV).collect()
    expected = weighed(inputs.KJV, 10)
    assert [row[:2] for row in found.rows()] == sorted(expected)
    assert [row[2] for row in found.rows()] == [expected[row[:2]][0] for row in found.rows()]
    assert [row[3] for row in found.rows()] == pytest.approx([expected[row[:2]][1] for row in found.rows()], rel=1e-12)
    assert expected["08-ruth.txt", 1][0] == "naomi"


def test_one_and_two_threads_give_equal_bytes(load, inputs, bytes_of):
    frame = load("tf_idf").keywords(inputs.KJV.replace("*", "0*"))
    assert bytes_of(frame, 1, split_size="100KiB") == bytes_of(frame, 2, split_size="100KiB")


def test_main_shows_the_heaviest_word_of_each_book(inputs, run_main):
    some = inputs.KJV.replace("*", "6*")
    said = run_main("tf_idf", some, "--top", 3, "-o", "keywords")
    for (name, place), (word, _) in weighed(some, 3).items():
        assert place > 1 or any(line.split()[:2] == [name, word] for line in said.splitlines())
