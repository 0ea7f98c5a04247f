"""Term vector per host: the most frequent words of each web site, with their counts (OSDI 2004, section 2.3).

Two jobs in one plan: the first counts the words of each host, but for those that everybody uses; the second keeps the
most frequent of each. A record is a whole document, a page; the pages of a host lie in a folder of its name, as a
crawler leaves them.

    python examples/term_vector_per_host.py
    python examples/term_vector_per_host.py 'mirror/*/*.txt' -o vectors/
    kernelmill run examples/term_vector_per_host.py:term_vectors 'mirror/*/*.txt' -o vectors/
"""

import kernelmill as km
from inputs import arguments, made, write_crawl

TERMS = 10  # of each host's vector
SELDOM = 5  # terms that occur less often are thrown away
COMMON = """
    a all also am an and are as at be but by for from had hath have he her him his i in is it me my not of on our out
    shall she so that the thee their them then there they thine this thou thy to unto up upon us was we were which who
    will with ye you your
"""
STOP = set(COMMON.split())


def words_of_page(page, emit):
    host = page.path.split("/")[-2]
    for word in page.text.lower().split():
        term = word.strip(".,;:?!()'")
        if term and term not in STOP:
            emit((host, term), 1)


def by_frequency(row, emit):
    emit(row.host, (-row.n, row.term))


def most_frequent(host, terms, emit):
    for rank, (minus_n, term) in enumerate(terms, start=1):  # in order of minus_n, and then of the alphabet
        if rank > TERMS or -minus_n < SELDOM:
            break
        emit((rank, term, -minus_n))


count_terms = km.MapReduce(words_of_page, "sum", key=("host", "term"), value="n", order=None)
keep_most_frequent = km.MapReduce(
    by_frequency,
    most_frequent,
    key="host",
    value=("minus_n", "term"),
    order="value",
    schema=(
        {"host": "string", "minus_n": "int64", "term": "string"},
        {"rank": "int64", "term": "string", "n": "int64"},
    ),
)


def term_vectors(inputs):
    """The frame of term vectors: host, rank, term, n."""
    pages = km.scan_text(inputs, whole_file=True, include_file_paths="path")
    return pages.pipe(count_terms).pipe(keep_most_frequent)


def main():
    given = arguments(__doc__, "term_vector_per_host")
    pages = given.inputs or write_crawl(made(given.output, "crawl"))
    print(term_vectors(pages).sink_parquet(given.output, mode="overwrite"))
    km.scan_parquet(f"{given.output}/*.parquet").filter(km.col("rank") <= 3).show(12)


if __name__ == "__main__":
    main()
