"""Reverse web-link graph: for each target, the sources that link to it (OSDI 2004, section 2.3).

The web is Debian 12 here: a package links to the packages it depends on. The result lists, for each package, those that
depend on it: what would break without it.

    python examples/reverse_links.py
    kernelmill run examples/reverse_links.py:reverse_links -o reverse/
"""

import kernelmill as km
from inputs import PACKAGES, arguments


def map(link, emit):
    emit(link.target, link.source)


job = km.MapReduce(map, "unique", key="target", value="sources", order="value")


def links(inputs=PACKAGES):
    """The graph, a row for each link: a column of lists is exploded before map sees it."""
    return (
        km.scan_parquet(inputs)
        .select(source="package", target="depends")
        .explode("target")
    )  # fmt: skip


def reverse_links(inputs):
    """The frame of targets with their sources."""
    return links(inputs or PACKAGES).pipe(job)


def main():
    given = arguments(__doc__, "reverse_links", PACKAGES)
    print(reverse_links(given.inputs).sink_parquet(given.output, mode="overwrite"))
    reverse = km.scan_parquet(f"{given.output}/*.parquet")
    reverse.select("target", n=km.col("sources").list.len(), sources="sources").top_k(10, by="n").show()


if __name__ == "__main__":
    main()
