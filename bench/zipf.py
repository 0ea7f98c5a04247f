"""Text by Zipf's law: the word of rank r is drawn with a probability in proportion to 1 / r^exponent."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

WORDS_PER_LINE = 12
WORDS_PER_BLOCK = 120_000
LETTERS = b"etaoinshrdlcumwfgypbvkjxqz"


def word_of_rank(rank: int) -> bytes:
    """The word of a rank, counted from 0: its bijective base-26 digits as letters, so frequent words are short."""
    word = bytearray()
    rank += 1
    while rank:
        rank, letter = divmod(rank - 1, len(LETTERS))
        word.append(LETTERS[letter])
    return bytes(word)


def zipf_blocks(words: int, vocabulary: int, exponent: float, seed: int) -> Iterator[bytes]:
    """Yield a text of `words` words in blocks of whole lines; equal arguments give equal bytes."""
    word_of = np.array([word_of_rank(rank) for rank in range(vocabulary)], dtype=object)
    weight = np.arange(1, vocabulary + 1, dtype=np.float64) ** -exponent
    cumulative = np.cumsum(weight)
    cumulative /= cumulative[-1]
    random = np.random.default_rng(seed)
    for start in range(0, words, WORDS_PER_BLOCK):
        drawn = random.random(min(WORDS_PER_BLOCK, words - start))
        chosen = word_of[np.searchsorted(cumulative, drawn, side="right")].tolist()
        lines = (b" ".join(chosen[at : at + WORDS_PER_LINE]) for at in range(0, len(chosen), WORDS_PER_LINE))
        yield b"\n".join(lines) + b"\n"
