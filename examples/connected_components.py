"""Connected components: which packages of Debian 12 hang together by dependencies, whichever way these point?

Each node carries a label, at first its own name. In each round a node whose label changed tells it to its neighbours,
and takes the least that it is told; when no label changes, nodes of one component carry the name of its least node. The
number of rounds is that of the steps from a least node to those farthest away, not of the nodes.

    python examples/connected_components.py
    kernelmill run examples/connected_components.py:labelled -o components/
"""

import kernelmill as km
from inputs import PACKAGES, arguments


def link(edge, emit):
    emit(edge.source, edge.target)
    if edge.target != "":
        emit(edge.target, edge.source)


def neighbours_of(node, others, emit):
    emit(" ".join(sorted(set(others))).strip())


graph = km.MapReduce(
    link,
    neighbours_of,
    key="node",
    value="neighbours",
    schema=({"node": "string", "neighbours": "string"}, {"neighbours": "string"}),
)


def tell(node, emit):
    emit(node.node, (node.neighbours, node.label, node.label))
    if node.changed:
        for neighbour in node.neighbours.split():
            emit(neighbour, ("", "", node.label))


def take_least(node, told, emit):
    neighbours, before, label = "", "", ""
    for text, old, new in told:
        if old != "":  # what the node told itself
            neighbours, before = text, old
        if label == "" or new < label:
            label = new
    if label != before:
        emit.count("changed")
    emit((neighbours, label, label != before))


step = km.MapReduce(
    tell,
    take_least,
    key="node",
    value=("neighbours", "label", "told"),
    schema=(
        {"node": "string", "neighbours": "string", "label": "string", "told": "string"},
        {"neighbours": "string", "label": "string", "changed": "bool"},
    ),
)


def nodes(inputs=PACKAGES):
    """The graph: each node with its neighbours, as one text."""
    edges = (
        km.scan_parquet(inputs)
        .select(source="package", target="depends")
        .explode("target", empty_as_null=True)
        .with_columns(km.col("target").fill_null(""))
    )
    return edges.pipe(graph).cache()


def components(nodes):
    """The frame of nodes, each with the label of its component."""
    labels = nodes.with_columns(label="node", changed=km.lit(True))
    while True:
        labels = labels.pipe(step).cache()
        if "changed" not in labels.counters:
            return labels.select("node", component="label")


def labelled(inputs):
    """The components of the packages in Parquet files, or of Debian's."""
    return components(nodes(inputs or PACKAGES))


def main():
    given = arguments(__doc__, "connected_components", PACKAGES, top=10)
    print(components(nodes(given.inputs)).sink_parquet(given.output, mode="overwrite"))
    sizes = km.scan_parquet(f"{given.output}/*.parquet").group_by("component").len("nodes")
    sizes.top_k(given.top, by="nodes").show(given.top)


if __name__ == "__main__":
    main()
