"""examples/reverse_links.py against a dict of sets, on the Debian package graph."""

from collections import defaultdict

import pyarrow.parquet as pq


def reversed_links(path):
    table = pq.read_table(path)
    sources = defaultdict(set)
    for package, depends in zip(table["package"].to_pylist(), table["depends"].to_pylist(), strict=True):
        for target in depends:
            sources[target].add(package)
    return sources


def test_it_lists_the_packages_that_depend_on_each(load, inputs):
    found = load("reverse_links").reverse_links([]).collect().rows()
    assert found == sorted((target, sorted(sources)) for target, sources in reversed_links(inputs.PACKAGES).items())


def test_one_and_two_threads_give_equal_bytes(load, bytes_of):
    frame = load("reverse_links").reverse_links([])
    assert bytes_of(frame, 1, split_size="300KiB") == bytes_of(frame, 2, split_size="300KiB")


def test_main_shows_what_most_packages_depend_on(inputs, run_main):
    said = run_main("reverse_links", "-o", "reverse")
    most = max(reversed_links(inputs.PACKAGES).items(), key=lambda item: len(item[1]))
    assert said.splitlines()[3].split()[:2] == [most[0], f"{len(most[1]):,}"]
