"""examples/word_count.py against collections.Counter."""

from collections import Counter
from pathlib import Path

import kernelmill as km


def counted(pattern):
    paths = sorted(Path(pattern).parent.glob(Path(pattern).name))
    return Counter(word for path in paths for word in path.read_text().split())


def test_it_counts_as_a_counter_does(load, inputs):
    found = load("word_count").job(km.scan_text(inputs.KJV)).collect().rows()
    assert found == sorted(counted(inputs.KJV).items())


def test_the_papers_program_gives_the_same(load, inputs):
    words, lines = load("word_count"), km.scan_text(inputs.KJV.replace("*", "0*"))
    assert words.as_in_the_paper(lines).collect().rows() == words.job(lines).collect().rows()


def test_the_papers_program_can_be_tried_on_a_few_lines(load):
    found = load("word_count").as_in_the_paper.trial(["to be or", "not to be"]).rows()
    assert found == [("be", 2), ("not", 1), ("or", 1), ("to", 2)]


def test_one_and_two_threads_give_equal_bytes(load, inputs, bytes_of):
    frame = load("word_count").job(km.scan_text(inputs.KJV))
    assert bytes_of(frame, 1, split_size="200KiB") == bytes_of(frame, 2, split_size="200KiB")


def test_main_prints_the_most_frequent_words(inputs, run_main):
    said = run_main("word_count", inputs.KJV.replace("*", "57-*"), "-o", "counts", "--top", 1)
    ((word, n),) = counted(inputs.KJV.replace("*", "57-*")).most_common(1)
    assert "wrote counts: 1 file" in said and said.splitlines()[-1].split() == [word, str(n)]
