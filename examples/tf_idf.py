"""TF-IDF: the words that tell a document from the others; here what each book of the Bible is about.

A word's weight in a document is its share of the document's words (TF) times the logarithm of how rare documents with
it are (IDF, Spärck Jones, 1972). Four jobs follow one another, none writes files for the next:

    occurrences   (book, word) -> how often
    sizes         book -> how many words: a small table, which the next map gets as side data
    weights       word -> its weight in each of its books: a reduce that sees all books of a word
    heaviest      book -> its first words by weight: order="value", a secondary sort

    python examples/tf_idf.py
    python examples/tf_idf.py 'notes/*.txt' -o keywords/ --top 5
    kernelmill run examples/tf_idf.py:keywords 'notes/*.txt' -o keywords/
"""

import math

import kernelmill as km
from inputs import KJV, arguments


def words_of(row, emit):
    book = row.path[row.path.rfind("/") + 1 :]
    for word in row.line.lower().split():
        word = word.strip(".,;:!?()'")
        if word:
            emit((book, word), 1)


occurrences = km.MapReduce(words_of, "sum", key=("book", "word"), value="count", order=None)


def weights(sizes):
    """The job that weighs words, for documents of these sizes."""
    books_in_all = len(sizes)

    def share(row, emit, *, sizes):
        emit(row.word, (row.book, row.count / sizes[row.book]))

    def weigh(word, shares, emit):
        found = list(shares)  # as many as there are documents, at most
        rarity = math.log(books_in_all / len(found))
        for book, tf in found:
            emit((book, tf * rarity))

    types = {"word": "string", "book": "string", "share": "float64"}, {"book": "string", "weight": "float64"}
    return km.MapReduce(share, weigh, key="word", value=("book", "share"), schema=types, side={"sizes": sizes})


def heaviest(top):
    """The job that keeps the `top` words of each book."""

    def by_book(row, emit):
        emit(row.book, (-row.weight, row.word))  # values are sorted upwards: the heaviest first

    def first(book, words, emit):
        for place, (minus_weight, word) in zip(range(1, top + 1), words):  # noqa: B905 -- the shorter one ends it
            emit((place, word, -minus_weight))

    types = (
        {"book": "string", "minus_weight": "float64", "word": "string"},
        {"place": "int64", "word": "string", "weight": "float64"},
    )
    return km.MapReduce(by_book, first, key="book", value=("minus_weight", "word"), order="value", schema=types)


def keywords(inputs, top=10):
    """The frame of each file's heaviest words: book, place, word, weight."""
    counts = km.scan_text(inputs, include_file_paths="path").pipe(occurrences).cache()
    sizes = dict(counts.group_by("book").agg(km.col("count").sum()).collect().rows())
    return counts.pipe(weights(sizes)).pipe(heaviest(top))


def main():
    given = arguments(__doc__, "tf_idf", KJV, top=10)
    print(keywords(given.inputs, given.top).sink_parquet(given.output, mode="overwrite"))
    km.scan_parquet(f"{given.output}/*.parquet").filter(place=1).select("book", "word", "weight").show(66)


if __name__ == "__main__":
    main()
