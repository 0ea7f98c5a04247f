"""examples/term_vector_per_host.py against Counters over the pages of a generated crawl."""

from collections import Counter, defaultdict
from pathlib import Path

import pytest


@pytest.fixture
def crawl(inputs, tmp_path):
    return inputs.write_crawl(tmp_path / "crawl", hosts=12)


def vectors(pattern, module):
    counts = defaultdict(Counter)
    for page in Path(pattern).parents[1].glob("*/*.txt"):
        terms = (word.strip(".,;:?!()'") for word in page.read_text().lower().split())
        counts[page.parent.name].update(term for term in terms if term and term not in module.STOP)
    for host in sorted(counts):
        ordered = sorted(counts[host].items(), key=lambda item: (-item[1], item[0]))[: module.TERMS]
        for rank, (term, n) in enumerate(ordered, start=1):
            if n >= module.SELDOM:
                yield host, rank, term, n


def test_it_keeps_the_most_frequent_terms_of_each_host(load, crawl):
    module = load("term_vector_per_host")
    found = module.term_vectors(crawl).collect().rows()
    assert found == list(vectors(crawl, module))
    assert len({host for host, *_ in found}) == 12


def test_terms_that_are_seldom_are_thrown_away(load, tmp_path):
    (tmp_path / "a.example").mkdir()
    (tmp_path / "a.example" / "page-1.txt").write_text("the often often often often often and seldom")
    found = load("term_vector_per_host").term_vectors(str(tmp_path / "*" / "*.txt")).collect().rows()
    assert found == [("a.example", 1, "often", 5)]


def test_one_and_two_threads_give_equal_bytes(load, crawl, bytes_of):
    frame = load("term_vector_per_host").term_vectors(crawl)
    assert bytes_of(frame, 1, split_size="100KiB") == bytes_of(frame, 2, split_size="100KiB")


def test_main_makes_a_crawl_where_none_is_named(run_main, tmp_path):
    said = run_main("term_vector_per_host", "-o", "out/vectors")
    assert "1-chronicles.example" in said and "david" in said
    assert len(list((tmp_path / "main" / "out" / "inputs" / "crawl").iterdir())) == 66
