"""examples/inverted_index.py against a dict of lists, and its phrases against a search of the lines."""

from collections import defaultdict
from pathlib import Path

import kernelmill as km


def books(inputs, some):
    pattern = Path(inputs.KJV.replace("*", some))
    return sorted(pattern.parent.glob(pattern.name))


def words_of(line):
    return [word.strip(".,;:?!()'") for word in line.lower().split()]


def places(paths):
    index = defaultdict(list)
    for path in paths:
        offset = 0
        for line in path.read_bytes().splitlines(keepends=True):
            for place, word in enumerate(words_of(line.decode())):
                index[word].append((str(path), offset, place))
            offset += len(line)
    return index


def test_it_lists_file_offset_and_place_of_each_word(load, inputs):
    paths = books(inputs, "4*")
    found = load("inverted_index").index([str(path) for path in paths]).collect().rows()
    expected = places(paths)
    assert [word for word, *_ in found] == sorted(expected)
    assert {word: list(zip(*lists, strict=True)) for word, *lists in found} == expected


def test_a_phrase_is_found_where_its_words_follow_one_another(load, inputs):
    module, paths = load("inverted_index"), books(inputs, "*")
    index = module.index(inputs.KJV).collect().lazy()
    for phrase in ("still waters", "In the beginning", "waters still", "no phrase", "the"):
        words = words_of(phrase)
        expected = set()
        for path in paths:
            offset = 0
            for line in path.read_bytes().splitlines(keepends=True):
                found = words_of(line.decode())
                if any(found[at : at + len(words)] == words for at in range(len(found))):
                    expected.add((str(path), offset))
                offset += len(line)
        assert module.find(index, phrase) == sorted(expected)


def test_offsets_count_bytes_where_characters_have_several(load, tmp_path):
    (tmp_path / "a.txt").write_text("Größe zählt\nzählt nicht\n", encoding="utf-8")
    found = load("inverted_index").index(tmp_path / "a.txt").filter(km.col("word") == "zählt").collect().rows()
    assert found == [("zählt", [str(tmp_path / "a.txt")] * 2, [0, 15], [1, 0])]


def test_one_and_two_threads_give_equal_bytes(load, inputs, bytes_of):
    frame = load("inverted_index").index(inputs.KJV.replace("*", "4*"))
    assert bytes_of(frame, 1, split_size="100KiB") == bytes_of(frame, 2, split_size="100KiB")


def test_main_prints_the_lines_with_the_phrase(inputs, run_main):
    said = run_main("inverted_index", inputs.KJV.replace("*", "19-*"), "--phrase", "still waters", "-o", "index")
    assert "beside the still waters." in said and said.count("19-psalms.txt, byte") == 1
