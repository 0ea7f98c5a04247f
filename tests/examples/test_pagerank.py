"""examples/pagerank.py against a power iteration over dicts."""

import math

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def packages(inputs, tmp_path):
    """Some of the graph: most links lead to packages that have no row of their own."""
    path = tmp_path / "packages.parquet"
    pq.write_table(pq.read_table(inputs.PACKAGES).slice(20_000, 1_500), path)
    return str(path)


def links_in(path):
    """Page -> the pages it links to; also for pages that are only linked to."""
    rows = pq.read_table(path, columns=["package", "depends"]).to_pylist()
    links = {name: set() for row in rows for name in (row["package"], *row["depends"])}
    for row in rows:
        links[row["package"]].update(row["depends"])
    return links


def iterated(links, tolerance):
    """Page -> rank, and how many rounds it took to move less than `tolerance`."""
    ranks = dict.fromkeys(links, 1 / len(links))
    for rounds in range(1, 1000):
        stuck = math.fsum(ranks[page] for page in links if not links[page])
        new = dict.fromkeys(links, (1 - 0.85 + 0.85 * stuck) / len(links))
        for page, targets in links.items():
            for target in targets:
                new[target] += 0.85 * ranks[page] / len(targets)
        moved = math.fsum(abs(new[page] - ranks[page]) for page in links)
        ranks = new
        if moved <= tolerance:
            return ranks, rounds
    raise AssertionError("no convergence")


def test_ranks_are_those_of_the_power_iteration(load, packages):
    example = load("pagerank")
    found = dict(example.pagerank(example.pages(packages), 1e-9).collect().rows())
    expected, rounds = iterated(links_in(packages), 1e-9)
    assert found == pytest.approx(expected, rel=1e-12)
    assert sum(found.values()) == pytest.approx(1) and rounds > 5


def test_a_cycle_keeps_its_rank_and_what_it_hangs_on_gets_none_back(load, tmp_path):
    path = tmp_path / "graph.parquet"
    graph = {"package": ["a", "b", "c", "d"], "depends": [["b", "b"], ["c"], ["a"], ["a"]]}
    pq.write_table(pa.table(graph), path)
    example = load("pagerank")
    found = dict(example.pagerank(example.pages(str(path)), 1e-12).collect().rows())
    assert found["d"] == pytest.approx(0.15 / 4)
    assert found == pytest.approx(iterated(links_in(path), 1e-12)[0], rel=1e-12)


def test_one_and_two_threads_give_equal_bytes(load, packages, bytes_of):
    example = load("pagerank")
    digests = []
    for threads in (1, 2):
        ranks = example.pagerank(example.pages(packages), 1e-2)
        digests.append(bytes_of(ranks, threads))
    assert digests[0] == digests[1]


def test_main_shows_the_first_pages(packages, run_main):
    said = run_main("pagerank", packages, "--tolerance", 1e-3, "--top", 3, "-o", "ranks")
    ranks, _ = iterated(links_in(packages), 1e-3)
    first = sorted(ranks, key=ranks.get, reverse=True)[:3]
    assert [line.split()[0] for line in said.splitlines()[-3:]] == first
    assert f"{len(ranks):,} rows" in said


def test_the_job_of_the_graph_keeps_pages_that_nothing_hangs_on(load):
    edges = [("a", "b"), ("a", ""), ("c", "")]
    rows = [{"source": source, "target": target} for source, target in edges]
    assert load("pagerank").graph.trial(rows).rows() == [("a", "b"), ("b", ""), ("c", "")]
