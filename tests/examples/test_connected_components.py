"""examples/connected_components.py against union-find."""

from collections import Counter

import pyarrow as pa
import pyarrow.parquet as pq
import pytest


@pytest.fixture
def packages(inputs, tmp_path):
    """Some of the graph."""
    path = tmp_path / "packages.parquet"
    pq.write_table(pq.read_table(inputs.PACKAGES).slice(20_000, 3_000), path)
    return str(path)


def united(path):
    """Node -> the least node of its component."""
    parent = {}

    def root(node):
        parent.setdefault(node, node)
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for row in pq.read_table(path, columns=["package", "depends"]).to_pylist():
        root(row["package"])
        for other in row["depends"]:
            parent[root(row["package"])] = root(other)
    least = {}
    for node in sorted(parent, key=str.encode):
        least.setdefault(root(node), node)
    return {node: least[root(node)] for node in parent}


def test_components_are_those_of_union_find(load, packages):
    found = dict(load("connected_components").labelled(packages).collect().rows())
    expected = united(packages)
    assert found == expected
    assert len(set(expected.values())) > 50


def test_a_long_chain_is_one_component_whatever_its_links_direction(load, tmp_path):
    chain = [f"n{number:02}" for number in range(20)]
    graph = {"package": [*chain, "z", "y"], "depends": [*([other] for other in chain[1:]), [], ["y"], ["x"]]}
    path = tmp_path / "graph.parquet"
    pq.write_table(pa.table(graph), path)
    found = dict(load("connected_components").labelled(str(path)).collect().rows())
    assert found == united(path)
    assert Counter(found.values()) == {"n00": 20, "x": 3}


def test_one_and_two_threads_give_equal_bytes(load, packages, bytes_of):
    example = load("connected_components")
    assert bytes_of(example.labelled(packages), 1) == bytes_of(example.labelled(packages), 2)


def test_main_shows_the_largest_components(packages, run_main):
    said = run_main("connected_components", packages, "--top", 1, "-o", "components")
    labels = united(packages)
    ((label, nodes),) = Counter(labels.values()).most_common(1)
    assert said.splitlines()[-1].split() == [label, f"{nodes:,}"]
    assert f"{len(labels):,} rows" in said
