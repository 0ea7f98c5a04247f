"""Word count: how often does each word occur? The first example of the MapReduce paper (OSDI 2004, section 2.1).

Words are what white space parts: "And" and "and," are two.

    python examples/word_count.py
    python examples/word_count.py 'books/*.txt' -o counts/
    kernelmill run examples/word_count.py:job 'books/*.txt' -o counts/
"""

import kernelmill as km
from inputs import KJV, arguments


def map(line, emit):
    for word in line.split():
        emit(word, 1)


def reduce(word, counts, emit):
    emit(sum(counts))


# The paper's program, word for word: a map, a reduce, and a combiner that adds up before anything travels.
as_in_the_paper = km.MapReduce(
    map, reduce, combine="sum", key="word", value="n", schema={"word": "string", "n": "int64"}
)

# The same, and faster: "sum" adds in the table where words are looked up, and is its own combiner.
job = km.MapReduce(map, "sum", key="word", value="n")


def main():
    given = arguments(__doc__, "word_count", KJV, top=10)
    print(job.run(given.inputs, output=given.output, mode="overwrite"))
    km.scan_parquet(f"{given.output}/*.parquet").top_k(given.top, by="n").show()


if __name__ == "__main__":
    main()
