"""Inverted index: for each word, where it stands, with positions, to find phrases by (OSDI 2004, section 2.3).

An entry of the index is a file, the offset of a line in it and the place of the word in that line: three lists a word,
sorted.

    python examples/inverted_index.py --phrase 'still waters'
    python examples/inverted_index.py 'src/*.c' -o index/ --phrase 'static inline'
    kernelmill run examples/inverted_index.py:index 'books/*.txt' -o index/
"""

import kernelmill as km
from inputs import KJV, arguments


def map(row, emit):
    for place, word in enumerate(row.line.lower().split()):
        emit(word.strip(".,;:?!()'"), (row.path, row.offset, place))


job = km.MapReduce(map, "list", key="word", value=("path", "offset", "place"), order="value")


def index(inputs):
    """The frame of the index: word, and lists of path, offset and place."""
    return km.scan_text(inputs, include_file_paths="path", include_offsets="offset").pipe(job)


def find(index, phrase):
    """The (path, offset) of each line in which the words of `phrase` follow one another."""
    words = phrase.lower().split()
    rows = index.filter(km.col("word").is_in(words)).collect().rows()
    places = {word: set(zip(*lists, strict=True)) for word, *lists in rows}
    starts = places.get(words[0], set())
    for step, word in enumerate(words[1:], start=1):
        starts = {at for at in starts if (at[0], at[1], at[2] + step) in places.get(word, ())}
    return sorted({(path, offset) for path, offset, _ in starts})


def main():
    given = arguments(__doc__, "inverted_index", KJV, phrase="still waters")
    print(index(given.inputs).sink_parquet(given.output, mode="overwrite"))
    for path, offset in find(km.scan_parquet(f"{given.output}/*.parquet"), given.phrase):
        with open(path, "rb") as file:
            file.seek(offset)
            print(f"{path}, byte {offset}: {file.readline().decode().strip()}")


if __name__ == "__main__":
    main()
