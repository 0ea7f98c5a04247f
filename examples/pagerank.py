"""PageRank, to convergence: which packages of Debian 12 does all the rest lean on?

A page's rank is the chance that a surfer is on it who follows links at random, and now and then (1 - DAMPING) goes
anywhere (Brin and Page, 1998). Each round is one MapReduce: a page sends an equal share of its rank along each of its
links, and its own links to itself, so that the next round has them. Rounds go on until ranks hardly change.

    python examples/pagerank.py
    python examples/pagerank.py --tolerance 1e-9 --top 20
    kernelmill run examples/pagerank.py:ranked -o ranks/
"""

import kernelmill as km
from inputs import PACKAGES, arguments

DAMPING = 0.85


def link(edge, emit):
    emit(edge.source, edge.target)
    if edge.target != "":
        emit(edge.target, "")  # what is only pointed at is a page too


def links_of(page, targets, emit):
    emit(" ".join(sorted(set(targets))).strip())


graph = km.MapReduce(
    link,
    links_of,
    key="page",
    value="links",
    schema=({"page": "string", "links": "string"}, {"links": "string"}),
)


def spread(page, emit):
    targets = page.links.split()
    emit(page.page, (page.links, page.rank, 0.0))
    for target in targets:
        emit(target, ("", 0.0, page.rank / len(targets)))


def gather(page, given, emit):
    links, before, received = "", 0.0, 0.0
    for text, rank, share in given:
        before, received = before + rank, received + share
        if text != "":
            links = text
    emit((links, before, received))


step = km.MapReduce(
    spread,
    gather,
    key="page",
    value=("links", "before", "received"),
    schema={"page": "string", "links": "string", "before": "float64", "received": "float64"},
)


def pages(inputs=PACKAGES):
    """The graph: each page with the pages that it links to, as one text; held, for each round reads it."""
    edges = (
        km.scan_parquet(inputs)
        .select(source="package", target="depends")
        .explode("target", empty_as_null=True)
        .with_columns(km.col("target").fill_null(""))
    )
    return edges.pipe(graph).cache()


def pagerank(pages, tolerance=1e-6):
    """The frame of pages and ranks, which add up to 1: the first round that moves at most `tolerance` is the last."""
    count = pages.height
    ranks = pages.with_columns(rank=km.lit(1 / count))
    moved = 1.0
    while moved > tolerance:
        gathered = ranks.pipe(step).cache()
        # What pages without links did not pass on goes to all pages alike, as does what leaves at random.
        received = gathered.select(km.col("received").sum()).collect().row(0)[0]
        base = (1 - DAMPING * received) / count
        ranks = gathered.with_columns(rank=km.lit(base) + DAMPING * km.col("received"))
        moved = ranks.select((km.col("rank") - km.col("before")).abs().sum()).collect().row(0)[0]
    return ranks.select("page", "rank")


def ranked(inputs):
    """The ranks of the packages in Parquet files, or of Debian's."""
    return pagerank(pages(inputs or PACKAGES))


def main():
    given = arguments(__doc__, "pagerank", PACKAGES, tolerance=1e-6, top=10)
    print(pagerank(pages(given.inputs), given.tolerance).sink_parquet(given.output, mode="overwrite"))
    km.scan_parquet(f"{given.output}/*.parquet").top_k(given.top, by="rank").show(given.top)


if __name__ == "__main__":
    main()
