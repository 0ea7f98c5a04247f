"""N-grams: the runs of n words that occur most often in a text, case and punctuation aside.

Word count with a window. All n-grams are written; the k most frequent ones are shown, found by a verb after the job.

    python examples/ngrams_top_k.py --n 3 --top 20
    python examples/ngrams_top_k.py 'books/*.txt' -o ngrams/
    kernelmill run examples/ngrams_top_k.py:job 'books/*.txt' -o bigrams/
"""

import kernelmill as km
from inputs import KJV, arguments


def ngrams(n):
    """The job for runs of n words. Its map is a closure: for each n another function is compiled."""

    def map(line, emit):
        words = [word.strip(".,;:!?()'") for word in line.lower().split()]
        words = [word for word in words if word]
        for start in range(len(words) - n + 1):
            emit(" ".join(words[start : start + n]), 1)

    return km.MapReduce(map, "sum", key="ngram", value="count", order=None)


job = ngrams(2)


def top(counts, k):
    """The k most frequent ones; among those of one count the first in the alphabet."""
    return counts.top_k(k, by=["count", "ngram"], reverse=[False, True])


def main():
    given = arguments(__doc__, "ngrams_top_k", KJV, n=2, top=10)
    print(ngrams(given.n).run(given.inputs, output=given.output, mode="overwrite"))
    top(km.scan_parquet(f"{given.output}/*.parquet"), given.top).show(given.top)


if __name__ == "__main__":
    main()
